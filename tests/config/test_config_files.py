"""The configs that we ship load, and their headers say how they were run."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcn4dist.config import load_config, plan_batches

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_a_shipped_config_loads_and_divides_its_batch(file: Path) -> None:
    config = load_config(file)
    plan = plan_batches(config.train, config.launch.devices)
    assert plan.rank_batch * config.launch.devices == plan.global_batch
    header = file.read_text().split("\n\n")[0]
    assert "fcn4dist " in header
    assert ("NOT RUN" in header) == ("Ascend" in file.read_text())


def test_the_learning_rates_warm_up_over_whole_epochs() -> None:
    """18,709 clips: 73 steps of 256, 36 of 512."""
    by_name = {file.stem: load_config(file).train for file in CONFIGS}
    assert by_name["fcn4_mtt_1x8"].warmup_steps == 18_709 // 256
    assert by_name["fcn4_mtt_2x8"].warmup_steps == 2 * (18_709 // 512)

"""What `--seeds` means before anything is launched: the seeds, their folders, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcn4dist.cli.main import main
from fcn4dist.config import load_config
from fcn4dist.errors import ConfigError
from fcn4dist.launch.seeds import SeedRuns, config_of_seed, parse_seeds


def test_seeds_are_numbers_and_ranges_in_the_order_given() -> None:
    assert parse_seeds("3,1,2") == (3, 1, 2)
    assert parse_seeds("7, 1-3") == (7, 1, 2, 3)
    for text, found in (
        ("", "''"),
        ("1,,2", "''"),
        ("3-1", "'3-1'"),
        ("-1", "'-1'"),
        ("a", "'a'"),
        ("2147483648", "expected"),
    ):
        with pytest.raises(ConfigError, match=f"--seeds .*{found}"):
            parse_seeds(text)
    with pytest.raises(ConfigError, match="--seeds 1,2,1: 1 is there twice"):
        parse_seeds("1,2,1")


def test_audio_is_prepared_for_the_first_seed_alone(tmp_path: Path) -> None:
    runs = SeedRuns(tmp_path, (1, 2))
    config = load_config(None, ["data.audio_dir=/audio", "data.annotations=/audio/a.csv"])
    assert config_of_seed(config, runs, 1).data.records_dir is None
    runs.run(1).path.mkdir()
    runs.run(1).config.write_text("data: {audio_dir: /audio, records_dir: /runs/seed-1/data}\n")
    second = config_of_seed(config, runs, 2)
    assert (second.train.seed, str(second.data.records_dir)) == (2, "/runs/seed-1/data")
    assert (
        config_of_seed(load_config(None, ["data.records_dir=/own"]), runs, 2).data.records_dir
        == Path("/own").absolute()
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "train.seed=3"], "--set train.seed: --seeds names the seeds"),
        (["--dry-run"], "--dry-run: shows one run"),
        (["--nodes", "2", "--node-rank", "0", "--master-addr", "127.0.0.1"], "--seeds: on one host"),
        (["--resume", "nothing"], "none of the seeds 1, 2 was begun here"),
        (["--resume", "nothing", "--run-dir", "other"], "--run-dir: --resume goes on in the folder of the seeds"),
        (["--run-dir", "one"], "one: is one run; expected the folder of the seeds' runs, seed-1 and so on"),
    ],
)
def test_what_cannot_be_with_seeds_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "config.yaml").touch()
    with pytest.raises(SystemExit) as ended:
        main(["launch", "--seeds", "1,2", *arguments])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["one"]

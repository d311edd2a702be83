"""TensorBoard's own reader finds in the event files what the metrics say, also after a run took steps back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from fcn4dist.cli.tensorboard import tensorboard as command
from fcn4dist.errors import ConfigError
from fcn4dist.run.event_files import EventFiles, convert_run, event_files, step_times
from fcn4dist.run.folder import RunDir
from fcn4dist.run.metrics import cut_lines

pytest.importorskip("tensorboard")


def read_scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return tag -> (step, value) as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def step_line(step: int, loss: float | None) -> str:
    line = {"step": step, "epoch": 1, "loss": loss, "lr": 0.5, "loss_scale": 1024.0, "num_overflows": int(loss is None)}
    line |= {"samples_per_s": 8.0, "step_s": 2.0, "data_wait_s": 0.25, "checkpoint_wait_s": 0.0}
    return json.dumps(line) + "\n"


def evaluation_line(step: int, roc_auc: float) -> str:
    return json.dumps({"step": step, "epoch": 1, "time": 1e9, "roc_auc_macro": roc_auc, "pr_auc_macro": None}) + "\n"


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path)
    run.metrics(0).parent.mkdir()
    return run


def append(file: Path, text: str) -> None:
    with file.open("a") as stream:
        stream.write(text)


def test_lines_appear_as_they_are_written(run: RunDir) -> None:
    files = EventFiles(run)
    assert files.poll() == 0
    append(run.metrics(0), step_line(1, 0.75) + step_line(2, None) + step_line(3, 0.5)[:20])
    assert files.poll() == 2
    assert read_scalars(run.tensorboard)["train/loss"] == [(1, 0.75)]
    append(run.metrics(0), step_line(3, 0.5)[20:])
    append(run.evaluations, evaluation_line(3, 0.625))
    assert files.poll() == 2
    files.close()
    found = read_scalars(run.tensorboard)
    assert found["train/loss"] == [(1, 0.75), (3, 0.5)]  # the loss of an overflow has no point
    assert found["train/overflows"] == [(1, 0.0), (2, 1.0), (3, 0.0)]
    assert found["train/loss_scale"] == [(step, 1024.0) for step in (1, 2, 3)]
    assert found["speed/samples_per_s"] == [(step, 8.0) for step in (1, 2, 3)]
    assert found["validation/roc_auc_macro"] == [(3, 0.625)]
    assert "validation/pr_auc_macro" not in found


@pytest.mark.parametrize("is_same_launcher", [True, False])
def test_steps_that_a_resumed_run_takes_back_are_forgotten(run: RunDir, is_same_launcher: bool) -> None:
    append(run.metrics(0), "".join(step_line(step, step / 4) for step in range(1, 7)))
    append(run.evaluations, evaluation_line(2, 0.5) + evaluation_line(4, 0.75))
    files = EventFiles(run)
    files.poll()
    if not is_same_launcher:
        files.close()
        files = EventFiles(run)
    for file in (run.metrics(0), run.evaluations):
        cut_lines(file, 3)
    append(run.metrics(0), step_line(4, 9.0))
    files.poll()
    files.close()
    found = read_scalars(run.tensorboard)
    assert found["train/loss"] == [(1, 0.25), (2, 0.5), (3, 0.75), (4, 9.0)]
    assert found["validation/roc_auc_macro"] == [(2, 0.5)]
    assert len([file for file in run.tensorboard.iterdir() if file.stat().st_size]) == 1


def test_a_reader_that_has_seen_the_steps_forgets_them_too(run: RunDir) -> None:
    """A TensorBoard that is open while the run is resumed."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    append(run.metrics(0), "".join(step_line(step, 1.0) for step in range(1, 7)))
    files = EventFiles(run)
    files.poll()
    open_reader = EventAccumulator(str(run.tensorboard)).Reload()
    assert len(open_reader.Scalars("train/loss")) == 6
    cut_lines(run.metrics(0), 3)
    append(run.metrics(0), step_line(4, 9.0))
    files.poll()
    files.close()
    found = open_reader.Reload().Scalars("train/loss")
    assert [(event.step, event.value) for event in found] == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 9.0)]


def test_the_block_leaves_nothing_out_and_nothing_behind(run: RunDir) -> None:
    with event_files(run, is_wanted=True):
        append(run.metrics(0), step_line(1, 0.5))
    assert read_scalars(run.tensorboard)["train/loss"] == [(1, 0.5)]
    with event_files(RunDir(run.path / "other"), is_wanted=False):
        pass
    assert not (run.path / "other").exists()


def test_a_folder_that_refuses_costs_a_warning_only(run: RunDir, caplog: pytest.LogCaptureFixture) -> None:
    run.tensorboard.write_text("a file")
    with event_files(run, is_wanted=True):
        append(run.metrics(0), step_line(1, 0.5))
    assert "cannot be written, the run goes on without it" in caplog.text


def test_times_follow_from_what_steps_took() -> None:
    steps = [{"step": i, "step_s": 2.0, "checkpoint_wait_s": 1.0 if i == 3 else None} for i in (1, 2, 3)]
    assert step_times(steps, 100.0, {}) == [95.0, 97.0, 100.0]
    assert step_times(steps, 100.0, {2: 50.0}) == [48.0, 50.0, 100.0]


def test_the_command_converts_a_run_and_refuses_what_is_none(run: RunDir) -> None:
    with pytest.raises(ConfigError, match="not a run that has trained"):
        convert_run(run)
    refused = CliRunner().invoke(command, [str(run.path)])
    assert isinstance(refused.exception, ConfigError)  # no config
    run.config.write_text("{}\n")
    append(run.metrics(0), step_line(1, 0.5) + step_line(2, 0.25))
    done = CliRunner().invoke(command, [str(run.path)])
    assert (done.exit_code, "2 steps and evaluations" in done.stdout) == (0, True)
    assert read_scalars(run.tensorboard)["train/loss"] == [(1, 0.5), (2, 0.25)]
    append(run.metrics(0), '{"step": 3}\n')
    with pytest.raises(ConfigError, match="damaged"):
        convert_run(run)


@pytest.mark.parametrize("words", [["train"], ["launch", "--devices", "1"]])
def test_without_the_package_nothing_starts(tmp_path: Path, words: list[str]) -> None:
    arguments = [*words, "--run-dir", str(tmp_path / "run"), "--set", "launch.tensorboard=true"]
    code = f"import sys; sys.modules['tensorboard'] = None; from fcn4dist.cli.main import main; main({arguments})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "pip install 'fcn4dist[tensorboard]'" in result.stderr
    assert not (tmp_path / "run").exists()

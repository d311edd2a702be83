"""Each tracker's own reader finds what the metrics say, once, also after a run took steps back."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from fcn4dist.cli.track import tensorboard, track
from fcn4dist.errors import ConfigError, JobError
from fcn4dist.run.folder import RunDir
from fcn4dist.run.metrics import cut_lines
from fcn4dist.track.follower import Follower, send_run, step_times
from fcn4dist.track.mlflow import MlflowRun
from fcn4dist.track.process import tracked

Scalars = dict[str, list[tuple[int, float]]]  # name -> (step, value) in the order they were told


def read_tensorboard(run: RunDir) -> Scalars:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run.tensorboard), size_guidance={"scalars": 0}).Reload()
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def read_mlflow(run: RunDir) -> Scalars:
    """The one run of the one experiment beside RUN, whose end and settings are there, too."""
    from mlflow import MlflowClient

    client = MlflowClient((run.path.parent / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("fcn4dist")
    assert experiment is not None
    (told,) = client.search_runs([experiment.experiment_id])
    assert (told.info.run_name, told.info.status) == (run.path.name, "FINISHED")
    assert told.data.params["train.lr"] == "0.125"
    histories = {key: client.get_metric_history(told.info.run_id, key) for key in told.data.metrics}
    assert all(0 < value.timestamp < 2e12 for values in histories.values() for value in values)
    return {key: sorted((value.step, value.value) for value in values) for key, values in histories.items()}


def read_wandb(run: RunDir) -> Scalars:
    """By SwanLab's importer, which is another program; all files are of one run."""
    pytest.importorskip("swanlab")
    from swanlab.converter.wb.wbdatastore import WBDataStoreReader
    from wandb.proto.wandb_internal_pb2 import Record

    found: Scalars = {}
    ids, exits = set(), []
    for file in sorted((run.path / "wandb").glob("offline-run-*/*.wandb"), key=lambda file: file.stat().st_mtime_ns):
        with WBDataStoreReader() as reader:
            reader.open(file)
            while (content := reader.scan()) is not None:
                record = Record.FromString(content)
                if record.HasField("run"):
                    ids.add(record.run.run_id)
                if record.HasField("exit"):
                    exits.append(record.exit.exit_code)
                if record.HasField("history"):
                    item = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item}
                    for key in item.keys() - {"step", "_timestamp", "_runtime", "_step"}:
                        found.setdefault(key, []).append((item["step"], item[key]))
    assert (len(ids), exits) == (1, [0, 0])
    return found


def read_swanlab(run: RunDir) -> Scalars:
    from swanlab.proto.swanlab.record.v1.record_pb2 import Record
    from swanlab.sdk.internal.core_python.store import DataStoreReader

    found: Scalars = {}
    ids = set()
    for file in sorted((run.path / "swanlab").glob("run-*/*.swanlab"), key=lambda file: file.stat().st_mtime_ns):
        reader = DataStoreReader()
        reader.open(file)
        while (content := reader.scan()) is not None:
            record = Record.FromString(content)
            if record.HasField("start"):
                ids.add(record.start.id)
            if record.HasField("scalar"):
                found.setdefault(record.scalar.key, []).append((record.scalar.step, record.scalar.value.number))
    assert len(ids) == 1
    return found


TRACKERS: dict[str, Callable[[RunDir], Scalars]] = {
    "tensorboard": read_tensorboard,
    "mlflow": read_mlflow,
    "wandb": read_wandb,
    "swanlab": read_swanlab,
}
BY_HAND = ("wandb", "swanlab")  # 250 MB that the tests do not ask for
PARAMETERS = [pytest.param(name, marks=[pytest.mark.slow] * (name in BY_HAND)) for name in TRACKERS]


def step_line(step: int, loss: float | None) -> str:
    line = {"step": step, "epoch": 1, "loss": loss, "lr": 0.5, "loss_scale": 1024.0, "num_overflows": int(loss is None)}
    line |= {"samples_per_s": 8.0, "step_s": 2.0, "data_wait_s": 0.25, "checkpoint_wait_s": 0.0}
    return json.dumps(line | {"num_steps": 8}) + "\n"


def evaluation_line(step: int, roc_auc: float) -> str:
    return json.dumps({"step": step, "epoch": 1, "time": 1e9, "roc_auc_macro": roc_auc, "pr_auc_macro": None}) + "\n"


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / "runs" / "one")
    run.metrics(0).parent.mkdir(parents=True)
    run.config.write_text("train: {lr: 0.125, epochs: 1}\n")
    return run


@pytest.fixture(autouse=True)
def clean_trackers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take their variables away, and what `start` sets for them with the test."""
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "WANDB_", "SWANLAB_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # of the reader


def append(file: Path, text: str) -> None:
    with file.open("a") as stream:
        stream.write(text)


def set_best(run: RunDir, step: int, roc_auc: float) -> None:
    """As the rank-0 evaluator leaves it."""
    run.checkpoints.mkdir(exist_ok=True)
    (run.checkpoints / "best").write_text(f"step-{step:08d}\n")
    document = {"checkpoint": f"checkpoints/step-{step:08d}", "roc_auc_macro": roc_auc}
    run.evaluation.write_text(json.dumps(document))


def test_lines_appear_as_they_are_written(run: RunDir) -> None:
    pytest.importorskip("tensorboard")
    follower = Follower(run, "tensorboard")
    assert follower.poll() == 0
    assert not run.tensorboard.exists()
    append(run.metrics(0), step_line(1, 0.75) + step_line(2, None) + step_line(3, 0.5)[:20])
    assert follower.poll() == 2
    assert read_tensorboard(run)["train/loss"] == [(1, 0.75)]
    append(run.metrics(0), step_line(3, 0.5)[20:])
    append(run.evaluations, evaluation_line(3, 0.625))
    assert follower.poll() == 2
    follower.close("running")
    found = read_tensorboard(run)
    assert found["train/loss"] == [(1, 0.75), (3, 0.5)]  # the loss of an overflow has no point
    assert found["train/overflows"] == [(1, 0.0), (2, 1.0), (3, 0.0)]
    assert found["speed/samples_per_s"] == [(step, 8.0) for step in (1, 2, 3)]
    assert found["validation/roc_auc_macro"] == [(3, 0.625)]
    assert "validation/pr_auc_macro" not in found


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("is_same_launcher", [True, False])
def test_a_resumed_run_goes_on_as_the_same_run(run: RunDir, name: str, is_same_launcher: bool) -> None:
    pytest.importorskip(name)
    append(run.metrics(0), "".join(step_line(step, step / 4) for step in range(1, 7)))
    append(run.evaluations, evaluation_line(2, 0.5) + evaluation_line(4, 0.75))
    set_best(run, 2, 0.5)
    follower = Follower(run, name)
    assert follower.poll() == 8
    if not is_same_launcher or name in BY_HAND:
        follower.tell_best()
        follower.close("finished")
        follower = Follower(run, name)
    for file in (run.metrics(0), run.evaluations):
        cut_lines(file, 3)
    run.config.write_text("train: {lr: 0.125, epochs: 2}\n")
    append(run.metrics(0), "".join(step_line(step, 9.0) for step in range(4, 8)))
    append(run.evaluations, evaluation_line(4, 0.8) + evaluation_line(7, 0.875))
    follower.poll()
    set_best(run, 7, 0.875)
    follower.tell_best()
    follower.close("finished")
    found = TRACKERS[name](run)
    is_rewritten = name == "tensorboard"
    again = 9.0 if is_rewritten else None  # what cannot be taken back is not told twice
    assert found["train/loss"] == [*((s, s / 4 if s < 4 else again or s / 4) for s in range(1, 7)), (7, 9.0)]
    assert [s for s, _ in found["train/lr"]] == list(range(1, 8))
    expected = [(2, 0.5), (4, 0.8 if is_rewritten else 0.75), (7, 0.875)]
    assert found["validation/roc_auc_macro"] == [(step, pytest.approx(value, rel=1e-6)) for step, value in expected]
    assert found["best/roc_auc_macro"][-1] == (7, 0.875)
    assert send_run(run, name, "finished") == (10 if is_rewritten else 0)
    assert TRACKERS[name](run) == found
    if is_rewritten:
        assert len([file for file in run.tensorboard.iterdir() if file.stat().st_size]) == 1


def test_another_place_is_another_run(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    append(run.metrics(0), step_line(1, 0.5))
    assert send_run(run, "mlflow", "finished") == 1
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (run.path / "other").as_uri())
    assert send_run(run, "mlflow", "stopped") == 1
    client = mlflow.MlflowClient((run.path / "other").as_uri())
    (told,) = client.search_runs([client.get_experiment_by_name("fcn4dist").experiment_id])
    assert (told.info.status, told.data.metrics["train/loss"]) == ("KILLED", 0.5)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@host/path")
    assert MlflowRun(run.path).place == "https://host/path"  # which is kept in the folder of the run


def test_a_tensorboard_that_has_seen_the_steps_forgets_them_too(run: RunDir) -> None:
    """One that is open while the run is resumed."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    append(run.metrics(0), "".join(step_line(step, 1.0) for step in range(1, 7)))
    follower = Follower(run, "tensorboard")
    follower.poll()
    open_reader = EventAccumulator(str(run.tensorboard)).Reload()
    assert len(open_reader.Scalars("train/loss")) == 6
    cut_lines(run.metrics(0), 3)
    append(run.metrics(0), step_line(4, 9.0))
    follower.poll()
    follower.close("running")
    found = open_reader.Reload().Scalars("train/loss")
    assert [(event.step, event.value) for event in found] == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 9.0)]


def test_the_process_leaves_nothing_out_and_costs_a_line_where_it_fails(
    run: RunDir, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("tensorboard")
    with tracked(run, ["tensorboard"]):
        append(run.metrics(0), step_line(1, 0.5))
    assert read_tensorboard(run)["train/loss"] == [(1, 0.5)]
    assert caplog.text == ""
    for file in run.tensorboard.iterdir():
        file.unlink()
    run.tensorboard.rmdir()
    run.tensorboard.write_text("a file")
    with tracked(run, ["tensorboard"]):
        append(run.metrics(0), step_line(2, 0.5))
    (line,) = caplog.messages
    assert line.startswith("launch.track tensorboard: not all was sent: tensorboard: FileExistsError: ")
    assert f"fcn4dist track {run.path} --to tensorboard" in line
    with tracked(RunDir(run.path / "other"), []):
        pass
    assert not (run.path / "other").exists()


def test_a_killed_launcher_leaves_no_process_and_all_is_told(run: RunDir) -> None:
    pytest.importorskip("tensorboard")
    code = (
        "import os, pathlib, psutil; from fcn4dist.run.folder import RunDir; from fcn4dist.track.process import tracked\n"
        f"with tracked(RunDir(pathlib.Path({str(run.path)!r})), ['tensorboard']):\n"
        "    print(*[child.pid for child in psutil.Process().children()], flush=True)\n"
        "    input(); os.kill(os.getpid(), 9)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as launcher:
        assert launcher.stdin is not None
        assert launcher.stdout is not None
        follower = os.pidfd_open(int(launcher.stdout.readline()))
        append(run.metrics(0), step_line(1, 0.5))
        launcher.communicate(b"\n", timeout=60)
    assert select.select([follower], [], [], 60)[0]  # readable once that process has ended
    os.close(follower)
    assert read_tensorboard(run)["train/loss"] == [(1, 0.5)]


def test_times_follow_from_what_steps_took() -> None:
    steps = [{"step": i, "step_s": 2.0, "checkpoint_wait_s": 1.0 if i == 3 else None} for i in (1, 2, 3)]
    assert step_times(steps, 100.0, {}) == [95.0, 97.0, 100.0]
    assert step_times(steps, 100.0, {2: 50.0}) == [48.0, 50.0, 100.0]


def test_the_command_sends_a_run_and_refuses_what_is_none(run: RunDir) -> None:
    pytest.importorskip("tensorboard")
    with pytest.raises(ConfigError, match="not a run that has trained"):
        send_run(run, "tensorboard", "ended")
    append(run.metrics(0), step_line(1, 0.5) + step_line(2, 0.25))
    for command, *options in ((tensorboard,), (track, "--to", "TensorBoard")):
        done = CliRunner().invoke(command, [str(run.path), *options])
        assert (done.exit_code, "2 new steps and evaluations" in done.stdout) == (0, True)
        assert read_tensorboard(run)["train/loss"] == [(1, 0.5), (2, 0.25)]
    for damage, message in (('{"step": 3}\n', "damaged: 'step_s'"), ("no JSON\n", "damaged")):
        append(run.metrics(0), damage)
        with pytest.raises(ConfigError, match=message):
            send_run(run, "tensorboard", "ended")
    run.config.unlink()
    assert isinstance(CliRunner().invoke(tensorboard, [str(run.path)]).exception, ConfigError)


def test_what_a_tracker_raises_becomes_one_line(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("cannot reach\nthe server")

    pytest.importorskip("tensorboard")
    append(run.metrics(0), step_line(1, 0.5))
    monkeypatch.setattr("fcn4dist.track.tensorboard.EventFile.add", refuse)
    with pytest.raises(JobError, match=r"^tensorboard: RuntimeError: cannot reach$"):
        send_run(run, "tensorboard", "ended")


@pytest.mark.parametrize(
    ("words", "package"), [(["train", "--set", "launch.tensorboard=true"], "tensorboard"),
                           (["launch", "--set", "launch.track=swanlab"], "swanlab")]
)  # fmt: skip
def test_without_the_package_nothing_starts(tmp_path: Path, words: list[str], package: str) -> None:
    arguments = [*words, "--run-dir", str(tmp_path / "run")]
    code = f"import sys; sys.modules[{package!r}] = None; from fcn4dist.cli.main import main; main({arguments})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert f"pip install 'fcn4dist[{package}]'" in result.stderr
    assert not (tmp_path / "run").exists()

"""The writer in the background: what a step waits for, and how its errors come back."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fcn4dist.config import CheckpointConfig, MelConfig, ModelConfig
from fcn4dist.errors import JobError


def parameter(value: float) -> Any:
    import mindspore as ms

    return ms.Parameter(ms.Tensor(np.full(4, value, np.float32)), name="weight")


def build(folder: Path, on_error: Any = "stop") -> Any:
    from fcn4dist.train.checkpoint import Checkpoints, ModelCard
    from fcn4dist.train.checkpoint_writer import CheckpointWriter

    card = ModelCard(name="x", model=ModelConfig(), mel=MelConfig(), tags=["x"], split_name="s")
    return CheckpointWriter(Checkpoints(folder, CheckpointConfig(), card, "digest"), on_error)


def progress(step: int, **values: Any) -> Any:
    from fcn4dist.train.checkpoint import Progress

    return Progress(step=step, global_batch=8, seed=1, **values)


def test_training_goes_on_while_a_copy_of_the_step_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mindspore as ms

    from fcn4dist.train import checkpoint

    writer, weight, may_write = build(tmp_path), parameter(1.0), threading.Event()
    write = checkpoint.Checkpoints.write
    monkeypatch.setattr(checkpoint.Checkpoints, "write", lambda *a: may_write.wait(30) and write(*a))
    writer.save(progress(1), [weight], [weight])
    assert list(tmp_path.iterdir()) == []  # the write has not begun, and nobody waited for it
    weight.set_data(ms.Tensor(np.full(4, 2.0, np.float32)))  # the next step
    may_write.set()
    writer.wait()
    fresh = parameter(0.0)
    checkpoint.load_weights(tmp_path / "step-00000001", [fresh])
    np.testing.assert_array_equal(fresh.asnumpy(), np.full(4, 1.0))
    assert writer.waited_s > 0


def test_the_write_gives_way_to_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fcn4dist.train import checkpoint

    writer, weight, seen = build(tmp_path), parameter(1.0), []
    monkeypatch.setattr(checkpoint.Checkpoints, "write", lambda *_: seen.append(os.getpriority(os.PRIO_PROCESS, 0)))
    before = os.getpriority(os.PRIO_PROCESS, 0)  # of the calling thread
    for step in (1, 2):
        writer.save(progress(step), [weight], [weight])
        writer.wait()
    assert seen == [min(19, before + 10)] * 2
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


def refuse(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_an_error_in_the_background_stops_the_run_at_its_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fcn4dist.train import checkpoint

    writer, weight = build(tmp_path), parameter(1.0)
    writer.save(progress(1), [weight], [weight])
    writer.wait()
    monkeypatch.setattr(checkpoint, "_save_arrays", refuse)
    writer.save(progress(2), [weight], [weight])
    with pytest.raises(JobError, match=r"could not be written, the ones before are as they were: .*No space left"):
        writer.wait()
    writer.check()  # told once
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path)] == ["step-00000001"]


def test_the_run_may_go_on_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from fcn4dist.train import checkpoint

    writer, weight = build(tmp_path, "continue"), parameter(1.0)
    monkeypatch.setattr(checkpoint, "_save_arrays", refuse)
    with caplog.at_level(logging.WARNING):
        writer.save(progress(1), [weight], [weight])
        writer.note_evaluation(progress(1, best_score=0.5, best_step=1))
        writer.wait()
    assert "training goes on" in caplog.text
    writer.save(progress(2), [weight], [weight])
    with pytest.raises(JobError, match="the run is at its end, but the checkpoint could not be written"):
        writer.wait(is_end=True)  # the result would be lost without a word
    monkeypatch.undo()
    writer.save(progress(2), [weight], [weight])
    writer.wait()
    assert checkpoint.find_newest(tmp_path)[0].name == "step-00000002"


def test_an_error_that_nobody_thought_of_reaches_the_run_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fcn4dist.train import checkpoint

    writer, weight = build(tmp_path), parameter(1.0)
    monkeypatch.setattr(checkpoint, "_save_arrays", lambda *_: dict[str, int]()["surprise"])
    writer.save(progress(1), [weight], [weight])
    with pytest.raises(JobError, match="surprise"):
        writer.wait()


def test_an_evaluation_is_noted_beside_its_checkpoint(tmp_path: Path) -> None:
    from fcn4dist.train.checkpoint import find_newest, load_state, named

    writer, weight = build(tmp_path), parameter(1.0)
    writer.save(progress(4, is_evaluated=False), [weight], [weight])
    writer.wait()
    folder = tmp_path / "step-00000004"
    before = [(file.read_bytes(), file.stat()) for file in sorted(folder.iterdir())]
    writer.note_evaluation(progress(4, best_score=0.75, best_step=4))
    writer.wait()
    after = [(file.read_bytes(), file.stat()) for file in sorted(folder.iterdir())]
    for (data, stat), (data_now, stat_now) in zip(before, after, strict=True):
        assert (data_now, stat_now.st_ino, stat_now.st_mtime_ns) == (data, stat.st_ino, stat.st_mtime_ns)
    assert load_state(folder).progress.is_evaluated is False
    path, state, damaged = find_newest(tmp_path)
    assert (path, state.progress, damaged) == (folder, progress(4, best_score=0.75, best_step=4), [])
    assert named(tmp_path, "best") == folder


def test_a_checkpoint_that_is_written_anew_is_not_the_one_that_was_evaluated(tmp_path: Path) -> None:
    """It was deleted by hand, or found damaged, and training came to its step again."""
    from fcn4dist.train.checkpoint import find_newest, load_evaluated

    writer, weight = build(tmp_path), parameter(1.0)
    for step in (2, 4):
        writer.save(progress(step, is_evaluated=False), [weight], [weight])
        writer.note_evaluation(progress(step, best_score=0.5, best_step=2))
    writer.wait()
    (tmp_path / "step-00000004" / "state.json").write_text("{}")
    assert find_newest(tmp_path)[1].progress == progress(2, best_score=0.5, best_step=2)
    writer.save(progress(4, is_evaluated=False), [weight], [weight])
    writer.wait()
    assert list(load_evaluated(tmp_path)) == ["step-00000002"]
    assert find_newest(tmp_path)[1].progress == progress(4, is_evaluated=False)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"step-00000004": 1}', '{"step-00000004": {"best_score": "x"}}'])
def test_without_a_note_that_can_be_read_the_evaluation_is_due(tmp_path: Path, text: str) -> None:
    from fcn4dist.train.checkpoint import find_newest

    writer, weight = build(tmp_path), parameter(1.0)
    writer.save(progress(4, is_evaluated=False), [weight], [weight])
    writer.wait()
    (tmp_path / "evaluated").write_text(text)
    assert find_newest(tmp_path)[1].progress == progress(4, is_evaluated=False)


def test_leftovers_of_a_killed_writer_go_at_the_next_start(tmp_path: Path) -> None:
    from fcn4dist.run.checkpoints import list_checkpoints, remove_leftovers

    for name in (".step-00000009.123.tmp", ".step-00000001.old", "step-00000002"):
        (tmp_path / name).mkdir()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000002"]
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000002"]

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fcn4dist.config import CheckpointConfig, MelConfig, ModelConfig
from fcn4dist.errors import CheckpointError


def parameters(seed: int, shape: tuple[int, ...] = (3, 4)) -> list[Any]:
    import mindspore as ms

    rng = np.random.default_rng(seed)
    values = {"a.weight": rng.normal(size=shape).astype(np.float32), "a.bias": rng.normal(size=4).astype(np.float32)}
    return [ms.Parameter(ms.Tensor(value), name=name) for name, value in values.items()]


def save(
    folder: Path, steps: list[int], best: int | None = None, file_format: Any = "ckpt", after: str | None = None
) -> Any:
    from fcn4dist.train.checkpoint import Checkpoints, ModelCard, Progress

    card = ModelCard(name="MusicTagger", model=ModelConfig(), mel=MelConfig(), tags=["x"], split_name="s")
    checkpoints = Checkpoints(folder, CheckpointConfig(format=file_format), card, "digest")
    if after is not None:
        checkpoints.go_on_from(folder / after)
    for step in steps:
        checkpoints.save(Progress(step=step, global_batch=8, seed=1), parameters(step), parameters(step + 1000))
        if step == best:
            checkpoints.mark_best(step)
    return checkpoints


@pytest.mark.parametrize("file_format", ["ckpt", "safetensors"])
def test_what_was_saved_is_loaded(tmp_path: Path, file_format: str) -> None:
    from fcn4dist.train.checkpoint import find_newest, load_optimizer, load_weights

    save(tmp_path, [3, 7], file_format=file_format)
    path, state, damaged = find_newest(tmp_path)
    assert (path.name, state.progress.step, damaged) == ("step-00000007", 7, [])
    for load, seed in ((load_weights, 7), (load_optimizer, 1007)):
        fresh = parameters(0)
        load(path, fresh)
        for parameter, expected in zip(fresh, parameters(seed), strict=True):
            np.testing.assert_array_equal(parameter.asnumpy(), expected.asnumpy())


def test_old_ones_go_but_the_best_stays(tmp_path: Path) -> None:
    from fcn4dist.train.checkpoint import list_checkpoints, named

    save(tmp_path, [1, 2, 3, 4, 5], best=2)
    assert [path.name[-1] for path in list_checkpoints(tmp_path)] == ["2", "4", "5"]
    assert named(tmp_path, "best") == tmp_path / "step-00000002"
    assert named(tmp_path, "latest") == tmp_path / "step-00000005"


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "bit flipped": lambda folder: flip_a_bit(folder / "weights.ckpt"),
    "optimizer flipped": lambda folder: flip_a_bit(folder / "optimizer.ckpt"),
    "truncated": lambda folder: (folder / "weights.ckpt").write_bytes((folder / "weights.ckpt").read_bytes()[:-9]),
    "emptied": lambda folder: (folder / "weights.ckpt").write_bytes(b""),
    "file missing": lambda folder: (folder / "weights.ckpt").unlink(),
    "state missing": lambda folder: (folder / "state.json").unlink(),
    "state cut": lambda folder: (folder / "state.json").write_text((folder / "state.json").read_text()[:50]),
    "files swapped": lambda folder: shutil.copy(folder / "optimizer.ckpt", folder / "weights.ckpt"),
    "version changed": lambda folder: (folder / "state.json").write_text(
        json.dumps({**json.loads((folder / "state.json").read_text()), "format_version": 99})
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(tmp_path: Path, damage: str) -> None:
    from fcn4dist.train.checkpoint import find_newest

    save(tmp_path, [3, 7])
    (tmp_path / "step-00000007" / "weights.ckpt").chmod(0o644)
    DAMAGES[damage](tmp_path / "step-00000007")
    path, _, damaged = find_newest(tmp_path)
    assert path.name == "step-00000003"
    assert "step-00000007" in damaged[0]


def test_a_damaged_checkpoint_does_not_count_as_kept(tmp_path: Path) -> None:
    """With two kept, the newest one damaged again must leave one to go on from."""
    from fcn4dist.train.checkpoint import find_newest, list_checkpoints

    save(tmp_path, [3, 7])
    (tmp_path / "step-00000007" / "weights.ckpt").unlink()
    save(tmp_path, [9], after=find_newest(tmp_path)[0].name)
    (tmp_path / "step-00000009" / "weights.ckpt").unlink()
    newest = find_newest(tmp_path)[0]
    assert newest.name == "step-00000003"
    save(tmp_path, [7, 10], after=newest.name)  # 7 is written anew, and 9 is as damaged as before
    assert [path.name[-2:] for path in list_checkpoints(tmp_path)] == ["07", "09", "10"]


def test_no_whole_checkpoint_is_an_error(tmp_path: Path) -> None:
    from fcn4dist.train.checkpoint import find_newest

    with pytest.raises(CheckpointError, match="no whole checkpoint here"):
        find_newest(tmp_path)


@pytest.mark.parametrize(
    ("shape", "drop", "message"),
    [
        ((4, 3), 0, r"a\.weight has shape \(3, 4\), the network's is \(4, 3\)"),
        ((3, 4), 1, "unknown parameter 'a.bias'"),
    ],
)
def test_a_checkpoint_of_another_network_changes_nothing(
    tmp_path: Path, shape: tuple[int, ...], drop: int, message: str
) -> None:
    from fcn4dist.train.checkpoint import load_weights

    save(tmp_path, [3])
    other = parameters(0, shape)[: 2 - drop]
    before = [p.asnumpy().copy() for p in other]
    with pytest.raises(CheckpointError, match=message):
        load_weights(tmp_path / "step-00000003", other)
    for parameter, values in zip(other, before, strict=True):
        np.testing.assert_array_equal(parameter.asnumpy(), values)


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fcn4dist.train import checkpoint

    save(tmp_path, [3])
    monkeypatch.setattr(checkpoint.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path, [7])
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["step-00000003"]
    assert checkpoint.find_newest(tmp_path)[0].name == "step-00000003"


def test_a_run_means_its_best_checkpoint(tmp_path: Path) -> None:
    from fcn4dist.run.best import resolve_checkpoint

    save(tmp_path / "checkpoints", [3, 7], best=3)
    assert resolve_checkpoint(tmp_path).name == "step-00000003"
    assert resolve_checkpoint(tmp_path / "checkpoints" / "step-00000007").name == "step-00000007"
    assert resolve_checkpoint(tmp_path / "checkpoints" / "best").name == "step-00000003"
    assert resolve_checkpoint(tmp_path / "checkpoints" / "latest").name == "step-00000007"

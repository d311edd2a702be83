"""300 ways to damage a checkpoint: none may be loaded as good."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fcn4dist.config import CheckpointConfig, MelConfig, ModelConfig
from fcn4dist.errors import CheckpointError

NUM_BIT_FLIPS = {"weights": 70, "optimizer": 70, "state.json": 120}
Mutation = Callable[[Path], object]


def save(folder: Path, steps: list[int], file_format: Any) -> None:
    import mindspore as ms

    from fcn4dist.train.checkpoint import Checkpoints, ModelCard, Origin, Progress

    card = ModelCard(name="MusicTagger", model=ModelConfig(), mel=MelConfig(), tags=["rock", "naïve"], split_name="s")
    checkpoints = Checkpoints(folder, CheckpointConfig(format=file_format), card, "digest", Origin(train_clips="abc"))
    for step in steps:
        weights, optimizer = (
            [
                ms.Parameter(ms.Tensor(rng.normal(size=shape).astype(np.float32)), name=f"layer{i}.weight")
                for i, shape in enumerate([(3, 4), (4,), (5, 2), (1,), (7,)])
            ]
            for rng in (np.random.default_rng(step), np.random.default_rng(step + 100))
        )
        checkpoints.save(Progress(step=step, global_batch=8, seed=1, best_score=0.71), weights, optimizer)


def record_ends(file: Path) -> list[int]:
    """Return where each record of a file ends: its lines, safetensors' header and tensors, or protobuf's top-level fields."""
    data = file.read_bytes()
    if file.suffix == ".json":
        return [i + 1 for i, byte in enumerate(data) if byte == ord("\n")]
    if file.suffix == ".safetensors":
        (size,) = struct.unpack("<Q", data[:8])
        entries = json.loads(data[8 : 8 + size])
        ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
        return [8, 8 + size, *(8 + size + end for end in ends)]
    ends, place = [], 0
    while place < len(data):  # field of wire type 2: tag, varint length, bytes
        place += 1
        length, shift = 0, 0
        while True:
            byte = data[place]
            place += 1
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        place += length
        ends.append(place)
    return ends


def cut(name: str, size: int) -> Mutation:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def flip(name: str, bit: int) -> Mutation:
    def mutate(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[bit // 8] ^= 1 << bit % 8
        (folder / name).write_bytes(data)

    return mutate


def swap(first: str, second: str) -> Mutation:
    def mutate(folder: Path) -> None:
        one, two = (folder / first).read_bytes(), (folder / second).read_bytes()
        (folder / first).write_bytes(two)
        (folder / second).write_bytes(one)

    return mutate


def take_from_the_one_before(name: str) -> Mutation:
    return lambda folder: shutil.copy(folder.with_name("step-00000003") / name, folder / name) and None


def put_pipe(name: str) -> Mutation:
    def mutate(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)  # nobody writes into it: reading would wait for ever

    return mutate


def rename_folder(name: str) -> Mutation:
    def mutate(folder: Path) -> None:
        folder.rename(folder.with_name(name))

    return mutate


def iter_mutations(folder: Path) -> Iterator[tuple[str, Mutation]]:
    rng = random.Random(20)
    files = sorted(file.name for file in folder.iterdir())
    for name in files:
        size = (folder / name).stat().st_size
        ends = sorted({0, 1, size - 1, *record_ends(folder / name)} - {size})
        yield from ((f"{name} cut at {end}", cut(name, end)) for end in ends)
        count = next(count for stem, count in NUM_BIT_FLIPS.items() if name.startswith(stem))
        yield from ((f"{name} bit {bit}", flip(name, bit)) for bit in rng.sample(range(8 * size), count))
        yield f"{name} a pipe", put_pipe(name)
        yield f"{name} missing", lambda folder, name=name: (folder / name).unlink()  # type: ignore[misc]
        yield f"{name} of an earlier step", take_from_the_one_before(name)
        yield f"{name} one byte longer", lambda folder, name=name: (folder / name).open("ab").write(b"\0") and None  # type: ignore[misc]
        yield (
            f"{name} zeros",
            lambda folder, name=name: (folder / name).write_bytes(bytes((folder / name).stat().st_size)) and None,  # type: ignore[misc]
        )
        for other in files[files.index(name) + 1 :]:
            yield f"{name} and {other} swapped", swap(name, other)
    for name in (".step-00000007.4711.tmp", ".step-00000007.old", "step-00000007.tmp", "step-00000008", "step-7"):
        yield f"renamed to {name}", rename_folder(name)


@pytest.mark.parametrize("file_format", ["safetensors", "ckpt"])
def test_no_damaged_checkpoint_is_taken_for_good(tmp_path: Path, file_format: str) -> None:
    from fcn4dist.train.checkpoint import find_newest, list_checkpoints, load_state

    good = tmp_path / "good"
    save(good, [3, 7], file_format)
    assert find_newest(good)[0].name == "step-00000007"
    mutations = list(iter_mutations(good / "step-00000007"))
    assert len(mutations) >= 300
    taken = []
    for number, (what, mutate) in enumerate(mutations):
        folder = tmp_path / f"damaged-{number}"
        shutil.copytree(good, folder)
        mutate(folder / "step-00000007")
        found, state, _ = find_newest(folder)
        if (found.name, state.progress.step) != ("step-00000003", 3):
            taken.append(what)
        for path in list_checkpoints(folder)[1:]:
            with pytest.raises(CheckpointError):
                load_state(path)
        shutil.rmtree(folder)
    assert taken == []

"""Small data sets and runs that the integration tests share."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from jobs import NUM_TAGS, Run, environment


@pytest.fixture(scope="session")
def tiny_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return ModelZoo's kind of data set: 40 training and 13 validation clips of 24 x 32, no manifest.

    One training clip has a value that overflows float32 in the backward pass, so just one of an epoch's five steps of 8 does.
    """
    return write_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="session")
def finite_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return such a data set in which no value overflows."""
    return write_shards(tmp_path_factory.mktemp("shards"), overflowing=-1)


@pytest.fixture(scope="session")
def unknown_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return such a data set in which two of five labels are unknown (-1), and no value overflows."""
    return write_shards(tmp_path_factory.mktemp("shards"), overflowing=-1, unknown=0.4)


def write_shards(folder: Path, overflowing: int = 17, unknown: float = 0.0) -> Path:
    from mindspore.mindrecord import FileWriter

    rng = np.random.default_rng(0)
    feature_type, label_type = {"type": "float32", "shape": [1, 24, 32]}, {"type": "int32", "shape": [NUM_TAGS]}
    for name, size in (("train", 40), ("val", 13)):
        writer = FileWriter(f"{folder}/{name}.mindrecord", 3)
        writer.set_header_size(1 << 16)
        writer.set_page_size(1 << 18)
        schema = {"id": {"type": "int32"}, "feature": feature_type, "label": label_type}
        writer.add_schema(schema, "music_tagger_schema")
        writer.add_index(["id"])
        rows = []
        for i in range(size):
            label = (rng.random(NUM_TAGS) < 0.4).astype(np.int32)
            feature = rng.normal(-4, 1, (1, 24, 32)).astype(np.float32)
            feature[0, :24] += np.repeat(label, 8)[:, None] * 2
            label[np.random.default_rng(i).random(NUM_TAGS) < unknown] = -1
            if name == "train" and i == overflowing:
                feature[0, 0, 0] = 3e38
            rows.append({"id": i, "feature": feature, "label": label})
        writer.write_raw_data(rows)
        writer.commit()
    return folder


@pytest.fixture
def fcn4dist(tmp_path: Path) -> Run:
    """Return a function that runs the real command in an empty folder and returns what it printed."""

    def run(*arguments: object, timeout_s: float = 180) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fcn4dist", *map(str, arguments)]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, cwd=tmp_path, env=environment(), check=False
        )

    return run

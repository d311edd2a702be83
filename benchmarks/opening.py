"""Row 15: what a job does with a data set of 250,000 clips before its first step, against reading ids and labels by MindDataset.

    python -m benchmarks.opening

Ours is what `launch` and then each rank do: open the set, check config, shards, counts and headers, and know every clip's id,
labels and length, from manifest.json and clips.tsv. Without these files a program has to read the rows to know ids and labels:
MindDataset does that with both columns alone, in large batches. Rows are small here (a feature of 8 x 5), which favours it. Each
side in a process of its own, the imports done before; memory is what the process grew by.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import click
import numpy as np

from benchmarks.side_by_side import Row, alternate, both, report

NUM_CLIPS, NUM_TAGS, NUM_SHARDS = 250_000, 50, 4
SHAPE = (1, 8, 5)
READ_BATCH = 4096
SPAWN = multiprocessing.get_context("spawn")
Cost = tuple[float, float, int]  # seconds, MB, and how many labels are set


def write_part(folder: Path, number: int, num_clips: int) -> None:
    """Write every NUM_SHARDS-th clip, from `number` on, as a shard."""
    from mindspore.mindrecord import FileWriter

    from fcn4dist.data.shards import RowFormat

    form = RowFormat(SHAPE, "float32", NUM_TAGS)
    writer = FileWriter(str(folder / f"train.mindrecord{number}"), 1)
    writer.add_schema(form.schema, "fcn4dist")
    labels = draw_labels(num_clips)
    feature = np.zeros(SHAPE, np.float32)
    ids = range(number, num_clips, NUM_SHARDS)
    for first in range(0, len(ids), READ_BATCH):
        some = ids[first : first + READ_BATCH]
        writer.write_raw_data([{"id": i, "feature": feature, "label": labels[i].astype(np.int32)} for i in some])
    writer.commit()


def draw_labels(num_clips: int) -> np.ndarray[tuple[int, int], np.dtype[np.int8]]:
    """Return the same labels (num_clips, NUM_TAGS) each time, about five a clip."""
    return (np.random.default_rng(0).random((num_clips, NUM_TAGS)) < 0.1).astype(np.int8)


def write_set(folder: Path, num_clips: int) -> Path:
    """Write a data set as `prepare` leaves it: shards, clips.tsv and manifest.json, without digests of bytes."""
    from fcn4dist.config import MelConfig
    from fcn4dist.data.manifest import (
        CLIPS,
        FORMAT_VERSION,
        MANIFEST,
        ClipTable,
        Manifest,
        Shard,
        SplitCounts,
        digest_clip_list,
        format_clip_tables,
    )
    from fcn4dist.data.parts import SplitRule
    from fcn4dist.files import save_json, save_text

    folder.mkdir()
    with ProcessPoolExecutor(2, SPAWN) as processes:
        for done in [processes.submit(write_part, folder, number, num_clips) for number in range(NUM_SHARDS)]:
            done.result()
    rows = np.concatenate([np.arange(number, num_clips, NUM_SHARDS) for number in range(NUM_SHARDS)])
    names = [f"{row % 251:03d}/artist_{row // 40}-album-{row // 4}-{row}.mp3" for row in rows.tolist()]
    groups = {"artist": [f"artist {row // 40}" for row in rows.tolist()], "track": [name[4:] for name in names]}
    table = ClipTable(
        clip_ids=rows.astype(np.int32),
        source_ids=[str(row) for row in rows.tolist()],
        paths=names,
        labels=draw_labels(num_clips)[rows],
        durations_s=np.full(num_clips, 29.1, np.float32),
        groups={"artist": groups["artist"], "track": groups["track"]},
    )
    files = [folder / f"train.mindrecord{number}" for number in range(NUM_SHARDS)]
    counts = SplitCounts(
        num_clips=num_clips,
        clip_list_sha256=digest_clip_list(rows.tolist()),
        labels_sha256=hashlib.sha256(table.labels.tobytes()).hexdigest(),
        features_sha256="0" * 64,
        positives=(table.labels == 1).sum(axis=0).tolist(),
    )
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        mel=MelConfig(n_mels=SHAPE[1], clip_s=0.1),
        feature_dtype="float32",
        feature_shape=SHAPE,
        tags=[f"tag{i}" for i in range(NUM_TAGS)],
        split=SplitRule(name="random", rule="a benchmark's", seed=0),
        splits={"train": counts},
        shards=[
            Shard(
                file=file.name,
                split="train",
                num_rows=len(range(number, num_clips, NUM_SHARDS)),
                num_bytes=file.stat().st_size,
                sha256="0" * 64,
                index_sha256="0" * 64,
            )
            for number, file in enumerate(files)
        ],
        num_listed=num_clips,
        num_written=num_clips,
        skipped=[],
    )
    save_text(folder / CLIPS, format_clip_tables({"train": table}))
    save_json(folder / MANIFEST, manifest.model_dump(mode="json"))
    return folder


def peak_mb() -> float:
    """Return the most memory that this process had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def open_ours(folder: Path) -> Cost:
    """Open and check the set as `launch` does, and then as a rank does; a job does these in processes of their own."""
    from fcn4dist.config import RunConfig, override_config, plan_batches
    from fcn4dist.data.dataset import open_dataset
    from fcn4dist.launch.training_data import adopt_data, check_data

    config = override_config(RunConfig(), data={"records_dir": folder}, model={"pools": [[1, 1], [1, 1], [1, 1]]})
    before, start = peak_mb(), time.perf_counter()
    config = adopt_data(config)
    check_data(config, plan_batches(config.train, 8))
    split = open_dataset(folder).split("train")
    split.check_positives()
    num_set = int((split.labels == 1).sum())
    assert split.num_clips == len(split.clip_ids) == len(split.sound_frames)
    return time.perf_counter() - start, peak_mb() - before, num_set


def open_by_rows(folder: Path) -> Cost:
    """Read ids and labels of all rows by MindDataset."""
    import mindspore.dataset as ds

    files = [str(file) for file in sorted(folder.glob("train.mindrecord?"))]
    before, start = peak_mb(), time.perf_counter()
    data = ds.MindDataset(files, columns_list=["id", "label"], shuffle=False)
    assert data.get_dataset_size() > 0
    batches = list(data.batch(READ_BATCH).create_dict_iterator(num_epochs=1, output_numpy=True))
    ids, labels = (np.concatenate([batch[column] for batch in batches]) for column in ("id", "label"))
    assert len(ids) == len(labels) == data.get_dataset_size()
    return time.perf_counter() - start, peak_mb() - before, int((labels == 1).sum())


def measure(tries: int, num_clips: int) -> list[Row]:
    """Return row 15."""
    costs: dict[str, list[Cost]] = {"ours": [], "rows": []}

    def run(name: str, side: Callable[[Path], Cost], folder: Path) -> Callable[[], float]:
        def once() -> float:
            with ProcessPoolExecutor(1, SPAWN) as process:
                costs[name].append(process.submit(side, folder).result())
            return costs[name][-1][0]

        return once

    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        folder = write_set(Path(temporary) / "data", num_clips)
        pairs = alternate(run("ours", open_ours, folder), run("rows", open_by_rows, folder), tries)
    found = {num_set for some in costs.values() for _, _, num_set in some}
    if len(found) > 1:
        raise click.ClickException(f"the two sides found other labels: {sorted(found)} are set")
    return rows_of(pairs, [(ours[1], rows[1]) for ours, rows in zip(*costs.values(), strict=True)], num_clips)


def rows_of(seconds: list[tuple[float, float]], memory: list[tuple[float, float]], num_clips: int) -> list[Row]:
    """Turn seconds and MB of both sides into rows."""
    what = f"opening and checking {num_clips:,} clips in {NUM_SHARDS} shards, against reading their ids and labels by MindDataset"
    return [
        Row("15a", what, [ours / rows for ours, rows in seconds], None, is_at_most=True, **both(seconds, "s")),
        Row("15b", "the memory of that", [ours / rows for ours, rows in memory], None, is_at_most=True, **both(memory, "MB")),
    ]  # fmt: skip


@click.command()
@click.option("--tries", default=3)
@click.option("--clips", default=NUM_CLIPS)
def main(tries: int, clips: int) -> None:
    """Measure the opening of a large data set."""
    report(measure(tries, clips), " ".join(["python -m benchmarks.opening", *sys.argv[1:]]))


if __name__ == "__main__":
    main()

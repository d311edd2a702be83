"""Kill a training again and again, restart it as a user would, and compare its end with that of an undisturbed one.

    python -m benchmarks.chaos --kills 20 --seed 1 --recipe adamw
    python -m benchmarks.chaos --kills 20 --seed 1 --hosts 2

Weights, the optimizer's moments and the loss scale must be equal bit for bit, every step must hold the same clips once, and no
process may be left. Prints a table; exits 1 on any difference. Two ranks a host on CPU, a network that trains in seconds. The two
hosts are network namespaces, which need root; there the network between them is cut as well, for 5 and for 60 s.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
from safetensors.numpy import load_file

from benchmarks.chaos_hosts import HostsJob
from benchmarks.chaos_job import RECIPES, Job
from benchmarks.chaos_plan import plan_kills, plan_kills_of_hosts
from benchmarks.fake_hosts import FakeHosts
from fcn4dist.run.checkpoints import find_newest

AnyJob = Job | HostsJob
ENDLESS = 100_000  # steps, until it is known where the last blow was
NUM_CLIPS, NUM_TAGS = 64, 3
WRITE_SHARDS = """
import sys
import numpy as np
from mindspore.mindrecord import FileWriter
folder, num_clips, num_tags = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rng = np.random.default_rng(0)
for name, size in (("train", num_clips), ("val", 13)):
    writer = FileWriter(f"{folder}/{name}.mindrecord", 2)
    writer.set_header_size(1 << 16)
    writer.set_page_size(1 << 18)
    feature_of = {"type": "float32", "shape": [1, 24, 32]}
    schema = {"id": {"type": "int32"}, "feature": feature_of, "label": {"type": "int32", "shape": [num_tags]}}
    writer.add_schema(schema, "music_tagger_schema")
    writer.add_index(["id"])
    rows = []
    for i in range(size):
        label = (rng.random(num_tags) < 0.4).astype(np.int32)
        feature = rng.normal(-4, 1, (1, 24, 32)).astype(np.float32)
        feature[0, :24] += np.repeat(label, 8)[:, None] * 2
        rows.append({"id": i, "feature": feature, "label": label})
    writer.write_raw_data(rows)
    writer.commit()
"""


def write_shards(shards: Path) -> None:
    """Write the data set: features in which the labels can be seen."""
    shards.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-c", WRITE_SHARDS, str(shards), str(NUM_CLIPS), str(NUM_TAGS)]
    subprocess.run(words, check=True, capture_output=True)


def build_jobs(folder: Path, steps: int, recipe: str, hosts: FakeHosts | None) -> tuple[AnyJob, AnyJob]:
    """Return the run that nobody disturbs and the one that is."""
    names, shards = ("undisturbed", "disturbed"), folder / "shards"
    if hosts is None:
        one, other = (Job(folder / name, shards, steps, recipe) for name in names)
        return one, other
    first, second = (HostsJob(folder / name, shards, steps, recipe, hosts=hosts) for name in names)
    return first, second


@contextlib.contextmanager
def opened_hosts(num_hosts: int) -> Iterator[FakeHosts | None]:
    """Give two hosts for as long as they are needed; None where this machine is the only one."""
    if num_hosts == 1:
        yield None
        return
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("unshare") is None:
        raise click.UsageError("--hosts 2 makes network namespaces: it needs root, ip and unshare")
    hosts = FakeHosts((f"chaos{os.getpid()}a", f"chaos{os.getpid()}b"))
    try:
        hosts.build()
        yield hosts
    finally:
        hosts.remove()


def clips_of_steps(run: Path) -> dict[int, list[list[int]]]:
    """Return, for each step, the clip ids of every line that any rank has of it, in the order of ranks."""
    steps: dict[int, list[list[int]]] = {}
    for file in sorted((run / "metrics").glob("rank-*.jsonl")):
        for line in file.read_text().splitlines():
            record = json.loads(line)
            steps.setdefault(record["step"], []).append(record["clip_ids"])
    return steps


def differences(disturbed: AnyJob, undisturbed: AnyJob) -> Iterator[str]:
    """Yield what is not the same."""
    folders = [
        job.run / "checkpoints" / (job.run / "checkpoints" / "latest").read_text().strip()
        for job in (disturbed, undisturbed)
    ]
    if folders[0].name != folders[1].name:
        yield f"last checkpoint {folders[0].name}, expected {folders[1].name}"
    for name in ("weights.safetensors", "optimizer.safetensors"):
        found, expected = (load_file(folder / name) for folder in folders)
        if found.keys() != expected.keys():
            yield f"{name}: other parameters"
        for key in sorted(found.keys() & expected.keys()):
            if found[key].tobytes() != expected[key].tobytes():
                gap = np.abs(found[key].astype(np.float64) - expected[key].astype(np.float64)).max()
                yield f"{name}: {key} differs by up to {gap:.3g}"
    found_clips, expected_clips = clips_of_steps(disturbed.run), clips_of_steps(undisturbed.run)
    for step in sorted(found_clips.keys() | expected_clips.keys()):
        if found_clips.get(step) != expected_clips.get(step):
            yield f"step {step}: clips {found_clips.get(step)}, expected {expected_clips.get(step)}"
    for process in disturbed.left():
        yield f"process {process.pid} is left: {' '.join(process.cmdline())}"
    progress = [find_newest(job.run / "checkpoints")[1].progress for job in (disturbed, undisturbed)]
    if progress[0] != progress[1]:
        yield f"progress {progress[0]}, expected {progress[1]}"


@click.command()
@click.option("--kills", "num_kills", type=click.IntRange(1), default=20, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--recipe", type=click.Choice(list(RECIPES)), default="plain", show_default=True)
@click.option("--hosts", "num_hosts", type=click.IntRange(1, 2), default=1, show_default=True)
@click.option("--keep", type=click.Path(path_type=Path), help="Leave the runs in this folder.")
def main(num_kills: int, seed: int, recipe: str, num_hosts: int, keep: Path | None) -> None:
    """Kill a training KILLS times at random moments and compare its end with an undisturbed one."""
    kills, steps = plan_kills(num_kills, seed) if num_hosts == 1 else (plan_kills_of_hosts(num_kills, seed), ENDLESS)
    with opened_hosts(num_hosts) as hosts:
        folder = Path(tempfile.mkdtemp(prefix="chaos-")) if keep is None else keep.absolute()
        write_shards(folder / "shards")
        undisturbed, disturbed = build_jobs(folder, steps, recipe, hosts)
        try:
            click.echo(f"{num_kills} kills from seed {seed} in {folder}")
            click.echo(f"{'#':>3}  {'moment':<22} {'victim':<13} {'blow':<8} {'met step':>8}  what followed")
            for number, kill in enumerate(kills, 1):
                step, followed = disturbed.strike(kill)
                click.echo(f"{number:>3}  {kill.moment:<22} {kill.target:<13} {kill.blow:<8} {step:>8}  {followed}")
            if isinstance(disturbed, HostsJob):
                disturbed.settle()
            disturbed.finish()
            undisturbed.total_steps = disturbed.total_steps
            undisturbed.finish()
            found = list(differences(disturbed, undisturbed))
        finally:
            for job in (undisturbed, disturbed):
                job.end()
    attempts = len(list((disturbed.run / "logs").glob("attempt-*")))
    same = "weights, optimizer, clips and progress are those of the undisturbed run; no process is left"
    click.echo(
        f"{undisturbed.total_steps} steps, {attempts} attempts; " + (f"{len(found)} differences:" if found else same)
    )
    for line in found[:20]:
        click.echo(f"  {line}")
    if not found and keep is None:
        shutil.rmtree(folder)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()

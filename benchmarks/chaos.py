"""Kill a training again and again, restart it as a user would, and compare its end with that of an undisturbed one.

    python -m benchmarks.chaos --kills 20 --seed 1 --recipe adamw

Weights, the optimizer's moments and the loss scale must be equal bit for bit, every step must hold the same clips once, and no
process may be left. Prints a table; exits 1 on any difference. Two ranks on CPU, a network that trains in seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil
from safetensors.numpy import load_file

from benchmarks.chaos_plan import Kill, plan_kills
from fcn4dist.run.checkpoints import find_newest

ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = 180.0  # for anything that has to happen; a machine under load starts MindSpore slowly
PATIENCE_S = 1.0  # how long the user looks at a launcher that does not react before `kill -9`
NUM_CLIPS, NUM_TAGS, GLOBAL_BATCH = 64, 3, 8
SETTINGS = [
    *("model.channels=[4, 4, 6, 8]", "model.pools=[[2, 2], [2, 2], [2, 2]]", "mel.n_mels=24", "evaluate.batch=4"),
    *(
        f"train.global_batch={GLOBAL_BATCH}",
        "train.loss_scale=dynamic",
        "train.epochs=100000",
        "evaluate.every_epochs=9",
    ),
    *("checkpoint.every_steps=7", "checkpoint.keep=3", "launch.stall_timeout_s=6", "evaluate.num_resamples=0"),
]
SWITCHED_ON = [
    *("train.ema_decay=0.99", "train.weight_decay=0.001", "train.clip_norm=1", "train.warmup_steps=5"),
    *("train.schedule=plateau", "train.plateau_patience=9", "augment.time_masks=1", "augment.time_mask_frames=8"),
    *("augment.frequency_masks=1", "augment.frequency_mask_bins=4", "augment.mixup=0.3"),
    *("model.dropout=0.5", "model.input_norm=batch"),
]
RECIPES = {
    "plain": [],
    "adamw": ["train.optimizer=adamw", *SWITCHED_ON],
    "sgd": ["train.optimizer=sgd", "train.lr=0.01", *SWITCHED_ON],
}
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


def wait_for(condition: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
    """Poll until `condition` holds; raises click.ClickException after `limit_s`."""
    end_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end_s:
            raise click.ClickException(f"not within {limit_s:g} s: {what}")
        time.sleep(0.01)


@dataclass
class Job:
    """A run and the launcher that works on it, seen from outside."""

    run: Path
    shards: Path
    total_steps: int
    recipe: str = "plain"
    popen: subprocess.Popen[bytes] | None = None
    exit_codes: list[int] = field(default_factory=list)

    def has_ended(self) -> bool:
        """Return whether no launcher works on the run; the exit code of the last one is kept."""
        if self.popen is not None and self.popen.poll() is not None:
            self.exit_codes.append(self.popen.returncode)
            self.popen = None
        return self.popen is None

    @property
    def is_finished(self) -> bool:
        """Whether a launcher has said that the run is done."""
        self.has_ended()
        return 0 in self.exit_codes

    def start(self, max_restarts: int) -> None:
        """Begin the run, or go on with it."""
        command = [sys.executable, "-m", "fcn4dist", "launch", "--max-restarts", str(max_restarts)]
        if (self.run / "config.yaml").exists():
            command += ["--resume", str(self.run)]
        else:
            command += [
                "--devices",
                "2",
                "--device-target",
                "CPU",
                "--data",
                str(self.shards),
                "--run-dir",
                str(self.run),
            ]
            for setting in [*SETTINGS, *RECIPES[self.recipe], f"train.max_steps={self.total_steps}"]:
                command += ["--set", setting]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with self.run.with_suffix(".out").open("ab") as output:
            self.popen = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )

    def events(self) -> list[dict[str, Any]]:
        """Return what the launchers have noted so far."""
        with contextlib.suppress(FileNotFoundError):
            return [json.loads(line) for line in (self.run / "events.jsonl").read_text().splitlines()]
        return []

    def num_started(self) -> int:
        """Return how many ranks have been started, over all attempts."""
        return sum(e["event"] == "started" and e["process"].startswith("rank-") for e in self.events())

    def last_step(self) -> int:
        """Return the last step that rank 0 has noted."""
        file = self.run / "metrics" / "rank-0.jsonl"
        try:
            lines = file.read_bytes().splitlines()
            return int(json.loads(lines[-1])["step"])
        except (FileNotFoundError, ValueError, IndexError):
            return 0

    def processes(self) -> list[psutil.Process]:
        """Return the living processes whose command names this run."""
        found = []
        for process in psutil.process_iter(["cmdline", "status"]):
            if str(self.run) in (process.info["cmdline"] or []) and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process)
        return found

    def victims(self, name: str) -> list[int]:
        """Return the process ids that a blow at `name` meets."""
        assert self.popen is not None
        if name == "launcher":
            return [self.popen.pid]
        if name == "group":
            return [process.pid for process in self.processes()]
        started = [e["pid"] for e in self.events() if e["event"] == "started" and e["process"] == name]
        return [pid for pid in started[-1:] if pid in {process.pid for process in self.processes()}]

    def end(self) -> None:
        """Leave nothing behind, however the benchmark ends."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if self.popen is not None:
            self.popen.wait()


def strike(job: Job, kill: Kill) -> tuple[int, str]:
    """Do what `kill` says; return the step it met and what followed."""
    if job.is_finished:
        return job.last_step(), "the run was finished already"
    if job.has_ended():
        job.start(kill.max_restarts)
    step = kill.step
    if step is not None:
        wait_for(lambda: job.last_step() >= step or job.has_ended(), f"step {step}")
    time.sleep(kill.delay_s)
    wait_for(lambda: job.has_ended() or job.victims(kill.victim), f"the start of {kill.victim}")
    if job.popen is None:
        return job.last_step(), f"had ended already, exit code {job.exit_codes[-1]}"
    met, num_started, struck_s = job.last_step(), job.num_started(), time.monotonic()
    for pid in job.victims(kill.victim):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, kill.signal)
    if kill.signal == signal.SIGSTOP and kill.victim in ("launcher", "group"):
        time.sleep(PATIENCE_S)  # nobody is left to notice: the user does
        job.popen.kill()
    wait_for(lambda: job.has_ended() or job.num_started() > num_started, f"the consequence of {kill}")
    after_s = time.monotonic() - struck_s
    if job.has_ended():
        wait_for(lambda: not job.processes(), "the end of all processes", 10)
        return met, f"the launcher ended after {after_s:.1f} s, exit code {job.exit_codes[-1]}"
    return met, f"the launcher started all again after {after_s:.1f} s"


def finish(job: Job) -> None:
    """Go on as often as it takes, at most a few times."""
    for _ in range(3):
        if job.is_finished:
            return
        if job.has_ended():
            job.start(max_restarts=3)
        wait_for(job.has_ended, "the end of the run", 4 * LIMIT_S)
    if job.is_finished:
        return
    raise click.ClickException(
        f"{job.run}: does not finish, exit codes {job.exit_codes}; see {job.run.with_suffix('.out')}"
    )


def clips_of_steps(run: Path) -> dict[int, list[list[int]]]:
    """Return, for each step, the clip ids of every line that any rank has of it, in the order of ranks."""
    steps: dict[int, list[list[int]]] = {}
    for file in sorted((run / "metrics").glob("rank-*.jsonl")):
        for line in file.read_text().splitlines():
            record = json.loads(line)
            steps.setdefault(record["step"], []).append(record["clip_ids"])
    return steps


def differences(disturbed: Job, undisturbed: Job) -> Iterator[str]:
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
    for process in disturbed.processes():
        yield f"process {process.pid} is left: {' '.join(process.cmdline())}"
    progress = [find_newest(job.run / "checkpoints")[1].progress for job in (disturbed, undisturbed)]
    if progress[0] != progress[1]:
        yield f"progress {progress[0]}, expected {progress[1]}"


@click.command()
@click.option("--kills", "num_kills", type=click.IntRange(1), default=20, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--recipe", type=click.Choice(list(RECIPES)), default="plain", show_default=True)
@click.option("--keep", type=click.Path(path_type=Path), help="Leave the runs in this folder.")
def main(num_kills: int, seed: int, recipe: str, keep: Path | None) -> None:
    """Kill a training KILLS times at random moments and compare its end with an undisturbed one."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-")) if keep is None else keep.absolute()
    shards = folder / "shards"
    shards.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [sys.executable, "-c", WRITE_SHARDS, str(shards), str(NUM_CLIPS), str(NUM_TAGS)],
        check=True,
        capture_output=True,
    )
    kills, steps = plan_kills(num_kills, seed)
    jobs = [Job(folder / name, shards, steps, recipe) for name in ("undisturbed", "disturbed")]
    try:
        finish(jobs[0])
        click.echo(f"undisturbed: {steps} steps; {num_kills} kills from seed {seed} in {folder}")
        click.echo(f"{'#':>3}  {'moment':<22} {'victim':<10} {'signal':<8} {'met step':>8}  what followed")
        for number, kill in enumerate(kills, 1):
            step, followed = strike(jobs[1], kill)
            click.echo(f"{number:>3}  {kill.moment:<22} {kill.victim:<10} {kill.signal.name:<8} {step:>8}  {followed}")
        finish(jobs[1])
        found = list(differences(jobs[1], jobs[0]))
    finally:
        for job in jobs:
            job.end()
    attempts = len(list((jobs[1].run / "logs").glob("attempt-*")))
    same = "weights, optimizer, clips and progress are those of the undisturbed run; no process is left"
    click.echo(f"{attempts} attempts; " + (f"{len(found)} differences:" if found else same))
    for line in found[:20]:
        click.echo(f"  {line}")
    if not found and keep is None:
        shutil.rmtree(folder)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()

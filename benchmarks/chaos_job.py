"""A training under attack: its run, the launcher that works on it, the blow that it gets, and what follows."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import psutil

from benchmarks.chaos_plan import Kill

ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = 180.0  # for anything that has to happen; a machine under load starts MindSpore slowly
PATIENCE_S = 1.0  # how long the user looks at a launcher that does not react before `kill -9`
SETTINGS = [
    *("model.channels=[4, 4, 6, 8]", "model.pools=[[2, 2], [2, 2], [2, 2]]", "mel.n_mels=24", "evaluate.batch=4"),
    *("train.global_batch=8", "train.loss_scale=dynamic", "train.epochs=100000", "evaluate.every_epochs=9"),
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


def wait_for(condition: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
    """Poll until `condition` holds; raises click.ClickException after `limit_s`."""
    end_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end_s:
            raise click.ClickException(f"not within {limit_s:g} s: {what}")
        time.sleep(0.01)


@dataclass
class Run:
    """A run, seen from outside."""

    run: Path
    shards: Path
    total_steps: int
    recipe: str = "plain"

    def command(self, max_restarts: int, *place: object) -> list[str]:
        """Return the command that begins the run, or goes on with it."""
        command = [sys.executable, "-m", "fcn4dist", "launch", "--max-restarts", str(max_restarts), *map(str, place)]
        if (self.run / "config.yaml").exists():
            return [*command, "--resume", str(self.run)]
        command += ["--devices", "2", "--device-target", "CPU", "--data", str(self.shards), "--run-dir", str(self.run)]
        for setting in [*SETTINGS, *RECIPES[self.recipe], f"train.max_steps={self.total_steps}"]:
            command += ["--set", setting]
        return command

    def events(self) -> list[dict[str, Any]]:
        """Return what the launchers of all hosts have noted so far; a line that is being written is not there yet."""
        found = []
        for file in sorted(self.run.glob("events*.jsonl")):
            for line in file.read_text().splitlines():
                with contextlib.suppress(ValueError):
                    found.append(json.loads(line))
        return found

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

    def running(self, name: str) -> list[int]:
        """Return the process id of a rank or of the scheduler while it lives."""
        started = [e["pid"] for e in self.events() if e["event"] == "started" and e["process"] == name]
        return [pid for pid in started[-1:] if pid in {process.pid for process in self.processes()}]

    def open_launcher(self, command: list[str], name: str, **extra: str) -> subprocess.Popen[bytes]:
        """Start a launcher that writes what it says beside the run."""
        with self.run.with_suffix(name).open("ab") as output:
            return subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": str(ROOT), **extra},
                start_new_session=True,
            )


@dataclass
class Job(Run):
    """The run and the one launcher that works on it."""

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
        self.popen = self.open_launcher(self.command(max_restarts), ".out")

    def victims(self, name: str) -> list[int]:
        """Return the process ids that a blow at `name` meets."""
        assert self.popen is not None
        if name == "launcher":
            return [self.popen.pid]
        return [process.pid for process in self.processes()] if name == "group" else self.running(name)

    def strike(self, kill: Kill) -> tuple[int, str]:
        """Do what `kill` says; return the step it met and what followed."""
        if self.is_finished:
            return self.last_step(), "the run was finished already"
        if self.has_ended():
            self.start(kill.max_restarts)
        step = kill.step
        if step is not None:
            wait_for(lambda: self.last_step() >= step or self.has_ended(), f"step {step}")
        time.sleep(kill.delay_s)
        wait_for(lambda: self.has_ended() or self.victims(kill.victim), f"the start of {kill.victim}")
        if self.popen is None:
            return self.last_step(), f"had ended already, exit code {self.exit_codes[-1]}"
        met, num_started, struck_s = self.last_step(), self.num_started(), time.monotonic()
        send_signal(self.victims(kill.victim), kill.signal)
        if kill.signal == signal.SIGSTOP and kill.victim in ("launcher", "group"):
            time.sleep(PATIENCE_S)  # nobody is left to notice: the user does
            self.popen.kill()
        wait_for(lambda: self.has_ended() or self.num_started() > num_started, f"the consequence of {kill}")
        after_s = time.monotonic() - struck_s
        if self.has_ended():
            wait_for(lambda: not self.processes(), "the end of all processes", 10)
            return met, f"the launcher ended after {after_s:.1f} s, exit code {self.exit_codes[-1]}"
        return met, f"the launcher started all again after {after_s:.1f} s"

    def finish(self) -> None:
        """Go on as often as it takes, at most a few times."""
        for _ in range(3):
            if self.is_finished:
                return
            if self.has_ended():
                self.start(max_restarts=3)
            wait_for(self.has_ended, "the end of the run", 4 * LIMIT_S)
        if self.is_finished:
            return
        raise click.ClickException(
            f"{self.run}: does not finish, exit codes {self.exit_codes}; see {self.run.with_suffix('.out')}"
        )

    def left(self) -> list[psutil.Process]:
        """Return the processes that should have ended with the run."""
        return self.processes()

    def end(self) -> None:
        """Leave nothing behind, however the benchmark ends."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if self.popen is not None:
            self.popen.wait()


def send_signal(pids: list[int], number: signal.Signals) -> None:
    """Send a signal to those that still live."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

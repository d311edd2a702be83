"""A training over two hosts under attack: a script on each starts its launcher again, and knows nothing of the other host."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import click
import psutil

from benchmarks.chaos_job import Run, send_signal, wait_for
from benchmarks.chaos_plan import Kill
from benchmarks.fake_hosts import FakeHosts

SECRET = "a secret for this benchmark"
NUM_RANKS = 4  # two a host: with one, oneDNN would have two cores, and sum in another order
CONSEQUENCE_S = 300.0  # until all ranks are started again, beside other work on two cores
PATIENCE_S = 30.0  # how long the user looks at a suspended launcher: the other host must have given it up by then
LOOK_S = 0.05
LAST_STEPS = 20  # after the last blow
SETTINGS_OF_HOSTS = ("launch.stall_timeout_s=15",)  # a cut of 5 s is no hang: TCP tries again after up to 6.4 s
TRAINS_ON_STEPS = 3  # after a cut: so many steps say that it was survived


@dataclass
class HostsJob(Run):
    """The run and the launchers of both hosts; what they write is in one folder."""

    hosts: FakeHosts = field(kw_only=True)
    settings: tuple[str, ...] = SETTINGS_OF_HOSTS
    max_restarts: int = 3
    popens: list[subprocess.Popen[bytes] | None] = field(default_factory=lambda: [None, None])
    exit_codes: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    orphans: list[psutil.Process] = field(default_factory=list)  # what lived on a host when its launcher had ended

    def note_ends(self) -> None:
        """Keep the exit codes of launchers that have ended, and what still lives on their hosts."""
        for host, popen in enumerate(self.popens):
            if popen is not None and popen.poll() is not None:
                self.exit_codes[host].append(popen.returncode)
                self.popens[host] = None
                self.orphans += self.living_on(host)

    def keep_up(self, hosts: Sequence[int] = (0, 1)) -> None:
        """Start on each host what has not begun or has ended without success."""
        self.note_ends()
        for host in hosts:
            if self.popens[host] is None and 0 not in self.exit_codes[host]:
                place = ("--nodes", 2, "--node-rank", host, "--master-addr", self.hosts.addresses[0])
                words = self.command(self.max_restarts, *place)
                for setting in [f"train.max_steps={self.total_steps}", *self.settings]:
                    words += ["--set", setting]
                command = self.hosts.inside(host, *words)
                self.popens[host] = self.open_launcher(command, f".{host}.out", FCN4DIST_JOB_SECRET=SECRET)

    def wait(self, condition: Callable[[], object], what: str, limit_s: float = CONSEQUENCE_S) -> None:
        """Wait while both scripts do their work."""

        def kept_up() -> object:
            time.sleep(LOOK_S)
            self.keep_up()
            return condition()

        wait_for(kept_up, what, limit_s)

    def living_on(self, host: int) -> list[psutil.Process]:
        """Return the living processes of a host."""
        found = []
        for pid in self.hosts.pids(host):
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                found += [process] if process.status() != psutil.STATUS_ZOMBIE else []
        return found

    @property
    def is_finished(self) -> bool:
        """Whether the launchers of both hosts have said that the run is done."""
        return all(0 in codes for codes in self.exit_codes)

    def victims(self, kill: Kill) -> list[int]:
        """Return the process ids that a blow meets."""
        if kill.host is None:
            return self.running(kill.victim)
        popen = self.popens[kill.host]
        if kill.victim == "launcher":
            return [] if popen is None else [popen.pid]
        return self.hosts.pids(kill.host)

    def strike(self, kill: Kill) -> tuple[int, str]:
        """Do what `kill` says; return the step it met and what followed."""
        self.max_restarts = kill.max_restarts
        self.keep_up()
        if kill.more_steps:
            step = self.last_step() + kill.more_steps
            self.wait(lambda: self.last_step() >= step, f"step {step}")
        time.sleep(kill.delay_s)
        if kill.victim != "network":
            self.wait(lambda: self.victims(kill), f"the start of {kill.victim}")
        met, num_started, ends = self.last_step(), self.num_started(), [len(codes) for codes in self.exit_codes]
        struck_s, note = time.monotonic(), ""
        if kill.victim == "network":
            self.cut(kill)
        else:
            send_signal(self.victims(kill), kill.signal)
            if kill.signal == signal.SIGSTOP and kill.host is not None:
                note = self.lose_patience(kill.host)
        after = self.last_step()
        goes_on = kill.victim == "network"

        def has_followed() -> bool:
            trains_on = goes_on and self.last_step() >= after + TRAINS_ON_STEPS
            return trains_on or self.num_started() >= num_started + NUM_RANKS

        self.wait(has_followed, f"the consequence of {kill}")
        wait_for(lambda: not psutil.wait_procs(self.orphans, 0)[1], "the end of what launchers left", 10)
        self.orphans.clear()
        seconds = f"{time.monotonic() - struck_s:.1f} s"
        codes = [tuple(codes[end:]) for codes, end in zip(self.exit_codes, ends, strict=True)]
        if any(codes):
            return met, f"{note}launchers ended {codes[0]} and {codes[1]}; all ranks started again after {seconds}"
        if self.num_started() == num_started:
            return met, f"trained on, {seconds} after the cut began"
        return met, f"the launchers started all again after {seconds}"

    def cut(self, kill: Kill) -> None:
        """Pull the cable for a while; what ends meanwhile is started again meanwhile."""
        assert kill.host is not None
        self.hosts.unplug(kill.host)
        try:
            end_s = time.monotonic() + kill.cut_s
            self.wait(lambda: time.monotonic() >= end_s, "the end of the cut")
        finally:
            self.hosts.plug(kill.host)

    def lose_patience(self, host: int) -> str:
        """See the other host give up a launcher that is suspended, then kill that one."""
        popen, other = self.popens[host], 1 - host
        assert popen is not None
        begun_s, ended = time.monotonic(), len(self.exit_codes[other])
        with contextlib.suppress(
            click.ClickException
        ):  # before they have met, the other one waits for it, as it should
            self.wait(lambda: len(self.exit_codes[other]) > ended, "the other host", PATIENCE_S)
        has_given_up = len(self.exit_codes[other]) > ended
        popen.kill()
        return f"given up by the other host after {time.monotonic() - begun_s:.1f} s; " if has_given_up else ""

    def finish(self) -> None:
        """Let the scripts go on until both launchers have said that the run is done."""
        self.wait(lambda: self.is_finished, f"the end of {self.run} on both hosts", 4 * CONSEQUENCE_S)

    def settle(self) -> None:
        """Stop both launchers, and decide that the run ends a few steps later."""
        send_signal([popen.pid for popen in self.popens if popen is not None], signal.SIGTERM)

        def have_ended() -> bool:
            self.note_ends()
            return self.popens == [None, None]

        wait_for(have_ended, "the stop of both launchers", CONSEQUENCE_S)
        self.total_steps = self.last_step() + LAST_STEPS

    def left(self) -> list[psutil.Process]:
        """Return the processes that should have ended with the run."""
        return self.living_on(0) + self.living_on(1)

    def end(self) -> None:
        """Leave nothing behind, however the benchmark ends."""
        for process in self.left():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for popen in self.popens:
            if popen is not None:
                popen.wait()

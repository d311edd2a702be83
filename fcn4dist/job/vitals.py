"""Looks at the processes of a job from outside, twice a second: which are suspended, how much memory they have taken."""

from __future__ import annotations

from fcn4dist.job.events import Clock, Event, Exited, Inbox, Started, Suspended
from fcn4dist.job.oom import MemoryUse, OomRecord, read_status
from fcn4dist.job.poller import Poller

SUSPENDED = "T"
POLL_S = 0.5


class Vitals(Poller):
    """Told of starts and ends through `on_event`; puts a `Suspended` into the inbox when a process stops or goes on."""

    def __init__(self, inbox: Inbox, clock: Clock) -> None:
        super().__init__("vitals")
        self._inbox, self._clock = inbox, clock
        self._alive: dict[str, int] = {}
        self._pids: dict[str, int] = {}
        self._peaks: dict[str, int] = {}
        self._suspended: set[str] = set()
        self._oom = OomRecord()

    def on_event(self, event: Event) -> None:
        """Note who runs."""
        if isinstance(event, Started):
            self._alive[event.process] = self._pids[event.process] = event.pid
        elif isinstance(event, Exited):
            self._alive.pop(event.process, None)

    def pause_s(self) -> float:
        """Return the seconds until the next look."""
        return POLL_S

    def poll(self) -> None:
        """Look once."""
        for process, pid in list(self._alive.items()):
            status = read_status(pid)
            if status is None:
                continue
            state, peak_bytes = status
            self._peaks[process] = max(self._peaks.get(process, 0), peak_bytes)  # a zombie has none
            if (state == SUSPENDED) != (process in self._suspended):
                self._suspended ^= {process}
                self._inbox.put(Suspended(self._clock(), process, process in self._suspended))

    def memory_of(self, processes: list[str]) -> dict[str, MemoryUse]:
        """Return what is known of the memory of ended processes."""
        return {
            name: MemoryUse(self._peaks.get(name), self._oom.judge(self._pids[name]))
            for name in processes
            if name in self._pids
        }

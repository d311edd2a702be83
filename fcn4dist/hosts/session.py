"""A launcher's part in a job over hosts: join, agree, run with the others as if they were processes of this host, conclude.

For the supervisor each other launcher is a process: the master sees node-1, node-2, ...; a member sees node-0. To send it
SIGTERM is to tell it to stop; it "exits" when its host has done its part.
"""

from __future__ import annotations

import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from fcn4dist.errors import Fcn4distError, Interrupted, JobError, UserError
from fcn4dist.hosts.roster import Go, HostCard, Layout, Readiness
from fcn4dist.hosts.transport import Mail, Transport
from fcn4dist.hosts.wire import Message
from fcn4dist.job.events import Clock, Event, Exited, Inbox, PeerEnds, Reported, Signalled, Stalled
from fcn4dist.job.oom import DMESG_LIMIT_S
from fcn4dist.job.process import ExitStatus
from fcn4dist.job.sampler import JOIN_S
from fcn4dist.job.state import FAILURE_GRACE_S, STACK_GRACE_S, Send

WRAP_UP_S = (
    JOIN_S + DMESG_LIMIT_S + 2.0
)  # a launcher's, from the end of its ranks to its account: threads, dmesg, files
GIVE_UP_S = FAILURE_GRACE_S + WRAP_UP_S  # how long the master waits for a host that should have ended at once
VERDICT_S = STACK_GRACE_S + FAILURE_GRACE_S + GIVE_UP_S + WRAP_UP_S  # how long a member waits: what the master may take
Say = Callable[[str], None]
Kind = Literal["success", "failure", "signal", "lost"]
AttemptMessages = ("stopping", "done", "ended", "stalled")  # of a member; the next attempt may have begun by then


@dataclass(frozen=True)
class Verdict:
    """How the job ended, the same on all hosts."""

    kind: Kind
    node_rank: int = 0  # the host where it began to end
    signal: int | None = None
    text: str = ""  # what happened there, in a few words
    failure: dict[str, Any] | None = None  # that host's RUN/failure.json
    stall: dict[str, Any] | None = None  # the job hung: what all hosts saw
    restart_in_s: float | None = None  # all hosts start again after this; None: the job is over


class Session(ABC):
    """A host's part in a job, whether it has others or is alone: what the pipeline of a launch speaks to.

    The supervisor's loop calls `hear` and `send`.
    """

    is_chief = True  # decides for all hosts

    def __init__(self, card: HostCard) -> None:
        self.card = card
        self.layout: Layout
        self.peers: tuple[str, ...] = ()  # the other launchers, as the supervisor calls them
        self._cause: tuple[Kind, int | None, str] | None = None  # why this host began to stop

    @abstractmethod
    def join(self, limit_s: float, run_dir: str, say: Say) -> Layout:
        """Meet the other hosts; returns when all are there. Raises ConfigError or JobError."""

    def wait_for_master_data(self) -> None:  # noqa: B027 - only a member has something to do
        """Wait until node 0 has prepared its data: hosts that share the demo's cache must not prepare it at once."""

    def tell_prepared(self) -> None:  # noqa: B027 - only a master has something to do
        """Say that this host has prepared its data, where others may wait for it."""

    @abstractmethod
    def gather(self, ready: Readiness, say: Say) -> list[Readiness]:
        """Say that this host is ready; on the chief, return what all hosts say, in the order of their numbers.

        Raises JobError or UserError when a host is gone or cannot take part.
        """

    @abstractmethod
    def begin(self, go: Go | None) -> Go:
        """Return the chief's word to begin: its own `go`, which it tells the others, or the one that a member waits for."""

    @abstractmethod
    def conclude(self, kind: Kind, failure: dict[str, Any] | None) -> Verdict:
        """Tell how this host's part ended and return how the job did; on the chief `pronounce` must follow."""

    def pronounce(self, verdict: Verdict) -> None:  # noqa: B027 - only a master has somebody to tell
        """Tell the others the chief's verdict; one that says to start again is followed by the next `gather`."""

    def give_up(self, error: Fcn4distError) -> None:  # noqa: B027 - alone there is nobody to tell
        """Tell the others that this host cannot take part."""

    def give_up_after(self, seconds: float) -> None:  # noqa: B027
        """Take a host for gone when nothing was heard from it for so long (launch.peer_timeout_s)."""

    def watch_scheduler(self, port: int, mark: Path) -> None:  # noqa: B027
        """Let this host's ranks know by the file `mark` when MindSpore's scheduler listens; the master tells the members."""

    def close(self) -> None:  # noqa: B027
        """Close all connections; what was said before is still sent."""

    # while the job runs

    def attach(self, inbox: Inbox, clock: Clock) -> None:  # noqa: B027
        """From now on put what the others do into `inbox`."""

    def send(self, action: Send) -> None:  # noqa: B027
        """Pass a signal of the supervisor on to a peer."""

    def hear(self, event: Event) -> None:
        """Take note of an event of this host, before the supervisor decides about it."""
        if self._cause is not None:
            return
        if isinstance(event, Signalled):
            self._cause = ("signal", event.signal, "")
        elif isinstance(event, Exited) and not event.status.is_success:
            self._cause = ("failure", None, f"{event.process} ended: {event.status}")
        elif isinstance(event, Reported):
            self._cause = ("failure", None, f"{event.process} failed")
        elif isinstance(event, Stalled):
            self._cause = ("failure", None, "the job hung")
        elif isinstance(event, PeerEnds):
            self._cause = ("failure" if event.signal is None else "signal", event.signal, "")

    @property
    def cause(self) -> tuple[Kind, int | None, str]:
        """Why this host began to stop: kind, signal, and what happened in a few words."""
        return self._cause or ("failure", None, "")


class MeetingSession(Session):
    """What the master's and the members' sessions share: mail, which becomes events while the job runs."""

    def __init__(self, card: HostCard) -> None:
        super().__init__(card)
        self._transport: Transport
        self._mail: queue.SimpleQueue[Mail] = queue.SimpleQueue()
        self._lock = threading.RLock()
        self._inbox: Inbox | None = None
        self._clock: Clock
        self._ended: set[str] = set()  # peers whose exit was reported
        self._gone: list[Mail] = []  # connections that ended while the job ran
        self._attempt = 0  # of this session

    def give_up_after(self, seconds: float) -> None:
        """Pass the limit on to the connections."""
        self._transport.silence_s = seconds

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def attach(self, inbox: Inbox, clock: Clock) -> None:
        """Begin with the mail that came before."""
        with self._lock:
            self._inbox, self._clock = inbox, clock
            while not self._mail.empty():
                self._on_mail(self._mail.get())

    def _receive(self, mail: Mail) -> None:
        """Take mail in the transport's thread: before the job runs it is kept for the main thread."""
        with self._lock:
            if self._inbox is None:
                self._mail.put(mail)
            else:
                if mail.message is None:
                    self._gone.append(mail)
                self._on_mail(mail)

    def _begin_again(self) -> None:
        """Forget the attempt that ended; a connection that ended in it is met again in `agree`."""
        with self._lock:
            self._inbox = self._cause = None
            self._ended.clear()
            self._attempt += 1
            for mail in self._gone:
                self._mail.put(mail)
            self._gone.clear()

    @abstractmethod
    def _on_mail(self, mail: Mail) -> None:
        """Turn what a peer says into events."""

    def _put(self, event: Event) -> None:
        assert self._inbox is not None
        self._inbox.put(event)

    def _exit(self, peer: str, *, is_success: bool) -> None:
        """Report the end of a peer, once."""
        with self._lock:
            if peer not in self._ended:
                self._ended.add(peer)
                self._put(Exited(self._clock(), peer, ExitStatus(0 if is_success else 1)))

    def _stop_message(self, kind: str) -> Message:
        cause, number, text = self.cause
        return {"type": kind, "kind": cause, "signal": number, "text": text}


def failed_message(error: Fcn4distError) -> Message:
    """Return an error as a message to other launchers."""
    return {"type": "failed", "message": str(error), "exit_code": error.exit_code}


def error_of(message: Message) -> Fcn4distError:
    """Return the error that `failed_message` wrote."""
    text, code = str(message.get("message", "")), message.get("exit_code")
    if isinstance(code, int) and code > 128:
        return Interrupted(code - 128, text)
    return UserError(text) if code == UserError.exit_code else JobError(text)


def verdict_message(verdict: Verdict) -> Message:
    """Return a verdict as a message to other launchers."""
    return {"type": "verdict", **asdict(verdict)}


def verdict_of(message: Message) -> Verdict:
    """Return the verdict that `verdict_message` wrote."""
    return Verdict(**{field.name: message[field.name] for field in fields(Verdict)})

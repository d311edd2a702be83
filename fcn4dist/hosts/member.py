"""A member's session: the launcher of node 1, 2, ..., which follows the master's."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fcn4dist.errors import Fcn4distError, JobError
from fcn4dist.hosts.roster import Go, HostCard, Layout, Readiness, parse_told
from fcn4dist.hosts.session import (
    VERDICT_S,
    Kind,
    MeetingSession,
    Say,
    Verdict,
    error_of,
    failed_message,
    verdict_of,
)
from fcn4dist.hosts.transport import Line, Mail, at
from fcn4dist.hosts.wire import Message
from fcn4dist.job.events import Event, Exited, PeerEnds, PeerStalls, Stalled
from fcn4dist.job.state import Send

log = logging.getLogger(__name__)
MASTER = "node-0"


class MemberSession(MeetingSession):
    """Joins the master, does what it says, and tells it how this host's ranks fare."""

    is_chief = False

    def __init__(self, card: HostCard, master: tuple[Sequence[str], int], secret: bytes) -> None:
        """Prepare to join the master at any of its addresses, at that port."""
        super().__init__(card)
        self.peers = (MASTER,)
        self._master = master
        self._line = Line(secret, self._receive)
        self._transport = self._line
        self._left: set[str] = set()  # ranks of this host that have not ended well yet
        self._verdict: Verdict | None = None
        self._has_verdict = threading.Event()  # or the master is gone
        self._why_gone = ""
        self._told_stopping = False
        self._mark: Path | None = None  # made when the scheduler listens

    def join(self, limit_s: float, run_dir: str, say: Say) -> Layout:
        """Find the master, introduce this host, and wait for the others."""
        addresses, port = self._master
        say(f"joining {' or '.join(at(address, port) for address in addresses)}")
        own = self._line.connect(addresses, port, limit_s)
        self.card = self.card.model_copy(update={"address": own})
        self._tell({"type": "hello", "card": self.card.model_dump(), "sent_at": time.time()})
        message = self._wait_for("layout")
        self.layout = parse_told(Layout, message.get("layout"), "node 0")
        return self.layout

    def wait_for_master_data(self) -> None:
        """Wait for the master's word that its data is prepared."""
        self._wait_for("prepared")

    def gather(self, ready: Readiness, say: Say) -> list[Readiness]:
        """Say that this host is ready; the others' words are the master's."""
        self._tell({"type": "ready", "ready": ready.model_dump()})
        return [ready]

    def begin(self, go: Go | None) -> Go:
        """Wait for the master's word."""
        go = parse_told(Go, self._wait_for("go").get("go"), self.layout.title(0))
        assert go is not None
        first = self.layout.nodes[self.card.node_rank].first_rank
        self._left = {f"rank-{first + i}" for i in range(self.card.devices)}
        return go

    def _wait_for(self, kind: str) -> Message:
        mail = self._mail.get()
        if mail.message is None:
            raise JobError(f"the launcher of node 0 at {mail.address} is gone: {mail.reason}")
        if mail.message.get("type") == "failed":
            raise error_of(mail.message)
        if mail.message.get("type") == "prepared" and kind != "prepared":  # of no interest for a named data set
            return self._wait_for(kind)
        if mail.message.get("type") != kind:
            raise JobError(f"{mail.address}: expected {kind!r}, found {mail.message.get('type')!r}; another version?")
        return mail.message

    def give_up(self, error: Fcn4distError) -> None:
        """Tell the master why this host cannot take part."""
        self._tell(failed_message(error))

    def _tell(self, message: Message) -> None:
        self._line.send([Line.MASTER], message)

    # while the job runs

    def watch_scheduler(self, port: int, mark: Path) -> None:
        """Make `mark` when the master says that the scheduler listens: no rank here needs to try its port."""
        self._mark = mark

    def hear(self, event: Event) -> None:
        """Note what happens here; once all ranks have ended well the master is told."""
        super().hear(event)
        if isinstance(event, Stalled):
            self._tell({"type": "stalled", "stall": event.stall.to_json()})
        if isinstance(event, Exited) and event.status.is_success and event.process in self._left:
            self._left.discard(event.process)
            if not self._left:
                self._tell({"type": "done"})

    def send(self, action: Send) -> None:
        """This host stops: tell the master, and do not wait for it."""
        if action.signal != signal.SIGKILL and not self._told_stopping:
            self._told_stopping = True
            self._tell(self._stop_message("stopping"))
        self._exit(MASTER, is_success=False)

    def _on_mail(self, mail: Mail) -> None:
        message = mail.message
        if message is None:
            if self._verdict is None:
                self._why_gone = mail.reason
                self._has_verdict.set()
                self._put(PeerEnds(self._clock(), MASTER))
                self._exit(MASTER, is_success=False)
        elif message.get("type") in ("verdict", "failed"):
            failed = Verdict("failure", 0, text=str(message.get("message", "")))  # node 0 could not start its ranks
            self._verdict = failed if message.get("type") == "failed" else verdict_of(message)
            is_success = self._verdict.kind == "success"
            if not is_success:
                self._put(PeerEnds(self._clock(), MASTER, self._verdict.signal))
            self._exit(MASTER, is_success=is_success)
            self._has_verdict.set()
        elif message.get("type") == "stalled":
            self._put(PeerStalls(self._clock(), MASTER))
        elif message.get("type") == "stop":
            self._told_stopping = True  # it knows
            self._put(PeerEnds(self._clock(), MASTER, message.get("signal")))
        elif message.get("type") == "listening":
            self._make_mark()
        elif message.get("type") == "kill":
            self._put(PeerEnds(self._clock(), MASTER, at_once=True))

    def _make_mark(self) -> None:
        assert self._mark is not None, "the job runs"
        try:
            self._mark.parent.mkdir(parents=True, exist_ok=True)
            self._mark.touch()
        except OSError as error:  # the ranks wait for their whole limit and say so
            log.warning("%s: %s", self._mark, error.strerror)

    def _begin_again(self) -> None:
        with self._lock:
            self._verdict, self._told_stopping = None, False
            self._has_verdict.clear()
            super()._begin_again()

    def conclude(self, kind: Kind, failure: dict[str, Any] | None) -> Verdict:
        """Report this host's end, and return the master's verdict, or what is known here when the master is gone."""
        if self._verdict is None:
            self._tell({"type": "ended", "failure": failure})
            # after a signal the master's ranks may take its launch.grace_s, too: while its connection stands it is at work
            self._has_verdict.wait(None if kind == "signal" else VERDICT_S)
        if self._verdict is not None:
            verdict = self._verdict
            if verdict.restart_in_s is not None:
                self._begin_again()
            return verdict
        if failure is not None:
            return Verdict("failure", self.card.node_rank, failure=failure)
        if kind == "signal":
            return Verdict("signal", self.card.node_rank, self.cause[1])
        return Verdict("lost", 0, text=self._why_gone)

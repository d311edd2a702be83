"""The master's session: node 0, where the launchers of all hosts meet."""

from __future__ import annotations

import contextlib
import logging
import queue
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from fcn4dist.errors import ConfigError, Fcn4distError, JobError
from fcn4dist.hosts.listening import listens_here
from fcn4dist.hosts.roster import Go, HostCard, Layout, Readiness, Roster, name_all, parse_told
from fcn4dist.hosts.session import (
    GIVE_UP_S,
    AttemptMessages,
    Kind,
    MeetingSession,
    Say,
    Verdict,
    error_of,
    failed_message,
    verdict_message,
)
from fcn4dist.hosts.transport import Hub, Mail, at
from fcn4dist.hosts.wire import Message
from fcn4dist.job.events import Event, PeerEnds, PeerStalls, Stalled
from fcn4dist.job.stall import Stall, merge_stalls, parse_stall
from fcn4dist.job.state import Send

log = logging.getLogger(__name__)
CLOCK_LIMIT_S = 1.0  # between the clocks of two hosts
LINGER_S = 30.0  # after a refusal, for hosts that come later
LOOK_S = 0.05
REMIND_S = 15.0  # between lines that say who is still missing


class MasterSession(MeetingSession):
    """Collects the hosts, tells them the plan, passes the first failure on to all, and gives the verdict."""

    def __init__(self, card: HostCard, port: int, secret: bytes, names: Sequence[str] | None) -> None:
        """Listen on the card's address. Raises ConfigError when the port cannot be had."""
        super().__init__(card)
        self._port = port
        self._roster = Roster(card, names)
        self._nodes: dict[int, int] = {}  # connection -> node rank, of those that are in the job
        self._first: Verdict | None = None  # why the job stops
        self._failures: dict[int, dict[str, Any] | None] = {}  # node rank -> what it reported at its end
        self._is_over = False  # the verdict is told: hosts go away now
        self._stalls: dict[int, Stall] = {}  # node rank -> where its ranks were when the job hung
        self._hub = Hub(card.address, port, secret, self._receive)
        self._transport = self._hub

    def join(self, limit_s: float, run_dir: str, say: Say) -> Layout:
        """Wait for all hosts; a disagreement is told to everybody and raised as ConfigError, absence as JobError."""
        end_s = time.monotonic() + limit_s
        say(f"waiting for the other hosts at {at(self.card.address, self._port)}")
        while self._roster.missing:
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                missing = name_all(self._roster.missing)
                self._fail(JobError(f"within {limit_s:g} s (launch.join_timeout_s) did not come: {missing}"))
            with contextlib.suppress(queue.Empty):
                self._take_joining(self._mail.get(timeout=min(left_s, REMIND_S)), say)
                continue
            say(f"still waiting for {name_all(self._roster.missing)}, {max(0.0, left_s - REMIND_S):.0f} s left")
        self._hub.stop_listening()
        self.layout = self._roster.layout(run_dir)
        self.peers = tuple(f"node-{rank}" for rank in range(1, len(self.layout.nodes)))
        self._tell_all({"type": "layout", "layout": self.layout.model_dump()})
        return self.layout

    def _take_joining(self, mail: Mail, say: Say) -> None:
        if mail.message is None:
            if (rank := self._nodes.pop(mail.peer, None)) is not None:
                self._roster.remove(rank)
                say(f"node {rank} went away: {mail.reason}")
            return
        try:
            if mail.message.get("type") == "failed":
                raise error_of(mail.message)
            card: HostCard = parse_told(HostCard, mail.message.get("card"), mail.address)
            self._roster.add(card)
        except Fcn4distError as error:
            self._nodes[mail.peer] = -1  # told as well
            self._refuse(error, say)
        self._nodes[mail.peer] = card.node_rank
        say(f"{card.title} at {mail.address} joined with {card.devices} devices")
        if (warning := compare_clocks(card.title, mail)) is not None:
            say(warning)

    def _refuse(self, error: Fcn4distError, say: Say) -> NoReturn:
        """Tell all hosts why there will be no job, for a while also those that come later: they would wait in vain."""
        self._tell_all(failed_message(error))
        told, end_s = len(self._nodes), time.monotonic() + LINGER_S
        if told < self.card.num_nodes - 1:
            say(f"{error}\nwaiting up to {LINGER_S:g} s to tell the hosts that have not come")
        with contextlib.suppress(queue.Empty):
            while told < self.card.num_nodes - 1:
                mail = self._mail.get(timeout=max(0.0, end_s - time.monotonic()))
                if mail.message is not None and mail.message.get("type") == "hello":
                    self._hub.send([mail.peer], failed_message(error))
                    told += 1
        raise error

    def tell_prepared(self) -> None:
        """Let the others prepare the demo set, or find it prepared."""
        self._tell_all({"type": "prepared"})

    def gather(self, ready: Readiness, say: Say) -> list[Readiness]:
        """Wait until all hosts are ready; one that cannot be is told to all and raised."""
        readies = {0: ready}
        while len(readies) < len(self.layout.nodes):
            try:
                mail = self._mail.get(timeout=REMIND_S)
            except queue.Empty:
                waiting = [self.layout.title(rank) for rank in range(len(self.layout.nodes)) if rank not in readies]
                say(f"waiting for {name_all(waiting)} to prepare")
                continue
            rank = self._nodes.get(mail.peer)
            if rank is None:  # it knew the secret, but came when all were there
                self._hub.send([mail.peer], failed_message(ConfigError("the job is complete without this host")))
            elif mail.message is not None and mail.message.get("type") in AttemptMessages:
                log.debug("%s: a late word on the attempt before", self.layout.title(rank))
            elif mail.message is None:
                self._fail(JobError(f"the launcher of {self.layout.title(rank)} is gone: {mail.reason}"))
            elif mail.message.get("type") == "failed":
                self._fail(_prefixed(error_of(mail.message), self.layout.title(rank)))
            else:
                try:
                    readies[rank] = parse_told(Readiness, mail.message.get("ready"), self.layout.title(rank))
                except JobError as error:
                    self._fail(error)
        return [readies[rank] for rank in sorted(readies)]

    def begin(self, go: Go | None) -> Go:
        """Tell all hosts to begin."""
        assert go is not None, "the master decides"
        self._tell_all({"type": "go", "go": go.model_dump()})
        return go

    def _fail(self, error: Fcn4distError) -> NoReturn:
        self._tell_all(failed_message(error))
        raise error

    def give_up(self, error: Fcn4distError) -> None:
        """Tell the others why this host cannot take part."""
        where = self.layout.title(0) if hasattr(self, "layout") else self.card.title
        self._tell_all(failed_message(_prefixed(error, where)))

    def _tell_all(self, message: Message) -> None:
        self._hub.send(self._nodes, message)

    def _tell(self, node_rank: int, message: Message) -> None:
        self._hub.send([peer for peer, rank in self._nodes.items() if rank == node_rank], message)

    # while the job runs

    def watch_scheduler(self, port: int, mark: Path) -> None:
        """Look until the scheduler listens, and tell the members; this host's ranks look for themselves."""
        attempt = self._attempt

        def look() -> None:  # in the transport's thread
            with self._lock:  # not between a verdict and the members' next attempt
                if attempt != self._attempt:
                    return
                if listens_here(port):
                    self._tell_all({"type": "listening"})
                    return
            self._hub.later(LOOK_S, look)

        self._hub.later(0, look)

    def hear(self, event: Event) -> None:
        """Note what happens here; that the job hangs is told to all: each says where its ranks are."""
        super().hear(event)
        if isinstance(event, Stalled):
            self._stalls[0] = event.stall
            self._tell_all({"type": "stalled"})

    def send(self, action: Send) -> None:
        """Tell a host to stop (SIGTERM) or to kill what is left (SIGKILL); who does not answer that is given up."""
        if self._first is None:
            kind, number, text = self.cause
            self._first = Verdict(kind, 0, number, text)
        rank = int(action.process.removeprefix("node-"))
        if action.signal != signal.SIGKILL:
            self._tell(rank, self._stop_message("stop"))
            return
        self._tell(rank, {"type": "kill"})
        attempt = self._attempt
        self._hub.later(GIVE_UP_S, lambda: self._give_up_peer(action.process, attempt))

    def _give_up_peer(self, peer: str, attempt: int) -> None:
        with self._lock:
            if attempt == self._attempt:  # else it was about an attempt that is over
                self._exit(peer, is_success=False)

    def _on_mail(self, mail: Mail) -> None:
        rank = self._nodes.get(mail.peer)
        if rank is None or self._is_over:
            return
        peer, message = f"node-{rank}", mail.message
        if message is None:
            if peer in self._ended:  # its ranks are done; the job does not need its launcher any more
                log.warning("the launcher of %s went away after its ranks had ended", self.layout.title(rank))
                return
            self._begin_end(Verdict("lost", rank, text=mail.reason))
            self._put(PeerEnds(self._clock(), peer))
            self._exit(peer, is_success=False)
        elif message.get("type") == "stalled":
            with contextlib.suppress(KeyError, TypeError, ValueError):
                self._stalls[rank] = parse_stall(message["stall"])
            self._put(PeerStalls(self._clock(), peer))
        elif message.get("type") == "stopping":
            number = message.get("signal")
            self._begin_end(Verdict(_kind_of(message), rank, number, str(message.get("text", ""))))
            self._put(PeerEnds(self._clock(), peer, number))
        elif message.get("type") == "failed":  # it could not start its ranks
            self._begin_end(Verdict("failure", rank, text=str(message.get("message", ""))))
            self._put(PeerEnds(self._clock(), peer))
            self._exit(peer, is_success=False)
        elif message.get("type") == "done":
            self._exit(peer, is_success=True)
        elif message.get("type") == "ended":
            self._failures[rank] = message.get("failure")
            self._exit(peer, is_success=False)

    def _begin_end(self, verdict: Verdict) -> None:
        if self._first is None:
            self._first = verdict

    def conclude(self, kind: Kind, failure: dict[str, Any] | None) -> Verdict:
        """Return how the job ended: the first host that began to end has the culprit."""
        with self._lock:
            self._failures[0] = failure
            first, stalls = self._first, dict(self._stalls)
        if kind == "success":
            verdict = Verdict("success")
        elif first is None:  # this host failed when all others were done
            verdict = Verdict(kind, 0, self.cause[1], self.cause[2], failure)
        else:
            found = self._failures.get(first.node_rank) if first.kind == "failure" else None
            verdict = Verdict(first.kind, first.node_rank, first.signal, first.text, found)
        if verdict.kind == "failure" and stalls:  # who began to end says nothing about who holds the others up
            stall = merge_stalls(list(stalls.values()))
            held = [r for r, seen in stalls.items() if {*seen.pulses, *seen.suspended} & set(stall.suspects[:1])]
            rank = held[0] if held else verdict.node_rank
            verdict = Verdict("failure", rank, None, "the job hung", self._failures.get(rank), stall.to_json())
        return verdict

    def pronounce(self, verdict: Verdict) -> None:
        """Tell everybody; hosts that go away after a verdict that ends the job are no news."""
        with self._lock:
            self._is_over = verdict.restart_in_s is None
            if not self._is_over:
                self._first, self._failures, self._stalls = None, {}, {}
                self._begin_again()
        self._tell_all(verdict_message(verdict))


def compare_clocks(title: str, mail: Mail) -> str | None:
    """Return a warning when a host's clock and this one's are so far apart that times in logs contradict each other.

    Its hello says when it was sent; the way here takes milliseconds.
    """
    sent_at = (mail.message or {}).get("sent_at")
    if not isinstance(sent_at, int | float) or abs(ahead_s := sent_at - mail.received_at) <= CLOCK_LIMIT_S:
        return None
    return (
        f"warning: the clock of {title} is {abs(ahead_s):.1f} s {'ahead of' if ahead_s > 0 else 'behind'} this host's: "
        "times in logs and events do not compare; keep both by NTP"
    )


def _kind_of(message: Message) -> Kind:
    return "signal" if message.get("kind") == "signal" else "failure"


def _prefixed(error: Fcn4distError, where: str) -> Fcn4distError:
    """Return the error with the host that met it in front."""
    return error_of({"message": f"{where}: {error}", "exit_code": error.exit_code})

"""The connections between launchers, in one thread: who says what goes to one callback, heartbeats stay in here."""

from __future__ import annotations

import asyncio
import errno
import logging
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fcn4dist.errors import ConfigError, JobError
from fcn4dist.hosts.wire import (
    Message,
    Wire,
    WireError,
    format_message,
    greet_as_master,
    greet_as_member,
)

log = logging.getLogger(__name__)
BEAT_S = 1.0
SILENCE_S = 10.0  # a host that vanishes without closing its connection is given up after this (launch.peer_timeout_s)
GREETING_S = 5.0  # for a stranger to prove the secret
MAX_STRANGERS = 256  # connections at once that have not proved it yet
MAX_OF_ADDRESS = 16  # of those, from one address
MAX_WAITING = 1024  # in the kernel, where they take no descriptor of the launcher
ACCEPTED_AT_ONCE = 32
LOG_LINES, LOG_WINDOW_S = 5, 10.0  # so many dropped connections are logged in such a time, the others counted
RETRY_S = (0.2, 0.4)  # a random pause, so that hosts that were turned away do not come back all at once
LONG_BYTES = 64 << 10
LONG_AT_ONCE = 8  # a rank table goes to 2,048 hosts: 4 GB, were all copies queued at once
CLOSE_S = 1.0
BEAT: Message = {"type": "beat"}


@dataclass(frozen=True)
class Mail:
    """A message of a peer, or the end of its connection."""

    peer: int  # number of the connection
    address: str
    message: Message | None  # None: the connection is gone
    reason: str = ""  # why it is gone
    received_at: float = field(default_factory=time.time)  # by this host's clock


class Talk:
    """A connection whose other side has proved the secret, and what is to be sent there, in order."""

    def __init__(self, wire: Wire, long_turns: asyncio.Semaphore) -> None:
        self.wire = wire
        self._long_turns = long_turns
        self._outbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._speaking = asyncio.create_task(self._speak())
        self._beating = asyncio.create_task(self._beat())

    def send(self, text: bytes) -> None:
        """Send a formatted message, after those that wait here."""
        self._outbox.put_nowait(text)

    async def _speak(self) -> None:
        while (text := await self._outbox.get()) is not None:
            if len(text) < LONG_BYTES:
                self.wire.send_text(text)
                continue
            async with self._long_turns:
                self.wire.send_text(text)
                await self.wire.drain()

    async def _beat(self) -> None:
        while True:  # not after what waits: a host whose turn comes late must not take this one for dead
            self.wire.send(BEAT)
            await asyncio.sleep(BEAT_S)

    def stop(self) -> None:
        """Send nothing more."""
        self._speaking.cancel()
        self._beating.cancel()

    async def close(self) -> None:
        """Send what waits and close."""
        self._outbox.put_nowait(None)
        await asyncio.wait([self._speaking], timeout=CLOSE_S)
        self.stop()
        await self.wire.close(CLOSE_S)


class Transport:
    """A thread with an event loop; `deliver` is called in that thread for each mail."""

    def __init__(self, secret: bytes, deliver: Callable[[Mail], None]) -> None:
        self.deliver = deliver
        self.silence_s = SILENCE_S
        self._secret = secret
        self._loop = asyncio.new_event_loop()
        self._talks: dict[int, Talk] = {}
        self._numbers = 0
        self._long_turns = asyncio.Semaphore(LONG_AT_ONCE)
        self._thread = threading.Thread(target=self._loop.run_forever, name="launchers", daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, Any], limit_s: float | None = None) -> Any:
        """Run a coroutine in the thread and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(limit_s)

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Call something in the thread after a while."""
        self._loop.call_soon_threadsafe(self._loop.call_later, delay_s, call)

    def send(self, peers: Iterable[int], message: Message) -> None:
        """Send one message to some peers; nothing happens for those that are gone."""
        self._loop.call_soon_threadsafe(self._send, tuple(peers), format_message(message))

    def _send(self, peers: Sequence[int], text: bytes) -> None:
        for peer in peers:
            if peer in self._talks:
                self._talks[peer].send(text)

    def close(self) -> None:
        """Send what is queued, close all connections and end the thread."""
        if not self._thread.is_alive():
            return
        self.deliver = lambda _mail: None
        self.call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        talks, self._talks = list(self._talks.values()), {}
        await asyncio.gather(*(talk.close() for talk in talks))
        mine = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not mine]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _admit(self, wire: Wire) -> Coroutine[Any, Any, None]:
        """Take a connection in; returns the talk with it, to be awaited."""
        self._numbers += 1
        self._talks[self._numbers] = talk = Talk(wire, self._long_turns)
        return self._converse(self._numbers, talk)

    async def _converse(self, peer: int, talk: Talk) -> None:
        """Deliver what a peer says until it is gone or silent for too long."""
        wire = talk.wire
        try:
            while True:
                message = await asyncio.wait_for(wire.receive(), self.silence_s)
                if message != BEAT:
                    self.deliver(Mail(peer, wire.address, message))
        except WireError as error:
            reason = str(error)
        except asyncio.TimeoutError:
            reason = f"nothing heard for {self.silence_s:g} s (launch.peer_timeout_s)"
        finally:
            talk.stop()
            self._talks.pop(peer, None)
        self.deliver(Mail(peer, wire.address, None, reason))
        await wire.close(CLOSE_S)


class DropLog:
    """Logs connections that were dropped: of many in a short time the first few, and then how many more."""

    def __init__(self) -> None:
        self._since_s = -LOG_WINDOW_S
        self._lines = self._untold = 0

    def add(self, address: str, port: int, reason: str) -> None:
        """Log one, or count it."""
        if (now_s := time.monotonic()) - self._since_s >= LOG_WINDOW_S:
            self.tell_rest()
            self._since_s, self._lines = now_s, 0
        self._lines += 1
        if self._lines > LOG_LINES:
            self._untold += 1
        else:
            log.warning("connection from %s port %s dropped: %s", address, port, reason)

    def tell_rest(self) -> None:
        """Log how many were only counted."""
        if self._untold:
            log.warning("%d more connections were dropped", self._untold)
        self._untold = 0


class Hub(Transport):
    """The master's side: listens on one address and talks to every member."""

    def __init__(self, address: str, port: int, secret: bytes, deliver: Callable[[Mail], None]) -> None:
        """Listen. Raises ConfigError when the port cannot be had."""
        super().__init__(secret, deliver)
        self._strangers = Counter[str]()  # address -> connections that have not proved the secret yet
        self._dropped = DropLog()
        self._meetings: set[asyncio.Task[None]] = set()
        self._server: asyncio.AbstractServer | None = None
        try:
            self._server = self.call(self._listen(address, port))
        except OSError as error:
            self.close()
            reason = "already in use" if error.errno == errno.EADDRINUSE else error.strerror or error
            raise ConfigError(
                f"--master-port {port}: {reason} on {address}; choose another, the same on all hosts"
            ) from None

    async def _listen(self, address: str, port: int) -> asyncio.AbstractServer:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.create_server((address, port), family=family)
        server = await asyncio.start_server(self._accept, sock=listener, backlog=ACCEPTED_AT_ONCE)
        listener.listen(MAX_WAITING)  # asyncio accepts as many in one go as it is told may wait, before it drops one
        return server

    def stop_listening(self) -> None:
        """Take no further connections."""
        self._loop.call_soon_threadsafe(self._shut)

    def _shut(self) -> None:
        if self._server is not None:
            self._server.close()
        self._dropped.tell_rest()

    async def _close(self) -> None:
        self._shut()
        await super()._close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._meet(reader, writer))
        self._meetings.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._meetings.discard)

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address, port = (writer.get_extra_info("peername") or ("?", 0))[:2]
        if (reason := self._crowd(address)) is None:
            self._strangers[address] += 1
            try:
                wire = await asyncio.wait_for(greet_as_master(reader, writer, self._secret), GREETING_S)
            except asyncio.TimeoutError:  # before OSError, which it is as well
                reason = f"did not prove the job's secret within {GREETING_S:g} s"
            except (WireError, OSError) as error:
                reason = str(error)
            finally:
                self._strangers -= Counter([address])
        if reason is not None:
            self._dropped.add(address, port, reason)
            writer.transport.abort()
            return
        await self._admit(wire)

    def _crowd(self, address: str) -> str | None:
        """Say who is in the way of a new connection from an address; it is dropped then, and one of ours tries again."""
        if (here := self._strangers[address]) >= MAX_OF_ADDRESS:
            return f"{here} others from there have not proved the job's secret yet"
        total = self._strangers.total()
        return f"{total} others have not proved the job's secret yet" if total >= MAX_STRANGERS else None


class Line(Transport):
    """A member's side: one connection, to the master."""

    MASTER = 1  # the number of the only peer

    def connect(self, addresses: Sequence[str], port: int, limit_s: float) -> str:
        """Connect to one of the master's addresses, trying again until it listens; returns this host's address then.

        Raises JobError when nobody answers in time, and ConfigError when who answers has another secret.
        """
        wire: Wire = self.call(self._connect(addresses, port, limit_s))
        return wire.own_address

    async def _connect(self, addresses: Sequence[str], port: int, limit_s: float) -> Wire:
        end_s = self._loop.time() + limit_s
        while True:
            failures: list[str] = []
            refusals: list[str] = []
            for address in addresses:
                try:
                    wire = await asyncio.wait_for(self._greet(address, port), GREETING_S)
                except WireError as error:
                    (refusals if error.is_refused else failures).append(f"{at(address, port)}: the master {error}")
                except asyncio.TimeoutError:
                    failures.append(f"{at(address, port)}: no answer")
                except OSError as error:
                    failures.append(f"{at(address, port)}: {error.strerror or error}")
                else:
                    self._talk = self._loop.create_task(self._admit(wire))
                    return wire
            if not failures:  # else the master may yet come at one of those, and somebody else is at the others
                raise ConfigError(refusals[0])
            if self._loop.time() > end_s:
                reasons = "; ".join(failures + refusals)
                raise JobError(f"the launcher of node 0 did not come within {limit_s:g} s: {reasons}")
            await asyncio.sleep(random.uniform(*RETRY_S))

    async def _greet(self, address: str, port: int) -> Wire:
        reader, writer = await asyncio.open_connection(address, port)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            return await greet_as_member(reader, writer, self._secret)
        except BaseException:
            writer.transport.abort()
            raise


def at(address: str, port: int) -> str:
    """Return how messages call a port of a host."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"

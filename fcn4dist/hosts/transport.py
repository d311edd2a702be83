"""The connections between launchers, in one thread: who says what goes to one callback, heartbeats stay in here."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from fcn4dist.errors import ConfigError, JobError
from fcn4dist.hosts.wire import (
    MAX_LINE_BYTES,
    Message,
    Wire,
    WireError,
    greet_as_master,
    greet_as_member,
)

log = logging.getLogger(__name__)
BEAT_S = 1.0
SILENCE_S = 10.0  # a host that vanishes without closing its connection is given up after this
GREETING_S = 5.0  # for a stranger to prove the secret
MAX_STRANGERS = 32  # connections at once that have not proved it yet
BEAT: Message = {"type": "beat"}


@dataclass(frozen=True)
class Mail:
    """A message of a peer, or the end of its connection."""

    peer: int  # number of the connection
    address: str
    message: Message | None  # None: the connection is gone
    reason: str = ""  # why it is gone
    received_at: float = field(default_factory=time.time)  # by this host's clock


class Transport:
    """A thread with an event loop; `deliver` is called in that thread for each mail."""

    def __init__(self, secret: bytes, deliver: Callable[[Mail], None]) -> None:
        self.deliver = deliver
        self._secret = secret
        self._loop = asyncio.new_event_loop()
        self._wires: dict[int, Wire] = {}
        self._numbers = 0
        self._thread = threading.Thread(target=self._loop.run_forever, name="launchers", daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, Any], limit_s: float | None = None) -> Any:
        """Run a coroutine in the thread and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(limit_s)

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Call something in the thread after a while."""
        self._loop.call_soon_threadsafe(self._loop.call_later, delay_s, call)

    def send(self, peer: int, message: Message) -> None:
        """Send to one peer; nothing happens when it is gone."""
        self._loop.call_soon_threadsafe(self._send, peer, message)

    def _send(self, peer: int, message: Message) -> None:
        if peer in self._wires:
            self._wires[peer].send(message)

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
        wires, self._wires = list(self._wires.values()), {}
        await asyncio.gather(*(wire.close() for wire in wires))
        mine = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not mine]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _admit(self, wire: Wire) -> int:
        self._numbers += 1
        self._wires[self._numbers] = wire
        return self._numbers

    async def _converse(self, peer: int, wire: Wire) -> None:
        """Deliver what a peer says until it is gone or silent for too long."""
        beats = asyncio.create_task(self._beat(wire))
        try:
            while True:
                message = await asyncio.wait_for(wire.receive(), SILENCE_S)
                if message != BEAT:
                    self.deliver(Mail(peer, wire.address, message))
        except WireError as error:
            reason = str(error)
        except asyncio.TimeoutError:
            reason = f"nothing heard for {SILENCE_S:g} s"
        finally:
            beats.cancel()
            self._wires.pop(peer, None)
        self.deliver(Mail(peer, wire.address, None, reason))
        await wire.close()

    @staticmethod
    async def _beat(wire: Wire) -> None:
        while True:
            wire.send(BEAT)
            await asyncio.sleep(BEAT_S)


class Hub(Transport):
    """The master's side: listens on one address and talks to every member."""

    def __init__(self, address: str, port: int, secret: bytes, deliver: Callable[[Mail], None]) -> None:
        """Listen. Raises ConfigError when the port cannot be had."""
        super().__init__(secret, deliver)
        self._num_strangers = 0
        self._meetings: set[asyncio.Task[None]] = set()
        try:
            self._server = self.call(self._listen(address, port))
        except OSError as error:
            self.close()
            reason = "already in use" if error.errno == 98 else error.strerror or error
            raise ConfigError(
                f"--master-port {port}: {reason} on {address}; choose another, the same on all hosts"
            ) from None

    async def _listen(self, address: str, port: int) -> asyncio.AbstractServer:
        return await asyncio.start_server(self._accept, address, port, limit=MAX_LINE_BYTES, backlog=1024)

    def stop_listening(self) -> None:
        """Take no further connections."""
        self._loop.call_soon_threadsafe(self._server.close)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._meet(reader, writer))
        self._meetings.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._meetings.discard)

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = writer.get_extra_info("peername")
        if self._num_strangers >= MAX_STRANGERS:
            log.warning("connection from %s dropped: %d others are being checked", address, MAX_STRANGERS)
            writer.transport.abort()
            return
        self._num_strangers += 1
        try:
            wire = await asyncio.wait_for(greet_as_master(reader, writer, self._secret), GREETING_S)
        except (WireError, asyncio.TimeoutError, OSError) as error:
            reason = str(error) or f"did not prove the job's secret within {GREETING_S:g} s"
            log.warning("connection from %s port %s dropped: %s", *(address or ("?", "?"))[:2], reason)
            writer.transport.abort()
            return
        finally:
            self._num_strangers -= 1
        await self._converse(self._admit(wire), wire)


class Line(Transport):
    """A member's side: one connection, to the master."""

    MASTER = 1  # the number of the only peer

    def connect(self, address: str, port: int, limit_s: float) -> str:
        """Connect, trying again until the master listens; returns this host's address on that connection.

        Raises JobError when nobody answers in time, and ConfigError when who answers has another secret.
        """
        wire: Wire = self.call(self._connect(address, port, limit_s))
        self._admit(wire)
        self._talk = asyncio.run_coroutine_threadsafe(self._converse(self.MASTER, wire), self._loop)
        return wire.own_address

    async def _connect(self, address: str, port: int, limit_s: float) -> Wire:
        end_s = self._loop.time() + limit_s
        reason = "nobody answers"
        while True:
            try:
                return await asyncio.wait_for(self._greet(address, port), GREETING_S)
            except WireError as error:
                if error.is_refused:
                    raise ConfigError(f"{address}:{port}: the master {error}") from None
                reason = str(error)
            except asyncio.TimeoutError:
                reason = "no answer"
            except OSError as error:
                reason = error.strerror or str(error)
            if self._loop.time() > end_s:
                raise JobError(f"{address}:{port}: the launcher of node 0 did not come within {limit_s:g} s: {reason}")
            await asyncio.sleep(0.3)

    async def _greet(self, address: str, port: int) -> Wire:
        reader, writer = await asyncio.open_connection(address, port, limit=MAX_LINE_BYTES)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            return await greet_as_member(reader, writer, self._secret)
        except BaseException:
            writer.transport.abort()
            raise

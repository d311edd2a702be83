"""What goes over a connection between launchers: a handshake that proves the secret, then signed JSON lines.

Both sides send a random nonce and prove the secret by an HMAC over both; neither sends the secret itself. Every line then
carries an HMAC under a key of that connection, with its direction and number, so none can be changed, repeated or added.
Nothing is encrypted: the lines hold names, addresses, the config and the end of tracebacks.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import stat
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, Literal

from fcn4dist.errors import ConfigError

MAGIC = b"fcn4dist launch 1\n"
NONCE_BYTES = 32
PROOF_BYTES = 32
REFUSAL = b"another job secret".ljust(PROOF_BYTES)  # what a master says in place of its proof
MAX_LINE_BYTES = 4 << 20  # a rank table of 16,384 devices has 2 MB
MIN_SECRET = 16  # characters
SECRET = "FCN4DIST_JOB_SECRET"
HOW_TO = "make one with: head -c 32 /dev/urandom | base64 > job.secret; chmod 600 job.secret; the same on all hosts"
Side = Literal["master", "member"]
Message = dict[str, Any]


class WireError(Exception):
    """The other side is not one of ours, does not know the secret, or went away; `is_refused`: the secret differs."""

    def __init__(self, reason: str, *, is_refused: bool = False) -> None:
        super().__init__(reason)
        self.is_refused = is_refused


def load_secret(file: Path | None, environ: MutableMapping[str, str]) -> bytes:
    """Return the job's secret from --job-secret-file or FCN4DIST_JOB_SECRET; raises ConfigError.

    The variable is taken out of `environ`, so that no program that is started later inherits it.
    """
    variable = environ.pop(SECRET, "").strip()
    if file is not None:
        where = f"--job-secret-file {file}"
        try:
            secret = file.read_text(encoding="utf-8").strip()
            mode = stat.S_IMODE(file.stat().st_mode)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(f"{where}: cannot be read: {reason}; {HOW_TO}") from None
        if mode & 0o077:
            raise ConfigError(f"{where}: mode {mode:04o}, so others can read it; expected 0600: chmod 600 {file}")
    else:
        where, secret = SECRET, variable
        if not secret:
            raise ConfigError(f"a job over several hosts needs a secret: --job-secret-file FILE or {SECRET}; {HOW_TO}")
    if len(secret) < MIN_SECRET:
        raise ConfigError(f"{where}: {len(secret)} characters; expected at least {MIN_SECRET}; {HOW_TO}")
    return secret.encode()


class Wire:
    """One connection whose other side has proved the secret."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: bytes, side: Side, address: str
    ) -> None:
        self._reader, self._writer, self._key = reader, writer, key
        self._side: Side = side
        self._sent = self._received = 0
        self.address = address  # of the other side

    @property
    def own_address(self) -> str:
        """This side's address on the connection: the one that routes to the other."""
        return str(self._writer.get_extra_info("sockname")[0])

    def send(self, message: Message) -> None:
        """Send a message; a connection that is gone takes it silently, since `receive` tells."""
        self.send_text(format_message(message))

    def send_text(self, text: bytes) -> None:
        """Send what `format_message` returned."""
        self._writer.write(self._sign(self._side, self._sent, text) + b" " + text + b"\n")
        self._sent += 1

    async def drain(self) -> None:
        """Wait until the other side has taken most of what was sent; returns at once when it is gone."""
        with contextlib.suppress(OSError):
            await self._writer.drain()

    async def receive(self) -> Message:
        """Return the next message; raises WireError when there is none that is whole, signed and in turn."""
        try:
            line = await self._read_line()
        except (asyncio.IncompleteReadError, OSError):
            raise WireError("the connection was closed") from None
        proof, _, text = line[:-1].partition(b" ")
        other: Side = "member" if self._side == "master" else "master"
        if not hmac.compare_digest(proof, self._sign(other, self._received, text)):
            raise WireError("a line with a wrong signature")
        self._received += 1
        try:
            message = json.loads(text)
        except ValueError:
            raise WireError("a line that is not JSON") from None
        if not isinstance(message, dict):
            raise WireError("a line that is not a JSON object")
        return message

    async def _read_line(self) -> bytes:
        """Read in pieces of asyncio's 64 KB: with a larger limit for all, strangers could fill memory before their proof."""
        pieces = bytearray()
        while len(pieces) <= MAX_LINE_BYTES:
            try:
                pieces += await self._reader.readuntil(b"\n")
            except asyncio.LimitOverrunError as found:
                pieces += await self._reader.readexactly(found.consumed)
            else:
                if len(pieces) <= MAX_LINE_BYTES:
                    return bytes(pieces)
        raise WireError(f"a line of more than {MAX_LINE_BYTES} bytes")

    def _sign(self, side: Side, number: int, text: bytes) -> bytes:
        return _proof(self._key, side.encode(), str(number).encode(), text).hex().encode()

    async def close(self, limit_s: float = 1.0) -> None:
        """Send what is queued and close."""
        try:
            await asyncio.wait_for(self._writer.drain(), limit_s)
            self._writer.close()
            await asyncio.wait_for(self._writer.wait_closed(), limit_s)
        except (OSError, asyncio.TimeoutError):
            self._writer.transport.abort()


def format_message(message: Message) -> bytes:
    """Return a message as it goes over any connection, without its signature."""
    return json.dumps(message, separators=(",", ":")).encode()


def _proof(key: bytes, *parts: bytes) -> bytes:
    text = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    return hmac.new(key, text, hashlib.sha256).digest()


async def _exactly(reader: asyncio.StreamReader, count: int, what: str) -> bytes:
    try:
        return await reader.readexactly(count)
    except (asyncio.IncompleteReadError, OSError):
        raise WireError(f"closed the connection before {what}") from None


async def greet_as_master(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, secret: bytes) -> Wire:
    """Let a member prove the secret, and prove it in turn; raises WireError."""
    own = os.urandom(NONCE_BYTES)
    writer.write(MAGIC + own)
    answer = await _exactly(reader, NONCE_BYTES + PROOF_BYTES, "proving the secret")
    other, proof = answer[:NONCE_BYTES], answer[NONCE_BYTES:]
    if not hmac.compare_digest(proof, _proof(secret, b"member", own, other)):
        writer.write(REFUSAL)  # a connection that only closes may have met a master that was busy or ended
        raise WireError("did not prove the job's secret", is_refused=True)
    writer.write(_proof(secret, b"master", own, other))
    return Wire(reader, writer, _proof(secret, b"session", own, other), "master", _peer(writer))


async def greet_as_member(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, secret: bytes) -> Wire:
    """Prove the secret to the master, and have it proved; raises WireError."""
    greeting = await _exactly(reader, len(MAGIC) + NONCE_BYTES, "greeting")
    if not greeting.startswith(MAGIC):
        raise WireError("is no fcn4dist launcher of this version", is_refused=True)
    other, own = greeting[len(MAGIC) :], os.urandom(NONCE_BYTES)
    writer.write(own + _proof(secret, b"member", other, own))
    answer = await _exactly(reader, PROOF_BYTES, "proving the secret")
    if answer == REFUSAL:
        raise WireError("did not take this host's proof of the secret: another job secret there?", is_refused=True)
    if not hmac.compare_digest(answer, _proof(secret, b"master", other, own)):
        raise WireError("did not prove the job's secret", is_refused=True)
    return Wire(reader, writer, _proof(secret, b"session", other, own), "member", _peer(writer))


def _peer(writer: asyncio.StreamWriter) -> str:
    found = writer.get_extra_info("peername")
    return str(found[0]) if found else "?"

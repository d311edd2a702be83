from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fcn4dist.errors import ConfigError
from fcn4dist.hosts.wire import (
    MAX_LINE_BYTES,
    Wire,
    WireError,
    greet_as_master,
    greet_as_member,
    load_secret,
)

SECRET = b"sixteen characters"
Script = Callable[[Wire, Wire, list[bytes]], Awaitable[None]]

PIECES_BYTES = 1 << 18  # several of the pieces of 64 KB that a line is read in


def converse(script: Script) -> list[bytes]:
    """Run `script(master, member, sent)`; `sent` is all that the member wrote."""
    sent: list[bytes] = []

    async def run() -> None:
        wires: asyncio.Queue[Wire] = asyncio.Queue()

        async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await wires.put(await greet_as_master(reader, writer, SECRET))

        async with await asyncio.start_server(meet, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            write = writer.write
            writer.write = lambda data: (sent.append(bytes(data)), write(data))[1]  # type: ignore[method-assign]
            member = await greet_as_member(reader, writer, SECRET)
            master = await wires.get()
            try:
                await asyncio.wait_for(script(master, member, sent), 10)
            finally:
                await member.close()
                await master.close()

    asyncio.run(run())
    return sent


def test_messages_arrive_in_order_both_ways_and_the_secret_is_never_sent() -> None:
    async def script(master: Wire, member: Wire, sent: list[bytes]) -> None:
        for number in range(3):
            member.send({"number": number})
            master.send({"number": -number})
        assert [await master.receive() for _ in range(3)] == [{"number": 0}, {"number": 1}, {"number": 2}]
        assert [await member.receive() for _ in range(3)] == [{"number": 0}, {"number": -1}, {"number": -2}]
        assert member.own_address == "127.0.0.1"

    assert SECRET not in b"".join(converse(script))


@pytest.mark.parametrize("attack", ["repeated", "changed", "reflected", "unsigned"])
def test_lines_that_were_tampered_with_end_the_connection(attack: str) -> None:
    async def script(master: Wire, member: Wire, sent: list[bytes]) -> None:
        member.send({"say": "yes"})
        assert await master.receive() == {"say": "yes"}
        line = sent[-1]
        forged = {
            "repeated": line,
            "changed": line.replace(b"yes", b"nay"),
            "unsigned": b'{"say":"yes"}\n',
            "reflected": line,
        }[attack]
        if attack == "reflected":  # the member's own first line comes back to it
            master._writer.write(forged)
            with pytest.raises(WireError, match="wrong signature"):
                await member.receive()
            return
        member._writer.write(forged)
        with pytest.raises(WireError, match="wrong signature"):
            await master.receive()

    converse(script)


def test_a_line_that_is_too_long_ends_the_connection() -> None:
    async def script(master: Wire, member: Wire, sent: list[bytes]) -> None:
        member._writer.write(b"x" * (MAX_LINE_BYTES + PIECES_BYTES))  # its end is never written
        with pytest.raises(WireError, match="a line of more than 4194304 bytes"):
            await master.receive()

    converse(script)


def test_a_line_that_is_too_long_by_a_little_is_not_taken_either() -> None:
    async def script(master: Wire, member: Wire, sent: list[bytes]) -> None:
        member._writer.write(b"x" * (MAX_LINE_BYTES + 2) + b"\n")
        with pytest.raises(WireError, match="a line of more than 4194304 bytes"):
            await master.receive()

    converse(script)


def test_a_closed_connection_is_an_error() -> None:
    async def script(master: Wire, member: Wire, sent: list[bytes]) -> None:
        await member.close()
        with pytest.raises(WireError, match="the connection was closed"):
            await master.receive()

    converse(script)


def test_a_secret_comes_from_the_file_or_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "job.secret"
    file.write_text("from the file, long enough\n")
    file.chmod(0o600)
    environ = {"FCN4DIST_JOB_SECRET": "from the environment"}
    assert load_secret(file, dict(environ)) == b"from the file, long enough"
    assert load_secret(None, dict(environ)) == b"from the environment"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_secret_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "job.secret"
    file.write_text("from the file, long enough\n")
    file.chmod(mode)
    with pytest.raises(ConfigError, match=rf"job.secret: mode {mode:04o}, so others can read it; .*: chmod 600 /"):
        load_secret(file, {})


@pytest.mark.parametrize("is_in_file", [False, True])
def test_programs_that_the_launcher_starts_do_not_inherit_the_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_in_file: bool
) -> None:
    """As npu-smi, dmesg and the report are started: with the launcher's own environment."""
    monkeypatch.setenv("FCN4DIST_JOB_SECRET", "from the environment")
    file = tmp_path / "job.secret"
    file.write_text("from the file, long enough\n")
    file.chmod(0o600)
    assert b"from the" in load_secret(file if is_in_file else None, os.environ)
    variables = subprocess.run(["env"], capture_output=True, text=True, check=True).stdout
    assert "PATH=" in variables
    assert "FCN4DIST_JOB_SECRET" not in variables


@pytest.mark.parametrize(
    ("text", "environ", "message"),
    [
        (None, {}, r"--job-secret-file FILE or FCN4DIST_JOB_SECRET; make one with: head -c 32"),
        (None, {"FCN4DIST_JOB_SECRET": "short"}, r"FCN4DIST_JOB_SECRET: 5 characters; expected at least 16"),
        ("", {}, r"--job-secret-file .*: 0 characters"),
        ("missing", {}, r"--job-secret-file .*: cannot be read: No such file"),
    ],
)
def test_secrets_that_are_missing_or_too_short(
    tmp_path: Path, text: str | None, environ: dict[str, str], message: str
) -> None:
    file = None if text is None else tmp_path / "job.secret"
    if file is not None and text != "missing":
        file.write_text(text or "")
        file.chmod(0o600)
    with pytest.raises(ConfigError, match=message):
        load_secret(file, environ)

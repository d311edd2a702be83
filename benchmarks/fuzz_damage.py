"""Ways to damage a file: its bytes, its lines, its fields and values, its encoding, and what stands in its place."""

from __future__ import annotations

import os
import random
import re
import threading
from collections.abc import Callable
from pathlib import Path

Damage = Callable[[random.Random, bytes], bytes]

BOMB = b"a: &a [z,z,z,z,z,z,z,z,z]\n" + b"".join(
    b"%c: &%c [%s]\n" % (name, name, b",".join([b"*%c" % (name - 1)] * 9)) for name in b"bcdefghi"
)  # nine lists of nine times the one before: 387 million texts once somebody writes it out
NASTY = (
    b"", b"NaN", b"-Infinity", b".inf", b"1e400", b"1e-400", b"-1", b"0", b"-0.0", b"1_000", b"0x1F",
    b"2147483648", b"18446744073709551616",
    b"9" * 400, b"9" * 5000, b"0x" + b"f" * 5000, b"null", b"~", b"true", b"[]", b"{}", b"[[]]",
    b'{"a": 1, "a": 2}', b'"', b"'", b'""', b"\\", b"#", b"*", b"&a",
    b"&a [*a]", b"*a", b"<<: *a", b"!!binary x", b"!!set {a}", b"!!timestamp 1", b"!!float x", b"? [a]: b",
    b"2021-02-31", b"12:30:45",
    b"!!python/object/apply:os.mkdir [was-here]", b"__import__('os').mkdir('was-here')", b"../../etc/passwd",
    b"/etc/passwd", b"{id.__class__}", b"{0}", b"%s",
    b"[" * 3000, b"[" * 100_000, b'{"a":' * 1000 + b"1" + b"}" * 1000, b"- " * 3000, b"x" * 200_000,
    b" " * 100_000, b"\n" * 10_000,
    b"\0", b"\x1b[2J", b"\x07", b"\r", b"\x85", b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"\xff\xfe", b"\xc0\x80",
    b"\xed\xa0\x80", b'"\\ud800"', b'"\\u0000"',
    "naïve".encode(), "e\u0301\u202e\U0001f3b5".encode(), b"\t", b",", b";", b"|", b": ", b"- ", BOMB,
)  # fmt: skip
VALUE = re.compile(rb'"[^"\n]*"|[^\s,;:\[\]{}"]+')
BREAKS = re.compile(rb"[\t,;:= ]")


def _place(rng: random.Random, data: bytes) -> int:
    return rng.randrange(len(data) + 1)


def _truncate(rng: random.Random, data: bytes) -> bytes:
    return data[: _place(rng, data)]


def _behead(rng: random.Random, data: bytes) -> bytes:
    return data[_place(rng, data) :]


def _flip(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64)) if data else 0):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _insert(rng: random.Random, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + rng.choice((rng.randbytes(rng.randrange(1, 40)), rng.choice(NASTY))) + data[at:]


def _overwrite(rng: random.Random, data: bytes) -> bytes:
    at, size = _place(rng, data), rng.choice((1, 2, 4, 8, 100))
    new = rng.choice((bytes(size), b"\xff" * size, b"\x7f" + b"\xff" * (size - 1), rng.randbytes(size)))
    return data[:at] + new + data[at + size :]


def _remove(rng: random.Random, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + data[at + rng.choice((1, 2, 7, 300)) :]


def _repeat(rng: random.Random, data: bytes) -> bytes:
    first, last = sorted((_place(rng, data), _place(rng, data)))
    return data[:last] + data[first:last] * rng.choice((1, 1, 2, 9)) + data[last:]


def _on_lines(change: Callable[[random.Random, list[bytes]], object]) -> Damage:
    def damage(rng: random.Random, data: bytes) -> bytes:
        lines = data.splitlines(keepends=True) or [b""]
        change(rng, lines)
        return b"".join(lines)

    return damage


def _swap_lines(rng: random.Random, lines: list[bytes]) -> None:
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[i], lines[j] = lines[j], lines[i]


def _swap_fields(rng: random.Random, lines: list[bytes]) -> None:
    i = rng.randrange(len(lines))
    if breaks := sorted(set(BREAKS.findall(lines[i]))):
        at = rng.choice(breaks)
        fields = lines[i].split(at)
        j, k = rng.randrange(len(fields)), rng.randrange(len(fields))
        fields[j], fields[k] = fields[k], fields[j]
        lines[i] = at.join(fields)


def _change_value(rng: random.Random, data: bytes) -> bytes:
    """Put another value, a nasty one or one of the file's own, in the place of one."""
    values = list(VALUE.finditer(data[: 1 << 20]))
    if not values:
        return rng.choice(NASTY)
    found, other = rng.choice(values), rng.choice(values)[0]
    new = other if rng.random() < 0.3 else rng.choice(NASTY)
    if found[0].startswith(b'"') and rng.random() < 0.5:
        new = b'"%s"' % new.strip(b'"')
    return data[: found.start()] + new + data[found.end() :]


def _as_utf16(rng: random.Random, data: bytes) -> bytes:
    return data.decode("latin1").encode(rng.choice(("utf-16", "utf-16-be", "utf-16-le", "utf-32", "utf-7")))


DAMAGES: dict[str, tuple[int, Damage]] = {  # name -> (how often, what)
    "truncated": (3, _truncate),
    "beginning lost": (1, _behead),
    "bits flipped": (5, _flip),
    "bytes inserted": (3, _insert),
    "bytes overwritten": (4, _overwrite),
    "bytes removed": (3, _remove),
    "bytes repeated": (2, _repeat),
    "lines swapped": (2, _on_lines(_swap_lines)),
    "line dropped": (2, _on_lines(lambda rng, lines: lines.pop(rng.randrange(len(lines))))),
    "line doubled": (2, _on_lines(lambda rng, lines: lines.append(rng.choice(lines)))),
    "fields swapped": (3, _on_lines(_swap_fields)),
    "value changed": (12, _change_value),
    "UTF-16": (1, _as_utf16),
    "byte order mark": (1, lambda _, data: b"\xef\xbb\xbf" + data),
    "other line ends": (1, lambda rng, data: data.replace(b"\n", rng.choice((b"\r\n", b"\r", b"\n\n", b"\v", b"\0")))),
    "spaces for tabs": (1, lambda rng, data: data.replace(b"\t", rng.choice((b" ", b"    ")))),
    "zeros": (1, lambda _, data: bytes(len(data))),
    "another file": (
        1,
        lambda rng, _: rng.choice((rng.randbytes(300), b"\x1f\x8b\x08" + rng.randbytes(99), BOMB + b"train: *i\n")),
    ),
}
STAND_INS = ("a folder", "nothing", "a link to itself", "a pipe", "an empty file")
SHARE_OF_STAND_INS = 0.01


def damage(rng: random.Random, data: bytes) -> tuple[str, bytes | None]:
    """Return what was done and the damaged content; None: something else stands in the file's place (`put_in_place`)."""
    if rng.random() < SHARE_OF_STAND_INS:
        return rng.choice(STAND_INS), None
    names = rng.choices(list(DAMAGES), [weight for weight, _ in DAMAGES.values()], k=rng.choice((1, 1, 1, 2, 3)))
    for name in names:
        data = DAMAGES[name][1](rng, data)
    return ", ".join(names), data


def put_in_place(what: str, file: Path, content: bytes) -> threading.Thread | None:
    """Put one of STAND_INS at `file`; a pipe gets its content from the thread, which `release` ends."""
    file.unlink()
    if what == "a folder":
        file.mkdir()
    elif what == "a link to itself":
        file.symlink_to(file.name)
    elif what == "an empty file":
        file.touch()
    elif what == "a pipe":
        os.mkfifo(file)
        writer = threading.Thread(target=_write_into, args=(file, content), daemon=True)
        writer.start()
        return writer
    return None


def _write_into(pipe: Path, content: bytes) -> None:
    try:
        with pipe.open("wb") as opened:
            opened.write(content)
    except BrokenPipeError:  # nobody read to the end
        pass


def release(pipe: Path, writer: threading.Thread) -> None:
    """End the writer of a pipe that nobody opened."""
    while writer.is_alive():
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        writer.join(0.01)
        os.close(reader)
        writer.join(0.01)

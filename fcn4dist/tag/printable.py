"""Names from files and tags on a terminal or in a picture: whatever they hold, one short line of text."""

from __future__ import annotations


def printable(name: str, limit: int = 200) -> str:
    """Return `name` with what cannot be printed escaped (newlines, control sequences, broken UTF-8), cut to `limit`."""
    cut = name if len(name) <= limit else name[: limit - 1] + "…"
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in cut)

"""Names that users chose (tags, splits, paths), made fit for one line of a terminal or a picture."""

from __future__ import annotations


def shorten_name(name: str, width: int) -> str:
    """Return at most `width` characters of a name; what is not printable (newlines, escape sequences) becomes a question mark."""
    clean = "".join(letter if letter.isprintable() else "?" for letter in name[: width + 1])
    return clean if len(clean) <= width else f"{clean[: width - 1]}…"

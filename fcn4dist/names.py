"""Names that users chose (tags, splits, paths), made fit for one line of a terminal or a picture."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator


def shorten_name(name: str, width: int) -> str:
    """Return at most `width` characters of a name; what is not printable (newlines, escape sequences) becomes a question mark."""
    clean = "".join(letter if letter.isprintable() else "?" for letter in name[: width + 1])
    return clean if len(clean) <= width else f"{clean[: width - 1]}…"


@contextlib.contextmanager
def missing_letters_allowed() -> Iterator[None]:
    """Draw names in a script that Matplotlib's font does not have as empty boxes, without a warning for each letter."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from|Matplotlib currently does not support")
        yield

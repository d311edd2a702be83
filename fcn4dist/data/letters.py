"""Letters of users' names in pictures."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def missing_letters_allowed() -> Iterator[None]:
    """Draw names in a script that Matplotlib's font does not have as empty boxes, without a warning for each letter."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from|Matplotlib currently does not support")
        yield

"""A pickle read as data: lists, dicts, texts, numbers and NumPy arrays; any that would run code is refused."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from fcn4dist.errors import DataError, quoted

HARMLESS = {  # what a pickle of lists, dicts, texts and arrays needs
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),  # as NumPy 2 writes it
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


class _DataUnpickler(pickle.Unpickler):
    """Reads data and nothing else: a pickle names the functions that it calls, and any other is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in HARMLESS:
            raise DataError(f"names {quoted(f'{module}.{name}')}: a pickle that would run code (refused)")
        return super().find_class(module, name)


def load_pickle(file: Path) -> Any:
    """Read a pickle of Python 2 that holds lists, dicts, texts, numbers and NumPy arrays. Raises DataError for any other."""
    try:
        with file.open("rb") as stream:
            return _DataUnpickler(stream, encoding="latin1").load()
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from None
    except DataError as error:
        raise DataError(f"{file}: {error}") from None
    except Exception as error:  # a damaged pickle may raise anything
        raise DataError(f"{file}: damaged, or no pickle: {type(error).__name__} {error}") from None

"""The errors that fcn4dist raises on purpose; each class carries the exit code of the command that meets it.

    Fcn4distError            1  the job or a check failed
    ├── UserError            2  the user's input is wrong
    │   ├── ConfigError         a config file, --set or an option
    │   ├── DataError           audio, annotations, shards, a prepared data set
    │   ├── CheckpointError     a checkpoint that is damaged or does not fit
    │   ├── DeviceError         a device target that is not there
    │   └── RankTableError      a rank table that cannot be read, merged or built
    ├── JobError             1  a process of the job failed
    └── Interrupted      128+n  ended by signal n

A message says where, what was found and what was expected. The command line prints it alone, without a traceback;
`cli/main.py` is the one place that catches.
"""

import shlex
import sys


def pip_install(*extras: str) -> str:
    """Return the command that adds extras to this Python's fcn4dist, whether it came from a wheel, a clone or pipx.

    It names an installed package, so pip takes its extras from there and asks no index for fcn4dist itself.
    """
    return f"{shlex.quote(sys.executable or 'python3')} -m pip install 'fcn4dist[{','.join(extras)}]'"


NO_MINDSPORE = (
    f"MindSpore is not installed for this Python; expected: {pip_install('train')} on a CPU, 'fcn4dist[train,ascend]' on Ascend, "
    "with the MindSpore that fits its CANN (fcn4dist doctor tells which)"
)


def quoted(name: str, limit: int = 80) -> str:
    """Return a name from the user's files for a message: in quotes, control characters escaped, its middle left out
    where it has more than `limit` characters."""
    shown = name if len(name) <= limit else f"{name[: limit // 2]}…{name[-limit // 4 :]}"
    return repr(shown)


def shorten_name(name: object, width: int = 80, *, keeps: str = "") -> str:
    """Return at most `width` characters of a name or a text, safe on a terminal, in a picture and on a page.

    What is not printable (newlines, control sequences, broken UTF-8) is escaped, but for what `keeps` has.
    """
    letters = str(name)[: width + 1]
    shown = "".join(c if c.isprintable() or c in keeps else ascii(c)[1:-1] for c in letters)
    return shown if len(shown) <= width else f"{shown[: width - 1]}…"


class Fcn4distError(Exception):
    """Base of all errors that a user is meant to read."""

    exit_code = 1


class UserError(Fcn4distError):
    """The input is wrong: an option, a config, data, a table or a checkpoint."""

    exit_code = 2


class ConfigError(UserError):
    """A config file, a `--set` or an option cannot be used."""


class DataError(UserError):
    """Audio, annotations or a prepared data set cannot be used."""


class CheckpointError(UserError):
    """A checkpoint is damaged, missing or does not fit the network."""


class DeviceError(UserError):
    """The device target is not there, or not as many devices as asked."""


class RankTableError(UserError):
    """A rank table cannot be read, merged or built."""


class JobError(Fcn4distError):
    """A process of the job failed."""


class Interrupted(Fcn4distError):
    """The command was ended by a signal."""

    def __init__(self, signal_number: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number

"""What the shell offers at <Tab>: commands and options come from click; keys, splits, runs and checkpoints from here.

Nothing is imported that does not have to be: a shell waits for the answer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class, split_arg_string

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_OFFERED = 100  # runs or checkpoints


def complete_override(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the keys of --set, section by section, and behind the sign the values that a key has to choose from."""
    from fcn4dist.config.keys import list_keys

    key, equals, value = incomplete.partition("=")
    keys = list_keys()
    if not equals:
        return [
            CompletionItem(f"{known.name}=", help=known.description) for known in keys if known.name.startswith(key)
        ]
    if key == "data.split":
        return _starting(f"{key}=", value, _splits())
    found = next((known for known in keys if known.name == key), None)
    return _starting(f"{key}=", value, found.choices if found is not None else ())


def complete_split(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the names of splits, as data.split has them."""
    return _starting("", incomplete, _splits())


def _splits() -> list[str]:
    from fcn4dist.config.split_name import RULES

    return [*RULES, "folds:", "file:", "official:"]


def _starting(before: str, begun: str, names: Iterable[str]) -> list[CompletionItem]:
    return [CompletionItem(before + name) for name in names if name.lower().startswith(begun.lower())]


class RunPath(click.Path):
    """The folder of a run."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Offer the runs at hand, the newest first; where there is none, folders."""
        return _offer(_runs_from(incomplete), incomplete) or [CompletionItem(incomplete, type="dir")]


class CheckpointPath(click.Path):
    """A checkpoint: of a run, or a file."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Offer the runs at hand; of a run that is named, its checkpoints; where there is neither, files."""
        from fcn4dist.run.groups import is_run

        begun = Path(incomplete)
        run = next((folder for folder in (begun, *begun.parents[:2]) if incomplete and is_run(folder)), None)
        runs = _runs_from(incomplete) if run is None else [run]
        steps = [] if run is None else sorted(run.glob("checkpoints/step-*"), reverse=True)
        return _offer([*runs, *steps], incomplete) or [CompletionItem(incomplete, type="file")]


def _runs_from(begun: str) -> list[Path]:
    """Return the runs below the folder that `begun` is in, without a name: below the working directory."""
    from fcn4dist.run.groups import find_newest_first

    folder = Path(begun) if begun.endswith("/") else Path(begun).parent
    if folder == Path():  # whatever else is there: no deep look
        found = find_newest_first(Path("runs")) + find_newest_first(folder, depth=1)
    else:
        found = find_newest_first(folder)
    return [run for run in found if str(run).startswith(begun)]


def _offer(paths: list[Path], begun: str) -> list[CompletionItem]:
    names = [str(path) for path in paths if str(path).startswith(begun)]
    return [CompletionItem(name) for name in names[:MOST_OFFERED]]


class BashWithSigns(BashComplete):
    """Bash cuts words at "=" and ":" (COMP_WORDBREAKS) and completes the last piece alone, so words are put together again.

    No space follows where a value is still to come.
    """

    source_template = BashComplete.source_template.replace(
        "COMPREPLY+=($value)", "COMPREPLY+=($value)\n            [[ $value == *[=:] ]] && compopt -o nospace"
    )

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the whole words before the cursor, and the one at it."""
        words = list(_join_signs(split_arg_string(os.environ["COMP_WORDS"])[: int(os.environ["COMP_CWORD"]) + 1]))
        is_new = len(split_arg_string(os.environ["COMP_WORDS"])) <= int(os.environ["COMP_CWORD"])
        if is_new and not (words and words[-1].endswith(("=", ":"))):
            words.append("")
        self._cut = max(words[-1].rfind(sign) for sign in "=:") + 1
        return words[1:-1], words[-1]

    def format_completion(self, item: CompletionItem) -> str:
        """Return one answer without what bash has already."""
        return f"{item.type},{item.value[self._cut :] if item.type == 'plain' else item.value}"


def _join_signs(words: Iterable[str]) -> Iterator[str]:
    joined: str | None = None
    for word in words:
        if joined is not None and (word in ("=", ":") or joined.endswith(("=", ":"))):
            joined += word
            continue
        if joined is not None:
            yield joined
        joined = word
    if joined is not None:
        yield joined


def install() -> None:
    """Let click use the class above for bash."""
    add_completion_class(BashWithSigns)

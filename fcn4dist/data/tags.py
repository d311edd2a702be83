"""The tags of a run: a file of them, the choice among those of the annotations, and synonyms merged before it.

A file of tags has one a line, in the order of the outputs: ours, or ModelZoo's tag.txt as it is. ModelZoo sorts its tags by
(share of clips, name) and takes the last 50, so its tag.txt, its labels and its network's outputs go from the rarest tag to the
most frequent. `data.tags: 50` goes the other way, as the literature does.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from fcn4dist.errors import DataError, quoted

if TYPE_CHECKING:
    from fcn4dist.data.annotations.tagged_clips import Annotations

_log = logging.getLogger(__name__)

YAML_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class SynonymGroup:
    """Names of one tag; the first is kept."""

    names: tuple[str, ...]
    line: int  # of the file, for messages


def load_tags(file: Path) -> list[str]:
    """Read the tags of a file, one a line; empty lines are left out.

    Raises DataError when the file cannot be read, is empty, or lists a tag twice.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise DataError(
            f"data.tags: {quoted(str(file))}: cannot read this list of tags, one a line: {reason}"
        ) from None
    tags = [tag for line in lines if (tag := line.strip())]
    if not tags:
        raise DataError(f"{file}: no tags; expected at least one")
    first: dict[str, int] = {}
    for i, tag in enumerate(tags):
        if first.setdefault(tag, i) != i:
            raise DataError(f"{file}: tag {quoted(tag)} is listed twice")
    return tags


def named_tags(choice: int | str | Sequence[str] | Path) -> list[str] | None:
    """Return the tags that data.tags names, in its order; None where it is a number or `all`. Raises DataError."""
    if isinstance(choice, int) or choice == "all":
        return None
    return load_tags(choice) if isinstance(choice, Path) else list(choice)


def describe_other_tags(choice: int | str | Sequence[str] | Path, tags: Sequence[str]) -> str | None:
    """Return in words what is wrong where data.tags, `choice`, cannot have given `tags`; None where it can. Raises DataError."""
    names = named_tags(choice)
    if names is None:
        return None if choice in ("all", len(tags)) else f"{len(tags)} tags"
    if names == list(tags):
        return None
    if sorted(names) == sorted(tags):
        place = next(place for place, tag in enumerate(tags) if names[place] != tag)
        return f"the same tags in another order: tag {place} is {quoted(tags[place])}"
    odd = next((tag for tag in names if tag not in tags), None)
    found = f"{len(tags)} tags, {quoted(odd)} not among them" if odd is not None else f"{len(tags)} tags"
    return found


def select_tags(annotations: Annotations, choice: int | str | Sequence[str] | Path) -> Annotations:
    """Return the annotations with the chosen tags only, in the order of the labels.

    `choice` is a number k (the k most frequent over all clips, counted by known positives; most frequent first, ties by the
    order of the source), "all" (the same order), a list of tags, or a file with one tag a line. Raises DataError for more tags
    than there are, an unknown or a repeated one.
    """
    known = annotations.tags
    if not known:
        raise DataError(f"{annotations.file}: no tag columns and no column `tags`; expected at least one tag")
    names = named_tags(choice)
    if names is not None:
        order = _find_tags(annotations, names, str(choice) if isinstance(choice, Path) else "data.tags")
    else:
        number = choice if isinstance(choice, int) else len(known)
        if not 0 < number <= len(known):
            raise DataError(
                f"data.tags: {number} tags asked, {annotations.file} has {len(known)}; use at most that many, or all"
            )
        positives = (annotations.labels == 1).sum(axis=0)
        order = (-positives).argsort(kind="stable")[:number].tolist()
    labels = annotations.labels[:, order].copy(order="C")
    return replace(annotations, tags=[known[i] for i in order], labels=labels)


def find_synonyms(file: Path, annotations: Annotations) -> Path:
    """Return the file as given, or the one beside the annotations. Raises DataError."""
    for candidate in (file, annotations.file.parent / file):
        if candidate.is_file():
            return candidate
    raise DataError(f"data.synonyms: no such file: {file} (neither as given nor beside {annotations.file})")


def load_synonyms(file: Path) -> list[SynonymGroup]:
    """Read groups of synonyms: a line a group, names separated by commas, `#` begins a comment; or a YAML list of lists.

    Raises DataError with file and line for a group of one name, an empty name, and a name that is listed twice.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"data.synonyms: {file}: cannot be read: {error}") from None
    groups = _parse_yaml(file, text) if file.suffix in YAML_SUFFIXES else _parse_lines(text)
    if not groups:
        raise DataError(f"{file}: no groups; expected a line a group such as: female, woman, women")
    seen: dict[str, int] = {}
    for group in groups:
        if "" in group.names:
            raise DataError(f"{file}:{group.line}: an empty name; expected names separated by single commas")
        if len(group.names) < 2:
            raise DataError(f"{file}:{group.line}: only {group.names[0]!r}; expected two names or more to merge")
        for name in group.names:
            if name in seen:
                raise DataError(f"{file}:{group.line}: {name!r} is also on line {seen[name]}; expected it once")
            seen[name] = group.line
    return groups


def merge_synonyms(
    annotations: Annotations, groups: Sequence[SynonymGroup], file: Path
) -> tuple[Annotations, list[list[str]]]:
    """Return the table with the tags of each group merged, and what was merged: the name kept, then the others found.

    A clip has the merged tag where it has any member; it lacks it where a member is known to be absent and none is present; it is
    unknown where all members are: the maximum of 1, 0 and -1. The merged tag has the group's first name, even where the table
    lacks that one, and stands in the place of the first member.
    Names that the table lacks are passed over with one warning. Raises DataError where no group has a tag of the table.
    """
    column = {tag: i for i, tag in enumerate(annotations.tags)}
    labels, tags = annotations.labels.copy(), list(annotations.tags)
    absorbed: set[int] = set()
    unknown: list[str] = []
    merged: list[list[str]] = []
    for group in groups:
        members = sorted(column[name] for name in group.names if name in column)
        unknown += [name for name in group.names if name not in column]
        if members:
            labels[:, members[0]] = annotations.labels[:, members].max(axis=1)
            tags[members[0]] = group.names[0]
            absorbed.update(members[1:])
            found = [name for name in group.names if name in column]
            merged.append([group.names[0], *(name for name in found if name != group.names[0])])
    if not merged:
        raise DataError(f"{file}: none of its {len(unknown)} names is a tag of {annotations.file}")
    if unknown:
        _log.warning("%s: not among the tags of %s, passed over: %s", file, annotations.file, ", ".join(unknown))
    kept = [i for i in range(len(tags)) if i not in absorbed]
    table = replace(annotations, tags=[tags[i] for i in kept], labels=labels[:, kept].copy(order="C"))
    if repeated := next((tag for i, tag in enumerate(table.tags) if tag in table.tags[:i]), None):
        raise DataError(f"{file}: merging gives two tags {repeated!r}")
    return table, merged


def _find_tags(annotations: Annotations, names: Sequence[str], where: str) -> list[int]:
    if not names:
        raise DataError(f"{where}: no tags; expected at least one")
    column = {tag: i for i, tag in enumerate(annotations.tags)}
    for i, name in enumerate(names):
        if name not in column:
            near = difflib.get_close_matches(name, column, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; it has {len(column)} other tags"
            raise DataError(f"{where}: {annotations.file} has no tag {quoted(name)}{hint}")
        if name in names[:i]:
            raise DataError(f"{where}: tag {quoted(name)} is listed twice")
    return [column[name] for name in names]


def _parse_lines(text: str) -> list[SynonymGroup]:
    groups = []
    for number, line in enumerate(text.splitlines(), start=1):
        if content := line.partition("#")[0].strip():
            groups.append(SynonymGroup(tuple(name.strip() for name in content.split(",")), number))
    return groups


def _parse_yaml(file: Path, text: str) -> list[SynonymGroup]:
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{file}: not a YAML file: {error}") from None
    if root is None:
        return []
    if not isinstance(root, yaml.SequenceNode):
        raise DataError(f"{file}:{root.start_mark.line + 1}: expected a list of lists of names")
    groups = []
    for node in root.value:
        line = node.start_mark.line + 1
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            raise DataError(f"{file}:{line}: expected a list of names such as [female, woman, women]")
        if bad := next((child for child in node.value if not isinstance(child, yaml.ScalarNode)), None):
            raise DataError(f"{file}:{bad.start_mark.line + 1}: expected a name, found a list or a mapping")
        groups.append(SynonymGroup(tuple(child.value.strip() for child in node.value), line))
    return groups

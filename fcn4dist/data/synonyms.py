"""Tags that mean the same: a file of groups, and the table with each group merged into one tag."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import yaml

from fcn4dist.data.annotations.table import Annotations
from fcn4dist.errors import DataError

_log = logging.getLogger(__name__)

YAML_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class SynonymGroup:
    """Names of one tag; the first is kept."""

    names: tuple[str, ...]
    line: int  # of the file, for messages


def find_synonyms(file: Path, annotations: Annotations) -> Path:
    """Return the file as given, or the one beside the annotation table. Raises DataError."""
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

    A clip has the merged tag where it has any member. The merged tag has the group's first name, even where the table lacks that
    one, and stands in the place of the first member.
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
    table = replace(annotations, tags=[tags[i] for i in kept], labels=np.ascontiguousarray(labels[:, kept]))
    if repeated := next((tag for i, tag in enumerate(table.tags) if tag in table.tags[:i]), None):
        raise DataError(f"{file}: merging gives two tags {repeated!r}")
    return table, merged


def _parse_lines(text: str) -> list[SynonymGroup]:
    groups = []
    for number, line in enumerate(text.splitlines(), start=1):
        if content := line.partition("#")[0].strip():
            groups.append(SynonymGroup(tuple(name.strip() for name in content.split(",")), number))
    return groups


def _parse_yaml(file: Path, text: str) -> list[SynonymGroup]:
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
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

"""Show an imported config: our YAML, and what to say about the keys that did not come along."""

from __future__ import annotations

import re
from typing import Any

import yaml

from fcn4dist.config.modelzoo_mapping import Imported
from fcn4dist.errors import quoted

MAX_UNKNOWN = 50  # that are named; a file with more is not ModelZoo's
PLAIN = re.compile(r"[A-Za-z/][\w/.-]*")


def format_yaml(imported: Imported) -> str:
    """Return the config as YAML that `--config` reads, with ModelZoo's key behind every line."""
    lines = [f"# from {quoted(imported.source.file.name)} of ModelZoo's FCN-4"]
    for section, keys in imported.values.items():
        lines.append(f"{section}:")
        lines += [f"  {key}: {_value(value)}  # {imported.origins[f'{section}.{key}']}" for key, value in keys.items()]
    return "\n".join(lines) + "\n"


def format_notes(imported: Imported) -> list[str]:
    """Return a line for every key that is not carried over, with the reason, and what else is worth knowing."""
    num_keys = len(imported.source.entries)
    num_carried = num_keys - len(imported.dropped) - len(imported.unknown)
    lines = [f"{imported.source.file}: {num_carried} of {num_keys} keys carried over"]
    if imported.dropped:
        lines.append("not carried over:")
        lines += [f"  {', '.join(map(_plain_key, keys))}: {reason}" for reason, keys in _by_reason(imported).items()]
    if imported.unknown:
        lines.append("unknown, not carried over (no key of ModelZoo's FCN-4):")
        lines += [f"  {quoted(key)} {_found(imported, key)}" for key in imported.unknown[:MAX_UNKNOWN]]
        if len(imported.unknown) > MAX_UNKNOWN:
            lines.append(f"  and {len(imported.unknown) - MAX_UNKNOWN} more")
    lines += [f"given twice with different values, the last counts: {quoted(key)}" for key in imported.source.repeated]
    return lines + [f"note: {remark}" for remark in imported.remarks]


def _value(value: Any) -> str:
    """Return a value as YAML on one line."""
    if isinstance(value, str):
        if PLAIN.fullmatch(value) and isinstance(yaml.safe_load(value), str):
            return value
        style = '"'
    else:
        style = ""
    text = yaml.safe_dump(value, default_style=style or None, width=1 << 30, allow_unicode=True)
    return str(text).removesuffix("\n").removesuffix("\n...")


def _by_reason(imported: Imported) -> dict[str, list[str]]:
    """Return reason -> keys, in the order of the file."""
    keys: dict[str, list[str]] = {}
    for key in imported.source.entries:
        if key in imported.dropped:
            keys.setdefault(imported.dropped[key], []).append(key)
    return keys


def _plain_key(key: str) -> str:
    return key if PLAIN.fullmatch(key) and len(key) < 40 else quoted(key)


def _found(imported: Imported, key: str) -> str:
    entry = imported.source.entries[key]
    return f"({entry.obstacle})" if entry.obstacle else f"({quoted(str(entry.value))})"

"""The names of splits, as data.split has them; who is in which part is fcn4dist.data.splits."""

from __future__ import annotations

CLEAN = "-clean"
RANDOM = "random-by-"
RULES = ("folder-12-1-3", "official", "random-by-track", "random-by-artist", "random-by-album", "random")
CHOICES = (
    f"{', '.join(RULES[:-1])} or {RULES[-1]}, each also with {CLEAN} behind it; "
    "folds:VAL[:TEST], folds:FILE:VAL[:TEST] or file:FILE"
)


def parse_split_name(name: str) -> tuple[str, bool]:
    """Return the rule that data.split names, and whether -clean stands behind it (a file's name may end so, too)."""
    is_clean = name.endswith(CLEAN) and (":" not in name or name.startswith("official:"))
    return (name.removesuffix(CLEAN) if is_clean else name), is_clean


def find_fault(name: str) -> str | None:
    """Return in words why data.split cannot be `name`, whatever the data; None where it can."""
    rule, _ = parse_split_name(name)
    kind, colon, argument = rule.partition(":")
    fields = argument.split(":")
    if not colon and rule in RULES:
        return None
    if kind == "folds" and len(fields) == 3 and fields[1] == fields[2]:
        return f"{name!r}: fold {fields[1]} cannot be both validation and test"
    known = {"official": bool(argument), "file": bool(argument), "folds": len(fields) <= 3 and all(fields)}
    return None if known.get(kind, False) and colon else f"{name!r} is no split; expected {CHOICES}"

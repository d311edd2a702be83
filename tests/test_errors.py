"""Names of users on one line."""

from __future__ import annotations

import pytest

from fcn4dist.errors import shorten_name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("no vocals", "no vocals"),
        ("twelve chars", "twelve chars"),
        ("thirteen char", "thirteen ch…"),
        ("é€ß漢字", "é€ß漢字"),
        ("a\nb\x1b[1m", r"a\nb\x1b[1m"),
        ("ab\udcff", r"ab\udcff"),
        ("a\tb\nc\x1b[31m", r"a\tb\nc\x1b…"),
        ("x" * 10_000, "x" * 11 + "…"),
        ("", ""),
    ],
)
def test_a_name_keeps_to_its_width_and_line(name: str, expected: str) -> None:
    assert shorten_name(name, 12) == expected

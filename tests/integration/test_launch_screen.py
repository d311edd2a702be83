"""`fcn4dist launch` on a terminal, from the first word to the summary."""

from __future__ import annotations

from pathlib import Path

from jobs import TINY
from terminal import Terminal


def test_the_demo_job(tmp_path: Path) -> None:
    words = ["-m", "fcn4dist", "launch", "--devices", "2", "--run-dir", str(tmp_path / "demo"), "--ranks", *TINY]
    words += [
        "--demo",
        "--set",
        "train.max_steps=4",
        "--set",
        "evaluate.num_resamples=0",
    ]  # TINY's mel is not the demo's: the data is prepared, too
    with Terminal(words, r"^preparing \d+/|^demo  2 ranks", term="tmux-256color") as shown:
        shown.read_until("preparing ")
        shown.read_until("demo  2 ranks")
        assert shown.read_to_end() == 0
    expected = ["training on the embedded demo set", "data: ", "preparing: 300 clips", "evaluation: 60 val", "done: 4"]
    assert [text for row in shown.rows for text in expected if row.startswith(text)] == expected, str(shown)
    assert "rank" not in str(shown).partition("evaluation")[2], str(shown)
    assert not shown.screen.cursor.hidden

"""The commands that the docs tell a user to type are ones that the command line takes; every link leads somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from fcn4dist.cli.main import cli

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    str(page.relative_to(ROOT))
    for pattern in ("README.md", "docs/**/*.md", "launch/*.md", "benchmarks/*.md")
    for page in ROOT.glob(pattern)
)


def commands_of(page: str) -> list[str]:
    """Return the lines of indented blocks that begin with fcn4dist, continued lines joined, comments left out."""
    text = (ROOT / page).read_text().replace("\\\n", " ")
    lines = [line.strip() for line in re.findall(r"^    fcn4dist [a-z].*$", text, flags=re.MULTILINE)]
    return [line.partition(" #")[0].strip() for line in lines]


def parse(words: list[str]) -> click.Context:
    """Parse a command's words as the command line does, without running it."""
    context = click.Context(cli, info_name="fcn4dist")
    command: click.Command = cli
    rest = words[1:]
    while isinstance(command, click.Group):
        name, command_, rest = command.resolve_command(context, rest)
        assert command_ is not None
        context = click.Context(command_, parent=context, info_name=name)
        command = command_
    return command.make_context(context.info_name or "", rest, parent=context.parent)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_parses(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for line in commands_of(page):
        words = shlex.split(line)
        assert "[" not in line, line
        parse(words)


def test_most_pages_have_commands() -> None:
    assert sum(len(commands_of(page)) for page in PAGES) > 50


def headings_of(page: Path) -> set[str]:
    """Return the anchors of a page as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    path = ROOT / page
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        if anchor:
            assert anchor in headings_of(target), link


def test_a_wrong_option_is_noticed() -> None:
    with pytest.raises(click.UsageError, match="No such option"):
        parse(shlex.split("fcn4dist prepare --audio-folder x"))

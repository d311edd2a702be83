"""The docs hold: commands parse, links lead somewhere, Python runs, and quoted messages are the program's own."""

from __future__ import annotations

import ast
import contextlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
import soundfile
from audio_set import make_audio_set
from small_onnx import write_small_onnx

from fcn4dist.cli.main import cli

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    str(page.relative_to(ROOT))
    for pattern in ("*.md", "docs/**/*.md", "launch/*.md", "benchmarks/*.md", "rank_tables/*.md")
    for page in ROOT.glob(pattern)
)
TYPED = re.compile(r"^    (?:\$ )?(?:\.venv/bin/)?(fcn4dist [a-z].*)$", re.MULTILINE)  # a line of an indented block
MENTIONED = re.compile(r"`(fcn4dist [a-z][^`…·]*)`")  # a part of a sentence, so its required options may be missing
PYTHON = re.compile(r"(?:<!-- not run: (?P<reason>.+?) -->\n)?```python\n(?P<code>.*?)```", re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"")
QUOTED = re.compile(r"\*\*`(.+?)`\*\*")  # a message in troubleshooting.md


def commands_of(page: str) -> list[str]:
    """Return the commands of indented blocks, continued lines joined, comments left out."""
    text = (ROOT / page).read_text().replace("\\\n", " ")
    return [re.split(r" #| \| | 2>", line)[0].strip() for line in TYPED.findall(text)]


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
        if not rest and isinstance(command, click.Group):
            return context  # the group alone is mentioned
    return command.make_context(context.info_name or "", rest, parent=context.parent)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_parses(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for line in commands_of(page):
        assert "[" not in line, line
        parse(shlex.split(line))
    for line in MENTIONED.findall(" ".join((ROOT / page).read_text().split())):
        with contextlib.suppress(click.MissingParameter):
            parse(shlex.split(line))


def test_most_pages_have_commands() -> None:
    assert sum(len(commands_of(page)) for page in PAGES) > 80


def test_a_wrong_option_is_noticed() -> None:
    with pytest.raises(click.UsageError, match="No such option"):
        parse(shlex.split("fcn4dist prepare --audio-folder x"))


def headings_of(page: Path) -> set[str]:
    """Return the anchors of a page as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    path = ROOT / page
    for link in map("".join, LINK.findall(path.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        if anchor:
            assert anchor in headings_of(target), link


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert [page for page in sorted(pages) if f"]({page}" not in index] == []


def test_the_docs_name_no_file_that_is_gone() -> None:
    """Also where code, tests, configs and recipes name a page."""
    places = [
        ROOT / "Makefile",
        *(file for room in ("fcn4dist", "tests", "launch", "configs", "docker") for file in walk(room)),
    ]
    for place in places:
        for name in re.findall(r"\bdocs/[\w/-]+\.(?:md|svg|png)", place.read_text(errors="replace")):
            assert (ROOT / name).exists(), f"{place}: {name}"


def walk(room: str) -> Iterator[Path]:
    return (
        file for file in (ROOT / room).rglob("*") if file.suffix in {".py", ".md", ".sh", ".yaml", ".sbatch", ".toml"}
    )


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the pages take for granted: DATA (prepared, 3 tags), model.onnx, song.mp3."""
    from fcn4dist.config import RunConfig
    from fcn4dist.data.prepare import prepare

    folder = tmp_path_factory.mktemp("workplace")
    audio = make_audio_set(folder / "audio", num_clips=48)
    sections = audio.sections
    sections["mel"] = {"clip_s": 2.0, "n_mels": 24}
    sections["data"] |= {"records_dir": folder / "DATA", "num_consumer": 1, "num_workers": 1}
    prepare(RunConfig.model_validate(sections))
    write_small_onnx(folder / "model.onnx", ["low", "high", "quiet"], [0.5, None, 0.5])
    t = np.arange(5 * 22050) / 22050
    soundfile.write(folder / "song.mp3", 0.3 * np.sin(2 * np.pi * 440 * t), 22050)
    return folder


def test_every_python_block_runs(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page are one script; a comment before a block says why it cannot run."""
    monkeypatch.chdir(workplace)
    ran = 0
    for page in PAGES:
        names: dict[str, object] = {}
        text = (ROOT / page).read_text()
        for block in PYTHON.finditer(text):
            code = compile(block["code"], f"{page}:{text[: block.start()].count(chr(10)) + 1}", "exec")
            if block["reason"] is None:
                exec(code, names)
                ran += 1
    assert ran >= 4


def iter_texts() -> Iterator[str]:
    """Yield each text of the package's source, with … in the place of what is filled in; constants are put in."""
    trees = [ast.parse(file.read_text()) for file in (ROOT / "fcn4dist").rglob("*.py")]
    constants = {
        node.targets[0].id: node.value.value
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    }
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else constants.get(ast.unparse(part.value), "…")
                for part in node.values
                if isinstance(part, ast.Constant | ast.FormattedValue)
            )


def test_quoted_messages_are_the_programs_own() -> None:
    texts = list(iter_texts())

    def is_said(message: str) -> bool:
        parts = [part.strip() for part in message.split("…") if part.strip()]
        pattern = re.compile(".*".join(map(re.escape, parts)), re.DOTALL)
        return any(pattern.search(text) for text in texts)

    quoted = QUOTED.findall((ROOT / "docs" / "troubleshooting.md").read_text())
    assert [message for message in quoted if not is_said(message)] == []
    assert len(quoted) >= 50
    assert not is_said("… clips cannot be divided among … hosts")

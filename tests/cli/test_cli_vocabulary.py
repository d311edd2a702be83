"""The words that users and their scripts rely on: every option of every command, and every key with type and default.

A change is a decision, made in words: vocabulary.txt is the list, and the CHANGELOG says why it changed. To renew it:

    python tests/cli/test_cli_vocabulary.py >tests/cli/vocabulary.txt
    fcn4dist config keys --markdown >docs/configuration.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from fcn4dist.cli.main import cli
from fcn4dist.cli.main import main as run_main
from fcn4dist.config import RunConfig
from fcn4dist.config.keys import list_keys

ROOT = Path(__file__).resolve().parents[2]
LIST = Path(__file__).with_name("vocabulary.txt")
# what an option of several commands is called must be one thing: (type, takes several values, is a flag)
HOMONYMS = {
    "--devices": "launch and doctor count them, rank-table and its host files list their ids",
    "--output": "a file or a folder, as the result is",
    "--split": "data splits: a rule; evaluate: a part",
    "--format": "data splits: of annotations; export: of the file",
    "--to": "rank-table convert: a version; track: a tracker",
    "--rank-table": "launch: also the words auto, none and export",
}


def commands(group: click.Group = cli, names: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Yield every command that does something, with its whole name."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*names, name))
        else:
            yield " ".join((*names, name)), command


def describe(parameter: click.Parameter) -> str:
    """Return one option or argument: its names, what it takes, whether it is required, hidden, or may come again."""
    names = sorted((*parameter.opts, *parameter.secondary_opts))
    kind = parameter.type
    takes = "|".join(map(str, kind.choices)) if isinstance(kind, click.Choice) else kind.name
    if isinstance(kind, (click.IntRange, click.FloatRange)):
        takes += f" {kind._describe_range()}"
    is_flag = isinstance(parameter, click.Option) and (parameter.is_flag or parameter.count)
    words = [*names, "flag" if is_flag else takes]
    words += [word for word, holds in (("required", parameter.required), ("several", parameter.multiple)) if holds]
    words += [f"x{parameter.nargs}"] if parameter.nargs != 1 else []
    words += ["hidden"] if isinstance(parameter, click.Option) and parameter.hidden else []
    return ("" if isinstance(parameter, click.Option) else "argument ") + " ".join(words)


def vocabulary() -> str:
    """Return the list."""
    lines = ["# See test_cli_vocabulary.py on how to renew this list, and when."]
    for name, command in commands():
        lines += [f"\n{name}", *sorted(f"  {describe(parameter)}" for parameter in command.params)]
    lines += ["\nconfig keys", *(f"  {key.name}: {key.type} = {json.dumps(key.default)}" for key in list_keys())]
    return "\n".join(lines) + "\n"


def test_options_and_keys_are_those_of_the_list() -> None:
    assert vocabulary().splitlines() == LIST.read_text().splitlines(), __doc__


def test_an_option_is_one_thing_in_all_commands() -> None:
    found: dict[str, set[tuple[str, bool, int]]] = {}
    for _, command in commands():
        for option in command.params:
            if not isinstance(option, click.Option) or option.hidden:
                continue
            for name in option.opts:
                choices = str(option.type.choices) if isinstance(option.type, click.Choice) else option.type.name
                found.setdefault(name, set()).add((choices, option.is_flag, option.nargs))
            if isinstance(option.type, click.Choice):
                assert not option.type.case_sensitive, option.name
    several = {name for name, kinds in found.items() if len(kinds) > 1}
    assert several <= set(HOMONYMS), several - set(HOMONYMS)


def test_the_page_of_keys_is_the_one_that_the_command_prints() -> None:
    page = CliRunner().invoke(cli, ["config", "keys", "--markdown"]).output
    assert page == (ROOT / "docs" / "configuration.md").read_text()
    keys = json.loads(CliRunner().invoke(cli, ["config", "keys", "--json"]).output)
    values = RunConfig().model_dump(mode="json")
    assert [(key["name"], key["default"]) for key in keys] == [
        (f"{section}.{name}", value) for section, own in values.items() for name, value in own.items()
    ]
    shown = CliRunner().invoke(cli, ["config", "keys", "learning", "warm-up"]).output
    assert [line.split(" ")[0] for line in shown.splitlines() if line[0] != " "] == [
        "train.lr",
        "train.schedule",
        "train.warmup_steps",
    ]
    refused = CliRunner().invoke(cli, ["config", "keys", "zzz"])
    assert "no key has 'zzz'" in str(refused.exception)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["luanch"], "No such command 'luanch'. Did you mean 'launch'?"),
        (["fit"], "No such command 'fit'. Did you mean 'train'?"),
        (["xyz"], "No such command 'xyz'. There are launch, train, "),
        (["rank-table", "generat"], "Did you mean 'generate'?"),
        (["rank-table", "xyz"], "There are convert, "),
        (["launch", "--device_target", "CPU"], "--device-target"),
        (["launch", "--batch_size", "4"], "No such option '--batch_size'. Did you mean --set train.global_batch=…?"),
        (["launch", "--lr", "4"], "Did you mean --set train.lr=…?"),
        (["launch", "--device", "4"], "'--device-target', '--devices'"),
        (["watch", "--lr", "4"], "No such option '--lr'."),
        (["watch"], "no run below "),
        (["export", "--output", "m.onnx"], "expected RUN, the folder of a run or a checkpoint; or --checkpoint C"),
        (["evaluate", "gone"], "gone: no such file or folder; expected a checkpoint folder such as "),
        (["evaluate", "."], ".: holds no checkpoint; expected a checkpoint folder such as "),
        (["evaluate", "gone", "--checkpoint", "gone"], "expected one of RUN (or --checkpoint C)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_told_with_what_was_meant(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        run_main(words)
    printed = capsys.readouterr()
    assert (ended.value.code, printed.out) == (2, "")
    assert message in printed.err


if __name__ == "__main__":
    sys.stdout.write(vocabulary())

"""The `fcn4dist` command: its groups, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import contextlib
import difflib
import errno
import importlib
import io
import logging
import os
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

import click

from fcn4dist import __version__
from fcn4dist.errors import NO_MINDSPORE, Fcn4distError, UserError, shorten_name

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# command -> "module:attribute", in the order of --help; a module is imported only when its command runs
COMMANDS = {
    "launch": ("fcn4dist.cli.launch:launch", "Train on N devices, with a rank-0 evaluator."),
    "train": ("fcn4dist.cli.train:train", "Train in this process, on one device."),
    "prepare": ("fcn4dist.cli.prepare:prepare", "Turn audio and annotations into MindRecord shards."),
    "data": ("fcn4dist.cli.data:data", "Show what a split or a prepared data set holds."),
    "evaluate": ("fcn4dist.cli.evaluate:evaluate", "Score a checkpoint."),
    "report": ("fcn4dist.cli.report:report", "Write a run's HTML page, or compare runs."),
    "watch": ("fcn4dist.cli.watch:watch", "Look at a run from another terminal."),
    "export": ("fcn4dist.cli.export:export", "Write a checkpoint as ONNX, MINDIR, AIR or safetensors."),
    "tag": ("fcn4dist.cli.tag:tag", "Tag audio files of any length."),
    "track": ("fcn4dist.cli.track:track", "Send a run to MLflow, SwanLab, W&B or TensorBoard."),
    "tensorboard": ("fcn4dist.cli.track:tensorboard", "Write a run's TensorBoard event files."),
    "rank-table": ("fcn4dist.cli.rank_table:rank_table", "Write, merge, check and show HCCL rank tables."),
    "doctor": ("fcn4dist.cli.doctor:doctor", "Check this machine before anything starts."),
    "tune": ("fcn4dist.cli.tune:tune", "Measure the step on this machine; write the fastest form as a config."),
    "config": ("fcn4dist.cli.config:config", "Show the resolved config; turn one of ModelZoo into ours."),
}


# what other programs call it -> the command
OTHER_NAMES = {
    "eval": "evaluate",
    "fit": "train",
    "infer": "tag",
    "predict": "tag",
    "preprocess": "prepare",
    "run": "launch",
    "test": "evaluate",
    "check": "doctor",
    "hccl": "rank-table",
    "ranktable": "rank-table",
    "status": "watch",
}


class Group(click.Group):
    """A group that names the command that was probably meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command and what is left of the words; raises UsageError where there is none of that name."""
        name, known = args[0], self.list_commands(ctx)
        if name in known or name.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        near = [OTHER_NAMES.get(name.lower(), "")] if OTHER_NAMES.get(name.lower()) in known else []
        near = near or difflib.get_close_matches(name.lower(), known, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(known)}."
        raise click.UsageError(f"No such command {name!r}. {hint}", ctx)


class ReaderLeftError(Exception):
    """The reader of our output went away: `fcn4dist … | head`."""


@contextlib.contextmanager
def _told_of_readers() -> Iterator[None]:
    """Raise ReaderLeftError for a broken pipe, which click and rich would end with 1, a failed job's code."""
    try:
        yield
    except BrokenPipeError:
        raise ReaderLeftError from None
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # rich
            raise ReaderLeftError from None
        raise


class LazyGroup(Group):
    """A group whose commands are imported when they are used, so that `--help` stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of the table above."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the words; --help prints here."""
        with _told_of_readers():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _told_of_readers():
            return super().invoke(ctx)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer the commands without importing them."""
        from click.shell_completion import CompletionItem

        found = [CompletionItem(name, help=text) for name, (_, text) in COMMANDS.items() if name.startswith(incomplete)]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="fcn4dist")
def cli() -> None:
    """Train FCN-4 music taggers with MindSpore, from one laptop CPU to clusters of Ascend servers.

    Start here: `fcn4dist launch --devices 2` trains on an embedded demo set.
    """


class _EchoHandler(logging.Handler):
    """Logs to what `sys.stderr` is now: a live picture takes its place, to have the lines above itself."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record."""
        _say(self.format(record))


def _say(text: str) -> None:
    """Echo to stderr; a reader that went away (a terminal that was closed) is no reason to end, nor to end in another way."""
    try:
        click.echo(text, file=sys.stderr)  # err=True goes around the picture
    except OSError:
        drop(sys.stderr)


def drop(stream: TextIO) -> None:
    """Let a stream that cannot be written to any more end in nothing, also what Python flushes at its exit."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def set_log_level(verbosity: int) -> None:
    """Log to stderr: warnings by default, information for -v, everything for -vv, errors only for -q."""
    level = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}.get(verbosity, logging.DEBUG)
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", handlers=[_EchoHandler()])


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with the code that `errors.py` documents."""
    if "_FCN4DIST_COMPLETE" in os.environ:  # a shell asks what could come next
        from fcn4dist.cli.completion import install

        install()
    try:
        cli.main(args=arguments, prog_name="fcn4dist", standalone_mode=False)
    except ReaderLeftError:
        drop(sys.stdout)
        sys.exit(128 + signal.SIGPIPE)
    except click.exceptions.Abort:
        _say("interrupted")
        sys.exit(128 + signal.SIGINT)
    except KeyboardInterrupt:
        _say("interrupted")
        sys.exit(128 + signal.SIGINT)
    except click.ClickException as error:
        if isinstance(error, click.NoSuchOption) and (said := _suggest_key(error)) is not None:
            error = click.UsageError(said, error.ctx)
        error.show()
        sys.exit(error.exit_code)
    except Fcn4distError as error:
        _say(f"fcn4dist: {error}")
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "mindspore":
            raise
        click.echo(f"fcn4dist: {NO_MINDSPORE}", err=True)
        sys.exit(UserError.exit_code)
    except OSError as error:
        if error.filename is None and _is_full(sys.stdout):
            drop(sys.stdout)
            _say(f"fcn4dist: stdout: cannot be written: {error.strerror}")
            sys.exit(1)
        if error.errno != errno.ENAMETOOLONG:
            raise
        name = shorten_name(os.fsdecode(error.filename or "a path"), 60)
        click.echo(f"fcn4dist: {name}: file name too long", err=True)
        sys.exit(UserError.exit_code)


def _is_full(stream: TextIO) -> bool:
    """Return whether nothing can be written to `stream`, so that it is the one that failed."""
    try:
        stream.flush()
        os.write(stream.fileno(), b"\n")  # Python keeps nothing that it could not write when it runs unbuffered
    except io.UnsupportedOperation:  # a stream of a test
        return False
    except OSError:
        return True
    return False


def _suggest_key(error: click.NoSuchOption) -> str | None:
    """Return what to say where an option is the name of a key, here or elsewhere: --batch_size of a command that has --set."""
    command = error.ctx.command if error.ctx is not None else None
    if command is None or all(option.name != "overrides" for option in command.params):
        return None
    from fcn4dist.config.keys import OTHER_NAMES, find_key

    name = error.option_name.lstrip("-").replace("-", "_").lower()
    key, option = find_key(name), f"--{name.replace('_', '-')}"
    if key is None or any(near.startswith(option) for near in error.possibilities or ()):
        return None
    is_certain = name in OTHER_NAMES or key.endswith(f".{name}")
    return f"{error.message} Did you mean --set {key}=…?" if is_certain or not error.possibilities else None


if __name__ == "__main__":
    main()

"""The `fcn4dist` command: its groups, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import contextlib
import errno
import importlib
import logging
import os
import signal
import sys

import click

from fcn4dist import __version__
from fcn4dist.errors import NO_MINDSPORE, Fcn4distError, UserError, shorten_name

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


class LazyGroup(click.Group):
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
        with contextlib.suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)  # also for what Python flushes at its exit
            os.dup2(nowhere, sys.stderr.fileno())
            os.close(nowhere)


def set_log_level(verbosity: int) -> None:
    """Log to stderr: warnings by default, information for -v, everything for -vv, errors only for -q."""
    level = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}.get(verbosity, logging.DEBUG)
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", handlers=[_EchoHandler()])


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with the code that `errors.py` documents."""
    try:
        cli.main(args=arguments, prog_name="fcn4dist", standalone_mode=False)
    except click.exceptions.Abort:
        _say("interrupted")
        sys.exit(128 + signal.SIGINT)
    except KeyboardInterrupt:
        _say("interrupted")
        sys.exit(128 + signal.SIGINT)
    except click.ClickException as error:
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
    except BrokenPipeError:  # the reader of our output went away: `fcn4dist ... | head`
        sys.stderr.close()
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        name = shorten_name(os.fsdecode(error.filename or "a path"), 60)
        click.echo(f"fcn4dist: {name}: file name too long", err=True)
        sys.exit(UserError.exit_code)


if __name__ == "__main__":
    main()

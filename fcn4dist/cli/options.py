"""Options that several commands share: each means one thing, is spelled one way, and is defined here alone.

    --config FILE, --set K=V   the config, and one key of it                 RUN          a run's folder, always positional
    --data DIR                 a prepared data set                           --run-dir    where a new run goes
    --checkpoint C             a checkpoint folder, a run, a network's file  --resume     a run to go on with
    --output                   what the command writes                       --picture    an image of it
    --json                     one JSON document on stdout, the rest on stderr
    --force                    do it, although something is replaced or differs
    -q, -v                     results and errors only; log more

Choices are taken in any case. Shell completion is in fcn4dist.cli.completion.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fcn4dist.cli.completion import CheckpointPath, RunPath, complete_override
from fcn4dist.cli.main import set_log_level

if TYPE_CHECKING:
    from fcn4dist.config import RunConfig

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

AnyPath = click.Path(path_type=Path)
FilePath = click.Path(path_type=Path, dir_okay=False)
Folder = click.Path(path_type=Path, file_okay=False)
Run = RunPath(path_type=Path)
Checkpoint = CheckpointPath(path_type=Path)


def choice(names: list[str] | tuple[str, ...]) -> click.Choice[str]:
    """Return a choice of names in any case; the command receives them as they are spelled here."""
    return click.Choice(names, case_sensitive=False)


def config_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --config and --set; the command receives the checked value as `config`."""

    @click.option("--config", "config_file", type=AnyPath, metavar="FILE", help="YAML config.")
    @click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="SECTION.KEY=VALUE",
        shell_complete=complete_override,
        help="Override one key; repeatable. `fcn4dist config keys` lists them.",
    )
    @wraps(function)
    def with_config(*args: Any, config_file: Path | None, overrides: tuple[str, ...], **kwargs: Any) -> Any:
        from fcn4dist.config import load_config  # pydantic loads here, not for commands without a config

        config: RunConfig = load_config(config_file, overrides)
        return function(*args, config=config, **kwargs)

    return with_config


def is_demo(context: click.Context, config: RunConfig) -> bool:
    """Return whether the command is about the embedded demo set: asked for, or nothing was given that speaks of data or network.

    `config` is the one after the command's own options, so that --data counts.
    """
    from fcn4dist.data.source import says_nothing_of_data

    given = context.params
    return given["demo"] or (given["config_file"] is None and says_nothing_of_data(config))


def verbosity_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add -v and -q and set the level of the log."""

    @click.option("-v", "--verbose", count=True, help="Log more; repeatable.")
    @click.option("-q", "--quiet", is_flag=True, help="Results and errors only.")
    @wraps(function)
    def with_verbosity(*args: Any, verbose: int, quiet: bool, **kwargs: Any) -> Any:
        set_log_level(-1 if quiet else verbose)
        return function(*args, **kwargs)

    return with_verbosity


def is_quiet() -> bool:
    """Return whether the running command was given -q."""
    return bool(click.get_current_context().params.get("quiet"))


def output_option(what: str, *, metavar: str = "FILE", required: bool = False) -> Decorator:
    """Return --output, which says where the command's result goes."""
    return click.option(
        "--output", type=AnyPath if metavar == "DIR" else FilePath, metavar=metavar, required=required, help=what
    )


def force_option(what: str) -> Decorator:
    """Return --force, which does what is refused without it."""
    return click.option("--force", is_flag=True, help=f"Do it all the same: {what}.")


def data_option(default: str) -> Decorator:
    """Return --data; `default` says what is used without it."""
    return click.option("--data", type=Folder, metavar="DIR", help=f"Prepared data set.  [default: {default}]")


def checkpoint_option(
    what: str = "Checkpoint folder, a run (its best), or a file of ModelZoo's.", *, required: bool = False
) -> Decorator:
    """Return --checkpoint; not required where RUN means the same."""
    return click.option("--checkpoint", type=Checkpoint, metavar="C", required=required, help=what)


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
picture_option = click.option("--picture", type=FilePath, metavar="FILE", help="Draw it, as a .png, .svg or .pdf file.")
device_target_option = click.option(
    "--device-target", type=choice(["auto", "Ascend", "CPU"]), help="[default: launch.device_target]"
)
devices_option = click.option(
    "--devices", type=int, metavar="N", help="Workers on this host.  [default: launch.devices]"
)
hostfile_option = click.option(
    "--hostfile",
    type=FilePath,
    metavar="FILE",
    help="Lines of HOST [ADDRESS] [slots=N] [devices=LIST]; node 0 is first.",
)
demo_option = click.option(
    "--demo", is_flag=True, help="Use the embedded demo set, as without --config, --data, data.* and model.*"
)
run_dir_option = click.option(
    "--run-dir", type=Folder, metavar="DIR", help="Where the run is written.  [default: runs/<date-time>]"
)
resume_option = click.option(
    "--resume", type=Run, metavar="RUN_DIR", help="Continue this run from its last checkpoint."
)
force_resume_option = force_option("go on with --resume although the config differs")

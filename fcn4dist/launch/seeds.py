"""The pipeline of `fcn4dist launch --seeds 1,2,3`: one whole run a seed, one after the other, each in its own folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fcn4dist.config import RunConfig, load_config, override_config
from fcn4dist.errors import ConfigError, Fcn4distError
from fcn4dist.launch.resume import is_finished
from fcn4dist.run.best import choose_evaluation
from fcn4dist.run.figures import MACRO_NAMES, Figures
from fcn4dist.run.folder import RunDir
from fcn4dist.run.groups import Spread
from fcn4dist.run.state import value_of

Launch = Callable[[RunConfig, Path, bool], str]  # config, run directory, whether it is resumed -> the last line
Resume = Callable[[Path], RunConfig]  # a run's own config with the command line's changes
MOST_SEEDS = 1000


@dataclass(frozen=True)
class SeedRuns:
    """The runs of all seeds."""

    folder: Path
    seeds: tuple[int, ...]

    def run(self, seed: int) -> RunDir:
        """Return where the run of a seed stands."""
        return RunDir(self.folder / f"seed-{seed}")

    @property
    def begun(self) -> tuple[int, ...]:
        """The seeds whose runs were begun."""
        return tuple(seed for seed in self.seeds if self.run(seed).config.is_file())


def parse_seeds(text: str) -> tuple[int, ...]:
    """Parse "1,2,3" or "1-3", in that order; raises ConfigError."""
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,10})(?:-(\d{1,10}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if not first <= last < 2**31 or last - first >= MOST_SEEDS:
            raise ConfigError(f"--seeds {text}: {part!r}; expected numbers from 0 to 2147483647 such as 1,2,3, or 1-3")
        seeds += range(first, last + 1)
    if repeated := {seed for seed in seeds if seeds.count(seed) > 1}:
        raise ConfigError(f"--seeds {text}: {min(repeated)} is there twice")
    return tuple(seeds)


def check_folder(runs: SeedRuns, *, resume: bool) -> None:
    """Raise ConfigError where there is nothing to go on with, or where new runs would mix with others."""
    if RunDir(runs.folder).config.is_file():
        raise ConfigError(
            f"{runs.folder}: is one run; expected the folder of the seeds' runs, seed-{runs.seeds[0]} and so on"
        )
    begun = runs.begun
    if resume and not begun:
        raise ConfigError(f"--resume {runs.folder}: none of the seeds {_list(runs.seeds)} was begun here")
    if not resume and begun:
        raise ConfigError(
            f"--run-dir {runs.folder}: already holds seed {begun[0]}; go on with {_command(runs)}, or name another folder"
        )


def config_of_seed(config: RunConfig, runs: SeedRuns, seed: int) -> RunConfig:
    """Return the config of a seed that is not begun: data that the first seed has prepared is not prepared again."""
    changes = {"train": {"seed": seed}}
    if config.data.records_dir is None and config.data.source_dir is not None and (begun := runs.begun):
        prepared = load_config(runs.run(begun[0]).config).data.records_dir
        return override_config(config, **changes, data={"records_dir": prepared})
    return override_config(config, **changes)


def launch_seeds(
    config: RunConfig | None, runs: SeedRuns, say: Callable[[str], None], launch: Launch, resume: Resume
) -> Iterator[str]:
    """Launch the runs that are not finished and yield the last line of each, then one about all of them.

    `config` is that of new runs; none: that of the first run there is. Whatever ends a seed's run ends the whole, with its
    exit code and a word about which seeds are done.
    """
    for seed in runs.seeds:
        run = runs.run(seed)
        with told_how_far(runs, seed, say):
            if run.config.is_file():
                own = resume(run.path)
                if is_finished(run, own):
                    yield f"seed {seed}: done before; {run.path}"
                    continue
                line = launch(own, run.path, True)
            else:
                base = resume(runs.run(runs.begun[0]).path) if config is None else config
                line = launch(config_of_seed(base, runs, seed), run.path, False)
        yield f"seed {seed}: {line}"
    yield summarise(runs)


@contextmanager
def told_how_far(runs: SeedRuns, seed: int, say: Callable[[str], None]) -> Iterator[None]:
    """Add to what ends the run of `seed` which seeds are done, and how to go on."""
    done = runs.seeds[: runs.seeds.index(seed)]
    left = runs.seeds[len(done) + 1 :]
    words = [f"seed {seed} is not done", f"done: {_list(done) if done else 'none'}"]
    text = "; ".join([*words, *([f"not begun: {_list(left)}"] if left else []), f"go on with: {_command(runs)}"])
    try:
        yield
    except Fcn4distError as error:
        error.args = (f"{error}\n  {text}",)
        raise
    except KeyboardInterrupt:
        say(text)
        raise


def summarise(runs: SeedRuns) -> str:
    """Return the last line: mean and spread of the best checkpoints' figures over the seeds."""
    figures = [Figures.load(choose_evaluation(runs.run(seed)).figures) for seed in runs.seeds]
    found = {name: Spread.of([value_of(one.document, key) for one in figures]) for key, name in MACRO_NAMES.items()}
    parts = [f"{name} {spread}" for name, spread in found.items() if spread is not None]
    num = max((spread.num for spread in found.values() if spread is not None), default=0)
    what = f"mean ± sample standard deviation of the best checkpoints, n = {num}" if num > 1 else f"n = {num}"
    text = f"{', '.join(parts)} ({what})" if parts else "nothing was evaluated"
    return f"done: seeds {_list(runs.seeds)}; {text}; {runs.folder}"


def _list(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def _command(runs: SeedRuns) -> str:
    return f"fcn4dist launch --seeds {','.join(map(str, runs.seeds))} --resume {runs.folder}"

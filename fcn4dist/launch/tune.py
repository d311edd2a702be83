"""`fcn4dist tune`: which form of the training step is the fastest on a device of this machine.

A form is an AMP level, how many clips the device takes at once, and the first block (docs/tune.md); each is measured in a process
of its own. The clips of a step stay those of the config, in micro-batches.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from itertools import product
from pathlib import Path
from typing import Any

import psutil
import yaml

from fcn4dist.ascend.devices import VISIBLE
from fcn4dist.config import BatchPlan, RunConfig, check_precision, override_config, plan_batches
from fcn4dist.errors import ConfigError, JobError
from fcn4dist.files import save_json, save_text
from fcn4dist.job.cgroup import memory_left
from fcn4dist.job.devices import HostDevices, Target, require_mindspore, resolve_target, survey_host
from fcn4dist.job.oom import OomRecord
from fcn4dist.job.process import ExitStatus, Process, ProcessSpec
from fcn4dist.job.worker_env import MALLOC, THREAD_VARIABLES, strip_stale
from fcn4dist.model.memory_estimate import count_tags, estimate_memory

PROCESS_BYTES = 0.85e9  # of a process with MindSpore on CPU, beside the network (model/memory_estimate.py)
MOST_TEXT = 200  # characters of a problem in the table
LEVELS = ("O0", "O2", "O3", "auto")
BLOCKS = ("plain", "pooled")


@dataclass(frozen=True)
class Form:
    """One form of the step."""

    amp: str
    device_batch: int  # clips that the device takes at once
    first_block: str

    def __str__(self) -> str:
        return f"{self.amp}, {self.device_batch} clips at once, {self.first_block} first block"

    def overrides(self) -> list[str]:
        """Return what `--set` takes."""
        return [
            f"train.amp={self.amp}",
            f"train.device_batch={self.device_batch}",
            f"model.first_block={self.first_block}",
        ]


@dataclass(frozen=True)
class Measured:
    """What a form came to: figures, or the problem that kept it from them."""

    form: Form
    clips_per_s: float | None = None
    step_s: float | None = None  # median; of all clips that a rank has in a step
    num_steps: int = 0  # that the median is of
    compile_s: float | None = None  # the first step without the time of a step
    memory_bytes: int | None = None  # most: of the process on CPU, of the device's pool on Ascend
    problem: str | None = None


@dataclass(frozen=True)
class Tuning:
    """What to measure, and for how long."""

    amp: Sequence[str]
    device_batch: Sequence[int]  # empty: the clips that a rank has in a step, a half and a quarter of them
    first_block: Sequence[str]
    steps: int  # most steps of a form that are measured
    seconds: float  # no further step after so many seconds of them
    limit_s: float  # for one form in all


@dataclass(frozen=True)
class Trial:
    """What every form is measured with."""

    config: RunConfig
    host: HostDevices  # as launch would divide it; its first device is used
    num_tags: int
    wanted: Tuning

    @property
    def target(self) -> Target:
        """Ascend or CPU."""
        return self.host.target

    @property
    def rank_batch(self) -> int:
        """Clips of a rank in a step."""
        return plan_batches(self.config.train, self.config.launch.devices).rank_batch

    def headline(self, num_forms: int) -> str:
        """Say what is measured."""
        share = self.host.shares[0]
        on = f"CPU, {share.num_threads} threads" if self.target == "CPU" else "one Ascend device"
        return f"{num_forms} forms of a step of {self.rank_batch} clips on {on}"


def plan_tuning(config: RunConfig, wanted: Tuning) -> Trial:
    """Find out what is measured on. Raises UserError: a device that is not there, data that cannot be read, a batch."""
    from fcn4dist.launch.training_data import adopt_data

    require_mindspore()
    target = resolve_target(config.launch.device_target)
    host = survey_host(target, config.launch.devices, bind_cores=config.launch.bind_cores)
    adopted = adopt_data(override_config(config, train={"device_batch": None}))
    return Trial(adopted, host, count_tags(adopted), wanted)


def plan_forms(trial: Trial) -> list[Form]:
    """Return the forms to measure, in their order in the table.

    Raises ConfigError for a batch that a rank's clips cannot be divided into.
    """
    wanted, clips = trial.wanted, trial.rank_batch
    batches = list(wanted.device_batch) or [n for n in (clips, clips // 2, clips // 4) if n and clips % n == 0]
    for size in batches:
        if size > clips:
            raise ConfigError(
                f"--batch {size}: a rank has {clips} clips in a step (train.global_batch over the ranks); name at most "
                "that, or set another train.global_batch"
            )
        if clips % size:
            raise ConfigError(f"--batch {size}: the {clips} clips that a rank has in a step are no multiple of it")
        plan_batches(_with_batches(trial.config, clips, size).train, 1)
    return [Form(*parts) for parts in product(wanted.amp, dict.fromkeys(batches), wanted.first_block)]


def config_of(config: RunConfig, form: Form) -> RunConfig:
    """Return `config` in this form. Raises ConfigError where the two contradict each other."""
    train: dict[str, Any] = {"amp": form.amp, "device_batch": form.device_batch}
    if form.amp == "O0" and config.train.amp_dtype != "float16":
        train["amp_dtype"] = "float16"  # not used there, and nothing else is allowed
    return override_config(config, train=train, model={"first_block": form.first_block})


def measure_forms(trial: Trial, forms: Sequence[Form]) -> Iterator[Measured]:
    """Measure one form after the other; a form that is not possible, does not fit or fails is a result, too.

    Leaves no process behind, whatever ends it.
    """
    with tempfile.TemporaryDirectory(prefix="fcn4dist-tune-") as folder:
        for number, form in enumerate(forms):
            own = Path(folder) / str(number)
            own.mkdir()
            yield _measure(trial, form, own)


def _measure(trial: Trial, form: Form, folder: Path) -> Measured:
    try:
        config = _with_batches(config_of(trial.config, form), trial.rank_batch, form.device_batch)
        check_precision(config.train, trial.target)
    except ConfigError as error:
        return Measured(form, problem=_short(str(error)))
    batches = plan_batches(config.train, 1)
    needed = _estimate(trial, config, batches)
    free = _free_bytes() if trial.target == "CPU" else None
    if free is not None and needed > free:
        return Measured(form, problem=f"does not fit: about {needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free")
    share = trial.host.shares[0]
    request = {
        "config": config.model_dump(mode="json", exclude_unset=True),
        "target": trial.target,
        "device": trial.host.devices[0].position,
        "num_tags": trial.num_tags,
        "estimate_bytes": needed,
        "cores": share.cores,
        "launcher_pid": os.getpid(),
        "steps": trial.wanted.steps,
        "seconds": trial.wanted.seconds,
    }
    save_json(folder / "request.json", request)
    return _run_child(trial, form, folder)


def _run_child(trial: Trial, form: Form, folder: Path) -> Measured:
    result_file, log = folder / "result.json", folder / "log"
    argv = (sys.executable, "-m", "fcn4dist.train.measure", str(folder / "request.json"), str(result_file))
    kernel, ends = OomRecord(), queue.Queue[ExitStatus]()
    process = Process(ProcessSpec(f"tune {form}", argv, log=log), _environment(trial))
    try:
        process.watch(lambda _, status: ends.put(status), lambda _, held: None)
        try:
            status = ends.get(timeout=trial.wanted.limit_s)
        except queue.Empty:
            return Measured(form, problem=f"not done after {trial.wanted.limit_s:g} s")
        killer = kernel.judge(process.pid) if status.signal is not None else None
    finally:
        peak_bytes = process.reap()
    if not result_file.is_file():
        return Measured(form, problem=_short(f"{killer or status}{_last_words(log)}"))
    found = {"memory_bytes": peak_bytes, **json.loads(result_file.read_text())}
    return replace(Measured(form), **{**found, "problem": _short(found["problem"])} if "problem" in found else found)


def _environment(trial: Trial) -> dict[str, str]:
    """Return the environment of a rank, as far as it concerns speed; see job/worker_env.py."""
    environment = strip_stale(os.environ)
    if trial.host.visible is not None:
        environment[VISIBLE] = trial.host.visible
    environment |= dict.fromkeys(THREAD_VARIABLES, str(trial.host.shares[0].num_threads))
    if trial.target == "CPU":
        environment.setdefault("GLIBC_TUNABLES", MALLOC)
    return environment


def _with_batches(config: RunConfig, rank_batch: int, device_batch: int) -> RunConfig:
    """Return the config of one rank alone, with its part of the global batch."""
    return override_config(config, train={"global_batch": rank_batch, "device_batch": device_batch})


def _estimate(trial: Trial, config: RunConfig, batches: BatchPlan) -> float:
    found = estimate_memory(config.model, config.mel, config.train, batches, trial.num_tags, trial.target)
    return found.total_bytes + (PROCESS_BYTES if trial.target == "CPU" else 0.0)


def _free_bytes() -> float:
    free, left = float(psutil.virtual_memory().available), memory_left()
    return free if left is None else min(free, float(left))


def _last_words(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f": {lines[-1]}" if lines else ""


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MOST_TEXT else f"{line[: MOST_TEXT - 1]}…"


def find_fastest(measured: Sequence[Measured]) -> Measured:
    """Return the form with the most clips a second. Raises JobError where none was measured."""
    done = [one for one in measured if one.clips_per_s is not None]
    if not done:
        raise JobError(f"no form could be measured; the last one: {measured[-1].problem}")
    return max(done, key=lambda one: one.clips_per_s or 0.0)


def check_output(output: Path, *, force: bool) -> None:
    """Raise ConfigError where the config cannot be written there, before anything is measured."""
    if output.exists() and not (force and output.is_file()):
        raise ConfigError(f"--output {output}: is there already; name another file, or add --force to replace it")
    if not output.parent.is_dir():
        raise ConfigError(f"--output {output}: no folder {output.parent}")


def save_tuned(output: Path, config: RunConfig, trial: Trial, fastest: Measured) -> None:
    """Write `config`, the user's own, in the fastest form, with what was measured above it. Raises ConfigError."""
    tuned = config_of(config, fastest.form).model_dump(mode="json", exclude_unset=True)
    when = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    device = f"one {trial.target} device of {os.uname().nodename}"
    head = f"# fcn4dist tune, {when}: {fastest.clips_per_s:.1f} clips/s on {device}\n"
    try:
        save_text(output, head + yaml.safe_dump(tuned, sort_keys=False, allow_unicode=True))
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be written: {error.strerror}") from None


def describe(trial: Trial, measured: Sequence[Measured], output: Path | None) -> Mapping[str, Any]:
    """Return everything as one JSON document; `fastest` is null where nothing could be measured."""
    done = [one for one in measured if one.clips_per_s is not None]
    return {
        "target": trial.target,
        "clips_a_step": trial.rank_batch,
        "threads": trial.host.shares[0].num_threads,
        "forms": [_flat(one) for one in measured],
        "fastest": _flat(find_fastest(measured)) if done else None,
        "output": None if output is None else str(output),
    }


def _flat(measured: Measured) -> dict[str, Any]:
    values = asdict(measured)
    return {**values.pop("form"), **values}


HEADER = (
    f"{'AMP':<5} {'clips at once':>13}  {'first block':<11} {'clips/s':>9} {'step':>9} {'memory':>9} {'compile':>9}"
)


def format_row(measured: Measured) -> str:
    """Return a row under HEADER."""
    form = measured.form
    row = f"{form.amp:<5} {form.device_batch:>13}  {form.first_block:<11} "
    if measured.clips_per_s is None:
        return row + f"  {measured.problem}"
    memory = (measured.memory_bytes or 0) / 1e9
    figures = f"{measured.clips_per_s:>9.1f} {measured.step_s:>7.3f} s {memory:>6.1f} GB {measured.compile_s:>7.1f} s"
    return row + figures

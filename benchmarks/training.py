"""Rows 1 to 5: the training step of full-width FCN-4 on two cores, 96 x 1366, float32, global batch 16.

    python -m benchmarks.training [--quick]

All sides are processes that make a step when told to (benchmarks/steppers.py), so that they take turns step by step: what a
neighbour of the machine takes, it takes from all of them. Ours are two ranks of a job, with the step, the environment and the
cores that `fcn4dist launch --devices 2` gives them. Row 1c holds them against the real command; its records give rows 5a and 11.

PyTorch's fastest way is looked for first, at a quarter of the batch: memory formats, then compiled or not, one process or two.
The two best there, if they are near each other, are timed at the whole batch; the faster one takes part in the rounds.
"""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.checkpoints import NUM_STEPS, SAVING, quiet_steps, row_of
from benchmarks.launching import GLOBAL_BATCH, LaunchedSteps, launch, write_shards
from benchmarks.side_by_side import Row, both, number, report
from benchmarks.steppers import MATMUL_SIZE, Stepper, ranks_of_job, step_together
from fcn4dist.job.ports import choose_port

RANK_BATCH = GLOBAL_BATCH // 2
GFLOP_PER_CLIP = 59.8  # 2 x multiplications of the convolutions, three passes; the first convolution has two
GFLOP_PER_PRODUCT = 2 * MATMUL_SIZE**3 / 1e9
NUM_PRODUCTS, NUM_REDUCES = 3, 5  # of a round; so many products before our step and as many after it
TORCH_PART = 0.6  # of the rounds, the first ones; the plain recipe is in the others
QUICK_KIND = "torch-nhwc-compiled-ddp"  # it won before
SMALL_BATCH = 2  # of the second size of which the memory is taken
LOOK_BATCH, NEAR = GLOBAL_BATCH // 4, 1.15  # of the first look at PyTorch's ways
MOST_WHOLE = 2  # of them are timed at the whole batch


@contextlib.contextmanager
def steppers(*planned: tuple[str, list[int], int]) -> Iterator[list[Stepper]]:
    """Start processes of (kind, cores, batch); end them."""
    started = [Stepper.start(kind, batch, cores) for kind, cores, batch in planned]
    try:
        yield started
    finally:
        for stepper in started:
            stepper.end()


@contextlib.contextmanager
def torch_job(kind: str, cores: list[int], batch: int = GLOBAL_BATCH) -> Iterator[list[Stepper]]:
    """Start PyTorch's side, one process on both cores or a DDP rank on each; end it."""
    job = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(choose_port()), "WORLD_SIZE": "2"}
    if "ddp" in kind:
        ranks = [Stepper.start(kind, batch // 2, [core], {**job, "RANK": str(i)}) for i, core in enumerate(cores)]
    else:
        ranks = [Stepper.start(kind, batch, cores)]
    try:
        yield ranks
    finally:
        for rank in ranks:
            rank.end()


def time_torch(kinds: Sequence[str], cores: list[int], batch: int = GLOBAL_BATCH) -> dict[str, float]:
    """Return the seconds of a step of each of PyTorch's ways, the better of two."""
    seconds = {}
    for kind in kinds:
        with torch_job(kind, cores, batch) as side:
            for rank in side:
                rank.wait_ready()
            seconds[kind] = min(step_together(side) for _ in range(2))
        click.echo(f"  {kind}, batch {batch}: {batch / seconds[kind]:.2f} clips/s", err=True)
    return seconds


def best_torch(cores: list[int]) -> str:
    """Return PyTorch's fastest way here."""
    looks = time_torch(("torch-nchw", "torch-nhwc"), cores, LOOK_BATCH)
    ways = [form + way for form in near_the_best(looks) for way in ("-compiled", "-ddp", "-compiled-ddp")]
    near = near_the_best({**looks, **time_torch(ways, cores, LOOK_BATCH)})[:MOST_WHOLE]
    if len(near) == 1:
        return near[0]
    seconds = time_torch(near, cores)
    return min(near, key=lambda way: seconds[way])


def near_the_best(seconds: Mapping[str, float]) -> list[str]:
    """Return those that take at most `NEAR` times what the quickest takes, it first."""
    quickest = sorted(seconds, key=lambda kind: seconds[kind])
    return [kind for kind in quickest if seconds[kind] <= NEAR * seconds[quickest[0]]]


@dataclass(frozen=True)
class Round:
    """The seconds of a step of each side that took part, taken within a minute of each other."""

    ours: float
    products: list[float]  # matrix products, as many before our step as after it
    reduces: list[float]  # AllReduces alone, right after our step
    torch: float | None = None
    single: float | None = None  # one rank, one core, batch 8
    plain: float | None = None

    @property
    def reduce_share(self) -> float:
        """The AllReduce's share of the step before it."""
        return 100 * statistics.median(self.reduces) / self.ours


def measure(tries: int, kind: str, cores: list[int], *, quick: bool) -> list[Row]:
    """Return rows 1 to 5 and 11, against PyTorch's way `kind`; `quick` leaves out rows 2, 3 and 11."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        data = write_shards(Path(name) / "data", 32)
        launched = launch(data, Path(name) / "run", *((3,) if quick else (NUM_STEPS, *SAVING)))
    small: list[Stepper] = []
    if not quick:  # before the others, since all of them fill a machine of 24 GB
        with steppers(("ours", cores[:1], SMALL_BATCH), ("plain", cores, SMALL_BATCH)) as small:
            for stepper in small:
                stepper.wait_ready().step()
    rounds: list[Round] = []
    with contextlib.ExitStack() as started:
        sides: dict[str, list[Stepper]] = {
            "reduce": started.enter_context(ranks_of_job("reduce", RANK_BATCH, cores)),
            "ours": started.enter_context(ranks_of_job("ours", RANK_BATCH, cores)),
        }
        if not quick:
            sides["matmul"] = started.enter_context(steppers(("matmul", cores, 1)))
        step_together(wait_ready(sides)["ours"])  # the second step takes memory that no later one takes
        one = started.enter_context(steppers(("ours", cores[:1], RANK_BATCH)))
        with torch_job(kind, cores) as torch:
            beside = {**sides, **wait_ready({"torch": torch, "single": one})}
            for attempt in range(tries if quick else math.ceil(TORCH_PART * tries)):
                rounds.append(take_round(beside, is_turned_round=attempt % 2 == 1))
        plain: list[Stepper] = []
        if not quick:  # the plain recipe has PyTorch's place: all at once would fill 24 GB
            plain = started.enter_context(steppers(("plain", cores, GLOBAL_BATCH)))
            beside = {**sides, **wait_ready({"plain": plain})}
            for attempt in range(len(rounds), tries):
                rounds.append(take_round(beside, is_turned_round=attempt % 2 == 1))
        rows = [*rows_of_rounds(rounds, kind), *rows_of_launch(launched, rounds)]
        if not quick:
            rows += [
                *rows_beyond_the_guard(rounds),
                row_of_memory((one[0], small[0]), (plain[0], small[1])),
                row_of(launched),
            ]
    return rows


def wait_ready(sides: Mapping[str, list[Stepper]]) -> Mapping[str, list[Stepper]]:
    """Return the sides when all can step."""
    for side in sides.values():
        for stepper in side:
            stepper.wait_ready()
    return sides


def take_round(sides: Mapping[str, Sequence[Stepper]], *, is_turned_round: bool) -> Round:
    """Let each side make a step; a side whose first turn was the first has the last one in the next round."""
    seconds, products, reduces = {}, [], []
    order = [side for side in ("ours", "torch", "single", "plain") if side in sides]
    for side in order[::-1] if is_turned_round else order:
        if side == "ours" and "matmul" in sides:
            products += [step_together(sides["matmul"]) for _ in range(NUM_PRODUCTS)]
        seconds[side] = step_together(sides[side])
        if side == "ours" and "matmul" in sides:
            products += [step_together(sides["matmul"]) for _ in range(NUM_PRODUCTS)]
        if side == "ours":
            reduces += [step_together(sides["reduce"]) for _ in range(NUM_REDUCES)]
    found = Round(products=products, reduces=reduces, **seconds)
    click.echo(f"  {found}", err=True)
    return found


def rate(seconds: Sequence[float], batch: int = GLOBAL_BATCH) -> str:
    """Return clips/s by the median."""
    return f"{number(batch / statistics.median(seconds))} clips/s"


def rows_of_rounds(rounds: Sequence[Round], best: str) -> list[Row]:
    """Turn the rounds into rows 1, 4 and 5b."""
    ours = [r.ours for r in rounds]
    torch = [(r.torch, r.ours) for r in rounds if r.torch is not None]
    single = [(r.single, r.ours) for r in rounds if r.single is not None]
    return [
        Row("1", "training, 2 ranks", [other / our for other, our in torch], 1.2, False, "x", rate(ours),
            f"PyTorch ({best.removeprefix('torch-')}) {rate([other for other, _ in torch])}"),
        Row("4", "2 ranks against 1, batch 8 a rank", [2 * one / two for one, two in single], 1.8, False, "x", rate(ours),
            f"1 rank on 1 core {rate([one for one, _ in single], RANK_BATCH)}"),
        Row("5b", "the allreduce of a step, 69.5 MB, alone, right after a step of batch 8 a rank; of that step",
            [r.reduce_share for r in rounds], 6, True, "%",
            f"{number(statistics.median(statistics.median(r.reduces) for r in rounds))} s",
            f"a step of {number(statistics.median(ours))} s"),
    ]  # fmt: skip


def rows_of_launch(launched: LaunchedSteps, rounds: Sequence[Round]) -> list[Row]:
    """Turn what the real command recorded into rows 1c and 5a."""
    ours_s, quiet = statistics.median(r.ours for r in rounds), quiet_steps(launched)
    return [
        Row("1c", "a step of `fcn4dist launch` against one of its ranks' that are told to step",
            [step_s / ours_s for step_s in quiet], None, True, "x", rate(quiet), rate([ours_s])),
        Row("5a", "share of a step of `fcn4dist launch` that waits for data", launched.data_shares, 2, True, "%"),
    ]  # fmt: skip


def rows_beyond_the_guard(rounds: Sequence[Round]) -> list[Row]:
    """Turn the rounds into rows 2a and 3."""
    plain = [(r.plain, r.ours) for r in rounds if r.plain is not None]
    rates = [(GLOBAL_BATCH * GFLOP_PER_CLIP / r.ours, GFLOP_PER_PRODUCT / statistics.mean(r.products)) for r in rounds]
    return [
        Row("2a", "training, 2 ranks", [other / our for other, our in plain], 1.25, False, "x",
            rate([r.ours for r in rounds]), f"plain recipe {rate([other for other, _ in plain])}"),
        Row("3", "share of NumPy's float32 matrix product (4096 x 4096, both cores) right before and after the step",
            [100 * our / product for our, product in rates], 72, False, "%", **both(rates, "GFLOP/s")),
    ]  # fmt: skip


def row_of_memory(ours: tuple[Stepper, Stepper], plain: tuple[Stepper, Stepper]) -> Row:
    """Return row 2b: what one more clip of a batch costs in peak memory, by a large and a small batch of each side."""
    ours_mb, plain_mb = (
        (large.peak_mb - small.peak_mb) / (large.batch - small.batch) for large, small in (ours, plain)
    )
    return Row("2b", "memory a clip", [ours_mb / plain_mb], 0.75, True, "x", f"{ours_mb:.0f} MB",
               f"plain recipe {plain_mb:.0f} MB")  # fmt: skip


def measure_bf16(best: str, cores: list[int]) -> Row:
    """Return the row without a bar: PyTorch in bfloat16, which MindSpore's convolutions do not have on CPU."""
    kind = f"{best}-bf16"
    step_s = time_torch([kind], cores)[kind]
    what = f"PyTorch in bfloat16 ({kind.removeprefix('torch-')}), for reference"
    return Row("1b", what, [GLOBAL_BATCH / step_s], None, unit=" clips/s")


@click.command()
@click.option("--quick", is_flag=True, help=f"Rows 1, 4 and 5 only, against {QUICK_KIND}; exit 1 under 0.85 of a bar.")
@click.option("--tries", type=int, help="Rounds; 5, with --quick 3.")
@click.option("--against", help="Only this way of PyTorch, without row 1b.")
def main(quick: bool, tries: int | None, against: str | None) -> None:
    """Measure the training step."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    kind = against or (QUICK_KIND if quick else best_torch(cores))
    rows = measure(tries or (3 if quick else 5), kind, cores, quick=quick)
    if not quick and against is None:
        rows.append(measure_bf16(kind, cores))
    report(rows, " ".join(["python -m benchmarks.training", *sys.argv[1:]]), guard=quick)


if __name__ == "__main__":
    main()

"""Processes that train full-width FCN-4 a step at a time, when they are told to: the sides of benchmarks/training.py.

    python -m benchmarks.steppers KIND --batch N --cores 0,1

prints "@ready", then for every line on stdin makes one step and prints its seconds and the peak memory in MB. Kinds: `ours` (a
rank of the job that the environment describes, or one rank without a job), `reduce` (the AllReduce of a step alone, in a job),
`scheduler` (of a job; makes no steps), `plain` (the recipe that one would write first with MindSpore), `matmul` (NumPy's float32
matrix product), and `torch-` with `nchw` or `nhwc` and any of `-compiled`, `-bf16` and `-ddp`, which takes RANK, WORLD_SIZE,
MASTER_ADDR and MASTER_PORT. Other benchmarks name a builder of their own, "benchmarks.scoring:build_ours:FOLDER".
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from benchmarks.scaling import ALLREDUCE_BYTES

if TYPE_CHECKING:
    from fcn4dist.job.rank import Rank

ROOT = Path(__file__).resolve().parents[1]
NUM_TAGS = 50
SHAPE = (1, 96, 1366)
CHANNELS = (128, 384, 768, 2048)
POOLS = ((2, 4), (4, 5), (3, 8))
LR = 0.0005
MATMUL_SIZE = 4096
JOB_LIMIT_S = 600  # how late a rank may be to a collective: the others of a round take their turns meanwhile


@dataclass
class Stepper:
    """One such process, seen from outside."""

    popen: subprocess.Popen[str]
    batch: int
    peak_mb: float = 0.0

    @classmethod
    def start(
        cls,
        kind: str,
        batch: int,
        cores: Sequence[int],
        extra: dict[str, str] | None = None,
        python: str = sys.executable,
    ) -> Stepper:
        """Start the process on `cores`, as many threads as cores; do not wait for it."""
        from fcn4dist.job.devices import needs_avx512_guard
        from fcn4dist.job.worker_env import MALLOC

        environment = {**os.environ, "GLOG_v": "3"}
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            environment[name] = str(len(cores))
        if kind in ("ours", "plain") and needs_avx512_guard():
            environment.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
        if kind == "ours":
            environment.setdefault("GLIBC_TUNABLES", MALLOC)
        environment |= extra or {}
        command = [python, "-m", "benchmarks.steppers", kind]
        command += ["--batch", str(batch), "--cores", ",".join(map(str, cores))]
        pipe = subprocess.PIPE
        popen = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, text=True)
        return cls(popen, batch)

    def wait_ready(self) -> Stepper:
        """Return once the network is compiled and has made its first step."""
        self._read("ready")
        return self

    def ask(self) -> None:
        """Tell the process to make a step."""
        assert self.popen.stdin is not None
        self.popen.stdin.write("step\n")
        self.popen.stdin.flush()

    def answer(self) -> float:
        """Return the seconds of the step that was asked for."""
        seconds, peak_mb = self._read("step").split()
        self.peak_mb = float(peak_mb)
        return float(seconds)

    def step(self) -> float:
        """Make a step and return its seconds."""
        self.ask()
        return self.answer()

    def end(self) -> None:
        """End the process."""
        assert self.popen.stdin is not None
        self.popen.stdin.close()
        self.popen.wait(timeout=60)

    def kill(self) -> None:
        """End the process without waiting for what it has begun."""
        self.popen.kill()
        self.popen.wait()

    def _read(self, word: str) -> str:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            if line.startswith(f"@{word}"):
                return line.removeprefix(f"@{word}").strip()
        raise click.ClickException(f"{self.popen.args!r}: ended with {self.popen.wait()} before it said {word!r}")


@contextlib.contextmanager
def ranks_of_job(kind: str, batch: int, cores: Sequence[int]) -> Iterator[list[Stepper]]:
    """Start a rank of `kind` on each of `cores` and their scheduler, with the environment that `launch` gives; end them.

    What is given are the ranks, not ready yet.
    """
    from fcn4dist.job.devices import CoreShare, needs_avx512_guard
    from fcn4dist.job.ports import LOOPBACK, choose_port
    from fcn4dist.job.worker_env import WorkerEnv, format_environment

    port = choose_port()

    def start(rank: int | None) -> Stepper:
        own = list(cores) if rank is None else [cores[rank]]
        worker = WorkerEnv(
            role="scheduler" if rank is None else "worker",
            rank=rank,
            world_size=len(cores),
            device=rank or 0,
            target="CPU",
            scheduler_host=LOOPBACK,
            scheduler_port=port,
            worker_ip=LOOPBACK,
            collective_timeout_s=JOB_LIMIT_S,
            share=CoreShare(tuple(own), 1),
            launcher_pid=os.getpid(),
        )
        extra = format_environment(worker, avx512_guard=needs_avx512_guard(), user=os.environ)
        return Stepper.start("scheduler" if rank is None else kind, batch, own, extra)

    started = [start(None), *(start(rank) for rank in range(len(cores)))]
    try:
        yield started[1:]
    finally:
        for process in started[::-1]:  # at their own end they would wait for each other
            process.kill()


def step_together(side: Sequence[Stepper]) -> float:
    """Make one step with all processes of a side and return the longest."""
    for stepper in side:
        stepper.ask()
    return max(stepper.answer() for stepper in side)


def join_job_if_any() -> Rank:
    """Make MindSpore ready as a rank of the job that the environment describes, or as the only one."""
    from fcn4dist.job.rank import SINGLE
    from fcn4dist.job.worker_env import read_environment
    from fcn4dist.run.folder import RunDir
    from fcn4dist.train.device import start_device
    from fcn4dist.train.worker import join_as_rank

    start_device("CPU", 0)
    if "MS_ROLE" not in os.environ:
        return SINGLE
    worker = read_environment(os.environ)
    join_as_rank(worker, RunDir(Path()), 1)
    return worker.as_rank()


def build_scheduler(_batch: int) -> Callable[[], object]:
    """The scheduler of the job; does not return."""
    from fcn4dist.job.worker_env import read_environment
    from fcn4dist.train.worker import join_as_scheduler

    join_as_scheduler(read_environment(os.environ))
    raise AssertionError("the job is over")


def random_batch(size: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return (size, 1, 96, 1366) clips in dB and (size, 50) labels."""
    rng = np.random.default_rng(0)
    return rng.normal(-30, 10, (size, *SHAPE)).astype(np.float32), (rng.random((size, NUM_TAGS)) < 0.1).astype(np.int32)


def build_ours(batch: int) -> Callable[[], object]:
    """A rank of fcn4dist: the network, the recipe and the step that `fcn4dist launch` and `train` have by default."""
    rank = join_job_if_any()
    from fcn4dist.config import RunConfig, plan_batches
    from fcn4dist.model.cpu_layers import build_network
    from fcn4dist.train.step import TrainStep

    config = RunConfig()
    train = config.train.model_copy(update={"global_batch": batch * rank.world_size})
    step = TrainStep(build_network(config.model, NUM_TAGS, "O0"), train, plan_batches(train, rank.world_size))
    mel_db, labels = random_batch(batch)
    return lambda: step(mel_db, labels, LR)


def build_reduce(_batch: int) -> Callable[[], object]:
    """The AllReduce of a step and nothing else: one flat tensor, as large as all gradients and statistics are."""
    join_job_if_any()
    from mindspore import Tensor, nn, ops

    class Reduce(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.reduce = ops.AllReduce(ops.ReduceOp.SUM)

        def construct(self, flat: Tensor) -> Tensor:
            return self.reduce(flat)[-1]

    cell, flat = Reduce(), Tensor(np.ones(ALLREDUCE_BYTES // 4, np.float32))
    return lambda: cell(flat).asnumpy()


def build_plain(batch: int) -> Callable[[], object]:
    """The plain recipe: conv, batch norm, ReLU, pool four times, and MindSpore's TrainOneStepCell."""
    import mindspore as ms
    from mindspore import nn, ops

    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    layers: list[nn.Cell] = []
    for source, channels, pool in zip((1, *CHANNELS), CHANNELS, (*POOLS, None), strict=False):
        layers += [nn.Conv2d(source, channels, 3), nn.BatchNorm2d(channels), nn.ReLU()]
        layers += [nn.MaxPool2d(pool, pool)] if pool else []

    class Tagger(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.SequentialCell(layers)
            self.top = ops.ReduceMax()
            self.dense = nn.Dense(CHANNELS[-1], NUM_TAGS)

        def construct(self, mel_db: ms.Tensor) -> ms.Tensor:
            return self.dense(self.top(self.layers(mel_db), (2, 3)))

    network = Tagger()
    optimizer = nn.Adam(network.trainable_params(), LR)
    step = nn.TrainOneStepCell(nn.WithLossCell(network, nn.BCEWithLogitsLoss()), optimizer)
    step.set_train()
    mel_db, labels = random_batch(batch)
    return lambda: step(ms.Tensor(mel_db), ms.Tensor(labels, ms.float32)).asnumpy()


def build_matmul(_batch: int) -> Callable[[], object]:
    """A product of two float32 matrices into one that is there, so that no page of it is new."""
    left, right = np.random.default_rng(0).random((2, MATMUL_SIZE, MATMUL_SIZE), np.float32)
    product = np.empty_like(left)
    return lambda: np.matmul(left, right, out=product)


def build_torch(kind: str, batch: int) -> Callable[[], object]:
    """The same network and optimizer in PyTorch."""
    import torch
    from torch import nn

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    layers: list[nn.Module] = []
    for source, channels, pool in zip((1, *CHANNELS), CHANNELS, (*POOLS, None), strict=False):
        layers += [nn.Conv2d(source, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
        layers += [nn.MaxPool2d(pool)] if pool else [nn.AdaptiveMaxPool2d(1)]
    network: Any = nn.Sequential(*layers, nn.Flatten(), nn.Linear(CHANNELS[-1], NUM_TAGS))
    form = torch.channels_last if "nhwc" in kind else torch.contiguous_format
    network = network.to(memory_format=form)
    if "ddp" in kind:
        torch.distributed.init_process_group("gloo")
        network = nn.parallel.DistributedDataParallel(network)
    if "compiled" in kind:
        network = torch.compile(network)
    optimizer = torch.optim.Adam(network.parameters(), LR, fused=True)
    loss_of = nn.BCEWithLogitsLoss()
    mel_db, labels = (torch.from_numpy(array) for array in random_batch(batch))
    half = "bf16" in kind

    def step() -> float:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            loss = loss_of(network(mel_db.to(memory_format=form)), labels.float())
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


@click.command()
@click.argument("kind")
@click.option("--batch", type=int, required=True)
@click.option("--cores", required=True)
def main(kind: str, batch: int, cores: str) -> None:
    """Make a step for every line on stdin."""
    os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    step = find_builder(kind)(batch)
    step()
    print("@ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        step()
        seconds = time.perf_counter() - start
        print(f"@step {seconds} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}", flush=True)


def find_builder(kind: str) -> Callable[[int], Callable[[], object]]:
    """Return what builds the step of `kind` for a batch."""
    if kind.startswith("benchmarks."):
        module, name, argument = kind.split(":", 2)
        return functools.partial(getattr(importlib.import_module(module), name), argument)
    if kind.startswith("torch-"):
        return functools.partial(build_torch, kind)
    builders = {"ours": build_ours, "reduce": build_reduce, "plain": build_plain, "matmul": build_matmul}
    return {**builders, "scheduler": build_scheduler}[kind]


if __name__ == "__main__":
    main()

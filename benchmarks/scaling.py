"""A model of the step's time on clusters that are not here; docs/lab/scaling.md discusses what it prints.

    python -m benchmarks.scaling [--clips-per-s FIGURE_OF_TUNE]

step = compute + allreduce + update        (one after the other: the one allreduce comes after the whole backward pass)
input = bytes of a global batch / what the source delivers; hidden behind the step until it is the longer one
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import click

PARAMETERS, STATISTICS = 17_362_610, 2 * (128 + 384 + 768 + 2048)
ALLREDUCE_BYTES = 4 * (PARAMETERS + STATISTICS + 2)  # gradients, batch-norm statistics, loss, the wish to stop; float32
GFLOP_PER_CLIP = 59.8
CLIP_BYTES = 4 * 96 * 1366


@dataclass(frozen=True)
class Cluster:
    """What is assumed of the hardware; rates are what a program gets, not what a data sheet says."""

    name: str
    clips_per_s: float  # of a device alone: what `fcn4dist tune` measures
    memory_gb_s: float  # of a device: Adam and the copies into and out of the flat tensor are bound by it
    devices_a_server: int
    inner_gb_s: float  # a device to its neighbour in the server
    outer_gb_s: float  # a device's port to other servers
    inner_latency_s: float
    outer_latency_s: float
    source_gb_s: float  # shared storage, for the whole job
    local_gb_s: float  # a server's own disk or memory, where the shards were copied to


# Assumptions, not measurements: 300 clips/s is the middle of what a 910B in O2 may be expected to do, 200 to 400 (see the page);
# half of a 1.6 TB/s memory; HCCS in the server and one port of 200 Gbit/s a device out of it, both at 80 %; a shared file system
# of 5 GB/s, an NVMe disk of 3 GB/s.
NPUS = Cluster("Ascend 910B", 300, 800, 8, 45, 20, 5e-6, 15e-6, 5, 3)


@dataclass(frozen=True)
class Step:
    """The seconds of a step."""

    compute_s: float
    allreduce_s: float
    update_s: float
    input_s: float

    @property
    def step_s(self) -> float:
        """Time until the next step can begin."""
        return max(self.compute_s + self.allreduce_s + self.update_s, self.input_s)


def ring_s(num: int, size: float, gb_s: float, latency_s: float) -> float:
    """Return the time of a ring allreduce of `size` bytes over `num`: 2 (num - 1) rounds of size / num."""
    return 0.0 if num == 1 else 2 * (num - 1) * (size / num / gb_s / 1e9 + latency_s)


def predict(
    cluster: Cluster, num_devices: int, rank_batch: int, *, is_local: bool = False, clip_bytes: int = CLIP_BYTES
) -> Step:
    """Return the times of a step of `num_devices`: a ring in each server, then rings over the servers of a part each."""
    inner = min(num_devices, cluster.devices_a_server)
    servers = -(-num_devices // inner)
    reduce_s = ring_s(inner, ALLREDUCE_BYTES, cluster.inner_gb_s, cluster.inner_latency_s)
    reduce_s += ring_s(servers, ALLREDUCE_BYTES / inner, cluster.outer_gb_s, cluster.outer_latency_s)
    touched = 11 * 4 * PARAMETERS  # flat tensor in and out, unscaling, the check, Adam's reads and writes
    source_gb_s = servers * cluster.local_gb_s if is_local else cluster.source_gb_s
    return Step(
        compute_s=rank_batch / cluster.clips_per_s,
        allreduce_s=reduce_s,
        update_s=touched / cluster.memory_gb_s / 1e9,
        input_s=num_devices * rank_batch * clip_bytes / source_gb_s / 1e9,
    )


def check_here(gflops: float, matmul_gflops: float, allreduce_s: float) -> Step:
    """Return what the same model says of two ranks on this machine's two cores, batch 8 a rank; compare it with a run."""
    if gflops > matmul_gflops:
        raise click.UsageError(
            f"{gflops:g} GFLOP/s of a step: expected at most the {matmul_gflops:g} of its matrix product"
        )
    here = Cluster("two cores", gflops / GFLOP_PER_CLIP, 8, 2, 1, 1, 0, 0, 2, 2)
    bandwidth = ALLREDUCE_BYTES / allreduce_s / 1e9  # two ranks: each sends the tensor once over
    return predict(replace(here, inner_gb_s=bandwidth), 2, 8)


def table(cluster: Cluster) -> list[str]:
    """Return the predictions as lines of Markdown."""
    lines = [
        "| NPUs | clips a rank | source | compute | allreduce | update | input | step | clips/s | of ideal |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    ideal = {batch: batch / predict(cluster, 1, batch, is_local=True).step_s for batch in (8, 32)}
    for num in (1, 8, 64, 1024):
        for batch in (8, 32):
            for source, is_local, size in (
                ("shared", False, CLIP_BYTES),
                ("local", True, CLIP_BYTES),
                ("local, float16", True, CLIP_BYTES // 2),
            ):
                step = predict(cluster, num, batch, is_local=is_local, clip_bytes=size)
                parts = (step.compute_s, step.allreduce_s, step.update_s, step.input_s, step.step_s)
                rate = num * batch / step.step_s
                cells = [
                    *(f"{1000 * part:.1f} ms" for part in parts),
                    f"{rate:,.0f}",
                    f"{100 * rate / num / ideal[batch]:.0f} %",
                ]
                lines.append(f"| {num:,} | {batch} | {source} | " + " | ".join(cells) + " |")
    return lines


def table_of_rates(cluster: Cluster) -> list[str]:
    """Return the clips/s of whole jobs, 32 clips a rank from local copies, where a device alone makes more or fewer."""
    lines = ["| a device alone, clips/s | 1 NPU | 8 | 64 | 1,024 | of ideal |", "|---|---|---|---|---|---|"]
    for clips_per_s in (150, 200, 300, 400):
        own = replace(cluster, clips_per_s=clips_per_s)
        rates = [num * 32 / predict(own, num, 32, is_local=True).step_s for num in (1, 8, 64, 1024)]
        cells = " | ".join(f"{rate:,.0f}" for rate in rates)
        lines.append(f"| {clips_per_s} | {cells} | {100 * rates[-1] / 1024 / rates[0]:.0f} % |")
    return lines


@click.command()
@click.option(
    "--here", nargs=3, type=float, metavar="GFLOPS MATMUL ALLREDUCE_S", help="Check the model against this machine."
)
@click.option(
    "--clips-per-s",
    type=click.FloatRange(0, min_open=True),
    default=NPUS.clips_per_s,
    metavar="X",
    help="Of one device, as `fcn4dist tune` measured it.  [default: 300, an assumption]",
)
def main(here: tuple[float, float, float] | None, clips_per_s: float) -> None:
    """Print the predictions."""
    if here:
        click.echo(f"two ranks here, batch 8 a rank: {check_here(*here)}")
    click.echo("\n".join([*table(replace(NPUS, clips_per_s=clips_per_s)), "", *table_of_rates(NPUS)]))


if __name__ == "__main__":
    main()

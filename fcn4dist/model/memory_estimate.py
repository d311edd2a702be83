"""How much memory a device needs, by arithmetic from the config and one factor that was measured; take it as a guide."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from fcn4dist.config import BatchPlan, MelConfig, ModelConfig, RunConfig, TrainConfig
from fcn4dist.job.devices import Target

FLOAT_BYTES = 4
HALF_BYTES = 2
PLAIN_COPIES = (
    1.8  # measured on CPU, also in O2: gradients of the activations live beside them, and the memory pool keeps both
)
CPU_COPIES = 1.0  # measured for the pooled form of model/cpu_layers.py


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on one device, without MindSpore's own runtime (some 0.5 GB)."""

    weights_bytes: int  # parameters, batch-norm statistics and the copy of the latter
    optimizer_bytes: int  # Adam's two moments a parameter, or SGD's one; and the moving average of the weights
    gradients_bytes: int  # one a parameter; with accumulation a sum each; with several ranks the flat tensor, twice
    activations_bytes: int  # what the backward pass of one micro-batch needs, and the gradients of it

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.weights_bytes + self.optimizer_bytes + self.gradients_bytes + self.activations_bytes

    def to_json(self) -> dict[str, Any]:
        """Return the parts and the sum."""
        return {**asdict(self), "total_bytes": self.total_bytes}


def count_tags(config: RunConfig) -> int:
    """Return how many tags the network will have, 50 where the config names a file."""
    tags = config.data.tags
    return tags if isinstance(tags, int) else len(tags) if isinstance(tags, list) else 50


def count_parameters(model: ModelConfig, num_tags: int, n_mels: int = MelConfig().n_mels) -> int:
    """Return FCN-4's trainable parameters: 3x3 convolutions without bias, two a batch-norm channel, one dense layer.

    17,362,610 for the default channels and 50 tags; an input norm has two more a mel band.
    """
    inputs = [1, *model.channels[:-1]]
    convolutions = sum(9 * i * o for i, o in zip(inputs, model.channels, strict=True))
    return convolutions + 2 * count_normalized(model, n_mels) + (model.channels[-1] + 1) * num_tags


def count_normalized(model: ModelConfig, n_mels: int) -> int:
    """Return the channels of all batch norms; those of an input norm are the mel bands."""
    return sum(model.channels) + (n_mels if model.input_norm == "batch" else 0)


def count_activations(model: ModelConfig, mel: MelConfig) -> int:
    """Return the values that the backward pass of one clip needs: the input, and a layer's four outputs.

    A layer keeps what the convolution, the batch norm, the pool and the ReLU gave: channels x (2 areas before the pool and
    2 after it). The last pool takes the maximum over everything.
    """
    bands, frames = mel.n_mels, mel.num_frames
    total = bands * frames * (1 if model.input_norm == "none" else 2)  # the input, and what its norm gave
    for channels, pool in zip(model.channels, [*model.pools, None], strict=True):
        area = bands * frames
        bands, frames = (1, 1) if pool is None else (bands // pool[0], frames // pool[1])
        total += channels * 2 * (area + bands * frames)
    return total


def estimate_memory(
    model: ModelConfig, mel: MelConfig, train: TrainConfig, batches: BatchPlan, num_tags: int, target: Target
) -> MemoryEstimate:
    """Estimate what one device holds while it trains; activations take half in O3 (in O2 batch norm keeps float32).

    With MindSpore 2.10 on CPU the default network peaked at 1.90 GiB for 4 clips and 2.71 GiB for 8, 0.85 of it the process; O2
    at 2.37 GiB for 4. With 4 clips `fcn4dist tune` saw 2.6 GB for the plain block (O0, O2) and 2.7 for the pooled one in O2.
    """
    parameters = count_parameters(model, num_tags, mel.n_mels)
    statistics = 2 * count_normalized(model, mel.n_mels)
    slots = (1 if train.optimizer == "sgd" else 2) + (train.ema_decay is not None)
    copies = 1 + (batches.accumulation > 1) + 2 * (batches.world_size > 1)
    value_bytes = HALF_BYTES if train.amp == "O3" else FLOAT_BYTES
    is_small = target == "CPU" and train.amp == "O0" and model.pools_first(target, train.amp)
    kept = CPU_COPIES if is_small else PLAIN_COPIES
    return MemoryEstimate(
        weights_bytes=FLOAT_BYTES * (parameters + 2 * statistics),
        optimizer_bytes=FLOAT_BYTES * slots * parameters,
        gradients_bytes=FLOAT_BYTES * copies * parameters,
        activations_bytes=round(kept * value_bytes * batches.micro_batch * count_activations(model, mel)),
    )


def format_memory(estimate: MemoryEstimate) -> str:
    """Return one line for people."""
    parts = {name.removesuffix("_bytes"): value for name, value in asdict(estimate).items()}
    listed = ", ".join(f"{name} {_in_words(value)}" for name, value in parts.items())
    return f"memory a device: about {_in_words(estimate.total_bytes)} ({listed}), and MindSpore's own"


def _in_words(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"

"""One training step, the same on CPU and Ascend: forward, backward, reduce, check, update.

    micro-batches ──> scaled loss, gradients ──> one flat AllReduce ──> unscale ──> all finite? ── yes ──> descent
                                                                                          └─ no ──> nothing changes
                                                                                     adjust the dynamic scale

The gradients, the batch-norm statistics, the loss, the count of known labels, the wish to stop and whether this rank overflowed
travel in one tensor, so a step has a single collective, all ranks see the same numbers, so skip the same steps and stop after the
same one. A rank must tell that it overflowed: on Ascend 910 numbers saturate, what comes back from the others looks finite, and
the flag that `amp.all_finite` reads there is a register of the rank's own chip.
What a step says comes back as one small tensor, its only copy to the host, and on Ascend the loop starts the next step before it
reads that. The learning rate goes in with the clips.
`Model(amp_level=...)` is not used: it does not run on CPU (see docs/lab/log.md).

Each micro-batch is normalized by its own statistics, and moves the moving ones from where they stood before the step. What is
kept is the mean of these over micro-batches and ranks: one update a step, by the mean of all parts' means and variances. So
statistics depend on the size of a micro-batch, as the outputs do, but not on which rank took which. The variance between the
parts' means is left out: the moving variance is that of what a part was normalized by.

A label may be unknown (-1). The loss is the mean over the known labels of the global batch, however it is cut: a micro-batch
gives its sum over known labels divided by its number of labels, and the sum over all of them is divided by the share that is
known. Where no label of the global batch is known, loss and gradients are 0, and Adam goes on by its moments.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, amp, nn, ops
from numpy.typing import NDArray

from fcn4dist.config import BatchPlan, TrainConfig
from fcn4dist.model.fcn4 import FCN4, batch_norms
from fcn4dist.model.parameters import EMA_PREFIX
from fcn4dist.train.descent import Descent

DYNAMIC_START = 2.0**16  # first dynamic loss scale; doubled after WINDOW finite steps, halved at an overflow
DYNAMIC_WINDOW = 1000
MOST_SCALE = 2.0**64  # so that neither the scale nor its product with the number of parts is ever infinite
MOST_GRADIENT = 1.8e19  # Adam's second moment is infinite from 1.84e19, the root of the largest float32
STAT_PREFIX = "synced_"


@dataclass(frozen=True)
class StepResult:
    """What a step tells the loop; the same on every rank."""

    loss: float  # mean over the known labels of the global batch; not finite after some overflows
    is_overflow: bool  # a gradient or its square was not finite; nothing was updated
    loss_scale: float  # that this step used
    is_stop: bool = False  # a rank was asked to stop after this step


@dataclass(frozen=True)
class RunningStep:
    """A step that the device has taken over, and may be busy with."""

    told: Tensor  # (4,): loss, whether the update was made, loss scale, number of ranks that want to stop

    def read(self) -> StepResult:
        """Wait for the end of the step, and return what it says."""
        loss, was_finite, scale, num_stops = self.told.asnumpy().tolist()
        return StepResult(loss, was_finite == 0, scale, num_stops > 0)


class TrainStep:
    """The compiled step of one network: call it with a rank's clips of one global batch."""

    def __init__(self, network: FCN4, train: TrainConfig, plan: BatchPlan) -> None:
        self._plan = plan
        self.network = network
        network.set_train(True)
        if train.freeze_batch_norm:
            for norm in batch_norms(network):
                norm.set_train(False)
        stats = [] if train.freeze_batch_norm else running_statistics(network)
        self.descent = Descent(network.trainable_params(), train)
        self.optimizer = self.descent.optimizer
        num_labels = plan.global_batch * network.dense.out_channels
        # wraps cells of `network` in place: from here on only the parameters of FCN4 may be looked at, not its layers
        mixed = (
            network
            if train.amp == "O0"
            else amp.auto_mixed_precision(network, train.amp, dtype=getattr(ms, train.amp_dtype))
        )
        start = DYNAMIC_START if train.loss_scale == "dynamic" else train.loss_scale
        window = DYNAMIC_WINDOW if train.loss_scale == "dynamic" else 0
        self.scaler = LossScaler(float(start), window)
        self._update = Update(self.descent, self.scaler, stats, plan, num_labels)
        gradients = Gradients(mixed, self.optimizer.parameters, self.scaler)
        if plan.accumulation == 1:
            self._step = WholeStep(gradients, self._update)
        else:
            self._accumulate = Accumulate(gradients, self.optimizer.parameters, self._update)
            self._apply = ApplySums(self._accumulate, self._update)

    @property
    def weights(self) -> list[Parameter]:
        """The network as it is evaluated: its parameters in their order, with the moving average where there is one."""
        averages = {average.name.removeprefix(EMA_PREFIX): average for average in self.descent.averages}
        return [averages.get(parameter.name, parameter) for parameter in self.network.get_parameters()]

    @property
    def state(self) -> list[Parameter]:
        """What a checkpoint holds beside `weights`: moments and counters, the loss scale and its counter, with a moving
        average the weights that are trained.
        """
        return [*self.descent.state, *self.scaler.get_parameters()]

    def keep_statistics(self) -> None:
        """Take the network's batch-norm statistics as the ones to go back to; call after loading weights."""
        for kept, stat in zip(self._update.kept, self._update.stats, strict=True):
            kept.set_data(Tensor(stat.asnumpy()))

    def __call__(
        self,
        mel_db: NDArray[Any],
        labels: NDArray[Any],
        lr: float,
        *,
        keep: NDArray[np.float32] | None = None,
        wants_stop: bool = False,
    ) -> StepResult:
        """Make one step and wait for its end; see `begin`."""
        return self.begin(mel_db, labels, lr, keep=keep, wants_stop=wants_stop).read()

    def begin(
        self,
        mel_db: NDArray[Any],
        labels: NDArray[Any],
        lr: float,
        *,
        keep: NDArray[np.float32] | None = None,
        wants_stop: bool = False,
    ) -> RunningStep:
        """Start one step on (rank_batch, 1, n_mels, frames) clips and (rank_batch, num_tags) labels at learning rate `lr`.

        A label is 0 to 1 or -1 (unknown). `keep` (rank_batch, channels) is dropout's mask, see `FCN4.construct`. Where
        `wants_stop` is set on any rank, every rank's result says so. On CPU the step is over when this returns; on Ascend the
        device works on, and whatever it is given next, the copy of a parameter too, comes after the step.
        """
        rate, stop = Tensor(lr, ms.float32), Tensor(float(wants_stop), ms.float32)
        if self._plan.accumulation == 1:
            return RunningStep(self._step(_tensor(mel_db), _tensor(labels), rate, stop, _tensor(keep)))
        size = self._plan.micro_batch
        for start in range(0, len(mel_db), size):
            part = slice(start, start + size)
            mask = None if keep is None else keep[part]
            self._accumulate(_tensor(mel_db[part]), _tensor(labels[part]), _tensor(mask))
        return RunningStep(self._apply(rate, stop))


class LossScaler(nn.Cell):
    """The loss scale and, where it is dynamic, its count of finite steps; both are parameters, so checkpoints hold them."""

    def __init__(self, start: float, window: int) -> None:
        super().__init__()
        self._window = window  # 0: the scale is fixed
        self.scale = Parameter(Tensor(start, ms.float32), name="loss_scale", requires_grad=False)
        self.counter = Parameter(Tensor(0, ms.int32), name="loss_scale_counter", requires_grad=False)

    def construct(self, finite: Tensor) -> Tensor:
        """Adjust after a step that was `finite` or not: double after a window of finite steps, halve after an overflow."""
        if self._window == 0:
            return finite
        counter = ops.select(finite, self.counter + 1, ops.zeros_like(self.counter))
        grown = ops.select(counter >= self._window, self.scale * 2.0, self.scale)
        scale = ops.select(finite, grown, ops.maximum(self.scale * 0.5, Tensor(1.0, ms.float32)))
        scale = ops.minimum(scale, Tensor(MOST_SCALE, ms.float32))
        ops.assign(self.counter, ops.select(counter >= self._window, ops.zeros_like(counter), counter))
        ops.assign(self.scale, scale)
        return finite


class Gradients(nn.Cell):
    """The scaled loss of a micro-batch and its gradients."""

    def __init__(self, network: nn.Cell, weights: Any, scaler: LossScaler) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.scaler = scaler
        self.gradients = ops.value_and_grad(self.scaled_loss, None, weights)

    def scaled_loss(self, mel_db: Tensor, labels: Tensor, is_known: Tensor, keep: Tensor | None = None) -> Tensor:
        """Return the sum of the binary cross-entropy over known labels, divided by all, times the loss scale."""
        logits = self.network(mel_db) if keep is None else self.network(mel_db, keep)
        logits = ops.cast(logits, ms.float32)
        return ops.binary_cross_entropy_with_logits(logits, labels, is_known) * self.scaler.scale

    def construct(self, mel_db: Tensor, labels: Tensor, keep: Tensor | None = None) -> Any:
        """Return (scaled loss, gradients of the scaled loss, number of known labels)."""
        is_known = ops.cast(labels >= 0, ms.float32)
        loss, gradients = self.gradients(mel_db, labels, is_known, keep)
        return loss, gradients, ops.sum(is_known)


class Update(nn.Cell):
    """Reduce, check and apply: the part of a step that all ranks do together."""

    def __init__(
        self, descent: Descent, scaler: LossScaler, stats: list[Parameter], plan: BatchPlan, num_labels: int
    ) -> None:
        super().__init__(auto_prefix=False)
        self.descent = descent
        self.scaler = scaler
        self.stats = ms.ParameterTuple(stats)
        # the statistics after the last step that counted; an overflow in the forward pass goes back to them
        self.kept = ms.ParameterTuple(
            Parameter(stat.value().copy(), name=STAT_PREFIX + stat.name, requires_grad=False) for stat in stats
        )
        self.is_distributed = plan.world_size > 1
        self.parts = plan.world_size * plan.accumulation
        self.num_labels = num_labels  # of the global batch, known or not
        shapes = [tuple(p.shape) for p in (*descent.weights, *stats)]
        self.num_gradients = len(descent.weights)
        self.slices = slices_of([int(np.prod(shape)) for shape in shapes])
        self.shapes = tuple(shapes)
        if self.is_distributed:
            self.reduce = ops.AllReduce(ops.ReduceOp.SUM)

    def construct(self, sums: Any, lr: Tensor, stop: Tensor) -> Tensor:
        """Return what `RunningStep` holds; `sums` is of this rank's micro-batches.

        They are the scaled loss, its gradients, the statistics as each micro-batch has moved them, and the known labels.
        """
        loss, gradients, moved, num_known = sums
        ops.assign(self.descent.optimizer.learning_rate, lr)  # in the graph: set_data from outside would not be seen
        used_scale = self.scaler.scale * 1.0
        values: Any = (*gradients, *moved)
        flat = ops.reshape(loss, (1,))
        if self.is_distributed:
            own = [ops.reshape(v, (-1,)) for v in values] + [flat]
            # on CPU 16 ms for the full network, of a step of 6 s; twice that over values that are not flat
            overflow = ops.cast(ops.logical_not(amp.all_finite(own)), ms.float32)
            last = [ops.reshape(v, (1,)) for v in (num_known, stop, overflow)]
            flat = self.reduce(ops.concat(own + last))
            values = ()
            for i in range(len(self.shapes)):
                values = (*values, ops.reshape(flat[self.slices[i][0] : self.slices[i][1]], self.shapes[i]))
            loss = flat[-4]
            num_known = flat[-3]
            stop = flat[-2]
        known = ops.maximum(num_known, 1.0) / self.num_labels  # just 1 where all are known; counts add without rounding
        unscale = 1.0 / (self.scaler.scale * self.parts * known)
        gradients = tuple(values[i] * unscale for i in range(self.num_gradients))
        stats = tuple(values[self.num_gradients + i] / self.parts for i in range(len(self.stats)))
        loss = loss * unscale
        if self.is_distributed:
            # not amp.all_finite: every rank decides by what all ranks have received; NaN is not less
            is_small = ops.less(ops.abs(flat), MOST_GRADIENT / unscale).all()
            finite = ops.logical_and(ops.less(flat[-1], Tensor(1.0, ms.float32)), is_small)
        else:
            squares = tuple(ops.square(gradient) for gradient in gradients)
            finite = amp.all_finite((*squares, *stats, flat))
        if finite:
            self.descent(gradients)
            for i in range(len(self.stats)):
                ops.assign(self.kept[i], stats[i])
        for i in range(len(self.stats)):
            ops.assign(self.stats[i], self.kept[i])
        self.scaler(finite)
        told = (loss, ops.cast(finite, ms.float32), used_scale, stop)
        return ops.concat([ops.reshape(value, (1,)) for value in told])


class WholeStep(nn.Cell):
    """A step without accumulation, as one graph."""

    def __init__(self, gradients: Gradients, update: Update) -> None:
        super().__init__(auto_prefix=False)
        self.gradients = gradients
        self.update = update

    def construct(self, mel_db: Tensor, labels: Tensor, lr: Tensor, stop: Tensor, keep: Tensor | None = None) -> Tensor:
        """Return what `RunningStep` holds."""
        loss, gradients, num_known = self.gradients(mel_db, labels, keep)
        moved: Any = ()
        for stat in self.update.stats:
            moved = (*moved, stat)
        return self.update((loss, gradients, moved, num_known), lr, stop)


class Accumulate(nn.Cell):
    """Sum the losses, gradients, moved statistics and known labels of the micro-batches of a step."""

    def __init__(self, gradients: Gradients, weights: Any, update: Update) -> None:
        super().__init__(auto_prefix=False)
        self.gradients = gradients
        self.stats = update.stats
        self.kept = update.kept
        self.sums = ms.ParameterTuple(
            Parameter(ops.zeros_like(value), name=f"sum_{value.name}", requires_grad=False)
            for value in (*weights, *update.stats)
        )
        self.num_gradients = len(weights)
        self.loss = Parameter(Tensor(0.0, ms.float32), name="sum_loss", requires_grad=False)
        self.num_known = Parameter(Tensor(0.0, ms.float32), name="sum_known", requires_grad=False)

    def construct(self, mel_db: Tensor, labels: Tensor, keep: Tensor | None = None) -> Tensor:
        """Add one micro-batch, and take the statistics that it has moved back to where the step found them."""
        loss, gradients, num_known = self.gradients(mel_db, labels, keep)
        for i in range(self.num_gradients):
            ops.assign_add(self.sums[i], gradients[i])
        for i in range(len(self.stats)):
            ops.assign_add(self.sums[self.num_gradients + i], self.stats[i])
            ops.assign(self.stats[i], self.kept[i])
        ops.assign_add(self.loss, loss)
        ops.assign_add(self.num_known, num_known)
        return loss


class ApplySums(nn.Cell):
    """The end of a step with accumulation."""

    def __init__(self, accumulate: Accumulate, update: Update) -> None:
        super().__init__(auto_prefix=False)
        self.sums = accumulate.sums
        self.num_gradients = accumulate.num_gradients
        self.loss = accumulate.loss
        self.num_known = accumulate.num_known
        self.update = update

    def construct(self, lr: Tensor, stop: Tensor) -> Tensor:
        """Return what `RunningStep` holds."""
        values: Any = ()
        for total in self.sums:
            values = (*values, total + 0.0)
        gradients, moved = values[: self.num_gradients], values[self.num_gradients :]
        result = self.update((self.loss + 0.0, gradients, moved, self.num_known + 0.0), lr, stop)
        for total in self.sums:  # the next step starts from zero
            ops.assign(total, ops.zeros_like(total))
        ops.assign(self.loss, ops.zeros_like(self.loss))
        ops.assign(self.num_known, ops.zeros_like(self.num_known))
        return result


def _tensor(values: NDArray[Any] | None) -> Tensor | None:
    return None if values is None else Tensor(values, ms.float32)


def running_statistics(network: FCN4) -> list[Parameter]:
    """Return the moving means and variances in the order of the layers."""
    return [stat for norm in batch_norms(network) for stat in (norm.moving_mean, norm.moving_variance)]


def slices_of(sizes: list[int]) -> tuple[tuple[int, int], ...]:
    """Return (start, end) of each of `sizes` consecutive parts."""
    return tuple(pairwise(np.cumsum([0, *sizes]).tolist()))

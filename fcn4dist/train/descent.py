"""From gradients to weights: clip, decay, move, average. What is switched off is not in the compiled graph.

Adam is MindSpore's own. SGD is written out: `nn.Momentum(use_nesterov=True)` is plain momentum on CPU (docs/lab/log.md). Decay of
weights leaves biases and norms alone. With `adam` and `sgd` it is a part of the gradient, as PyTorch's `weight_decay`; with
`adamw` weights shrink by lr * decay beside it (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101), as in PyTorch's.

The moving average of the weights (EMA) is what is evaluated, exported and used for tagging; batch norm's statistics beside it are
the current ones, which are moving averages themselves. Early averages are short, min(decay, (1 + n) / (10 + n)) after n updates
as in TensorFlow, so that the first weights do not weigh down a run of a few hundred steps.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from fcn4dist.config import TrainConfig
from fcn4dist.model.parameters import EMA_PREFIX

UNDECAYED = (".bias", ".gamma", ".beta")


class Nesterov(nn.Cell):
    """SGD with Nesterov's momentum as PyTorch has it: v = momentum * v + g, w = w - lr * (g + momentum * v)."""

    def __init__(self, weights: Iterable[Parameter], lr: float, momentum: float) -> None:
        super().__init__(auto_prefix=False)
        self.parameters = ms.ParameterTuple(weights)
        self.momentum = momentum
        self.learning_rate = Parameter(Tensor(lr, ms.float32), name="learning_rate", requires_grad=False)
        self.moments = self.parameters.clone("moments", "zeros")

    def construct(self, gradients: Any) -> bool:
        """Make one update."""
        for i in range(len(self.parameters)):
            ops.assign(self.moments[i], self.moments[i] * self.momentum + gradients[i])
            step = gradients[i] + self.moments[i] * self.momentum
            ops.assign(self.parameters[i], self.parameters[i] - step * self.learning_rate)
        return True


class Descent(nn.Cell):
    """The optimizer and what goes with it; its parameters are what a checkpoint holds beside the network."""

    def __init__(self, weights: Iterable[Parameter], train: TrainConfig) -> None:
        super().__init__(auto_prefix=False)
        optimizer: Nesterov | nn.Adam
        if train.optimizer == "sgd":
            optimizer = Nesterov(weights, train.lr, train.momentum)
        else:
            optimizer = nn.Adam(weights, learning_rate=train.lr)
        self.optimizer = optimizer
        self.weights = optimizer.parameters
        self.decay = train.weight_decay
        self.decays_beside = train.optimizer == "adamw"
        self.is_decayed = tuple(train.weight_decay > 0 and not w.name.endswith(UNDECAYED) for w in self.weights)
        self.clip_norm = train.clip_norm
        self.ema_decay = train.ema_decay
        averaged = [] if train.ema_decay is None else self.weights
        self.averages = ms.ParameterTuple(
            Parameter(w.value().copy(), name=EMA_PREFIX + w.name, requires_grad=False) for w in averaged
        )
        self.num_updates = Parameter(Tensor(0.0, ms.float32), name="ema_updates", requires_grad=False)

    @property
    def state(self) -> list[Parameter]:
        """The optimizer's moments and counters; with an average, the weights themselves, whose place it takes elsewhere."""
        names = {weight.name for weight in self.weights}
        own = [parameter for parameter in self.optimizer.get_parameters() if parameter.name not in names]
        return own if self.ema_decay is None else [*own, *self.weights, self.num_updates]

    def construct(self, gradients: Any) -> bool:
        """Make one update."""
        if self.clip_norm is not None:
            squares = Tensor(0.0, ms.float32)
            for gradient in gradients:
                squares = squares + ops.reduce_sum(ops.square(gradient))
            factor = ops.minimum(self.clip_norm / (ops.sqrt(squares) + 1e-6), Tensor(1.0, ms.float32))
            clipped: Any = ()
            for gradient in gradients:
                clipped = (*clipped, gradient * factor)
            gradients = clipped
        if self.decay > 0:
            gradients = self.decayed(gradients)
        self.optimizer(gradients)
        if self.ema_decay is not None:
            ops.assign(self.num_updates, self.num_updates + 1.0)
            fresh = 1.0 - ops.minimum((1.0 + self.num_updates) / (10.0 + self.num_updates), self.ema_decay)
            for i in range(len(self.averages)):
                ops.assign(self.averages[i], self.averages[i] + (self.weights[i] - self.averages[i]) * fresh)
        return True

    def decayed(self, gradients: Any) -> Any:
        """Shrink the weights, or return the gradients with what shrinks them."""
        found: Any = ()
        for i in range(len(self.weights)):
            gradient = gradients[i]
            if self.is_decayed[i]:
                if self.decays_beside:
                    rate = self.optimizer.learning_rate * self.decay
                    ops.assign(self.weights[i], self.weights[i] - self.weights[i] * rate)
                else:
                    gradient = gradient + self.weights[i] * self.decay
            found = (*found, gradient)
        return found

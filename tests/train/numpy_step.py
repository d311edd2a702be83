"""A training step of FCN-4 in plain NumPy and float64, forward and backward written out: the compiled one is compared with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.special import expit

Array = np.ndarray[Any, Any]
EPS = 1e-5  # of MindSpore's batch norm
FRESH = 0.1  # how far a moving statistic goes towards a batch's


def windows(maps: Array) -> Array:
    """(N, C, H, W) -> the 3 x 3 neighbourhood of each position, zero padded: (N, C, H, W, 3, 3)."""
    return sliding_window_view(np.pad(maps, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), (2, 3))  # type: ignore[call-overload]


def pool(maps: Array, sizes: tuple[int, int]) -> tuple[Array, Array]:
    """Maxima of tiles without overlap, and how each position of `maps` counts in them: the first of the highest of a tile."""
    (p, q), (n, c, height, width) = sizes, maps.shape
    h, w = height // p, width // q
    tiles = maps[:, :, : h * p, : w * q].reshape(n, c, h, p, w, q).swapaxes(3, 4).reshape(n, c, h, w, p * q)
    is_taken = np.arange(p * q) == tiles.argmax(axis=4)[..., None]
    taken = np.zeros_like(maps)
    taken[:, :, : h * p, : w * q] = is_taken.reshape(n, c, h, w, p, q).swapaxes(3, 4).reshape(n, c, h * p, w * q)
    return tiles.max(axis=4), taken


def spread(gradient: Array, sizes: tuple[int, int], taken: Array) -> Array:
    """The gradient of a pool's input."""
    wide = gradient.repeat(sizes[0], axis=2).repeat(sizes[1], axis=3)
    wide = np.pad(wide, [(0, 0), (0, 0), *((0, taken.shape[i] - wide.shape[i]) for i in (2, 3))])
    return wide * taken


def gradients_of(
    weights: dict[str, Array], pools: Sequence[tuple[int, int]], mel_db: Array, labels: Array, keep: Array | float = 1.0
) -> tuple[float, dict[str, Array], dict[str, Array]]:
    """Return of one micro-batch: the sum of the cross-entropy over known labels, its gradients, and the batch's statistics."""
    x, kept = mel_db.astype(np.float64), []
    stats: dict[str, Array] = {}
    for i in range(1, 5):
        seen = windows(x)
        maps = np.einsum("nchwij,ocij->nohw", seen, weights[f"conv{i}.weight"])
        mean, variance = maps.mean(axis=(0, 2, 3)), maps.var(axis=(0, 2, 3))
        count = maps[:, 0].size
        stats |= {f"bn{i}.moving_mean": mean, f"bn{i}.moving_variance": variance * count / (count - 1)}
        spread_of = np.sqrt(variance + EPS)[:, None, None]
        normal = (maps - mean[:, None, None]) / spread_of
        scaled = weights[f"bn{i}.gamma"][:, None, None] * normal + weights[f"bn{i}.beta"][:, None, None]
        sizes = pools[i - 1] if i < 4 else scaled.shape[2:]
        pooled, taken = pool(scaled, sizes)
        x = np.maximum(pooled, 0)
        kept.append((seen, normal, spread_of, sizes, taken, x))
    values = x[:, :, 0, 0] * keep
    logits = values @ weights["dense.weight"].T + weights["dense.bias"]
    known = labels >= 0
    entropy = np.logaddexp(0, logits) - labels * logits
    back = np.where(known, expit(logits) - labels, 0.0)
    found = {"dense.weight": back.T @ values, "dense.bias": back.sum(axis=0)}
    gradient = (back @ weights["dense.weight"] * keep)[:, :, None, None]
    for i in range(4, 0, -1):
        seen, normal, spread_of, sizes, taken, active = kept[i - 1]
        gradient = spread(gradient * (active > 0), sizes, taken)
        found |= {f"bn{i}.gamma": (gradient * normal).sum(axis=(0, 2, 3)), f"bn{i}.beta": gradient.sum(axis=(0, 2, 3))}
        level, slope = (np.mean(g, axis=(0, 2, 3), keepdims=True)[0] for g in (gradient, gradient * normal))
        gradient = weights[f"bn{i}.gamma"][:, None, None] / spread_of * (gradient - level - normal * slope)
        found[f"conv{i}.weight"] = np.einsum("nchwij,nohw->ocij", seen, gradient)
        gradient = np.einsum("nohwij,ocij->nchw", windows(gradient), weights[f"conv{i}.weight"][:, :, ::-1, ::-1])
    return float(entropy[known].sum()), found, stats


class NumpyStep:
    """Weights, moments and an average of the weights; `__call__` takes a global batch in micro-batches of `size` clips."""

    def __init__(
        self,
        weights: dict[str, Array],
        pools: Sequence[tuple[int, int]],
        size: int,
        *,
        optimizer: str = "adam",
        decay: float = 0.0,
        clip_norm: float = np.inf,
        ema_decay: float = 0.0,
    ) -> None:
        self.weights = {name: np.array(values, np.float64) for name, values in weights.items()}
        self.pools, self.size, self.num_steps = pools, size, 0
        self.optimizer, self.decay, self.clip_norm, self.ema_decay = optimizer, decay, clip_norm, ema_decay
        self.moments = {name: (np.zeros_like(v), np.zeros_like(v)) for name, v in self.weights.items()}
        self.averages = dict(self.weights)

    def __call__(self, mel_db: Array, labels: Array, lr: float, keep: Array | None = None) -> float:
        """Take a step and return the loss: the mean over all known labels."""
        num_known = (labels >= 0).sum()
        places = [slice(i, i + self.size) for i in range(0, len(mel_db), self.size)]
        parts = [
            gradients_of(self.weights, self.pools, mel_db[p], labels[p], 1.0 if keep is None else keep[p])
            for p in places
        ]
        gradients = {name: sum(part[1][name] for part in parts) / num_known for name in parts[0][1]}
        self.update(gradients, lr)
        for name in parts[0][2]:
            fresh = np.mean([part[2][name] for part in parts], axis=0)
            self.weights[name] = (1 - FRESH) * self.weights[name] + FRESH * fresh
        return float(sum(part[0] for part in parts) / num_known)

    def update(self, gradients: dict[str, Array], lr: float) -> None:
        """Adam as Kingma and Ba (2015) give it at the end of their section 2, or SGD as PyTorch has Nesterov's."""
        self.num_steps += 1
        n = self.num_steps
        norm = np.sqrt(sum(np.sum(gradient**2) for gradient in gradients.values()))
        for name, gradient in gradients.items():
            weight, (first, second) = self.weights[name], self.moments[name]
            gradient = gradient * min(1.0, self.clip_norm / norm)
            decay = self.decay if name.endswith(".weight") else 0.0
            if self.optimizer == "adamw":
                weight = weight * (1 - lr * decay)
            else:
                gradient = gradient + decay * weight
            if self.optimizer == "sgd":
                first = 0.9 * first + gradient
                weight = weight - lr * (gradient + 0.9 * first)
            else:
                first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
                weight = weight - lr * np.sqrt(1 - 0.999**n) / (1 - 0.9**n) * first / (np.sqrt(second) + 1e-8)
            self.weights[name], self.moments[name] = weight, (first, second)
            rate = min(self.ema_decay, (1 + n) / (10 + n))
            self.averages[name] = rate * self.averages[name] + (1 - rate) * weight

"""Instruments made of numpy: the sounds of the embedded demo set.

Every function returns float32 mono at RATE_HZ; level 1 is full scale. Randomness comes from the generator given.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 12_000

Float32 = NDArray[np.float32]
Generator = np.random.Generator


def midi_hz(note: float) -> float:
    """Return the pitch of a MIDI note number: 69 is 440 Hz."""
    return float(440.0 * 2.0 ** ((note - 69) / 12))


def bass(note: int, seconds: float, rng: Generator) -> Float32:
    """Play a dull, plucked low string: few harmonics, low octaves."""
    t = _times(seconds)
    tone = _harmonics(midi_hz(note - 24) * t, [1.0, 0.6, 0.35, 0.15, 0.05])
    return _fade(tone * np.exp(-1.5 * t), attack_s=0.01)


def guitar(note: int, seconds: float, rng: Generator) -> Float32:
    """Pluck a string: high harmonics die first."""
    t = _times(seconds)
    phase = midi_hz(note - 7) * t
    position = rng.uniform(0.12, 0.3)  # of the pick along the string; shapes the timbre
    tone = np.zeros_like(t)
    for k in range(1, 13):
        if k * midi_hz(note - 7) < RATE_HZ / 2:
            tone += np.sin(np.pi * k * position) / k * np.exp(-(1.5 + 0.9 * k) * t) * np.sin(2 * np.pi * k * phase)
    return _fade(tone, attack_s=0.003)


def strings(note: int, seconds: float, rng: Generator) -> Float32:
    """Bow a section: three detuned saws with vibrato that swell."""
    t = _times(seconds)
    tone = np.zeros_like(t)
    for detune in rng.normal(0, 0.004, 3):
        vibrato = 0.003 * np.sin(2 * np.pi * rng.uniform(4.5, 6) * t + rng.uniform(0, 6.3))
        phase = np.cumsum(midi_hz(note) * (1 + detune + vibrato)) / RATE_HZ + rng.uniform()
        tone += _harmonics(phase, [1 / k for k in range(1, 9) if k * midi_hz(note) < RATE_HZ / 2])
    return _fade(tone / 3, attack_s=0.12)


def flute(note: int, seconds: float, rng: Generator) -> Float32:
    """Blow a nearly pure tone with vibrato and breath."""
    t = _times(seconds)
    depth = 0.004 * np.minimum(1, 4 * t)
    phase = np.cumsum(midi_hz(note + 12) * (1 + depth * np.sin(2 * np.pi * 5.2 * t))) / RATE_HZ
    breath = 0.05 * _highpass(rng.standard_normal(len(t)))
    return _fade(_harmonics(phase, [1.0, 0.25, 0.08]) + breath, attack_s=0.05)


def bells(note: int, seconds: float, rng: Generator) -> Float32:
    """Strike a bell: partials that are no multiples of each other."""
    t = _times(seconds)
    hz = midi_hz(note + 12)
    tone = np.zeros_like(t)
    for ratio, level, decay in ((1.0, 1.0, 1.2), (2.76, 0.6, 2.2), (5.4, 0.35, 4.0), (8.93, 0.2, 6.0)):
        if hz * ratio < RATE_HZ / 2:
            tone += level * np.exp(-decay * t) * np.sin(2 * np.pi * hz * ratio * t)
    return _fade(tone, attack_s=0.002)


def kick(rng: Generator) -> Float32:
    """Hit a bass drum: a sine that falls from about 130 to 50 Hz."""
    t = _times(0.25)
    phase = np.cumsum(50 + rng.uniform(60, 100) * np.exp(-30 * t)) / RATE_HZ
    return _fade(1.4 * np.exp(-14 * t) * np.sin(2 * np.pi * phase), attack_s=0.001)


def snare(rng: Generator) -> Float32:
    """Hit a snare drum: noise over a short tone."""
    t = _times(0.2)
    tone = 0.4 * np.exp(-25 * t) * np.sin(2 * np.pi * rng.uniform(170, 210) * t)
    return _fade(tone + 0.5 * np.exp(-18 * t) * rng.standard_normal(len(t)), attack_s=0.001)


def hihat(rng: Generator) -> Float32:
    """Touch a closed hi-hat: a short hiss."""
    t = _times(0.06)
    return _fade(0.35 * np.exp(-60 * t) * _highpass(rng.standard_normal(len(t))), attack_s=0.001)


MELODIC: dict[str, Callable[[int, float, Generator], Float32]] = {
    "bass": bass,
    "guitar": guitar,
    "strings": strings,
    "flute": flute,
    "bells": bells,
}


def _times(seconds: float) -> NDArray[np.float64]:
    return np.arange(max(1, round(seconds * RATE_HZ))) / RATE_HZ


def _harmonics(phase: NDArray[np.float64], levels: list[float]) -> NDArray[np.float64]:
    """Sum sines at multiples of a phase in turns, by sin((k+1)x) = 2 cos(x) sin(kx) - sin((k-1)x)."""
    angle = 2 * np.pi * phase
    twice_cos, sine, before = 2 * np.cos(angle), np.sin(angle), np.zeros_like(angle)
    tone = np.zeros_like(phase)
    for level in levels:
        tone += level * sine
        sine, before = twice_cos * sine - before, sine
    return tone


def _highpass(noise: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.diff(noise, prepend=0.0)


def _fade(tone: NDArray[np.float64], attack_s: float, release_s: float = 0.03) -> Float32:
    """Let a tone begin and end without a click."""
    n = len(tone)
    rise, fall = min(n, round(attack_s * RATE_HZ) + 1), min(n, round(release_s * RATE_HZ) + 1)
    tone[:rise] *= np.linspace(0, 1, rise)
    tone[n - fall :] *= np.linspace(1, 0, fall)
    return tone.astype(np.float32)

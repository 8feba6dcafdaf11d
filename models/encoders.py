"""Encoders: from an observation to the currents or spikes of a window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import InvalidInputError
from .stimulus import FloatArray, Stimulus, number

EncoderKind = Literal["current", "poisson", "equidistant"]
KINDS: tuple[EncoderKind, ...] = ("current", "poisson", "equidistant")


@dataclass(frozen=True, slots=True)
class Encoder:
    """How an observation enters the first layer.

    Parameters
    ----------
    kind : "current", "poisson" or "equidistant"
        "current" holds the values constant for the whole window. The others send spikes: a value v gives a rate of
        min(1, gain*v) spikes a step, drawn at random ("poisson": one Bernoulli draw a step) or evenly spaced
        ("equidistant"). A spike carries no sign, so a negative value gives no spikes without `two_neurons`.
    two_neurons : bool
        Two channels per value, one for its positive and one for its negative part: first all positive parts, then
        all negative ones.
    constant_one : bool
        One more channel, the last, fixed at 1 (the thesis' stand-in for biases).
    gain : float > 0
        Spikes per step and unit of value; the constant channel has rate 1 whatever the gain. Not used by "current".
    """

    kind: EncoderKind = "current"
    two_neurons: bool = False
    constant_one: bool = False
    gain: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InvalidInputError(f"Encoder kind {self.kind!r} was given; it must be one of {', '.join(KINDS)}.")
        # Equal encoders must hash alike, however their values were written.
        object.__setattr__(self, "two_neurons", bool(self.two_neurons))
        object.__setattr__(self, "constant_one", bool(self.constant_one))
        object.__setattr__(self, "gain", number(self.gain, "gain"))
        if not 0 < self.gain < np.inf:
            raise InvalidInputError(f"An encoder gain of {self.gain!r} was given; it must be a finite number above 0.")

    @property
    def random(self) -> bool:
        """Whether the same observation can be encoded differently twice."""
        return self.kind == "poisson"

    def n_inputs(self, n_channels: int) -> int:
        """Values of an observation that fills `n_channels` channels."""
        values, rest = divmod(n_channels - self.constant_one, 1 + self.two_neurons)
        if rest or values < 1:
            raise InvalidInputError(
                f"The first layer has {n_channels} inputs, which an encoder with two_neurons={self.two_neurons} and "
                f"constant_one={self.constant_one} cannot fill."
            )
        return values

    def channels(self, observations: FloatArray) -> FloatArray:
        """The value of each channel: float64 [n, n_channels] for observations [n, n_inputs]."""
        if not (self.two_neurons or self.constant_one):
            return observations
        n, size = observations.shape
        channels = np.empty((n, size * (1 + self.two_neurons) + self.constant_one))
        if self.two_neurons:
            np.maximum(observations, 0.0, out=channels[:, :size])
            np.maximum(-observations, 0.0, out=channels[:, size : 2 * size])
        else:
            channels[:, :size] = observations
        if self.constant_one:
            channels[:, -1] = 1.0
        return channels

    def encode(self, observations: FloatArray, steps: int, seed: int = 0, first: int = 0) -> Stimulus:
        """Encode observations [n, n_inputs] for windows of `steps` steps.

        Sample ``i`` of a random encoding depends on `seed` and ``first + i`` alone, so that a decision can be
        repeated without those before it.
        """
        channels = self.channels(observations)
        if self.kind == "current":
            return Stimulus(channels)
        gain = np.full(channels.shape[1], self.gain)
        if self.constant_one:
            gain[-1] = 1.0
        rates = np.clip(channels * gain, 0.0, 1.0)[:, None, :]
        if self.kind == "poisson":
            shape = (steps, channels.shape[1])
            draws = [_generator(seed, first + i).random(shape) for i in range(len(channels))]
            spikes = np.stack(draws) < rates if draws else np.zeros((0, *shape), dtype=bool)
        else:
            t = np.arange(steps)[None, :, None]
            spikes = np.floor((t + 1) * rates) > np.floor(t * rates)
        return Stimulus(np.zeros_like(channels), spikes.astype(np.uint8))


def with_negatives(weights: FloatArray, constant_one: bool = False) -> FloatArray:
    """Weights for an encoder of two neurons per value, from those of one: the negative part's are the negative.

    Parameters
    ----------
    weights : float [n_channels, n_out]
    constant_one : bool
        Whether the last channel is the constant one, which has no negative.
    """
    size = len(weights) - constant_one
    return np.concatenate([weights[:size], -weights[:size], weights[size:]])


def _generator(seed: int, index: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=(seed % 2**64, index)))

"""Encoders: from an observation to the currents or spikes of a window."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from ..errors import InvalidInputError
from .stimulus import FloatArray, Stimulus, number, whole

EncoderKind = Literal["current", "poisson", "equidistant"]
KINDS: tuple[EncoderKind, ...] = ("current", "poisson", "equidistant")
MAX_BITS = 16


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
    bits : int in [2, 16], optional
        Only with "current", and with neither of the other two: values are quantised, and a channel is a whole number of
        `bits` bits in two's complement, ``clip(rint(value / resolution), -2**(bits-1), 2**(bits-1) - 1)``.
    resolution : tuple of float > 0, optional
        With `bits`: what one of these whole numbers stands for, one for each value of an observation.
    """

    kind: EncoderKind = "current"
    two_neurons: bool = False
    constant_one: bool = False
    gain: float = 1.0
    bits: int | None = None
    resolution: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InvalidInputError(f"Encoder kind {self.kind!r} was given; it must be one of {', '.join(KINDS)}.")
        # Equal encoders must hash alike, however their values were written.
        object.__setattr__(self, "two_neurons", bool(self.two_neurons))
        object.__setattr__(self, "constant_one", bool(self.constant_one))
        object.__setattr__(self, "gain", number(self.gain, "gain"))
        if not 0 < self.gain < np.inf:
            raise InvalidInputError(f"An encoder gain of {self.gain!r} was given; it must be a finite number above 0.")
        self._check_quantisation()

    def _check_quantisation(self) -> None:
        if (self.bits is None) != (self.resolution is None):
            raise InvalidInputError("Quantised inputs need both bits and resolution; one was given.")
        if self.bits is None or self.resolution is None:
            return
        if self.kind != "current" or self.two_neurons or self.constant_one:
            raise InvalidInputError("bits were given; they need kind 'current', no two_neurons and no constant_one.")
        object.__setattr__(self, "bits", whole(self.bits, "bits", 2, MAX_BITS))
        object.__setattr__(self, "resolution", tuple(number(value, "resolution") for value in self.resolution))
        if not all(0 < value < np.inf for value in self.resolution):
            raise InvalidInputError(f"An input resolution of {min(self.resolution)!r} was given; it must be above 0.")

    @property
    def facts(self) -> dict[str, Any]:
        """All settings that bear on a decision; those of quantised inputs only where there are some."""
        return {name: value for name, value in asdict(self).items() if value is not None}

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
        if self.resolution is not None and len(self.resolution) != values:
            raise InvalidInputError(
                f"The first layer has {n_channels} inputs; the encoder has resolutions for {len(self.resolution)}."
            )
        return values

    def channels(self, observations: FloatArray) -> FloatArray:
        """The value of each channel: float64 [n, n_channels] for observations [n, n_inputs]."""
        if self.bits is not None and self.resolution is not None:
            steps, lowest, highest = _quantiser(self.bits, self.resolution)
            codes = observations / steps
            # In place, and not by np.clip, which takes several times as long for a single observation.
            np.rint(codes, out=codes)
            np.maximum(codes, lowest, out=codes)
            return np.minimum(codes, highest, out=codes)
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


@lru_cache
def _quantiser(bits: int, resolution: tuple[float, ...]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The resolution, the lowest and the highest whole number, as arrays."""
    most = float(2 ** (bits - 1))
    return np.array(resolution), np.array(-most), np.array(most - 1)


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

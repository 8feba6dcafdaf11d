"""Decoders: from what a window left behind to an action."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import InvalidInputError
from .stimulus import CountArray, FloatArray

DecoderKind = Literal["potential", "spike_count", "first_spike"]
KINDS: tuple[DecoderKind, ...] = ("potential", "spike_count", "first_spike")


@dataclass(frozen=True, slots=True)
class Decoder:
    """How the output layer is read. The action is the index of the largest output, the first of equal ones.

    Parameters
    ----------
    kind : "potential", "spike_count" or "first_spike"
        "potential": the output layer never fires, and its potential after the window is the output.
        "spike_count": the number of spikes of each output neuron.
        "first_spike": how many steps were left when the neuron first fired, 0 if it never did.
    """

    kind: DecoderKind = "potential"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InvalidInputError(f"Decoder kind {self.kind!r} was given; it must be one of {', '.join(KINDS)}.")

    def output(self, potentials: FloatArray, raster: CountArray | None) -> FloatArray:
        """The values to compare.

        Parameters
        ----------
        potentials : float64 [n, n_out]
        raster : uint8 [n, steps, n_out], or None where the output layer does not fire
        """
        if self.kind == "potential":
            return potentials
        assert raster is not None, "a firing output layer is always recorded"
        if self.kind == "spike_count":
            return np.asarray(raster.sum(axis=1), dtype=np.float64)
        fired = raster > 0
        left = np.where(fired.any(axis=1), raster.shape[1] - fired.argmax(axis=1), 0)
        return left.astype(np.float64)

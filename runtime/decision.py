"""What an agent answers: the action, and how it came about."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ..models.stimulus import CountArray, FloatArray

SpikeTrains = tuple[tuple[NDArray[np.int64], ...], ...]


@dataclass(frozen=True, slots=True)
class Timings:
    """Wall time of each stage of one decision, in microseconds (of the whole batch where there is one)."""

    encode_us: float = 0.0
    inject_us: float = 0.0
    run_us: float = 0.0
    read_us: float = 0.0
    decode_us: float = 0.0

    @property
    def total_us(self) -> float:
        """The sum of the stages."""
        return self.encode_us + self.inject_us + self.run_us + self.read_us + self.decode_us

    def as_dict(self) -> dict[str, float]:
        """The stages by name."""
        return asdict(self)

    @classmethod
    def stages(cls) -> tuple[str, ...]:
        """The names of the stages, in their order."""
        return tuple(field.name for field in fields(cls))


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """One decision, or a batch of them.

    Attributes
    ----------
    action : int, or int64 [n] for a batch
    output : float64 [n_out], or [n, n_out]
        What the decoder compared; the action is the index of its largest value (the first of equal ones).
    timings : Timings
    rasters : tuple of uint8 [steps, neurons] or [n, steps, neurons], one per spiking layer; None unless asked for
        How often each neuron fired in each step (more than once only on a target with a shorter time step).
    """

    action: int | NDArray[np.int64]
    output: FloatArray
    timings: Timings
    rasters: tuple[CountArray, ...] | None = None

    @property
    def spikes(self) -> SpikeTrains | tuple[SpikeTrains, ...] | None:
        """Spike trains: ``spikes[layer][neuron]`` is an array of steps (a batch: ``spikes[sample][layer][neuron]``)."""
        if self.rasters is None:
            return None
        if self.output.ndim == 1:
            return _trains(self.rasters)
        return tuple(_trains(tuple(layer[i] for layer in self.rasters)) for i in range(len(self.output)))

    @property
    def spike_counts(self) -> tuple[NDArray[np.int64], ...] | None:
        """Spikes per neuron, one array per spiking layer: [neurons], or [n, neurons] for a batch."""
        if self.rasters is None:
            return None
        return tuple(raster.sum(axis=-2, dtype=np.int64) for raster in self.rasters)


def _trains(rasters: tuple[CountArray, ...]) -> SpikeTrains:
    return tuple(
        tuple(np.repeat(np.arange(len(raster)), raster[:, j]) for j in range(raster.shape[1])) for raster in rasters
    )

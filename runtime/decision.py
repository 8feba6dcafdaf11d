"""What an agent answers: the action, and how it came about."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ..deploy.backend import Exchange
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


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where two spike trains first part: the earliest step, in it the first layer, in it the first neuron.

    Attributes
    ----------
    layer, neuron, step : int
    fired, expected : int
        How often the neuron fired in that step, and how often it was to.
    """

    layer: int
    neuron: int
    step: int
    fired: int
    expected: int

    def __str__(self) -> str:
        who = "fired on the target only" if self.fired > self.expected else "fired in the shadow only"
        if self.fired and self.expected:
            who = f"fired {self.fired} times, not {self.expected}"
        return f"step {self.step}, layer {self.layer}, neuron {self.neuron}: {who}"


def first_divergence(given: tuple[CountArray, ...], expected: tuple[CountArray, ...]) -> Divergence | None:
    """Where the rasters [steps, neurons] of one decision first part; None where they are the same."""
    found = []
    for layer, (ours, theirs) in enumerate(zip(given, expected, strict=True)):
        steps, neurons = np.nonzero(ours != theirs)
        if steps.size:
            step, neuron = int(steps[0]), int(neurons[0])
            place = Divergence(layer, neuron, step, int(ours[step, neuron]), int(theirs[step, neuron]))
            found.append((step, layer, place))
    return min(found, key=lambda entry: entry[:2])[2] if found else None


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
    exchange : Exchange, or None
        What the answer took, where the target is reached through a network that can lose packets.
    cpu_us : float
        Processor time of the process that decided, in microseconds.
    """

    action: int | NDArray[np.int64]
    output: FloatArray
    timings: Timings
    rasters: tuple[CountArray, ...] | None = None
    exchange: Exchange | None = None
    cpu_us: float = 0.0

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

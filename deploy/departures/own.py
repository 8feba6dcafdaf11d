"""The Network's own dynamics as `Dynamics`, on any grid of ticks, and what every target changes of them alike."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from ...hardware_profiles.profile import DepartureKind, TimeGrid
from ...models.network import Network
from ..deployment import Deployment, Projection
from .dynamics import NEVER, Dynamics, Layer

STEP_MS = 1.0  # of the Network, wherever a profile does not depart from it

Kinds = Collection[DepartureKind]


def own(network: Network, ticks: int = 1, step_ticks: int = 1, tick_ms: float = STEP_MS) -> Dynamics:
    """With so many ticks in a step as the Network means it, and in a step as it is run."""
    neuron = network.neuron
    beta, alpha = neuron.membrane_decay, neuron.synapse_decay
    decay, faded = beta ** (1 / ticks), alpha ** (1 / ticks)
    last = len(network.layers) - 1
    layers = [
        Layer(
            weights=layer.connections,
            bias=layer.neuron_bias,
            threshold=np.full(layer.n_out, neuron.threshold if index < last or network.output_fires else NEVER),
            taken=np.full(layer.n_out, neuron.subtracted),
            start=np.zeros(layer.n_out),
            gains=np.ones(layer.n_out),
            delay=(layer.delay + 1) * ticks,
        )
        for index, layer in enumerate(network.layers)
    ]
    return Dynamics(
        network=network,
        layers=tuple(layers),
        input_weights=network.layers[0].connections,
        ticks_per_step=step_ticks,
        tick_s=tick_ms * 1e-3,
        bias_at=ticks,
        input_at=ticks,
        spikes_at=ticks,
        gain=1.0 / ticks if beta == 1 else (1.0 - decay) / (1.0 - beta),
        decay=decay,
        synapse_decay=faded,
        synapse_gain=(1.0 - faded) / (1.0 - alpha),
        reset=neuron.reset,
        late=True,
        # After a reset to zero, the Network drops the input of one step.
        refractory=ticks if neuron.reset == "zero" else 0,
        holds=neuron.reset == "zero",
        strict=neuron.compare == ">",
        spike_shift=1,
        copies=(1,) * len(layers),
    )


@dataclass(frozen=True, slots=True)
class Grid:
    """Time with the departures adopted.

    Attributes
    ----------
    tick_ms : float
    per_own : int
        Ticks in what would be a step of the Network without departures.
    per_step : int
        Ticks in a step.
    """

    tick_ms: float
    per_own: int
    per_step: int

    @classmethod
    def of(cls, time: TimeGrid, kinds: Kinds) -> Grid:
        own_ms = max(STEP_MS, time.resolution_ms)
        tick_ms = time.resolution_ms if "time step" in kinds else own_ms
        step_ms = time.step_ms if "step length" in kinds else own_ms
        return cls(tick_ms, round(own_ms / tick_ms), max(1, round(step_ms / tick_ms)))

    def ticks(self, time_ms: float) -> int:
        """Of a delay: at least 1."""
        return max(1, round(time_ms / self.tick_ms))

    def ticks_to_wait(self, time_ms: float) -> int:
        """Of a refractory time."""
        return math.ceil(round(time_ms / self.tick_ms, 6))


def with_reset(given: Dynamics, kind: str, threshold: float, reset_to: float) -> Dynamics:
    """The target's reset; in which tick it takes place is a matter of order."""
    if kind == "subtract":
        return replace(taking(given, threshold), reset="subtract")
    return replace(given, reset="zero", reset_to=reset_to)


def taking(given: Dynamics, taken: float) -> Dynamics:
    """What a spike takes, or adds to an adaptive threshold."""
    layers = tuple(replace(layer, taken=np.full(layer.size, taken)) for layer in given.layers)
    return replace(given, layers=layers)


def with_delays(found: Dynamics, projections: list[Projection], grid: Grid) -> Dynamics:
    """The target's synaptic delays."""
    layers = [
        replace(layer, delay=grid.ticks(projection.delay_ms))
        for layer, projection in zip(found.layers, projections, strict=True)
    ]
    return replace(found, layers=tuple(layers))


def loss(deployment: Deployment, kinds: Kinds) -> float:
    """The probability that a spike between two layers is lost."""
    machine, target = deployment.profile.machine, deployment.profile.target
    # Only a virtual board's routers do as they are told.
    lossy = target == "spinnaker-virtual" and "packet loss" in kinds
    return machine.drop_packets if machine is not None and lossy else 0.0

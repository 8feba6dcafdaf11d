"""Single changes to simulated dynamics: of the whole network, or side by side of one of its neurons."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...deploy.backend import Recording
from ...deploy.departures.dynamics import NEVER, Detour, Dynamics, Layer
from ...deploy.departures.session import DepartedSession
from ...models.layers import Connections, Sparse
from ...models.stimulus import CountArray, FloatArray, Stimulus

Indices = NDArray[np.int64]

BY_NEURON = ("bias", "threshold", "taken", "start", "gains")  # of a Layer


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is not as planned.

    Attributes
    ----------
    kind : "weight", "bias", "threshold" or "delay"
    layer : int
    neuron : int or None
        None: all neurons of the layer.
    source : int or None
        Of a weight, or of the delay of a single synapse.
    by : float
        What is added; to a delay in ticks. The delay of a first layer that gets currents is that of its input.
    """

    kind: Literal["weight", "bias", "threshold", "delay"]
    layer: int
    neuron: int | None
    source: int | None
    by: float


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a target, or a simulation, did: float64 [n, n_out], and uint8 [n, steps, neurons] for each spiking layer."""

    outputs: FloatArray
    rasters: tuple[CountArray, ...]


def simulate(dynamics: Dynamics, stimulus: Stimulus, steps: int, seed: int = 0) -> Outcome:
    """What `dynamics` do with a stimulus; the outputs are those of a network's decoder, if it has as many neurons."""
    session = DepartedSession(dynamics, seed)
    session.reset()
    session.inject(stimulus, Recording(spikes=True))
    session.run(steps)
    read = session.read()
    assert read.rasters is not None, "they were asked for"
    return Outcome(dynamics.network.decoder.output(read.potentials, read.output_raster), read.rasters)


def some_of(stimulus: Stimulus, chosen: Indices) -> Stimulus:
    """The stimulus of the observations `chosen`."""
    return Stimulus(stimulus.currents[chosen], None if stimulus.spikes is None else stimulus.spikes[chosen])


def column(weights: Connections, neuron: int) -> FloatArray:
    """The weights [n_in] onto one neuron, 0 where there is no connection."""
    if not isinstance(weights, Sparse):
        return weights[:, neuron].copy()
    found = np.zeros(len(weights.starts) - 1)
    onto = weights.columns == neuron
    found[weights.rows[onto]] = weights.values[onto]
    return found


def planned(dynamics: Dynamics, change: Change) -> float:
    """The value that `change` adds to."""
    layer = dynamics.layers[change.layer]
    neuron = change.neuron or 0
    if change.kind == "weight":
        weights = layer.weights if change.layer else dynamics.input_weights
        return float(column(weights, neuron)[change.source])
    if change.kind == "delay":
        return float(layer.delay if change.layer else dynamics.input_at)
    return float((layer.bias if change.kind == "bias" else layer.threshold)[neuron])


def applied(dynamics: Dynamics, change: Change) -> Dynamics:
    """The dynamics with one change."""
    layer = dynamics.layers[change.layer]
    at = slice(None) if change.neuron is None else change.neuron
    if change.kind == "delay":
        if change.source is not None and change.neuron is not None:
            detour = Detour(change.layer, change.source, change.neuron, layer.delay + round(change.by))
            return replace(dynamics, detours=(*dynamics.detours, detour))
        if not change.layer:
            dynamics = replace(
                dynamics,
                input_at=dynamics.input_at + round(change.by),
                spikes_at=dynamics.spikes_at + round(change.by),
            )
        return dynamics.with_layer(change.layer, replace(layer, delay=layer.delay + round(change.by)))
    if change.kind == "weight":
        assert change.source is not None, "a weight is one synapse's"
        assert change.neuron is not None, "a weight is one synapse's"
        if not change.layer:
            weights = _with_weight(dynamics.input_weights, change.source, change.neuron, change.by)
            dynamics = replace(dynamics, input_weights=weights)
        weights = _with_weight(layer.weights, change.source, change.neuron, change.by)
        return dynamics.with_layer(change.layer, replace(layer, weights=weights))
    if change.kind == "bias":
        return dynamics.with_layer(change.layer, replace(layer, bias=_added(layer.bias, at, change.by)))
    taken = _added(layer.taken, at, _taken(dynamics, layer, change.by))
    return dynamics.with_layer(
        change.layer, replace(layer, threshold=_added(layer.threshold, at, change.by), taken=taken)
    )


def variants(dynamics: Dynamics, changes: list[Change]) -> Dynamics:
    """The layers below, then one neuron as often as there are changes; if it is hidden, one more that does nothing."""
    index, neuron = changes[0].layer, changes[0].neuron
    assert neuron is not None, "changes of a whole layer have no variants"
    layer, k = dynamics.layers[index], len(changes)
    weights, inputs = (
        np.repeat(column(given, neuron)[:, None], k, axis=1)
        for given in (layer.weights, dynamics.input_weights if index == 0 else layer.weights)
    )
    values: dict[str, Any] = {name: np.full(k, getattr(layer, name)[neuron]) for name in BY_NEURON}
    detours = [detour for detour in dynamics.detours if detour.layer < index]
    own = [detour for detour in dynamics.detours if detour.layer == index and detour.neuron == neuron]
    detours += [replace(detour, neuron=i) for detour in own for i in range(k)]
    for i, change in enumerate(changes):
        if change.kind == "weight":
            weights[change.source, i] += change.by
            inputs[change.source, i] += change.by
        elif change.kind == "delay":
            assert change.source is not None, "the delay of a single synapse"
            detours.append(Detour(index, change.source, i, layer.delay + round(change.by)))
        else:
            values[change.kind][i] += change.by
            if change.kind == "threshold":
                values["taken"][i] += _taken(dynamics, layer, change.by)
    layers = [*dynamics.layers[:index], replace(layer, weights=weights, **values)]
    copies = [*dynamics.copies[: index + 1]]
    if index < len(dynamics.layers) - 1:
        nothing = np.zeros(1)
        layers.append(Layer(np.zeros((k, 1)), nothing, np.array([NEVER]), nothing, nothing, np.ones(1), delay=1))
        copies.append(1)
    return replace(
        dynamics,
        layers=tuple(layers),
        input_weights=inputs if index == 0 else dynamics.input_weights,
        copies=tuple(copies),
        detours=tuple(detours),
        answers_only=False,
    )


def delay_steps(dynamics: Dynamics) -> list[int]:
    """By how many ticks delays may be off."""
    step = dynamics.ticks_per_step
    return sorted({sign * by for by in (1, 2, step) for sign in (1, -1)}, key=abs)


# --- parts ------------------------------------------------------------------------------------------------------------


def _added(values: FloatArray, at: int | slice, by: float) -> FloatArray:
    values = values.copy()
    values[at] += by
    return values


def _taken(dynamics: Dynamics, layer: Layer, by: float) -> float:
    """What a threshold moved by so much takes more: neurons that subtract, subtract it, before they decay."""
    if dynamics.reset != "subtract":
        return 0.0
    return by * (layer.membrane or dynamics).decay if dynamics.late else by


def _with_weight(weights: Connections, source: int, neuron: int, by: float) -> Connections:
    if not isinstance(weights, Sparse):
        changed = weights.copy()
        changed[source, neuron] += by
        return changed
    values = weights.values.copy()
    values[(weights.rows == source) & (weights.columns == neuron)] += by
    return Sparse(weights.starts, weights.columns, values, weights.n_out)

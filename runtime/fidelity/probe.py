"""Single changes to simulated dynamics, and which of them would give one neuron the spikes that its target showed.

No layer feeds one before it. So where a neuron's spikes are not as simulated, and all spikes of the layer before are,
the neuron itself or a synapse onto it is at fault. Its simulation needs nothing but the layers below; and as neurons of
one layer do not meet, variants of it can stand side by side in its place and be simulated all at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
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

# Sizes of changes that are tried first, in thresholds a spike or a tick's input; the best are refined from there.
# Large ones are close to each other: what a neuron does then is no smooth function of them.
SIZES = np.concatenate([np.geomspace(1e-4, 0.09, 21), np.linspace(0.1, 4.0, 40)])
MOST_SOURCES = 512  # that are tried, the most active ones first
MOST_CELLS = 1 << 24  # of recorded steps at once
FIRST_LOOK, SECOND_LOOK = 40, 300  # observations of either kind: neuron's spikes as simulated, and not
MOST_UPDATES = 2e8  # of neurons, in the first look
REFINED = 20  # candidates that are looked at closely
ROUNDS = 4  # each divides the uncertainty by 8
PARTS = 9
# Outputs are read on a grid of 2^-34 thresholds at the coarsest.
OUTPUT_TOLERANCE = 1e-9


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


@dataclass(frozen=True, slots=True)
class Candidate:
    """A change that would explain a neuron's spikes, with the bounds of `by`, and how many steps it leaves wrong."""

    change: Change
    low: float
    high: float
    wrong: int


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


def outcomes_of_variants(
    dynamics: Dynamics, stimulus: Stimulus, steps: int, changes: list[Change]
) -> tuple[CountArray | None, FloatArray]:
    """What one neuron does with each of the `changes`, which are all its own.

    Returns
    -------
    rasters : uint8 [n, steps, changes], or None where its layer does not fire
    outputs : float64 [n, changes]
        Of a last layer.
    """
    size = max(1, MOST_CELLS // (steps * max(1, len(stimulus))))
    parts = [
        simulate(_variants(dynamics, changes[i : i + size]), stimulus, steps) for i in range(0, len(changes), size)
    ]
    layer = changes[0].layer
    outputs = np.concatenate([part.outputs for part in parts], axis=1)
    if len(parts[0].rasters) <= layer:
        return None, outputs
    return np.concatenate([part.rasters[layer] for part in parts], axis=2), outputs


def explaining(
    dynamics: Dynamics, stimulus: Stimulus, layer: int, neuron: int, train: CountArray, simulated: CountArray
) -> list[Candidate]:
    """Single changes after which a neuron would have the spikes `train`; the best first.

    Parameters
    ----------
    stimulus : Stimulus
        Of n observations in which the layers below did as simulated.
    train, simulated : uint8 [n, steps]
        What the neuron did, and what it does in `dynamics`.
    """
    steps = train.shape[1]
    differs = (train != simulated).any(axis=1)
    active = some_of(stimulus, _sample(differs, FIRST_LOOK))
    changes, scales = _tried(dynamics, active, steps, layer, neuron)
    grid = np.concatenate([-SIZES[::-1], SIZES])
    tried = [
        replace(change, by=float(by)) for change, scale in zip(changes, scales, strict=True) for by in scale * grid
    ]
    others = _others(dynamics, changes)
    most = MOST_UPDATES / ((len(tried) + len(others)) * steps * dynamics.ticks_per_step)
    wrong = _wrong(dynamics, stimulus, _sample(differs, int(np.clip(most / 2, 5, FIRST_LOOK))), train, tried + others)
    table = wrong[: len(tried)].reshape(len(changes), len(grid))
    found = [
        (row[bracket[1]], i, tuple(scales[i] * grid[list(bracket)]))
        for i, row in enumerate(table)
        for bracket in _valleys(row)
    ]
    found = sorted(found, key=lambda entry: entry[0])[:REFINED]
    chosen = _sample(differs, SECOND_LOOK)
    brackets = np.array([bracket for _, _, bracket in found])
    candidates = _refined(dynamics, stimulus, chosen, train, [changes[i] for _, i, _ in found], brackets)
    best = [others[i] for i in np.argsort(wrong[len(tried) :], kind="stable")[:REFINED]]
    if best:
        left = _wrong(dynamics, stimulus, chosen, train, best)
        candidates += [Candidate(change, change.by, change.by, int(n)) for change, n in zip(best, left, strict=True)]
    return sorted(candidates, key=lambda candidate: candidate.wrong)


def explaining_outputs(
    dynamics: Dynamics, stimulus: Stimulus, steps: int, neuron: int, missing: FloatArray
) -> list[Candidate]:
    """The same for a neuron of a last layer that never fires, which is linear; `missing` [n]: given minus simulated."""
    layer = len(dynamics.layers) - 1
    spikes = simulate(dynamics, stimulus, steps)
    changes = [replace(change, by=1.0) for change in _parameters(dynamics, stimulus, spikes, layer, neuron)]
    changes = [change for change in changes if change.kind != "threshold"]
    delays = _other_delays(dynamics, changes)
    _, outputs = outcomes_of_variants(dynamics, stimulus, steps, changes + delays)
    responses = outputs - spikes.outputs[:, neuron, None]
    tolerance = 10 * OUTPUT_TOLERANCE * dynamics.network.neuron.threshold
    found = []
    for change, response in zip(changes + delays, responses.T, strict=True):
        by, low, high = change.by, change.by, change.by
        if change.kind != "delay":
            strong = np.abs(response) > 0.5 * np.abs(response).max()
            if not strong.any():
                continue
            ratios = missing[strong] / response[strong]
            by, low, high = float(np.median(ratios)), float(ratios.min()), float(ratios.max())
            response = response * by
        wrong = np.abs(missing - response) > tolerance * (1 + abs(by))
        found.append(Candidate(replace(change, by=by), low, high, int(np.count_nonzero(wrong))))
    return sorted(found, key=lambda candidate: candidate.wrong)


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


def _variants(dynamics: Dynamics, changes: list[Change]) -> Dynamics:
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


def _parameters(dynamics: Dynamics, stimulus: Stimulus, spikes: Outcome, layer: int, neuron: int) -> list[Change]:
    """What a neuron depends on: its threshold, its bias, and the weights from whatever is active."""
    if layer:
        active = spikes.rasters[layer - 1].sum(axis=(0, 1))
    else:
        active = np.abs(stimulus.currents).sum(axis=0)
        if stimulus.spikes is not None:
            active = active + stimulus.spikes.sum(axis=(0, 1))
    weights = dynamics.layers[layer].weights
    if isinstance(weights, Sparse):
        active = active * (column(weights, neuron) != 0)
    sources = np.argsort(-active, kind="stable")[: min(MOST_SOURCES, np.count_nonzero(active))]
    found = [Change("threshold", layer, neuron, None, 0.0), Change("bias", layer, neuron, None, 0.0)]
    return found + [Change("weight", layer, neuron, int(source), 0.0) for source in np.sort(sources)]


def _tried(
    dynamics: Dynamics, stimulus: Stimulus, steps: int, layer: int, neuron: int
) -> tuple[list[Change], list[float]]:
    """The neuron's parameters, and the unit of a change of each: an input that is large needs only small ones."""
    changes = _parameters(dynamics, stimulus, simulate(dynamics, stimulus, steps), layer, neuron)
    threshold = dynamics.network.neuron.threshold
    sizes = np.sqrt(np.mean(stimulus.currents**2, axis=0))
    scales = [
        threshold / float(sizes[change.source])
        if not layer and change.source is not None and sizes[change.source] > 0
        else threshold
        for change in changes
    ]
    return changes, scales


def _others(dynamics: Dynamics, changes: list[Change]) -> list[Change]:
    """Changes whose size is known: what is missing altogether, and other delays."""
    missing = [replace(change, by=-planned(dynamics, change)) for change in changes if change.kind != "threshold"]
    return [change for change in missing if change.by] + _other_delays(dynamics, changes)


def _other_delays(dynamics: Dynamics, changes: list[Change]) -> list[Change]:
    """One or two ticks, or a step, more or less along each of the synapses that `changes` are about."""
    layer = dynamics.layers[changes[0].layer]
    if not changes[0].layer or isinstance(layer.weights, Sparse):
        return []  # which detours do not know
    return [
        replace(change, kind="delay", by=float(by))
        for change in changes
        if change.source is not None
        for by in delay_steps(dynamics)
        if layer.delay + by >= 1
    ]


def delay_steps(dynamics: Dynamics) -> list[int]:
    """By how many ticks delays may be off."""
    step = dynamics.ticks_per_step
    return sorted({sign * by for by in (1, 2, step) for sign in (1, -1)}, key=abs)


def _sample(differs: NDArray[np.bool_], most: int) -> Indices:
    """Observations, spread evenly: at most so many that differ, and as many that do not."""
    kinds = [np.flatnonzero(differs), np.flatnonzero(~differs)]
    some = [kind[np.linspace(0, len(kind) - 1, min(most, len(kind))).astype(np.int64)] for kind in kinds]
    return np.sort(np.concatenate(some))


def _wrong(
    dynamics: Dynamics, stimulus: Stimulus, chosen: Indices, train: CountArray, changes: list[Change]
) -> Indices:
    """With each change, the steps in which the neuron does not do what `train` says."""
    rasters, _ = outcomes_of_variants(dynamics, some_of(stimulus, chosen), train.shape[1], changes)
    assert rasters is not None, "the layer fires"
    return np.asarray(np.count_nonzero(rasters != train[chosen][:, :, None], axis=(0, 1)))


def _valleys(wrong: Indices) -> list[tuple[int, int, int, int]]:
    """Where `wrong` is lower than on either side: the index before, the first, the last, and the index after."""
    ends = np.flatnonzero(np.diff(wrong)).tolist()
    firsts, lasts = [0, *(end + 1 for end in ends)], [*ends, len(wrong) - 1]
    return [
        (max(0, a - 1), a, b, min(len(wrong) - 1, b + 1))
        for a, b in zip(firsts, lasts, strict=True)
        if (a == 0 or wrong[a - 1] > wrong[a]) and (b == len(wrong) - 1 or wrong[b + 1] > wrong[b])
    ]


def _deepest(wrong: Indices) -> tuple[int, int, int, int]:
    """Of the valleys with the lowest value the widest."""
    return min(_valleys(wrong), key=lambda at: (wrong[at[1]], at[1] - at[2]))


def _refined(
    dynamics: Dynamics,
    stimulus: Stimulus,
    chosen: Indices,
    train: CountArray,
    changes: list[Change],
    brackets: FloatArray,
) -> list[Candidate]:
    """The brackets, made small: candidates, of which one bound is the last value that is worse than the best."""
    wrong = np.zeros(len(changes), dtype=np.int64)
    for _ in range(ROUNDS):
        grids = [np.unique(np.concatenate([np.linspace(*ends, PARTS) for ends in pairwise(b)])) for b in brackets]
        tried = [replace(c, by=float(by)) for c, grid in zip(changes, grids, strict=True) for by in grid]
        ends = np.cumsum([len(grid) for grid in grids])[:-1]
        tables = np.split(_wrong(dynamics, stimulus, chosen, train, tried), ends)
        deepest = [_deepest(table) for table in tables]
        brackets = np.array([grid[list(at)] for grid, at in zip(grids, deepest, strict=True)])
        wrong = np.array([table.min() for table in tables])
    return [
        Candidate(replace(change, by=float((low + high) / 2)), float(low), float(high), int(left))
        for change, (low, _, _, high), left in zip(changes, brackets, wrong, strict=True)
    ]

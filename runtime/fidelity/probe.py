"""Which single changes to simulated dynamics would give one neuron the spikes that its target showed.

No layer feeds one before it. So where a neuron's spikes are not as simulated, and all spikes of the layer before are,
the neuron itself or a synapse onto it is at fault. Its simulation needs nothing but the layers below; and as neurons of
one layer do not meet, variants of it can stand side by side in its place and be simulated all at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ...deploy.departures.dynamics import Dynamics
from ...models.layers import Sparse
from ...models.stimulus import CountArray, FloatArray, Stimulus
from .changes import Change, Indices, Outcome, column, delay_steps, planned, simulate, some_of, variants

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
class Candidate:
    """A change that would explain a neuron's spikes, with the bounds of `by`, and how many steps it leaves wrong."""

    change: Change
    low: float
    high: float
    wrong: int


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
    parts = [simulate(variants(dynamics, changes[i : i + size]), stimulus, steps) for i in range(0, len(changes), size)]
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


def _parameters(dynamics: Dynamics, stimulus: Stimulus, spikes: Outcome, layer: int, neuron: int) -> list[Change]:
    """What a neuron depends on: its threshold, its bias, and the weights from whatever is active."""
    if layer:
        active = spikes.rasters[layer - 1].sum(axis=(0, 1), dtype=np.float64)
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

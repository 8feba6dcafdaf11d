"""Spikes that get lost on their way: whether that would explain how a target's spikes differ, and how many are lost."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from ...deploy.departures.dynamics import NEVER, Dynamics, Layer
from ...models.layers import Dense
from ...models.network import Network
from ...models.stimulus import CountArray, FloatArray, Stimulus
from .changes import BY_NEURON, Indices, Outcome, column, simulate, some_of
from .probe import OUTPUT_TOLERANCE

MOST_LOOKED_AT = 40  # first divergences
MOST_SPIKES = 1000  # before each of them, the last ones
LEAST, MOST = 1e-5, 0.5  # share that may be lost
HALVINGS = 8
DRAWS = 3
MOST_TICKS = 100_000  # of all observations that are simulated for it, but at least
LEAST_OBSERVATIONS = 200
# Difference of two logarithms of likelihoods from which on the better model is named alone (odds of 150 to 1).
CLEAR = 5.0
# Standard errors between the shares of first divergences with a spike too many, observed and simulated.
MOST_APART = 4.0


@dataclass(frozen=True, slots=True)
class Loss:
    """A share of spikes that is lost, and its 95 % interval.

    Attributes
    ----------
    likelihood : float
        Its logarithm: of how many trains and outputs differ in each observation.
    """

    per_synapse: bool
    share: float
    low: float
    high: float
    likelihood: float


def in_ticks(dynamics: Dynamics, stimulus: Stimulus) -> tuple[Dynamics, Stimulus]:
    """The same dynamics with steps of one tick, so that rasters show in which tick each neuron fired."""
    spikes = stimulus.spikes
    if spikes is not None and dynamics.ticks_per_step > 1:
        n, steps, channels = spikes.shape
        stretched = np.zeros((n, steps * dynamics.ticks_per_step, channels), dtype=np.uint8)
        stretched[:, :: dynamics.ticks_per_step] = spikes
        spikes = stretched
    return replace(dynamics, ticks_per_step=1, spike_shift=0), Stimulus(stimulus.currents, spikes)


def explained_by_one(
    dynamics: Dynamics, stimulus: Stimulus, given: Outcome, expected: Outcome, layer: int
) -> tuple[int, int]:
    """How many first divergences of a layer come about if one spike less arrives, and how many were looked at.

    All observations are to be such in which the layers below did as simulated; the layer is not the first.
    """
    roots = np.argwhere((given.rasters[layer] != expected.rasters[layer]).any(axis=1))
    roots = roots[np.linspace(0, len(roots) - 1, min(MOST_LOOKED_AT, len(roots))).astype(np.int64)]
    ticked, inputs = in_ticks(dynamics, some_of(stimulus, roots[:, 0]))
    steps = given.rasters[layer].shape[1]
    fired = simulate(ticked, inputs, steps * dynamics.ticks_per_step).rasters[layer - 1]
    found = 0
    for (observation, neuron), before in zip(roots.tolist(), fired, strict=True):
        train, simulated = (one.rasters[layer][observation, :, neuron] for one in (given, expected))
        end = int(np.argmax(train != simulated)) + 1
        trains = _with_one_less(dynamics, layer, neuron, before, end)
        found += bool((trains[:, :end] == train[:end]).all(axis=1).any())
    return found, len(roots)


def outputs_explained(dynamics: Dynamics, given: Outcome, expected: Outcome, alike: Indices) -> tuple[int, int]:
    """The same for a last layer that never fires: outputs that miss one spike, or two; and all that differ."""
    missing = (given.outputs - expected.outputs)[alike] / dynamics.output_scale
    tolerance = 10 * OUTPUT_TOLERANCE * dynamics.network.neuron.threshold
    layer = dynamics.layers[-1]
    found = looked_at = 0
    for i, neuron in np.argwhere(np.abs(missing) > tolerance)[:: 1 + missing.size // 2000].tolist():
        active = expected.rasters[len(dynamics.layers) - 2][alike[i]].any(axis=0)
        weights = (layer.membrane or dynamics).spike_gain * column(layer.weights, neuron)[active]
        pairs = (weights[:, None] + weights[None, :]).ravel()
        error = min(np.abs(missing[i, neuron] + sums).min(initial=np.inf) for sums in (weights, pairs))
        found += bool(error <= tolerance)
        looked_at += 1
    return found, looked_at


def share_lost(
    dynamics: Dynamics, stimulus: Stimulus, given: Outcome, expected: Outcome, layer: int, seed: int
) -> tuple[Loss, ...]:
    """The share of spikes lost with which simulations differ as much: if packets are lost, or synapses lose them.

    Compared is how many trains of `layer` (or outputs, where it does not fire) differ in an observation.

    Returns
    -------
    The likelier first; one only, if it is by far. None at all, if first divergences are spikes too many, or missing,
    much more often than with spikes lost, which excite and inhibit.
    """
    n = max(LEAST_OBSERVATIONS, MOST_TICKS // (dynamics.network.steps * dynamics.ticks_per_step))
    if n < len(stimulus):
        chosen = np.linspace(0, len(stimulus) - 1, n).astype(np.int64)
        stimulus = some_of(stimulus, chosen)
        given, expected = (
            Outcome(one.outputs[chosen], tuple(raster[chosen] for raster in one.rasters)) for one in (given, expected)
        )
    differing = _differing(given, expected, layer, dynamics)
    if not differing.any():
        return ()
    found = sorted(
        (_estimated(dynamics, stimulus, expected, layer, seed, differing, per) for per in (True, False)),
        key=lambda loss: -loss.likelihood,
    )
    simulated = simulate(_lossy(dynamics, found[0]), stimulus, dynamics.network.steps, seed)
    if _apart(_too_many(given, expected, layer), _too_many(simulated, expected, layer)) > MOST_APART:
        return ()
    return tuple(found[:1] if found[0].likelihood - found[1].likelihood > CLEAR else found)


# --- parts ------------------------------------------------------------------------------------------------------------


def _with_one_less(dynamics: Dynamics, layer: int, neuron: int, before: CountArray, end: int) -> CountArray:
    """The neuron's spikes [spikes, steps] with each of the spikes `before` [ticks, neurons] left out."""
    own, per_step = dynamics.layers[layer], dynamics.ticks_per_step
    sources, ticks = before.shape[1], before.shape[0]
    weights = column(own.weights, neuron)
    times, senders = np.nonzero(before[: end * per_step] * (weights != 0))
    times, senders = times[-MOST_SPIKES:], senders[-MOST_SPIKES:]
    spikes = np.repeat(before[None], len(times), axis=0)
    spikes[np.arange(len(times)), times, senders] = 0
    values = {name: getattr(own, name)[neuron : neuron + 1] for name in BY_NEURON}
    nothing = np.zeros(1)
    last = Layer(np.zeros((1, 1)), nothing, np.array([NEVER]), nothing, nothing, np.ones(1), delay=1)
    alone = replace(
        dynamics,
        network=Network((Dense(np.zeros((sources, 1))), Dense(np.zeros((1, 1)))), 1),
        layers=(replace(own, weights=weights[:, None], **values), last),
        input_weights=np.zeros((sources, 1)),
        ticks_per_step=1,
        input_at=dynamics.bias_at,
        spikes_at=own.delay,
        spike_shift=0,
        copies=(1, 1),
        output_scale=1.0,
        answers_only=False,
        detours=(),
    )
    fired = simulate(alone, Stimulus(np.zeros((len(times), sources)), spikes), ticks).rasters[0][:, :, 0]
    counts: CountArray = fired.reshape(len(times), ticks // per_step, per_step).sum(axis=2, dtype=np.uint8)
    shift = dynamics.spike_shift
    shown = np.zeros_like(counts)
    shown[:, shift:] = counts[:, : counts.shape[1] - shift]
    return shown


def _differing(given: Outcome, expected: Outcome, layer: int, dynamics: Dynamics) -> FloatArray:
    """How many trains of the layer differ in each observation; of a layer that does not fire, outputs."""
    if layer < len(expected.rasters):
        return np.asarray((given.rasters[layer] != expected.rasters[layer]).any(axis=1).sum(axis=1), dtype=np.float64)
    tolerance = OUTPUT_TOLERANCE * dynamics.network.neuron.threshold
    return np.asarray((np.abs(given.outputs - expected.outputs) > tolerance).sum(axis=1), dtype=np.float64)


def _too_many(given: Outcome, expected: Outcome, layer: int) -> tuple[int, int]:
    """First divergences of a layer's trains in which there is a spike too many, and all; outputs that are higher."""
    if layer >= len(expected.rasters):
        difference = given.outputs - expected.outputs
        return int(np.count_nonzero(difference > 0)), int(np.count_nonzero(difference))
    ours, theirs = given.rasters[layer], expected.rasters[layer]
    n, neurons = np.nonzero((ours != theirs).any(axis=1))
    first = (ours != theirs)[n, :, neurons].argmax(axis=1)
    return int(np.count_nonzero(ours[n, first, neurons] > theirs[n, first, neurons])), len(n)


def _apart(ours: tuple[int, int], theirs: tuple[int, int]) -> float:
    """How far two shares are apart, in standard errors of their difference."""
    (a, n), (b, m) = ours, theirs
    both = (a + b + 1) / (n + m + 2)  # Laplace's estimate, so that its error is never 0
    return abs(a / max(n, 1) - b / max(m, 1)) / math.sqrt(both * (1 - both) * (1 / max(n, 1) + 1 / max(m, 1)))


def _lossy(dynamics: Dynamics, loss: Loss) -> Dynamics:
    return replace(dynamics, loss_per_synapse=loss.share) if loss.per_synapse else replace(dynamics, loss=loss.share)


def _estimated(
    dynamics: Dynamics,
    stimulus: Stimulus,
    expected: Outcome,
    layer: int,
    seed: int,
    differing: FloatArray,
    per_synapse: bool,
) -> Loss:
    steps = dynamics.network.steps

    def drawn(share: float, draw: int = 0) -> FloatArray:
        lossy = replace(dynamics, loss_per_synapse=share) if per_synapse else replace(dynamics, loss=share)
        return _differing(simulate(lossy, stimulus, steps, seed + 7 * draw), expected, layer, dynamics)

    def where(wanted: float) -> float:
        low, high = math.log(LEAST), math.log(MOST)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if drawn(math.exp(middle)).mean() < wanted else (low, middle)
        return math.exp((low + high) / 2)

    mean = float(differing.mean())
    near = where(mean)
    # Near it, the mean number is all but a power of the share.
    shares = near * np.array([0.6, 1.0, 1.6])
    draws = [np.concatenate([drawn(share, draw) for draw in range(DRAWS)]) for share in shares]
    slope, offset = np.polyfit([math.log(max(d.mean(), 1e-12)) for d in draws], np.log(shares), 1)
    spread = 1.96 * differing.std() * math.sqrt((1 + 1 / DRAWS) / len(differing))
    share, low, high = (
        math.exp(offset + slope * math.log(max(value, 1e-12))) for value in (mean, mean - spread, mean + spread)
    )
    simulated = np.bincount(np.concatenate(draws).astype(np.int64), minlength=int(differing.max()) + 1) + 0.5
    likelihood = float(np.log(simulated / simulated.sum())[differing.astype(np.int64)].sum())
    return Loss(per_synapse, min(share, 1.0), max(0.0, low), min(high, 1.0), likelihood)

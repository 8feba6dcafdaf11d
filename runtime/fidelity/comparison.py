"""Two records of the same observations, compared: actions, outputs, margins, and the spikes of each layer."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ...errors import InvalidInputError
from ...models.stimulus import CountArray, FloatArray
from ..decision import Divergence, first_divergence
from .intervals import wilson
from .report import Agreement, Histogram, LayerErrors, Margins, OutputErrors, Record

BINS = 20
NARROW = 0.05  # of a threshold
# A fifth of the window: for much less, a spike one step late counts as two that have nothing to do with each other; for
# much more, the distance is the difference of the spike counts, which is stated by itself.
TAU_OF_WINDOW = 0.2
CHUNK = 1 << 20  # steps of all neurons that are compared at once: a few MB of floats


def agreement(ours: NDArray[np.int64], theirs: NDArray[np.int64]) -> Agreement:
    """How often two sequences of actions [n] are the same.

    Raises
    ------
    InvalidInputError
        If their lengths differ, or there are none.
    """
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if ours.ndim != 1 or ours.shape != theirs.shape or not ours.size:
        raise InvalidInputError(
            f"Actions of shapes {ours.shape} and {theirs.shape} were given; one of both kinds is needed for each "
            "observation, and at least one observation."
        )
    agreed = int(np.count_nonzero(ours == theirs))
    return Agreement(agreed, len(ours), agreed / len(ours), wilson(agreed, len(ours)))


def output_errors(expected: Record, given: Record) -> OutputErrors:
    """How far the output values are apart.

    The histogram has equal bins from 0 to a round number that at least 99 % of the errors do not exceed; its last bin
    also holds all larger ones. Where there are no errors it ends at 1.
    """
    _require_alike(expected, given)
    errors = np.abs(given.outputs - expected.outputs).ravel()
    median, p95 = np.percentile(errors, (50, 95))
    return OutputErrors(
        max=float(errors.max()),
        mean=float(errors.mean()),
        median=float(median),
        p95=float(p95),
        histogram=_histogram(errors, _round_limit(errors)),
    )


def decision_margins(outputs: FloatArray) -> FloatArray:
    """The best of the outputs [n, n_out] minus the second best: [n]; 0 where there is one output, and no choice."""
    if outputs.shape[1] < 2:
        return np.zeros(len(outputs))
    best = np.partition(outputs, -2, axis=1)
    return np.asarray(best[:, -1] - best[:, -2])


def margins(expected: Record, given: Record, threshold: float) -> Margins:
    """The margins of the expected decisions, where both agree and where they do not.

    Parameters
    ----------
    expected, given : Record
    threshold : float
        The Network's: a margin is narrow below 0.05 of it.

    Notes
    -----
    Both histograms have the same equal bins, from 0 to a round number that at least 99 % of all margins do not exceed;
    their last bin also holds all wider ones.
    """
    _require_alike(expected, given)
    found = decision_margins(expected.outputs)
    flips = np.flatnonzero(given.actions != expected.actions)
    flipped, agreeing = found[flips], np.delete(found, flips)
    limit = _round_limit(found)
    widest = int(flips[flipped.argmax()]) if flips.size else None
    return Margins(
        flips=len(flips),
        narrow=NARROW * threshold,
        narrow_flips=int(np.count_nonzero(flipped < NARROW * threshold)),
        widest=None if widest is None else (widest, float(found[widest])),
        median_agreeing=float(np.median(agreeing)) if agreeing.size else None,
        median_flipped=float(np.median(flipped)) if flipped.size else None,
        agreeing=_histogram(agreeing, limit),
        flipped=_histogram(flipped, limit),
    )


def layer_errors(expected: Record, given: Record, tau_steps: float | None = None) -> tuple[LayerErrors, ...]:
    """How the spikes of each layer differ.

    Parameters
    ----------
    expected, given : Record
    tau_steps : float > 0, optional
        Of van Rossum's distance; a fifth of the window, but at least one step, unless given.

    Raises
    ------
    InvalidInputError
        If the records are of different windows, or `tau_steps` is not above 0.
    """
    _require_alike(expected, given)
    return tuple(
        _layer_errors(layer, ours, theirs, tau_steps)
        for layer, (ours, theirs) in enumerate(zip(expected.rasters, given.rasters, strict=True))
    )


def _layer_errors(layer: int, expected: CountArray, given: CountArray, tau_steps: float | None) -> LayerErrors:
    _, steps, neurons = expected.shape
    tau = max(1.0, TAU_OF_WINDOW * steps) if tau_steps is None else float(tau_steps)
    distances = van_rossum(expected, given, tau)
    counts_expected, counts_given = (raster.sum(axis=1, dtype=np.int64) for raster in (expected, given))
    return LayerErrors(
        layer=layer,
        neurons=neurons,
        trains=distances.size,
        differing_trains=int(np.count_nonzero(distances)),
        spikes_expected=int(counts_expected.sum()),
        spikes_given=int(counts_given.sum()),
        count_error=float(np.abs(counts_given - counts_expected).mean()),
        van_rossum=float(distances.mean()),
        tau_steps=tau,
        rate_correlation=_correlation(counts_expected.ravel(), counts_given.ravel()),
    )


def van_rossum(expected: CountArray, given: CountArray, tau_steps: float) -> FloatArray:
    """Van Rossum's distance of each spike train and its expected one.

    Every spike becomes an exponential that decays with `tau_steps`, ``f(t) = sum over spikes s <= t of
    exp(-(t - s)/tau)``, and the distance is ``sqrt(2/tau * integral of (f_given - f_expected)^2)``: 1 for one spike
    more or less far from any other (van Rossum's own factor is 1/tau, which makes that 1/sqrt(2)). Spikes are at whole
    steps, so that the integral is a sum: with ``x[t]`` the difference right after step t and ``q = exp(-1/tau)``, a
    step adds ``(1 - q^2) x[t]^2``, and all time after the window's last step ``x[last]^2``.

    Parameters
    ----------
    expected, given : uint8 [n, steps, neurons]
    tau_steps : float > 0

    Returns
    -------
    float64 [n, neurons]
        Above 0 exactly where two trains differ.

    Raises
    ------
    InvalidInputError
        If the shapes differ, or `tau_steps` is not above 0.

    References
    ----------
    van Rossum, *A novel spike distance*, Neural Computation 13 (2001), section 2.
    """
    if expected.shape != given.shape or expected.ndim != 3:
        raise InvalidInputError(
            f"Rasters of shapes {expected.shape} and {given.shape} were given; two of the same shape "
            "[n, steps, neurons] are needed."
        )
    if not 0 < tau_steps < np.inf:
        raise InvalidInputError(f"tau_steps is {tau_steps!r}; it must be a finite number above 0.")
    kept, gone = math.exp(-1.0 / tau_steps), -math.expm1(-2.0 / tau_steps)
    distances = np.zeros((len(expected), expected.shape[2]))
    for some in _chunks(expected):
        ours, theirs = expected[some], given[some]
        samples, neurons = np.nonzero((ours != theirs).any(axis=1))
        if not samples.size:
            continue
        trains = (theirs[samples, :, neurons].T, ours[samples, :, neurons].T)
        changes = np.subtract(*trains, dtype=np.float64)
        difference, total = np.zeros(len(samples)), np.zeros(len(samples))
        for change in changes:
            total += gone * difference * difference
            difference = kept * difference + change
        distances[some][samples, neurons] = np.sqrt(total + difference * difference)
    return distances


def first_divergent(expected: Record, given: Record) -> tuple[int, Divergence] | None:
    """The first observation with another spike, and where in its window that was; None where all are the same."""
    _require_alike(expected, given)
    first: int | None = None
    for ours, theirs in zip(expected.rasters, given.rasters, strict=True):
        before, others = ours[:first], theirs[:first]
        for some in _chunks(before):
            differ = (before[some] != others[some]).any(axis=(1, 2))
            if differ.any():
                first = some.start + int(differ.argmax())
                break
    if first is None:
        return None
    place = first_divergence(tuple(r[first] for r in given.rasters), tuple(r[first] for r in expected.rasters))
    assert place is not None, "a spike of this observation differs"
    return first, place


def spike_events(rasters: tuple[CountArray, ...]) -> tuple[tuple[int, int, int, int], ...]:
    """The spikes of one observation's rasters [steps, neurons] as (layer, neuron, step, count), in this order."""
    return tuple(
        (layer, neuron, step, int(raster[step, neuron]))
        for layer, raster in enumerate(rasters)
        for neuron, step in np.argwhere(raster.T).tolist()
    )


def _require_alike(expected: Record, given: Record) -> None:
    sides = [
        [record.actions.shape, record.outputs.shape, *(raster.shape for raster in record.rasters)]
        for record in (expected, given)
    ]
    if sides[0] != sides[1]:
        raise InvalidInputError(
            f"Records of shapes {sides[0]} and {sides[1]} (actions, outputs, rasters) were given; they can only be "
            "compared if they are of the same observations, network and window."
        )
    if not len(expected):
        raise InvalidInputError("Records of no observations were given; at least one is needed.")


def _chunks(raster: CountArray) -> Iterator[slice]:
    """Slices of the observations, so that what is made for each stays small."""
    n, steps, neurons = raster.shape
    size = max(1, CHUNK // max(1, steps * neurons))
    return (slice(start, start + size) for start in range(0, n, size))


def _correlation(a: NDArray[np.int64], b: NDArray[np.int64]) -> float | None:
    """Pearson's correlation; the sums are exact, so that equal counts have 1.0 and constant ones are recognised."""
    n, sum_a, sum_b = len(a), int(a.sum()), int(b.sum())
    spread_a, spread_b = n * int(a @ a) - sum_a**2, n * int(b @ b) - sum_b**2
    if not (spread_a and spread_b):
        return None
    return max(-1.0, min(1.0, (n * int(a @ b) - sum_a * sum_b) / math.sqrt(spread_a * spread_b)))


def _round_limit(values: FloatArray) -> float:
    """1, 2, 2.5 or 5 times a power of ten that at least 99 % of the values do not exceed."""
    # Where fewer than one in a hundred is not 0, those few are what there is to see.
    most = float(np.percentile(values, 99)) or float(values.max())
    if not 1e-300 < most < 1e300:
        return max(most, 1.0)
    unit = 10.0 ** math.floor(math.log10(most))
    return next((factor * unit for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * unit >= most), most)


def _histogram(values: FloatArray, limit: float) -> Histogram:
    edges = np.linspace(0.0, limit, BINS + 1)
    counts, _ = np.histogram(np.minimum(values, limit), edges)
    return Histogram(tuple(edges.tolist()), tuple(counts.tolist()))

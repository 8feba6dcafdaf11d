"""Two records compared: against numbers worked out by hand, and by other software."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spikeloop.errors import InvalidInputError
from spikeloop.runtime.decision import Divergence
from spikeloop.runtime.fidelity import comparison, wilson
from spikeloop.runtime.fidelity.comparison import (
    agreement,
    decision_margins,
    first_divergent,
    layer_errors,
    margins,
    output_errors,
    spike_events,
    van_rossum,
)
from spikeloop.runtime.fidelity.report import Record


def record(outputs, rasters=(), actions=None):
    outputs = np.asarray(outputs, dtype=np.float64)
    actions = outputs.argmax(axis=1) if actions is None else np.asarray(actions)
    return Record(actions, outputs, tuple(rasters), np.ones(len(outputs)))


def random_record(seed, n=30, steps=12, sizes=(5, 4), rate=0.3):
    rng = np.random.default_rng(seed)
    rasters = tuple((rng.random((n, steps, size)) < rate).astype(np.uint8) for size in sizes)
    return record(rng.normal(size=(n, 3)), rasters)


def raster(steps, *trains):
    """Spike times of each neuron, as uint8 [1, steps, neurons]."""
    return np.stack([np.bincount(np.array(times, int), minlength=steps) for times in trains], 1)[None].astype(np.uint8)


# --- actions and outputs ----------------------------------------------------------------------------------------------


def test_agreement():
    found = agreement(np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0]))
    assert (found.agreed, found.of, found.share, found.interval) == (3, 4, 0.75, wilson(3, 4))


@pytest.mark.parametrize("other", [[0, 1], [], [[0, 1, 1]]])
def test_actions_that_cannot_be_compared(other):
    with pytest.raises(InvalidInputError, match="one of both kinds is needed"):
        agreement(np.array(other), np.array([0, 1, 1]))
    with pytest.raises(InvalidInputError, match="at least one observation"):
        agreement(np.array([]), np.array([]))


def test_output_errors():
    expected = record([[0.0, 1.0], [2.0, 3.0]])
    found = output_errors(expected, record([[0.5, 1.0], [2.0, 1.0]]))
    assert (found.max, found.mean, found.median) == (2.0, 0.625, 0.25)
    assert found.p95 == pytest.approx(0.5 + 0.85 * 1.5)  # between the third and the fourth of 0, 0, 0.5, 2
    assert found.histogram.edges[0] == 0.0
    assert found.histogram.edges[-1] == 2.0
    assert np.flatnonzero(found.histogram.counts).tolist() == [0, 5, 19]
    assert found.histogram.counts[0] == 2


def test_no_errors_at_all():
    found = output_errors(record(np.ones((7, 2))), record(np.ones((7, 2))))
    assert (found.max, found.mean, found.median, found.p95) == (0.0, 0.0, 0.0, 0.0)
    assert (found.histogram.edges[0], found.histogram.edges[-1]) == (0.0, 1.0)
    assert found.histogram.counts == (14, *[0] * 19)


@pytest.mark.parametrize("scale", [5e-324, 1e-12, 0.0003, 0.001, 1.0, 7.0, 1e250, 1e304])
def test_histograms_of_any_magnitude_hold_everything(scale):
    values = np.random.default_rng(1).random((50, 2)) * scale
    found = output_errors(record(np.zeros((50, 2))), record(values)).histogram
    assert sum(found.counts) == 100
    assert all(a < b for a, b in zip(found.edges, found.edges[1:], strict=False))
    if 1e-300 < scale < 1e300:
        assert sum(count > 0 for count in found.counts) >= 8, "the bins are of the values' magnitude"


def test_a_few_outliers_do_not_squeeze_a_histogram():
    errors = np.full((1000, 2), 0.3)
    errors[:4] = 1e6
    found = output_errors(record(np.zeros((1000, 2))), record(errors)).histogram
    assert found.edges[-1] == pytest.approx(0.5)
    assert found.counts[-1] == 8
    rare = np.zeros((1000, 2))
    rare[0, 0] = 0.07
    assert output_errors(record(np.zeros((1000, 2))), record(rare)).histogram.edges[-1] == pytest.approx(0.1)


# --- margins ----------------------------------------------------------------------------------------------------------


def test_margins_of_agreeing_decisions_and_of_flips():
    expected = record([[1.0, 0.96], [0.2, 0.7], [0.0, 0.3], [5.0, 1.0], [0.4, 0.4]])
    found = margins(expected, record(expected.outputs, actions=[1, 0, 1, 0, 1]), threshold=1.0)
    assert (found.flips, found.narrow, found.narrow_flips) == (3, 0.05, 2)  # of margins 0.04, 0.5 and 0
    assert found.widest == (1, pytest.approx(0.5))
    assert found.median_flipped == pytest.approx(0.04)
    assert found.median_agreeing == pytest.approx((0.3 + 4.0) / 2)
    assert found.agreeing.edges == found.flipped.edges
    assert (sum(found.agreeing.counts), sum(found.flipped.counts)) == (2, 3)
    assert margins(expected, record(expected.outputs, actions=[1, 0, 1, 0, 1]), threshold=20.0).narrow_flips == 3


def test_margins_where_one_kind_is_absent():
    expected = record([[1.0, 0.5, 0.9], [0.0, 3.0, 2.5]])
    none = margins(expected, expected, 1.0)
    assert (none.flips, none.narrow_flips, none.widest, none.median_flipped) == (0, 0, None, None)
    assert none.median_agreeing == pytest.approx(0.3)
    every = margins(expected, record(expected.outputs, actions=[1, 0]), 1.0)
    assert (every.flips, every.median_agreeing, sum(every.agreeing.counts)) == (2, None, 0)


def test_margins_are_of_the_two_best_and_absent_of_one_output():
    outputs = np.random.default_rng(0).normal(size=(40, 6))
    ordered = np.sort(outputs, axis=1)
    assert np.array_equal(decision_margins(outputs), ordered[:, -1] - ordered[:, -2])
    single = record([[1.0], [2.0]])
    assert margins(single, single, 1.0).median_agreeing == 0.0


# --- spikes -----------------------------------------------------------------------------------------------------------


# Of elephant 1.2.1 (neo 0.14.6): van_rossum_distance([a, b], tau*ms)[0, 1], whose normalisation is the same.
ELEPHANT = [
    ([3], [], 4.0, 1.0),
    ([3], [4], 4.0, 0.6651303886135336),
    ([0, 5, 6, 12], [0, 7, 12, 19], 4.0, 1.6578810677495475),
    ([1, 2, 3], [10], 2.5, 2.7059464396538315),
    ([], [2, 19], 1.0, 1.4142135916468752),
    ([0, 4, 8, 12, 16], [2, 6, 10, 14, 18], 10.0, 1.1936153654866568),
]


@pytest.mark.parametrize(("a", "b", "tau", "distance"), ELEPHANT)
def test_van_rossum_is_that_of_other_software(a, b, tau, distance):
    assert van_rossum(raster(20, a), raster(20, b), tau)[0, 0] == pytest.approx(distance, abs=1e-12)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30), st.floats(0.2, 50.0))
def test_van_rossum_is_the_integral(changes, tau):
    """Of two exponentials that begin at s and t, the product's integral, times 2/tau, is exp(-|s - t|/tau)."""
    change = np.array(changes)
    times = np.arange(len(change))
    square = change @ np.exp(-np.abs(times[:, None] - times) / tau) @ change
    ours, theirs = np.maximum(-change, 0), np.maximum(change, 0)
    found = van_rossum(*(side[None, :, None].astype(np.uint8) for side in (ours, theirs)), tau)[0, 0]
    assert found**2 == pytest.approx(square, rel=1e-9, abs=1e-9)
    assert (found > 0) == change.any()


def test_one_spike_more_is_1_wherever_it_is_and_many_trains_are_as_each():
    steps = 9
    empty, each = np.zeros((steps, steps, 2), np.uint8), np.zeros((steps, steps, 2), np.uint8)
    each[np.arange(steps), np.arange(steps), 1] = 1
    found = van_rossum(empty, each, 2.0)
    assert found[:, 0].tolist() == [0.0] * steps
    assert found[:, 1] == pytest.approx(np.ones(steps))
    a, b = random_record(1).rasters[0], random_record(2).rasters[0]
    alone = [[van_rossum(a[[i]][:, :, [j]], b[[i]][:, :, [j]], 2.0)[0, 0] for j in range(5)] for i in range(30)]
    assert np.array_equal(van_rossum(a, b, 2.0), np.array(alone))


def test_layer_errors_by_hand():
    expected = record(np.zeros((1, 2)), [raster(20, [3], [5, 9], []), raster(20, [0, 1])])
    given = record(np.zeros((1, 2)), [raster(20, [], [5, 9], [4, 4]), raster(20, [0, 1])])
    first, second = layer_errors(expected, given)
    assert (first.layer, first.neurons, first.trains, first.differing_trains) == (0, 3, 3, 2)
    assert (first.spikes_expected, first.spikes_given) == (3, 4)
    assert first.count_error == pytest.approx(1.0)  # 1, 0 and 2 spikes
    assert first.tau_steps == 4.0
    assert first.van_rossum == pytest.approx((1.0 + 0.0 + 2.0) / 3)  # two spikes in one step count double
    assert first.rate_correlation == pytest.approx(np.corrcoef([1, 2, 0], [0, 2, 2])[0, 1])
    assert (second.layer, second.differing_trains, second.van_rossum, second.rate_correlation) == (1, 0, 0.0, None)
    assert layer_errors(expected, given, tau_steps=1.5)[0].tau_steps == 1.5


def test_equal_records_have_no_errors():
    for layer in layer_errors(random_record(0), random_record(0)):
        assert (layer.differing_trains, layer.count_error, layer.van_rossum) == (0, 0.0, 0.0)
        assert layer.rate_correlation == pytest.approx(1.0)
        assert layer.rate_correlation <= 1.0


def test_the_time_constant_is_a_fifth_of_the_window_and_at_least_a_step():
    for steps, tau in [(1, 1.0), (4, 1.0), (50, 10.0)]:
        assert layer_errors(random_record(0, steps=steps), random_record(1, steps=steps))[0].tau_steps == tau


def test_chunks_change_nothing(monkeypatch):
    expected, given = random_record(3), random_record(4)
    equal_at_first = replace(given, rasters=tuple(raster.copy() for raster in given.rasters))
    for ours, theirs in zip(expected.rasters, equal_at_first.rasters, strict=True):
        theirs[:20] = ours[:20]
    whole = layer_errors(expected, given), first_divergent(expected, equal_at_first)
    for size in (1, 150, 200):
        monkeypatch.setattr(comparison, "CHUNK", size)
        assert (layer_errors(expected, given), first_divergent(expected, equal_at_first)) == whole


def test_first_divergent():
    expected = random_record(5)
    given = replace(expected, rasters=tuple(raster.copy() for raster in expected.rasters))
    assert first_divergent(expected, given) is None
    hidden, output = given.rasters
    hidden[17, 4, 2] ^= 1
    hidden[9, 8, 3] ^= 1
    output[20, 0, 0] ^= 1  # no later layer's later observation
    assert first_divergent(expected, given)[0] == 9
    output[9, 5, 1] = 2
    output[9, 5, 3] = 2
    old = int(expected.rasters[1][9, 5, 1])
    assert first_divergent(expected, given) == (9, Divergence(layer=1, neuron=1, step=5, fired=2, expected=old))
    output[6, 11, 0] ^= 1  # an earlier observation, in a later layer and step
    assert first_divergent(expected, given)[0] == 6


def test_spike_events():
    one = raster(6, [1, 4], [], [2, 2])[0], raster(6, [5], [0])[0]
    assert spike_events(one) == ((0, 0, 1, 1), (0, 0, 4, 1), (0, 2, 2, 2), (1, 0, 5, 1), (1, 1, 0, 1))
    assert spike_events((np.zeros((6, 3), np.uint8),)) == ()


# --- what cannot be compared ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compare", [output_errors, layer_errors, first_divergent, lambda a, b: margins(a, b, 1.0)])
def test_records_of_something_else(compare):
    expected = random_record(0)
    for other in (random_record(0, n=29), random_record(0, sizes=(5,)), random_record(0, steps=11)):
        with pytest.raises(InvalidInputError, match="the same observations, network and window"):
            compare(expected, other)
    with pytest.raises(InvalidInputError, match="at least one is needed"):
        compare(random_record(0, n=0), random_record(0, n=0))


@pytest.mark.parametrize("tau", [0.0, -1.0, math.nan, math.inf])
def test_time_constants_that_are_none(tau):
    with pytest.raises(InvalidInputError, match="must be a finite number above 0"):
        layer_errors(random_record(0), random_record(1), tau_steps=tau)


def test_rasters_of_different_shapes():
    with pytest.raises(InvalidInputError, match="two of the same shape"):
        van_rossum(raster(5, [1]), raster(6, [1]), 1.0)

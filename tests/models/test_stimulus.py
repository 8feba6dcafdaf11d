"""Stimuli made of events and of currents."""

import numpy as np
import pytest
from spikeloop.errors import InvalidInputError
from spikeloop.models import Stimulus


def events(channels, steps, n_channels=3, window=5):
    return Stimulus.from_events(channels, steps, n_channels=n_channels, window=window)


def test_events_become_counts():
    stimulus = events([0, 2, 2, 2], [4, 1, 1, 0])
    expected = np.zeros((1, 5, 3), np.uint8)
    expected[0, 4, 0] = 1
    expected[0, 1, 2] = 2
    expected[0, 0, 2] = 1
    np.testing.assert_array_equal(stimulus.spikes, expected)
    assert stimulus.spikes.dtype == np.uint8
    np.testing.assert_array_equal(stimulus.currents, [[0.0, 0.0, 0.0]])
    assert len(stimulus) == 1


def test_no_events_and_a_single_one():
    assert events([], []).spikes.sum() == 0
    assert events(1, 2).spikes[0, 2, 1] == 1


def test_up_to_255_spikes_fit_in_a_step():
    assert events([1] * 255, [2] * 255).spikes.max() == 255
    with pytest.raises(InvalidInputError, match="more than 255 spikes in one step"):
        events([1] * 256, [2] * 256)


@pytest.mark.parametrize(
    ("channels", "steps", "message"),
    [
        ([3], [0], "names channel 3; this network has channels 0 to 2"),
        ([-1], [0], "names channel -1"),
        ([0], [5], "names step 5; this network has steps 0 to 4"),
        ([0], [-1], "names step -1"),
        ([2**64 - 1], [0], "names channel"),
        ([0, 1], [0], "2 channels were given with 1 steps"),
        ([0.0], [0], "channels of spike events must be a flat list of integers"),
        ([0], [[0]], "steps of spike events"),
        ([True], [0], "channels of spike events"),
        ([[0], [0, 1]], [0, 0], "channels of spike events"),
        (["a"], [0], "channels of spike events"),
    ],
)
def test_events_outside_of_the_window_are_refused(channels, steps, message):
    with pytest.raises(InvalidInputError, match=message):
        events(channels, steps)


def test_currents_come_singly_or_in_batches():
    assert Stimulus.from_currents([1, 2]).currents.shape == (1, 2)
    assert Stimulus.from_currents(np.zeros((7, 2))).currents.shape == (7, 2)
    with pytest.raises(InvalidInputError, match="1 of 2 values of the currents are NaN"):
        Stimulus.from_currents([1.0, float("nan")])


def test_a_sample_keeps_its_batch_axis():
    stimulus = Stimulus(np.arange(6.0).reshape(3, 2), np.arange(12, dtype=np.uint8).reshape(3, 2, 2))
    one = stimulus.sample(1)
    np.testing.assert_array_equal(one.currents, [[2.0, 3.0]])
    np.testing.assert_array_equal(one.spikes, [[[4, 5], [6, 7]]])
    assert Stimulus(stimulus.currents).sample(2).spikes is None

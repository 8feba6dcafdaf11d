"""Noise on observations, and values that are hidden."""

import numpy as np
import pytest
from spikeloop.bridges.environments import Spaces
from spikeloop.errors import InvalidInputError
from spikeloop.training.episodes import Moment
from spikeloop.training.perturbation import Perturbation, deviations, occluded


def moment(observations):
    n = len(observations)
    return Moment(np.asarray(observations, dtype=np.float64), np.arange(n), np.full(n, 3))


def spaces(*shape):
    return Spaces(shape, 2, 0, np.dtype(np.uint8))


def test_noise_has_the_deviation_asked_for():
    scale = np.array([0.0, 0.1, 2.0])
    noise = Perturbation(scale)(moment(np.ones((4000, 3)))) - 1.0
    np.testing.assert_array_equal(noise[:, 0], 0.0)
    np.testing.assert_allclose(noise.std(axis=0), scale, rtol=0.05)
    assert np.abs(noise.mean(axis=0)).max() < 0.1
    np.testing.assert_allclose(Perturbation(2 * scale)(moment(np.ones((4000, 3)))) - 1.0, 2 * noise, atol=1e-12)


def test_noise_does_not_depend_on_what_is_beside():
    whole = moment(np.zeros((5, 2)))
    seen = Perturbation(1.0)(whole)
    one = Moment(whole.observations[2:3], whole.seeds[2:3], whole.steps[2:3])
    np.testing.assert_array_equal(Perturbation(1.0)(one), seen[2:3])


def test_pixels_stay_pixels():
    states = np.array([[0.0, 128.0, 255.0]] * 500)
    seen = Perturbation(20.0, dtype=np.dtype(np.uint8))(moment(states))
    np.testing.assert_array_equal(seen, seen.astype(np.uint8))
    assert seen[:, 0].min() == 0.0
    assert seen[:, 2].max() == 255.0
    assert abs(seen[:, 1].std() - 20.0) < 2.0


def test_hidden_values_are_0_also_under_noise_and_the_rest_is_untouched():
    states = np.arange(12.0).reshape(3, 4) + 1
    given = moment(states.copy())
    seen = Perturbation(0.0, np.array([1, 3]))(given)
    np.testing.assert_array_equal(seen, states * [1, 0, 1, 0])
    np.testing.assert_array_equal(given.observations, states)
    assert not Perturbation(1.0, np.array([1, 3]))(given)[:, [1, 3]].any()


@pytest.mark.parametrize("deviation", [-0.1, np.nan, np.inf, np.array([0.1, -0.1])])
def test_deviations_that_cannot_be(deviation):
    with pytest.raises(InvalidInputError, match="finite number of at least 0"):
        Perturbation(deviation)


def test_deviations_of_many_values():
    states = np.random.default_rng(0).integers(0, 256, (20, 2500), dtype=np.uint8)
    np.testing.assert_allclose(deviations(states), states.astype(float).std(axis=0))


def test_values_by_index():
    assert occluded(spaces(4), [3, 0, 3]).tolist() == [0, 3]


@pytest.mark.parametrize(
    ("shape", "numbers", "hidden"),
    [
        ((3, 5), [1, 0, 2, 2], np.s_[0:2, 1:3]),
        ((2, 30, 50), [4, 5, 6, 7], np.s_[:, 5:12, 4:10]),
        ((30, 50, 3), [4, 5, 6, 7], np.s_[5:12, 4:10, :]),
        ((84, 84, 4), [0, 0, 84, 84], np.s_[:]),
        ((4, 84, 84), [83, 83, 1, 1], np.s_[:, 83, 83]),
    ],
)
def test_a_rectangle_of_pixels_is_hidden_in_all_frames(shape, numbers, hidden):
    expected = np.zeros(shape, dtype=bool)
    expected[hidden] = True
    assert occluded(spaces(*shape), numbers).tolist() == np.flatnonzero(expected).tolist()


@pytest.mark.parametrize(
    ("shape", "numbers", "message"),
    [
        ((4,), [4], "'4' is to be hidden; the observation has the values 0 to 3"),
        ((4,), [-1], "'-1' is to be hidden"),
        ((4,), [], "give indices"),
        ((8, 8), [1, 2], "of images a rectangle X,Y,WIDTH,HEIGHT is needed"),
        ((8, 9), [0, 0, 10, 1], "which is 9 pixels wide and 8 high"),
        ((8, 9), [0, 0, 1, 9], "must lie within the image"),
        ((8, 9), [-1, 0, 1, 1], "must lie within the image"),
        ((8, 9), [0, 0, 0, 1], "must lie within the image"),
        ((2, 2, 2, 2), [0], "this observation has shape"),
    ],
)
def test_what_cannot_be_hidden(shape, numbers, message):
    with pytest.raises(InvalidInputError, match=message):
        occluded(spaces(*shape), numbers)

"""Episodes and the figures drawn from them."""

import numpy as np
import pytest
from spikeloop.models import Decoder, Dense, Network
from spikeloop.training.episodes import play
from spikeloop.training.evaluation import actions, figures, interval, margins, run_episodes, student_t


def constant(action, decoder=Decoder()):  # noqa: B008  # frozen
    """A network that pushes the cart the same way whatever it sees."""
    return Network((Dense(np.zeros((4, 2)), np.eye(2)[action]),), 8, decoder=decoder)


def test_episodes_side_by_side_equal_episodes_one_by_one():
    def policy(observations):
        return (observations[:, 2] > 0).astype(np.int64)

    together = run_episodes("CartPole-v1", policy, 5, 40)
    alone = [run_episodes("CartPole-v1", policy, 1, 40 + i) for i in range(5)]
    assert together.returns.tolist() == [float(episode.returns[0]) for episode in alone]
    assert len(set(together.returns)) > 1
    assert len(together.observations) == together.returns.sum()


def test_firing_output_is_read_by_its_decoder():
    assert actions(constant(1, Decoder("spike_count")), np.zeros((3, 4))).tolist() == [1, 1, 1]


def test_margins():
    assert margins(np.array([[1.0, 4.0, 2.0], [3.0, 3.0, 0.0]])).tolist() == [2.0, 0.0]


def test_students_t_against_the_tables():
    # Fisher and Yates, Statistical Tables: the two-sided 5 %, 1 % and 0.1 % points.
    for freedom, confidence, point in [
        (1, 0.95, 12.706),
        (2, 0.95, 4.303),
        (3, 0.99, 5.841),
        (4, 0.999, 8.610),
        (9, 0.95, 2.262),
        (30, 0.99, 2.750),
        (120, 0.95, 1.980),
        (100_000, 0.95, 1.960),
    ]:
        assert student_t(confidence, freedom) == pytest.approx(point, abs=6e-4)


def test_the_interval_of_students_own_data():
    # Hours of sleep gained on a soporific (Student, "The probable error of a mean", 1908), the second drug.
    gained = np.array([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])
    assert interval(gained) == pytest.approx((0.8976775, 3.7623225), abs=1e-6)
    assert interval(np.array([500.0])) is None
    assert interval(np.full(100, 500.0)) == (500.0, 500.0)


def test_the_interval_holds_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(1)
    held = [low <= 3.0 <= high for low, high in (interval(rng.normal(3.0, 2.0, 6)) for _ in range(4000))]
    assert abs(np.mean(held) - 0.95) < 0.011  # three standard errors


def test_figures_of_episodes():
    told = figures(
        play(
            "CartPole-v1",
            lambda moment: np.zeros(len(moment.seeds), dtype=np.int64),
            4,
            60,
            other=lambda moment: moment.seeds % 2,
        ),
        compared=True,
    )
    lengths = np.array(told["lengths"])
    assert told["returns"] == told["lengths"]
    assert (told["mean_length"], told["decisions"], told["distinct_episodes"]) == (lengths.mean(), lengths.sum(), 4)
    assert told["median_return"] == np.median(lengths)
    assert told["agreed"] == lengths[[0, 2]].sum()
    assert told["agreement_interval"][0] < told["agreement"] < told["agreement_interval"][1]
    assert told["mean_interval"][0] < told["mean_return"] < told["mean_interval"][1]

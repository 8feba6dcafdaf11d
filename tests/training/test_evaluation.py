"""Episodes and the figures drawn from them."""

import numpy as np
from spikeloop.models import Decoder, Dense, Network
from spikeloop.training.episodes import play
from spikeloop.training.evaluation import actions, figures, margins, run_episodes


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

"""Episodes and the figures drawn from them."""

import numpy as np
from spikeloop.models import Decoder, Dense, Network
from spikeloop.training.evaluation import actions, evaluate, margins, run_episodes


def constant(action, decoder=Decoder()):  # noqa: B008  # frozen
    """A network that pushes the cart the same way whatever it sees."""
    return Network((Dense(np.zeros((4, 2)), np.eye(2)[action]),), 8, decoder=decoder)


class Left:
    description = "pushes left"

    def actions(self, observations):
        return np.zeros(len(observations), dtype=np.int64)


def test_episodes_side_by_side_equal_episodes_one_by_one():
    def policy(observations):
        return (observations[:, 2] > 0).astype(np.int64)

    together = run_episodes("CartPole-v1", policy, 5, 40)
    alone = [run_episodes("CartPole-v1", policy, 1, 40 + i) for i in range(5)]
    assert together.returns.tolist() == [float(episode.returns[0]) for episode in alone]
    assert len(set(together.returns)) > 1
    assert len(together.observations) == together.returns.sum()


def test_figures():
    figures = evaluate(constant(0), "CartPole-v1", 4, 60, Left())
    assert figures["agreement_with_teacher"] == 1.0
    assert figures["margin_median"] == 7.0  # 8 steps of bias 1, the first of which only fills the synapse
    assert figures["mean_return"] == np.mean(figures["returns"])
    assert figures["min_return"] == min(figures["returns"])
    assert evaluate(constant(1), "CartPole-v1", 4, 60, Left())["agreement_with_teacher"] == 0.0


def test_firing_output_is_read_by_its_decoder():
    assert actions(constant(1, Decoder("spike_count")), np.zeros((3, 4))).tolist() == [1, 1, 1]


def test_margins():
    assert margins(np.array([[1.0, 4.0, 2.0], [3.0, 3.0, 0.0]])).tolist() == [2.0, 0.0]

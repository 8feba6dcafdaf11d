"""REINFORCE: its returns, its gradient, and what a short run learns."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from spikeloop.errors import InvalidInputError  # noqa: E402
from spikeloop.training import reinforce  # noqa: E402
from spikeloop.training.architecture import build, mlp  # noqa: E402
from spikeloop.training.environment import TrainingEnvironment  # noqa: E402
from spikeloop.training.evaluation import run_episodes  # noqa: E402
from spikeloop.training.policy import load_policy  # noqa: E402


def test_discounted_returns():
    assert reinforce.discounted(np.array([1.0, 2.0, 4.0]), 0.5).tolist() == [3.0, 4.0, 4.0]


def test_actions_are_drawn_from_the_softmax():
    policy = build(mlp(4, (), 2))
    with torch.no_grad():
        policy[0].weight.zero_()
        policy[0].bias.copy_(torch.tensor([0.0, 1.0]))
    with TrainingEnvironment("CartPole-v1") as environment:
        rng = np.random.default_rng(1)
        taken = np.concatenate([reinforce.play(policy, environment, seed, rng).actions for seed in range(200)])
    expected = np.exp(1.0) / (1.0 + np.exp(1.0))
    assert taken.mean() == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / len(taken)))


def test_an_update_makes_actions_likelier_that_were_followed_by_more():
    policy = build(mlp(1, (), 2))
    optimiser = torch.optim.SGD(policy.parameters(), lr=0.1)
    state = np.ones((2, 1), dtype=np.float32)
    good = reinforce.Episode(state[:1], np.array([1]), np.array([5.0]), 5.0)
    bad = reinforce.Episode(state[:1], np.array([0]), np.array([1.0]), 1.0)
    before = policy(torch.ones(1, 1)).softmax(1)[0, 1].item()
    reinforce.update(policy, optimiser, [good, bad], 0.9)
    assert policy(torch.ones(1, 1)).softmax(1)[0, 1].item() > before


def test_it_learns_to_balance(tmp_path):
    settings = reinforce.Settings(output=tmp_path / "run", seed=2, episodes=400, average_over=20, max_steps=200)
    summary = reinforce.train(settings)
    assert summary["best_average"] > 80, "chance gives 22"
    policy = load_policy(tmp_path / "run" / "best.pt")
    assert run_episodes("CartPole-v1", policy.actions, 20, 0).returns.mean() > 80


@pytest.mark.parametrize(("change", "message"), [({"episodes_per_update": 0}, "is 0"), ({"discount": -0.1}, "is -0.1")])
def test_settings_that_cannot_be(change, message):
    with pytest.raises(InvalidInputError, match=message):
        reinforce.Settings(**change)

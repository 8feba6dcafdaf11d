"""Deep Q-learning: its update, its schedules, and what short runs learn."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from spikeloop.errors import EnvironmentMismatchError, InvalidInputError  # noqa: E402
from spikeloop.models import load  # noqa: E402
from spikeloop.training import dqn, dsqn  # noqa: E402
from spikeloop.training.evaluation import actions, run_episodes  # noqa: E402
from spikeloop.training.policy import load_policy  # noqa: E402
from spikeloop.training.spiking_policy import SpikingPolicy  # noqa: E402


class Table(torch.nn.Module):
    """Values by state, which is an index."""

    def __init__(self, values):
        super().__init__()
        self.values = torch.nn.Parameter(torch.tensor(values))

    def forward(self, states):
        return self.values[states[:, 0].long()]


@pytest.mark.parametrize(("double", "worth"), [(True, 3.0), (False, 9.0)])
def test_an_update_moves_towards_what_is_wanted(double, worth):
    policy = Table([[1.0, 2.0], [8.0, 5.0]])
    target = Table([[0.0, 0.0], [3.0, 9.0]])  # the policy would take action 0 in state 1, where the target says 3
    optimiser = torch.optim.SGD(policy.parameters(), lr=0.5)
    batch = (
        torch.tensor([[0.0], [0.0]]),
        torch.tensor([0, 1]),
        torch.tensor([1.0, 5.0]),
        torch.tensor([[1.0], [1.0]]),
        torch.tensor([False, True]),
    )
    settings = dqn.Settings(discount=0.5, double=double, clip=0.0)
    loss = dqn.update(policy, target, optimiser, batch, settings)
    wanted = [1.0 + 0.5 * worth, 5.0]
    assert loss == pytest.approx(((1.0 - wanted[0]) ** 2 + (2.0 - wanted[1]) ** 2) / 2)
    moved = [1.0 - 0.5 * (1.0 - wanted[0]), 2.0 - 0.5 * (2.0 - wanted[1])]
    assert policy.values.tolist() == [pytest.approx(moved), [8.0, 5.0]]
    clipped = Table([[1.0, 2.0], [8.0, 5.0]])
    optimiser = torch.optim.SGD(clipped.parameters(), lr=0.5)
    dqn.update(clipped, target, optimiser, batch, dqn.Settings(discount=0.5, double=double, clip=0.25))
    assert clipped.values.tolist()[0] == pytest.approx([1.125, 2.125])


def test_the_share_of_random_actions_falls():
    exponential = dqn.Settings(epsilon_steps=2994)
    assert dqn.epsilon(exponential, 0) == 1.0
    assert dqn.epsilon(exponential, 1000) == pytest.approx(0.999**1000, rel=2e-3)
    assert dqn.epsilon(exponential, 10_000) == pytest.approx(0.05)
    linear = dqn.Settings(epsilon_schedule="linear", epsilon_steps=1000, epsilon_end=0.1)
    assert [dqn.epsilon(linear, steps) for steps in (0, 500, 1000, 5000)] == pytest.approx([1.0, 0.55, 0.1, 0.1])


def test_a_dqn_learns_to_balance(tmp_path):
    summary = dqn.train(dqn.Settings(output=tmp_path / "run", seed=1, episodes=110, average_over=20, max_steps=200))
    assert summary["best_average"] > 80, "chance gives 22"
    policy = load_policy(tmp_path / "run" / "best.pt")
    assert run_episodes("CartPole-v1", policy.actions, 20, 0).returns.mean() > 100


def test_a_dsqn_learns_to_balance(tmp_path):
    summary = dsqn.train(dsqn.Settings(output=tmp_path / "run", seed=1, episodes=90, average_over=20, max_steps=200))
    assert summary["best_average"] > 80, "chance gives 22"
    network = load(tmp_path / "run" / "best.spk")
    assert network.encoder.constant_one
    assert network.steps == 20
    assert not any(layer.bias.any() for layer in network.layers)
    played = run_episodes("CartPole-v1", lambda states: actions(network, states), 20, 0)
    assert played.returns.mean() > 100


def test_a_dqn_learns_from_a_shaped_reward(tmp_path):
    seen = []

    def shaping(reward, observation):
        seen.append(observation)
        return 10.0 * reward

    settings = dqn.Settings(output=tmp_path / "run", episodes=3, batch_size=4, max_steps=20)
    summary = dqn.train(settings, shaping=shaping)
    assert len(seen) == summary["steps"]
    assert seen[0].shape == (4,)


def test_the_target_network_follows_by_episodes_or_by_steps(tmp_path, monkeypatch):
    for unit, every, expected in (("episodes", 2, 2), ("steps", 10, None)):
        copies = []
        load_state_dict = torch.nn.Sequential.load_state_dict
        monkeypatch.setattr(
            torch.nn.Sequential,
            "load_state_dict",
            lambda self, state, load=load_state_dict, copies=copies: copies.append(1) or load(self, state),
        )
        settings = dqn.Settings(output=tmp_path / unit, episodes=5, target_unit=unit, target_every=every)
        summary = dqn.train(settings)
        monkeypatch.undo()
        assert len(copies) == (expected or summary["steps"] // 10)


def test_the_convolutional_network_learns_from_images(tmp_path):
    pytest.importorskip("ale_py", reason="Breakout needs ale-py")
    pytest.importorskip("cv2", reason="Breakout needs OpenCV")
    env = "spikeloop/BreakoutMnih-v0"
    preset = dict(dqn.PRESETS[env]) | {"memory_size": 300, "initial_memory": 40, "episodes": 2, "max_steps": 60}
    summary = dqn.train(dqn.Settings(env=env, output=tmp_path / "run", **preset))
    policy = load_policy(tmp_path / "run" / "last.pt")
    assert policy.n_inputs == 4 * 84 * 84
    with np.load(tmp_path / "run" / "replay.npz") as replay:
        assert replay["observations"].dtype == np.uint8
        assert len(replay["observations"]) == summary["steps"]
        assert policy.values(replay["observations"][:3].astype(float)).shape == (3, 4)
    losses = [line.split(",")[5] for line in (tmp_path / "run" / "metrics.csv").read_text().splitlines()[1:]]
    assert any(losses)


def test_a_scaled_spiking_policy_is_exported_for_raw_observations():
    settings = dsqn.Settings(input_scale=0.25, hidden=(6,), steps=8, biases=True)
    module = SpikingPolicy(settings, 3, 2).double()
    with torch.no_grad():
        for bias in module.stack.biases:
            bias += 0.1
    observations = np.random.default_rng(1).normal(0.0, 4.0, (50, 3))
    from spikeloop.training.evaluation import outputs

    expected = module.forward(torch.from_numpy(observations).double()).detach().numpy()
    np.testing.assert_allclose(outputs(module.to_network(), observations), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"episodes": 0}, "episodes is 0"),
        ({"discount": 1.5}, "discount is 1.5; it must be from 0 to 1"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"epsilon_end": 0.0}, "epsilon_end is 0"),
        ({"memory_size": 100}, "memory_size is 100; it must hold a batch"),
        ({"initial_memory": 10**6}, "the initial memory"),
        ({"shaping": "x"}, "Reward shaping 'x'"),
        ({"hidden": (4, 0)}, "every layer needs"),
        ({"hidden": 16}, "hidden is 16; it should be a valid tuple"),
        ({"loss": "MSE"}, "loss is 'MSE'; it should be 'mse' or 'huber'"),
        ({"episodes": "3"}, "episodes is '3'; it should be a valid integer"),
        ({"target_average": float("nan")}, "target_average is nan; it must be a finite number"),
        ({"seed": -1}, "seed is -1"),
        ({"network": "mnih", "hidden": (5,)}, "hidden is .*; it has no effect on the network 'mnih'"),
    ],
)
def test_settings_that_cannot_be(change, message):
    with pytest.raises(InvalidInputError, match=message):
        dqn.Settings(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"threshold": -1.0}, "threshold is -1"),
        ({"surrogate_scale": 0.0}, "surrogate_scale"),
    ],
)
def test_spiking_settings_that_cannot_be(change, message):
    with pytest.raises(InvalidInputError, match=message):
        dsqn.Settings(**change)


def test_environments_that_cannot_be(tmp_path):
    with pytest.raises(EnvironmentMismatchError, match="needs a Discrete one"):
        dqn.main(["--env", "Pendulum-v1", "-o", str(tmp_path / "a")])
    with pytest.raises(InvalidInputError, match="'mnih' reads images of 4 x 84 x 84; CartPole-v1 observes 4 values"):
        dqn.main(["--network", "mnih", "-o", str(tmp_path / "b")])
    assert not list(tmp_path.iterdir()), "nothing is left behind"

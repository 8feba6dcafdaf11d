"""Gymnasium environments: what fits, what is refused, and what fails on the way."""

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from spikeloop.bridges.environments import GymnasiumEnvironment
from spikeloop.errors import EnvironmentMismatchError, TargetError


class Scripted(gymnasium.Env):
    """Two values, three actions that begin at `start`; does what the test asks for."""

    def __init__(self, start=1, breaks_in="", answer=None, shape=(2,)):
        if breaks_in == "make":
            raise RuntimeError("no display")
        self.action_space = Discrete(3, start=start)
        self.observation_space = Box(-10.0, 10.0, shape, np.float32)
        self.breaks_in, self.answer, self.actions, self.closed = breaks_in, answer, [], False

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if self.breaks_in == "reset":
            raise RuntimeError("no road")
        return np.full(self.observation_space.shape, float(seed or 0), np.float32), {"seed": seed}

    def step(self, action):
        self.actions.append(action)
        if self.breaks_in == "step":
            raise ZeroDivisionError("the pole fell\nfar")
        if self.answer is not None:
            return self.answer
        return np.ones(self.observation_space.shape, np.float32), 0.5, len(self.actions) == 2, np.True_, {}

    def close(self):
        self.closed = True


@pytest.fixture(autouse=True)
def _registered():
    # Without Gymnasium's own checker, which would find these environments' faults before we do.
    gymnasium.register("Scripted-v0", entry_point=Scripted, disable_env_checker=True, order_enforce=False)
    yield
    del gymnasium.registry["Scripted-v0"]


def scripted(**options):
    return GymnasiumEnvironment("Scripted-v0", n_inputs=2, n_actions=3, **options)


def test_cartpole_fits_and_answers_like_gymnasium():
    plain = gymnasium.make("CartPole-v1")
    with GymnasiumEnvironment("CartPole-v1", n_inputs=4, n_actions=2) as environment:
        observation, _ = environment.reset(seed=7)
        expected, _ = plain.reset(seed=7)
        assert observation.dtype == np.float64
        np.testing.assert_array_equal(observation, expected)
        for action in (0, 1, 1, 0):
            ours, theirs = environment.step(action), plain.step(action)
            np.testing.assert_array_equal(ours[0], theirs[0])
            assert ours[1:4] == theirs[1:4]
            assert [type(value) for value in ours[1:4]] == [float, bool, bool]
    plain.close()


@pytest.mark.parametrize("start", [0, 1, -2])
def test_actions_are_counted_from_the_environments_first(start):
    environment = scripted(start=start)
    environment.reset()
    for action in range(3):
        environment.step(action)
    assert environment._env.unwrapped.actions == [start, start + 1, start + 2]


def test_terminated_and_truncated_are_told_apart():
    environment = scripted()
    environment.reset(seed=3)
    assert environment.step(0)[1:4] == (0.5, False, True)
    assert environment.step(0)[1:4] == (0.5, True, True)


def test_observations_of_any_shape_are_flattened():
    with scripted(shape=(1, 2)) as environment:
        np.testing.assert_array_equal(environment.reset(seed=3)[0], [3.0, 3.0])
        assert environment.step(0)[0].shape == (2,)


def test_a_with_block_closes_the_environment():
    with scripted() as environment:
        inner = environment._env.unwrapped
        assert not inner.closed
    assert inner.closed


@pytest.mark.parametrize(
    ("name", "n_inputs", "n_actions", "message"),
    [
        ("Pendulum-v1", 3, 2, r"'Pendulum-v1' has the action space Box\(-2.*needs a Discrete one"),
        ("MountainCarContinuous-v0", 2, 1, "needs a Discrete one"),
        ("Acrobot-v1", 4, 2, "'Acrobot-v1' has 3 actions, the network decides between 2"),
        ("MountainCar-v0", 4, 3, r"'MountainCar-v0' observes 2 values \(shape \(2,\)\), the network reads 4"),
        ("Blackjack-v1", 3, 2, r"observation space Tuple\(.*a Box of numbers is needed: wrap it"),
        ("FrozenLake-v1", 1, 4, r"observation space Discrete\(16\)"),
        ("CartPool-v1", 4, 2, "cannot make environment 'CartPool-v1': .*Did you mean: `CartPole`"),
        ("CartPole-v99", 4, 2, "version `v99`"),
        ("nosuchmodule:CartPole-v1", 4, 2, "No module named 'nosuchmodule'"),
        ("not an id", 4, 2, "Malformed environment ID"),
        ("", 4, 2, "Malformed environment ID"),
        ("GymV26Environment-v0", 4, 2, "cannot make environment .*pip install"),
    ],
)
def test_environments_that_do_not_fit_are_refused(name, n_inputs, n_actions, message):
    with pytest.raises(EnvironmentMismatchError, match=message) as caught:
        GymnasiumEnvironment(name, n_inputs=n_inputs, n_actions=n_actions)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_observations_that_a_network_cannot_read_are_shown():
    environment = scripted(answer=([0.5, np.nan], 1.0, False, False, {}))
    with pytest.raises(TargetError, match=r"it observes \[0.5 nan\]; 2 finite values are needed"):
        environment.step(0)


def test_an_environment_that_is_refused_is_closed(monkeypatch):
    closed = []
    monkeypatch.setattr(Scripted, "close", lambda self: closed.append(self))
    with pytest.raises(EnvironmentMismatchError, match="has 3 actions"):
        GymnasiumEnvironment("Scripted-v0", n_inputs=2, n_actions=4)
    assert len(closed) == 1


def test_an_environment_that_cannot_be_made_says_why():
    with pytest.raises(EnvironmentMismatchError, match="cannot make environment 'Scripted-v0': no display"):
        scripted(breaks_in="make")


@pytest.mark.parametrize(
    ("verb", "arguments", "message"),
    [
        ("reset", (), r"failed in reset\(\): RuntimeError: no road"),
        ("step", (0,), r"failed in step\(\): ZeroDivisionError"),
    ],
)
def test_an_environment_that_fails_is_named(verb, arguments, message):
    environment = scripted(breaks_in=verb)
    with pytest.raises(TargetError, match=f"Environment 'Scripted-v0' {message}") as caught:
        getattr(environment, verb)(*arguments)
    assert caught.value.exit_code == 1
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    "answer",
    [
        (np.zeros(2), 1.0, True),
        (np.zeros(2), None, False, False, {}),
        (np.zeros(2), "much", False, False, {}),
        ({"position": 1.0}, 1.0, False, False, {}),
        (["a", "b"], 1.0, False, False, {}),
        (np.zeros(3), 1.0, False, False, {}),
        ([0.0, np.nan], 1.0, False, False, {}),
        ([0.0, np.inf], 1.0, False, False, {}),
        5,
    ],
)
def test_an_answer_that_is_no_step_is_a_failure_of_the_environment(answer):
    environment = scripted(answer=answer)
    environment.reset()
    with pytest.raises(TargetError, match=r"failed in step\(\)"):
        environment.step(0)

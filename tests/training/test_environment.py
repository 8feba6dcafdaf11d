"""The environment as training sees it."""

import gymnasium
import numpy as np
import pytest
from spikeloop.errors import EnvironmentMismatchError, InvalidInputError
from spikeloop.training.environment import TrainingEnvironment, mountain_car, shaping_of


def test_limits_seeds_and_types():
    with TrainingEnvironment("CartPole-v1", max_steps=7) as environment:
        first = environment.reset(5)
        assert first.dtype == np.float32
        assert np.array_equal(first, gymnasium.make("CartPole-v1").reset(seed=5)[0])
        steps = [environment.step(i % 2) for i in range(7)]
        assert [step.truncated for step in steps] == [False] * 6 + [True]
        assert not any(step.terminated for step in steps)
        assert np.array_equal(environment.reset(5), first), "an episode is told by its seed alone"


def test_an_action_is_held_and_its_rewards_add_up():
    with (
        TrainingEnvironment("MountainCar-v0", frame_skip=4, shaping=mountain_car) as skipping,
        TrainingEnvironment("MountainCar-v0", shaping=mountain_car) as plain,
    ):
        assert np.array_equal(skipping.reset(1), plain.reset(1))
        one, others = skipping.step(2), [plain.step(2) for _ in range(4)]
        assert np.array_equal(one.observation, others[-1].observation)
        assert one.reward == sum(other.reward for other in others) == -4.0
        assert one.shaped == pytest.approx(sum(other.shaped for other in others))
        assert one.shaped > -4.0


def test_the_limit_counts_decisions():
    options = {"max_steps": 5, "frame_skip": 3, "no_op_max": 200}
    with TrainingEnvironment("MountainCar-v0", **options) as environment:
        for seed in range(5):
            environment.reset(seed)
            assert [environment.step(1).truncated for _ in range(5)] == [False] * 4 + [True]


def test_no_op_starts_differ_by_seed_alone():
    with TrainingEnvironment("MountainCar-v0", no_op_max=30) as environment:
        starts = [tuple(environment.reset(seed)) for seed in (1, 2, 3, 1)]
    untouched = [tuple(gymnasium.make("MountainCar-v0").reset(seed=seed)[0]) for seed in (1, 2, 3)]
    assert starts[0] == starts[3]
    assert starts[:3] != untouched


@pytest.mark.parametrize(("x", "reward"), [(-0.5, -1.0), (-0.2, -0.7), (-1.1, -0.4), (0.5, -0.1)])
def test_the_mountain_cars_reward(x, reward):
    assert mountain_car(-1.0, np.array([x, 0.0])) == pytest.approx(reward)


def test_shapings_by_name():
    assert shaping_of("sign")(7.0, np.zeros(1)) == 1.0
    assert shaping_of("none")(7.0, np.zeros(1)) == 7.0
    with pytest.raises(InvalidInputError, match="'twice' was given; known are none, mountain-car, sign"):
        shaping_of("twice")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Pendulum-v1", "needs a Discrete one"),
        ("FrozenLake-v1", "a Box of numbers is needed"),
        ("No-v0", "cannot make"),
    ],
)
def test_environments_that_cannot_be(name, message):
    with pytest.raises(EnvironmentMismatchError, match=message):
        TrainingEnvironment(name)

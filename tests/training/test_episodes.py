"""Episodes side by side: the same as one by one, whatever is drawn at random."""

import gymnasium
import numpy as np
import pytest
from spikeloop.errors import EnvironmentMismatchError, InvalidInputError
from spikeloop.training.episodes import Moment, play, run_episodes
from spikeloop.training.perturbation import Perturbation


def upright(observations):
    return (observations[:, 2] > 0).astype(np.int64)


def noisy(**options):
    """CartPole under noise, with exploration and another agent that looks on."""
    return play(
        "CartPole-v1",
        lambda moment: upright(moment.observations),
        7,
        40,
        observe=Perturbation(0.05),
        epsilon=0.1,
        other=lambda moment: np.zeros(len(moment.observations), dtype=np.int64),
        **options,
    )


@pytest.mark.parametrize("side_by_side", [1, 3])
def test_an_episode_is_the_same_whatever_is_beside_it(side_by_side):
    together, apart = noisy(), noisy(side_by_side=side_by_side)
    assert together.returns.tolist() == apart.returns.tolist() == together.lengths.tolist()
    assert (together.agreed, together.distinct) == (apart.agreed, apart.distinct)
    order, other = (np.argsort(ran.episode, kind="stable") for ran in (together, apart))
    np.testing.assert_array_equal(together.observations[order], apart.observations[other])
    np.testing.assert_array_equal(together.actions[order], apart.actions[other])
    np.testing.assert_array_equal(together.episode[order], np.repeat(np.arange(7), together.lengths))


def test_states_and_actions_are_those_of_the_agent():
    ran = noisy()
    np.testing.assert_array_equal(ran.actions, upright(ran.observations))
    assert ran.agreed == np.count_nonzero(ran.actions == 0)
    assert 0 < ran.agreed < len(ran.actions)


def test_exploration_draws_its_share_of_actions():
    still = play("CartPole-v1", lambda moment: np.zeros(len(moment.seeds), dtype=np.int64), 50, 0)
    drawn = play("CartPole-v1", lambda moment: np.zeros(len(moment.seeds), dtype=np.int64), 50, 0, epsilon=1.0)
    assert still.returns.max() < 12
    assert 17 < drawn.returns.mean() < 28  # as long as chance keeps the pole up: 22.2 in 1000 episodes of Gymnasium's


def test_episodes_that_repeat_are_counted_once():
    gymnasium.register("Still-v0", entry_point=Still, disable_env_checker=True)
    try:
        ran = play("Still-v0", lambda moment: np.ones(len(moment.seeds), dtype=np.int64), 6, 0)
        assert (ran.distinct, len(ran.returns)) == (1, 6)
        ran = play("Still-v0", lambda moment: moment.seeds % 2, 6, 0)
        assert ran.distinct == 2
        assert ran.observations.dtype == np.float64
        assert play("Still-v0", lambda m: m.seeds % 2, 2, 0, keep=np.uint8).observations.dtype == np.uint8
    finally:
        del gymnasium.registry["Still-v0"]


class Still(gymnasium.Env):
    """The same three images in every episode."""

    action_space = gymnasium.spaces.Discrete(2)
    observation_space = gymnasium.spaces.Box(0, 255, (2, 2), np.uint8)

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return np.full((2, 2), 7, np.uint8), {}

    def step(self, action):
        self.steps += 1
        return np.full((2, 2), self.steps, np.uint8), 1.0, self.steps == 3, False, {}


def test_episodes_can_be_cut_off():
    ran = run_episodes("CartPole-v1", upright, 3, 0, max_steps=5)
    assert ran.lengths.tolist() == [5, 5, 5]
    assert ran.observations.shape == (15, 4)


def test_nothing_is_kept_that_is_not_asked_for():
    assert run_episodes("CartPole-v1", upright, 2, 0, keep=None).observations.shape == (0, 4)


def test_progress_counts_finished_episodes():
    told = []
    ran = run_episodes("CartPole-v1", upright, 5, 0, side_by_side=2, on_progress=lambda *done: told.append(done))
    assert told[-1] == (5, ran.lengths.sum())
    assert told == sorted(told)
    assert told[0] == (0, 2)


def test_random_numbers_depend_on_seed_step_and_purpose():
    moment = Moment(np.zeros((4, 1)), np.array([1, 1, 2, 1]), np.array([0, 1, 0, 0]))
    draws = [generator.random() for generator in moment.generators(1)]
    assert draws[0] == draws[3]
    assert len({*draws, moment.generators(2)[0].random()}) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [({"epsilon": 1.5}, "epsilon is 1.5"), ({"epsilon": np.nan}, "epsilon is nan"), ({"max_steps": 0}, "max_steps 0")],
)
def test_bad_options(options, message):
    with pytest.raises(InvalidInputError, match=message):
        run_episodes("CartPole-v1", upright, 1, 0, **options)


def test_no_episodes():
    with pytest.raises(InvalidInputError, match="episodes is 0"):
        run_episodes("CartPole-v1", upright, 0, 0)


def test_an_environment_with_continuous_actions_is_refused():
    with pytest.raises(EnvironmentMismatchError, match="needs a Discrete one"):
        run_episodes("Pendulum-v1", upright, 1, 0)

"""Episodes of many environments side by side, each with its own seed. Needs no torch."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..bridges.environments import GymnasiumEnvironment
from ..errors import InvalidInputError
from ..models.stimulus import FloatArray

# Actions [n] for observations [n, n_inputs].
Policy = Callable[[FloatArray], NDArray[np.int64]]

# An observation of more values is an image, whose environment takes megabytes.
IMAGE = 1000
IMAGES_SIDE_BY_SIDE = 16

# What a random number is for; the streams of one episode are independent of each other.
EXPLORATION, NOISE, CHANCE = range(1, 4)


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """What is to be decided on: an observation of each of `n` episodes.

    Attributes
    ----------
    observations : float64 [n, n_inputs]
    seeds : int64 [n]
        What each one's episode was reset with.
    steps : int64 [n]
        Decisions taken before in that episode.
    """

    observations: FloatArray
    seeds: NDArray[np.int64]
    steps: NDArray[np.int64]

    def generators(self, stream: int) -> list[np.random.Generator]:
        """A source of random numbers for each observation, told by seed, step and `stream` alone."""
        return [
            np.random.Generator(np.random.Philox(key=(int(seed), stream << 48 | int(step))))
            for seed, step in zip(self.seeds, self.steps, strict=True)
        ]


# Actions [n] at a moment; and what is observed there, float64 [n, n_inputs].
Decide = Callable[[Moment], NDArray[np.int64]]
Observe = Callable[[Moment], FloatArray]


@dataclass(frozen=True, slots=True, eq=False)
class Episodes:
    """What happened in some episodes.

    Attributes
    ----------
    returns : float64 [episodes]
    observations : [states, n_inputs]
        Every state in which an action was chosen, as the agent observed it; float64 unless asked for otherwise.
    lengths : int64 [episodes]
        Decisions in each.
    actions : int64 [states]
        What the agent chose there.
    episode : int64 [states]
        The episode of each state.
    distinct : int
        How many different ones there were among them; a repeated one is no evidence of its own.
    agreed : int
        In how many states the other agent, if there was one, chose the same.
    """

    returns: FloatArray
    observations: NDArray[Any]
    lengths: NDArray[np.int64]
    actions: NDArray[np.int64]
    episode: NDArray[np.int64]
    distinct: int
    agreed: int = 0


def run_episodes(env_id: str, policy: Policy, episodes: int, first_seed: int, **options: Any) -> Episodes:
    """Run episodes of a policy that looks at nothing but the observation; `options` are those of `play`."""
    return play(env_id, lambda moment: policy(moment.observations), episodes, first_seed, **options)


def play(
    env_id: str,
    decide: Decide,
    episodes: int,
    first_seed: int,
    *,
    observe: Observe | None = None,
    other: Decide | None = None,
    epsilon: float = 0.0,
    max_steps: int | None = None,
    side_by_side: int | None = None,
    keep: DTypeLike | None = np.float64,
    on_progress: Callable[[int, int], object] | None = None,
) -> Episodes:
    """Run episodes side by side; episode ``i`` is reset with the seed ``first_seed + i``.

    Every random number depends on the episode's seed and the step alone, so an episode is the same whatever others
    are beside it.

    Parameters
    ----------
    env_id : str
        As `spikeloop.bridges.environments.make` takes it.
    decide : Decide
    episodes, first_seed : int
    observe : Observe, optional
        What the agent observes in place of the environment's observation, such as a `Perturbation`.
    other : Decide, optional
        Another agent that says what it would do, and is not obeyed.
    epsilon : float in [0, 1]
        The share of actions that are drawn at random in place of the agent's.
    max_steps : int, optional
        Ends an episode after so many steps.
    side_by_side : int, optional
        How many at a time: all, and 16 of images, unless given.
    keep : dtype, optional
        Of the observations in the result; with None there are none in it.
    on_progress : callable, optional
        Called after each step with the numbers of episodes finished and of decisions taken.

    Raises
    ------
    InvalidInputError
        If a number is out of its range.
    EnvironmentMismatchError, MissingPackageError, TargetError
        As `GymnasiumEnvironment` raises them.
    """
    if episodes < 1 or (max_steps is not None and max_steps < 1):
        raise InvalidInputError(f"episodes is {episodes} and max_steps {max_steps}; both must be 1 or more.")
    if not 0.0 <= epsilon <= 1.0:
        raise InvalidInputError(f"epsilon is {epsilon:g}; it must be from 0 to 1.")
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(GymnasiumEnvironment(env_id))
        n_inputs, n_actions = first.spaces.n_inputs, first.spaces.n_actions
        n = min(episodes, side_by_side or (IMAGES_SIDE_BY_SIDE if n_inputs > IMAGE else episodes))
        environments = [first, *(stack.enter_context(GymnasiumEnvironment(env_id)) for _ in range(n - 1))]

        observations = np.array([env.reset(seed=first_seed + i)[0] for i, env in enumerate(environments)])
        episode, step = np.arange(n), np.zeros(n, dtype=np.int64)
        returns, lengths = np.zeros(episodes), np.zeros(episodes, dtype=np.int64)
        digests = [0] * episodes
        running, begun, decisions, agreed = np.arange(n), n, 0, 0
        seen: list[NDArray[Any]] = []
        chosen: list[NDArray[np.int64]] = []
        where: list[NDArray[np.int64]] = []
        while running.size:
            moment = Moment(observations[running], first_seed + episode[running], step[running])
            if observe is not None:
                moment = Moment(observe(moment), moment.seeds, moment.steps)
            actions = decide(moment)
            decisions += running.size
            if other is not None:
                agreed += int(np.count_nonzero(other(moment) == actions))
            if keep is not None:
                seen.append(moment.observations.astype(keep, copy=False))
            chosen.append(actions)
            where.append(episode[running])
            over = np.zeros(running.size, dtype=bool)
            for k, (i, action) in enumerate(zip(running, _explored(actions, moment, epsilon, n_actions), strict=True)):
                shown = zlib.crc32(observations[i], digests[episode[i]])
                digests[episode[i]] = zlib.crc32(int(action).to_bytes(8), shown)
                observations[i], reward, terminated, truncated, _ = environments[i].step(int(action))
                returns[episode[i]] += reward
                step[i] += 1
                if terminated or truncated or step[i] == max_steps:
                    lengths[episode[i]] = step[i]
                    over[k] = begun == episodes
                    if begun < episodes:
                        observations[i], _ = environments[i].reset(seed=first_seed + begun)
                        episode[i], step[i] = begun, 0
                        begun += 1
            running = running[~over]
            if on_progress is not None:
                on_progress(begun - running.size, decisions)
    states = np.concatenate(seen) if seen else np.empty((0, n_inputs))
    return Episodes(returns, states, lengths, np.concatenate(chosen), np.concatenate(where), len(set(digests)), agreed)


def _explored(
    actions: NDArray[np.int64], moment: Moment, epsilon: float, n_actions: int
) -> NDArray[np.int64] | list[int]:
    if epsilon == 0.0:
        return actions
    return [
        int(generator.integers(n_actions)) if generator.random() < epsilon else int(action)
        for action, generator in zip(actions, moment.generators(EXPLORATION), strict=True)
    ]

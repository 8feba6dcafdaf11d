"""The environment as training sees it: limits, repeated actions, no-op starts and shaped rewards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bridges.environments import make, spaces
from ..errors import InvalidInputError, TargetError

# From (reward, next observation [n_inputs]) to the reward that is learnt from.
Shaping = Callable[[float, NDArray[Any]], float]


def mountain_car(reward: float, observation: NDArray[Any]) -> float:
    """A smaller loss away from the valley's bottom: ``min(r + |x + 0.5|, -0.1)`` (the thesis, eq. 4.1)."""
    return min(reward + abs(float(observation[0]) + 0.5), -0.1)


SHAPINGS: Mapping[str, Shaping] = {
    "none": lambda reward, observation: reward,
    "mountain-car": mountain_car,
    "sign": lambda reward, observation: float(np.sign(reward)),
}


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What an action led to.

    Attributes
    ----------
    observation : array [n_inputs], of the environment's own type
    reward : float
        The environment's.
    shaped : float
        What is learnt from.
    terminated, truncated : bool
        Whether the episode ended by itself, or was cut off.
    """

    observation: NDArray[Any]
    reward: float
    shaped: float
    terminated: bool
    truncated: bool


class TrainingEnvironment:
    """An environment with flat observations and actions from 0; a context manager.

    Parameters
    ----------
    name : str
        As Gymnasium knows it.
    max_steps : int, optional
        Length of an episode, where it is not to be the environment's own.
    frame_skip : int
        How many steps of the environment an action is held.
    no_op_max : int
        An episode begins with up to so many actions 0, drawn at random.
    shaping : callable
        See `Shaping`; `SHAPINGS` has some by name.

    Raises
    ------
    EnvironmentMismatchError
        If there is no such environment, or it has no discrete actions or array observations.
    """

    def __init__(
        self,
        name: str,
        *,
        max_steps: int | None = None,
        frame_skip: int = 1,
        no_op_max: int = 0,
        shaping: Shaping = SHAPINGS["none"],
    ) -> None:
        self.name = name
        # The limit is one of decisions, which are counted here; the environment's own must not come first.
        options = {} if max_steps is None else {"max_episode_steps": max_steps * frame_skip + no_op_max + 1}
        self._env = make(name, **options)
        self.spaces = spaces(name, self._env)
        self.kind: Any = self._env.observation_space.dtype
        if self.kind not in (np.uint8, np.float32):
            self.kind = np.dtype(np.float32)
        self._max_steps, self._steps = max_steps, 0
        self._frame_skip, self._no_op_max, self._shaping = frame_skip, no_op_max, shaping

    def reset(self, seed: int) -> NDArray[Any]:
        """Begin the episode that `seed` stands for; returns its first observation [n_inputs]."""
        observation, _ = self._env.reset(seed=seed)
        self._steps = 0
        if self._no_op_max:
            for _ in range(np.random.default_rng(seed).integers(self._no_op_max + 1)):
                observation, _, terminated, truncated, _ = self._env.step(self.spaces.first_action)
                if terminated or truncated:
                    observation, _ = self._env.reset()
        return self._flat(observation)

    def step(self, action: int) -> Step:
        """Hold an action for `frame_skip` steps."""
        total = shaped = 0.0
        for _ in range(self._frame_skip):
            observation, reward, terminated, truncated, _ = self._env.step(self.spaces.first_action + action)
            flat = self._flat(observation)
            total += float(reward)
            shaped += self._shaping(float(reward), flat)
            if terminated or truncated:
                break
        self._steps += 1
        return Step(flat, total, shaped, bool(terminated), bool(truncated or self._steps == self._max_steps))

    def _flat(self, observation: Any) -> NDArray[Any]:
        flat = np.asarray(observation, dtype=self.kind).ravel()
        if flat.size != self.spaces.n_inputs:
            raise TargetError(f"Environment '{self.name}' observes {flat.size} values, not {self.spaces.n_inputs}.")
        return flat.copy()

    def __enter__(self) -> TrainingEnvironment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._env.close()


def shaping_of(name: str) -> Shaping:
    """The reward shaping called `name`."""
    if name not in SHAPINGS:
        raise InvalidInputError(f"Reward shaping '{name}' was given; known are {', '.join(SHAPINGS)}.")
    return SHAPINGS[name]

"""Gymnasium environments, checked against the network that is to act in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

from ..errors import EnvironmentMismatchError, SpikeloopError, TargetError
from ..models.network import Network
from ..models.stimulus import FloatArray


class GymnasiumEnvironment:
    """A Gymnasium environment with a flat observation and actions from 0; a context manager.

    Parameters
    ----------
    name : str
        As `make` takes it.
    n_inputs, n_actions : int, optional
        What the network reads and decides between; any number where it is not given.

    Attributes
    ----------
    spaces : Spaces

    Raises
    ------
    EnvironmentMismatchError
        If there is no such environment, its actions are not discrete, or a shape does not fit.
    TargetError
        By `reset` and `step`, if the environment fails.
    """

    def __init__(self, name: str, *, n_inputs: int | None = None, n_actions: int | None = None, **options: Any) -> None:
        self.name = name
        self._env = make(name, **options)
        try:
            self.spaces = spaces(name, self._env)
            check_fits(name, self.spaces, n_inputs, n_actions)
        except BaseException:
            self._env.close()
            raise
        self._n_inputs = self.spaces.n_inputs
        self._first_action = self.spaces.first_action

    def reset(self, *, seed: int | None = None) -> tuple[FloatArray, dict[str, Any]]:
        """Begin an episode."""
        with self._translated("reset"):
            observation, info = self._env.reset(seed=seed)
            return self._flat(observation), info

    def step(self, action: int) -> tuple[FloatArray, float, bool, bool, dict[str, Any]]:
        """Act; returns observation, reward, terminated, truncated, info."""
        with self._translated("step"):
            observation, reward, terminated, truncated, info = self._env.step(self._first_action + action)
            return self._flat(observation), float(reward), bool(terminated), bool(truncated), info

    def close(self) -> None:
        """Give back what the environment holds."""
        self._env.close()

    def _flat(self, observation: Any) -> FloatArray:
        values = np.asarray(observation, dtype=np.float64).ravel()
        if values.size != self._n_inputs or not np.isfinite(values).all():
            raise ValueError(f"it observes {values}; {self._n_inputs} finite values are needed")
        return values

    @contextmanager
    def _translated(self, verb: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # anyone's environment can raise anything
            raise TargetError(
                f"Environment '{self.name}' failed in {verb}(): {type(error).__name__}: {error}."
            ) from error

    def __enter__(self) -> GymnasiumEnvironment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def environment_for(name: str, network: Network) -> GymnasiumEnvironment:
    """The environment of that name, refused if the network does not fit."""
    return GymnasiumEnvironment(name, n_inputs=network.n_inputs, n_actions=network.n_outputs)


@dataclass(frozen=True, slots=True)
class Spaces:
    """What an environment observes and can do.

    Attributes
    ----------
    shape : tuple of int
        Of an observation.
    n_actions : int
    first_action : int
        The number by which the environment knows the first action.
    dtype : dtype
        Of an observation's values.
    """

    shape: tuple[int, ...]
    n_actions: int
    first_action: int
    dtype: np.dtype[Any]

    @property
    def n_inputs(self) -> int:
        """Values of an observation."""
        return int(np.prod(self.shape))


def make(name: str, **options: Any) -> Any:
    """The environment called `name`; `options` are those of ``gymnasium.make``.

    `name` is one of Gymnasium's, or of an installed package's; ``module:Name-v0`` imports the module first. Those that
    begin with ``spikeloop/`` are ours (see `atari`), and become known to Gymnasium here.

    Raises
    ------
    EnvironmentMismatchError
        If there is none, or it cannot be made.
    MissingPackageError
        If one of ours needs a package that is not installed.
    """
    import gymnasium

    if name.startswith("spikeloop/"):
        from . import atari

        atari.register()
    try:
        return gymnasium.make(name, **options)
    except SpikeloopError:
        raise
    except gymnasium.error.DependencyNotInstalled as error:
        raise EnvironmentMismatchError(f"Environment '{name}' needs a package that is missing: {error}") from None
    except Exception as error:  # Gymnasium's own, and whatever the environment's code raises
        text = " ".join(str(error).split()) or type(error).__name__
        raise EnvironmentMismatchError(f"Gymnasium cannot make environment '{name}': {text}") from error


def spaces(name: str, env: Any) -> Spaces:
    """What `env`, called `name`, observes and can do.

    Raises
    ------
    EnvironmentMismatchError
        If its actions are not discrete, or it observes anything but an array.
    """
    from gymnasium.spaces import Box, Discrete

    actions, observations = env.action_space, env.observation_space
    if not isinstance(actions, Discrete):
        raise EnvironmentMismatchError(
            f"Environment '{name}' has the action space {actions}; a spiking agent chooses one of several actions, so "
            "it needs a Discrete one: wrap the environment, or choose another."
        )
    if not isinstance(observations, Box):
        raise EnvironmentMismatchError(
            f"Environment '{name}' has the observation space {observations}; a Box of numbers is needed: wrap it."
        )
    return Spaces(observations.shape, int(actions.n), int(actions.start), np.dtype(observations.dtype))


def check_fits(name: str, found: Spaces, n_inputs: int | None, n_actions: int | None) -> None:
    """Refuse an environment that the network does not fit."""
    if n_actions is not None and found.n_actions != n_actions:
        raise EnvironmentMismatchError(
            f"Environment '{name}' has {found.n_actions} actions, the network decides between {n_actions}: "
            "use the environment it was trained for."
        )
    if n_inputs is not None and found.n_inputs != n_inputs:
        raise EnvironmentMismatchError(
            f"Environment '{name}' observes {found.n_inputs} values (shape {found.shape}), the network reads "
            f"{n_inputs}: use the environment it was trained for."
        )

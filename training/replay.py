"""Replay memory: the transitions that were seen last, to learn from in random order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InvalidInputError

MOST_BYTES = 16 << 30


class ReplayMemory:
    """A ring of transitions; states are kept in the type that the environment gives them.

    Parameters
    ----------
    capacity : int
        Transitions; the oldest give way.
    n_inputs : int
        Values of a state.
    kind : numpy.dtype
        Of a state's values, such as uint8 for pixels.
    """

    def __init__(self, capacity: int, n_inputs: int, kind: Any) -> None:
        needed = 2 * capacity * n_inputs * np.dtype(kind).itemsize
        if needed > MOST_BYTES:
            raise InvalidInputError(
                f"A replay memory of {capacity} transitions needs {needed / 2**30:.1f} GiB; at most "
                f"{MOST_BYTES >> 30} GiB are used: give a smaller --memory-size."
            )
        # Pages that nothing was written to yet take no memory.
        self._states = np.zeros((capacity, n_inputs), dtype=kind)
        self._next_states = np.zeros((capacity, n_inputs), dtype=kind)
        self._actions = np.zeros(capacity, dtype=np.int64)
        self._rewards = np.zeros(capacity, dtype=np.float32)
        self._ends = np.zeros(capacity, dtype=bool)
        self._pushed = 0

    def __len__(self) -> int:
        return min(self._pushed, len(self._states))

    def push(self, state: Any, action: int, reward: float, next_state: Any, end: bool) -> None:
        """Keep a transition; `end` says that nothing follows the next state, whose value is then 0."""
        at = self._pushed % len(self._states)
        self._states[at], self._next_states[at] = state, next_state
        self._actions[at], self._rewards[at], self._ends[at] = action, reward, end
        self._pushed += 1

    def sample(self, rng: np.random.Generator, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """States [size, n_inputs], actions, rewards, next states, ends: drawn evenly, with replacement."""
        chosen = rng.integers(len(self), size=size)
        return (
            torch.from_numpy(self._states[chosen]).float(),
            torch.from_numpy(self._actions[chosen]),
            torch.from_numpy(self._rewards[chosen]),
            torch.from_numpy(self._next_states[chosen]).float(),
            torch.from_numpy(self._ends[chosen]),
        )

    def latest(self, count: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """The states and actions of the latest `count` transitions, from old to new."""
        order = np.arange(max(self._pushed - min(count, len(self)), 0), self._pushed) % len(self._states)
        return self._states[order], self._actions[order]

    def state(self) -> dict[str, Any]:
        """All of it, as torch can save it."""
        arrays = {
            "states": self._states,
            "next_states": self._next_states,
            "actions": self._actions,
            "rewards": self._rewards,
            "ends": self._ends,
        }
        return {"pushed": self._pushed} | {name: torch.from_numpy(array[: len(self)]) for name, array in arrays.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        self._pushed = state["pushed"]
        for name, array in (
            ("states", self._states),
            ("next_states", self._next_states),
            ("actions", self._actions),
            ("rewards", self._rewards),
            ("ends", self._ends),
        ):
            array[: len(self)] = state[name].numpy()

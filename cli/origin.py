"""The network that a spiking one came from, as a decider: what ``--against FILE`` names."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InvalidInputError
from ..models.stimulus import finite
from ..runtime.agent import Decider
from ..runtime.decision import Decision, Timings

if TYPE_CHECKING:  # training is imported where it is used: it brings Gymnasium
    from ..training.players import Player


def open_origin(file: str, n_inputs: int, n_actions: int) -> tuple[str, Decider]:
    """Open a network file, a conventional network (.pt, .zip), or a training run's folder; on the reference.

    Parameters
    ----------
    file : str
    n_inputs, n_actions : int
        What the network that is compared with it reads, and decides between.

    Returns
    -------
    (str, Decider)
        Its name; and who decides as it does, on one observation [n_inputs] or a batch [n, n_inputs]. Only its actions
        are known: the outputs of its decisions are empty. To be closed by the caller.

    Raises
    ------
    InvalidInputError
        If it reads or decides something else.
    SpikeloopError
        As `open_player` raises them.
    """
    from ..training.players import open_player

    with contextlib.ExitStack() as stack:
        player = stack.enter_context(open_player(file, n_actions))
        shape = (player.n_inputs or n_inputs, player.n_actions or n_actions)
        if shape != (n_inputs, n_actions):
            raise InvalidInputError(
                f"{file} reads {shape[0]} values and decides between {shape[1]} actions, the agent reads {n_inputs} "
                f"and decides between {n_actions}: give the network that it came from."
            )
        return player.name, _Origin(player, n_inputs, stack.pop_all())
    raise AssertionError("an exit stack swallows nothing")


class _Origin:
    """A player as a decider; random encodings are those of an agent that is reset with the same seeds."""

    def __init__(self, player: Player, n_inputs: int, held: contextlib.ExitStack) -> None:
        self._player, self._n_inputs, self._held = player, n_inputs, held
        self._seed = self._decisions = 0

    def reset(self, *, seed: int | None = None) -> None:
        """Begin an episode."""
        self._decisions = 0
        if seed is not None:
            self._seed = seed

    def decide(self, observation: object, *, spikes: bool = False) -> Decision:
        """Decide on one observation [n_inputs], or on a batch [n, n_inputs]."""
        from ..training.episodes import Moment

        values = finite(observation, "observation")
        if values.ndim not in (1, 2) or values.shape[-1] != self._n_inputs:
            raise InvalidInputError(
                f"An observation of shape {values.shape} was given; '{self._player.name}' needs ({self._n_inputs},) or "
                f"[n, {self._n_inputs}]."
            )
        batch = np.atleast_2d(values)
        n = len(batch)
        moment = Moment(batch, np.full(n, self._seed), self._decisions + np.arange(n))
        self._decisions += n
        actions = self._player.decide(moment)
        if values.ndim == 1:
            return Decision(int(actions[0]), np.zeros(0), Timings())
        return Decision(actions, np.zeros((n, 0)), Timings())

    def close(self) -> None:
        """Give back what the player holds."""
        self._held.close()

"""Episodes of a check: an environment that is given back at the end, and deciders whose actions are noted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from ..agent import Decider
from ..decision import Decision
from ..loop import Environment


@contextmanager
def opened(make_environment: Callable[[], Environment]) -> Iterator[Environment]:
    """An environment for as long as a with block lasts; closed at its end, if it can be."""
    environment = make_environment()
    try:
        yield environment
    finally:
        close = getattr(environment, "close", None)  # the loop itself has no need of it
        if close is not None:
            close()


class Noted:
    """A decider whose actions are noted, episode by episode.

    Parameters
    ----------
    decider : Decider
        Stays open: whoever opened it closes it.
    onlooker : Decider, optional
        Decides on the same observations, and is only compared.
    keep : callable, optional
        Called with each observation that was decided on.

    Attributes
    ----------
    actions : list of list of int
        One list per episode.
    agreed : int
        Decisions that the onlooker took alike.
    """

    def __init__(
        self, decider: Decider, onlooker: Decider | None = None, keep: Callable[[object], None] | None = None
    ) -> None:
        self._decider, self._onlooker, self._keep = decider, onlooker, keep
        self.actions: list[list[int]] = []
        self.agreed = 0

    @property
    def decisions(self) -> int:
        """Decisions noted."""
        return sum(map(len, self.actions))

    def reset(self, *, seed: int | None = None) -> None:
        """Begin an episode."""
        self._decider.reset(seed=seed)
        if self._onlooker is not None:
            self._onlooker.reset(seed=seed)
        self.actions.append([])

    def decide(self, observation: object, *, spikes: bool = False) -> Decision:
        """Decide on one observation."""
        if self._keep is not None:
            self._keep(observation)
        decision = self._decider.decide(observation, spikes=spikes)
        self.actions[-1].append(int(decision.action))
        if self._onlooker is not None:
            self.agreed += int(np.squeeze(self._onlooker.decide(observation).action)) == int(decision.action)
        return decision

    def close(self) -> None:
        """Nothing to give back."""

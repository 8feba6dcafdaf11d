"""Paced runs: network time bound to wall time, and what to do when a decision comes too late."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class MissPolicy:
    """The action that stands in for a decision that missed its deadline.

    Parameters
    ----------
    safe_action : int, optional
        Always this action. Without one, the last action is held; before the first decision that is action 0.
    """

    safe_action: int | None = None

    @classmethod
    def parse(cls, text: str) -> MissPolicy:
        """``hold`` or ``safe:ACTION``."""
        if text == "hold":
            return cls()
        kind, _, action = text.partition(":")
        if kind == "safe" and action.isdecimal():
            return cls(int(action))
        raise InvalidInputError(f"A miss policy of '{text}' was given; it must be 'hold' or 'safe:ACTION'.")

    def action(self, last: int | None) -> int:
        """What to do in place of a decision, after the action `last` (None: there was none yet)."""
        if self.safe_action is not None:
            return self.safe_action
        return 0 if last is None else last

    def __str__(self) -> str:
        return "hold the last action" if self.safe_action is None else f"safe action {self.safe_action}"


@dataclass(frozen=True, slots=True)
class Pace:
    """A fixed period of control.

    Parameters
    ----------
    window_s : float
        Wall time of one decision on the target: its window_ms x scale.
    slack_s : float
        Time for everything else: the way to the network and back, and the environment itself.
    miss : MissPolicy
    """

    window_s: float
    slack_s: float = 0.005
    miss: MissPolicy = MissPolicy()

    @property
    def period_s(self) -> float:
        """From one action to the next."""
        return self.window_s + self.slack_s

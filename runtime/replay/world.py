"""The environment of a recorded episode, run again with the recorded actions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..loop import Environment
from ..trace import TracedDecision
from .report import ReplayedEnvironment


@dataclass(slots=True)
class _Count:
    total: int = 0
    equal: int = 0


class World:
    """An environment that is run again."""

    def __init__(self, environment: Environment, seed: int) -> None:
        self._environment = environment
        self._shown: Any = environment.reset(seed=seed)[0]
        self._over = False
        self._observations, self._answers = _Count(), _Count()
        self._first: int | None = None

    def next(self, recorded: TracedDecision) -> None:
        """Compare what is shown with what was, act as recorded, and compare the answer."""
        shown = not self._over and np.asarray(self._shown, dtype="<f8").tobytes() == recorded.observation.tobytes()
        self._count(self._observations, shown, recorded.step)
        if recorded.reward is None:  # the run ended before the answer came
            return
        answered = False
        if not self._over:
            # Not whether it was truncated: a run can have had another limit of steps.
            self._shown, reward, terminated, _, _ = self._environment.step(recorded.action)
            answered = (float(reward), bool(terminated)) == (recorded.reward, recorded.terminated)
            self._over = bool(terminated)
        self._count(self._answers, answered, recorded.step)

    def _count(self, count: _Count, equal: bool, step: int) -> None:
        count.total += 1
        count.equal += equal
        if not equal and self._first is None:
            self._first = step

    def found(self) -> ReplayedEnvironment:
        """What came of it."""
        name = str(getattr(self._environment, "name", type(self._environment).__name__))
        return ReplayedEnvironment(
            name=name,
            observations=self._observations.total,
            equal_observations=self._observations.equal,
            answers=self._answers.total,
            equal_answers=self._answers.equal,
            first_difference=self._first,
        )

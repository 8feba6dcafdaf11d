"""The closed loop: an environment and a decider, episode by episode.

In lock-step the environment waits for each decision, and the network for each observation. Paced, the environment
moves on at a fixed period whether the decision is there or not: a decision that is not there in time is *missed*, and
the miss policy's action takes its place. At most one decision is under way; an answer to an old observation is thrown
away when it comes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter, sleep
from typing import Any, Protocol

import numpy as np

from ..deploy.backend import Exchange
from .agent import Decider
from .decision import Decision, Divergence, Timings, first_divergence
from .pacing import Pace
from .trace import TraceWriter


class Environment(Protocol):
    """Gymnasium's API, as much of it as the loop needs."""

    def reset(self, *, seed: int | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act."""


class PacedDecider(Decider, Protocol):
    """A decider that can be asked now and answer later."""

    def submit(self, observation: object, *, spikes: bool = False) -> None:
        """Ask for a decision."""

    def poll(self, timeout_s: float) -> Decision | None:
        """The decision asked for, or None if it does not come in time."""

    @property
    def outstanding(self) -> bool:
        """Whether a decision has been asked for and not come yet."""


@dataclass(frozen=True, slots=True)
class EpisodeResult:
    """One finished episode. `agreed` counts the decisions that the reference took alike, of `compared`.

    `parted` counts those whose spikes were not the shadow's, where there is one.
    """

    episode: int
    seed: int
    total: float
    length: int
    outcome: str
    compared: int = 0
    agreed: int = 0
    missed: int = 0
    parted: int = 0


@dataclass(slots=True)
class RunResult:
    """What a run did: its episodes, and the timings of every decision."""

    episodes: list[EpisodeResult] = field(default_factory=list)
    timings: list[Timings] = field(default_factory=list)
    wall_us: list[float] = field(default_factory=list)
    cpu_us: float = 0.0
    exchange: Exchange | None = None

    @property
    def returns(self) -> list[float]:
        """The return of each episode."""
        return [episode.total for episode in self.episodes]

    @property
    def decisions(self) -> int:
        """Decisions taken, missed ones included."""
        return sum(episode.length for episode in self.episodes)

    @property
    def missed(self) -> int:
        """Decisions that came too late."""
        return sum(episode.missed for episode in self.episodes)

    @property
    def parted(self) -> int:
        """Decisions whose spikes were not the shadow's."""
        return sum(episode.parted for episode in self.episodes)

    def add(self, decision: Decision, wall_us: float) -> None:
        """Count a decision."""
        self.timings.append(decision.timings)
        self.wall_us.append(wall_us)
        self.cpu_us += decision.cpu_us
        if decision.exchange is not None:
            self.exchange = decision.exchange if self.exchange is None else self.exchange + decision.exchange

    @property
    def compared(self) -> int:
        """Decisions compared with the reference."""
        return sum(episode.compared for episode in self.episodes)

    @property
    def agreed(self) -> int:
        """Of these, the ones that agree."""
        return sum(episode.agreed for episode in self.episodes)

    @property
    def agreement(self) -> float | None:
        """Action agreement with the reference, in [0, 1]; None where nothing was compared."""
        return self.agreed / self.compared if self.compared else None

    def stage_medians_us(self) -> dict[str, float]:
        """Median time of each stage of a decision, of all stages, and of the whole as the environment saw it."""
        if not self.timings:
            return {}
        stages = np.array([list(timing.as_dict().values()) for timing in self.timings])
        medians = dict(zip(Timings.stages(), np.median(stages, axis=0).tolist(), strict=True))
        medians["stages_us"] = float(np.median(stages.sum(axis=1)))
        medians["wall_us"] = float(np.median(self.wall_us))
        return medians


def run_episodes(
    environment: Environment,
    decider: Decider,
    *,
    episodes: int,
    seed: int = 0,
    reference: Decider | None = None,
    trace: TraceWriter | None = None,
    spikes: bool = False,
    shadow: bool = False,
    pace: Pace | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
    on_episode: Callable[[EpisodeResult], None] | None = None,
) -> RunResult:
    """Run whole episodes.

    Parameters
    ----------
    environment : Environment
    decider : Decider, for paced runs a PacedDecider
    episodes : int
    seed : int
        Episode ``i`` resets the environment and the decider's random encodings with ``seed + i``.
    reference : Decider, optional
        Decides on the same observations, beside; its action is only compared.
    trace : TraceWriter, optional
    spikes : bool
        Record spike trains (in the trace).
    shadow : bool
        Compare the spikes with those of the `reference` too, and keep where they first part.
    pace : Pace, optional
        Lock-step unless given.
    on_step : callable, optional
        Called after each step with (episode, step, return so far).
    on_episode : callable, optional
        Called after each episode.

    Raises
    ------
    SpikeloopError
        Whatever the decider raises; the trace keeps every decision made before.
    """
    result = RunResult()
    for index in range(episodes):
        episode = _Episode(environment, decider, reference, trace, spikes, shadow, pace, result)
        done = episode.run(index, seed + index, on_step)
        result.episodes.append(done)
        if on_episode is not None:
            on_episode(done)
    return result


@dataclass(slots=True)
class _Episode:
    environment: Environment
    decider: Decider
    reference: Decider | None
    trace: TraceWriter | None
    spikes: bool
    shadow: bool
    pace: Pace | None
    result: RunResult

    def run(self, index: int, seed: int, on_step: Callable[[int, int, float], None] | None) -> EpisodeResult:
        observation, _ = self.environment.reset(seed=seed)
        if self.pace is not None:
            self._catch_up()
        self.decider.reset(seed=seed)
        if self.reference is not None:
            self.reference.reset(seed=seed)
        if self.trace is not None:
            self.trace.begin_episode(index, seed)
        total, length, compared, agreed, missed, parted = 0.0, 0, 0, 0, 0, 0
        outcome = "interrupted"
        action: int | None = None
        due = perf_counter()
        try:
            while outcome == "interrupted":
                started = perf_counter()
                # Never in the past: a stall on this side delays the run, it does not make the network late.
                due = max(due, started) + (self.pace.period_s if self.pace else 0.0)
                asked = self._ask(observation, due)
                decision = self._answer(observation, due) if asked else None
                wall_us = (perf_counter() - started) * 1e6
                if decision is not None:
                    action = int(decision.action)
                    self.result.add(decision, wall_us)
                else:
                    assert self.pace is not None, "in lock-step a decision always comes"
                    action = self.pace.miss.action(action)
                    missed += 1
                expected = divergence = None
                # Only where the decider was asked: the random encodings of both must stay in step.
                if self.reference is not None and asked:
                    shadow = self.reference.decide(observation, spikes=self.shadow)
                    expected = int(shadow.action)
                    divergence = self._divergence(decision, shadow)
                    parted += divergence is not None
                if expected is not None and decision is not None:
                    compared += 1
                    agreed += expected == action
                if self.trace is not None:
                    self.trace.decided(index, length, observation, action, decision, expected, wall_us, divergence)
                if self.pace is not None:
                    sleep(max(0.0, due - perf_counter()))
                observation, reward, terminated, truncated, _ = self.environment.step(action)
                total += float(reward)
                length += 1
                if self.trace is not None:
                    self.trace.answered(float(reward), bool(terminated), bool(truncated))
                if terminated or truncated:
                    outcome = "terminated" if terminated else "truncated"
                if on_step is not None:
                    on_step(index, length, total)
        finally:
            if self.trace is not None:
                self.trace.end_episode(index, total, length, outcome)
        return EpisodeResult(index, seed, total, length, outcome, compared, agreed, missed, parted)

    def _divergence(self, decision: Decision | None, shadow: Decision) -> Divergence | None:
        if not self.shadow or decision is None or decision.rasters is None or shadow.rasters is None:
            return None
        return first_divergence(decision.rasters, shadow.rasters)

    def _catch_up(self) -> None:
        """Wait for the last episode's late decision, which nobody needs any more."""
        decider = self._paced_decider
        while decider.outstanding:
            decider.poll(1.0)

    @property
    def _paced_decider(self) -> PacedDecider:
        return self.decider  # type: ignore[return-value]  # run_episodes says what a paced run needs

    def _ask(self, observation: object, due: float) -> bool:
        """Paced: ask for a decision, unless the decider is still busy with an old observation when it is `due`."""
        if self.pace is None:
            return True
        decider = self._paced_decider
        while decider.outstanding:
            left = due - perf_counter()
            if left <= 0:
                return False
            decider.poll(left)
        decider.submit(observation, spikes=self.spikes or self.shadow)
        return True

    def _answer(self, observation: object, due: float) -> Decision | None:
        """The decision; paced, None if it did not come in time."""
        if self.pace is None:
            return self.decider.decide(observation, spikes=self.spikes or self.shadow)
        decision = self._paced_decider.poll(max(0.0, due - perf_counter()))
        # Sockets wait in whole milliseconds, so an answer can come after the deadline that it was waited for.
        return decision if perf_counter() <= due else None

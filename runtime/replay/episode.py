"""The same episode again: a trace's decisions, taken anew on the observations that it holds.

A deterministic target takes them as before, to the last bit of every output. And where the environment is run again,
from the episode's seed and with the recorded actions, it shows what it showed then: the closed loop is the same to the
bit. What need not be the same, or cannot be compared, is said with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InvalidInputError, TraceError
from ...hardware_profiles.profile import Profile, Value
from ...models.network import Network
from ...models.stimulus import CountArray
from ..agent import Agent, launch
from ..decision import first_divergence
from ..loop import Environment
from ..trace import Trace, TracedDecision
from .recorded import Setup, recorded_network, recorded_setup
from .report import Replay, ReplayedDecision
from .world import World


def replay(
    trace: Trace | str | Path,
    episode: int,
    *,
    network: Network | str | Path | None = None,
    profile: Profile | str | Path | None = None,
    settings: Mapping[str, Value | str] | None = None,
    environment: Environment | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Replay:
    """Decide an episode of a trace again.

    Parameters
    ----------
    trace : Trace, or the path of one
    episode : int
    network : Network, or the name or path of one, optional
        Found by the name in the trace unless given, as `recorded_network` says.
    profile : Profile, or the name or path of one, optional
        The recorded one with its settings unless given.
    settings : mapping, optional
        Settings of the profile to override.
    environment : Environment, optional
        Run again with the recorded actions. Left open.
    on_progress : callable, optional
        Called with the number of decisions done.

    Raises
    ------
    InvalidInputError
        If there is no such episode, or the network is not the recorded one.
    TraceError
        If the trace is damaged, or does not say what ran.
    SpikeloopError
        As `launch`, `Agent.decide` and the environment raise them.
    """
    trace = trace if isinstance(trace, Trace) else Trace(trace)
    row, before = _episode(trace, episode)
    if next(trace.decisions(episode), None) is None:
        raise InvalidInputError(
            f"Episode {episode} of {trace.path} holds no decision: it was cut off before the first."
        )
    spikes = any(one.spike_events is not None for one in trace.decisions(episode))
    setup = recorded_setup(trace, profile, settings)
    found = recorded_network(trace, network)
    meta = trace.meta
    mode, run_seed, seed = str(meta.get("mode", "lock-step")), meta.get("seed", 0), row["seed"]
    if not (isinstance(run_seed, int) and isinstance(seed, int)):
        raise TraceError(f"{trace.path} does not say from which seeds it was recorded: {run_seed!r} and {seed!r}.")
    doubts = list(setup.doubts)
    random_target = setup.same and setup.profile.stochastic
    catch_up = random_target and "host" not in meta and mode == "lock-step"
    if setup.profile.stochastic:
        doubts.append(_chance(setup, caught_up=catch_up))
    each: list[ReplayedDecision] = []
    options = setup.profile.settings_for_spikes if spikes else {}
    count = _Encodings(found.encoder.random)
    world = None if environment is None else World(environment, seed)
    with launch(found, setup.profile, seed=run_seed, settings=options) as agent:
        if catch_up:
            _decide_before(agent, trace, before)
        agent.reset(seed=seed)
        for decision in trace.decisions(episode):
            if world is not None:
                world.next(decision)
            index = count.index
            if decision.missed or index is None:
                each.append(ReplayedDecision(decision.step, decision.missed, decision.action))
            else:
                agent.encoder_state = (seed, index)
                each.append(_decided(agent, decision, trace))
            count.after(decision)
            if on_progress is not None:
                on_progress(len(each))
    notes = _notes(each, row["outcome"], count)
    done = [one for one in each if one.action is not None]
    with_spikes = [one for one in done if one.equal_spikes is not None]
    return Replay(
        trace=str(trace.path),
        episode=episode,
        seed=seed,
        outcome=row["outcome"],
        network=found.name,
        network_hash=found.content_hash,
        profile=setup.profile.name,
        recorded_profile=setup.recorded_profile,
        mode=mode,
        decisions=len(each),
        missed=sum(one.missed for one in each),
        compared=len(done),
        equal_actions=sum(one.action == one.recorded_action for one in done),
        equal_outputs=sum(one.equal_output is True for one in done),
        compared_spikes=len(with_spikes),
        equal_spikes=sum(one.equal_spikes is True for one in with_spikes),
        max_abs_dv=max((one.max_abs_dv for one in done if one.max_abs_dv is not None), default=None),
        first_difference=next((one for one in each if not one.same), None),
        environment=None if world is None else world.found(),
        doubts=tuple(doubts),
        notes=tuple(notes),
        each=tuple(each),
    )


def _episode(trace: Trace, episode: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The row of an episode, and those of the episodes before it."""
    rows = trace.episodes()
    found = next((row for row in rows if row["episode"] == episode), None)
    if found is None:
        numbers = [row["episode"] for row in rows]
        there = f"episodes {min(numbers)} to {max(numbers)}" if numbers else "no episode"
        raise InvalidInputError(f"Episode {episode} was asked for; {trace.path} holds {there}.")
    return found, [row for row in rows if row["episode"] < episode]


def _decided(agent: Agent, recorded: TracedDecision, trace: Trace) -> ReplayedDecision:
    events = recorded.spike_events
    decision = agent.decide(recorded.observation, spikes=events is not None)
    place = None
    if events is not None:
        assert decision.rasters is not None, "asked for above"
        place = first_divergence(decision.rasters, _rasters(events, agent, trace))
    then, now = recorded.output, np.asarray(decision.output, dtype="<f8")
    return ReplayedDecision(
        step=recorded.step,
        missed=False,
        recorded_action=recorded.action,
        action=int(decision.action),
        equal_output=None if then is None else then.tobytes() == now.tobytes(),
        equal_spikes=None if events is None else place is None,
        max_abs_dv=None if then is None or then.shape != now.shape else float(np.abs(now - then).max()),
        divergence=place,
    )


def _rasters(events: NDArray[np.uint32], agent: Agent, trace: Trace) -> tuple[CountArray, ...]:
    """Recorded spikes (layer, neuron, step) as rasters [steps, neurons], one per layer."""
    sizes, steps = agent.layer_sizes, agent.steps
    rasters = tuple(np.zeros((steps, size), dtype=np.uint8) for size in sizes)
    try:
        for layer, raster in enumerate(rasters):
            _, neurons, at = events[events[:, 0] == layer].T
            np.add.at(raster, (at, neurons), 1)
        if len(events) and events[:, 0].max() >= len(sizes):
            raise IndexError
    except IndexError:
        raise TraceError(
            f"{trace.path} is damaged: it holds spikes of neurons that the network does not have."
        ) from None
    return rasters


def _decide_before(agent: Agent, trace: Trace, episodes: list[dict[str, Any]]) -> None:
    """Bring a target's random numbers to where they were: they run on from window to window."""
    for row in episodes:
        agent.reset(seed=row["seed"])
        for decision in trace.decisions(row["episode"]):
            agent.decide(decision.observation, spikes=decision.spike_events is not None)


def _chance(setup: Setup, *, caught_up: bool) -> str:
    text = f"'{setup.profile.name}' draws random numbers, which run on from the first decision of a run to the last"
    if caught_up:
        return f"{text}; those of the episodes before were drawn again first"
    return f"{text}: those of this episode cannot be drawn again"


def _notes(each: list[ReplayedDecision], outcome: str | None, count: _Encodings) -> list[str]:
    notes = []
    if missed := sum(one.missed for one in each):
        notes.append(f"{missed} of {len(each)} decisions came too late: their outputs were not recorded")
    if left := sum(one.action is None and not one.missed for one in each):
        notes.append(
            f"{left} decisions after the first that came too late were left out: whether that one was asked for, which "
            "the random encodings of the next ones depend on, was not recorded"
        )
    if outcome is None:
        notes.append("the run was cut off in this episode: it is replayed as far as it goes")
    return notes


class _Encodings:
    """The index of the next random encoding; None once it cannot be known.

    A decision that came too late used one up, unless it was never asked for because the network was busy. Where a
    reference looked on, it decided on what was asked for, and on nothing else.
    """

    def __init__(self, random: bool) -> None:
        self._random, self._reference = random, False
        self.index: int | None = 0

    def after(self, decision: TracedDecision) -> None:
        """Count a decision."""
        asked = decision.reference_action is not None
        self._reference |= asked  # the first decision of an episode is always asked for
        if not self._random or self.index is None:
            return
        if decision.missed and not self._reference:
            self.index = None
        elif asked or not decision.missed:
            self.index += 1

"""A check: the same observations through a target and through what it is to decide like, and why they part."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ...deploy.departures.adoption import departed
from ...deploy.departures.session import DepartedSession
from ...deploy.deployment import Deployment
from ...deploy.mapping import plan
from ...errors import InvalidInputError
from ...hardware_profiles.profile import DepartureKind, Profile, Value, load_profile
from ...models.loading import load
from ...models.network import Network
from ...models.stimulus import FloatArray
from ..agent import Decider
from ..loop import Environment
from ..versions import versions
from . import comparison
from .anytime import anytime, require_steps, sweep
from .attribution import RANDOM, attribute, simulate
from .diagnosis import diagnose
from .expected import compared_with, launch_expected
from .free_running import free_running
from .records import expected_record, potentials_of, software, target_potentials, target_record
from .report import Against, Attribution, Fault, FidelityReport, FirstDivergence, FreeRunning, Record, SweepPoint

Kinds = tuple[DepartureKind, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """What can be said of a target from the observations alone.

    Attributes
    ----------
    report : FidelityReport
        Without episodes, and without the conventional network.
    expected, given : int64 [n]
        The actions that the target was to take, and that it took.
    """

    report: FidelityReport
    expected: NDArray[np.int64]
    given: NDArray[np.int64]


def check(
    network: Network | str | Path,
    profile: Profile | str | Path,
    observations: object,
    *,
    seed: int = 0,
    settings: Mapping[str, Value | str] | None = None,
    against: Against | None = None,
    origin: tuple[str, Decider] | None = None,
    explain: bool = True,
    steps_sweep: Sequence[int] = (),
    environment: Callable[[], Environment] | None = None,
    episodes: int = 0,
    source: str = "given by the caller",
    given: Record | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> FidelityReport:
    """Say how far a target is from what it is to decide like, where they first part, and why.

    Parameters
    ----------
    network : Network, or the name or path of one
    profile : Profile, or the name or path of one
    observations : array [n, n_inputs]
    seed : int
        For random encoders, whose spikes are the same on both sides, for targets that draw random numbers, and of the
        first episode.
    settings : mapping, optional
        Settings of the profile to override.
    against : "reference" or "twin", optional
        What to compare with; as `compared_with` says unless given.
    origin : (name, Decider), optional
        The conventional network that this one came from, to compare with as well. Left open.
    explain : bool
        Attribute the loss to the profile's departures, and look for what none of them explains.
    steps_sweep : sequence of int
        Windows of other lengths to try.
    environment : callable, optional
        Makes an environment; with it, `episodes` episodes are run free, target and reference each in its own.
    source : str
        Where the observations came from, for the report.
    given : Record, optional
        What the target did with the observations, if that is known already; otherwise it is asked.
    on_progress : callable, optional
        Called with what is being done, how much of it is done, and of how much.

    Raises
    ------
    InvalidInputError, PreflightError, TargetError
        As `launch`, `launch_expected` and `Agent.decide` raise them.
    """
    if not isinstance(network, Network):
        network = load(network)
    profile = load_profile(profile, settings)
    states = network.observations(observations)
    compared = compare(
        network,
        profile,
        states,
        seed=seed,
        against=against,
        explain=explain,
        steps_sweep=steps_sweep,
        source=source,
        given=given,
        on_progress=on_progress,
    )
    return complete(
        compared,
        network,
        profile,
        states,
        origin=origin,
        environment=environment,
        episodes=episodes,
        on_progress=on_progress,
    )


def compare(
    network: Network,
    profile: Profile,
    states: FloatArray,
    *,
    seed: int = 0,
    against: Against | None = None,
    explain: bool = True,
    steps_sweep: Sequence[int] = (),
    source: str = "given by the caller",
    given: Record | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Compared:
    """The part of `check` that depends on observations [n, n_inputs] alone; parameters and errors as there."""
    windows = require_steps(steps_sweep) if steps_sweep else ()
    against = against or compared_with(network, profile)
    launch_expected(network, profile, against, seed=seed).close()  # refuses what cannot be compared
    deployment = plan(network, profile)
    told = on_progress or _untold
    expected = expected_record(deployment, against, states, seed)
    if given is None:
        given = target_record(network, profile, states, seed=seed, on_progress=lambda n: told("target", n, len(states)))
    else:
        _require_record(given, expected)
    attribution: Attribution | None = None
    faults: tuple[Fault, ...] = ()
    baseline: Kinds = () if against == "reference" else _of_the_twin(deployment)
    if explain:
        declared = tuple(departure.kind for departure in profile.departures)
        simulated = simulate(deployment, declared, states, seed=seed)
        attribution = attribute(
            deployment, states, expected.actions, given, baseline=baseline, seed=seed, together=simulated,
            on_progress=lambda done, of: told("causes", done, of),
        )  # fmt: skip
        if not attribution.stochastic:
            faults = diagnose(deployment, departed(deployment, declared), states, given, simulated, seed=seed)
    swept: tuple[SweepPoint, ...] = ()
    if windows:
        swept = sweep(
            network,
            profile,
            states,
            windows,
            seed=seed,
            settings=profile.settings_for_spikes,
            expected=expected.actions,
            against=against,
        )
    seen = expected.traces is not None or network.output_fires
    report = FidelityReport(
        network=network.name,
        network_hash=network.content_hash,
        profile=profile.name,
        target=profile.target,
        against=against,
        seed=seed,
        source=source,
        observations=len(states),
        teacher_forced=comparison.agreement(given.actions, expected.actions),
        errors=comparison.output_errors(expected, given),
        margins=comparison.margins(expected, given, network.neuron.threshold),
        layers=comparison.layer_errors(expected, given),
        first_disagreement=_first(given.actions != expected.actions),
        first_divergence=_first_divergence(deployment, against, states, expected, given, seed),
        ms_per_decision=float(np.median(given.ms)),
        attribution=attribution,
        faults=faults,
        anytime=anytime(network, expected, settled=against == "reference") if seen else None,
        sweep=swept,
        provenance=_provenance(network, profile, states),
    )
    return Compared(report, expected.actions, given.actions)


def complete(
    compared: Compared,
    network: Network,
    profile: Profile,
    states: FloatArray,
    *,
    origin: tuple[str, Decider] | None = None,
    environment: Callable[[], Environment] | None = None,
    episodes: int = 0,
    free: FreeRunning | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> FidelityReport:
    """The rest of `check`: episodes, unless they are known already, and the conventional network.

    Other parameters and errors are as there.
    """
    report, told = compared.report, on_progress or _untold
    if free is None and environment is not None and episodes:
        free = free_running(
            environment,
            network,
            profile,
            episodes=episodes,
            seed=report.seed,
            against=report.against,
            origin=None if origin is None else origin[1],
            on_progress=lambda done: told("episodes", done, 2 * episodes),
        )
    report = replace(report, free_running=free)
    if origin is not None:
        name, decider = origin
        decider.reset(seed=report.seed)  # episodes have moved its random encodings on
        actions = np.asarray(decider.decide(states).action)
        report = replace(
            report,
            origin_name=name,
            origin=comparison.agreement(compared.given, actions),
            expected_origin=comparison.agreement(compared.expected, actions),
        )
    return report


def _untold(what: str, done: int, of: int) -> None:
    """Progress that nobody asked for."""


def _of_the_twin(deployment: Deployment) -> Kinds:
    """The departures that a twin has too: all but those at random."""
    return tuple(departure.kind for departure in deployment.profile.departures if departure.kind not in RANDOM)


def _first(differs: np.ndarray[Any, np.dtype[np.bool_]]) -> int | None:
    return int(np.argmax(differs)) if differs.any() else None


def _first_divergence(
    deployment: Deployment, against: Against, states: FloatArray, expected: Record, given: Record, seed: int
) -> FirstDivergence | None:
    """The place, and the potentials around it: the target's own where they can be read, else as simulated."""
    found = comparison.first_divergent(expected, given)
    if found is None:
        return None
    index, place = found
    network = deployment.network
    column = sum(network.sizes[: place.layer]) + place.neuron
    ours, _ = potentials_of(software(deployment, against), network, states, index, seed)
    theirs = target_potentials(deployment, states, index, seed, given)
    read = theirs is not None
    if theirs is None:
        dynamics = departed(deployment, get_args(DepartureKind))
        theirs, _ = potentials_of(DepartedSession(dynamics, seed), network, states, index, seed)
    return FirstDivergence(
        observation=index,
        place=place,
        threshold=network.neuron.threshold,
        expected_potential=tuple(ours[:, column].tolist()),
        given_potential=tuple(theirs[:, column].tolist()),
        given_is_simulated=not read,
        expected_spikes=comparison.spike_events(tuple(layer[index] for layer in expected.rasters)),
        given_spikes=comparison.spike_events(tuple(layer[index] for layer in given.rasters)),
        layer_sizes=network.spiking_sizes,
        steps=network.steps,
    )


def _require_record(given: Record, expected: Record) -> None:
    ours, theirs = (
        [one.actions.shape, one.outputs.shape, *(raster.shape for raster in one.rasters)] for one in (expected, given)
    )
    if ours != theirs:
        raise InvalidInputError(f"A record of shapes {theirs} was given; this network needs {ours}.")


def _provenance(network: Network, profile: Profile, states: FloatArray) -> dict[str, Any]:
    """Versions, hashes and settings: what it takes to do it again."""
    return {
        "versions": versions(),
        "network": {"hash": network.content_hash, **network.provenance},
        "profile": {"name": profile.name, "target": profile.target, "settings": profile.settings()},
        "observations": {"sha256": hashlib.sha256(np.ascontiguousarray(states).tobytes()).hexdigest()},
    }

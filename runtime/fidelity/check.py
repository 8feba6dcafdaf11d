"""Does the deployed agent decide as the trained one does? The same observations through both.

The trained one is the reference, or the software twin of the target for a network that was trained under it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...deploy.mapping import plan
from ...deploy.twin import trained_for, twin_of
from ...errors import InvalidInputError
from ...hardware_profiles.profile import Profile, Value, load_profile
from ...models.loading import load
from ...models.network import Network
from ...models.stimulus import Stimulus
from ..agent import Agent, launch
from ..decision import Divergence, first_divergence
from .intervals import wilson

# What a target can be compared with.
Against = Literal["reference", "twin"]


@dataclass(frozen=True, slots=True)
class FidelityReport:
    """What `check` found.

    Attributes
    ----------
    against : "reference" or "twin"
        What the target was compared with: the network's own dynamics, or the software twin of the profile.
    agreement : float in [0, 1]
        The share of observations on which both take the same action.
    interval : (float, float)
        Its 95 % Wilson interval.
    max_abs_dv, median_abs_dv : float
        Largest and median absolute difference of an output value.
    differing_trains : int
        Spike trains (one per neuron and observation) that are not identical, of `trains`.
    first_disagreement : int or None
        The first observation with another action.
    first_divergence : (int, Divergence) or None
        The first observation with another spike, and where in its window that was.
    ms_per_decision : float
        Median, on the target, spikes recorded.
    """

    network: str
    network_hash: str
    profile: str
    against: Against
    observations: int
    agreed: int
    agreement: float
    interval: tuple[float, float]
    max_abs_dv: float
    median_abs_dv: float
    trains: int
    differing_trains: int
    first_disagreement: int | None
    first_divergence: tuple[int, Divergence] | None
    ms_per_decision: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def check(
    network: Network | str | Path,
    profile: Profile | str | Path,
    observations: object,
    *,
    seed: int = 0,
    settings: Mapping[str, Value | str] | None = None,
    against: Against | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> FidelityReport:
    """Run the same observations through a target and through what it is to decide like.

    Parameters
    ----------
    network : Network, or the name or path of one
    profile : Profile, or the name or path of one
    observations : array [n, n_inputs]
    seed : int
        For random encoders, whose spikes are the same on both sides, and for targets that draw random numbers.
    settings : mapping, optional
        Settings of the profile to override.
    against : "reference" or "twin", optional
        What to compare with; as `compared_with` says unless given.
    on_progress : callable, optional
        Called with the number of observations done.

    Raises
    ------
    InvalidInputError, PreflightError, TargetError
        As `launch`, `launch_expected` and `Agent.decide` raise them.
    """
    if not isinstance(network, Network):
        network = load(network)
    profile = load_profile(profile, settings)
    states = network.observations(observations)
    against = against or compared_with(network, profile)
    with launch_expected(network, profile, against, seed=seed) as agent:
        expected = agent.decide(states, spikes=True)
    actions, outputs, milliseconds = [], [], []
    differing = trains = 0
    first: tuple[int, Divergence] | None = None
    with launch(network, profile, seed=seed, settings=profile.settings_for_spikes) as agent:
        name = agent.profile
        for index, state in enumerate(states):
            decision = agent.decide(state, spikes=True)
            actions.append(int(decision.action))
            outputs.append(decision.output)
            milliseconds.append(decision.timings.total_us / 1e3)
            assert expected.rasters is not None, "recorded above"
            assert decision.rasters is not None, "recorded above"
            for theirs, ours in zip(decision.rasters, expected.rasters, strict=True):
                differing += int((theirs != ours[index]).any(axis=0).sum())
                trains += theirs.shape[1]
            if first is None:
                place = first_divergence(decision.rasters, tuple(ours[index] for ours in expected.rasters))
                first = None if place is None else (index, place)
            if on_progress is not None:
                on_progress(index + 1)
    same = np.array(actions) == expected.action
    dv = np.abs(np.array(outputs) - expected.output)
    agreed = int(same.sum())
    return FidelityReport(
        network=network.name,
        network_hash=network.content_hash,
        profile=name,
        against=against,
        observations=len(states),
        agreed=agreed,
        agreement=agreed / len(states),
        interval=wilson(agreed, len(states)),
        max_abs_dv=float(dv.max()),
        median_abs_dv=float(np.median(dv)),
        trains=trains,
        differing_trains=differing,
        first_disagreement=None if same.all() else int(np.argmin(same)),
        first_divergence=first,
        ms_per_decision=float(np.median(milliseconds)),
    )


def compared_with(network: Network, profile: Profile) -> Against:
    """What a network under this profile is to decide like: the profile's twin if it was trained for it.

    The twin of a profile that promises exactness is the reference.
    """
    return "twin" if trained_for(network, profile) and not profile.exact else "reference"


def launch_expected(network: Network, profile: Profile, against: Against, *, seed: int = 0) -> Agent:
    """The agent that a deployment is compared with; it runs in this process.

    Raises
    ------
    InvalidInputError
        If no twin of the profile is known.
    PreflightError
        If the network cannot run under the profile.
    """
    if against == "reference":
        return launch(network, "reference", seed=seed)
    if against != "twin":
        raise InvalidInputError(f"A comparison with {against!r} was asked for; it must be 'reference' or 'twin'.")
    deployment = plan(network, profile)
    session = twin_of(deployment)
    if session is None:
        raise InvalidInputError(
            f"No software twin of profile '{profile.name}' is known: it is random, or leaves parameters to the target. "
            "Compare with the reference."
        )
    agent = Agent(deployment, session, seed)
    agent.decide_stimulus(Stimulus(np.zeros((1, network.n_channels))))  # loads compiled code, as `launch` does
    return agent

"""The target itself: does it decide as the twin that a network was trained under?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SpikeloopError
from ..hardware_profiles.profile import Profile
from ..models.network import Network
from ..models.stimulus import FloatArray
from ..runtime.agent import Agent, launch
from ..runtime.fidelity import launch_expected, wilson
from .evaluation import run_episodes, summary

EPISODES, STATES = 5, 1000
IN_THIS_PROCESS = ("reference", "spinnaker-twin")  # targets that are their own twins


def twin(network: Network, profile: Profile) -> Agent:
    """The network as it will decide on the profile's target, in this process.

    Raises
    ------
    InvalidInputError, PreflightError
        If no twin is known, or the network cannot run under the profile.
    """
    return launch_expected(network, profile, "twin")


def can_verify(wanted: bool | None, network: Network, profile: Profile, report: Callable[[str], None]) -> bool:
    """Whether the target is to be asked; it is opened for a moment, so that this is known before training.

    Parameters
    ----------
    wanted : bool or None
        None: where it can be and the target is none that runs in this process.
    network : Network
        One like that which is to be verified.
    profile : Profile
    report : callable
        Told why not, where it cannot be and was not asked for.

    Raises
    ------
    SpikeloopError
        If it is wanted and the target cannot be had.
    """
    if wanted is False or (wanted is None and profile.target in IN_THIS_PROCESS):
        return False
    try:
        launch(network, profile).close()
    except SpikeloopError as error:
        if wanted:
            raise
        report(f"the result will not be verified on {target_of(profile)}: {error}")
        return False
    return True


def target_of(profile: Profile) -> str:
    """What the target is called: as the profile, unless that leaves a choice of targets."""
    return profile.target if profile.targets else profile.name


def verified(network: Network, profile: Profile, env_id: str, first_seed: int) -> dict[str, Any]:
    """Play on the target, and compare it with the twin in the states that this leads to; plain values for a header."""

    def act(observations: FloatArray) -> NDArray[np.int64]:
        return np.asarray(agent.decide(observations).action)

    with launch(network, profile) as agent:
        ran = run_episodes(env_id, act, EPISODES, first_seed)
        n = len(ran.observations)
        states = ran.observations[np.linspace(0, n - 1, min(n, STATES)).astype(np.int64)]
        given = agent.decide(states)
    expected = twin(network, profile).decide(states)
    agreed = int(np.count_nonzero(given.action == expected.action))
    return {
        "target": target_of(profile),
        "episodes": EPISODES,
        "first_seed": first_seed,
        **summary(ran.returns),
        "states": len(states),
        "agreement_with_twin": agreed / len(states),
        "interval": list(wilson(agreed, len(states))),
        "max_abs_dv": float(np.abs(given.output - expected.output).max()),
    }

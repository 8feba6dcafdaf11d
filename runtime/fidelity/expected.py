"""What a target is compared with: the reference, or the software twin of a profile that the network was trained for."""

from __future__ import annotations

import numpy as np

from ...deploy.mapping import plan
from ...deploy.twin import trained_for, twin_of
from ...errors import InvalidInputError
from ...hardware_profiles.profile import Profile
from ...models.network import Network
from ...models.stimulus import Stimulus
from ..agent import Agent, launch
from .report import Against


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

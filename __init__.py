"""Spikeloop: deploy a trained spiking agent, close the loop with an environment, prove that it decides as trained.

>>> import spikeloop
>>> network = spikeloop.load("cartpole")
>>> with spikeloop.launch(network, "reference") as agent:
...     action = agent.act([0.0, 0.1, 0.02, -0.1])
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazily import lazily

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .bridges.client import RemoteAgent
    from .deploy.mapping import plan, preflight
    from .errors import SpikeloopError
    from .hardware_profiles.profile import Profile, load_profile, profiles
    from .models import Decoder, Dense, Encoder, Network, Neuron, Stimulus, bundled, load, save
    from .runtime import Agent, Decision, FidelityReport, Trace, check, launch, run_episodes

__getattr__, __dir__ = lazily(
    __name__,
    {
        ".bridges.client": ["RemoteAgent"],
        ".deploy.mapping": ["plan", "preflight"],
        ".errors": ["SpikeloopError"],
        ".hardware_profiles.profile": ["Profile", "load_profile", "profiles"],
        ".models": ["Decoder", "Dense", "Encoder", "Network", "Neuron", "Stimulus", "bundled", "load", "save"],
        ".runtime": ["Agent", "Decision", "FidelityReport", "Trace", "check", "launch", "run_episodes"],
    },
)

__all__ = [
    "Agent",
    "Decision",
    "Decoder",
    "Dense",
    "Encoder",
    "FidelityReport",
    "Network",
    "Neuron",
    "Profile",
    "RemoteAgent",
    "SpikeloopError",
    "Stimulus",
    "Trace",
    "__version__",
    "bundled",
    "check",
    "launch",
    "load",
    "load_profile",
    "plan",
    "preflight",
    "profiles",
    "run_episodes",
    "save",
]

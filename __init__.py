"""Spikeloop: deploy a trained spiking agent, close the loop with an environment, prove that it decides as trained.

>>> import spikeloop
>>> network = spikeloop.load("cartpole")
>>> with spikeloop.launch(network, "reference") as agent:
...     action = agent.act([0.0, 0.1, 0.02, -0.1])
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .bridges.client import RemoteAgent
    from .deploy.mapping import plan, preflight
    from .errors import SpikeloopError
    from .hardware_profiles.profile import Profile, load_profile, profiles
    from .models import Decoder, Dense, Encoder, Network, Neuron, Stimulus, bundled, load, save
    from .runtime import Agent, Decision, FidelityReport, Trace, check, launch, run_episodes

_WHERE = {
    ".bridges.client": ["RemoteAgent"],
    ".deploy.mapping": ["plan", "preflight"],
    ".errors": ["SpikeloopError"],
    ".hardware_profiles.profile": ["Profile", "load_profile", "profiles"],
    ".models": ["Decoder", "Dense", "Encoder", "Network", "Neuron", "Stimulus", "bundled", "load", "save"],
    ".runtime": ["Agent", "Decision", "FidelityReport", "Trace", "check", "launch", "run_episodes"],
}
_NAMES = {name: module for module, names in _WHERE.items() for name in names}

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


def __getattr__(name: str) -> Any:
    """Import the public names when first used: ``import spikeloop`` stays fast."""
    if name not in _NAMES:
        raise AttributeError(f"module 'spikeloop' has no attribute '{name}'")
    return getattr(import_module(_NAMES[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

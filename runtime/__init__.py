"""WHEN a network runs: the agent, the closed loop, pacing and deadlines, traces, fidelity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazily import lazily

if TYPE_CHECKING:
    from .agent import Agent, Decider, launch
    from .decision import Decision, Timings
    from .fidelity import FidelityReport, check, load_observations
    from .loop import EpisodeResult, RunResult, run_episodes
    from .pacing import MissPolicy, Pace
    from .trace import Trace, TraceWriter

__getattr__, __dir__ = lazily(
    __name__,
    {
        ".agent": ["Agent", "Decider", "launch"],
        ".decision": ["Decision", "Timings"],
        ".fidelity": ["FidelityReport", "check", "load_observations"],
        ".loop": ["EpisodeResult", "RunResult", "run_episodes"],
        ".pacing": ["MissPolicy", "Pace"],
        ".trace": ["Trace", "TraceWriter"],
    },
)

__all__ = [
    "Agent",
    "Decider",
    "Decision",
    "EpisodeResult",
    "FidelityReport",
    "MissPolicy",
    "Pace",
    "RunResult",
    "Timings",
    "Trace",
    "TraceWriter",
    "check",
    "launch",
    "load_observations",
    "run_episodes",
]

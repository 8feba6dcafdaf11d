"""WHEN a network runs: the agent, the closed loop, pacing and deadlines, traces, fidelity."""

from .agent import Agent, Decider, launch
from .decision import Decision, Timings
from .fidelity import FidelityReport, check, load_observations
from .loop import EpisodeResult, RunResult, run_episodes
from .pacing import MissPolicy, Pace
from .trace import Trace, TraceWriter

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

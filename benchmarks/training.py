"""Training from scratch, five seeds each, beside the thesis' tables 4.5 and 4.10.

    python benchmarks/training.py [--only dqn-cartpole] [--runs runs/benchmark]

Each run is `spikeloop train` with its defaults for the environment: it ends when the mean return of the last 100
episodes reaches the environment's standard, or after its episodes. Runs stay in their folder: one that was killed goes
on, one that is done is not run again. A run takes seconds (DQN) to minutes (DSQN); all of them about an hour on a core.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from common import machine, show

SEEDS = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Row:
    """One algorithm in one environment; `thesis` is its row: reached, at episode, best average, at episode."""

    name: str
    algorithm: str
    env: str
    thesis: tuple[str, str, str, str]


ROWS = (
    Row("dqn-cartpole", "dqn", "CartPole-v1", ("3 of 5", "646", "197.8", "784")),
    Row("dsqn-cartpole", "dsqn", "CartPole-v1", ("1 of 5", "274", "195.5", "507")),
    Row("reinforce-cartpole", "reinforce", "CartPole-v1", ("1 run", "600", "", "")),
    Row("dqn-mountaincar", "dqn", "MountainCar-v0", ("3 of 5", "714", "-120.1", "820")),
)


def run(row: Row, seed: int, folder: Path) -> dict[str, Any]:
    """The summary of a run, made now unless it is there."""
    algorithm = import_module(f"spikeloop.training.{row.algorithm}")
    facts = folder / "run.json"
    if facts.exists() and "summary" in (told := json.loads(facts.read_text())):
        return dict(told["summary"])
    settings = algorithm.Settings(**algorithm.PRESETS[row.env], env=row.env, seed=seed, output=folder)
    return dict(algorithm.train(replace(settings, resume=facts.exists())))


def lines(row: Row, summaries: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Two rows of the table: the thesis' and ours."""
    reached = [s for s in summaries if s["target_reached"]]
    best = [s["best_average"] for s in summaries if s["best_average"] is not None]
    at = [s["best_at_episode"] for s in summaries if s["best_at_episode"] is not None]
    here = (
        f"{len(reached)} of {len(summaries)}",
        f"{np.mean([s['episodes'] for s in reached]):.0f}" if reached else "",
        f"{np.mean(best):.1f} [{min(best):.1f}, {max(best):.1f}]" if best else "",
        f"{np.mean(at):.0f}" if at else "",
        f"{np.median([s['seconds'] for s in summaries]):.0f}",
    )
    return [(row.name, "thesis", *row.thesis, ""), ("", "here", *here)]


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=[row.name for row in ROWS], nargs="+")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmark"))
    given = parser.parse_args()
    rows = [row for row in ROWS if not given.only or row.name in given.only]
    table = []
    for row in rows:
        table += lines(row, [run(row, seed, given.runs / f"{row.name}-{seed}") for seed in SEEDS])
    show(
        f"From scratch, seeds {SEEDS[0]} to {SEEDS[-1]}; standard: a mean of 195 (of 200) or -130 in 100 episodes",
        ["run", "", "reached", "at episode ", "best average [least, most] ", "at ", "seconds, median "],
        table,
        f"{machine()}. Here a run ends when it reaches the standard; the thesis' runs all had 1000 episodes.",
    )


if __name__ == "__main__":
    main()

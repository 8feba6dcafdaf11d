"""What the benchmarks share: interleaved medians, tables, and the networks that are measured."""

from __future__ import annotations

import dataclasses
import gc
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
from rich.console import Console
from rich.table import Table
from spikeloop.models import Network, load

DATA = Path(__file__).parents[2] / "shared" / "data"
THESIS = DATA / "thesis"


def interleaved(systems: Mapping[str, Callable[[], object]], rounds: int, block: int = 50) -> dict[str, np.ndarray]:
    """Time each call of all systems, in alternating blocks of calls.

    What disturbs the machine disturbs all systems alike, while each runs with caches of its own, as in a loop.

    Returns
    -------
    dict of float64 [rounds * block], microseconds per call
    """
    for system in systems.values():
        for _ in range(min(block, 20)):
            system()
    times: dict[str, list[float]] = {name: [] for name in systems}
    gc.disable()
    try:
        for _ in range(rounds):
            for name, system in systems.items():
                for _ in range(block):
                    started = perf_counter()
                    system()
                    times[name].append((perf_counter() - started) * 1e6)
    finally:
        gc.enable()
    return {name: np.array(values) for name, values in times.items()}


def show(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], note: str = "", width: int = 118
) -> None:
    """Print a table; columns whose name ends with a space are aligned right."""
    table = Table(title=title, title_justify="left", caption=note or None, caption_justify="left")
    for column in columns:
        table.add_column(column.strip(), justify="right" if column.endswith(" ") else "left")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    Console(width=width).print(table)


def verdict(value: float, bound: float, *, at_most: bool) -> str:
    """The bound, and whether the value keeps it."""
    kept = value <= bound if at_most else value >= bound
    return f"{'at most' if at_most else 'at least'} {bound:g}: {'yes' if kept else 'NO'}"


def thesis_network(folder: str, **options: object) -> Network:
    """A network of the thesis, which must be there."""
    return load(THESIS / folder / "model.pt", **options)


def measured_networks() -> dict[str, Network]:
    """The two networks that decisions are timed on: the thesis' where they are, else the bundled agent."""
    if THESIS.is_dir():
        return {
            "CartPole DSQN, T=20": thesis_network("CartPole-E(SNN)/trained", steps=20, constant_one=True),
            "CartPole DQN, T=100": thesis_network("CartPole-A/DQN-Converted", steps=100),
        }
    cartpole = load("cartpole")
    return {f"bundled cartpole, T={steps}": dataclasses.replace(cartpole, steps=steps) for steps in (20, 100)}


def observations(network: Network, n: int = 2000) -> np.ndarray:
    """Observations to decide on, [n, n_inputs]: states a CartPole agent met (golden files), else seeded random ones."""
    path = DATA / "golden" / "CartPole-E_DSQN_T20.npz"
    if path.is_file() and network.n_inputs == 4:
        states = np.load(path)["observations"].astype(np.float64)
    else:
        states = np.random.default_rng(0).uniform(-1, 1, (500, network.n_inputs)) * [2.0, 2.0, 0.2, 2.0]
    return np.resize(states, (n, network.n_inputs))


def machine() -> str:
    """One line on what this ran on."""
    return f"{platform.machine()}, Python {platform.python_version()}, {platform.system()}"

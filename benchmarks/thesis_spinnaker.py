"""The thesis' SpiNNaker results, table 4.14, run again: under its settings, and as the same networks are at their best.

    python benchmarks/thesis_spinnaker.py [--students FOLDER] [--only settings converted students board windows]

`settings`: the thesis' neurons (table B.6) on `spinnaker-ifcurdelta`; agreement with the network that each came from
(the conventional one of converted networks, its own software dynamics for a DSQN), in stored states and on policy.
`converted`: the same networks on `spinnaker-converted`. `students`: what each network came from, distilled for the
decision circuit of `spinnaker-live`. `windows`: agreement against the length of the window.

All that is asked of the twins, which compute what a board does; `board` compares them with a virtual board, the shipped
firmware on emulated cores. About twenty minutes, half of them for the students; with --students they are kept in a
folder, and taken from there the next time.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from common import DATA, THESIS, machine, show, thesis_network
from spikeloop.bridges.environments import GymnasiumEnvironment
from spikeloop.models import Network, load, save
from spikeloop.runtime import Agent, launch, run_episodes
from spikeloop.training import distil
from thesis import Conventional

TWIN = {"target": "spinnaker-twin"}
GROUPS, EPISODES = 6, 5  # the thesis ran five episodes; six times that shows what five are worth
MOST_STEPS = 500
WIDER = "input_bits=8"
TICKS = (100, 400, 1600, 6400)


@dataclass(frozen=True)
class Row:
    """One network of table 4.14; the thesis' figures are by T: (agreement %, return)."""

    name: str
    env: str
    folder: str
    origin: str  # the conventional network; "" where the spiking network was trained itself
    states: str  # its golden file
    thesis: dict[int, tuple[float, float]]

    @property
    def found(self) -> bool:
        """Whether its files are here."""
        return (THESIS / self.folder / "model.pt").is_file()

    def network(self, steps: int) -> Network:
        """The spiking network."""
        return thesis_network(self.folder, steps=steps, constant_one=not self.origin)

    def came_from(self) -> Conventional | Agent:
        """What it should decide as."""
        if self.origin:
            return Conventional(thesis_network(self.origin, steps=1))
        return launch(self.network(min(self.thesis)), "reference")

    def golden(self) -> np.ndarray:
        """500 stored states."""
        return np.load(DATA / "golden" / f"{self.states}.npz")["observations"].astype(np.float64)

    def wanted(self, states: np.ndarray) -> np.ndarray:
        """Actions in these states."""
        origin = self.came_from()
        if isinstance(origin, Agent):
            return np.asarray(origin.decide(states).action)
        return np.array([origin.decide(state).action for state in states])


CARTPOLE, MOUNTAINCAR = "CartPole-v1", "MountainCar-v0"
CONVERTED = [
    Row("DQN direct", CARTPOLE, "CartPole-A/DQN-Converted", "CartPole-A/DQN/trained", "CartPole-A_DQN-Converted_T100",
        {100: (61.61, 42.2), 500: (58.58, 33.8), 5000: (56.52, 18.4)}),
    Row("DQN indirect", CARTPOLE, "CartPole-A/Classifier-Converted", "CartPole-A/Classifier/trained",
        "CartPole-A_Classifier-Converted_T100", {100: (90.71, 174.4), 500: (93.41, 188.2)}),
    Row("PG direct", CARTPOLE, "CartPole-PolicyGradient/converted", "CartPole-PolicyGradient/trained",
        "CartPole-PolicyGradient_converted_T100", {100: (87.24, 500.0), 500: (83.80, 489.0)}),
]  # fmt: skip
ROWS = [
    *CONVERTED,
    Row("DSQN", CARTPOLE, "CartPole-E(SNN)/trained", "", "CartPole-E_DSQN_T20", {20: (74.25, 288.2)}),
    Row("DQN direct", MOUNTAINCAR, "MountainCar-A/DQN-Converted", "-", "", {100: (19.36, -500.0), 500: (16.42, -227.8)}),
    Row("DQN indirect", MOUNTAINCAR, "MountainCar-A/Classifier-Converted", "-", "",
        {100: (78.90, -399.0), 500: (96.53, -230.8)}),
    Row("DSQN", MOUNTAINCAR, "MountainCar-E(SNN)/trained", "", "MountainCar-E_DSQN_T20", {20: (36.66, -220.4)}),
]  # fmt: skip


def agreement(network: Network, row: Row, profile: str, settings: dict[str, object] | None = None) -> float:
    """In the stored states, per cent."""
    states = row.golden()
    with launch(network, profile, settings=TWIN | (settings or {})) as agent:
        return 100 * float(np.mean(np.asarray(agent.decide(states).action) == row.wanted(states)))


def on_policy(network: Network, row: Row, profile: str, settings: dict[str, object]) -> tuple[str, str]:
    """Agreement per cent and mean return of all episodes, each with the range of groups of five."""
    agreed, compared, returns = [], [], []
    with launch(network, profile, settings=TWIN | settings) as agent, row.came_from_closed() as origin:
        for group in range(GROUPS):
            with GymnasiumEnvironment(row.env, n_inputs=agent.n_inputs, max_episode_steps=MOST_STEPS) as environment:
                result = run_episodes(
                    environment, agent, episodes=EPISODES, seed=group * EPISODES, reference=origin
                )
            agreed.append(result.agreed)
            compared.append(result.compared)
            returns.append(float(np.mean(result.returns)))
    shares = 100 * np.array(agreed) / np.array(compared)
    total = 100 * sum(agreed) / sum(compared)
    return (
        f"{total:.1f} [{shares.min():.1f}, {shares.max():.1f}]",
        f"{np.mean(returns):.0f} [{min(returns):.0f}, {max(returns):.0f}]",
    )

"""What all tables are measured by: stored states, whole episodes, causes; and how they are printed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from common import machine, show
from spikeloop.bridges.environments import GymnasiumEnvironment
from spikeloop.deploy.mapping import plan
from spikeloop.hardware_profiles import load_profile
from spikeloop.hardware_profiles.profile import Profile
from spikeloop.models import Network
from spikeloop.runtime import Agent, launch, run_episodes
from spikeloop.runtime.agent import Decider
from spikeloop.runtime.fidelity.attribution import attribute
from spikeloop.runtime.fidelity.report import Attribution, Record

from .tables import Row

MOST_STEPS = 500  # of an episode, in both environments
LONG = 1000  # windows from here on are measured on a tenth of the states and a quarter of the episodes
WIDTH = 250
# In this order, where a row has them.
FIRST = (
    "environment",
    "network",
    "neuron",
    "T ",
    "thesis % ",
    "thesis return ",
    "stored % ",
    "on policy % ",
    "return ",
)
ABSENT = "files absent"

Cells = dict[str, str]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured. `groups` of `episodes` each: their spread says what so many episodes are worth."""

    episodes: int = 20
    groups: int = 3
    states: int = 500
    board: int = 20
    most_steps: int = MOST_STEPS

    @property
    def described(self) -> str:
        """In words."""
        return f"{self.groups} x {self.episodes} episodes, a quarter of them at T = 5000; in brackets the groups."

    @classmethod
    def quick(cls) -> Effort:
        """Enough to see every row run."""
        return cls(episodes=1, groups=2, states=20, board=2, most_steps=20)

    def chosen(self, states: np.ndarray, steps: int) -> np.ndarray:
        """As many of the states as are asked about in windows of so many steps, evenly picked."""
        n = min(len(states), max(1, self.states // (10 if steps >= LONG else 1)))
        return states[np.linspace(0, len(states) - 1, n).astype(int)]

    def episodes_of(self, steps: int) -> int:
        """Episodes in each group."""
        return max(1, self.episodes // (4 if steps >= LONG else 1))


def progress(text: str) -> None:
    """One line on what is being measured."""
    print(text, file=sys.stderr, flush=True)


def spread(total: float, each: Sequence[float], digits: int) -> str:
    """A figure with the range of its groups."""
    return f"{total:.{digits}f} [{min(each):.{digits}f}, {max(each):.{digits}f}]"


def driven(decider: Decider, origin: Decider | None, env: str, effort: Effort, steps: int) -> tuple[str, str]:
    """Agreement with the origin per cent, and mean return, of whole episodes; "" and the return without an origin."""
    agreed, compared, returns = [], [], []
    episodes = effort.episodes_of(steps)
    for group in range(effort.groups):
        with GymnasiumEnvironment(env, max_episode_steps=effort.most_steps) as environment:
            ran = run_episodes(environment, decider, episodes=episodes, seed=1000 * group, reference=origin)
        agreed.append(ran.agreed)
        compared.append(ran.compared)
        returns.append(float(np.mean(ran.returns)))
    returned = spread(float(np.mean(returns)), returns, 0)
    if origin is None:
        return "", returned
    shares = (100 * np.array(agreed) / np.array(compared)).tolist()
    return spread(100 * sum(agreed) / sum(compared), shares, 1), returned


def record(agent: Agent, states: np.ndarray) -> Record:
    """What an agent does with the states [n, n_inputs]."""
    decision = agent.decide(states, spikes=True)
    return Record(np.asarray(decision.action), decision.output, decision.rasters or (), np.zeros(len(states)))


def agreement(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Equal actions, per cent."""
    return 100 * float(np.mean(ours == theirs))


def attributed(network: Network, profile: Profile | str, states: np.ndarray, given: Record | None) -> Attribution:
    """What each departure of the profile costs, of the agreement with the network's own dynamics."""
    with launch(network, "reference") as reference:
        expected = np.asarray(reference.decide(states).action)
    return attribute(plan(network, load_profile(profile)), states, expected, given)


def causes(network: Network, profile: Profile | str, states: np.ndarray, given: Record | None = None) -> str:
    """The causes as one cell: the points that each costs of the agreement with the network's own dynamics.

    "unexplained": decisions that are not as simulated with all causes; of a random target, whose decisions cannot be
    compared one by one, the points by which the agreement is lower than simulated.
    """
    found = attributed(network, profile, states, given)
    largest = sorted(found.causes, key=lambda cause: -abs(cause.points))
    words = [f"{cause.kind} {cause.points:+.1f}" for cause in largest if abs(cause.points) >= 0.05]
    if given is not None and found.stochastic:
        with launch(network, "reference") as reference:
            share = agreement(given.actions, np.asarray(reference.decide(states).action))
        words.append(f"unexplained {100 * found.together - share:+.1f} (random)")
    elif given is not None:
        words.append(f"unexplained {found.unexplained_flips}")
    return ", ".join(words)


def described(row: Row) -> Cells:
    """The first cells of a row: what it is of, and what the thesis states."""
    return {
        "environment": row.env.split("-")[0],
        "network": row.network,
        "neuron": row.neuron,
        "T ": str(row.steps or ""),
        "thesis % ": "" if row.share is None else f"{row.share:.1f}",
        "thesis return ": f"{row.mean:.0f} ({row.deviation:.0f})",
    }


def printed(title: str, rows: Sequence[Cells], note: str) -> list[Cells]:
    """Print rows whose cells may be missing, and give them back."""
    given = list(dict.fromkeys(name for row in rows for name in row))
    columns = [name for name in FIRST if name in given and FIRST[0] in given]
    columns += [name for name in given if name not in columns]
    cells = [tuple(row.get(name, "") for name in columns) for row in rows]
    show(title, columns, cells, f"{note} {machine()}", width=WIDTH)
    return [{name.strip(): value for name, value in row.items()} for row in rows]

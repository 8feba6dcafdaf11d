"""The thesis' NEST results, run again: its networks and settings, on policy, beside the exact profile.

Each row drives CartPole-v1 with the deployed network and compares every decision with the network it came from: the
conventional one for converted networks, the spiking software network for the directly trained one. Return and
agreement are over 20 episodes for each of three seeds; the interval is the spread over the seeds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from common import machine, show, thesis_network
from spikeloop.bridges.environments import GymnasiumEnvironment
from spikeloop.models import Network
from spikeloop.runtime import Agent, Decision, Timings, launch, run_episodes

EPISODES, SEEDS = 20, (0, 1000, 2000)


class Conventional:
    """A conventional network (ReLU between its layers) that decides by its largest output."""

    def __init__(self, network: Network) -> None:
        self._layers = network.layers

    def reset(self, *, seed: int | None = None) -> None:
        """Nothing to reset."""

    def decide(self, observation: object, *, spikes: bool = False) -> Decision:
        values = np.asarray(observation, dtype=np.float64)
        for layer in self._layers[:-1]:
            values = np.maximum(values @ layer.weights + layer.bias, 0.0)
        values = values @ self._layers[-1].weights + self._layers[-1].bias
        return Decision(int(values.argmax()), values, Timings())

    def close(self) -> None:
        """Nothing to close."""


@dataclass(frozen=True)
class Row:
    """One comparison; the thesis' figures are (agreement %, return), None where it gives none."""

    name: str
    folder: str
    origin: str  # the conventional network; "" compares with the software spiking network
    steps: int
    profile: str
    thesis: tuple[float, float | None] | None = None
    constant_one: bool = False


DQN = ("CartPole-A/DQN-Converted", "CartPole-A/DQN/trained")
PG = ("CartPole-PolicyGradient/converted", "CartPole-PolicyGradient/trained")
DSQN = ("CartPole-E(SNN)/trained", "")
ROWS = [
    Row("converted DQN", *DQN, 100, "nest-iaf_psc_delta", (58.88, 102.75)),
    Row("converted DQN", *DQN, 100, "nest-pp_psc_delta", (78.10, 318.0)),
    Row("converted DQN", *DQN, 100, "reference", (60.69, None)),
    Row("converted DQN", *DQN, 100, "nest-exact"),
    Row("converted DQN", *DQN, 500, "nest-iaf_psc_delta", (60.53, None)),
    Row("converted DQN", *DQN, 500, "nest-exact"),
    Row("converted policy gradient", *PG, 100, "nest-iaf_psc_delta", (88.70, 463.0)),
    Row("converted policy gradient", *PG, 100, "nest-exact"),
    Row("DSQN", *DSQN, 20, "nest-iaf_psc_delta", (67.59, 500.0), constant_one=True),
    Row("DSQN", *DSQN, 20, "nest-exact", constant_one=True),
]


def measure(row: Row) -> tuple[str, ...]:
    """One row of the table."""
    network = thesis_network(row.folder, steps=row.steps, constant_one=row.constant_one)
    agreements, returns = [], []
    for seed in SEEDS:
        origin: Conventional | Agent = (
            Conventional(thesis_network(row.origin, steps=1)) if row.origin else launch(network, "reference")
        )
        with (
            launch(network, row.profile, seed=seed) as agent,
            GymnasiumEnvironment("CartPole-v1", n_inputs=network.n_inputs, n_actions=network.n_outputs) as environment,
        ):
            result = run_episodes(environment, agent, episodes=EPISODES, seed=seed, reference=origin)
        agreements.append(100 * result.agreement)
        returns.append(np.mean(result.returns))
    thesis_agreement, thesis_return = row.thesis or (None, None)
    return (
        row.name,
        str(row.steps),
        row.profile,
        "" if thesis_agreement is None else f"{thesis_agreement:.1f}",
        f"{np.mean(agreements):.1f} [{min(agreements):.1f}, {max(agreements):.1f}]",
        "" if thesis_return is None else f"{thesis_return:.0f}",
        f"{np.mean(returns):.0f} [{min(returns):.0f}, {max(returns):.0f}]",
    )


def main() -> None:
    """Print the table."""
    show(
        f"On policy, CartPole-v1, {len(SEEDS)} x {EPISODES} episodes: agreement with the origin, and return",
        ["network", "T ", "profile", "thesis % ", "here % [seeds]", "thesis return ", "here [seeds]"],
        [measure(row) for row in ROWS],
        f"{machine()}. Origin: the conventional network; for the DSQN its own software dynamics.",
    )


if __name__ == "__main__":
    main()

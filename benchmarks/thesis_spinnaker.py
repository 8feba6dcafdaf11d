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
from spikeloop.models import Network, Neuron, load, save
from spikeloop.runtime import Agent, launch, run_episodes
from spikeloop.training import distil
from thesis import Conventional

Settings = dict[str, str | float]
TWIN: Settings = {"target": "spinnaker-twin"}
GROUPS, EPISODES = 6, 5  # the thesis ran five episodes; six times that shows what five are worth
MOST_STEPS = 500
STUDENT: Settings = {"input_bits": 8}
TICKS = (100, 400, 1600, 6400)
WAYS = ("software, reset by subtraction", "software, reset to zero", "spinnaker-ifcurdelta", "spinnaker-converted")
BOARD_DECISIONS = {"spinnaker-ifcurdelta": 20, "spinnaker-converted": 10, "spinnaker-live": 200}


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
    Row("DQN direct", MOUNTAINCAR, "MountainCar-A/DQN-Converted", "-", "",
        {100: (19.36, -500.0), 500: (16.42, -227.8)}),
    Row("DQN indirect", MOUNTAINCAR, "MountainCar-A/Classifier-Converted", "-", "",
        {100: (78.90, -399.0), 500: (96.53, -230.8)}),
    Row("DSQN", MOUNTAINCAR, "MountainCar-E(SNN)/trained", "", "MountainCar-E_DSQN_T20", {20: (36.66, -220.4)}),
]  # fmt: skip


def agreement(network: Network, row: Row, profile: str, settings: Settings) -> float:
    """In the stored states, per cent."""
    states = row.golden()
    with launch(network, profile, settings=TWIN | settings) as agent:
        return 100 * float(np.mean(np.asarray(agent.decide(states).action) == row.wanted(states)))


def on_policy(network: Network, row: Row, profile: str, settings: Settings) -> tuple[str, str]:
    """Agreement per cent and mean return of all episodes, each with the range of groups of five."""
    agreed, compared, returns = [], [], []
    origin = row.came_from()
    with launch(network, profile, settings=TWIN | settings) as agent:
        for group in range(GROUPS):
            with GymnasiumEnvironment(row.env, n_inputs=agent.n_inputs, max_episode_steps=MOST_STEPS) as environment:
                result = run_episodes(environment, agent, episodes=EPISODES, seed=group * EPISODES, reference=origin)
            agreed.append(result.agreed)
            compared.append(result.compared)
            returns.append(float(np.mean(result.returns)))
    shares = 100 * np.array(agreed) / np.array(compared)
    total = 100 * sum(agreed) / sum(compared)
    return (
        f"{total:.1f} [{shares.min():.1f}, {shares.max():.1f}]",
        f"{np.mean(returns):.0f} [{min(returns):.0f}, {max(returns):.0f}]",
    )


def described(row: Row, steps: object) -> tuple[str, str, str]:
    """The first columns of a table."""
    return row.env.split("-")[0], row.name, str(steps)


def settings() -> None:
    """Table 4.14 under the thesis' settings."""
    table = []
    for row in ROWS:
        for steps, (share, total) in row.thesis.items():
            head = (*described(row, steps), f"{share:.1f}")
            if not row.found:
                table.append((*head, "files absent", "", f"{total:.0f}", ""))
                continue
            network = row.network(steps)
            stored = agreement(network, row, "spinnaker-ifcurdelta", {})
            here, returned = on_policy(network, row, "spinnaker-ifcurdelta", {})
            table.append((*head, f"{stored:.1f}", here, f"{total:.0f}", returned))
    columns = ["environment", "network", "T ", "thesis % ", "stored % ", "on policy % ", "thesis return ", "return "]
    note = f"{GROUPS} x {EPISODES} episodes of at most {MOST_STEPS} steps; in brackets the range over groups of five. "
    note += machine()
    show("Table 4.14 by spinnaker-ifcurdelta: agreement with the origin, and return", columns, table, note)


def converted() -> None:
    """The converted networks at their best."""
    table = []
    for row in CONVERTED:
        network = row.network(100)
        with launch(network, "spinnaker-converted", settings=TWIN) as agent:
            neurons, ms = agent.deployment.neurons, agent.deployment.window.lasts_ms(agent.steps)
        stored = agreement(network, row, "spinnaker-converted", {})
        here, returned = on_policy(network, row, "spinnaker-converted", {})
        table.append((*described(row, agent.steps), f"{ms:.0f}", neurons, f"{stored:.1f}", here, returned))
    columns = ["environment", "network", "T ", "board ms ", "neurons ", "stored % ", "on policy % ", "return "]
    show(
        "Converted networks by spinnaker-converted: agreement with the conventional network", columns, table, machine()
    )


def student(row: Row, folder: Path) -> Network:
    """What the row's network came from, distilled for the decision circuit; kept in `folder`."""
    name = f"{row.env}-{row.name}".lower().replace(" ", "-")
    path = folder / f"{name}.spk"
    if not path.is_file():
        if row.origin:
            teacher = THESIS / row.origin / "model.pt"
        else:
            teacher = folder / f"{name}-teacher.spk"
            save(row.network(min(row.thesis)), teacher)
        given = distil.Settings(
            env=row.env,
            for_="spinnaker-live",
            set_=tuple(f"{key}={value}" for key, value in (TWIN | STUDENT).items()),
            teacher=str(teacher),
            hidden=(32, 32),
            updates=3000,
            verify=False,
        )
        save(distil.train(given), path)
    return load(path)


def students(folder: Path) -> None:
    """What the networks came from, on the decision circuit."""
    table = []
    for row in ROWS:
        if not row.found:
            continue
        network = student(row, folder)
        stored = agreement(network, row, "spinnaker-live", STUDENT)
        here, returned = on_policy(network, row, "spinnaker-live", STUDENT)
        with launch(network, "spinnaker-live", settings=TWIN | STUDENT) as agent:
            ms = agent.deployment.window.lasts_ms(agent.steps)
        table.append((*described(row, network.steps), f"{ms:.0f}", f"{stored:.1f}", here, returned))
    columns = ["environment", "origin", "T ", "board ms ", "stored % ", "on policy % ", "return "]
    show("Distilled for spinnaker-live (32 and 32 hidden neurons, 8 bits): agreement with the teacher", columns, table,
         machine())  # fmt: skip


def board(folder: Path) -> None:
    """The twin of each network against a virtual board."""
    table = []
    for row in ROWS:
        if not row.found:
            continue
        networks = {
            "spinnaker-ifcurdelta": (row.network(min(row.thesis)), {}),
            "spinnaker-live": (student(row, folder), STUDENT),
        }
        if row.origin:
            networks["spinnaker-converted"] = row.network(100), {}
        for profile, (network, given) in networks.items():
            states = row.golden()
            states = states[np.linspace(0, len(states) - 1, BOARD_DECISIONS[profile]).astype(int)]
            with launch(network, profile, settings=TWIN | given) as twin:
                expected = twin.decide(states)
            with launch(network, profile, settings={"target": "spinnaker-virtual"} | given) as agent:
                found = [agent.decide(state) for state in states]
            same = sum(np.array_equal(one.output, output) for one, output in zip(found, expected.output, strict=True))
            table.append((*described(row, network.steps), profile, f"{same} of {len(states)}"))
    columns = ["environment", "network", "T ", "profile", "outputs as the twin's, to the bit "]
    show("The virtual board (the shipped firmware on emulated cores) against the twin", columns, table, machine())


def windows() -> None:
    """Agreement in the stored states against the window's length."""
    table = []
    for ticks in TICKS:
        cells: dict[str, list[str]] = {name: [] for name in WAYS}
        for row in CONVERTED:
            network = row.network(100)
            longer = replace(network, steps=ticks)
            states, wanted = row.golden(), row.wanted(row.golden())
            for way, neuron in zip(WAYS, (longer.neuron, Neuron(reset="zero")), strict=False):
                with launch(replace(longer, neuron=neuron), "reference") as agent:
                    cells[way].append(f"{100 * np.mean(agent.decide(states).action == wanted):.1f}")
            cells["spinnaker-ifcurdelta"].append(f"{agreement(longer, row, 'spinnaker-ifcurdelta', {}):.1f}")
            given: Settings = {"step_ms": float(ticks // network.steps)}
            cells["spinnaker-converted"].append(f"{agreement(network, row, 'spinnaker-converted', given):.1f}")
        table += [(ticks, name, *values) for name, values in cells.items()]
    columns = ["ticks = board ms ", "dynamics", *(f"{row.name} % " for row in CONVERTED)]
    note = f"Software: the conversion's own dynamics, with either reset. 500 stored states each. {machine()}"
    show("Agreement with the conventional network, by window", columns, table, note)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--students", type=Path, help="a folder in which distilled networks are kept")
    names = ("settings", "converted", "students", "board", "windows")
    parser.add_argument("--only", choices=names, nargs="+", default=names)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.students or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        tables = {"settings": settings, "converted": converted, "students": lambda: students(folder)}
        tables |= {"board": lambda: board(folder), "windows": windows}
        for name in given.only:
            tables[name]()


if __name__ == "__main__":
    main()

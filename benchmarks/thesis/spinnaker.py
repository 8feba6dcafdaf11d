"""Table 4.14: the thesis' networks on SpiNNaker, under its settings, and distilled for the decision circuit.

All that is asked of the twins, which compute what a board does, and in a sample of decisions of a virtual board: the
shipped firmware on emulated cores. `converted`, `windows` and `board` print further tables.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from common import THESIS
from spikeloop.hardware_profiles import load_profile
from spikeloop.models import Network, Neuron, load, save
from spikeloop.runtime import launch
from spikeloop.training import distil

from .networks import CONVERTED, PUBLISHED, SOURCES, Source, sources
from .running import ABSENT, Cells, Effort, agreement, causes, described, driven, printed, progress, record
from .tables import TABLES, Row

Settings = dict[str, str | float]
TWIN: Settings = {"target": "spinnaker-twin"}
BOARD: Settings = {"target": "spinnaker-virtual"}
STUDENT: Settings = {"input_bits": 8}
TICKS = (100, 400, 1600, 6400)
WAYS = ("software, reset by subtraction", "software, reset to zero", "spinnaker-ifcurdelta", "spinnaker-converted")
NOTE = (
    "%: agreement with the network that each came from. student: what the network came from, distilled for "
    "spinnaker-live, and its agreement with that. board: decisions of the student on the virtual board that are the "
    "twin's. conversion: points that the network's own dynamics lose against the conventional network. causes: points "
    "of the agreement with its own dynamics."
)


def table(effort: Effort, folder: Path) -> list[Cells]:
    """Print table 4.14."""
    rows = []
    for row in TABLES["4.14"]:
        for source in sources(row.env, row.network):
            progress(f"table 4.14: {row.env}, {source.name}, T={row.steps}")
            rows.append(described(row) | {"network": source.name} | measured(row, source, effort, folder))
            progress(f"  {rows[-1]}")
    return printed("Table 4.14: on SpiNNaker, settings: spinnaker-ifcurdelta", rows, f"{effort.described} {NOTE}")


def measured(row: Row, source: Source, effort: Effort, folder: Path) -> Cells:
    """Our figures of one row."""
    if not source.found:
        return {"stored % ": ABSENT}
    network, profile = source.network(row.steps), load_profile("spinnaker-ifcurdelta", TWIN)
    states, origin = effort.chosen(source.golden(), row.steps), source.came_from(row.steps)
    with launch(network, profile) as agent:
        deployed = record(agent, states)
        share, returned = driven(agent, origin, row.env, effort, row.steps)
    found = {
        "stored % ": f"{agreement(deployed.actions, np.asarray(origin.decide(states).action)):.1f}",
        "on policy % ": share,
        "return ": returned,
    }
    if SOURCES.get((source.env, source.name)) is source:
        found |= circuit(source, row.steps if not source.origin else 100, effort, folder)
    if source.origin:
        with launch(network, "reference") as reference:
            own = np.asarray(reference.decide(states).action)
        lost = 100 - agreement(own, np.asarray(origin.decide(states).action))
        found["conversion "] = f"{lost:.1f}"
    return found | {"causes": causes(network, profile, states, deployed)}


@cache
def circuit(source: Source, steps: int, effort: Effort, folder: Path) -> Cells:
    """What the network came from, on the decision circuit."""
    network, origin = student(source, steps, folder), source.came_from(steps)
    states = effort.chosen(source.golden(), steps)
    with launch(network, "spinnaker-live", settings=TWIN | STUDENT) as agent:
        twin = np.asarray(agent.decide(states).action)
        share, returned = driven(agent, origin, source.env, effort, steps)
    some = np.linspace(0, len(states) - 1, min(effort.board, len(states))).astype(int)
    with launch(network, "spinnaker-live", settings=BOARD | STUDENT) as agent:
        same = sum(int(agent.decide(states[i]).action) == twin[i] for i in some)
    return {
        "student: stored % ": f"{agreement(twin, np.asarray(origin.decide(states).action)):.1f}",
        "student: on policy % ": share,
        "student: return ": returned,
        "board ": f"{same} of {len(some)}",
    }


def student(source: Source, steps: int, folder: Path) -> Network:
    """What the network came from, distilled for the decision circuit; kept in `folder`."""
    name = f"{source.env}-{source.name}".lower().replace(" ", "-")
    path = folder / f"{name}.spk"
    if not path.is_file():
        if source.origin:
            teacher = THESIS / source.origin / "model.pt"
        else:
            teacher = folder / f"{name}-teacher.spk"
            save(source.network(steps), teacher)
        progress(f"distilling {name}")
        given = distil.Settings(
            env=source.env,
            for_="spinnaker-live",
            set_=tuple(f"{key}={value}" for key, value in (TWIN | STUDENT).items()),
            teacher=str(teacher),
            hidden=(32, 32),
            updates=3000,
            verify=False,
        )
        save(distil.train(given), path)
    return load(path)


def _stored(network: Network, source: Source, profile: str, settings: Settings) -> str:
    states = source.golden()
    wanted = np.asarray(source.came_from(network.steps).decide(states).action)
    with launch(network, profile, settings=TWIN | settings) as agent:
        return f"{agreement(np.asarray(agent.decide(states).action), wanted):.1f}"


def converted(effort: Effort) -> list[Cells]:
    """Print the converted networks at their best."""
    rows = []
    for source in (*CONVERTED, PUBLISHED):
        if not source.found:
            continue
        progress(f"spinnaker-converted: {source.name}")
        network = source.network(100)
        with launch(network, "spinnaker-converted", settings=TWIN) as agent:
            neurons, ms = agent.deployment.neurons, agent.deployment.window.lasts_ms(agent.steps)
            share, returned = driven(agent, source.came_from(100), source.env, effort, 100)
        rows.append(
            {
                "network": source.name,
                "T ": "100",
                "board ms ": f"{ms:.0f}",
                "neurons ": str(neurons),
                "stored % ": _stored(network, source, "spinnaker-converted", {}),
                "on policy % ": share,
                "return ": returned,
            }
        )
    title = "Converted networks by spinnaker-converted: agreement with the conventional network"
    return printed(title, rows, effort.described)


def windows() -> list[Cells]:
    """Print agreement in the stored states against the window's length."""
    rows = []
    for ticks in TICKS:
        progress(f"windows: {ticks} ms")
        cells: dict[str, Cells] = {way: {"ticks = board ms ": str(ticks), "dynamics": way} for way in WAYS}
        for source in (*CONVERTED, PUBLISHED):
            if not source.found:
                continue
            network, column = source.network(100), f"{source.name} % "
            longer = replace(network, steps=ticks)
            states = source.golden()
            wanted = np.asarray(source.came_from(100).decide(states).action)
            for way, neuron in zip(WAYS, (longer.neuron, Neuron(reset="zero")), strict=False):
                with launch(replace(longer, neuron=neuron), "reference") as agent:
                    cells[way][column] = f"{agreement(np.asarray(agent.decide(states).action), wanted):.1f}"
            cells["spinnaker-ifcurdelta"][column] = _stored(longer, source, "spinnaker-ifcurdelta", {})
            given: Settings = {"step_ms": float(ticks // network.steps)}
            cells["spinnaker-converted"][column] = _stored(network, source, "spinnaker-converted", given)
        rows += cells.values()
    note = "Software: the conversion's own dynamics, with either reset. 500 stored states each."
    return printed("Agreement with the conventional network, by window", rows, note)


def board(effort: Effort, folder: Path) -> list[Cells]:
    """Print how often a virtual board's outputs are the twin's to the bit."""
    rows = []
    for source in (*SOURCES.values(), PUBLISHED):
        if not source.found:
            continue
        steps = 100 if source.origin else 20
        networks: dict[str, tuple[Network, Settings, int]] = {
            "spinnaker-ifcurdelta": (source.network(steps), {}, 1),
        }
        if source is not PUBLISHED:
            networks["spinnaker-live"] = student(source, steps, folder), STUDENT, 10
        if source.origin:
            networks["spinnaker-converted"] = source.network(100), {}, 1
        for profile, (network, given, times) in networks.items():
            progress(f"board: {source.name}, {profile}")
            states = source.golden()
            states = states[np.linspace(0, len(states) - 1, min(len(states), effort.board * times)).astype(int)]
            with launch(network, profile, settings=TWIN | given) as twin:
                expected = twin.decide(states)
            with launch(network, profile, settings=BOARD | given) as agent:
                found = [agent.decide(state) for state in states]
            same = sum(np.array_equal(one.output, output) for one, output in zip(found, expected.output, strict=True))
            rows.append(
                {
                    "environment": source.env.split("-")[0],
                    "network": source.name,
                    "T ": str(network.steps),
                    "profile": profile,
                    "outputs as the twin's, to the bit ": f"{same} of {len(states)}",
                }
            )
    return printed("The virtual board (the shipped firmware on emulated cores) against the twin", rows, "")

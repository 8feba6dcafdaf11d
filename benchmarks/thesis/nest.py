"""Tables 4.12 and 4.13: the thesis' networks on NEST, under its settings and under the exact profile."""

from __future__ import annotations

from functools import cache

import numpy as np
from spikeloop.runtime import launch

from .networks import Source, sources
from .running import ABSENT, Cells, Effort, agreement, causes, described, driven, printed, progress, record
from .tables import DSQN, SOFTWARE, TABLES, Row

TITLES = {
    "4.12": "Table 4.12: converted networks in NEST",
    "4.13": "Table 4.13: directly trained networks in NEST",
}
NOTE = (
    "%: agreement with the network that each came from: the conventional one, or a DSQN's own dynamics. "
    "own: agreement of nest-exact with the network's own dynamics. conversion: points that the network's own dynamics "
    "lose against the conventional network. causes: points of the agreement with its own dynamics."
)


def table(name: str, effort: Effort) -> list[Cells]:
    """Print one of the tables."""
    rows = []
    for row in TABLES[name]:
        for source in sources(row.env, row.network):
            progress(f"table {name}: {row.env}, {source.name}, {row.neuron}, T={row.steps}")
            rows.append(described(row) | {"network": _name(row, source)} | measured(row, source, effort))
            progress(f"  {rows[-1]}")
    return printed(TITLES[name], rows, _note(effort))


def measured(row: Row, source: Source, effort: Effort) -> Cells:
    """Our figures of one row."""
    if not source.found:
        return {"stored % ": ABSENT}
    if row.neuron == SOFTWARE:
        decider = source.came_from(row.steps)
        return {"return ": driven(decider, None, row.env, effort, row.steps)[1]}
    network, profile = source.network(row.steps), f"nest-{row.neuron}"
    states, origin = effort.chosen(source.golden(), row.steps), source.came_from(row.steps)
    with launch(network, profile) as agent:
        deployed = record(agent, states)
        share, returned = driven(agent, origin, row.env, effort, row.steps)
    return {
        "stored % ": f"{agreement(deployed.actions, np.asarray(origin.decide(states).action)):.1f}",
        "on policy % ": share,
        "return ": returned,
        **exact(source, row.steps, effort),
        "causes": causes(network, profile, states, deployed),
    }


@cache
def exact(source: Source, steps: int, effort: Effort) -> Cells:
    """The same network under `nest-exact`, and what it lost before it was deployed."""
    network, states = source.network(steps), effort.chosen(source.golden(), steps)
    origin = source.came_from(steps)
    wanted = np.asarray(origin.decide(states).action)
    with launch(network, "reference") as reference:
        own = np.asarray(reference.decide(states).action)
    with launch(network, "nest-exact") as agent:
        actions = np.asarray(agent.decide(states).action)
        share, returned = driven(agent, origin, source.env, effort, steps)
    return {
        "exact: own % ": f"{agreement(actions, own):.1f}",
        "exact: stored % ": f"{agreement(actions, wanted):.1f}",
        "exact: on policy % ": share,
        "exact: return ": returned,
        "conversion ": f"{100 - agreement(own, wanted):.1f}" if source.origin else "",
    }


def _name(row: Row, source: Source) -> str:
    return source.name if row.network == DSQN else row.network


def _note(effort: Effort) -> str:
    states = f"Stored: {effort.states} states, a tenth of them at T = 5000"
    return f"{effort.described} {states}. {NOTE}"

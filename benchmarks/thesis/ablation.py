"""Why the thesis lost fidelity, by ablation: each configuration on NEST, and as the simulation of departures has it.

The thesis' agent read its outputs from a multimeter, whose last value is of one millisecond before the window's end:
the configurations that begin with the thesis' settings do that too (`early`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from common import THESIS
from spikeloop.deploy.deployment import Deployment
from spikeloop.deploy.mapping import open_session, plan
from spikeloop.hardware_profiles import load_profile
from spikeloop.hardware_profiles.profile import DepartureKind, Profile, Value
from spikeloop.models import Network
from spikeloop.runtime import Agent, launch
from spikeloop.runtime.fidelity.attribution import simulate

from .networks import SOURCES, Source
from .running import Cells, Effort, agreement, printed, progress
from .tables import ABLATION, CARTPOLE, DSQN, MOUNTAINCAR

STEPS = 20
SHORT_TICK_MS = 0.1
STATES, DRAW = 1000, 0
EXACT = load_profile("nest-exact")
THESIS_PROFILE = load_profile("nest-iaf_psc_delta")
EVERYTHING = tuple(departure.kind for departure in THESIS_PROFILE.departures)


def subtracting(settings: Mapping[str, Value]) -> Profile:
    """The thesis' settings on NEST's neuron that resets by subtraction."""
    data = THESIS_PROFILE.model_dump()
    parameters = {"C_m": 1.0, "tau_m": 1e10, "E_L": 0.0, "t_ref": 0.0, "V_th": 1.0}
    data["neuron"] = {"model": "eprop_iaf", "reset": "subtract", "parameters": parameters}
    return Profile.model_validate(data).with_settings(settings)


def finer(deployment: Deployment) -> Deployment:
    """An exact deployment at the thesis' time step."""
    tau = SHORT_TICK_MS * 2.0**40  # so that what a tick's decay leaves is a double, as the exact recipe needs it
    populations = tuple(
        replace(one, parameters={**one.parameters, "tau_m": tau, "C_m": 1.0}) if "tau_m" in one.parameters else one
        for one in deployment.populations
    )
    window = replace(deployment.window, resolution_ms=SHORT_TICK_MS)
    return replace(deployment, populations=populations, window=window, exact=False)


def sooner(deployment: Deployment) -> Deployment:
    """An exact deployment with synapses of 1 ms in place of 2."""
    projections = tuple(replace(one, delay_ms=1.0) for one in deployment.projections)
    return replace(deployment, projections=projections, exact=False)


@dataclass(frozen=True, slots=True)
class Configuration:
    """One row.

    Attributes
    ----------
    kinds : kinds
        The departures that the simulation adopts, of the thesis' profile with `settings`.
    early : bool
        Whether the simulation stops one step before the window's end.
    """

    kinds: tuple[DepartureKind, ...]
    early: bool = True
    settings: Mapping[str, Value] = field(default_factory=dict)

    def simulated(self, network: Network, states: np.ndarray) -> np.ndarray:
        """Actions [n] of the simulation."""
        profile = load_profile(THESIS_PROFILE, self.settings)
        return simulate(plan(shortened(network, self.early), profile), self.kinds, states, spikes=False).actions


def shortened(network: Network, early: bool = True) -> Network:
    """The network, read one step before its window's end."""
    return replace(network, steps=network.steps - early)


def without(*kinds: DepartureKind) -> tuple[DepartureKind, ...]:
    """All departures but these."""
    return tuple(kind for kind in EVERYTHING if kind not in kinds)


AT_ONCE = {"input_delay_ms": 0.0}
CONFIGURATIONS = {
    "as in the thesis": Configuration(EVERYTHING),
    "+ resolution 1.0 ms only": Configuration(without("time step")),
    "+ subtraction only": Configuration(without("reset")),
    "+ both": Configuration(without("time step", "reset")),
    "exact, but resolution 0.1 ms": Configuration(("time step",), early=False),
    # The simulation has no kind for a synapse's delay alone: with the input's and the biases' latency gone as well, all
    # of it is one step earlier, and so is the reading.
    "exact, but delay 1 instead of 2": Configuration(("delay",), settings=AT_ONCE),
    "exact, but read one step early": Configuration(()),
}


def deployed(name: str, network: Network) -> Deployment:
    """What NEST gets in a configuration."""
    early = shortened(network)
    return {
        "as in the thesis": lambda: plan(early, THESIS_PROFILE),
        "+ resolution 1.0 ms only": lambda: plan(early, load_profile(THESIS_PROFILE, {"resolution_ms": 1.0})),
        "+ subtraction only": lambda: plan(early, subtracting({})),
        "+ both": lambda: plan(early, subtracting({"resolution_ms": 1.0})),
        "exact, but resolution 0.1 ms": lambda: finer(plan(network, EXACT)),
        "exact, but delay 1 instead of 2": lambda: sooner(plan(network, EXACT)),
        "exact, but read one step early": lambda: plan(early, EXACT),
    }[name]()


def on_nest(deployment: Deployment, states: np.ndarray) -> np.ndarray:
    """Actions [n] of NEST itself."""
    with Agent(deployment, open_session(deployment)) as agent:
        return np.asarray(agent.decide(states).action)


def states_of(source: Source, effort: Effort) -> tuple[np.ndarray, str]:
    """States [n, n_inputs], and which they are: a draw of the replay memory where it is here, else the golden file's.

    CartPole's memory is the DQN's, MountainCar's is not among the data.
    """
    path = THESIS / {CARTPOLE: "CartPole-A/DQN/trained", MOUNTAINCAR: "MountainCar-A/trained"}[source.env]
    path /= "memory_inputs.npz"
    if path.is_file():
        memory = np.load(path)["arr_0"].astype(np.float64)
        # The draw that the ablation was measured in, found by its figures.
        states = memory[np.random.RandomState(DRAW).choice(len(memory), STATES, replace=False)]
        which = f"{STATES} of the replay memory"
    else:
        states, which = source.golden(), "500 stored"
    return (states, which) if effort == Effort.quick() or effort.states >= 500 else (states[: effort.states], which)


def table(effort: Effort) -> list[Cells]:
    """Print the ablation."""
    rows: dict[str, Cells] = {name: {"configuration": name} for name in ABLATION}
    notes = []
    for column, env in enumerate((CARTPOLE, MOUNTAINCAR)):
        source, short = SOURCES[env, DSQN], env.split("-")[0]
        if not source.found:
            notes.append(f"{short}: files absent.")
            continue
        network, (states, which) = source.network(STEPS), states_of(source, effort)
        notes.append(f"{short}: {which} states.")
        with launch(network, "reference") as reference:
            expected = np.asarray(reference.decide(states).action)
        for name, configuration in CONFIGURATIONS.items():
            progress(f"ablation: {short}, {name}")
            simulated = configuration.simulated(network, states)
            actual = on_nest(deployed(name, network), states)
            rows[name] |= {
                f"{short}: stated ": f"{ABLATION[name][column]:.1f}",
                f"{short}: NEST ": f"{agreement(actual, expected):.1f}",
                f"{short}: simulated ": f"{agreement(simulated, expected):.1f}",
            }
    note = f"Agreement in per cent with the networks' own dynamics, T = {STEPS}. {' '.join(notes)}"
    return printed("Why the thesis lost fidelity, by ablation: DSQNs", list(rows.values()), note)

"""One random network of every neuron model, for sPyNNaker on the board and for the fixed-point model beside it.

As a program it is the sPyNNaker side and runs in a process of its own, because sPyNNaker keeps global state::

    python random_network.py DT_MS STEPS combined|split OUT.npz

with a ``.spynnaker.cfg`` in the home directory that names the board. It runs the network, resets it, runs it again in
two parts, and writes v, spikes, ring-buffer shifts and the synapses it reads back. Populations are on combined cores,
as sPyNNaker has them down to 1 ms, or split over neuron and synapse cores, as it has them below.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

SOURCES = 12
LONGEST_DELAY = 40  # in steps


@dataclass(frozen=True)
class PopulationSpec:
    """A population, the size of weights that keeps it busy, and options of sPyNNaker's own."""

    model: str
    n: int
    weight: float
    parameters: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ProjectionSpec:
    """Synapses listed by the host, or, where ``synapses`` is None, made by the machine with a constant weight."""

    pre: str
    post: str
    receptor: str
    synapses: npt.NDArray[np.float64] | None  # columns: source, target, weight, delay in ms
    weight: float = 0.0


@dataclass(frozen=True)
class NetworkSpec:
    dt_ms: float
    steps: int
    source_times: list[npt.NDArray[np.float64]]
    populations: dict[str, PopulationSpec]
    projections: list[ProjectionSpec]


def make(dt_ms: float, steps: int, seed: int = 5) -> NetworkSpec:
    """The same network for the same arguments."""
    rng = np.random.default_rng(seed)

    def each(low: float, high: float, n: int) -> list[float]:
        return [float(x) for x in rng.uniform(low, high, n).round(4)]

    def lif(n: int) -> dict[str, Any]:
        # The first neuron rests at its threshold, exactly
        return {
            "tau_m": each(8.0, 30.0, n),
            "cm": each(0.7, 1.4, n),
            "v_rest": -65.0,
            "v_reset": [-72.0, *each(-72.0, -60.0, n - 1)],
            "v_thresh": [-65.0, *each(-54.0, -48.0, n - 1)],
            "tau_refrac": each(0.0, 4.0, n),
            "i_offset": [0.0, *each(-0.3, 1.0, n - 1)],
            "v": [-65.0, *each(-75.0, -55.0, n - 1)],
        }

    def izhikevich(n: int) -> dict[str, Any]:
        return {
            "a": each(0.02, 0.1, n),
            "b": each(0.18, 0.24, n),
            "c": each(-66.0, -52.0, n),
            "d": each(1.0, 8.0, n),
            "i_offset": each(0.0, 6.0, n),
            "v": each(-75.0, -60.0, n),
            "u": each(-16.0, -12.0, n),
        }

    def taus(n: int) -> dict[str, Any]:
        return {"tau_syn_E": each(1.0, 8.0, n), "tau_syn_I": 5.7}

    reversal = {"e_rev_E": 1.3, "e_rev_I": -81.7}
    # 130 neurons leave the ring buffers 32 slots: longer delays go through a delay extension
    populations = {
        "delta": PopulationSpec("IF_curr_delta", 17, 1.7, lif(17)),
        "exp": PopulationSpec("IF_curr_exp", 130, 0.33, lif(130) | taus(130)),
        "cond": PopulationSpec("IF_cond_exp", 23, 0.009, lif(23) | taus(23) | reversal),
        "izhikevich": PopulationSpec("Izhikevich", 19, 1.3, izhikevich(19) | taus(19)),
        "izhikevich_cond": PopulationSpec("Izhikevich_cond", 13, 0.014, izhikevich(13) | taus(13) | reversal),
        # Its ring buffers shift by 1, so that its weight is 31128.5 units
        "saturating": PopulationSpec(
            "IF_curr_exp", 9, 62257 / 32768, lif(9) | taus(9), {"max_expected_summed_weight": [1.9, 1.9]}
        ),
    }

    def listed(n_pre: int, n_post: int, weight: float, synapses_per_target: float) -> npt.NDArray[np.float64]:
        chosen = np.argwhere(rng.random((n_pre, n_post)) < synapses_per_target / n_pre)
        weights = weight * rng.uniform(0.05, 2.0, len(chosen))
        weights[0] = weight
        delays = dt_ms * rng.integers(1, LONGEST_DELAY + 1, len(chosen))
        return np.column_stack([chosen, weights, delays])

    projections = []
    for name, p in populations.items():
        projections += [
            ProjectionSpec("source", name, "excitatory", listed(SOURCES, p.n, p.weight, 6.0)),
            ProjectionSpec(name, name, "excitatory", None, p.weight),
            ProjectionSpec(name, name, "inhibitory", listed(p.n, p.n, p.weight, 5.0)),
        ]
    names = list(populations)
    for pre, post in zip(names, names[1:] + names[:1], strict=True):
        receptor = "inhibitory" if post in ("cond", "izhikevich") else "excitatory"
        p = populations[post]
        projections.append(ProjectionSpec(pre, post, receptor, listed(populations[pre].n, p.n, p.weight, 4.0)))

    rate_per_step = 0.02
    times = [dt_ms * np.flatnonzero(rng.random(steps) < rate_per_step) for _ in range(SOURCES)]
    return NetworkSpec(dt_ms, steps, times, populations, projections)


def run_with_spynnaker(spec: NetworkSpec, split: bool) -> dict[str, npt.NDArray[Any]]:
    """Everything the comparison needs, by key: ``run0/exp/v``, ``exp/shifts``, ``projection3``."""
    import pyNN.spiNNaker as sim  # noqa: N813
    from spynnaker.pyNN.extra_algorithms import splitter_components

    splitter = getattr(splitter_components, f"SplitterPopulationVertex{'NeuronsSynapses' if split else 'Fixed'}")
    models = {name: getattr(sim, name, None) or getattr(sim.extra_models, name) for name in _models(spec)}
    sim.setup(timestep=spec.dt_ms, min_delay=spec.dt_ms)
    populations = {
        "source": sim.Population(
            len(spec.source_times), sim.SpikeSourceArray([list(t) for t in spec.source_times]), label="source"
        )
    }
    for name, p in spec.populations.items():
        initial = {key: value for key, value in p.parameters.items() if key in ("v", "u")}
        parameters = {key: value for key, value in p.parameters.items() if key not in initial}
        cell = models[p.model](**parameters)
        options = p.options | {"splitter": splitter()}
        populations[name] = sim.Population(p.n, cell, label=name, additional_parameters=options)
        populations[name].initialize(**initial)
        populations[name].record(["v", "spikes"])

    projections = []
    for p in spec.projections:
        if p.synapses is None:
            delay = sim.RandomDistribution("uniform", low=spec.dt_ms, high=LONGEST_DELAY * spec.dt_ms)
            connector = sim.FixedProbabilityConnector(min(1.0, 8.0 / spec.populations[p.post].n))
            synapse = sim.StaticSynapse(weight=p.weight, delay=delay)
        else:
            connector, synapse = sim.FromListConnector(p.synapses), sim.StaticSynapse()
        pre, post = populations[p.pre], populations[p.post]
        projections.append(sim.Projection(pre, post, connector, synapse, receptor_type=p.receptor))

    result: dict[str, npt.NDArray[Any]] = {}
    for run, parts in enumerate([(spec.steps,), (spec.steps // 2 + 3, spec.steps - spec.steps // 2 - 3)]):
        if run:
            sim.reset()
        for part in parts:
            sim.run(round(part * spec.dt_ms, 3))  # a little over a step would be rounded up to one more
        assert np.isclose(sim.get_current_time(), spec.steps * spec.dt_ms)
        for name in spec.populations:
            segment = populations[name].get_data(["v", "spikes"]).segments[-1]
            result[f"run{run}/{name}/v"] = np.asarray(segment.filter(name="v")[0].magnitude)
            trains = [np.rint(np.asarray(t.magnitude) / spec.dt_ms).astype(int) for t in segment.spiketrains]
            result[f"run{run}/{name}/spikes"] = np.array(
                [(step, i) for i, train in enumerate(trains) for step in train], dtype=int
            ).reshape(-1, 2)
    for name in spec.populations:
        result[f"{name}/shifts"] = np.array(populations[name]._vertex.get_ring_buffer_shifts())
    for index, projection in enumerate(projections):
        got = projection.get(["weight", "delay"], "list", with_address=True)
        result[f"projection{index}"] = np.array([tuple(row) for row in got], dtype=float).reshape(-1, 4)
    sim.end()
    return result


def _models(spec: NetworkSpec) -> set[str]:
    return {p.model for p in spec.populations.values()}


if __name__ == "__main__":
    dt_ms, steps, cores, out = sys.argv[1:]
    np.savez(Path(out), **run_with_spynnaker(make(float(dt_ms), int(steps)), cores == "split"))

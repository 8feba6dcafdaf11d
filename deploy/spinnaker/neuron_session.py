"""The mapping "pynn" on a SpiNNaker machine, driven as in the thesis: set i_offset, run, read, reset.

What the shipped firmware needs of whoever drives it:

- After a reset, synapses are skipped unless the steps run before it are a multiple of 16: spikes carry the low 4 bits
  of the step they were sent in, whose counter goes on while the receivers' starts again. So runs are rounded up, and
  what a window asks for is picked from the recordings.
- Recordings hold the potential before a tick's update: the one after k ticks is sample k.
- ``initialize`` has no effect on neurons that run already; only a reset starts them anew.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import TargetError
from ...models.stimulus import Stimulus
from ..backend import Readout, Recording
from ..deployment import Deployment, Population, Projection
from ..single_sample_session import SingleSampleSession
from .machine import Machine
from .neuron_mapping import SHIFTS, FirstLayer, expected_sums
from .neuron_scaling import TRUNCATED, Readings, dense, starts
from .neuron_twin import checked, largest_current

COLOURS = 16
# A synaptic row holds at most 256 synapses.
PER_CORE = 128
NEVER_MS = 1e7


class NeuronSession(SingleSampleSession):
    """A session on SpiNNaker by the mapping "pynn"; see `spikeloop.deploy.backend.Session`.

    Parameters
    ----------
    deployment : Deployment
    seed : int
        Without effect: nothing on the machine is random.

    Raises
    ------
    TargetError
        If the machine cannot be had, or what it holds is not what the plan says.
    """

    _target = "SpiNNaker"

    def __init__(self, deployment: Deployment, seed: int = 0) -> None:
        window = deployment.window
        self._deployment = deployment
        self._network = deployment.network
        self._per_step = round(window.step_ms / window.resolution_ms)
        self._first = FirstLayer(deployment)
        self._readings = Readings(self._network, deployment.profile)
        self._limit = largest_current(deployment.population("layer 0"))
        self._layers = [p for p in deployment.populations if p.role == "neurons"]
        settings = deployment.profile.machine
        self._read_back = settings is None or settings.read_back
        self._recorded: set[tuple[str, str]] = {(self._layers[-1].name, "v")}
        self._with_source = self._network.encoder.kind != "current"
        self._steps = self._ticks = 0
        self._machine: Machine | None = None
        self._open()

    # --- building -------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        """Take the machine, and run once: what cannot be loaded shows now, not with the first decision."""
        self._machine = Machine(self._deployment.profile, resolution_ms=self._deployment.window.resolution_ms)
        try:
            with self._machine.quiet():
                self._build(self._machine.sim)
                self._run(COLOURS)
            if self._read_back:
                self._compare_synapses()
        except BaseException:
            self.close()
            raise

    def _build(self, sim: Any) -> None:
        self._populations: dict[str, Any] = {}
        for model in {population.model for population in self._layers}:
            sim.set_number_of_neurons_per_core(_cell_type(sim, model), PER_CORE)
        for index, population in enumerate(self._layers):
            at = starts(self._network, self._deployment.profile, index)
            self._populations[population.name] = _created(sim, population, at)
        for name, what in self._recorded:
            self._populations[name].record(what)
        if self._with_source:
            # sPyNNaker stumbles over lists that are all empty.
            times = [[NEVER_MS]] * self._network.n_channels
            self._populations["spikes"] = sim.Population(len(times), sim.SpikeSourceArray(times), label="spikes")
        self._projections = [
            (projection, receptor, _connected(sim, self._populations, projection, receptor))
            for projection in self._deployment.projections
            if projection.source in self._populations
            for receptor in ("excitatory", "inhibitory")
            if _synapses(projection, receptor).size
        ]
        self._source_is_silent = True

    def _compare_synapses(self) -> None:
        """Read every synapse back from the machine: sPyNNaker is known to lose some without a word."""
        assert self._machine is not None, "only of a machine that is there"
        for projection, receptor, made in self._projections:
            wanted = _synapses(projection, receptor)
            with self._machine.quiet():
                found = np.array([tuple(row) for row in made.get("weight", "list", with_address=True)]).reshape(-1, 3)
            found = found[np.lexsort((found[:, 1], found[:, 0]))]
            if found.shape != wanted[:, :3].shape or not np.array_equal(found, wanted[:, :3]):
                raise TargetError(
                    f"Of the {len(wanted)} {receptor} synapses from {projection.source} to {projection.target}, the "
                    f"machine holds {len(found)}, or with other weights: it would decide otherwise than planned. Load "
                    "again; --set read_back=false goes on regardless."
                )

    # --- one window -----------------------------------------------------------------------------------------------

    def inject(self, stimulus: Stimulus, recording: Recording = Recording()) -> None:  # noqa: B008  # frozen
        """Reset the machine's simulation, and set the window's input."""
        self._check_inject(stimulus)
        offsets = checked(self._first.offsets(stimulus.currents), self._limit)
        if stimulus.spikes is not None and not self._with_source:
            self._with_source = True
            self._machine_again()
        assert self._machine is not None, "the session is open"
        with self._machine.quiet():
            if self._ticks:
                self._machine.sim.reset()
                self._ticks = 0
            self._record(recording)
            self._populations["layer 0"].set(i_offset=offsets[0].tolist())
            self._schedule(None if stimulus.spikes is None else stimulus.spikes[0])
        self._recording = recording
        self._steps = 0
        self._phase = "open"

    def run(self, steps: int) -> None:
        """Advance by `steps` steps of the Network."""
        self._check_run(steps)
        assert self._machine is not None, "the session is open"
        self._steps += steps
        # One tick more than asked for: its recorded sample is the potential after those before it.
        missing = self._steps * self._per_step + 1 - self._ticks
        if missing > 0:
            with self._machine.quiet():
                self._run(-(-missing // COLOURS) * COLOURS)
        self._phase = "running"

    def read(self) -> Readout:
        """The output layer's potentials, and what was recorded, after the steps run so far."""
        self._check_read()
        assert self._machine is not None, "the session is open"
        recording, fires = self._recording, self._network.output_fires
        with self._machine.quiet():
            last = self._potentials(self._layers[-1])
            layers = range(len(self._layers))
            firing = [index for index in layers if self._layers[index].fires]
            rasters = tuple(self._raster(index) for index in firing) if recording.spikes else None
            traces = tuple(self._trace(index) for index in layers) if recording.potentials else None
            output = self._raster(layers[-1]) if fires else None
        return Readout(self._readings.outputs(last[None, self._steps * self._per_step]), output, rasters, traces)

    def close(self) -> None:
        """Give the machine back."""
        self._phase = "closed"
        machine, self._machine = self._machine, None
        if machine is not None:
            machine.close()

    # --- parts ----------------------------------------------------------------------------------------------------

    def _machine_again(self) -> None:
        assert self._machine is not None, "the session is open"
        self._machine.close()
        self._ticks = 0
        self._open()

    def _run(self, ticks: int) -> None:
        assert self._machine is not None, "the session is open"
        self._machine.sim.run(ticks * self._deployment.window.resolution_ms)
        self._ticks += ticks

    def _record(self, recording: Recording) -> None:
        """Record what is wanted; sPyNNaker maps anew when that grows, and never forgets it."""
        wanted = {(p.name, "v") for p in self._layers if recording.potentials}
        wanted |= {(p.name, "spikes") for p in self._layers if p.fires and recording.spikes}
        if self._network.output_fires:
            wanted.add((self._layers[-1].name, "spikes"))
        for name, what in sorted(wanted - self._recorded):
            self._populations[name].record(what)
        self._recorded |= wanted

    def _schedule(self, spikes: NDArray[np.uint8] | None) -> None:
        """Program input spikes [steps, channels] of the window, or none."""
        if not self._with_source or (spikes is None and self._source_is_silent):
            return
        channels = self._network.n_channels
        ticks: NDArray[Any] = np.empty(channels, dtype=object)
        for channel in range(channels):
            counts = np.zeros(0, dtype=np.uint8) if spikes is None else spikes[:, channel]
            ticks[channel] = np.repeat(np.arange(counts.size) * self._per_step, counts)
        # Not by `set(spike_times=...)`: sPyNNaker 7.4.1 fails there once several neurons are on the machine.
        self._populations["spikes"]._vertex.send_buffer_times = ticks
        self._source_is_silent = spikes is None

    def _potentials(self, population: Population) -> NDArray[np.float64]:
        """[ticks, neurons], each before its tick's update."""
        data = np.asarray(self._populations[population.name].spinnaker_get_data("v"), dtype=np.float64)
        values = np.empty((self._ticks, population.size))
        ticks = np.rint(data[:, 1] / self._deployment.window.resolution_ms).astype(np.int64)
        values[ticks, data[:, 0].astype(np.int64)] = data[:, 2]
        return values

    def _trace(self, layer: int) -> NDArray[np.float64]:
        """After each step of the Network: [1, steps, neurons]."""
        values = self._potentials(self._layers[layer])
        values = values[None, self._per_step : self._steps * self._per_step + 1 : self._per_step]
        return self._readings.traces(layer, values)

    def _raster(self, layer: int) -> NDArray[np.uint8]:
        population = self._layers[layer]
        data = np.asarray(self._populations[population.name].spinnaker_get_data("spikes"), dtype=np.float64)
        counts = np.zeros((1, self._steps, population.size), dtype=np.int64)
        if data.size:
            ticks = np.rint(data[:, 1] / self._deployment.window.resolution_ms).astype(np.int64)
            inside = ticks < self._steps * self._per_step
            where = ticks[inside] // self._per_step, data[inside, 0].astype(np.int64)
            np.add.at(counts[0], where, 1)
        return self._readings.raster(layer, counts)


def _cell_type(sim: Any, model: str) -> Any:
    return sim.extra_models.IFTruncDelta if model == TRUNCATED else sim.extra_models.IFCurDelta


def _created(sim: Any, population: Population, at: NDArray[np.float64]) -> Any:
    parameters = dict(population.parameters)
    options = {"max_expected_summed_weight": expected_sums(parameters.pop(SHIFTS))}
    cell = _cell_type(sim, population.model)(**parameters)
    made = sim.Population(population.size, cell, label=population.name, additional_parameters=options)
    made.initialize(v=at.tolist())
    assert population.constant_input is not None, "the plan states the constant input of its neurons"
    made.set(i_offset=population.constant_input.tolist())
    return made


def _synapses(projection: Projection, receptor: str) -> NDArray[np.float64]:
    """[synapses, (pre, post, weight, delay)], in the order that sPyNNaker's connector needs: by pre, then by post."""
    weights = dense(projection.weights) * (1.0 if receptor == "excitatory" else -1.0)
    chosen = np.argwhere(weights > 0)
    values = weights[chosen[:, 0], chosen[:, 1]]
    return np.column_stack([chosen, values, np.full(len(chosen), projection.delay_ms)])


def _connected(sim: Any, populations: dict[str, Any], projection: Projection, receptor: str) -> Any:
    connector = sim.FromListConnector(_synapses(projection, receptor))
    source, target = populations[projection.source], populations[projection.target]
    return sim.Projection(source, target, connector, sim.StaticSynapse(), receptor_type=receptor)

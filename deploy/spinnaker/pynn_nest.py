"""The target "pynn-nest": the mapping "pynn" through PyNN on NEST, in this process.

PyNN builds the network, sets its parameters and runs it. Between windows its ``reset`` is not used: on NEST it refuses,
or leaves spikes in flight. Instead every neuron is held far below its threshold until nothing of the window before is
left, by the status calls of NEST, and potentials are set to their start values by the same.

PyNN's ``IF_curr_delta`` is NEST's ``iaf_psc_delta`` in other units: currents and capacities a thousand times as large,
no lowest potential (V_min), and no input while refractory (refractory_input). PyNN would take the variant of precise
spike times (``iaf_psc_delta_ps``) unless told otherwise.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import MissingPackageError, TargetError
from ...hardware_profiles.profile import Profile
from ...models.network import Network
from ...models.stimulus import Stimulus
from .. import nest_kernel
from ..backend import Readout, Recording
from ..deployment import Deployment, Population, Projection
from ..findings import Finding
from ..single_sample_session import SingleSampleSession
from .neuron_mapping import FirstLayer, plan_for_nest
from .neuron_scaling import Readings, dense, starts
from .neurons import preflight_on_nest

SILENT = -1e300
NO_SPIKES = {"spike_times": np.zeros(0), "spike_multiplicities": np.zeros(0, dtype=np.int64)}


class PyNNNestBackend:
    """PyNN 0.13 on NEST 3.10."""

    cannot: tuple[tuple[str, str], ...] = (
        (
            "potential traces",
            "recording every potential of every step would slow each decision down; use the reference",
        ),
    )

    def preflight(self, network: Network, profile: Profile) -> list[Finding]:
        """What speaks against it; see `spikeloop.deploy.spinnaker.neurons`."""
        if profile.mapping != "pynn":
            return [Finding("error", f"Mapping '{profile.mapping}' is none of PyNN's.", "Use 'pynn'.")]
        return preflight_on_nest(network, profile)

    def plan(self, network: Network, profile: Profile) -> Deployment:
        """What NEST will get."""
        return plan_for_nest(network, profile)

    def open(self, deployment: Deployment, seed: int) -> PyNNNestSession:
        """Take this process's NEST kernel and build the deployment in it."""
        return PyNNNestSession(deployment, seed)


class PyNNNestSession(SingleSampleSession):
    """A session on NEST through PyNN; see `spikeloop.deploy.backend.Session`.

    Raises
    ------
    MissingPackageError
        If PyNN or NEST is not installed.
    TargetError
        If NEST's kernel is in use in this process, or NEST refuses the deployment.
    """

    _target = "NEST"

    def __init__(self, deployment: Deployment, seed: int = 0) -> None:
        self._nest = nest_kernel.import_nest()
        self._kernel = self._nest.ll_api.nestkernel
        self._error: type[Exception] = self._kernel.NESTErrors.KernelException
        nest_kernel.take(self._nest, self)
        self._deployment = deployment
        self._network = deployment.network
        self._tick_ms = deployment.window.resolution_ms
        self._per_step = round(deployment.window.step_ms / self._tick_ms)
        self._first = FirstLayer(deployment)
        self._readings = Readings(self._network, deployment.profile)
        layers = range(len(self._network.layers))
        at = np.concatenate([starts(self._network, deployment.profile, layer) for layer in layers])
        self._starts = [{"V_m": value} for value in at.tolist()]
        self._layers = [p for p in deployment.populations if p.role == "neurons"]
        self._sim: Any = None
        self._recorder: Any = None
        self._spike_inputs: Any = None
        self._recording = False
        self._steps_run = 0
        try:
            with _quiet():
                self._build()
        except (self._error, TypeError, ValueError, MemoryError) as error:
            self.close()
            raise nest_kernel.translated(error) from None
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        self._sim = sim = _import_pynn()
        delays = [p.delay_ms for p in self._deployment.projections]
        sim.setup(
            timestep=self._tick_ms,
            min_delay=min(delays),
            max_delay=max(delays),
            spike_precision="on_grid",
            verbosity="error",
            threads=1,
        )
        self._populations = {population.name: _created(sim, population) for population in self._layers}
        for projection in self._deployment.projections:
            if projection.source in self._populations:
                _connect(sim, self._populations, projection)
        nodes = [self._populations[population.name].node_collection for population in self._layers]
        self._neurons = sum(nodes[1:], nodes[0])._datum
        self._outputs = nodes[-1]._datum
        refractory = max(float(p.parameters["tau_refrac"]) for p in self._layers)
        self._silence = round(max(*delays, refractory) / self._tick_ms) + 1
        # PyNN's first run goes on for the shortest delay more than it is told; from here on, both clocks agree.
        sim.run(self._tick_ms)

    # --- one window -----------------------------------------------------------------------------------------------

    def inject(self, stimulus: Stimulus, recording: Recording = Recording()) -> None:  # noqa: B008  # frozen
        """Open a window with this input: silence, input, start potentials."""
        self._check_inject(stimulus)
        if recording.potentials:
            raise TargetError("NEST sessions record no potential traces; use the target 'reference' for those.")
        self._recording = recording.spikes or self._network.output_fires
        set_status = self._kernel.llapi_set_nc_status
        try:
            self._populations["layer 0"].set(i_offset=self._first.offsets(stimulus.currents)[0])
            self._schedule(None if stimulus.spikes is None else stimulus.spikes[0])
            set_status(self._neurons, [{"V_m": SILENT}])
            self._run(self._silence)
            self._empty_recorder()
            set_status(self._neurons, self._starts)
        except self._error as error:
            raise nest_kernel.translated(error) from None
        self._steps_run = 0
        self._phase = "open"

    def run(self, steps: int) -> None:
        """Advance by `steps` steps of the Network."""
        self._check_run(steps)
        try:
            self._run(steps * self._per_step)
        except self._error as error:
            raise nest_kernel.translated(error) from None
        self._steps_run += steps
        self._phase = "running"

    def read(self) -> Readout:
        """The output layer's potentials, and the spikes where they are recorded."""
        self._check_read()
        potentials = np.atleast_1d(self._kernel.llapi_get_nc_status(self._outputs, "V_m")).astype(np.float64)[None]
        potentials = self._readings.outputs(potentials)
        if not self._recording:
            return Readout(potentials)
        rasters = self._rasters()
        return Readout(potentials, rasters[-1] if self._network.output_fires else None, rasters)

    def close(self) -> None:
        """Give the kernel back to this process."""
        self._phase = "closed"
        if not nest_kernel.release(self):
            return
        if self._sim is not None:
            with contextlib.suppress(OSError):
                self._sim.end()
        with contextlib.suppress(self._error):
            self._nest.ResetKernel()

    # --- parts ----------------------------------------------------------------------------------------------------

    def _run(self, ticks: int) -> None:
        self._sim.run(ticks * self._tick_ms)

    @property
    def _now(self) -> int:
        """In ticks, by NEST's clock."""
        return round(float(self._nest.biological_time) / self._tick_ms)

    def _schedule(self, spikes: NDArray[np.uint8] | None) -> None:
        """Program input spikes [steps, channels] of the window that is about to open, or none."""
        if self._spike_inputs is None:
            if spikes is None:
                return
            self._spike_inputs = self._nest.Create("spike_generator", self._network.n_channels)
            projection = next(p for p in self._deployment.projections if p.source == "spikes")
            target = self._populations["layer 0"].node_collection
            nest_kernel.connect(self._nest, self._spike_inputs, target, projection)
        settings = [NO_SPIKES] * self._network.n_channels
        if spikes is not None:
            # What a neuron sends in a window's first tick has the time of that tick's end.
            first = self._now + self._silence + 1
            settings = []
            for counts in spikes.T.astype(np.int64):
                steps = np.flatnonzero(counts)
                times = np.round((first + steps * self._per_step) * self._tick_ms, 6)
                settings.append({"spike_times": times, "spike_multiplicities": counts[steps]})
        self._kernel.llapi_set_nc_status(self._spike_inputs._datum, settings)

    def _empty_recorder(self) -> None:
        """Only once recording has been wanted, there is one."""
        if self._recorder is None:
            if not self._recording:
                return
            self._recorder = self._nest.Create("spike_recorder")
            synapse = {"delay": min(p.delay_ms for p in self._deployment.projections)}
            for population in self._layers:
                if population.fires:
                    nodes = self._populations[population.name].node_collection
                    self._nest.Connect(nodes, self._recorder, "all_to_all", synapse)
        self._recorder.set({"n_events": 0})
        self._opened = self._now

    def _rasters(self) -> tuple[NDArray[np.uint8], ...]:
        """Spikes per step of the Network: uint8 [1, steps, neurons] per firing layer."""
        events = self._kernel.llapi_get_nc_status(self._recorder._datum, "events")
        steps = (np.rint(events["times"] / self._tick_ms).astype(np.int64) - 1 - self._opened) // self._per_step
        senders = np.asarray(events["senders"], dtype=np.int64)
        rasters = []
        for layer, population in enumerate(self._layers):
            if not population.fires:
                continue
            first = self._populations[population.name].node_collection[0].global_id
            counts = np.zeros((1, self._steps_run, population.size), dtype=np.int64)
            inside = (steps >= 0) & (steps < self._steps_run)
            inside &= (senders >= first) & (senders < first + population.size)
            np.add.at(counts[0], (steps[inside], senders[inside] - first), 1)
            rasters.append(self._readings.raster(layer, counts))
        return tuple(rasters)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what PyNN complains of while it builds.

    It looks for its extensions' sources, uses names of older versions of NEST, and cannot set the initial v of
    IF_curr_delta on NEST; windows set V_m themselves.
    """
    logger = logging.getLogger("PyNN")
    before, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = before


def _import_pynn() -> Any:
    try:
        sim = importlib.import_module("pyNN.nest")
    except ImportError:
        raise MissingPackageError.needs("Running PyNN on NEST", "PyNN", "spinnaker") from None
    return sim


def _created(sim: Any, population: Population) -> Any:
    made = sim.Population(population.size, sim.IF_curr_delta(**population.parameters), label=population.name)
    made.set(i_offset=population.constant_input)
    return made


def _connect(sim: Any, populations: dict[str, Any], projection: Projection) -> None:
    source, target = populations[projection.source], populations[projection.target]
    weights = dense(projection.weights)
    for receptor, chosen in (("excitatory", weights > 0), ("inhibitory", weights < 0)):
        synapses = [(i, j, weights[i, j], projection.delay_ms) for i, j in np.argwhere(chosen).tolist()]
        if synapses:
            connector = sim.FromListConnector(synapses, column_names=["weight", "delay"])
            sim.Projection(source, target, connector, sim.StaticSynapse(), receptor_type=receptor)

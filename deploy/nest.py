"""The NEST target: one persistent kernel per process, driven window by window.

A window opens with silence: every neuron is held far below its threshold until no spike of the window before is in
flight and no current of it is latched; then potentials are set to their start values. So a decision depends on its own
input alone, and nothing is rebuilt. The costs decide the form: a status call for a whole population takes about as
long as one for a single neuron by attribute, and `Run` of two steps takes 6 us.
"""

from __future__ import annotations

import contextlib
import sys
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidInputError
from ..hardware_profiles.profile import Profile
from ..models.network import Network
from ..models.stimulus import FloatArray, Stimulus
from . import nest_preflight, nest_recipes
from .backend import Readout, Recording, Session
from .deployment import Deployment, Population, Projection
from .dynamics import drive, pack
from .findings import Finding
from .nest_kernel import connect, import_nest, release, take, translated
from .point_neuron import PointNeuronSession, has_twin
from .single_sample_session import SingleSampleSession

MOST_EVENTS = 200_000
SILENT = -1e300  # survives the leak of any silence, and any input that `inject` lets through

_SILENCE = [{"V_m": SILENT}]
_NO_SPIKES = {"spike_times": np.zeros(0), "spike_multiplicities": np.zeros(0, dtype=np.int64)}


class NestBackend:
    """NEST 3.10, in this process."""

    cannot: tuple[tuple[str, str], ...] = (
        (
            "potential traces",
            "they are NEST's own: reset at the end of the step that fires, where the reference resets in the next",
        ),
    )

    def preflight(self, network: Network, profile: Profile) -> list[Finding]:
        """What speaks against it; see `spikeloop.deploy.nest_preflight`."""
        return nest_preflight.preflight(network, profile)

    def plan(self, network: Network, profile: Profile) -> Deployment:
        """What NEST will get; see `spikeloop.deploy.nest_recipes`."""
        return nest_recipes.plan(network, profile)

    def open(self, deployment: Deployment, seed: int) -> NestSession:
        """Take this process's NEST kernel and build the deployment in it."""
        return NestSession(deployment, seed)

    def twin(self, deployment: Deployment) -> Session | None:
        """NEST's point neurons in this process, where their update is known."""
        return PointNeuronSession(deployment) if has_twin(deployment) else None


class NestSession(SingleSampleSession):
    """A session on NEST; see `spikeloop.deploy.backend.Session`.

    Raises
    ------
    TargetError
        If NEST's kernel is in use in this process, or NEST refuses the deployment.
    """

    _target = "NEST"

    def __init__(self, deployment: Deployment, seed: int = 0) -> None:
        self._nest = import_nest()
        self._kernel = self._nest.ll_api.nestkernel
        self._error: type[Exception] = self._kernel.NESTErrors.KernelException
        take(self._nest, self)
        self._deployment = deployment
        self._network = deployment.network
        self._window = deployment.window
        self._ticks_per_step = round(deployment.window.step_ms / deployment.window.resolution_ms)
        self._seed = seed
        self._windows = 0
        self._steps_run = 0
        self._devices: set[str] = set()  # "recorder", "spikes": made when first used, they cost time in every step
        self._recording = False
        try:
            self._build()
        # NEST's Python layer raises the builtin ones.
        except (self._error, TypeError, ValueError, MemoryError) as error:
            self.close()
            raise translated(error) from None
        except BaseException:
            self.close()
            raise

    # --- building -------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        nest = self._nest
        self._prepared = False
        nest.ResetKernel()
        nest.verbosity = nest.VerbosityLevel.ERROR
        nest.set(
            resolution=self._window.resolution_ms,
            rng_seed=1 + (self._seed + self._windows) % (2**32 - 1),
            local_num_threads=1,
            # Without these two, NEST logs every change of its spike buffers: 100 bytes a decision, for ever.
            spike_buffer_shrink_limit=0.0,
            spike_buffer_grow_extra=5.0,
        )
        delays = [projection.delay_ms for projection in self._deployment.projections]
        self._shortest_delay = min(delays)
        self._spike_projection = next(p for p in self._deployment.projections if p.source == "spikes")
        # Stated beforehand: devices that join later must not widen the range, which NEST fixes at the first Run.
        nest.set(min_delay=self._shortest_delay, max_delay=max(delays))
        self._nodes = {
            population.name: nest.Create(population.model, population.size, dict(population.parameters))
            for population in self._deployment.populations
            if population.role != "spikes"
        }
        for projection in self._deployment.projections:
            if projection.source != "spikes":
                self._connect(self._nodes[projection.source], projection)
        neurons = [p for p in self._deployment.populations if p.role == "neurons"]
        for population in neurons:
            if population.constant_input is not None:
                self._nodes[population.name].set([{"I_e": float(value)} for value in population.constant_input])
        self._prepare_calls(neurons)
        for device in self._devices:
            self._create(device)
        nest.Prepare()
        self._prepared = True
        self._now = 0  # in ticks of the resolution

    def _add(self, device: str) -> None:
        """Add a device to a network that may have run already."""
        self._devices.add(device)
        if self._adapting is not None:
            # pp_psc_delta gains one more adaptation, with random memory for its decay, whenever Prepare follows a
            # status call: it can only be prepared once.
            self._build()
            return
        # NEST accepts Create and Connect between Prepare and Cleanup, and then does not deliver properly.
        self._nest.Cleanup()
        self._create(device)
        self._nest.Prepare()

    def _create(self, device: str) -> None:
        nest, synapse = self._nest, {"delay": self._shortest_delay}
        if device == "spikes":
            self._spike_inputs = nest.Create("spike_generator", self._network.n_channels)
            self._connect(self._spike_inputs, self._spike_projection)
            return
        self._recorder = nest.Create("spike_recorder")
        for population in self._deployment.populations:
            if population.fires:
                nest.Connect(self._nodes[population.name], self._recorder, "all_to_all", synapse)

    def _connect(self, source: Any, projection: Projection) -> None:
        connect(self._nest, source, self._nodes[projection.target], projection)

    def _prepare_calls(self, neurons: list[Population]) -> None:
        """Build once what every window hands to NEST: node collections and their lists of settings."""
        nodes = [self._nodes[population.name] for population in neurons]
        self._neurons = sum(nodes[1:], nodes[0])._datum
        self._first_layer, self._outputs = nodes[0]._datum, nodes[-1]._datum
        self._currents = self._nodes["currents"]._datum if "currents" in self._nodes else None
        self._bias = self._nodes["bias"]._datum if "bias" in self._nodes else None
        self._start = neurons[0].start  # the recipes give all populations the same
        adapting = [self._nodes[p.name] for p in neurons if p.model == "pp_psc_delta"]
        self._adapting = sum(adapting[1:], adapting[0])._datum if adapting else None
        first = self._network.layers[0]
        constant = neurons[0].constant_input
        assert constant is not None, "every recipe states the constant input of its neurons"
        # The first layer's input is computed as the reference computes it, to the bit; offsets come on top.
        self._offset = constant - first.neuron_bias
        self._ints, self._floats = pack(self._network, 1)
        self._drives = np.zeros((1, first.n_out))
        self._apart = first.neuron_bias  # where currents are added up beforehand, the bias comes by itself
        self._adds_up = any(p.role == "drives" for p in self._deployment.populations)
        self._sizes = np.array([population.size for population in neurons])
        self._outputs_are_one = neurons[-1].size == 1

    # --- one window -----------------------------------------------------------------------------------------------

    def inject(self, stimulus: Stimulus, recording: Recording = Recording()) -> None:  # noqa: B008  # frozen
        """Open a window with this input: silence, input, start potentials."""
        self._check_inject(stimulus)
        inputs = self._first_inputs(stimulus)
        set_status = self._kernel.llapi_set_nc_status
        try:
            self._record(recording.spikes or self._network.output_fires)
            if stimulus.spikes is not None and "spikes" not in self._devices:
                self._add("spikes")
            if self._currents is None:
                set_status(self._first_layer, [{"I_e": value} for value in inputs])
            else:
                self._switch_input(None)
            set_status(self._neurons, _SILENCE)
            if "spikes" in self._devices:
                self._schedule(None if stimulus.spikes is None else stimulus.spikes[0])
            self._run_ms(self._window.silence_ms)
            if self._currents is not None:
                self._switch_input(self._drives[0] - self._apart if self._adds_up else stimulus.currents[0])
                self._run_ms(self._window.input_lead_ms)
            set_status(self._neurons, [{"V_m": self._start}])
            if self._adapting is not None:
                self._cancel_adaptation()
        except self._error as error:
            raise translated(error) from None
        self._windows += 1
        self._steps_run = self._window.lead_steps
        # What is there after the steps that have passed already is what windows start with.
        lead = [np.full(self._sizes.sum(), self._start)] * self._window.lead_steps
        self._traces: list[FloatArray] | None = lead if recording.potentials else None
        self._phase = "open"

    def run(self, steps: int) -> None:
        """Advance by `steps` steps; the first call of a window accounts for the steps its opening took."""
        self._check_run(steps)
        if self._phase == "open":
            steps -= self._window.lead_steps
            self._phase = "running"
        # Potentials are read after each step: a recorder would have to be created, and costs every window from then on.
        for part in [1] * steps if self._traces is not None else [steps] if steps else []:
            try:
                self._run_ms(part * self._window.step_ms)
                if self._traces is not None:
                    self._traces.append(np.array(self._kernel.llapi_get_nc_status(self._neurons, "V_m"), dtype=float))
            except self._error as error:
                raise translated(error) from None
            self._steps_run += part

    def read(self) -> Readout:
        """The output layer's potentials, and the spikes where they are recorded."""
        self._check_read()
        try:
            values = self._kernel.llapi_get_nc_status(self._outputs, "V_m")
            if self._outputs_are_one:  # NEST gives a bare number then
                values = (values,)
            start, grid = self._start, self._window.read_grid
            # In plain Python: for as few values as there are actions, NumPy's calls cost more than the arithmetic.
            potentials = np.array([[_rounded(value - start, grid) for value in values]])
            if not self._recording and self._traces is None:
                return Readout(potentials)
            rasters = self._rasters() if self._recording else None
        except self._error as error:
            raise translated(error) from None
        return Readout(
            potentials=potentials,
            output_raster=rasters[-1] if rasters and self._network.output_fires else None,
            rasters=rasters,
            traces=None if self._traces is None else self._split(np.array(self._traces) - start),
        )

    def close(self) -> None:
        """Give the kernel back to this process."""
        self._phase = "closed"
        if not release(self):
            return
        if self._prepared:  # or NEST would complain on stderr
            with contextlib.suppress(self._error):
                self._nest.Cleanup()
        with contextlib.suppress(self._error):
            self._nest.ResetKernel()

    def _first_inputs(self, stimulus: Stimulus) -> list[float]:
        """What each neuron of the first layer gets in every step."""
        drive(self._ints, self._floats, stimulus.currents, self._drives)
        inputs: list[float] = (self._drives[0] + self._offset).tolist()
        most = nest_recipes.MOST_INPUT * self._network.neuron.threshold
        if not (max(inputs) < most and min(inputs) > -most):
            raise InvalidInputError(
                f"The observation gives a neuron of the first layer an input of {max(inputs, key=abs):.3g} a step; at "
                f"most 2^30 thresholds ({most:.3g}) can be decided on. Clip or scale the observation."
            )
        return inputs

    # --- parts ----------------------------------------------------------------------------------------------------

    def _run_ms(self, duration_ms: float) -> None:
        if duration_ms:
            self._kernel.llapi_run(duration_ms)
            self._now += round(duration_ms / self._window.resolution_ms)

    def _switch_input(self, currents: FloatArray | None) -> None:
        """Set the current generators: to the input, or to nothing."""
        set_status = self._kernel.llapi_set_nc_status
        values = [0.0] if currents is None else currents.tolist()  # a single setting is everyone's
        set_status(self._currents, [{"amplitude": value} for value in values])
        if self._bias is not None:
            set_status(self._bias, [{"amplitude": 0.0 if currents is None else 1.0}])

    def _cancel_adaptation(self) -> None:
        """Start adaptive neurons as if their threshold had not moved.

        NEST cannot reset the adaptation (E_sfa). The neuron depends on V_m - E_sfa alone, and both decay alike (the
        preflight sees to it), so starting at V_m = E_sfa is the same as starting afresh.
        """
        moved = np.atleast_1d(self._kernel.llapi_get_nc_status(self._adapting, "E_sfa"))
        self._kernel.llapi_set_nc_status(self._adapting, [{"V_m": float(value)} for value in moved])

    def _schedule(self, spikes: NDArray[np.uint8] | None) -> None:
        """Program input spikes [steps, channels] of the window that is about to open, or none."""
        if spikes is None:
            self._kernel.llapi_set_nc_status(self._spike_inputs._datum, [_NO_SPIKES])
            return
        window = self._window
        # Step 0 lies `lead_steps` before the end of the silence. A spike time equal to "now" would be lost, but the
        # silence is always longer than the lead.
        opens = self._now + round((window.silence_ms + window.input_lead_ms) / window.resolution_ms)
        zero = opens - window.lead_steps * self._ticks_per_step
        channels, steps = np.nonzero(spikes.T)
        times = np.round((zero + steps * self._ticks_per_step) * window.resolution_ms, 6)
        counts = spikes[steps, channels].astype(np.int64)
        ends = np.searchsorted(channels, np.arange(spikes.shape[1] + 1)).tolist()
        settings = [
            {"spike_times": times[a:b], "spike_multiplicities": counts[a:b]} if a < b else _NO_SPIKES
            for a, b in pairwise(ends)
        ]
        self._kernel.llapi_set_nc_status(self._spike_inputs._datum, settings)

    def _record(self, wanted: bool) -> None:
        """Switch the spike recorder; it is created when first wanted, and emptied before each window that uses it."""
        if wanted and "recorder" not in self._devices:
            self._add("recorder")
        if self._adapting is not None:
            # Prepared only once, its recorder can neither be switched off nor emptied: it is built anew instead.
            if "recorder" in self._devices and self._recorder.n_events > MOST_EVENTS:
                if not wanted:
                    self._devices.remove("recorder")
                self._build()
        elif wanted or self._recording:
            # A recorder can only be switched or emptied outside of Prepare and Cleanup.
            self._nest.Cleanup()
            self._recorder.set({"n_events": 0, "stop": sys.float_info.max if wanted else 0.0})
            self._nest.Prepare()
        self._recording = wanted

    def _rasters(self) -> tuple[NDArray[np.uint8], ...]:
        """Spikes per step of the Network, from the recorder's events: uint8 [1, steps, neurons] per firing layer."""
        events = self._kernel.llapi_get_nc_status(self._recorder._datum, "events")
        zero = self._now - self._steps_run * self._ticks_per_step
        ticks = np.rint(events["times"] / self._window.resolution_ms).astype(np.int64) - zero
        senders = np.asarray(events["senders"], dtype=np.int64)
        steps = -(-ticks // self._ticks_per_step) - 1 + self._window.spike_shift
        rasters = []
        for population in self._deployment.populations:
            if not population.fires:
                continue
            first = self._nodes[population.name][0].global_id
            counts = np.zeros((1, self._steps_run, population.size), dtype=np.uint8)
            inside = (steps >= 0) & (steps < self._steps_run)
            inside &= (senders >= first) & (senders < first + population.size)
            np.add.at(counts[0], (steps[inside], senders[inside] - first), 1)
            rasters.append(counts)
        return tuple(rasters)

    def _split(self, traces: FloatArray) -> tuple[FloatArray, ...]:
        """Potentials [steps, neurons] by layer: [1, steps, neurons]."""
        return tuple(np.split(traces[None], np.cumsum(self._sizes)[:-1], axis=2))


def _rounded(value: float, grid: float) -> float:
    """`value` on the grid; beyond 2^50 grid points, or without a grid, as it is."""
    return round(value / grid) * grid if grid and abs(value) < grid * 2.0**50 else value

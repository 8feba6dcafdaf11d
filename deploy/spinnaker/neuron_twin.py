"""The twin of the mapping "pynn" on SpiNNaker: the shipped firmware's arithmetic, to the bit, for many samples at once.

A tick of one population, in s16.15 (`accum`: wraps at 32 bits; products are rounded down)::

    E, I     = min(sum of the weights arriving, 65535) << shift, times 1/dt   # each receptor's own
    current  = E - I + i_offset
    IF_curr_delta:   target = current*R + v_rest;  V <- target - (target - V)*P   # R = tau_m/cm, P = exp(-dt/tau_m)
    IFTruncDelta:    V <- max(v_reset, V + current*R)
    neither moves while refractory: the input is lost then
    fires at V >= v_thresh (IFTruncDelta: >= dt):  V <- v_reset, refractory for tau_refrac

Established on emulated cores with sPyNNaker 7.4.1; tests compare with them, and with the model of the virtual board's
own tests, bit for bit.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from ...errors import InvalidInputError
from ...models.stimulus import FloatArray, Stimulus
from ..backend import Readout
from ..deployment import Deployment, Population
from ..software_session import NO_SPIKES, SoftwareSession
from .firmware_math import accum_of, divided, exponential
from .neuron_mapping import SHIFTS, FirstLayer, whole_weights
from .neuron_scaling import MOST_COUNTED, TRUNCATED, Readings, dense, starts

Ints = NDArray[np.int64]

ONE = 1 << 15
# Scalars at the head of the packed array; the layers' follow, then their weights.
N_LAYERS, N_CHANNELS, TICKS_PER_STEP, RING, PER_MS, HEAD = range(6)
(SIZE, DELAY, TRUNCATES, SHIFT_E, SHIFT_I, RESISTANCE, DECAY, REST, RESET, THRESHOLD, REFRACTORY, WEIGHTS, WIDTH) = (
    range(13)
)


def accums(values: FloatArray) -> Ints:
    """Parameters as sPyNNaker sends them: the s16.15 number nearest to their shortest decimal form, ties to even.

    Raises
    ------
    InvalidInputError
        If one does not fit.
    """
    scaled = values * ONE
    if not (np.abs(scaled) < 2.0**31).all():
        worst = float(values.flat[np.argmax(np.abs(scaled))])
        raise InvalidInputError(
            f"The observation gives a neuron of the first layer a current of {worst:.3g}; SpiNNaker's numbers lie "
            "within 65536. Clip or scale the observation."
        )
    found = np.rint(scaled).astype(np.int64)
    # A number halfway between two may have a shorter decimal form that is not.
    for index in np.argwhere(np.abs(scaled - np.floor(scaled) - 0.5) == 0.0):
        found[tuple(index)] = accum_of(float(values[tuple(index)]))
    return found


class NeuronTwinSession(SoftwareSession):
    """A session that decides as SpiNNaker does; see `spikeloop.deploy.backend.Session`.

    Parameters
    ----------
    deployment : Deployment
        On SpiNNaker, by the mapping "pynn".
    """

    def __init__(self, deployment: Deployment) -> None:
        network = deployment.network
        populations = [deployment.population(f"layer {i}") for i in range(len(network.layers))]
        super().__init__([p.size for p in populations], network.output_fires)
        self._packed = pack(deployment)
        self._first = FirstLayer(deployment)
        self._readings = Readings(network, deployment.profile)
        at = [starts(network, deployment.profile, i) for i in range(len(network.layers))]
        self._starts = accums(np.concatenate(at))
        biases = [accums(np.asarray(p.constant_input)) for p in populations]
        self._biases = np.concatenate(biases)
        self._limit = largest_current(populations[0])
        self._allocate(1)

    def _allocate(self, n: int) -> None:
        neurons = self._neurons
        self._v = np.empty((n, neurons), dtype=np.int64)
        self._waiting = np.empty((n, neurons), dtype=np.int64)
        self._ring = np.empty((n, self._packed[RING], neurons), dtype=np.uint8)
        self._offsets = np.empty((n, neurons), dtype=np.int64)

    def _begin(self, stimulus: Stimulus) -> None:
        offsets = checked(self._first.offsets(stimulus.currents), self._limit)
        if len(stimulus) != len(self._v):
            self._allocate(len(stimulus))
        self._offsets[:] = self._biases
        self._offsets[:, self._layers[0]] = accums(offsets)
        self._v[:] = self._starts
        self._waiting.fill(0)
        self._ring.fill(0)
        self._spikes = NO_SPIKES if stimulus.spikes is None else stimulus.spikes

    def _advance(self, first: int, last: int) -> None:
        advance(
            self._packed,
            first,
            last,
            self._offsets,
            self._spikes,
            self._v,
            self._waiting,
            self._ring,
            self._raster,
            self._traces,
        )

    def _readout(self) -> Readout:
        layers, seen, recording = self._layers, self._readings, self._recording
        rasters = traces = None
        if recording.spikes:
            rasters = tuple(seen.raster(i, self._raster[:, :, layer]) for i, layer in enumerate(self._spiking))
        if recording.potentials:
            traces = tuple(seen.traces(i, self._traces[:, :, layer]) for i, layer in enumerate(layers))
        return Readout(
            potentials=seen.outputs(self._v[:, layers[-1]] / ONE),
            output_raster=seen.raster(len(layers) - 1, self._raster[:, :, layers[-1]]) if self._fires else None,
            rasters=rasters,
            traces=traces,
        )


def largest_current(population: Population) -> float:
    """The i_offset from which on its product with tau_m/cm overflows."""
    resistance = float(population.parameters["tau_m"]) / float(population.parameters["cm"])
    return 65536.0 / max(1.0, resistance)


def checked(offsets: FloatArray, limit: float) -> FloatArray:
    """The currents of the first layer, where none overflows.

    Raises
    ------
    InvalidInputError
        If one does.
    """
    worst = float(offsets.flat[np.argmax(np.abs(offsets))])
    if not abs(worst) < limit:
        raise InvalidInputError(
            f"The observation gives a neuron of the first layer a current of {worst:.3g}; at most {limit:.3g} can be "
            "taken without overflow. Clip or scale the observation, or set a smaller tau_m."
        )
    return offsets


def pack(deployment: Deployment) -> Ints:
    """Pack a deployment for `advance`: scalars, those of each layer, and all integer weights (< 0: inhibitory)."""
    network, window = deployment.network, deployment.window
    step = accum_of(window.resolution_ms)
    rows: list[list[int]] = []
    weights: list[Ints] = []
    start = HEAD + WIDTH * len(network.layers)
    for index in range(len(network.layers)):
        population = deployment.population(f"layer {index}")
        projection = next(p for p in deployment.projections if p.target == population.name)
        parameters = {name: accum_of(float(v)) for name, v in population.parameters.items() if name != SHIFTS}
        shifts = population.parameters[SHIFTS]
        truncates = population.model == TRUNCATED
        rows.append(
            [
                population.size,
                round(projection.delay_ms / window.resolution_ms),
                truncates,
                *shifts,
                divided(parameters["tau_m"], parameters["cm"]),
                0 if truncates else exponential(-divided(step, parameters["tau_m"])),
                parameters.get("v_rest", 0),
                parameters["v_reset"],
                step if truncates else parameters["v_thresh"],
                -(-divided(parameters["tau_refrac"], step) >> 15),
                start,
            ]
        )
        weights.append(whole_weights(dense(projection.weights), shifts).astype(np.int64).ravel())
        start += weights[-1].size
    head = [
        len(network.layers),
        network.n_channels,
        round(window.step_ms / window.resolution_ms),
        max(row[DELAY] for row in rows) + 1,
        divided(ONE, step),
    ]
    return np.concatenate([np.array(head, dtype=np.int64), np.array(rows, dtype=np.int64).ravel(), *weights])


def _jit(function: Any) -> Any:
    return numba.njit(cache=True, nogil=True, error_model="numpy")(function)


@_jit
def wrap(x: Any) -> Any:
    """The low 32 bits as a signed number."""
    return ((x + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


@_jit
def times(x: Any, y: Any) -> Any:
    """The product of two s16.15 numbers, rounded down."""
    return wrap((x * y) >> 15)


@_jit
def arrive_by_receptor(exciting: Any, inhibiting: Any, spikes: Any, weights: Any) -> None:
    """Add the rows of the neurons that fired to the ring buffers of both receptors."""
    size = len(exciting)
    for k in range(len(spikes)):
        count = spikes[k]
        if count:
            for j in range(size):
                weight = weights[k * size + j]
                if weight > 0:
                    exciting[j] += count * weight
                else:
                    inhibiting[j] -= count * weight


@_jit
def _update(
    v: Any, waiting: Any, offsets: Any, exciting: Any, inhibiting: Any, fired: Any, row: Any, per_ms: int
) -> None:
    """One tick of one layer."""
    resistance, decay, reset = row[RESISTANCE], row[DECAY], row[RESET]
    for j in range(len(v)):
        if waiting[j] > 0:
            waiting[j] -= 1
        else:
            into = times(wrap(min(exciting[j], 0xFFFF) << row[SHIFT_E]), per_ms)
            out = times(wrap(min(inhibiting[j], 0xFFFF) << row[SHIFT_I]), per_ms)
            moved = times(wrap(wrap(into - out) + offsets[j]), resistance)
            if row[TRUNCATES]:
                v[j] = max(reset, wrap(v[j] + moved))
            else:
                target = wrap(moved + row[REST])
                v[j] = wrap(target - times(wrap(target - v[j]), decay))
        over = v[j] >= row[THRESHOLD]
        fired[j] = over
        if over:
            v[j] = reset
            waiting[j] = row[REFRACTORY]


@_jit
def advance(
    packed: Any,
    first: int,
    last: int,
    offsets: Any,
    spikes: Any,
    v: Any,
    waiting: Any,
    ring: Any,
    raster: Any,
    traces: Any,
) -> None:
    """Advance every sample from step `first` to step `last` (exclusive), in place.

    Parameters
    ----------
    packed : as `pack` returns it
    offsets : int64 [n, neurons]
        i_offset of every neuron.
    spikes : uint8 [n, steps, n_channels]
        Input spikes; steps = 0 where there are none.
    v, waiting : int64 [n, neurons]
        Potentials in s16.15; ticks until a neuron is no longer refractory.
    ring : uint8 [n, RING, neurons]
        The last spikes, for delays.
    raster : uint8 [n, steps, neurons], steps = 0: not recorded
    traces : float64 [n, steps, neurons], steps = 0: not recorded
    """
    n_layers, depth, per_step = packed[N_LAYERS], packed[RING], packed[TICKS_PER_STEP]
    exciting, inhibiting = np.empty(v.shape[1], dtype=np.int64), np.empty(v.shape[1], dtype=np.int64)
    for i in range(v.shape[0]):
        for k in range(first * per_step, last * per_step):
            now = ring[i, k % depth]
            before, start, n_before = 0, 0, packed[N_CHANNELS]
            for layer in range(n_layers):
                row = packed[HEAD + layer * WIDTH : HEAD + (layer + 1) * WIDTH]
                size, delay = row[SIZE], row[DELAY]
                end = start + size
                weights = packed[row[WEIGHTS] : row[WEIGHTS] + n_before * size]
                exciting[:size] = 0
                inhibiting[:size] = 0
                if layer == 0:
                    t, between = divmod(k - delay, per_step)
                    if between == 0 and 0 <= t < spikes.shape[1]:
                        arrive_by_receptor(exciting[:size], inhibiting[:size], spikes[i, t], weights)
                elif k >= delay:
                    fired_before = ring[i, (k - delay) % depth, before:start]
                    arrive_by_receptor(exciting[:size], inhibiting[:size], fired_before, weights)
                fired = now[start:end]
                _update(
                    v[i, start:end],
                    waiting[i, start:end],
                    offsets[i, start:end],
                    exciting[:size],
                    inhibiting[:size],
                    fired,
                    row,
                    packed[PER_MS],
                )
                if raster.shape[1]:
                    counts = raster[i, k // per_step, start:end]
                    for j in range(size):
                        if fired[j] and counts[j] < MOST_COUNTED:
                            counts[j] += 1
                before, start, n_before = start, end, size
            if traces.shape[1] and (k + 1) % per_step == 0:
                traces[i, k // per_step] = v[i] / 32768.0

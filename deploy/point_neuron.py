"""The software twin of NEST's point neurons: their update, tick by tick, in this process and for many samples at once.

The equations, and the order in which they add, are those of NEST 3.10's ``iaf_psc_delta.cpp`` and ``eprop_iaf.cpp``.
Let a tick be the profile's resolution, ``P = exp(-tick/tau_m)`` and ``gain = tau_m/C_m*(1 - P)``; in every tick::

    iaf_psc_delta   V <- gain*I + P*V + arriving     # but not while refractory: then V stays, and the input is lost
                    fires at V >= V_th:  V <- V_reset, refractory for t_ref
    eprop_iaf       V <- gain*I + arriving + P*V     # also while refractory
                    fires at V >= V_th, if not refractory:  V <- V - V_th, refractory for t_ref

``arriving`` is the sum of the weights of the spikes that were fired a synaptic delay before, in ascending order of the
presynaptic neurons. ``I`` is the bias and the current of the observation. Where the profile has an input delay, the
latter joins only after that delay and one more tick, because NEST latches currents at a tick's end.
As the order of additions is NEST's too, even potentials that equal the threshold do so on both sides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from ..hardware_profiles.profile import Profile
from ..models.stimulus import FloatArray, Stimulus
from .backend import Readout
from .deployment import Deployment, Projection
from .software_session import NO_SPIKES, SoftwareSession

# The models that are known here, and the parameters that a profile must state for them: all that bear on a decision.
PARAMETERS = {
    "iaf_psc_delta": {"C_m", "E_L", "V_reset", "V_th", "t_ref", "tau_m"},
    "eprop_iaf": {"C_m", "E_L", "V_th", "t_ref", "tau_m"},
}

# Scalars at the head of the packed arrays; the layers follow.
N_LAYERS, N_CHANNELS, SUBTRACTS, TICKS_PER_STEP, INPUT_AT, REFRACTORY, RING, HEAD_INTS = range(8)
GAIN, DECAY, RESET, HEAD_FLOATS = range(4)


def is_known(profile: Profile) -> bool:
    """Whether the profile's neuron is one whose update this file knows, with all of its parameters stated."""
    neuron = profile.neuron
    return neuron is not None and PARAMETERS.get(neuron.model) == set(neuron.parameters)


def has_twin(deployment: Deployment) -> bool:
    """Whether a `PointNeuronSession` can stand for the deployment: its neuron `is_known`, its connections are dense."""
    return is_known(deployment.profile) and all(isinstance(p.weights, np.ndarray) for p in deployment.projections)


class PointNeuronSession(SoftwareSession):
    """A session that decides as NEST does; see `spikeloop.deploy.backend.Session`.

    Parameters
    ----------
    deployment : Deployment
        On NEST, by the mapping "point_neuron"; one that `has_twin`.
    """

    def __init__(self, deployment: Deployment) -> None:
        super().__init__(deployment.network.sizes, deployment.network.output_fires)
        self._ints, self._floats = pack(deployment)
        self._start = constants(deployment).start
        self._weights = _of_spikes(deployment)[0].weights
        self._bias = deployment.population("layer 0").constant_input
        self._allocate(1)

    def _allocate(self, n: int) -> None:
        neurons = self._neurons
        self._v = np.empty((n, neurons))
        self._waiting = np.empty((n, neurons), dtype=np.int64)
        self._ring = np.empty((n, self._ints[RING], neurons), dtype=np.uint8)
        self._drives = np.empty((n, 2, self._layers[0].stop))

    def _begin(self, stimulus: Stimulus) -> None:
        if len(stimulus) != len(self._v):
            self._allocate(len(stimulus))
        self._v.fill(self._start)
        self._waiting.fill(0)
        self._ring.fill(0)
        drive(self._weights, self._bias, stimulus.currents, self._ints[INPUT_AT] > 0, self._drives)
        self._spikes = NO_SPIKES if stimulus.spikes is None else stimulus.spikes

    def _advance(self, first: int, last: int) -> None:
        advance(
            self._ints,
            self._floats,
            first,
            last,
            self._drives,
            self._spikes,
            self._v,
            self._waiting,
            self._ring,
            self._raster,
            self._traces,
        )

    def _readout(self) -> Readout:
        layers, recording = self._layers, self._recording
        return Readout(
            potentials=self._v[:, layers[-1]] - self._start,
            output_raster=self._raster[:, :, layers[-1]].copy() if self._fires else None,
            rasters=tuple(self._raster[:, :, layer].copy() for layer in self._spiking) if recording.spikes else None,
            traces=tuple(self._traces[:, :, layer] - self._start for layer in layers) if recording.potentials else None,
        )


@dataclass(frozen=True, slots=True)
class Constants:
    """What the update of a deployment's neurons needs, in ticks and in potentials relative to E_L.

    Attributes
    ----------
    ticks_per_step : int
    input_at : int
        The first tick in which the observation's current acts; 0 where it acts with the bias.
    delays : tuple of int
        Of the spikes that arrive at each layer, in ticks.
    gain, decay : float
        Potential per unit of current and tick; the share of the potential that stays.
    start : float
        The potential at the window's start, which is the Network's 0.
    threshold, reset : float
        Of the neurons that fire; of no meaning where a spike subtracts.
    refractory : int, in ticks
    subtracts : bool
        Whether a spike subtracts the threshold (eprop_iaf), or sets the potential to `reset` (iaf_psc_delta).
    """

    ticks_per_step: int
    input_at: int
    delays: tuple[int, ...]
    gain: float
    decay: float
    start: float
    threshold: float
    reset: float
    refractory: int
    subtracts: bool


def constants(deployment: Deployment) -> Constants:
    """Of a deployment that `has_twin`."""
    window, first = deployment.window, deployment.population("layer 0")
    parameters = {name: float(value) for name, value in first.parameters.items()}
    rest, tau, capacity = (parameters[name] for name in ("E_L", "tau_m", "C_m"))
    decay = math.exp(-window.resolution_ms / tau)
    subtracts = first.model == "eprop_iaf"

    def ticks(time_ms: float) -> int:
        return round(time_ms / window.resolution_ms)

    latched = [ticks(p.delay_ms) + 1 for p in deployment.projections if p.source == "currents"]
    return Constants(
        ticks_per_step=ticks(window.step_ms),
        input_at=latched[0] if latched else 0,
        delays=tuple(ticks(projection.delay_ms) for projection in _of_spikes(deployment)),
        # Each model multiplies in its own order.
        gain=tau / capacity * (1.0 - decay) if subtracts else 1.0 / capacity * (1.0 - decay) * tau,
        decay=decay,
        start=first.start - rest,
        threshold=parameters["V_th"] - rest,
        reset=parameters.get("V_reset", rest) - rest,
        refractory=ticks(parameters["t_ref"]),
        subtracts=subtracts,
    )


def pack(deployment: Deployment) -> tuple[NDArray[np.int64], FloatArray]:
    """Pack a deployment for `advance`: integers (flags, times in ticks, sizes, delays), floats (scalars, layers)."""
    network, found = deployment.network, constants(deployment)
    head = [
        len(network.layers),
        network.n_channels,
        found.subtracts,
        found.ticks_per_step,
        found.input_at,
        found.refractory,
        max(found.delays) + 1,
    ]
    floats = [np.array([found.gain, found.decay, found.reset])]
    for projection in _of_spikes(deployment):
        layer = deployment.population(projection.target)
        assert layer.constant_input is not None, "every recipe states the constant input of its neurons"
        threshold = float(layer.parameters["V_th"]) - float(layer.parameters["E_L"])
        assert isinstance(projection.weights, np.ndarray), "a deployment with sparse projections has no twin"
        floats += [np.array([threshold]), layer.constant_input, projection.weights.ravel()]
    return np.array([*head, *network.sizes, *found.delays], dtype=np.int64), np.concatenate(floats)


def _of_spikes(deployment: Deployment) -> list[Projection]:
    """The projections that bring spikes, one for each layer, in their order."""
    arriving = {p.target: p for p in deployment.projections if p.source != "currents"}
    return [arriving[f"layer {index}"] for index in range(len(arriving))]


def _jit(function: Any) -> Any:
    return numba.njit(cache=True, nogil=True, error_model="numpy")(function)


@_jit
def drive(weights: Any, bias: Any, currents: Any, delayed: bool, out: Any) -> None:
    """The first layer's current before (``out[:, 0]``) and after (``out[:, 1]``) the input has arrived.

    An input that comes by itself is summed apart from the bias, any other is added to it: both as NEST gets them.
    """
    for i in range(currents.shape[0]):
        before, after = out[i, 0], out[i, 1]
        for j in range(len(bias)):
            after[j] = 0.0 if delayed else bias[j]
        for c in range(currents.shape[1]):
            x = currents[i, c]
            if x != 0.0:
                for j in range(len(bias)):
                    after[j] += x * weights[c, j]
        for j in range(len(bias)):
            if delayed:
                after[j] += bias[j]
            before[j] = bias[j] if delayed else after[j]


@_jit
def _arrive(h: Any, spikes: Any, weights: Any) -> None:
    """``h += spikes @ weights``, row by row in ascending order."""
    size = len(h)
    for k in range(len(spikes)):
        count = spikes[k]
        if count:
            for j in range(size):
                h[j] += count * weights[k * size + j]


@_jit
def _update(
    v: Any,
    waiting: Any,
    current: Any,
    h: Any,
    fired: Any,
    threshold: float,
    gain: float,
    decay: float,
    reset: float,
    refractory: int,
    subtracts: int,
) -> None:
    """One tick of one layer; `waiting` counts the ticks until a neuron is no longer refractory."""
    for j in range(len(v)):
        if subtracts:
            waiting[j] = max(0, waiting[j] - 1)
            v[j] = gain * current[j] + h[j] + decay * v[j]
            over = v[j] >= threshold and waiting[j] == 0
        else:
            if waiting[j] == 0:
                v[j] = gain * current[j] + decay * v[j] + h[j]
            else:
                waiting[j] -= 1
            over = v[j] >= threshold
        fired[j] = over
        if over:
            v[j] = v[j] - threshold if subtracts else reset
            waiting[j] = refractory


@_jit
def advance(
    ints: Any,
    floats: Any,
    first: int,
    last: int,
    drives: Any,
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
    ints, floats : as `pack` returns them
    drives : float64 [n, 2, sizes[0]]
        From `drive`.
    spikes : uint8 [n, steps, n_channels]
        Input spikes; steps = 0 where there are none.
    v : float64 [n, neurons]
        Potentials, relative to E_L.
    waiting : int64 [n, neurons]
    ring : uint8 [n, RING, neurons]
        The last spikes, for delays.
    raster : uint8 [n, steps, neurons], steps = 0: not recorded
    traces : float64 [n, steps, neurons], steps = 0: not recorded
    """
    n_layers, depth, per_step = ints[N_LAYERS], ints[RING], ints[TICKS_PER_STEP]
    arrivals = np.empty(v.shape[1])
    for i in range(v.shape[0]):
        for k in range(first * per_step, last * per_step):
            now = ring[i, k % depth]
            before, start, n_before = 0, 0, ints[N_CHANNELS]
            at = HEAD_FLOATS
            for layer in range(n_layers):
                size, delay = ints[HEAD_INTS + layer], ints[HEAD_INTS + n_layers + layer]
                end = start + size
                constant = floats[at + 1 : at + 1 + size]
                weights = floats[at + 1 + size : at + 1 + size + n_before * size]
                h = arrivals[:size]
                h[:] = 0.0
                if layer == 0:
                    constant = drives[i, 1 if k >= ints[INPUT_AT] else 0]
                    # A spike of step t counts as fired in the tick before the step.
                    t, between = divmod(k + 1 - delay, per_step)
                    if between == 0 and 0 <= t < spikes.shape[1]:
                        _arrive(h, spikes[i, t], weights)
                elif k >= delay:
                    _arrive(h, ring[i, (k - delay) % depth, before:start], weights)
                fired = now[start:end]
                _update(
                    v[i, start:end],
                    waiting[i, start:end],
                    constant,
                    h,
                    fired,
                    floats[at],
                    floats[GAIN],
                    floats[DECAY],
                    floats[RESET],
                    ints[REFRACTORY],
                    ints[SUBTRACTS],
                )
                if raster.shape[1]:
                    raster[i, k // per_step, start:end] += fired
                at += 1 + size + n_before * size
                before, start, n_before = start, end, size
            if traces.shape[1] and (k + 1) % per_step == 0:
                traces[i, k // per_step] = v[i]

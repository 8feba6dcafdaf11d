"""The decision circuit's software twin: what the machine computes, to the bit, in this process, for many samples."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from ...errors import SessionStateError
from ...models.stimulus import FloatArray, Stimulus
from ..backend import Readout
from ..deployment import Deployment
from ..software_session import SoftwareSession
from .circuit import Circuit, circuit_of, unit

# Scalars at the head of the packed integers; sizes, thresholds, and the layers' biases and weights follow.
N_LAYERS, N_INPUTS, DRIVES, HEAD = range(4)


class CircuitTwinSession(SoftwareSession):
    """A session that decides as the circuit does; see `spikeloop.deploy.backend.Session`.

    The outputs are the circuit's answer: 1 for the chosen action, 0 for the others. The potentials that it compared are
    the last layer's traces, where potentials are recorded.
    """

    def __init__(self, deployment: Deployment) -> None:
        circuit = circuit_of(deployment.network, deployment.profile)
        super().__init__(circuit.network.sizes, output_fires=False, trace_type=np.int64)
        self._packed = pack(circuit)
        self._units = np.repeat([unit(shift) for shift in circuit.shifts], circuit.network.sizes)
        self._answers = np.eye(circuit.n_actions)
        self._allocate(1)

    def _allocate(self, n: int) -> None:
        self._v = np.empty((n, self._neurons), dtype=np.int64)
        self._fired = np.empty((n, self._neurons), dtype=np.uint8)

    def _begin(self, stimulus: Stimulus) -> None:
        self._codes = codes_of(stimulus)
        if len(self._codes) != len(self._v):
            self._allocate(len(self._codes))
        self._v.fill(0)
        self._fired.fill(0)

    def _advance(self, first: int, last: int) -> None:
        advance(self._packed, first, last, self._codes, self._v, self._fired, self._raster, self._traces)

    def _readout(self) -> Readout:
        potentials = self._answers.take(self._v[:, self._layers[-1]].argmax(axis=1), axis=0)
        recording = self._recording
        if not (recording.spikes or recording.potentials):
            return Readout(potentials)
        traces: FloatArray = self._traces * self._units if recording.potentials else np.zeros(0)
        return Readout(
            potentials=potentials,
            rasters=tuple(self._raster[:, :, layer].copy() for layer in self._spiking) if recording.spikes else None,
            traces=tuple(traces[:, :, layer] for layer in self._layers) if recording.potentials else None,
        )


def codes_of(stimulus: Stimulus) -> NDArray[np.int64]:
    """The inputs as whole numbers.

    Raises
    ------
    SessionStateError
        If they are spikes, or no whole numbers: not what the network's encoder makes.
    """
    codes = stimulus.currents.astype(np.int64)
    if stimulus.spikes is not None or np.count_nonzero(codes != stimulus.currents):
        raise SessionStateError(
            "A decision circuit takes what its network's quantising encoder makes: whole numbers, and no spikes."
        )
    return codes


def pack(circuit: Circuit) -> NDArray[np.int64]:
    """A circuit for `advance`, as one array of integers."""
    parts: list[Any] = [[circuit.depth, circuit.network.n_channels, circuit.drives], circuit.network.sizes]
    parts.append([circuit.threshold(layer) for layer in range(circuit.depth)])
    for weights, bias in zip(circuit.weights, circuit.biases, strict=True):
        parts += [bias, weights.ravel()]
    return np.concatenate([np.asarray(part, dtype=np.int64) for part in parts])


def _jit(function: Any) -> Any:
    return numba.njit(cache=True, nogil=True, error_model="numpy")(function)


@_jit
def advance(packed: Any, first: int, last: int, codes: Any, v: Any, fired: Any, raster: Any, traces: Any) -> None:
    """Advance every sample from step `first` to step `last` (exclusive), in place.

    Parameters
    ----------
    packed : as `pack` returns it
    codes : int64 [n, n_inputs]
    v : int64 [n, neurons]
        Potentials in units of their layer; the last layer's are the outputs, which have neither floor nor threshold.
    fired : uint8 [n, neurons]
        Who fired in the step before.
    raster : uint8 [n, steps, neurons], steps = 0: not recorded
        A neuron whose update of step t reaches the threshold fires in step t + 1, as the Network counts.
    traces : int64 [n, steps, neurons], steps = 0: not recorded
    """
    n_layers, n_inputs, drives = packed[N_LAYERS], packed[N_INPUTS], packed[DRIVES]
    sizes, thresholds = packed[HEAD : HEAD + n_layers], packed[HEAD + n_layers : HEAD + 2 * n_layers]
    drive = np.empty(v.shape[1], dtype=np.int64)
    for i in range(v.shape[0]):
        for t in range(first, last):
            if raster.shape[1]:
                raster[i, t] = fired[i]
            # From the last layer to the first, so that `fired` still holds the step before.
            end = v.shape[1]
            at = len(packed)
            for layer in range(n_layers - 1, -1, -1):
                size = sizes[layer]
                start = end - size
                n_before = sizes[layer - 1] if layer else n_inputs
                at -= size * (n_before + 1)
                bias, weights = packed[at : at + size], packed[at + size : at + size * (n_before + 1)]
                h = drive[:size]
                if t >= drives + layer:
                    for j in range(start, end):
                        if layer < n_layers - 1:  # flushed
                            v[i, j] = 0
                            fired[i, j] = 0
                    end = start
                    continue
                for j in range(size):
                    h[j] = bias[j]
                for k in range(n_before):
                    x = fired[i, start - n_before + k] if layer else codes[i, k]
                    if x:
                        for j in range(size):
                            h[j] += x * weights[k * size + j]
                if layer == n_layers - 1:
                    for j in range(size):
                        v[i, start + j] += h[j]
                else:
                    for j in range(size):
                        moved = max(0, v[i, start + j] + h[j])
                        over = moved >= thresholds[layer]
                        v[i, start + j] = 0 if over else moved
                        fired[i, start + j] = over
                end = start
            if traces.shape[1]:
                traces[i, t] = v[i]

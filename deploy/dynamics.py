"""The Network's dynamics as one compiled loop: the reference that every target is compared with.

Sums run in a fixed order (ascending presynaptic index, after the bias), so a sample's result does not depend on the
batch that it is part of. Arguments are packed into few arrays because each one costs time at every call, and a
decision takes microseconds.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from ..models.network import Network
from ..models.stimulus import FloatArray

# Scalars at the head of the packed arrays; the layers follow.
N_LAYERS, N_CHANNELS, ZERO_RESET, STRICT, OUTPUT_FIRES, RING, HEAD_INTS = range(7)
THRESHOLD, SUBTRACTED, MEMBRANE_DECAY, SYNAPSE_DECAY, HEAD_FLOATS = range(5)


def pack(network: Network) -> tuple[NDArray[np.int64], FloatArray]:
    """Pack a network for `drive` and `advance`: integers (flags, sizes, delays) and floats (scalars, bias, weights)."""
    neuron = network.neuron
    head = [
        len(network.layers),
        network.n_channels,
        neuron.reset == "zero",
        neuron.compare == ">",
        network.output_fires,
        max(layer.delay for layer in network.layers),
    ]
    ints = [*head, *network.sizes, *(layer.delay for layer in network.layers)]
    floats = [np.array([neuron.threshold, neuron.subtracted, neuron.membrane_decay, neuron.synapse_decay])]
    for layer in network.layers:
        floats += [layer.bias, layer.weights.ravel()]
    return np.array(ints, dtype=np.int64), np.concatenate(floats)


def _jit(function: Any) -> Any:
    return numba.njit(cache=True, nogil=True, error_model="numpy")(function)


@_jit
def drive(ints: Any, floats: Any, currents: Any, out: Any) -> None:
    """``out[i] = bias + currents[i] @ weights`` of the first layer, summed in ascending order of the channels."""
    n_channels = ints[N_CHANNELS]
    size = ints[HEAD_INTS]
    weights = HEAD_FLOATS + size
    for i in range(currents.shape[0]):
        for j in range(size):
            out[i, j] = floats[HEAD_FLOATS + j]
        for c in range(n_channels):
            x = currents[i, c]
            if x != 0.0:
                for j in range(size):
                    out[i, j] += x * floats[weights + c * size + j]


@_jit
def advance(
    ints: Any,
    floats: Any,
    first: int,
    last: int,
    drives: Any,
    spikes: Any,
    state: Any,
    ring: Any,
    raster: Any,
    traces: Any,
) -> None:
    """Advance every sample from step `first` to step `last` (exclusive), in place.

    Parameters
    ----------
    ints, floats : as `pack` returns them
    drives : float64 [n, sizes[0]]
        Constant input of the first layer, from `drive`.
    spikes : uint8 [n, steps, n_channels]
        Input spikes; steps = 0 where there are none.
    state : float64 [n, 2, neurons]
        Potentials and synaptic inputs.
    ring : uint8 [n, RING, neurons]
        The last spikes, for delays.
    raster : uint8 [n, steps, neurons], steps = 0: not recorded
    traces : float64 [n, steps, neurons], steps = 0: not recorded
    """
    n_layers = ints[N_LAYERS]
    n_channels = ints[N_CHANNELS]
    depth = ints[RING]
    threshold = floats[THRESHOLD]
    beta = floats[MEMBRANE_DECAY]
    alpha = floats[SYNAPSE_DECAY]
    taken = floats[SUBTRACTED]
    strict = ints[STRICT]
    zero = ints[ZERO_RESET]
    record = raster.shape[1] > 0
    trace = traces.shape[1] > 0
    spiking_input = spikes.shape[1]
    inputs = np.empty(state.shape[2])
    for i in range(state.shape[0]):
        mem = state[i, 0]
        syn = state[i, 1]
        for t in range(first, last):
            now = ring[i, t % depth]
            start = 0
            before = 0
            n_before = n_channels
            parameters = HEAD_FLOATS
            for layer in range(n_layers):
                size = ints[HEAD_INTS + layer]
                weights = parameters + size
                if layer == 0:
                    for j in range(size):
                        inputs[j] = drives[i, j]
                    if t < spiking_input:
                        for c in range(n_channels):
                            count = spikes[i, t, c]
                            if count:
                                row = weights + c * size
                                for j in range(size):
                                    inputs[j] += count * floats[row + j]
                else:
                    for j in range(size):
                        inputs[j] = floats[parameters + j]
                    back = t - ints[HEAD_INTS + n_layers + layer] + 1
                    if back >= 0:
                        fired = ring[i, back % depth]
                        for k in range(n_before):
                            if fired[before + k]:
                                row = weights + k * size
                                for j in range(size):
                                    inputs[j] += floats[row + j]
                fires = layer < n_layers - 1 or ints[OUTPUT_FIRES] == 1
                for j in range(size):
                    m = start + j
                    potential = mem[m]
                    spike = fires and (potential > threshold if strict else potential >= threshold)
                    if not spike:
                        mem[m] = beta * potential + syn[m]
                    elif zero:
                        mem[m] = 0.0
                    else:
                        mem[m] = beta * potential + syn[m] - taken
                    syn[m] = alpha * syn[m] + inputs[j]
                    now[m] = spike
                    if record:
                        raster[i, t, m] = spike
                    if trace:
                        traces[i, t, m] = mem[m]
                before = start
                n_before = size
                start += size
                parameters = weights + size * (n_channels if layer == 0 else ints[HEAD_INTS + layer - 1])

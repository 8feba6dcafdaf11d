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

from ..models.layers import Sparse
from ..models.network import Network
from ..models.stimulus import FloatArray

# Scalars at the head of the packed arrays; the layers follow. Of each layer the integers state its size, its delay, and
# where the starts of its rows are, 0 where it is dense; the columns follow the starts.
N_LAYERS, N_CHANNELS, ZERO_RESET, STRICT, OUTPUT_FIRES, RING, HEAD_INTS = range(7)
THRESHOLD, SUBTRACTED, MEMBRANE_DECAY, SYNAPSE_DECAY, HEAD_FLOATS = range(5)


def pack(network: Network, n_layers: int | None = None) -> tuple[NDArray[np.int64], FloatArray]:
    """Pack a network, or its first layers, for `drive` and `advance`.

    Returns
    -------
    ints : flags, sizes, delays, and where sparse connections lead
    floats : scalars, and bias and weights of each layer
    """
    neuron, layers = network.neuron, network.layers[:n_layers]
    head = [
        len(layers),
        network.n_channels,
        neuron.reset == "zero",
        neuron.compare == ">",
        network.output_fires,
        max(layer.delay for layer in layers),
    ]
    sizes, delays = [layer.n_out for layer in layers], [layer.delay for layer in layers]
    rows: list[int] = []
    indices: list[NDArray[Any]] = []
    floats = [np.array([neuron.threshold, neuron.subtracted, neuron.membrane_decay, neuron.synapse_decay])]
    end = HEAD_INTS + 3 * len(layers)
    for layer in layers:
        connections = layer.connections
        if isinstance(connections, Sparse):
            rows.append(end)
            indices += [connections.starts, connections.columns]
            end += connections.starts.size + connections.columns.size
            floats += [layer.neuron_bias, connections.values]
        else:
            rows.append(0)
            floats += [layer.neuron_bias, connections.ravel()]
    ints = np.array([*head, *sizes, *delays, *rows], dtype=np.int64)
    return np.concatenate([ints, *indices], dtype=np.int64), np.concatenate(floats)


def _jit(function: Any) -> Any:
    return numba.njit(cache=True, nogil=True, error_model="numpy")(function)


@_jit
def add_rows(h: Any, spikes: Any, weights: Any) -> None:
    """``h += spikes @ weights``, where most spikes are 0: row by row, in ascending order."""
    size = len(h)
    for k in range(len(spikes)):
        count = spikes[k]
        if count:
            row = weights[k * size : (k + 1) * size]
            for j in range(size):
                h[j] += count * row[j]


@_jit
def add_sparse_rows(h: Any, spikes: Any, weights: Any, rows: int, ints: Any) -> None:
    """The same for sparse weights, whose starts are at `rows` of `ints`."""
    n_before = len(spikes)
    starts, columns = ints[rows : rows + n_before + 1], ints[rows + n_before + 1 :]
    for k in range(n_before):
        count = spikes[k]
        if count:
            for s in range(starts[k], starts[k + 1]):
                h[columns[s]] += count * weights[s]


@_jit
def drive(ints: Any, floats: Any, currents: Any, out: Any) -> None:
    """``out[i] = bias + currents[i] @ weights`` of the first layer, summed in ascending order of the channels."""
    n_channels = ints[N_CHANNELS]
    size, rows = ints[HEAD_INTS], ints[HEAD_INTS + 2 * ints[N_LAYERS]]
    weights = HEAD_FLOATS + size
    for i in range(currents.shape[0]):
        for j in range(size):
            out[i, j] = floats[HEAD_FLOATS + j]
        if rows:
            add_sparse_rows(out[i], currents[i], floats[weights:], rows, ints)
            continue
        for c in range(n_channels):
            x = currents[i, c]
            if x != 0.0:
                for j in range(size):
                    out[i, j] += x * floats[weights + c * size + j]


@_jit
def _update(
    mem: Any,
    syn: Any,
    h: Any,
    fired: Any,
    threshold: float,
    taken: float,
    beta: float,
    alpha: float,
    strict: int,
    zero: int,
) -> None:
    """One step of one layer; spikes are 0.0 and 1.0."""
    for j in range(len(mem)):
        over = mem[j] > threshold if strict else mem[j] >= threshold
        moved = beta * mem[j] + syn[j]
        fired[j] = 1.0 if over else 0.0
        mem[j] = (0.0 if zero else moved - taken) if over else moved
        syn[j] = alpha * syn[j] + h[j]


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
    ring : float64 [n, RING, neurons]
        The last spikes (0 or 1), for delays.
    raster : uint8 [n, steps, neurons], steps = 0: not recorded
    traces : float64 [n, steps, neurons], steps = 0: not recorded
    """
    n_layers, depth = ints[N_LAYERS], ints[RING]
    threshold, taken = floats[THRESHOLD], floats[SUBTRACTED]
    beta, alpha = floats[MEMBRANE_DECAY], floats[SYNAPSE_DECAY]
    inputs = np.empty(state.shape[2])
    for i in range(state.shape[0]):
        for t in range(first, last):
            now = ring[i, t % depth]
            before, start, n_before = 0, 0, ints[N_CHANNELS]
            parameters = HEAD_FLOATS
            for layer in range(n_layers):
                size = ints[HEAD_INTS + layer]
                end = start + size
                rows = ints[HEAD_INTS + 2 * n_layers + layer]
                synapses = ints[rows + n_before] if rows else n_before * size
                weights = floats[parameters + size : parameters + size + synapses]
                h = inputs[:size]
                if layer == 0:
                    h[:] = drives[i]
                    if t < spikes.shape[1]:
                        if rows:
                            add_sparse_rows(h, spikes[i, t], weights, rows, ints)
                        else:
                            add_rows(h, spikes[i, t], weights)
                else:
                    h[:] = floats[parameters : parameters + size]
                    back = t - ints[HEAD_INTS + n_layers + layer] + 1
                    if back >= 0:
                        fired_before = ring[i, back % depth, before:start]
                        if rows:
                            add_sparse_rows(h, fired_before, weights, rows, ints)
                        else:
                            add_rows(h, fired_before, weights)
                mem, syn, fired = state[i, 0, start:end], state[i, 1, start:end], now[start:end]
                limit = threshold if layer < n_layers - 1 or ints[OUTPUT_FIRES] else np.inf
                _update(mem, syn, h, fired, limit, taken, beta, alpha, ints[STRICT], ints[ZERO_RESET])
                if raster.shape[1]:
                    raster[i, t, start:end] = fired.astype(np.uint8)
                if traces.shape[1]:
                    traces[i, t, start:end] = mem
                parameters += size + synapses
                before, start, n_before = start, end, size

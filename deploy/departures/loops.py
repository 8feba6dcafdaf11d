"""The compiled update of any `Dynamics`, which dynamics.py states. Arrays are packed by `session.pack`."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from ..dynamics import add_rows, add_sparse_rows
from ..spinnaker.neuron_twin import arrive_by_receptor, times, wrap

# Integers at the head; then a row for each layer, and the structure of sparse connections.
(N_LAYERS, N_CHANNELS, PER_STEP, RING, BIAS_AT, INPUT_AT, SPIKES_AT, RESET, LATE, REFRACTORY, HOLDS, STRICT, NOISY,
 ADAPTS, BY_RECEPTOR, HEAD_INTS) = range(16)  # fmt: skip
SIZE, DELAY, UNTIL, ROWS, SHIFT_E, SHIFT_I, RESISTANCE, FIXED_DECAY, PER_MS, FIXED, WIDTH = range(11)
LEAKY = 2  # of FIXED: 0 is float64, 1 plain s16.15
# Floats at the head; then of each layer its membrane, thresholds, what resets take, and weights.
(SYNAPSE_DECAY, SYNAPSE_GAIN, TICK_S, C_1, C_2, C_3, ADAPTATION_DECAY, LOSS, SYNAPSE_LOSS, HEAD_FLOATS) = range(10)
GAIN, DECAY, SPIKE_GAIN, RESET_TO, FLOOR, MEMBRANE = range(6)
SUBTRACTS, SETS, NOTHING = range(3)


def jit(function: Any) -> Any:
    """Compile; the machine code is kept on disk."""
    return numba.njit(cache=True, nogil=True, error_model="numpy")(function)


@jit
def _arrive(exciting: Any, inhibiting: Any, by_receptor: int, spikes: Any, weights: Any, rows: int, ints: Any) -> None:
    """Set to the weights of the neurons that fired; by receptor, inhibition by itself and positive."""
    exciting[:] = 0.0
    inhibiting[:] = 0.0
    if not by_receptor:
        if rows:
            add_sparse_rows(exciting, spikes, weights, rows, ints)
        else:
            add_rows(exciting, spikes, weights)
        return
    arrive_by_receptor(exciting, inhibiting, spikes, weights)


@jit
def _arrive_lossy(
    exciting: Any, inhibiting: Any, by_receptor: int, spikes: Any, weights: Any, rows: int, ints: Any, loss: float
) -> None:
    """The same where each synapse loses spikes at random."""
    size = len(exciting)
    exciting[:] = 0.0
    inhibiting[:] = 0.0
    for k in range(len(spikes)):
        if spikes[k]:
            first, last = (ints[rows + k], ints[rows + k + 1]) if rows else (k * size, (k + 1) * size)
            for at in range(first, last):
                if np.random.random() >= loss:  # noqa: NPY002  # all that Numba has
                    j = ints[rows + len(spikes) + 1 + at] if rows else at - first
                    if by_receptor and weights[at] < 0:
                        inhibiting[j] -= weights[at]
                    else:
                        exciting[j] += weights[at]


@jit
def _detour(
    detours: Any, layer: int, weights: Any, k: int, delay: int, at: int, past: Any, before: int, e: Any
) -> bool:
    """Move what came along single synapses from their layer's delay to their own. `at`: the row of tick k in `past`."""
    some = False
    for d in range(detours.shape[0]):
        if detours[d, 0] == layer and layer > 0:
            source, j, own = before + detours[d, 1], detours[d, 2], detours[d, 3]
            weight = weights[detours[d, 1] * len(e) + j]
            e[j] += weight * (past[at - own, source] * (k >= own) - past[at - delay, source] * (k >= delay))
            some = True
    return some


@jit
def _saturated(sum_: float, shift: int) -> float:
    """What a ring buffer of 16 bits can hold of a sum of weights; shift < 0: no ring buffer."""
    return sum_ if shift < 0 else min(sum_, 65535.0 * 2.0 ** (shift - 15))


@jit
def _moved_fixed(v: float, current: float, exciting: float, inhibiting: float, row: Any) -> Any:
    """The potential after a tick in s16.15, as the firmware computes it."""
    per_ms = row[PER_MS]
    into = times(wrap(np.int64(np.floor(_saturated(exciting, row[SHIFT_E]) * 32768.0))), per_ms)
    out = times(wrap(np.int64(np.floor(_saturated(inhibiting, row[SHIFT_I]) * 32768.0))), per_ms)
    whole = np.floor(current * 32768.0)
    rest = np.int64((current * 32768.0 - whole) * row[RESISTANCE])  # 0 where inputs are quantised
    moved = wrap((wrap(wrap(into - out) + np.int64(whole)) * row[RESISTANCE] + rest) >> 15)
    before = np.int64(np.rint(v * 32768.0))
    if row[FIXED] != LEAKY:
        return wrap(times(before, row[FIXED_DECAY]) + moved) / 32768.0
    return wrap(moved - times(wrap(moved - before), row[FIXED_DECAY])) / 32768.0


@jit
def _update(
    ints: Any,
    floats: Any,
    row: Any,
    membrane: Any,
    thresholds: Any,
    taken: Any,
    v: Any,
    s: Any,
    q: Any,
    waiting: Any,
    pending: Any,
    current: Any,
    arrived: bool,
    exciting: Any,
    inhibiting: Any,
    fired: Any,
    fires: bool,
) -> int:
    """One tick of one layer, of any dynamics. Returns how many neurons fired."""
    some = 0
    gain, decay, spike_gain, reset_to = membrane[GAIN], membrane[DECAY], membrane[SPIKE_GAIN], membrane[RESET_TO]
    alpha, floor, adapts = floats[SYNAPSE_DECAY], membrane[FLOOR], ints[ADAPTS]
    reset, late, holds = ints[RESET], ints[LATE], ints[HOLDS]
    for j in range(len(v)):
        ready = waiting[j] == 0
        if pending[j] and reset == SETS:
            v[j] = reset_to
        if not ready:
            waiting[j] -= 1
        into = exciting[j] if arrived else 0.0
        out = inhibiting[j] if arrived else 0.0
        if ready or not holds:
            if row[FIXED] and alpha == 0.0:
                moved = _moved_fixed(v[j], current[j], into, out, row)
            else:
                h = _saturated(into, row[SHIFT_E]) - _saturated(out, row[SHIFT_I])
                if alpha != 0.0:
                    s[j] = alpha * s[j] + gain * current[j] + spike_gain * h
                    moved = decay * v[j] + floats[SYNAPSE_GAIN] * s[j]
                    if row[FIXED]:
                        moved = np.floor(moved * 32768.0) / 32768.0
                elif reset == SETS:
                    moved = gain * current[j] + decay * v[j] + spike_gain * h
                else:
                    moved = gain * current[j] + spike_gain * h + decay * v[j]
            if pending[j] and reset == SUBTRACTS:
                moved -= taken[j]
            v[j] = max(floor, moved) if fires else moved
        else:  # the input is lost, though it goes on in a synaptic current
            s[j] = alpha * s[j] + gain * current[j] + spike_gain * (into - out)
        over = False
        if fires:
            seen = v[j]
            if adapts:
                q[j] *= floats[ADAPTATION_DECAY]
                seen -= q[j]
            if ints[NOISY]:
                seen -= thresholds[j]
                rate = floats[C_1] * seen + floats[C_2] * np.exp(floats[C_3] * seen)
                if ready and rate > 0.0:
                    over = np.random.random() <= -np.expm1(-rate * floats[TICK_S])  # noqa: NPY002  # all that Numba has
            else:
                over = seen > thresholds[j] if ints[STRICT] else seen >= thresholds[j]
                over = over and (ready or holds)
        fired[j] = over
        some += over
        pending[j] = over and late
        if over:
            waiting[j] = ints[REFRACTORY]
            if reset == SETS and not late:
                v[j] = reset_to
            elif reset == SUBTRACTS and not late:
                v[j] -= taken[j]
            if adapts:
                q[j] += taken[j]
    return some


@jit
def advance(
    ints: Any,
    floats: Any,
    detours: Any,
    first: int,
    last: int,
    seed: int,
    inputs: Any,
    biases: Any,
    spikes: Any,
    v: Any,
    s: Any,
    q: Any,
    waiting: Any,
    pending: Any,
    ring: Any,
    raster: Any,
    traces: Any,
) -> None:
    """Advance every sample from tick `first` to tick `last` (exclusive), in place.

    Parameters
    ----------
    ints, floats : as `pack` returns them
    detours : int64 [m, 4]
        Layer, source, neuron and delay of synapses with a delay of their own.
    inputs : float64 [n, sizes[0]]
        The first layer's currents with its bias, once the observation acts.
    biases : float64 [neurons]
    spikes : uint8 [n, steps, n_channels]
        Input spikes; steps = 0 where there are none.
    v, s, q : float64 [n, neurons]
        Potentials, synaptic currents, adaptation of thresholds.
    waiting : int64 [n, neurons]
        Ticks until a neuron is no longer refractory.
    pending : uint8 [n, neurons]
        Who fired in the tick before, and is to be reset now.
    ring : uint8 [n, RING, neurons]
        The last spikes, for delays.
    raster : uint8 [n, steps, neurons], steps = 0: not recorded
    traces : float64 [n, steps, neurons], steps = 0: not recorded
    """
    n_layers, depth, per_step = ints[N_LAYERS], ints[RING], ints[PER_STEP]
    neurons, ticks = v.shape[1], last - first
    exciting, inhibiting, nothing = np.empty(neurons), np.empty(neurons), np.zeros(neurons)
    # Who fired in each tick, and how many of a layer, after the `depth` ticks that came before.
    past = np.zeros((depth + ticks, neurons), dtype=np.uint8)
    active = np.zeros((n_layers, depth + ticks), dtype=np.int64)
    loss, lossy = floats[LOSS], floats[SYNAPSE_LOSS]
    for i in range(v.shape[0]):
        if loss or lossy or ints[NOISY]:
            np.random.seed((seed + i * 1000003 + first * 7919) % 4294967296)  # noqa: NPY002
        past[:depth] = ring[i]
        past[depth:] = 0
        before, start, n_before = 0, 0, ints[N_CHANNELS]
        at = HEAD_FLOATS
        for layer in range(n_layers):  # one after the other, through all ticks: no layer feeds one before it
            row = ints[HEAD_INTS + layer * WIDTH : HEAD_INTS + (layer + 1) * WIDTH]
            size, delay, rows = row[SIZE], row[DELAY], row[ROWS]
            end = start + size
            synapses = ints[rows + n_before] if rows else n_before * size
            membrane = floats[at : at + MEMBRANE]
            at += MEMBRANE
            thresholds, taken = floats[at : at + size], floats[at + size : at + 2 * size]
            weights = floats[at + 2 * size : at + 2 * size + synapses]
            at += 2 * size + synapses
            by_receptor = ints[BY_RECEPTOR] and not rows
            fires = thresholds[0] < np.inf
            potentials, synaptic, adapted = v[i, start:end], s[i, start:end], q[i, start:end]
            wait, reset_next, bias = waiting[i, start:end], pending[i, start:end], biases[start:end]
            e, h = exciting[:size], inhibiting[:size]
            active[layer] = 0
            for m in range(depth):
                for j in range(start, end):
                    active[layer, m] += past[m, j]
            for k in range(first, last):
                m = k - first + depth
                if k >= row[UNTIL]:
                    if layer < n_layers - 1:
                        potentials[:] = 0.0
                else:
                    arrived = False
                    if layer == 0:
                        t, between = divmod(k - ints[SPIKES_AT], per_step)
                        if between == 0 and 0 <= t < spikes.shape[1]:
                            arrived = True
                            _arrive(e, h, by_receptor, spikes[i, t], weights, rows, ints)
                    elif active[layer - 1, m - delay]:
                        arrived = True
                        sent = past[m - delay, before:start]
                        if lossy:
                            _arrive_lossy(e, h, by_receptor, sent, weights, rows, ints, lossy)
                        else:
                            _arrive(e, h, by_receptor, sent, weights, rows, ints)
                    if detours.shape[0]:
                        if not arrived:
                            e[:] = 0.0
                            h[:] = 0.0
                        arrived |= _detour(detours, layer, weights, k, delay, m, past, before, e)
                    current = bias
                    if layer == 0 and k >= ints[INPUT_AT]:
                        current = inputs[i]
                    elif k < ints[BIAS_AT]:
                        current = nothing[:size]
                    fired = past[m, start:end]
                    active[layer, m] = _update(
                        ints,
                        floats,
                        row,
                        membrane,
                        thresholds,
                        taken,
                        potentials,
                        synaptic,
                        adapted,
                        wait,
                        reset_next,
                        current,
                        arrived,
                        e,
                        h,
                        fired,
                        fires,
                    )
                    if active[layer, m] and raster.shape[1]:
                        for j in range(size):
                            if fired[j] and raster[i, k // per_step, start + j] < 255:
                                raster[i, k // per_step, start + j] += 1
                    if loss and layer < n_layers - 1:
                        for j in range(size):
                            if fired[j] and np.random.random() < loss:  # noqa: NPY002
                                fired[j] = 0
                if traces.shape[1] and (k + 1) % per_step == 0:
                    traces[i, k // per_step, start:end] = potentials
            before, start, n_before = start, end, size
        ring[i] = past[ticks:]

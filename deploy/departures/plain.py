"""The update of `Dynamics` for plain neurons: what attributions simulate most, several times as fast as by `loops`.

Plain are float64 neurons without refractory time, synaptic current, receptors of their own, adaptation or chance. Each
operation, and the order of additions, is that of `loops.advance`, to the bit. What makes the difference: loops over
neurons that processors do several at once, and lists of spikes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .loops import (
    ADAPTS,
    BIAS_AT,
    BY_RECEPTOR,
    DECAY,
    DELAY,
    FLOOR,
    GAIN,
    HEAD_FLOATS,
    HEAD_INTS,
    INPUT_AT,
    LATE,
    LOSS,
    MEMBRANE,
    N_CHANNELS,
    N_LAYERS,
    NOISY,
    NOTHING,
    PER_STEP,
    REFRACTORY,
    RESET,
    RESET_TO,
    RING,
    ROWS,
    SETS,
    SIZE,
    SPIKE_GAIN,
    SPIKES_AT,
    STRICT,
    SYNAPSE_DECAY,
    SYNAPSE_LOSS,
    UNTIL,
    WIDTH,
    jit,
)


def is_plain(ints: Any, floats: Any, detours: Any) -> bool:
    """Whether `advance_plain` can be used."""
    special = ints[[REFRACTORY, NOISY, ADAPTS, BY_RECEPTOR]].any() or ints[RESET] == NOTHING or len(detours)
    return not (special or floats[[SYNAPSE_DECAY, LOSS, SYNAPSE_LOSS]].any())


@jit
def _add(h: Any, k: int, count: int, weights: Any, rows: int, n_before: int, ints: Any) -> None:
    """Add what `count` spikes of neuron k bring."""
    if rows:
        columns = rows + n_before + 1
        for synapse in range(ints[rows + k], ints[rows + k + 1]):
            h[ints[columns + synapse]] += count * weights[synapse]
    else:
        size = len(h)
        row = weights[k * size : (k + 1) * size]
        for j in range(size):
            h[j] += count * row[j]


@jit
def _layer(
    ints: Any,
    row: Any,
    membrane: Any,
    thresholds: Any,
    taken: Any,
    weights: Any,
    n_before: int,
    is_first: bool,
    is_last: bool,
    first: int,
    last: int,
    inputs: Any,
    biases: Any,
    spikes: Any,
    v: Any,
    h: Any,
    current: Any,
    sent: Any,
    n_sent: Any,
    fired: Any,
    n_fired: Any,
    raster: Any,
    traces: Any,
) -> None:
    """One layer of one sample, through all ticks. `sent` and `fired` list who fired in each tick, `n_...` how many."""
    depth, per_step, reset, late = ints[RING], ints[PER_STEP], ints[RESET], ints[LATE]
    strict, bias_at, input_at, spikes_at = ints[STRICT], ints[BIAS_AT], ints[INPUT_AT], ints[SPIKES_AT]
    gain, decay, spike_gain = membrane[GAIN], membrane[DECAY], membrane[SPIKE_GAIN]
    reset_to, floor = membrane[RESET_TO], membrane[FLOOR]
    size, delay, rows, until = row[SIZE], row[DELAY], row[ROWS], row[UNTIL]
    fires = thresholds[0] < np.inf
    records, traced = raster.shape[0] > 0, traces.shape[0] > 0
    for k in range(first, last):
        m = k - first + depth
        if k >= until:
            if not is_last:
                v[:] = 0.0
        else:
            if k in (first, input_at, bias_at):
                for j in range(size):
                    given = inputs[j] if is_first and k >= input_at else biases[j] if k >= bias_at else 0.0
                    current[j] = gain * given
            arrived = False
            if is_first:
                t, between = divmod(k - spikes_at, per_step)
                if between == 0 and 0 <= t < spikes.shape[0]:
                    arrived = True
                    h[:] = 0.0
                    for c in range(n_before):
                        if spikes[t, c]:
                            _add(h, c, spikes[t, c], weights, rows, n_before, ints)
            elif n_sent[m - delay]:
                arrived = True
                h[:] = 0.0
                for e in range(n_sent[m - delay]):
                    _add(h, sent[m - delay, e], 1, weights, rows, n_before, ints)
            if late and reset == SETS:
                for e in range(n_fired[m - 1]):
                    v[fired[m - 1, e]] = reset_to
            if not arrived:
                for j in range(size):
                    v[j] = current[j] + decay * v[j]
            elif reset == SETS:
                for j in range(size):
                    v[j] = current[j] + decay * v[j] + spike_gain * h[j]
            else:
                for j in range(size):
                    v[j] = current[j] + spike_gain * h[j] + decay * v[j]
            if fires:
                if late and reset != SETS:
                    for e in range(n_fired[m - 1]):
                        v[fired[m - 1, e]] -= taken[fired[m - 1, e]]
                if floor > -np.inf:
                    for j in range(size):
                        v[j] = max(floor, v[j])
                over = 0
                if strict:
                    for j in range(size):
                        over += v[j] > thresholds[j]
                else:
                    for j in range(size):
                        over += v[j] >= thresholds[j]
                if over:
                    n_fired[m] = over
                    e = 0
                    for j in range(size):
                        if v[j] > thresholds[j] or (v[j] == thresholds[j] and not strict):
                            fired[m, e] = j
                            e += 1
                            if not late:
                                v[j] = reset_to if reset == SETS else v[j] - taken[j]
                            if records and raster[k // per_step, j] < 255:
                                raster[k // per_step, j] += 1
        if traced and (k + 1) % per_step == 0:
            traces[k // per_step, :] = v


@jit
def advance_plain(
    ints: Any,
    floats: Any,
    first: int,
    last: int,
    inputs: Any,
    biases: Any,
    spikes: Any,
    v: Any,
    ring: Any,
    raster: Any,
    traces: Any,
) -> None:
    """Advance every sample from tick `first` to tick `last` (exclusive), in place; arguments as of `loops.advance`."""
    n_layers, depth = ints[N_LAYERS], ints[RING]
    neurons, ticks = v.shape[1], last - first
    # Who fired in each tick, after the `depth` ticks that came before: of each layer a list, and how long it is.
    fired = np.empty((n_layers, depth + ticks, neurons), dtype=np.int32)
    counts = np.zeros((n_layers, depth + ticks), dtype=np.int32)
    scratch = np.empty((2, neurons))
    for i in range(v.shape[0]):
        start, n_before = 0, ints[N_CHANNELS]
        at = HEAD_FLOATS
        for layer in range(n_layers):
            row = ints[HEAD_INTS + layer * WIDTH : HEAD_INTS + (layer + 1) * WIDTH]
            size, rows = row[SIZE], row[ROWS]
            end = start + size
            synapses = ints[rows + n_before] if rows else n_before * size
            membrane = floats[at : at + MEMBRANE]
            at += MEMBRANE
            thresholds, taken = floats[at : at + size], floats[at + size : at + 2 * size]
            weights = floats[at + 2 * size : at + 2 * size + synapses]
            at += 2 * size + synapses
            counts[layer] = 0
            if first:
                for m in range(depth):
                    for j in range(size):
                        if ring[i, m, start + j]:
                            fired[layer, m, counts[layer, m]] = j
                            counts[layer, m] += 1
            _layer(
                ints,
                row,
                membrane,
                thresholds,
                taken,
                weights,
                n_before,
                layer == 0,
                layer == n_layers - 1,
                first,
                last,
                inputs[i],
                biases[start:end],
                spikes[i if spikes.shape[1] else 0],
                v[i, start:end],
                scratch[0, :size],
                scratch[1, :size],
                fired[layer - 1],
                counts[layer - 1],
                fired[layer],
                counts[layer],
                raster[i if raster.shape[1] else 0, :, start:end],
                traces[i if traces.shape[1] else 0, :, start:end],
            )
            start, n_before = end, size
        ring[i] = 0
        start = 0
        for layer in range(n_layers):
            for m in range(depth):
                for e in range(counts[layer, ticks + m]):
                    ring[i, m, start + fired[layer, ticks + m, e]] = 1
            start += ints[HEAD_INTS + layer * WIDTH + SIZE]

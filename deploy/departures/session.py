"""A session of any dynamics: the simulation that stands between a Network and its target."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...models.layers import Sparse
from ...models.stimulus import FloatArray, Stimulus
from ..backend import Readout
from ..dynamics import add_sparse_rows
from ..software_session import NO_SPIKES, SoftwareSession
from .dynamics import Dynamics
from .loops import HEAD_INTS, LEAKY, NOTHING, RING, SETS, SUBTRACTS, WIDTH, advance
from .plain import advance_plain, is_plain

Ints = NDArray[np.int64]


class DepartedSession(SoftwareSession):
    """A session of any dynamics, for any number of samples; see `spikeloop.deploy.backend.Session`.

    Parameters
    ----------
    dynamics : Dynamics
    seed : int
        Each sample of a window draws its random numbers from a seed of its own, the same in every window.
    """

    def __init__(self, dynamics: Dynamics, seed: int = 0) -> None:
        super().__init__([layer.size for layer in dynamics.layers], dynamics.network.output_fires)
        self._dynamics = dynamics
        self._seed = seed
        self._ints, self._floats = pack(dynamics)
        self._detours = np.array(
            [(d.layer, d.source, d.neuron, d.delay) for d in dynamics.detours], dtype=np.int64
        ).reshape(-1, 4)
        self._plain = is_plain(self._ints, self._floats, self._detours)
        self._starts = np.concatenate([layer.start for layer in dynamics.layers])
        self._biases = _quantised(np.concatenate([layer.bias for layer in dynamics.layers]), dynamics.input_unit)
        self._allocate(1)

    def _allocate(self, n: int) -> None:
        neurons = self._neurons
        self._v, self._s, self._q = (np.empty((n, neurons)) for _ in range(3))
        self._waiting = np.empty((n, neurons), dtype=np.int64)
        self._pending = np.empty((n, neurons), dtype=np.uint8)
        self._ring = np.empty((n, self._ints[RING], neurons), dtype=np.uint8)
        self._inputs = np.empty((n, self._layers[0].stop))

    def _begin(self, stimulus: Stimulus) -> None:
        if len(stimulus) != len(self._v):
            self._allocate(len(stimulus))
        self._v[:] = self._starts
        for array in (self._s, self._q, self._waiting, self._pending, self._ring):
            array.fill(0)
        currents = _with_losses(self._dynamics, stimulus.currents, self._seed)
        self._inputs[:] = _quantised(first_inputs(self._dynamics, currents), self._dynamics.input_unit)
        self._spikes = NO_SPIKES if stimulus.spikes is None else stimulus.spikes

    def _advance(self, first: int, last: int) -> None:
        ticks = first * self._dynamics.ticks_per_step, last * self._dynamics.ticks_per_step
        if self._plain:
            advance_plain(
                self._ints,
                self._floats,
                *ticks,
                self._inputs,
                self._biases,
                self._spikes,
                self._v,
                self._ring,
                self._raster,
                self._traces,
            )
            return
        advance(
            self._ints,
            self._floats,
            self._detours,
            *ticks,
            self._seed,
            self._inputs,
            self._biases,
            self._spikes,
            self._v,
            self._s,
            self._q,
            self._waiting,
            self._pending,
            self._ring,
            self._raster,
            self._traces,
        )

    def _readout(self) -> Readout:
        dynamics, layers, recording = self._dynamics, self._layers, self._recording
        potentials = (self._v[:, layers[-1]] - dynamics.layers[-1].zero) * dynamics.output_scale
        if dynamics.answers_only:
            potentials = _answers(potentials, dynamics.loss, self._seed)
        rasters = traces = output_raster = None
        if recording.spikes or self._fires:
            shown = self._shown()
            output_raster = shown[:, :, layers[-1]] if self._fires else None
            if recording.spikes:
                rasters = tuple(self._of_copies(i, shown[:, :, at]) for i, at in enumerate(self._spiking))
        if recording.potentials:
            zeros = [layer.zero for layer in dynamics.layers]
            traces = tuple(self._mean(i, self._traces[:, :, at] - zeros[i]) for i, at in enumerate(layers))
        return Readout(potentials, output_raster, rasters, traces)

    def _shown(self) -> NDArray[np.uint8]:
        """Spikes in the steps that they are shown in."""
        shift, fired = self._dynamics.spike_shift, self._raster
        if not shift:
            return fired.copy()
        shown = np.zeros_like(fired)
        shown[:, shift:] = fired[:, :-shift]
        return shown

    def _of_copies(self, layer: int, counts: NDArray[np.uint8]) -> NDArray[np.uint8]:
        copies = self._dynamics.copies[layer]
        if copies == 1:
            return counts.copy()
        total = counts.reshape(*counts.shape[:2], -1, copies).sum(axis=-1, dtype=np.int64)
        shown: NDArray[np.uint8] = np.minimum(total, 255).astype(np.uint8)
        return shown

    def _mean(self, layer: int, values: FloatArray) -> FloatArray:
        copies = self._dynamics.copies[layer]
        if layer == len(self._layers) - 1:
            return values * self._dynamics.output_scale
        mean: FloatArray = values.reshape(*values.shape[:2], -1, copies).mean(axis=-1)
        return mean


def first_inputs(dynamics: Dynamics, currents: FloatArray) -> FloatArray:
    """What the currents [n, n_channels] give each neuron of the first layer: [n, size], its bias included.

    Added in the order of the target: after the bias, or apart from it where the two do not come together.
    """
    first, weights, copies = dynamics.layers[0], dynamics.input_weights, dynamics.copies[0]
    apart = dynamics.input_at != dynamics.bias_at
    scaled = copies > 1 or bool((first.gains != 1).any())
    bias = dynamics.network.layers[0].neuron_bias if scaled else first.bias
    sparse = isinstance(weights, Sparse)
    found = np.zeros((len(currents), len(bias)))
    if sparse or not apart:
        found += bias
    if isinstance(weights, Sparse):
        structure = np.concatenate([weights.starts, weights.columns], dtype=np.int64)
        for row, values in zip(found, currents, strict=True):
            add_sparse_rows(row, values, weights.values, 0, structure)
        if apart:  # which a target that gets sums instead of currents takes the bias from
            found -= bias
    else:
        for channel, row in enumerate(weights):
            found += currents[:, channel, None] * row
    found = np.repeat(found, copies, axis=1) * first.gains
    return found + first.bias if apart else found


def _answers(potentials: FloatArray, loss: float, seed: int) -> FloatArray:
    """1 for the chosen action, the first of the largest outputs, and 0 for the others.

    The comparator of a pair fires for the first of both. If that spike is lost, the second wins, where it is the second
    best of all; nobody does otherwise, and the observation is sent again.
    """
    order = np.argsort(-potentials, axis=1, kind="stable")
    chosen = order[:, 0]
    if loss and order.shape[1] > 1:
        lost = np.random.default_rng((seed, 1)).random(len(order)) < loss
        chosen = np.where(lost & (order[:, 0] < order[:, 1]), order[:, 1], chosen)
    answers: FloatArray = np.eye(potentials.shape[1]).take(chosen, axis=0)
    return answers


def _with_losses(dynamics: Dynamics, currents: FloatArray, seed: int) -> FloatArray:
    """Quantised inputs [n, n_channels] of which bits, in two's complement, are lost on their way."""
    bits = dynamics.network.encoder.bits
    if not dynamics.input_loss or bits is None:
        return currents
    arrives = np.random.default_rng(seed).random((*currents.shape, bits)) >= dynamics.input_loss
    worth = 1 << np.arange(bits)
    codes = currents.astype(np.int64) & (arrives * worth).sum(axis=-1)
    signed: FloatArray = np.where(codes >= worth[-1], codes - 2 * worth[-1], codes).astype(np.float64)
    return signed


def _quantised(values: FloatArray, unit: float) -> FloatArray:
    return np.rint(values / unit) * unit if unit else values


def pack(dynamics: Dynamics) -> tuple[Ints, FloatArray]:
    """Dynamics for `advance`."""
    longest = max([layer.delay for layer in dynamics.layers] + [detour.delay for detour in dynamics.detours])
    noise = dynamics.noise
    head = [
        len(dynamics.layers),
        dynamics.network.n_channels,
        dynamics.ticks_per_step,
        longest + 1,
        dynamics.bias_at,
        dynamics.input_at,
        dynamics.spikes_at,
        {"subtract": SUBTRACTS, "zero": SETS, "none": NOTHING}[dynamics.reset],
        dynamics.late,
        dynamics.refractory,
        dynamics.holds,
        dynamics.strict,
        noise is not None,
        dynamics.adapts,
        any(layer.shifts is not None or layer.fixed is not None for layer in dynamics.layers),
    ]
    floats = [
        np.array([
            dynamics.synapse_decay, dynamics.synapse_gain, dynamics.tick_s,
            *((noise.c_1, noise.c_2, noise.c_3) if noise else (0.0, 0.0, 0.0)),
            dynamics.adaptation_decay, dynamics.loss, dynamics.loss_per_synapse,
        ])
    ]  # fmt: skip
    rows: list[int] = []
    structure: list[NDArray[Any]] = []
    end = HEAD_INTS + WIDTH * len(dynamics.layers)
    for layer in dynamics.layers:
        at = 0
        own = layer.membrane or dynamics
        membrane = [own.gain, own.decay, own.spike_gain, own.reset_to, own.floor]
        floats += [np.array(membrane), layer.threshold, layer.taken]
        if isinstance(layer.weights, Sparse):
            at = end
            structure += [layer.weights.starts, layer.weights.columns]
            end += layer.weights.starts.size + layer.weights.columns.size
            floats.append(layer.weights.values)
        else:
            floats.append(layer.weights.ravel())
        shifts, fixed = layer.shifts or (-1, -1), layer.fixed
        rows += [layer.size, layer.delay, layer.until, at, *shifts]
        rows += [0] * 4 if fixed is None else [fixed.resistance, fixed.decay, fixed.per_ms, LEAKY if fixed.leaky else 1]
    return np.concatenate([[*head, *rows], *structure], dtype=np.int64), np.concatenate(floats)

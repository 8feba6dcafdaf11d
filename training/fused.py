"""A whole window of a dense spiking network, and its gradient, as two compiled loops.

Torch takes a few microseconds for each of the hundreds of small operations of an unrolled window; here the innermost
loops run over the batch, so that the processor works on several samples at once. The arithmetic is that of
`spikeloop.models.network`; the gradient is that of `SpikingStack.unroll`, of which this is the fast way.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from ..models.network import Neuron
from .surrogate import KINDS, SurrogateKind, slope


def window(
    drive: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    *,
    steps: int,
    neuron: Neuron,
    surrogate: SurrogateKind,
    scale: float,
    delays: Sequence[int],
) -> Tensor:
    """The last layer's potentials after a window; that layer never fires.

    Parameters
    ----------
    drive : float [n, sizes[0]]
        Input of the first layer in every step, with its bias.
    weights : sequence of float [sizes[l - 1], sizes[l]], biases : sequence of float [sizes[l]]
        Of the layers after the first.
    steps : int
    neuron : Neuron
    surrogate, scale :
        See `spikeloop.training.surrogate`.
    delays : sequence of int
        Of the layers after the first, in steps.

    Returns
    -------
    potentials : float [n, sizes[-1]]
        Differentiable with respect to drive, weights and biases.
    """
    settings = (steps, neuron, KINDS.index(surrogate), scale, tuple(delays))
    potentials: Tensor = _Window.apply(drive, settings, *weights, *biases)  # type: ignore[no-untyped-call]
    return potentials


class _Window(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, drive: Tensor, settings: tuple[Any, ...], *parameters: Tensor) -> Tensor:
        steps, neuron, _, _, delays = settings
        kind = drive.numpy().dtype
        arrays = [parameter.detach().numpy() for parameter in parameters]
        weights, biases = arrays[: len(delays)], arrays[len(delays) :]
        sizes = np.array([drive.shape[1], *(w.shape[1] for w in weights)])
        flat = _flat(weights, kind)
        mem = np.zeros((steps + 1, sizes.sum(), len(drive)), dtype=kind)
        fired = np.zeros((steps, *mem.shape[1:]), dtype=kind)
        _forward(
            np.ascontiguousarray(drive.detach().numpy().T),
            sizes,
            flat,
            _flat(biases, kind),
            np.array([1, *delays]),
            np.array([neuron.threshold, neuron.subtracted, neuron.membrane_decay, neuron.synapse_decay], dtype=kind),
            neuron.compare == ">",
            neuron.reset == "zero",
            mem,
            fired,
        )
        ctx.settings, ctx.sizes, ctx.flat, ctx.mem, ctx.fired = settings, sizes, flat, mem, fired
        return torch.from_numpy(np.ascontiguousarray(mem[steps, -sizes[-1] :].T))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        _, neuron, surrogate, scale, delays = ctx.settings
        sizes, kind = ctx.sizes, ctx.mem.dtype
        weight_gradient = np.zeros(len(ctx.flat), dtype=kind)
        bias_gradient = np.zeros(sizes[1:].sum(), dtype=kind)
        drive_gradient = np.zeros((sizes[0], ctx.mem.shape[2]), dtype=kind)
        of_mem = np.zeros(ctx.mem.shape[1:], dtype=kind)
        of_mem[-sizes[-1] :] = gradients[0].numpy().T
        _backward(
            sizes,
            ctx.flat,
            np.array([1, *delays]),
            np.array([neuron.threshold, neuron.membrane_decay, neuron.synapse_decay, scale], dtype=kind),
            surrogate,
            neuron.reset == "zero",
            ctx.mem,
            ctx.fired,
            of_mem,
            drive_gradient,
            weight_gradient,
            bias_gradient,
        )
        found: list[Tensor | None] = [torch.from_numpy(np.ascontiguousarray(drive_gradient.T)), None]
        first = 0
        for n_in, n_out in pairwise(sizes):
            found.append(torch.from_numpy(weight_gradient[first : first + n_in * n_out].reshape(n_in, n_out)))
            first += n_in * n_out
        first = 0
        for n_out in sizes[1:]:
            found.append(torch.from_numpy(bias_gradient[first : first + n_out]))
            first += n_out
        return tuple(found)


def _flat(arrays: Sequence[Any], kind: Any) -> Any:
    return np.concatenate([array.ravel() for array in arrays]) if arrays else np.zeros(0, dtype=kind)


def _jit(function: Any) -> Any:
    # Sums over the batch may be taken in any order, which the processor needs to take several at once.
    return numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})(function)


@_jit
def _add(total: Any, factor: Any, values: Any) -> None:
    for i in range(len(total)):
        total[i] += factor * values[i]


@_jit
def _sum(values: Any) -> Any:
    total = values[0] * 0
    for i in range(len(values)):
        total += values[i]
    return total


@_jit
def _product(one: Any, other: Any) -> Any:
    total = one[0] * 0
    for i in range(len(one)):
        total += one[i] * other[i]
    return total


@_jit
def _fire(potential: Any, threshold: Any, strict: bool, fired: Any) -> None:
    one = threshold / threshold  # of the potentials' type: a float64 would make every sum one
    nothing = one - one
    for i in range(len(potential)):
        over = potential[i] > threshold if strict else potential[i] >= threshold
        fired[i] = one if over else nothing


@_jit
def _update(old: Any, syn: Any, h: Any, fired: Any, taken: Any, beta: Any, alpha: Any, zero: bool, new: Any) -> None:
    one = taken / taken
    for i in range(len(old)):
        moved = beta * old[i] + syn[i]
        new[i] = moved * (one - fired[i]) if zero else moved - taken * fired[i]
        syn[i] = alpha * syn[i] + h[i]


@_jit
def _forward(
    drive: Any,
    sizes: Any,
    weights: Any,
    biases: Any,
    delays: Any,
    constants: Any,
    strict: bool,
    zero: bool,
    mem: Any,
    fired: Any,
) -> None:
    """Fill `mem` [steps + 1, neurons, n], the potentials before each step, and `fired` [steps, neurons, n], 0 or 1.

    The last row of `mem` is what the window leaves. The last layer does not fire.
    """
    threshold, taken, beta, alpha = constants[0], constants[1], constants[2], constants[3]
    steps, n = mem.shape[0] - 1, mem.shape[2]
    syn = np.zeros((mem.shape[1], n), dtype=mem.dtype)
    h = np.empty(n, dtype=mem.dtype)
    for t in range(steps):
        before, start, w, b = 0, 0, 0, 0
        for layer in range(len(sizes)):
            size = sizes[layer]
            sent = t + 1 - delays[layer]
            for j in range(size):
                if layer == 0:
                    h[:] = drive[j]
                else:
                    h[:] = biases[b + j]
                    if sent >= 0:
                        for k in range(sizes[layer - 1]):
                            _add(h, weights[w + k * size + j], fired[sent, before + k])
                here = start + j
                if layer < len(sizes) - 1:
                    _fire(mem[t, here], threshold, strict, fired[t, here])
                _update(mem[t, here], syn[here], h, fired[t, here], taken, beta, alpha, zero, mem[t + 1, here])
            if layer > 0:
                w += sizes[layer - 1] * size
                b += size
            before, start = start, start + size


@_jit
def _step_back(
    old: Any, fired: Any, of_mem: Any, of_syn: Any, of_spikes: Any, constants: Any, surrogate: int, zero: bool
) -> None:
    """The gradients of one neuron's state before a step, from those after it; spikes sent in it are used up."""
    threshold, beta, alpha, scale = constants[0], constants[1], constants[2], constants[3]
    one = threshold / threshold
    for i in range(len(old)):
        kept = of_mem[i] * (one - fired[i]) if zero else of_mem[i]
        of_syn[i] = kept + alpha * of_syn[i]
        of_mem[i] = beta * kept + slope(surrogate, scale, old[i] - threshold) * of_spikes[i]
        of_spikes[i] = 0


@_jit
def _backward(
    sizes: Any,
    weights: Any,
    delays: Any,
    constants: Any,
    surrogate: int,
    zero: bool,
    mem: Any,
    fired: Any,
    of_mem: Any,
    of_drive: Any,
    of_weights: Any,
    of_biases: Any,
) -> None:
    """Go back through the window: `of_mem` [neurons, n] has the last potentials' gradient; the others are added to."""
    steps, neurons, n = mem.shape[0] - 1, mem.shape[1], mem.shape[2]
    of_syn = np.zeros((neurons, n), dtype=mem.dtype)
    longest = delays.max()
    of_spikes = np.zeros((longest, neurons, n), dtype=mem.dtype)  # by the step in which they were sent, as a ring
    for t in range(steps - 1, -1, -1):
        end, w, b = neurons, len(weights), len(of_biases)
        for layer in range(len(sizes) - 1, 0, -1):
            size, fan = sizes[layer], sizes[layer - 1]
            start, before = end - size, end - size - fan
            w, b = w - fan * size, b - size
            sent = t + 1 - delays[layer]
            for j in range(size):
                of_input = of_syn[start + j]
                of_biases[b + j] += _sum(of_input)
                if sent >= 0:
                    for k in range(fan):
                        at = w + k * size + j
                        of_weights[at] += _product(of_input, fired[sent, before + k])
                        _add(of_spikes[sent % longest, before + k], weights[at], of_input)
            end = start
        for j in range(sizes[0]):
            for i in range(n):
                of_drive[j, i] += of_syn[j, i]
        for j in range(neurons):
            _step_back(
                mem[t, j], fired[t, j], of_mem[j], of_syn[j], of_spikes[t % longest, j], constants, surrogate, zero
            )

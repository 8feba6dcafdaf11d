"""A layer of a decision circuit as a differentiable function: its spikes in every step of a window.

The dynamics are those of `spikeloop.deploy.spinnaker.circuit`. As in `point_neuron`, the loop over steps is compiled,
forward and backward; the sums over synapses stay matrix products of torch's.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor


def fire(drive: Tensor, arrivals: Tensor | None, steps: int, scale: float) -> Tensor:
    """The spikes of a layer that is driven for `steps` steps.

    The gradient passes neither through the reset nor where the floor at zero has cut. The derivative of a spike is
    SuperSpike's ``1 / (scale*|V - 1| + 1)**2``.

    Parameters
    ----------
    drive : float64 [n, neurons]
        In every step.
    arrivals : float64 [steps - 1, n, neurons], optional
        What the spikes of the layer before add, each in the step after: none arrive in the first.
    scale : float
        Steepness of the surrogate derivative.

    Returns
    -------
    spikes : float64 [steps, n, neurons]
        0 or 1.

    References
    ----------
    Zenke and Ganguli, "SuperSpike: Supervised learning in multilayer spiking neural networks", Neural Computation
    30(6), 2018, section 2.2.
    """
    nothing = torch.zeros(0, *drive.shape, dtype=drive.dtype)
    spikes: Tensor = _Fire.apply(drive, nothing if arrivals is None else arrivals, steps, scale)  # type: ignore[no-untyped-call]
    return spikes


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, drive: Tensor, arrivals: Tensor, steps: int, scale: float) -> Tensor:
        spikes = np.empty((steps, drive.numel()))
        moved = np.empty_like(spikes)
        flat = arrivals.detach().contiguous().numpy().reshape(len(arrivals), drive.numel())
        _forward(drive.detach().contiguous().numpy().ravel(), flat, spikes, moved)
        ctx.spikes, ctx.moved, ctx.scale, ctx.shape = spikes, moved, scale, arrivals.shape
        return torch.from_numpy(spikes).view(-1, *drive.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        of_spikes = gradients[0].contiguous().numpy().reshape(ctx.spikes.shape)
        of_moved = np.empty_like(of_spikes)
        _backward(of_spikes, ctx.spikes, ctx.moved, ctx.scale, of_moved)
        of_drive = torch.from_numpy(of_moved.sum(axis=0)).view(ctx.shape[1:])
        of_arrivals = torch.from_numpy(of_moved[1:] if ctx.shape[0] else of_moved[:0]).view(ctx.shape)
        return of_drive, of_arrivals, None, None


def _jit(function: Any) -> Any:
    return numba.njit(cache=True, nogil=True, error_model="numpy")(function)


@_jit
def _forward(drive: Any, arrivals: Any, spikes: Any, moved: Any) -> None:
    """Fill `spikes` and `moved` [steps, neurons]: the potential before floor and reset."""
    n = len(drive)
    v = np.zeros(n)
    nothing = np.zeros(n)
    for k in range(len(spikes)):
        h = arrivals[k - 1] if len(arrivals) and k else nothing
        fired, at = spikes[k], moved[k]
        for j in range(n):  # without branches, so that the processor takes several neurons at once
            at[j] = v[j] + drive[j] + h[j]
            over = 1.0 if at[j] >= 1.0 else 0.0
            fired[j] = over
            v[j] = max(0.0, at[j]) * (1.0 - over)


@_jit
def _backward(of_spikes: Any, spikes: Any, moved: Any, scale: float, of_moved: Any) -> None:
    """Back through the window: fill `of_moved` [steps, neurons]."""
    n = spikes.shape[1]
    of_v = np.zeros(n)
    for k in range(len(spikes) - 1, -1, -1):
        fired, at, given, found = spikes[k], moved[k], of_spikes[k], of_moved[k]
        for j in range(n):
            x = scale * abs(at[j] - 1.0) + 1.0
            open_ = 1.0 if at[j] > 0.0 else 0.0
            of_v[j] = open_ * (of_v[j] * (1.0 - fired[j]) + given[j] / (x * x))
            found[j] = of_v[j]

"""A layer of NEST's point neurons as a differentiable function: its spikes in every tick of a window.

The dynamics are those of `spikeloop.deploy.point_neuron`. Within a tick torch has little to do and many ticks to do it
in, so the loop over ticks is compiled, forward and backward; the sums over synapses stay matrix products of torch's.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from ..deploy.point_neuron import Constants


def fire(
    before: Tensor, after: Tensor, arrivals: Tensor | None, delay: int, ticks: int, constants: Constants, scale: float
) -> Tensor:
    """The spikes of a layer in a window of `ticks` ticks.

    The gradient does not pass through the reset. The derivative of a spike is SuperSpike's
    ``1 / (scale*|V - threshold| + 1)**2``, and 0 while the neuron is refractory.

    Parameters
    ----------
    before, after : float64 [n, neurons]
        Current until ``constants.input_at``, and from then on.
    arrivals : float64 [ticks, n, neurons], optional
        What the spikes that the layer before fired in each tick add to the potential, `delay` ticks later.
    delay : int >= 1
    scale : float
        Steepness of the surrogate derivative.

    Returns
    -------
    spikes : float64 [ticks, n, neurons]
        0 or 1.

    References
    ----------
    Zenke and Ganguli, "SuperSpike: Supervised learning in multilayer spiking neural networks", Neural Computation
    30(6), 2018, section 2.2.
    """
    nothing = torch.zeros(0, *after.shape, dtype=after.dtype)
    spikes: Tensor = _Fire.apply(
        before, after, nothing if arrivals is None else arrivals, delay, ticks, constants, scale
    )  # type: ignore[no-untyped-call]
    return spikes


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        before: Tensor,
        after: Tensor,
        arrivals: Tensor,
        delay: int,
        ticks: int,
        constants: Constants,
        scale: float,
    ) -> Tensor:
        spikes = np.empty((ticks, after.numel()))
        distance = np.empty_like(spikes)
        flat = arrivals.detach().numpy().reshape(len(arrivals), after.numel())
        _forward(_flat(before), _flat(after), flat, delay, *_scalars(constants), spikes, distance)
        ctx.delay, ctx.constants, ctx.scale, ctx.shape = delay, constants, scale, arrivals.shape
        ctx.spikes, ctx.distance = spikes, distance
        return torch.from_numpy(spikes).view(-1, *after.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        constants, shape = ctx.constants, ctx.shape
        of_spikes = gradients[0].contiguous().numpy().reshape(ctx.spikes.shape)
        of_before, of_after = np.zeros((2, of_spikes.shape[1]))
        of_arrivals = np.empty((shape[0], of_spikes.shape[1]))
        of_arrivals[-ctx.delay :] = 0.0  # what is fired then arrives after the window
        _backward(
            of_spikes,
            ctx.spikes,
            ctx.distance,
            ctx.delay,
            *_scalars(constants),
            ctx.scale,
            of_before,
            of_after,
            of_arrivals,
        )
        before, after = (torch.from_numpy(each).view(shape[1:]) for each in (of_before, of_after))
        return before, after, torch.from_numpy(of_arrivals).view(shape), None, None, None, None


def _flat(values: Tensor) -> Any:
    return values.detach().contiguous().numpy().ravel()


def _scalars(constants: Constants) -> tuple[Any, ...]:
    return (
        constants.input_at,
        constants.gain,
        constants.decay,
        constants.start,
        constants.threshold,
        constants.reset,
        constants.refractory,
        constants.subtracts,
    )


def _jit(function: Any) -> Any:
    return numba.njit(cache=True, nogil=True, error_model="numpy")(function)


@_jit
def _forward(
    before: Any,
    after: Any,
    arrivals: Any,
    delay: int,
    input_at: int,
    gain: float,
    decay: float,
    start: float,
    threshold: float,
    reset: float,
    refractory: int,
    subtracts: bool,
    spikes: Any,
    distance: Any,
) -> None:
    """Fill `spikes` and `distance` [ticks, neurons]: V - threshold before the reset, -inf where refractory."""
    n = len(after)
    v = np.full(n, start)
    waiting = np.zeros(n, dtype=np.int64)
    nothing = np.zeros(n)
    for k in range(len(spikes)):
        current = after if k >= input_at else before
        h = arrivals[k - delay] if len(arrivals) and k >= delay else nothing
        fired, away = spikes[k], distance[k]
        if refractory == 0:  # without branches, so that the processor takes several neurons at once
            for j in range(n):
                moved = gain * current[j] + decay * v[j] + h[j]
                over = 1.0 if moved >= threshold else 0.0
                away[j] = moved - threshold
                fired[j] = over
                v[j] = moved - threshold * over if subtracts else (reset if over else moved)
            continue
        for j in range(n):
            if subtracts or waiting[j] == 0:
                v[j] = gain * current[j] + decay * v[j] + h[j]
            rests = waiting[j] > (1 if subtracts else 0)
            waiting[j] = max(0, waiting[j] - 1)
            away[j] = -np.inf if rests else v[j] - threshold
            fired[j] = 1.0 if away[j] >= 0.0 else 0.0
            if fired[j]:
                v[j] = v[j] - threshold if subtracts else reset
                waiting[j] = refractory


@_jit
def _backward(
    of_spikes: Any,
    spikes: Any,
    distance: Any,
    delay: int,
    input_at: int,
    gain: float,
    decay: float,
    start: float,
    threshold: float,
    reset: float,
    refractory: int,
    subtracts: bool,
    scale: float,
    of_before: Any,
    of_after: Any,
    of_arrivals: Any,
) -> None:
    """Back through the window; `of_before` and `of_after` are added to, `of_arrivals` is filled."""
    n = spikes.shape[1]
    of_v = np.zeros(n)
    for k in range(len(spikes) - 1, -1, -1):
        of_current = of_after if k >= input_at else of_before
        fired, away, given = spikes[k], distance[k], of_spikes[k]
        for j in range(n):
            x = scale * abs(away[j]) + 1.0
            kept = of_v[j] if subtracts else of_v[j] * (1.0 - fired[j])
            of_v[j] = kept + given[j] / (x * x)
        if refractory and not subtracts:
            for j in range(n):  # what arrived was lost
                if away[j] == -np.inf:
                    of_v[j] = 0.0
        if len(of_arrivals) and k >= delay:
            of_arrivals[k - delay] = of_v
        for j in range(n):
            of_current[j] += gain * of_v[j]
            of_v[j] *= decay

"""Surrogate derivatives: what takes the place of a spike's derivative in training."""

from __future__ import annotations

from typing import Any, Literal

import numba
import numpy as np
import torch
from torch import Tensor

SurrogateKind = Literal["superspike", "sigmoid", "triangle", "arctan"]
KINDS: tuple[SurrogateKind, ...] = ("superspike", "sigmoid", "triangle", "arctan")


@numba.njit(cache=True, inline="always")
def slope(kind: int, scale: Any, distance: Any) -> Any:
    """The surrogate derivative at a distance from the threshold, for loops that are compiled.

    With ``x = scale*distance``: "superspike" ``1/(|x| + 1)**2`` (Zenke and Ganguli, Neural Computation 30(6), 2018,
    section 2.2), "sigmoid" ``4*s*(1 - s)`` with ``s = 1/(1 + exp(-x))`` (the logistic function's slope, 1 at the
    threshold), "triangle" ``max(0, 1 - |x|)`` (Bellec et al., NeurIPS 2018, eq. 3), "arctan" ``1/(1 + x**2)``
    (Fang et al., ICCV 2021, eq. 10, up to its factor).

    Parameters
    ----------
    kind : int
        Index into `KINDS`.
    """
    x = abs(scale * distance)
    if kind == 0:
        return 1 / ((x + 1) * (x + 1))
    if kind == 1:
        e = np.exp(-x)
        return 4 * e / ((1 + e) * (1 + e))
    if kind == 2:
        return max(x * 0, 1 - x)
    return 1 / (1 + x * x)


def slopes(kind: SurrogateKind, scale: float, distance: Tensor) -> Tensor:
    """The surrogate derivative at each distance from the threshold; see `slope`."""
    x = (scale * distance).abs()
    if kind == "superspike":
        return 1.0 / (x + 1.0) ** 2
    if kind == "sigmoid":
        return 4.0 * torch.exp(-x) / (1.0 + torch.exp(-x)) ** 2
    if kind == "triangle":
        return (1.0 - x).clamp(min=0.0)
    return 1.0 / (1.0 + x**2)


class Spike(torch.autograd.Function):
    """A spike where the distance to the threshold is above 0; its derivative is a surrogate."""

    @staticmethod
    def forward(ctx: Any, distance: Tensor, kind: SurrogateKind, scale: float, compare: Literal[">", ">="]) -> Tensor:
        """Spikes, as 0 and 1 of the potentials' type; `compare` says whether a distance of 0 fires."""
        ctx.save_for_backward(distance)
        ctx.kind, ctx.scale = kind, scale
        return (distance > 0 if compare == ">" else distance >= 0).to(distance.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        """The gradient with respect to the distance, by the surrogate derivative."""
        (distance,) = ctx.saved_tensors
        if ctx.kind == "superspike":  # rounded once less than by `slopes`, as when the bundled agents were trained
            return gradients[0] / (ctx.scale * distance.abs() + 1.0) ** 2, None, None, None
        return gradients[0] * slopes(ctx.kind, ctx.scale, distance), None, None, None

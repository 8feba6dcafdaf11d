"""What preflight says about a network and a profile, before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know.

    Attributes
    ----------
    severity : "error" (the deployment is refused), "warning" or "info"
    message : str
        What is the case.
    advice : str
        What to do about it.
    layer, neuron : int, optional
        Where.
    needed, available : float or str, optional
        How much the network needs, and how much there is.
    """

    severity: Severity
    message: str
    advice: str = ""
    layer: int | None = None
    neuron: int | None = None
    needed: float | str | None = None
    available: float | str | None = None

    def __str__(self) -> str:
        place = "" if self.layer is None else f"layer {self.layer}"
        place += "" if self.neuron is None else f", neuron {self.neuron}"
        return f"{place + ': ' if place else ''}{self.message}{' ' + self.advice if self.advice else ''}"

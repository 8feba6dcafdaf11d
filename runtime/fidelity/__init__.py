"""Does the deployed agent decide as the trained one does, and if not, why? See docs/fidelity.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...lazily import lazily

if TYPE_CHECKING:
    from .checking import check
    from .expected import compared_with, launch_expected
    from .intervals import wilson
    from .observations import Observations, load_observations, observations_of
    from .report import Against, FidelityReport

__getattr__, __dir__ = lazily(
    __name__,
    {
        ".checking": ["check"],
        ".expected": ["compared_with", "launch_expected"],
        ".intervals": ["wilson"],
        ".observations": ["Observations", "load_observations", "observations_of"],
        ".report": ["Against", "FidelityReport"],
    },
)

__all__ = [
    "Against",
    "FidelityReport",
    "Observations",
    "check",
    "compared_with",
    "launch_expected",
    "load_observations",
    "observations_of",
    "wilson",
]

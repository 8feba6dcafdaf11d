"""Does the deployed agent decide as the trained one does, and if not, why? See docs/fidelity.md."""

from .check import check
from .expected import compared_with, launch_expected
from .intervals import wilson
from .observations import Observations, load_observations, observations_of
from .report import Against, FidelityReport

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

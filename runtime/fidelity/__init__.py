"""Does the deployed agent decide as the trained one does, and if not, why? See docs/fidelity.md."""

from .check import Against, FidelityReport, check, compared_with, launch_expected
from .intervals import wilson
from .observations import load_observations

__all__ = ["Against", "FidelityReport", "check", "compared_with", "launch_expected", "load_observations", "wilson"]

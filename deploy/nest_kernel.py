"""NEST as a vendor: importing it quietly, and its errors in our words."""

from __future__ import annotations

import os
import sys
from typing import Any

from ..errors import MissingPackageError, TargetError


def import_nest() -> Any:
    """Import NEST without its banner, and without letting it read our command line."""
    argv, quiet = sys.argv, os.environ.get("PYNEST_QUIET")
    sys.argv = argv[:1] or ["spikeloop"]
    os.environ["PYNEST_QUIET"] = "1"
    try:
        import nest
    except ImportError:
        raise MissingPackageError.needs("Running on NEST", "nest-simulator", "nest") from None
    finally:
        sys.argv = argv
        if quiet is None:
            del os.environ["PYNEST_QUIET"]
    return nest


def translated(error: Exception) -> TargetError:
    """An error of NEST's as ours."""
    text = " ".join(str(error).split()).rstrip(".")
    return TargetError(f"NEST refused: {text[:300]}. Look at the profile's settings (spikeloop plan shows them).")

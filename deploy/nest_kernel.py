"""NEST as a vendor: importing it quietly, connecting populations, and its errors in our words."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np

from ..errors import MissingPackageError, TargetError
from ..models.layers import Sparse
from .deployment import Projection


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


def connect(nest: Any, source: Any, target: Any, projection: Projection) -> None:
    """Make a projection's connections between two of NEST's node collections."""
    weights = projection.weights
    if not isinstance(weights, Sparse):
        synapse = {"weight": weights.T, "delay": projection.delay_ms, "receptor_type": projection.receptor}
        nest.Connect(source, target, "all_to_all", synapse)
        return
    # Arrays of node ids take the path that makes no rule of them. Populations are created whole: ids are in a row.
    synapse = {"weight": weights.values, "delay": np.full(weights.size, projection.delay_ms)}
    if projection.receptor:
        synapse["receptor_type"] = np.full(weights.size, projection.receptor)
    pre = source[0].global_id + weights.rows.astype(np.int64)
    post = target[0].global_id + weights.columns.astype(np.int64)
    nest.Connect(pre, post, "one_to_one", synapse)


def translated(error: Exception) -> TargetError:
    """An error of NEST's as ours."""
    text = " ".join(str(error).split()).rstrip(".")
    return TargetError(f"NEST refused: {text[:300]}. Look at the profile's settings (spikeloop plan shows them).")

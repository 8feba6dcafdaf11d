"""NEST as a vendor: importing it quietly, connecting populations, and its errors in our words."""

from __future__ import annotations

import os
import sys
import weakref
from typing import Any

import numpy as np

from ..errors import MissingPackageError, TargetError
from ..models.layers import Sparse
from .deployment import Projection

# Whoever holds this process's kernel: NEST has one. A dead reference: it was dropped without being closed.
_holder: weakref.ref[object] | None = None


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


def take(nest: Any, session: object) -> None:
    """Make `session` the holder of this process's kernel.

    Raises
    ------
    TargetError
        If another session holds it, or somebody who is none of ours has built something in it.
    """
    global _holder
    if _holder is not None and _holder() is not None:
        raise TargetError(
            "NEST's kernel in this process already runs another agent, and a process has only one: close that "
            "agent first, or give each its own process (spikeloop serve)."
        )
    if _holder is None and nest.network_size:
        raise TargetError(
            f"NEST's kernel in this process holds {nest.network_size} nodes that are not Spikeloop's, and "
            "deploying would delete them: call nest.ResetKernel() first, or use another process (spikeloop serve)."
        )
    _holder = weakref.ref(session)


def release(session: object) -> bool:
    """Give the kernel back, if `session` holds it; says whether it did."""
    global _holder
    if _holder is None or _holder() is not session:
        return False
    _holder = None
    return True

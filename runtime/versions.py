"""What is installed here: part of what it takes to do a run again."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform

from .. import __version__

PACKAGES = ("numpy", "numba", "gymnasium", "ale-py", "pyzmq", "nest-simulator", "PyNN", "sPyNNaker", "torch")


def versions() -> dict[str, str]:
    """By name; where the network runs elsewhere, the host's own word is beside."""
    found = {"python": platform.python_version(), "spikeloop": __version__}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found

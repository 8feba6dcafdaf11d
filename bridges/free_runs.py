"""Free-running episodes of large checks: environments by name, side by side, to the same result as one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.fidelity.free_running import free_running
from ..runtime.fidelity.large import Case, deployed, deployment_of, packed, unpacked
from ..runtime.fidelity.report import Against, FreeRunning
from ..runtime.shares import run_shares
from ..runtime.versions import versions
from .environments import environment_for

BY = ("gymnasium", "ale-py")  # packages whose other version is another environment


def free_runs(
    cases: Sequence[Case],
    name: str,
    episodes: int,
    *,
    against: Against | None = None,
    jobs: int = 1,
    cluster: str | None = None,
    folder: str | Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> list[FreeRunning]:
    """Let each case's target drive, and then what it is to decide like; for `complete`. One share is one case.

    Parameters
    ----------
    cases : sequence of Case
    name : str
        Of the Gymnasium environment.
    episodes : int
        Of each; episode ``i`` has the seed of the case and ``i`` more.
    against : "reference" or "twin", optional
        As `check` takes it.
    jobs, cluster, folder, on_progress, on_note
        As `run_shares` takes them.

    Raises
    ------
    SpikeloopError
        As `run_shares` and `free_running` raise them.
    """
    found = versions()
    asked = {
        "env": name,
        "by": {package: found.get(package) for package in BY},
        "episodes": episodes,
        "against": against,
    }
    results = run_shares(
        free_run_share,
        [{**deployed(case), **asked} for case in cases],
        jobs=jobs,
        cluster=cluster,
        folder=folder,
        on_progress=on_progress,
        on_note=on_note,
    )
    return [unpacked(FreeRunning, result, "found") for result in results]


def free_run_share(share: Mapping[str, Any]) -> dict[str, NDArray[np.uint8]]:
    """Run the episodes of one case."""
    network, profile = deployment_of(share)
    found = free_running(
        partial(environment_for, share["env"], network),
        network,
        profile,
        episodes=share["episodes"],
        seed=share["seed"],
        against=share["against"],
    )
    return {"found": packed(found)}

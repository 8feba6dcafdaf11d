"""Large checks: many networks, profiles, seeds and observations, side by side, to the same result as one by one."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InvalidInputError
from ...hardware_profiles.profile import Profile
from ...models.file import from_bytes, to_bytes
from ...models.network import Network
from ...models.stimulus import FloatArray
from ..shares import run_shares
from ..versions import versions
from .records import AT_A_TIME, target_record
from .report import Record

TARGETS = ("nest-simulator", "PyNN", "sPyNNaker")  # packages whose other version is another target
ON_A_MACHINE = 4 * AT_A_TIME  # of which every share has to take a machine of its own


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One deployment, and the observations [n, n_inputs] to check it on."""

    network: Network
    profile: Profile
    states: FloatArray
    seed: int = 0


def target_records(
    cases: Sequence[Case],
    *,
    jobs: int = 1,
    cluster: str | None = None,
    folder: str | Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> list[Record]:
    """What each case's target does with its observations, for `check(..., given=...)`.

    Parameters
    ----------
    cases : sequence of Case
    jobs, cluster, folder, on_progress, on_note
        As `run_shares` takes them.

    Raises
    ------
    SpikeloopError
        As `run_shares`, `launch` and `Agent.decide` raise them.
    """
    shares, ends = [], []
    for case in cases:
        shares += _shares(case)
        ends.append(len(shares))
    results = run_shares(
        work, shares, jobs=jobs, cluster=cluster, folder=folder, on_progress=on_progress, on_note=on_note
    )
    return [_joined(results[first:last]) for first, last in zip([0, *ends], ends, strict=False)]


def work(share: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Do one share: decide on some of the observations of a case."""
    network = from_bytes(base64.b64decode(share["network"]), "the share's network")
    states = np.frombuffer(base64.b64decode(share["states"]), dtype="<f8").reshape(-1, network.n_inputs)
    profile = Profile.model_validate_json(share["profile"])
    found = target_record(network, profile, states.astype(np.float64), seed=share["seed"], first=share["first"])
    layers = {f"raster_{index:03}": raster for index, raster in enumerate(found.rasters)}
    return {"actions": found.actions, "outputs": found.outputs, "ms": found.ms, **layers}


def _shares(case: Case) -> list[dict[str, Any]]:
    # All of it, so that a cluster's workers need no files of ours.
    network = base64.b64encode(to_bytes(case.network)).decode()
    profile, found = case.profile.model_dump_json(), versions()
    size = AT_A_TIME if case.profile.machine is None else ON_A_MACHINE
    return [
        {
            "agent": case.network.name,  # these two for whoever reads of a share
            "on": case.profile.name,
            "versions": {name: found[name] for name in TARGETS if name in found},
            "network": network,
            "profile": profile,
            "seed": case.seed,
            "first": first,
            "states": base64.b64encode(case.states[first : first + size].astype("<f8").tobytes()).decode(),
        }
        for first in range(0, len(case.states), size)
    ]


def _joined(parts: Sequence[Mapping[str, NDArray[Any]]]) -> Record:
    names = ("actions", "outputs", "ms")
    if any(set(part) != set(parts[0]) or not part.keys() >= set(names) for part in parts):
        raise InvalidInputError("A finished share holds other arrays than a check's: name another folder.")
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    rasters = tuple(whole[name] for name in sorted(whole) if name.startswith("raster_"))
    return Record(whole["actions"], whole["outputs"], rasters, whole["ms"])

"""Large checks: many networks, profiles, seeds and observations, side by side, to the same result as one by one."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from ...errors import InvalidInputError
from ...hardware_profiles.profile import Profile
from ...models.file import from_bytes, to_bytes
from ...models.network import Network
from ...models.stimulus import FloatArray
from ..shares import run_shares
from ..shares.store import write_arrays
from ..versions import versions
from .checking import Compared, compare
from .records import AT_A_TIME, target_record
from .report import Against, FidelityReport, FreeRunning, Record

TARGETS = ("nest-simulator", "PyNN", "sPyNNaker")  # packages whose other version is another target
OTHER_ARRAYS = "A finished share holds other arrays than a check's: name another folder."
ON_A_MACHINE = 4 * AT_A_TIME  # of which every share has to take a machine of its own


Part = TypeVar("Part", FidelityReport, FreeRunning)


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One deployment, the observations [n, n_inputs] to check it on, and where they came from."""

    network: Network
    profile: Profile
    states: FloatArray
    seed: int = 0
    source: str = "given by the caller"


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
        record_share, shares, jobs=jobs, cluster=cluster, folder=folder, on_progress=on_progress, on_note=on_note
    )
    return [_joined(results[first:last]) for first, last in zip([0, *ends], ends, strict=False)]


def comparisons(
    cases: Sequence[Case],
    given: Sequence[Record],
    *,
    against: Against | None = None,
    explain: bool = True,
    steps_sweep: Sequence[int] = (),
    jobs: int = 1,
    cluster: str | None = None,
    folder: str | Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> list[Compared]:
    """What can be said of each case, whose target's records are `given`; for `complete`. One share is one case.

    Parameters
    ----------
    cases : sequence of Case
    given : sequence of Record
        As `target_records` returns them.
    against, explain, steps_sweep
        As `check` takes them.
    jobs, cluster, folder, on_progress, on_note
        As `run_shares` takes them.

    Raises
    ------
    SpikeloopError
        As `run_shares` and `check` raise them.
    """
    asked = {"against": against, "explain": explain, "steps_sweep": list(steps_sweep)}
    shares = [
        {**deployed(case), **asked, "source": case.source, "states": _text(case.states), "given": _as_text(record)}
        for case, record in zip(cases, given, strict=True)
    ]
    results = run_shares(
        compare_share, shares, jobs=jobs, cluster=cluster, folder=folder, on_progress=on_progress, on_note=on_note
    )
    if any(result.keys() != {"report", "expected"} for result in results):
        raise InvalidInputError(OTHER_ARRAYS)
    return [
        Compared(unpacked(FidelityReport, result, "report"), result["expected"], record.actions)
        for result, record in zip(results, given, strict=True)
    ]


def record_share(share: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Decide on some of the observations of a case."""
    network, profile, states = _parts(share)
    return _arrays(target_record(network, profile, states, seed=share["seed"], first=share["first"]))


def compare_share(share: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Compare what a case's target did with what it was to do."""
    network, profile, states = _parts(share)
    with np.load(io.BytesIO(base64.b64decode(share["given"])), allow_pickle=False) as arrays:
        given = _joined([dict(arrays)])
    found = compare(
        network,
        profile,
        states,
        seed=share["seed"],
        against=share["against"],
        explain=share["explain"],
        steps_sweep=share["steps_sweep"],
        source=share["source"],
        given=given,
    )
    return {"report": packed(found.report), "expected": found.expected}


def packed(found: FidelityReport | FreeRunning) -> NDArray[np.uint8]:
    """A part of a check as an array, which is what shares return: its JSON."""
    return np.frombuffer(json.dumps(asdict(found)).encode(), dtype=np.uint8)


def unpacked(kind: type[Part], result: Mapping[str, NDArray[Any]], name: str) -> Part:
    """What `packed` made an array of.

    Raises
    ------
    InvalidInputError
        If it is not there, or is something else: a kept share that was changed.
    """
    try:
        return TypeAdapter(kind).validate_json(result[name].tobytes())
    except (KeyError, ValueError):
        raise InvalidInputError(OTHER_ARRAYS) from None


def _shares(case: Case) -> list[dict[str, Any]]:
    common = deployed(case)
    size = AT_A_TIME if case.profile.machine is None else ON_A_MACHINE
    return [
        {**common, "first": first, "states": _text(case.states[first : first + size])}
        for first in range(0, len(case.states), size)
    ]


def deployed(case: Case) -> dict[str, Any]:
    """A case without its observations, for a share: all of it, so that a cluster's workers need no files of ours."""
    found = versions()
    return {
        "agent": case.network.name,  # these two for whoever reads of a share
        "on": case.profile.name,
        "versions": {name: found[name] for name in TARGETS if name in found},
        "network": base64.b64encode(to_bytes(case.network)).decode(),
        "profile": case.profile.model_dump_json(),
        "seed": case.seed,
    }


def deployment_of(share: Mapping[str, Any]) -> tuple[Network, Profile]:
    """What `deployed` put into a share."""
    network = from_bytes(base64.b64decode(share["network"]), "the share's network")
    return network, Profile.model_validate_json(share["profile"])


def _parts(share: Mapping[str, Any]) -> tuple[Network, Profile, FloatArray]:
    network, profile = deployment_of(share)
    states = np.frombuffer(base64.b64decode(share["states"]), dtype="<f8").reshape(-1, network.n_inputs)
    return network, profile, states.astype(np.float64)


def _text(states: FloatArray) -> str:
    return base64.b64encode(states.astype("<f8").tobytes()).decode()


def _as_text(record: Record) -> str:
    file = io.BytesIO()
    write_arrays(file, _arrays(record), compressed=True)  # of most trains most steps are empty
    return base64.b64encode(file.getvalue()).decode()


def _arrays(record: Record) -> dict[str, NDArray[Any]]:
    layers = {f"raster_{index:03}": raster for index, raster in enumerate(record.rasters)}
    return {"actions": record.actions, "outputs": record.outputs, "ms": record.ms, **layers}


def _joined(parts: Sequence[Mapping[str, NDArray[Any]]]) -> Record:
    names = ("actions", "outputs", "ms")
    if any(set(part) != set(parts[0]) or not part.keys() >= set(names) for part in parts):
        raise InvalidInputError(OTHER_ARRAYS)
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    rasters = tuple(whole[name] for name in sorted(whole) if name.startswith("raster_"))
    return Record(whole["actions"], whole["outputs"], rasters, whole["ms"])

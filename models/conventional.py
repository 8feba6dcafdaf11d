"""Files of conventional networks: told by their entries, so that whoever wants to run one learns how to convert it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from ..errors import NetworkFileError

POLICY_FORMAT = "spikeloop-policy"  # the format name in files of `spikeloop.training.policy`


def zip_entries(data: bytes) -> dict[str, zipfile.ZipInfo]:
    """The entries of a zip by name; none if the bytes are no zip that can be listed."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {entry.filename: entry for entry in archive.infolist()}
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        return {}


def is_sb3(data: bytes) -> bool:
    """Whether the bytes are what Stable-Baselines3 saves; torch.save writes a zip too, with other entries."""
    return data[:4] == b"PK\x03\x04" and "policy.pth" in zip_entries(data)


def refuse_conventional(data: bytes, path: str | Path) -> None:
    """Raise if the bytes are a conventional network's.

    Raises
    ------
    NetworkFileError
        Which names the command that converts it.
    """
    ours = data[:4] == b"PK\x03\x04" and POLICY_FORMAT.encode() in data
    if not ours and not is_sb3(data):
        return
    what = "a conventional network" if ours else "a Stable-Baselines3 agent, a conventional network"
    raise NetworkFileError(
        f"{path} holds {what}, which does not spike. Convert it first: spikeloop convert {path} --steps N -o agent.spk"
    )

"""The files of training: found by what they are called, and never half written."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ..errors import InvalidInputError, NetworkFileError, TargetError
from ..models.file import save
from ..models.loading import bundled
from ..models.network import Network

IN_A_FOLDER = ("best.spk", "best.pt", "last.spk", "last.pt")


def model_file(source: str | Path) -> Path:
    """The file that `source` names: a bundled agent's, of a training run's folder the best or last, or itself.

    Raises
    ------
    NetworkFileError
        If it is a folder without a model.
    """
    path = bundled().get(str(source)) or Path(source)
    if not path.is_dir():
        return path
    for name in IN_A_FOLDER:
        if (path / name).is_file():
            return path / name
    raise NetworkFileError(
        f"{path} is a folder with none of {', '.join(IN_A_FOLDER)} in it: name a file, or a training run's folder."
    )


def replace_file(path: str | Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file by `write` beside its place, then put it there in one step.

    Raises
    ------
    TargetError
        If it cannot be written, such as on a full disk; what was there before stays.
    """
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            write(file)
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch raises the latter where a disk is full
        with contextlib.suppress(OSError):
            partial.unlink()
        if isinstance(error.__context__, KeyboardInterrupt):  # torch raises its own over it
            raise error.__context__ from None
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise TargetError(f"Cannot write {path}: {reason}. What was there before is kept.") from None


def usable(path: Path | None, force: bool) -> Path:
    """The output file, refused before any training if it cannot be written.

    Parameters
    ----------
    path : Path, optional
    force : bool
        Whether a file that is there may be replaced.

    Raises
    ------
    InvalidInputError
    """
    if path is None or not path.parent.is_dir() or path.is_dir():
        given = "No output was given" if path is None else f"The output is {path}"
        raise InvalidInputError(f"{given}; give a file in a folder that exists: -o agent.spk")
    if path.exists() and not force:
        raise InvalidInputError(f"{path} exists: give another name, or --force to replace it.")
    beside = path.with_name(path.name + ".partial")
    try:
        beside.touch()
        beside.unlink()
    except OSError as error:
        raise InvalidInputError(f"Cannot write {path}: {error.strerror or error}.") from None
    return path


def keep(network: Network, path: Path) -> None:
    """Write the network file; if that fails, to the temporary folder, so that the training was not for nothing.

    Raises
    ------
    TargetError
        If it could not be written to `path`; the message says where it is.
    """
    try:
        save(network, path)
    except NetworkFileError as error:
        other = Path(tempfile.mkdtemp(prefix="spikeloop-")) / path.name
        with contextlib.suppress(NetworkFileError):
            save(network, other)
            raise TargetError(f"{error} The trained network is kept at {other}.") from None
        raise

"""The files of training: found by what they are called, and never half written."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ..errors import NetworkFileError, TargetError
from ..models.loading import bundled

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

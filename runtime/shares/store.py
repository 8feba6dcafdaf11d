"""Finished shares, kept in a folder: one .npz each, named by what it is of, and a list for whoever finds them.

::

    shares.json          the function, versions, and what share is in which file
    <sha-256>.npz        the arrays of one finished share

A file that is there is whole: it is written beside its place first. Its name holds the share, the function, the version
of Spikeloop and of the format, so that no other run takes it for its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib.npyio import NpzFile

from ... import __version__
from ...errors import InvalidInputError, TargetError
from .work import FORMAT, Result, Task

LIST = "shares.json"


class Store:
    """The folder of a run; made if it is not there.

    Parameters
    ----------
    folder : str or Path
    tasks : sequence of Task
        The run's, which are listed in shares.json, besides what is listed there already.

    Raises
    ------
    InvalidInputError
        If there cannot be such a folder.
    TargetError
        If it cannot be written to.
    """

    def __init__(self, folder: str | Path, tasks: Sequence[Task]) -> None:
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidInputError(f"Cannot make the folder {folder}: {error.strerror}. Name another one.") from None
        files = {
            f"{task.digest}.npz": {"work": task.work, "spikeloop": __version__, "share": task.summary} for task in tasks
        }
        document = {
            "what": "Finished shares of a run. Run the same command again to go on; after that they can be deleted.",
            "format": FORMAT,
            "versions": {"spikeloop": __version__, "numpy": np.__version__, "python": platform.python_version()},
            "files": self._listed() | files,
        }
        text = json.dumps(document, indent=1).encode()
        self._put(LIST, lambda file: file.write(text))

    def _listed(self) -> dict[str, Any]:
        path = self.folder / LIST
        if not path.exists():
            return {}
        try:
            document = json.loads(path.read_bytes())
            return dict(document["files"]) if document["format"] == FORMAT else {}
        except (OSError, ValueError, KeyError, TypeError):
            raise InvalidInputError(f"{path} is no list of finished shares: name another folder.") from None

    def load(self, task: Task, on_note: Callable[[str], None]) -> Result | None:
        """The kept result, or None if there is none or it is damaged, which is told to `on_note`."""
        path = self.folder / f"{task.digest}.npz"
        try:
            with path.open("rb") as file, NpzFile(file, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
            on_note(f"{path} is damaged ({error}): its share is done again.")
            return None

    def keep(self, task: Task, result: Result) -> None:
        """Keep a result.

        Raises
        ------
        TargetError
            If it cannot be written.
        """

        self._put(f"{task.digest}.npz", lambda file: write_arrays(file, result))

    def _put(self, name: str, write: Callable[[BinaryIO], object]) -> None:
        path = self.folder / name
        partial = path.with_name(f"{name}.{os.getpid()}.partial")  # two runs may share the folder
        try:
            with partial.open("wb") as file:
                write(file)
            partial.replace(path)
        except BaseException as error:
            with contextlib.suppress(OSError):
                partial.unlink()
            if not isinstance(error, OSError):
                raise
            raise TargetError(f"Cannot write {path}: {error.strerror}. Finished shares are kept.") from None


def write_arrays(file: BinaryIO, arrays: Result, *, compressed: bool = False) -> None:
    """Write an .npz file whose bytes depend on the arrays only.

    Not by np.savez: it has names of its own, which an array then could not have, and writes the time of day.
    """
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.compress_type = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
            with archive.open(entry, "w", force_zip64=True) as opened:
                np.lib.format.write_array(opened, array, allow_pickle=False)

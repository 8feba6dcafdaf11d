"""One way in: a bundled agent by name, or a file of any supported kind by path."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from ..errors import InvalidInputError, NetworkFileError, UnknownNameError
from . import file, torch_files
from .network import Network


def bundled() -> dict[str, Path]:
    """The agents that come with Spikeloop: name -> file."""
    folder = Path(str(resources.files(__package__))) / "bundled"
    return {path.stem: path for path in sorted(folder.glob("*.spk"))}


def load(source: str | Path, **options: Any) -> Network:
    """Load a network: a bundled agent's name, a network file, or a file that torch saved.

    Parameters
    ----------
    source : str or Path
    **options
        For a torch file: the options of `spikeloop.models.torch_files.import_torch`, of which ``steps`` is needed.

    Raises
    ------
    UnknownNameError
        If there is neither a bundled agent nor a file of that name.
    NetworkFileError
        If the file cannot be read.
    InvalidInputError
        If options are missing, or given for a file that needs none.
    """
    agents = bundled()
    path = agents.get(str(source)) or Path(source)
    if not path.exists():
        raise UnknownNameError.among("file or bundled agent", str(source), agents)
    data = _read(path)
    if data[:2] == b"PK" or data[:1] == b"\x80":  # torch's zip container; its older bare pickle
        if "steps" not in options:
            raise InvalidInputError(
                f"{path} is a torch file and does not say how long a decision's window is: give steps=N (--steps N)."
            )
        return torch_files.import_torch(path, **options)
    network = file.from_bytes(data, str(path))
    if options:
        raise InvalidInputError(f"{path} is a network file and takes no import options; given: {', '.join(options)}.")
    return network


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > file.MAX_BYTES:
            raise NetworkFileError(f"{path} has {path.stat().st_size} bytes; at most {file.MAX_BYTES} are read.")
        return path.read_bytes()
    except OSError as error:
        raise NetworkFileError(f"Cannot read {path}: {error.strerror or error}.") from None

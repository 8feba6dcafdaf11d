"""One way in: a bundled agent by name, or a file of any supported kind by path."""

from __future__ import annotations

import inspect
from importlib import resources
from pathlib import Path
from typing import Any

from ..errors import InvalidInputError, UnknownNameError
from . import file, torch_files
from .conventional import refuse_conventional
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
    if not str(source) or not _exists(path):
        raise UnknownNameError.among("file or bundled agent", str(source), agents)
    data = file.read(path)
    if not file.is_network_file(data) and torch_files.is_torch_file(data):
        refuse_conventional(data, path)
        if "steps" not in options:
            raise InvalidInputError(
                f"{path} is a torch file, which does not say how many steps a decision takes: make a network file of "
                "it (spikeloop import FILE --steps N -o agent.spk; spikeloop convert if it is a conventional network), "
                "or load it with steps=N."
            )
        known = set(inspect.signature(torch_files.import_torch).parameters) - {"path"}
        if strangers := sorted(set(options) - known):
            raise InvalidInputError(f"Import option '{strangers[0]}' was given; known are {', '.join(sorted(known))}.")
        return torch_files.import_torch(path, **options)
    network = file.from_bytes(data, str(path))
    if options:
        raise InvalidInputError(f"{path} is a network file and takes no import options; given: {', '.join(options)}.")
    return network


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # no file can have this name
        return False

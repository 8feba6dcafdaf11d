"""The ``spynnaker.cfg`` that leads unmodified sPyNNaker to a board."""

from __future__ import annotations

from pathlib import Path

from .errors import BoardSettingError

FILE_NAME = "spynnaker.cfg"
HOME_FILE_NAME = ".spynnaker.cfg"
PATIENCE_S = 900


class ConfigExistsError(BoardSettingError):
    """There is another configuration already."""


def spynnaker_config(address: str, version: int) -> str:
    """The text of the file.

    The board may be slower than real time, and the host would give it up five seconds late.
    """
    machine = f"machine_name = {address}\nversion = {version}\npost_simulation_overrun_before_error = {PATIENCE_S}"
    return f"[Machine]\n{machine}\n\n[Java]\nuse_java = False\n"


def write_config(folder: Path, address: str, version: int) -> Path:
    """Write the file into a folder (into the home directory under the name that sPyNNaker looks for there).

    Raises
    ------
    ConfigExistsError
        Another file of that name is there; it is left as it is.
    """
    if not folder.is_dir():
        raise ConfigExistsError(f"{folder} is no folder; name the one that the script runs in")
    at_home = folder.resolve() == Path.home().resolve()
    path = folder / (HOME_FILE_NAME if at_home else FILE_NAME)
    text = spynnaker_config(address, version)
    if path.exists():
        if path.read_text(encoding="utf-8", errors="replace") == text:
            return path
        raise ConfigExistsError(
            f"{path} exists and is different; it is left as it is. Put this into it, or move it away:\n{text}"
        )
    path.write_text(text, encoding="utf-8")
    return path

"""What is asked of a board before, beside and after sPyNNaker: is it there, how large is it, what runs on it.

Commands and memory map: spinnaker_tools ``include/spinnaker.h`` and ``sark.h``, and spinnman 7.4.1 (``scp/impl``).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

from ...errors import TargetError
from ...virtual_board.layout import (
    P2P_NONE,
    ROUTER,
    RUN_TIME_ERRORS,
    SYSRAM_BASE,
    SYSTEM_VARIABLES,
    VCPU,
    VCPU_APP_ID,
    VCPU_SIZE,
    VCPU_STATE,
    CoreState,
)
from ...virtual_board.scamp.client import PORT, Client, NoAnswerError, RefusedError
from ...virtual_board.scamp.messages import ETHERNET_PORT, REPLY_EXPECTED, ROOT, Message

_TRIES, _WAIT_S = 4, 0.4
_WHOEVER = (0xFF, 0xFF)  # the chip that is connected
_VER, _NNP, _INFO, _TRANSIENT = 0, 20, 31, 0xFF
_ALL_BUT_SIZE = 0x5F
_P2P_TABLE, _P2P_COLUMN = ROUTER[0] + 0x10000, 0x80
_VCPU_ERROR, _VCPU_NAME = 44, 72
_STOP = 2  # the signal
_UNOCCUPIED = (CoreState.DEAD, CoreState.POWERED_DOWN, CoreState.IDLE)
_CRASHED = (CoreState.RUN_TIME_EXCEPTION, CoreState.WATCHDOG)


class Presence(Enum):
    """Who is at an address: a booted board; nobody that says so (a board that is not booted); surely no board."""

    BOARD = "board"
    SILENCE = "silence"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class Core:
    """An application core with something loaded; `p` counts virtual cores, `error` is a run-time error's number."""

    x: int
    y: int
    p: int
    state: int
    app_id: int
    name: str
    error: int

    @property
    def running(self) -> bool:
        """Whether it runs, or waits within a run."""
        return self.state not in (*_CRASHED, CoreState.FINISHED)

    @property
    def crashed(self) -> bool:
        """Whether its program has failed."""
        return self.state in _CRASHED

    @property
    def why(self) -> str:
        """Why it has failed."""
        if self.state == CoreState.WATCHDOG:
            return "its watchdog expired"
        return RUN_TIME_ERRORS.get(self.error, f"run-time error {self.error}")

    def __str__(self) -> str:
        return f"core {self.x},{self.y},{self.p} ({self.name or 'no name'})"


def resolve(host: str) -> str:
    """The IP address of a host.

    Raises
    ------
    TargetError
        If the name does not resolve.
    """
    try:
        return socket.gethostbyname(host)
    except (OSError, UnicodeError):
        raise TargetError(
            f"The host name '{host}' does not resolve; name the board by --set machine_name=HOST, as a host name that "
            "this computer knows, or as an IP address."
        ) from None


def probe(address: str) -> Presence:
    """Ask for the version of the software that runs on the board at an IP address."""
    body = struct.pack("<HHIII", _VER, 1, 0, 0, 0)
    question = Message(REPLY_EXPECTED, _TRANSIENT, 0, ETHERNET_PORT, ROOT, 0, body).to_udp()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.settimeout(_WAIT_S)
        try:
            connection.connect((address, PORT))
            for _ in range(_TRIES):
                connection.send(question)
                with suppress(TimeoutError):
                    connection.recv(1024)
                    return Presence.BOARD
        except OSError:  # the host has told that nothing listens, or there is no way to it
            return Presence.NOBODY
    return Presence.SILENCE


def dimensions(board: Client) -> tuple[int, int]:
    """Width and height of the machine, in chips."""
    height, width = board.read(_WHOEVER, SYSRAM_BASE + SYSTEM_VARIABLES + 2, 2)
    return width, height


def version_of(size: tuple[int, int]) -> int:
    """The version of boards that make a machine of this width and height."""
    return 3 if size == (2, 2) else 5


def cores(board: Client) -> list[Core]:
    """The application cores of all chips on which something is loaded."""
    return [core for chip in _chips(board) for core in _cores_of(board, chip)]


def crashed(address: str) -> list[tuple[Core, str]]:
    """The cores that have failed, each with the last error in its IOBUF, or else the last line of it.

    There are none if the board cannot be asked.
    """
    found = []
    try:
        with Client(address) as board:
            for core in cores(board):
                if core.crashed:
                    lines = board.iobuf(core.x, core.y, core.p).strip().splitlines()
                    errors = [line for line in lines if "[ERROR]" in line]
                    found.append((core, (errors or lines or [""])[-1].strip()))
    except (NoAnswerError, RefusedError):
        pass
    return found


def stop(board: Client, app_id: int) -> None:
    """Stop all cores that run as this application, on the whole machine."""
    everywhere = 0x3F
    signal = 5 << 28 | _STOP << 16 | 0xFF << 8 | app_id
    board.ask(_NNP, everywhere << 16, signal, 1 << 31 | everywhere << 8)


def _chips(board: Client) -> Iterator[tuple[int, int]]:
    """The chips that the connected one has a point-to-point route to: 3 bits each, 8 to a word."""
    width, height = dimensions(board)
    for x in range(width):
        column = board.read(_WHOEVER, _P2P_TABLE + _P2P_COLUMN * x, 4 * -(-height // 8))
        for y in range(height):
            (word,) = struct.unpack_from("<I", column, 4 * (y // 8))
            if word >> 3 * (y % 8) & 7 != P2P_NONE:
                yield x, y


def _cores_of(board: Client, chip: tuple[int, int]) -> Iterator[Core]:
    try:
        answer = board.ask(_INFO, _ALL_BUT_SIZE, chip=chip)
    except RefusedError:  # the route leads to a dead chip
        return
    n_cores = answer[0] & 0x1F
    for p, state in enumerate(answer[12 : 12 + n_cores]):
        if p == 0 or state in _UNOCCUPIED:  # 0 is the monitor
            continue
        block = board.read(chip, SYSRAM_BASE + VCPU + p * VCPU_SIZE, VCPU_SIZE)
        name = block[_VCPU_NAME : _VCPU_NAME + 16].split(b"\0")[0].decode("ascii", "ignore")
        yield Core(*chip, p, block[VCPU_STATE], block[VCPU_APP_ID], name, block[_VCPU_ERROR])

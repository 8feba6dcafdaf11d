"""The host's side of SCP, as far as it takes to look into a running board: versions, memory, IOBUF.

Works with whatever speaks SCP at that address, this board or a real one.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

from ..errors import BoardError, BoardSettingError
from ..firmware_log import expand
from ..layout import N_CORES, SDP_MAX_DATA, SYSRAM_BASE, VCPU, VCPU_IOBUF, VCPU_SIZE
from .messages import ETHERNET_PORT, REPLY_EXPECTED, ROOT, Message, MessageError, Result, command_of

PORT = 17893
TIMEOUT_S = 0.5
TRIES = 5
_LONGEST_CHAIN = 256
_TRANSIENT = 0xFF


class NoAnswerError(BoardError):
    """Nobody answers at that address."""


class RefusedError(BoardError):
    """The board answers that it cannot do that."""


class Client:
    """Talks SCP to the board at an address; use it in a ``with`` block. After `timeout_s` it asks once more."""

    def __init__(self, address: str, timeout_s: float = TIMEOUT_S) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(timeout_s)
        self._sequence = 0

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def ask(
        self, command: int, arg1: int = 0, arg2: int = 0, arg3: int = 0, chip: tuple[int, int] | None = None
    ) -> bytes:
        """Send a command to a chip's monitor (the connected one by default); returns what follows the header.

        Raises
        ------
        NoAnswerError
            No answer came, though it was asked several times.
        RefusedError
            The answer is an error.
        """
        self._sequence = (self._sequence + 1) & 0xFFFF
        word = ROOT if chip is None else chip[0] << 8 | chip[1]
        body = struct.pack("<HHIII", command, self._sequence, arg1, arg2, arg3)
        datagram = Message(REPLY_EXPECTED, _TRANSIENT, 0, ETHERNET_PORT, word, 0, body).to_udp()
        for _ in range(TRIES):
            try:
                self._socket.sendto(datagram, (self.address, PORT))
                for answer in self._answers():
                    code, sequence = command_of(answer.body)
                    if sequence == self._sequence:
                        if code != Result.OK:
                            where = "" if chip is None else f" for chip {chip[0]},{chip[1]}"
                            raise RefusedError(
                                f"the board at {self.address} answers 0x{code:02x} to command {command}{where}; "
                                "is there such a chip and core?"
                            )
                        return answer.body[4:]
            except (OSError, MessageError):
                continue  # nobody there yet, or the answer was lost
        raise NoAnswerError(f"no board answers at {self.address}; start one with `spikeloop board`, or say --address")

    def _answers(self) -> Iterator[Message]:
        while True:
            yield Message.from_udp(self._socket.recv(1024))

    def read(self, chip: tuple[int, int], address: int, size: int) -> bytes:
        """``size`` bytes of a chip's memory."""
        parts = []
        for start in range(0, size, SDP_MAX_DATA):
            parts.append(self.ask(2, address + start, min(SDP_MAX_DATA, size - start), 0, chip))
        return b"".join(parts)

    def iobuf(self, x: int, y: int, core: int) -> str:
        """What the firmware on a core has printed.

        Raises
        ------
        BoardSettingError
            There can be no such core.
        """
        if not (0 <= x < 255 and 0 <= y < 255 and 0 <= core < N_CORES):
            raise BoardSettingError(
                f"there is no core {x},{y},{core}: chips are within 0 to 254, cores 0 to {N_CORES - 1}"
            )
        block = SYSRAM_BASE + VCPU + core * VCPU_SIZE
        (address,) = struct.unpack("<I", self.read((x, y), block + VCPU_IOBUF, 4))
        text = b""
        for _ in range(_LONGEST_CHAIN):
            if not address:
                break
            following, _, _, length = struct.unpack("<4I", self.read((x, y), address, 16))
            text += self.read((x, y), address + 16, min(length, 1 << 16))
            address = following
        return expand(text.decode("utf-8", "replace"))

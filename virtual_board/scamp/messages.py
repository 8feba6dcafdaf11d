"""SDP and SCP, the messages that host, monitor and cores exchange (``sark.h``: ``sdp_msg_t``; SpiNNaker AppNotes 4, 5).

In UDP: two bytes of padding, the SDP header of eight bytes, then (for SCP) command, sequence number, three arguments
and data. In the chip's memory the header is preceded by a link, the length and a checksum.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from ..geometry import Coordinates
from ..layout import SDP_DATA_OFFSET, SDP_HEADER, SDP_MAX_DATA, SDP_MESSAGE_SIZE

REPLY_EXPECTED = 0x80
ETHERNET_PORT = 0xFF
ROOT = 0xFFFF  # an address that means "whoever is connected"
PADDING = 2
LARGEST = SDP_HEADER + 16 + SDP_MAX_DATA
_HEADER = struct.Struct("<BBBBHH")
_SCP = struct.Struct("<HHIII")
_MEMORY = struct.Struct("<IHH")


class Result:
    """Return codes of SCP (``sark.h``)."""

    OK = 0x80
    LENGTH = 0x81
    CHECKSUM = 0x82
    COMMAND = 0x83
    ARGUMENT = 0x84
    PORT = 0x85
    TIMEOUT = 0x86
    ROUTE = 0x87
    CPU = 0x88
    DEAD = 0x89
    BUFFER = 0x8A


class MessageError(ValueError):
    """Bytes that are no SDP message."""


@dataclass(frozen=True)
class Message:
    """An SDP message: where from, where to, and what follows the header."""

    flags: int
    tag: int
    to_port: int  # the top three bits, with the core in the lower five
    from_port: int
    to_chip: int  # x << 8 | y
    from_chip: int
    body: bytes

    @classmethod
    def from_udp(cls, datagram: bytes) -> Message:
        """Read a datagram of the SCP port.

        Raises
        ------
        MessageError
            It is shorter than a header, or longer than a message may be.
        """
        size = len(datagram) - PADDING
        if size < SDP_HEADER or size > LARGEST:
            raise MessageError(f"{len(datagram)} bytes; an SDP datagram has {PADDING + SDP_HEADER} to "
                               f"{PADDING + LARGEST}")  # fmt: skip
        return cls(*(*_HEADER.unpack_from(datagram, PADDING), datagram[PADDING + SDP_HEADER :]))

    def to_udp(self) -> bytes:
        """The datagram."""
        return bytes(PADDING) + self.header + self.body

    @property
    def header(self) -> bytes:
        """The eight bytes before the body."""
        return _HEADER.pack(self.flags, self.tag, self.to_port, self.from_port, self.to_chip, self.from_chip)

    @classmethod
    def from_memory(cls, data: bytes) -> Message:
        """Read a message as it lies in a chip's memory.

        Raises
        ------
        MessageError
            Its length cannot be.
        """
        _, length, _ = _MEMORY.unpack_from(data)
        if not SDP_HEADER <= length <= LARGEST:
            raise MessageError(f"a core sent a message of {length} bytes; at least {SDP_HEADER}, at most {LARGEST}")
        start = SDP_DATA_OFFSET
        return cls(*(*_HEADER.unpack_from(data, start), data[start + SDP_HEADER : start + length]))

    def to_memory(self) -> bytes:
        """The message as it lies in a chip's memory."""
        length = SDP_HEADER + len(self.body)
        return (_MEMORY.pack(0, length, 0) + self.header + self.body).ljust(SDP_MESSAGE_SIZE, b"\0")

    def answer(self, body: bytes) -> Message:
        """The message back to where this one came from."""
        return replace(
            self,
            flags=self.flags & ~REPLY_EXPECTED,
            to_port=self.from_port,
            from_port=self.to_port,
            to_chip=self.from_chip,
            from_chip=self.to_chip,
            body=body,
        )

    @property
    def core(self) -> int:
        """The core it goes to."""
        return self.to_port & 0x1F

    @property
    def port(self) -> int:
        """The core's port it goes to."""
        return self.to_port >> 5


@dataclass(frozen=True)
class Request:
    """An SCP command."""

    command: int
    sequence: int
    arg1: int
    arg2: int
    arg3: int
    data: bytes
    sender: tuple[str, int] | None = None  # where on the network it came from

    @classmethod
    def from_message(cls, message: Message, sender: tuple[str, int] | None = None) -> Request | None:
        """The command in a message; none if it is too short for one."""
        if len(message.body) < _SCP.size:
            return None
        return cls(*(*_SCP.unpack_from(message.body), message.body[_SCP.size :], sender))


def result(code: int, sequence: int, data: bytes = b"") -> bytes:
    """The body of an answer."""
    return struct.pack("<HH", code, sequence) + data


def command_of(body: bytes) -> tuple[int, int]:
    """Command and sequence number as far as they are there."""
    command, sequence = struct.unpack("<HH", body[:4].ljust(4, b"\0"))
    return int(command), int(sequence)


def chip_word(at: Coordinates) -> int:
    """A chip's address on the machine."""
    return at[0] << 8 | at[1]


def chip_at_word(word: int) -> Coordinates:
    """The coordinates in a chip's address."""
    return word >> 8, word & 0xFF

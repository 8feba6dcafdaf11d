"""The boot port: a board that has just been switched on is given its monitor's software in blocks of one kilobyte.

The software that comes is not run (the monitor's duties are our own code), but the conversation is checked: start,
data, end, in order. Source: spinnman ``spinnaker_boot_message.py``, spinnaker_tools ``scamp-boot.c``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum

PORT = 54321
_HEADER = struct.Struct(">HIIII")
VERSION = 1
LARGEST_BLOCK = 1024
MOST_BLOCKS = 32


class Operation(IntEnum):
    """What a boot packet says."""

    HELLO = 0x41
    START = 1
    DATA = 3
    END = 5


class BootError(ValueError):
    """A packet that is no boot packet, or out of order; the message says which."""


@dataclass
class BootLoader:
    """Takes boot packets; `receive` is true when the last one has come."""

    expected: int = 0
    blocks: set[int] = field(default_factory=set)

    def receive(self, packet: bytes) -> bool:
        """Take one packet.

        Raises
        ------
        BootError
            It cannot be part of a boot.
        """
        if len(packet) < _HEADER.size:
            raise BootError(f"{len(packet)} bytes; a boot packet has at least {_HEADER.size}")
        version, operation, first, _, third = _HEADER.unpack_from(packet)
        if version != VERSION:
            raise BootError(f"boot protocol version {version}; this is version {VERSION}")
        if operation == Operation.START:
            blocks = third + 1
            if blocks > MOST_BLOCKS:
                raise BootError(f"{blocks} blocks are to come; at most {MOST_BLOCKS} fit")
            self.expected, self.blocks = blocks, set()
            return False
        if operation == Operation.DATA:
            block = first & 0xFF
            if not self.expected:
                raise BootError(f"block {block} came before a start")
            if block >= self.expected or len(packet) - _HEADER.size > LARGEST_BLOCK:
                raise BootError(f"block {block} of {len(packet) - _HEADER.size} bytes; {self.expected} were announced")
            self.blocks.add(block)
            return False
        if operation == Operation.END:
            if not self.expected:
                raise BootError("an end came before a start")
            missing = sorted(set(range(self.expected)) - self.blocks)
            self.expected = 0
            if missing:
                raise BootError(f"blocks {missing} are missing")
            return True
        if operation == Operation.HELLO:
            return False
        raise BootError(f"operation {operation} is not known")

"""Application binaries (APLX): a table of copy and fill commands, then "execute" (``sark.h``, ``boot_aplx.s``).

Each entry is four words: the command and three arguments.

| command | arguments |
| --- | --- |
| 1 absolute copy | to, from (an address in the chip's memory), length |
| 2 relative copy | to, from (relative to this entry), length |
| 3 fill | to, length, word |
| 4 execute | address |

The loader works in blocks of 32 bytes, so lengths are rounded up.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from .errors import BinaryError
from .layout import DTCM_BASE, DTCM_SIZE, ITCM_BASE, ITCM_SIZE, SDRAM_BASE, SDRAM_SIZE, SDRAM_UNBUFFERED
from .memory import Bytes, ChipMemory

ABSOLUTE_COPY, RELATIVE_COPY, FILL, EXECUTE = 1, 2, 3, 4
_ENTRY = struct.Struct("<4I")
_BLOCK = 32
MOST_ENTRIES = 64
LARGEST_IMAGE = ITCM_SIZE + DTCM_SIZE


@dataclass(frozen=True)
class Application:
    """What is to be copied where, and where the program starts.

    Attributes
    ----------
    writes : (address in the core's memory, bytes)
    entry : address of the first instruction
    """

    writes: tuple[tuple[int, bytes], ...]
    entry: int


def _target(address: int, length: int) -> None:
    for base, size in ((ITCM_BASE, ITCM_SIZE), (DTCM_BASE, DTCM_SIZE)):
        if base <= address and address + length <= base + size:
            return
    raise BinaryError(
        f"the binary writes {length} bytes to 0x{address:08x}; a core has memory at 0x{ITCM_BASE:x} (32 KiB) and "
        f"0x{DTCM_BASE:x} (64 KiB). Is it an APLX file for SpiNNaker?"
    )


def read_application(memory: ChipMemory, table: int) -> Application:
    """Work out the commands of the binary whose table is at this address of the chip's memory.

    Raises
    ------
    BinaryError
        It is no APLX image, or it asks for what a core does not have.
    """
    writes: list[tuple[int, bytes]] = []
    for number in range(MOST_ENTRIES):
        place = table + number * _ENTRY.size
        command, to, second, third = _ENTRY.unpack(memory.read(place, _ENTRY.size))
        if command == EXECUTE:
            return Application(tuple(writes), to)
        if command in (ABSOLUTE_COPY, RELATIVE_COPY):
            source = second + place if command == RELATIVE_COPY else second
            length = -(-third // _BLOCK) * _BLOCK
            _target(to, min(length, LARGEST_IMAGE + 1))
            if not any(base <= source <= base + SDRAM_SIZE - length for base in (SDRAM_BASE, SDRAM_UNBUFFERED)):
                raise BinaryError(f"the binary copies {length} bytes from 0x{source:08x}, where there is no SDRAM")
            writes.append((to, memory.read(source, length)))
        elif command == FILL:
            length = -(-second // _BLOCK) * _BLOCK
            _target(to, min(length, LARGEST_IMAGE + 1))
            writes.append((to, struct.pack("<I", third) * (length // 4)))
        else:
            raise BinaryError(
                f"entry {number} of the binary has command {command}; APLX knows copy (1, 2), fill (3), execute (4)"
            )
    raise BinaryError(f"the binary has no execute command among its first {MOST_ENTRIES} entries")


def load(application: Application, itcm: Bytes, dtcm: Bytes) -> None:
    """Put the application into a core's memories, which start out as zeros."""
    itcm[:] = 0
    dtcm[:] = 0
    for address, data in application.writes:
        memory, base = (itcm, ITCM_BASE) if address < DTCM_BASE else (dtcm, DTCM_BASE)
        view = memory[address - base : address - base + len(data)]
        view[:] = memoryview(data)

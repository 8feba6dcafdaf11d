"""A chip's memory as the monitor reads and writes it: by the chip's own addresses, from the host's side."""

from __future__ import annotations

import mmap

import numpy as np
from numpy.typing import NDArray

from .layout import (
    PAGE,
    ROUTER,
    ROUTER_SIZE,
    SDRAM_BASE,
    SDRAM_SIZE,
    SDRAM_UNBUFFERED,
    SYSRAM_BASE,
    SYSRAM_SIZE,
    SYSRAM_UNBUFFERED,
    SYSTEM_CONTROLLER,
)
from .peripherals import router

Bytes = NDArray[np.uint8]


def page_aligned(size: int) -> Bytes:
    """Zeroed memory that starts on a page, as the emulator needs it; pages are taken when they are first written."""
    return np.frombuffer(mmap.mmap(-1, (size + PAGE - 1) // PAGE * PAGE), dtype=np.uint8)[:size]


class ChipMemory:
    """The shared memories of one chip, and the registers that the host tools look at.

    Reads of what is not there give zeros and writes are lost, as the monitor cannot answer with a bus error; whether
    an address is there says `has`.
    """

    def __init__(self, chip_record: int) -> None:
        self.sdram = page_aligned(SDRAM_SIZE)
        self.sysram = page_aligned(SYSRAM_SIZE)
        self._chip_record = chip_record

    def clear(self) -> None:
        """As after power-on."""
        self.sdram = page_aligned(SDRAM_SIZE)
        self.sysram[:] = 0

    def _find(self, address: int, size: int) -> tuple[Bytes, int] | None:
        for memory, bases in ((self.sdram, (SDRAM_BASE, SDRAM_UNBUFFERED)), (self.sysram, _SYSRAM)):
            for base in bases:
                if base <= address and address + size <= base + len(memory):
                    return memory, address - base
        return None

    def has(self, address: int, size: int) -> bool:
        """Whether all of these bytes are memory or registers of this chip."""
        return self._find(address, size) is not None or _registers(address, size)

    def read(self, address: int, size: int) -> bytes:
        """``size`` bytes from ``address``."""
        found = self._find(address, size)
        if found is not None:
            memory, offset = found
            return memory[offset : offset + size].tobytes()
        if _registers(address, size):
            return self._read_registers(address, size)
        return bytes(size)

    def write(self, address: int, data: bytes) -> None:
        """Put these bytes at ``address``."""
        found = self._find(address, len(data))
        if found is not None:
            memory, offset = found
            memory[offset : offset + len(data)] = np.frombuffer(data, dtype=np.uint8)
        elif _registers(address, len(data)):
            for i in range(0, len(data) - 3, 4):
                self._write_register(address + i, int.from_bytes(data[i : i + 4], "little"))

    def _read_registers(self, address: int, size: int) -> bytes:
        offset = address & (ROUTER_SIZE - 1)
        if address - offset in ROUTER:
            words = [int(router.read_at(self._chip_record, offset + i)) for i in range(0, size, 4)]
            return np.array(words, dtype="<u4").tobytes()[:size]
        return _CHIP_ID.to_bytes(4, "little").ljust(size, b"\0")[:size] if not offset else bytes(size)

    def _write_register(self, address: int, value: int) -> None:
        offset = address & (ROUTER_SIZE - 1)
        if address - offset in ROUTER:
            router.write_at(self._chip_record, offset, value)

    def word(self, address: int) -> int:
        """The 32-bit word at ``address``."""
        return int.from_bytes(self.read(address, 4), "little")

    def set_word(self, address: int, value: int) -> None:
        """Write a 32-bit word."""
        self.write(address, (value & 0xFFFFFFFF).to_bytes(4, "little"))

    def half(self, address: int) -> int:
        """The 16-bit word at ``address``."""
        return int.from_bytes(self.read(address, 2), "little")

    def set_half(self, address: int, value: int) -> None:
        """Write a 16-bit word."""
        self.write(address, (value & 0xFFFF).to_bytes(2, "little"))

    def byte(self, address: int) -> int:
        """The byte at ``address``."""
        return self.read(address, 1)[0]

    def set_byte(self, address: int, value: int) -> None:
        """Write a byte."""
        self.write(address, bytes([value & 0xFF]))


_SYSRAM = (SYSRAM_BASE, SYSRAM_UNBUFFERED)
_CHIP_ID = 0x59111012


def _registers(address: int, size: int) -> bool:
    return any(base <= address and address + size <= base + ROUTER_SIZE for base in (*ROUTER, *SYSTEM_CONTROLLER))

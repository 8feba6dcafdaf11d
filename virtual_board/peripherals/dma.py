"""The DMA controller of a core: copies between its tightly coupled memories and the chip's SDRAM or system RAM.

A transfer is complete when it has been asked for; its interrupt comes when the core next sleeps. Completions that wait
to be acknowledged are counted, for the controller holds two transfers.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np

from ..layout import (
    DTCM_BASE,
    DTCM_SIZE,
    ITCM_BASE,
    ITCM_SIZE,
    SDRAM_BASE,
    SDRAM_SIZE,
    SDRAM_UNBUFFERED,
    SYSRAM_BASE,
    SYSRAM_SIZE,
    SYSRAM_UNBUFFERED,
    Interrupt,
)
from ..state import bytes_at, chip_at, jit
from .lines import drop_line, had_effect, raise_line


class Register(IntEnum):
    """Byte offsets from the controller's base (data sheet, section 7)."""

    SYSTEM_ADDRESS = 0x04
    TCM_ADDRESS = 0x08
    DESCRIPTOR = 0x0C  # write: go. Length in bytes (17 bits), direction (bit 19: 1 writes to system memory)
    CONTROL = 0x10  # 0x08: clear "done"; 0x02: abort
    STATUS = 0x14  # bit 10: done; bits 24..: the physical number of the core
    GLOBAL_CONTROL = 0x18


LENGTH = 0x1FFFF
TO_SYSTEM = 1 << 19
ABORT, CLEAR_DONE = 0x02, 0x08
DONE, ERROR = 1 << 10, 1 << 13
DONE_ENABLED = 1 << 10  # in GLOBAL_CONTROL


@jit
def _within(address: Any, base: Any, size: Any, length: Any) -> Any:
    return base <= address and address + length <= base + size


@jit
def system_memory(chip: Any, address: Any, length: Any) -> Any:
    """Where in our memory the chip's shared memory at ``address`` is; 0 if there is none."""
    if _within(address, SDRAM_BASE, SDRAM_SIZE, length):
        return chip.sdram + address - SDRAM_BASE
    if _within(address, SDRAM_UNBUFFERED, SDRAM_SIZE, length):
        return chip.sdram + address - SDRAM_UNBUFFERED
    if _within(address, SYSRAM_BASE, SYSRAM_SIZE, length):
        return chip.sysram + address - SYSRAM_BASE
    if _within(address, SYSRAM_UNBUFFERED, SYSRAM_SIZE, length):
        return chip.sysram + address - SYSRAM_UNBUFFERED
    return np.int64(0)


@jit
def _core_memory(core: Any, address: Any, length: Any) -> Any:
    if _within(address, DTCM_BASE, DTCM_SIZE, length):
        return core.dtcm + address - DTCM_BASE
    if _within(address, ITCM_BASE, ITCM_SIZE, length):
        return core.itcm + address - ITCM_BASE
    return np.int64(0)


@jit
def _transfer(core: Any, descriptor: Any) -> Any:
    length = descriptor & LENGTH
    system = system_memory(chip_at(core.chip), np.int64(core.dma_system), length)
    tcm = _core_memory(core, np.int64(core.dma_tcm), length)
    had_effect(core)
    if system == 0 or tcm == 0:
        raise_line(core, Interrupt.DMA_ERROR)
        return
    if descriptor & TO_SYSTEM:
        bytes_at(system, length)[:] = bytes_at(tcm, length)
    else:
        bytes_at(tcm, length)[:] = bytes_at(system, length)
    core.dma_bytes += length
    core.dma_done += 1
    if core.dma_global & DONE_ENABLED:
        raise_line(core, Interrupt.DMA_DONE)


@jit
def read(core: Any, offset: Any) -> Any:
    """A load from the controller's registers."""
    if offset == Register.STATUS:
        return np.uint32(core.physical << 24 | (DONE if core.dma_done else 0))
    if offset == Register.SYSTEM_ADDRESS:
        return core.dma_system
    if offset == Register.TCM_ADDRESS:
        return core.dma_tcm
    if offset == Register.DESCRIPTOR:
        return core.dma_descriptor
    if offset == Register.GLOBAL_CONTROL:
        return core.dma_global
    return np.uint32(0)


@jit
def write(core: Any, offset: Any, value: Any) -> Any:
    """A store to the controller's registers."""
    if offset == Register.SYSTEM_ADDRESS:
        core.dma_system = value
    elif offset == Register.TCM_ADDRESS:
        core.dma_tcm = value
    elif offset == Register.DESCRIPTOR:
        core.dma_descriptor = value
        _transfer(core, value)
    elif offset == Register.CONTROL:
        if value & ABORT:
            core.dma_done = 0
        elif value & CLEAR_DONE and core.dma_done > 0:
            core.dma_done -= 1
        if core.dma_done == 0:
            drop_line(core, Interrupt.DMA_DONE)
        drop_line(core, Interrupt.DMA_ERROR)
    elif offset == Register.GLOBAL_CONTROL:
        core.dma_global = value

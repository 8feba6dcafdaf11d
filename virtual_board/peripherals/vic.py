"""The vectored interrupt controller (PL190): 32 sources, 16 priorities, one of the sources may be fast (FIQ).

A line that is raised and enabled is an FIQ where ``SELECT`` says so, else an IRQ. The IRQ's handler is that of the
lowest slot whose control word names the source; while it is served, slots of the same or a lower priority wait, until
a write to ``ADDRESS`` ends it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np

from ..state import jit
from .lines import had_effect


class Register(IntEnum):
    """Byte offsets from the controller's base (data sheet, section 5)."""

    IRQ_STATUS = 0x00
    FIQ_STATUS = 0x04
    RAW = 0x08
    SELECT = 0x0C  # 1: FIQ
    ENABLE = 0x10  # write 1 to enable
    DISABLE = 0x14  # write 1 to disable
    SOFT_SET = 0x18
    SOFT_CLEAR = 0x1C
    PROTECTION = 0x20
    ADDRESS = 0x30  # read: the handler to go to; write: it is done
    DEFAULT_ADDRESS = 0x34
    VECTORS = 0x100  # 16 handlers
    CONTROLS = 0x200  # 16 of: source (5 bits), enabled (bit 5)


SLOT_ENABLED = 0x20
N_SLOTS = 16
NO_SLOT = 16  # the default handler: below every slot


@jit
def pending(core: Any) -> Any:
    """The enabled sources that are raised, a bit each."""
    return (core.lines | core.soft) & core.enable


@jit
def pending_fiq(core: Any) -> Any:
    """Those that are fast interrupts."""
    return pending(core) & core.select


@jit
def served_slot(core: Any) -> Any:
    """The slot that is being served, `NO_SLOT` + 1 if none is."""
    for slot in range(NO_SLOT + 1):
        if core.in_service >> slot & 1:
            return slot
    return NO_SLOT + 1


@jit
def best_slot(core: Any) -> Any:
    """The slot whose interrupt may be served now; -1 if there is none."""
    raised = pending(core) & (core.select ^ 0xFFFFFFFF)
    if raised == 0:
        return -1
    limit = served_slot(core)
    for slot in range(N_SLOTS):
        if slot >= limit:
            return -1
        control = core.controls[slot]
        if control & SLOT_ENABLED and raised >> (control & 31) & 1:
            return slot
    return NO_SLOT if limit > NO_SLOT else -1


@jit
def read(core: Any, offset: Any) -> Any:
    """A load from the controller's registers."""
    if offset == Register.ADDRESS:
        slot = best_slot(core)
        if slot < 0:
            return core.default_vector
        core.in_service |= 1 << slot
        return core.default_vector if slot == NO_SLOT else core.vectors[slot]
    if offset == Register.IRQ_STATUS:
        return np.uint32(pending(core) & (core.select ^ 0xFFFFFFFF))
    if offset == Register.FIQ_STATUS:
        return np.uint32(pending_fiq(core))
    if offset == Register.RAW:
        return np.uint32(core.lines | core.soft)
    if offset == Register.SELECT:
        return core.select
    if offset == Register.ENABLE:
        return core.enable
    if offset == Register.SOFT_SET:
        return core.soft
    if offset == Register.DEFAULT_ADDRESS:
        return core.default_vector
    if Register.VECTORS <= offset < Register.VECTORS + 4 * N_SLOTS:
        return core.vectors[(offset - Register.VECTORS) >> 2]
    if Register.CONTROLS <= offset < Register.CONTROLS + 4 * N_SLOTS:
        return core.controls[(offset - Register.CONTROLS) >> 2]
    return np.uint32(0)


@jit
def write(core: Any, offset: Any, value: Any) -> Any:
    """A store to the controller's registers."""
    if offset == Register.ADDRESS:
        slot = served_slot(core)
        if slot <= NO_SLOT:
            core.in_service &= 0xFFFFFFFF ^ (1 << slot)
        return
    had_effect(core)
    if offset == Register.SELECT:
        core.select = value
    elif offset == Register.ENABLE:
        core.enable |= value
        core.wake = 1
    elif offset == Register.DISABLE:
        core.enable &= value ^ 0xFFFFFFFF
    elif offset == Register.SOFT_SET:
        core.soft |= value
        core.wake = 1
    elif offset == Register.SOFT_CLEAR:
        core.soft &= value ^ 0xFFFFFFFF
    elif offset == Register.DEFAULT_ADDRESS:
        core.default_vector = value
    elif Register.VECTORS <= offset < Register.VECTORS + 4 * N_SLOTS:
        core.vectors[(offset - Register.VECTORS) >> 2] = value
    elif Register.CONTROLS <= offset < Register.CONTROLS + 4 * N_SLOTS:
        core.controls[(offset - Register.CONTROLS) >> 2] = value

"""The system controller of a chip: interrupts between cores, the flags of the synchronisation barriers, locks.

An interrupt to the monitor (physical core 0) is answered at once: the messages that cores have left in their mailboxes
are taken to the board's outbox, from where the Python side delivers them.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np

from ..layout import (
    N_CORES,
    SDP_MESSAGE_SIZE,
    SV_MAILBOX_FLAGS,
    SV_SHARED_COUNT,
    SV_SHARED_FREE,
    SYSTEM_VARIABLES,
    VCPU,
    VCPU_MP_COMMAND,
    VCPU_MP_MESSAGE,
    VCPU_SIZE,
    Interrupt,
    Mailbox,
)
from ..state import OUTBOX, OUTBOX_BYTES, board_at, bytes_at, chip_at, jit, words_at
from .dma import system_memory
from .lines import drop_line, had_effect, raise_line, sibling


class Register(IntEnum):
    """Byte offsets from the controller's base (data sheet, section 14). Masks count physical cores."""

    CHIP_ID = 0x00
    SET_IRQ = 0x08  # bits 0-17: interrupt these cores
    CLEAR_IRQ = 0x0C
    MONITOR = 0x34
    SET_FLAGS = 0x58  # read: the flags
    CLEAR_FLAGS = 0x5C
    SLEEP = 0x64
    TEST_AND_SET = 0x100  # 32 locks
    TEST_AND_CLEAR = 0x180


CHIP_ID = 0x59111012
MONITOR = 0
CORES = (1 << N_CORES) - 1


@jit
def _take_messages(board: Any, chip: Any) -> Any:
    variables = words_at(chip.sysram + SYSTEM_VARIABLES, 64)
    waiting = variables[SV_MAILBOX_FLAGS >> 2]
    variables[SV_MAILBOX_FLAGS >> 2] = 0
    for core in range(1, N_CORES):
        if waiting >> core & 1:
            block = bytes_at(chip.sysram + VCPU + core * VCPU_SIZE, VCPU_SIZE)
            if block[VCPU_MP_COMMAND] == Mailbox.MESSAGE:
                address = np.int64(words_at(chip.sysram + VCPU + core * VCPU_SIZE, 32)[VCPU_MP_MESSAGE >> 2])
                _take_message(board, chip, core, address)
            block[VCPU_MP_COMMAND] = Mailbox.IDLE


@jit
def _take_message(board: Any, chip: Any, core: Any, address: Any) -> Any:
    host = system_memory(chip, address, SDP_MESSAGE_SIZE)
    if host == 0:
        return
    if board.outbox_count < OUTBOX:
        at = board.outbox_count * OUTBOX_BYTES
        board.outbox[at : at + SDP_MESSAGE_SIZE] = bytes_at(host, SDP_MESSAGE_SIZE)
        board.outbox_chip[board.outbox_count] = chip.index
        board.outbox_core[board.outbox_count] = core
        board.outbox_count += 1
    else:
        board.outbox_lost += 1
    variables = words_at(chip.sysram + SYSTEM_VARIABLES, 64)
    words_at(host, 1)[0] = variables[SV_SHARED_FREE >> 2]  # back into the list of free messages
    variables[SV_SHARED_FREE >> 2] = address
    in_use = bytes_at(chip.sysram + SYSTEM_VARIABLES + SV_SHARED_COUNT, 2)
    if in_use[0]:
        in_use[0] -= 1


@jit
def read(core: Any, offset: Any) -> Any:
    """A load from the controller's registers."""
    if offset == Register.SET_FLAGS or offset == Register.CLEAR_FLAGS:
        return chip_at(core.chip).flags
    if offset == Register.CHIP_ID:
        return np.uint32(CHIP_ID)
    if offset == Register.MONITOR:
        return np.uint32(MONITOR)
    return np.uint32(0)  # locks are free: a core runs until it sleeps, and no sleeper holds one


@jit
def write(core: Any, offset: Any, value: Any) -> Any:
    """A store to the controller's registers."""
    chip = chip_at(core.chip)
    had_effect(core)
    if offset == Register.SET_IRQ:
        if value & 1 << MONITOR:
            _take_messages(board_at(core.board), chip)
        for physical in range(1, N_CORES):
            if value >> physical & 1 and chip.virtual_of[physical] > 0:
                raise_line(sibling(chip, chip.virtual_of[physical]), Interrupt.CPU)
    elif offset == Register.CLEAR_IRQ:
        for physical in range(1, N_CORES):
            if value >> physical & 1 and chip.virtual_of[physical] > 0:
                drop_line(sibling(chip, chip.virtual_of[physical]), Interrupt.CPU)
    elif offset == Register.SET_FLAGS:
        chip.flags |= value & CORES
    elif offset == Register.CLEAR_FLAGS:
        chip.flags &= value ^ 0xFFFFFFFF

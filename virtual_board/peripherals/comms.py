"""The communications controller of a core: sends packets to the router, holds those that have arrived.

A store to ``TX_KEY`` sends. Received packets wait in a queue of their own (the hardware holds one and blocks the
router); a load of ``RX_KEY`` takes the first.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np

from ..engine import stop
from ..layout import Interrupt
from ..state import FIFO, RING, board_at, chip_at, jit
from .lines import drop_line, had_effect, raise_line


class Register(IntEnum):
    """Byte offsets from the controller's base (data sheet, section 8)."""

    TX_CONTROL = 0x00  # bits 16-23: the control byte; read: bit 31 empty, 30 full, 28 not full
    TX_DATA = 0x04
    TX_KEY = 0x08
    RX_STATUS = 0x0C  # bit 31: a packet waits; bits 16-23: its control byte
    RX_DATA = 0x10
    RX_KEY = 0x14
    SOURCE = 0x18  # bits 24-26: the link a packet is said to have come by (7: this core); bits 0-15: P2P address


EMPTY, FULL, NOT_FULL, RECEIVED = 1 << 31, 1 << 30, 1 << 28, 1 << 31
TYPE, TYPE_MULTICAST, TYPE_P2P, TYPE_NN, TYPE_FIXED = 0xC0, 0x00, 0x40, 0x80, 0xC0  # of a control byte
PAYLOAD = 0x02  # of a control byte
FROM_CORE = 7
NEARLY_FULL = RING - 4096


@jit
def _mix(digest: Any, value: Any) -> Any:
    return ((digest ^ value) * 0x100000001B3) & 0x7FFFFFFFFFFFFFFF


@jit
def send(board: Any, chip: Any, source: Any, key: Any, data: Any, control: Any, age: Any) -> Any:
    """Put a packet on its way to the router of ``chip``; ``source`` is a link, or `FROM_CORE`."""
    if board.ring_count >= RING:
        board.ring_lost += 1
        return
    place = (board.ring_head + board.ring_count) % RING
    board.ring_chip[place] = chip
    board.ring_source[place] = source
    board.ring_key[place] = key
    board.ring_data[place] = data
    board.ring_control[place] = control
    board.ring_age[place] = age
    board.ring_count += 1


@jit
def _transmit(core: Any, key: Any) -> Any:
    board = board_at(core.board)
    control = core.tx_control >> 16 & 0xFF
    if core.tx_has_data:
        control |= PAYLOAD
    data = core.tx_data if core.tx_has_data else np.uint32(0)
    core.tx_has_data = 0
    core.packets_sent += 1
    had_effect(core)
    board.packets += 1
    board.digest = _mix(_mix(_mix(board.digest, key), np.int64(data)), np.int64(core.index))
    send(board, chip_at(core.chip).index, core.source_address >> 24 & 7, key, data, control, 0)


@jit
def _announce(core: Any) -> Any:
    """Set the receive lines to what the first packet that waits is."""
    drop_line(core, Interrupt.CC_READY)
    drop_line(core, Interrupt.CC_MULTICAST)
    drop_line(core, Interrupt.CC_FIXED_ROUTE)
    if core.rx_count:
        kind = core.rx_control[core.rx_head] & TYPE
        core.lines |= 1 << Interrupt.CC_READY
        if kind == TYPE_MULTICAST:
            core.lines |= 1 << Interrupt.CC_MULTICAST
        elif kind == TYPE_FIXED:
            core.lines |= 1 << Interrupt.CC_FIXED_ROUTE


@jit
def receive(core: Any, key: Any, data: Any, control: Any) -> Any:
    """A packet arrives at the core; false if its queue is full."""
    if core.rx_count >= FIFO:
        return False
    place = (core.rx_head + core.rx_count) % FIFO
    core.rx_key[place] = key
    core.rx_data[place] = data
    core.rx_control[place] = control
    core.rx_count += 1
    core.packets_received += 1
    if core.rx_count > FIFO // 2:
        board_at(core.board).congested = 1
    _announce(core)
    raise_line(core, Interrupt.CC_READY)
    return True


@jit
def read(core: Any, offset: Any) -> Any:
    """A load from the controller's registers."""
    if offset == Register.TX_CONTROL:
        board = board_at(core.board)
        if board.ring_count > NEARLY_FULL:  # the core waits for room: others get their turn, and packets are delivered
            core.waits_for_room = 1
            stop(core)
            return np.uint32(FULL | (core.tx_control & 0x00FFFFFF))
        return np.uint32(EMPTY | NOT_FULL | (core.tx_control & 0x00FFFFFF))
    if offset == Register.RX_STATUS:
        if core.rx_count == 0:
            return np.uint32(0)
        return np.uint32(RECEIVED | core.rx_control[core.rx_head] << 16)
    if offset == Register.RX_DATA:
        return core.rx_data[core.rx_head]
    if offset == Register.RX_KEY:
        key = core.rx_key[core.rx_head]
        if core.rx_count:
            core.rx_head = (core.rx_head + 1) % FIFO
            core.rx_count -= 1
            _announce(core)
        return key
    if offset == Register.SOURCE:
        return core.source_address
    return np.uint32(0)


@jit
def write(core: Any, offset: Any, value: Any) -> Any:
    """A store to the controller's registers."""
    if offset == Register.TX_CONTROL:
        core.tx_control = value
    elif offset == Register.TX_DATA:
        core.tx_data = value
        core.tx_has_data = 1
    elif offset == Register.TX_KEY:
        _transmit(core, value)
    elif offset == Register.SOURCE:
        core.source_address = value

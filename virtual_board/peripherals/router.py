"""The router of a chip: 1,024 multicast entries, default routing, fixed routes, diagnostics, the dump of lost packets.

A multicast packet goes where the first entry says whose key is the packet's under its mask; without one it goes
straight on, by the link opposite to the one it came by. A packet that cannot go on is dropped: counted, and shown in
the dump registers, from which the extra monitor's firmware may re-inject it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np

from ..layout import N_CORES, N_LINKS, N_ROUTES, UNUSED_ROUTE, Interrupt
from ..state import CHIP, RING, chip_at, jit, words_at
from .comms import FROM_CORE, PAYLOAD, TYPE, TYPE_FIXED, TYPE_MULTICAST, receive, send
from .lines import drop_line, had_effect, raise_line, sibling


class Register(IntEnum):
    """Byte offsets from the router's base (data sheet, section 10)."""

    CONTROL = 0x00  # bit 2: interrupt when a packet is dumped
    STATUS = 0x04
    DUMP_HEADER = 0x18
    DUMP_KEY = 0x1C
    DUMP_DATA = 0x20
    DUMP_OUTPUTS = 0x24  # bits 0-5: links, 6-23: cores
    DUMP_STATUS = 0x28  # bit 31: dumped, bit 30: another one too; a read clears both
    COUNTERS_ENABLE = 0x2C  # low half: enable; high half: clear
    FIXED_ROUTE = 0x84
    FILTERS = 0x200
    COUNTERS = 0x300
    ROUTES = 0x4000
    KEYS = 0x8000
    MASKS = 0xC000
    P2P = 0x10000


class Filter(IntEnum):
    """Positions of the fields of a diagnostic filter's word; a field without any bit lets everything through."""

    TYPES = 0  # 4 bits: multicast, point to point, neighbour, fixed route
    EMERGENCY = 4  # 4 bits: bit 0 of it is "not an emergency"
    DEFAULT_ROUTED = 10  # 2 bits: routed by default, routed by an entry
    WITH_DATA = 12  # 2 bits: with payload, without
    LOCAL = 14  # 2 bits: from a core of this chip, from elsewhere
    DESTINATION = 16  # 9 bits: dumped, cores, monitor, six links


TO_NOBODY, TO_CORES, TO_MONITOR, TO_LINKS = 1, 2, 4, 3  # bits (of links: the first) of DESTINATION
DUMP_INTERRUPT = 1 << 2
DUMPED, OVERFLOWED = 1 << 31, 1 << 30
OLDEST = 128  # hops after which a packet is lost: the hardware drops by time phase
DEFAULT_FILTERS = (  # what SC&MP sets: local and foreign packets of the four types, then those dumped
    *(0x01FE0000 | side | kind for kind in (1, 2, 4, 8) for side in (0x7CF0, 0xBCF0)),
    *(0x0001FCF0 | kind for kind in (1, 2, 4, 8)),
    *(0, 0, 0, 0),
)


@jit
def _passes(field: Any, bits: Any) -> Any:
    return field == 0 or field & bits


@jit
def _count(chip: Any, source: Any, control: Any, by_default: Any, destinations: Any) -> Any:
    """Step the diagnostic counters whose filter lets this packet through."""
    kind = 1 << (control & TYPE) // 64
    for i in range(16):
        word = chip.filters[i]
        if word == 0 or not chip.counters_enabled >> i & 1:
            continue
        if not _passes(word >> Filter.TYPES & 15, kind) or not _passes(word >> Filter.EMERGENCY & 15, 1):
            continue
        if not _passes(word >> Filter.DEFAULT_ROUTED & 3, 1 if by_default else 2):
            continue
        if not _passes(word >> Filter.WITH_DATA & 3, 1 if control & PAYLOAD else 2):
            continue
        if not _passes(word >> Filter.LOCAL & 3, 1 if source == FROM_CORE else 2):
            continue
        if _passes(word >> Filter.DESTINATION & 0x1FF, destinations):
            chip.counters[i] += 1


@jit
def _drop(board: Any, chip: Any, source: Any, key: Any, data: Any, control: Any, outputs: Any) -> Any:
    board.dropped += 1
    _count(chip, source, control, False, TO_NOBODY)
    if chip.dump_status & DUMPED:
        chip.dump_status |= OVERFLOWED
    else:
        chip.dump_header = control << 16 | source << 24
        chip.dump_key = key
        chip.dump_data = data
        chip.dump_outputs = outputs
        chip.dump_status |= DUMPED
    chip.dump_status |= outputs & 0xFFFFFF
    if chip.control & DUMP_INTERRUPT:
        for virtual in range(1, N_CORES):
            core = sibling(chip, virtual)
            if core.enable >> Interrupt.ROUTER_DUMP & 1:
                raise_line(core, Interrupt.ROUTER_DUMP)


@jit
def _random(board: Any) -> Any:
    """A random number below 2^32 (xorshift): faults are drawn from the board's own seed."""
    x = board.random
    x ^= x << 13 & 0xFFFFFFFFFFFFFFFF >> 1
    x ^= x >> 7
    x ^= x << 17 & 0xFFFFFFFFFFFFFFFF >> 1
    board.random = x
    return x & 0xFFFFFFFF


@jit
def lookup(chip: Any, key: Any) -> Any:
    """The first entry that matches the key, -1 if none does."""
    for entry in range(chip.used):
        if key & chip.masks[entry] == chip.keys[entry]:
            return entry
    return -1


@jit
def _route(board: Any, chip: Any, source: Any, key: Any, data: Any, control: Any, age: Any) -> Any:
    """One packet through one router; true if it was dropped."""
    by_default = False
    if control & TYPE == TYPE_MULTICAST:
        entry = lookup(chip, key)
        if entry >= 0:
            outputs = chip.routes[entry] & 0xFFFFFF
        elif source < N_LINKS:
            by_default = True
            outputs = np.uint32(1 << (source + 3) % N_LINKS)
        else:
            outputs = np.uint32(0)
    elif control & TYPE == TYPE_FIXED:
        outputs = chip.fixed_route & 0xFFFFFF
    else:
        outputs = np.uint32(0)  # point to point and nearest neighbour are SC&MP's own, and it is not emulated
    may_be_dropped = board.drop_threshold > 0 and control & TYPE == TYPE_MULTICAST
    injected = may_be_dropped and _random(board) < board.drop_threshold
    if injected:
        board.injected_drops += 1
    if outputs == 0 and source == FROM_CORE and not injected:  # no route at all: the monitor gets it, and forgets it
        board.dropped += 1
        _count(chip, source, control, True, TO_MONITOR)
        return False
    if injected or outputs == 0 or age > OLDEST:
        _drop(board, chip, source, key, data, control, outputs)
        return True
    destinations = (outputs & 0x3F) << TO_LINKS | (TO_CORES if outputs >> N_LINKS else 0)
    _count(chip, source, control, by_default, destinations)
    lost = 0
    for link in range(N_LINKS):
        if outputs >> link & 1:
            neighbour = chip.neighbours[link]
            if neighbour < 0:
                lost |= 1 << link
            else:
                send(board, neighbour, (link + 3) % N_LINKS, key, data, control, age + 1)
    for physical in range(1, N_CORES):
        if outputs >> (N_LINKS + physical) & 1:
            virtual = chip.virtual_of[physical]
            if virtual > 0:
                core = sibling(chip, virtual)
                if core.engine == 0:
                    continue  # an idle core: SARK throws the packet away
                if receive(core, key, data, control):
                    board.delivered += 1
                else:
                    lost |= 1 << (N_LINKS + physical)
    if lost:
        _drop(board, chip, source, key, data, control, lost)
    return lost != 0


BATCH = 2048  # packets delivered before the cores get a turn


@jit
def deliver(board: Any) -> Any:
    """Route the packets under way, in the order they were sent, until the cores should have a turn."""
    chips = board.chips
    board.congested = 0
    for _ in range(min(board.ring_count, BATCH)):
        place = board.ring_head
        board.ring_head = (place + 1) % RING
        board.ring_count -= 1
        chip = chip_at(chips + board.ring_chip[place] * np.int64(_CHIP_BYTES))
        dropped = _route(
            board,
            chip,
            board.ring_source[place],
            board.ring_key[place],
            board.ring_data[place],
            board.ring_control[place],
            board.ring_age[place],
        )
        if board.congested or (dropped and chip.control & DUMP_INTERRUPT):
            return  # the dump registers hold one packet: let the extra monitor take it


_CHIP_BYTES = CHIP.itemsize


@jit
def _update_used(chip: Any) -> Any:
    used = N_ROUTES
    while used > 0 and chip.routes[used - 1] & UNUSED_ROUTE:
        used -= 1
    chip.used = used


@jit
def read_register(chip: Any, offset: Any) -> Any:
    """A load, from a core or from the host."""
    if offset == Register.DUMP_STATUS:
        status = chip.dump_status
        chip.dump_status = 0
        for virtual in range(1, N_CORES):
            drop_line(sibling(chip, virtual), Interrupt.ROUTER_DUMP)
        return status
    if offset == Register.CONTROL:
        return chip.control
    if offset == Register.DUMP_HEADER:
        return chip.dump_header
    if offset == Register.DUMP_KEY:
        return chip.dump_key
    if offset == Register.DUMP_DATA:
        return chip.dump_data
    if offset == Register.DUMP_OUTPUTS:
        return chip.dump_outputs
    if offset == Register.FIXED_ROUTE:
        return chip.fixed_route
    if offset == Register.COUNTERS_ENABLE:
        return chip.counters_enabled
    if Register.FILTERS <= offset < Register.FILTERS + 64:
        return chip.filters[(offset - Register.FILTERS) >> 2]
    if Register.COUNTERS <= offset < Register.COUNTERS + 64:
        return chip.counters[(offset - Register.COUNTERS) >> 2]
    if Register.ROUTES <= offset < Register.ROUTES + 4 * N_ROUTES:
        return chip.routes[(offset - Register.ROUTES) >> 2]
    if Register.P2P <= offset < 0x18000:
        return words_at(chip.p2p, 8192)[(offset - Register.P2P) >> 2]
    if offset < 0x100 and offset != Register.STATUS:
        return chip.registers[offset >> 2]
    return np.uint32(0)


@jit
def write_register(chip: Any, offset: Any, value: Any) -> Any:
    """A store, from a core or from the host."""
    if Register.ROUTES <= offset < Register.ROUTES + 4 * N_ROUTES:
        chip.routes[(offset - Register.ROUTES) >> 2] = value
        _update_used(chip)
    elif Register.KEYS <= offset < Register.KEYS + 4 * N_ROUTES:
        chip.keys[(offset - Register.KEYS) >> 2] = value
    elif Register.MASKS <= offset < Register.MASKS + 4 * N_ROUTES:
        chip.masks[(offset - Register.MASKS) >> 2] = value
    elif Register.P2P <= offset < 0x18000:
        words_at(chip.p2p, 8192)[(offset - Register.P2P) >> 2] = value
    elif Register.FILTERS <= offset < Register.FILTERS + 64:
        chip.filters[(offset - Register.FILTERS) >> 2] = value
    elif Register.COUNTERS <= offset < Register.COUNTERS + 64:
        chip.counters[(offset - Register.COUNTERS) >> 2] = value
    elif offset == Register.CONTROL:
        chip.control = value
    elif offset == Register.FIXED_ROUTE:
        chip.fixed_route = value
    elif offset == Register.COUNTERS_ENABLE:
        for i in range(16):
            if value >> (16 + i) & 1:
                chip.counters[i] = 0
        chip.counters_enabled = value & 0xFFFF
    elif offset < 0x100:
        chip.registers[offset >> 2] = value


@jit
def read(core: Any, offset: Any) -> Any:
    """A load from the router's registers by a core."""
    return read_register(chip_at(core.chip), offset)


@jit
def write(core: Any, offset: Any, value: Any) -> Any:
    """A store to the router's registers by a core."""
    had_effect(core)
    write_register(chip_at(core.chip), offset, value)


@jit
def read_at(address: Any, offset: Any) -> Any:
    """`read_register` for callers in Python, who know the chip's record by its address."""
    return read_register(chip_at(address), offset)


@jit
def write_at(address: Any, offset: Any, value: Any) -> Any:
    """`write_register` for callers in Python."""
    write_register(chip_at(address), offset, value)

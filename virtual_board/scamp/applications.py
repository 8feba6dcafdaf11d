"""Applications: started, signalled, counted and stopped, on all cores that belong to them."""

from __future__ import annotations

from enum import IntEnum

from ..chip import Chip
from ..errors import BinaryError
from ..layout import (
    N_SHARED_MESSAGES,
    SV_SHARED_COUNT,
    SV_SHARED_FREE,
    SYSRAM_BASE,
    SYSTEM_VARIABLES,
    VCPU,
    VCPU_AP_COMMAND,
    VCPU_AP_MESSAGE,
    VCPU_SIZE,
    CoreState,
    Mailbox,
)
from ..machine import Machine


class Signal(IntEnum):
    """What the host can tell an application (``sark.h``, ``signal_e``)."""

    INITIALISE = 0
    POWER_DOWN = 1
    STOP = 2
    START = 3
    SYNC0 = 4
    SYNC1 = 5
    PAUSE = 6
    CONTINUE = 7
    EXIT = 8
    TIMER = 9
    USER0 = 10
    USER1 = 11
    USER2 = 12
    USER3 = 13


def start(machine: Machine, chip: Chip, word: int) -> list[int]:
    """Start the chip's image on the cores of a mask: bits 0-17 cores, 18-23 flags, 24-31 application.

    Raises
    ------
    BinaryError
        The image is no application.
    """
    cores = [core for core in range(1, chip.n_cores) if word >> core & 1]
    app_id, flags = word >> 24, word >> 18 & 0x3F
    mask = sum(1 << core for core in cores)
    if not cores:
        return []
    entry = chip.app_data + 8 * app_id
    if chip.memory.byte(entry) == 0:
        chip.memory.write(entry, bytes([0, 0, 0, cores[0], 0, 0, 0, 0]))
    chip.memory.set_byte(entry, chip.memory.byte(entry) + len(cores))
    chip.memory.set_word(entry + 4, chip.memory.word(entry + 4) | mask)
    chip.record["flags"] |= mask
    for core in cores:
        take_back(chip, core)
        chip.set_state(core, CoreState.INITIALISING, app_id)
        try:
            machine.start(chip, core, app_id, flags)
        except BinaryError:
            chip.set_state(core, CoreState.IDLE)
            raise
    return cores


def count(machine: Machine, chips: list[Chip], app_id: int, state: int) -> int:
    """How many cores of an application are in a state."""
    return sum(
        chip.app_id(core) == app_id and chip.state(core) == state for chip in chips for core in range(1, chip.n_cores)
    )


def signal(machine: Machine, word: int) -> tuple[int, int, int]:
    """Send a signal to all cores of an application; returns the signal, the application, how many cores it reached."""
    number, mask, app_id = word >> 16 & 15, word >> 8 & 0xFF, word & 0xFF
    reached = 0
    for chip in machine.chips.values():
        cores = [core for core in range(1, chip.n_cores) if chip.app_id(core) & mask == app_id]
        running = [core for core in cores if machine.runs(chip, core)]
        reached += len(running)
        if number in (Signal.STOP, Signal.INITIALISE, Signal.POWER_DOWN):
            for core in cores:
                take_back(chip, core)
                machine.stop(chip, core)
                if number == Signal.POWER_DOWN:
                    chip.set_state(core, CoreState.POWERED_DOWN)
            if number == Signal.STOP:
                _clean(chip, app_id, mask)
        elif number in (Signal.SYNC0, Signal.SYNC1):
            bits = sum(1 << core for core in cores)
            flags = int(chip.record["flags"])
            chip.record["flags"] = flags | bits if number == Signal.SYNC1 else flags & ~bits
            for core in running:
                machine.interrupt(chip, core)
        else:
            for core in running:
                post(machine, chip, core, Mailbox.SIGNAL, number)
    return number, app_id, reached


def post(machine: Machine, chip: Chip, core: int, command: Mailbox, value: int) -> None:
    """Put a command into a core's mailbox and interrupt it."""
    block = SYSRAM_BASE + VCPU + core * VCPU_SIZE
    chip.memory.set_word(block + VCPU_AP_MESSAGE, value)
    chip.memory.set_byte(block + VCPU_AP_COMMAND, command)
    machine.interrupt(chip, core)


def take_back(chip: Chip, core: int) -> None:
    """Put a message that the core has not taken back to the free ones: a chip has seven."""
    block, memory = chip.block(core), chip.memory
    if block[VCPU_AP_COMMAND] != Mailbox.MESSAGE:
        return
    buffer = int.from_bytes(block[VCPU_AP_MESSAGE : VCPU_AP_MESSAGE + 4], "little")
    root = SYSRAM_BASE + SYSTEM_VARIABLES + SV_SHARED_FREE
    free: list[int] = []
    following = memory.word(root)
    while following and len(free) < N_SHARED_MESSAGES:
        free.append(following)
        following = memory.word(following)
    if buffer in chip.message_buffers and buffer not in free:
        memory.set_word(buffer, memory.word(root))
        memory.set_word(root, buffer)
        count = SYSRAM_BASE + SYSTEM_VARIABLES + SV_SHARED_COUNT
        memory.set_byte(count, max(0, memory.byte(count) - 1))


def mailbox_is_free(chip: Chip, core: int) -> bool:
    """Whether the core has taken the last command."""
    return chip.block(core)[VCPU_AP_COMMAND] == Mailbox.IDLE


def _clean(chip: Chip, app_id: int, mask: int) -> None:
    """Give back what the stopped applications held."""
    stopped = [candidate for candidate in range(1, 256) if candidate & mask == app_id]
    for heap in (chip.sdram_heap, chip.sysram_heap, chip.system_heap):
        for owner in {mark >> 8 & 0xFF for _, _, mark in heap.blocks()}.intersection(stopped):
            heap.release_all(owner)
    for owner in {mark & 0xFF for _, _, mark in chip.routes.blocks()}.intersection(stopped):
        for first, entries in chip.routes.owned_by(owner):
            chip.routes.release(first)
            chip.clear_routes(first, entries)
    for candidate in stopped:
        chip.memory.write(chip.app_data + 8 * candidate, bytes(8))

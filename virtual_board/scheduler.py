"""Time and turns: which core runs next, when packets arrive, when the clock moves on. All compiled.

The rules
---------
1. A core runs until it sleeps (wait for interrupt), polls its timer to the end of a time step, or is interrupted from
   outside because it has run for very long. Running takes no virtual time.
2. A core takes interrupts where it sleeps: first IRQs by their priority, then one fast interrupt (a packet), and again,
   until nothing is left. So a packet is worked off before the next one is looked at, as on a board that is not overrun.
   SARK sleeps with interrupts masked and unmasks after; taking them at the sleep itself comes to the same.
3. Cores get their turns in the order in which something happened to them.
4. Packets are delivered when every core sleeps, in the order in which they were sent.
5. Messages to the outside leave when no packet is under way: what a core has sent before its answer arrives before it.
6. When there is nothing of this, the clock jumps to the next deadline of a timer.
6. A core that runs for very long is interrupted and goes on after the others, wherever it is: then it takes only what
   it has not masked. One that never sleeps would stop the clock, so after a while its time passes as on a board.

Everything is ordered by these rules alone, so that the same commands give the same packets in the same order.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np

from . import engine
from .layout import CYCLES_PER_MS, ITCM_SIZE, SV_CLOCK_MS, SYSTEM_VARIABLES, VCPU, VCPU_SIZE, VCPU_STATE, Interrupt
from .peripherals import comms, router, timers, vic
from .peripherals.lines import QUEUE_SIZE, enqueue
from .state import (
    CHANGES,
    CHIP,
    CORE,
    DEAD,
    NEVER,
    POLLING,
    READY,
    SPINNING,
    WAITING,
    board_at,
    bytes_at,
    chip_at,
    core_at,
    jit,
    words_at,
)


class Outcome(IntEnum):
    """Why `advance` came back."""

    IDLE = 0  # nothing will happen until somebody sends something
    HORIZON = 1  # the clock has reached the horizon
    BUDGET = 2  # enough runs for now
    MESSAGES = 3  # a core has sent a message, or changed its state


class Mode(IntEnum):
    """Processor status on entry of an exception: the mode, with interrupts masked as the architecture says."""

    FIQ = 0xD1
    IRQ = 0x92
    SUPERVISOR = 0x93
    ABORT = 0x97
    UNDEFINED = 0x9B


class Vector(IntEnum):
    """Where the processor goes on an exception."""

    UNDEFINED = 0x04
    SUPERVISOR_CALL = 0x08
    PREFETCH_ABORT = 0x0C
    DATA_ABORT = 0x10
    IRQ = 0x18
    FIQ = 0x1C


MODE_FIQ, MODE_SVC, MODE_SYSTEM, MODE_USER = 0x11, 0x13, 0x1F, 0x10
IRQ_MASKED, FIQ_MASKED = 0x80, 0x40
READ_FAULTS = (6, 7, 12, 13, 15, 16)  # of Unicorn: reads and writes of memory that is not there or not aligned
FETCH_FAULTS = (8, 14, 17)
SUPERVISOR_CALL = 21  # "unhandled exception": with the program counter behind the instruction
MOST_FAULTS = 3
MOST_PREEMPTIONS = 20  # 5 to 10 s of wall time; work that long is only done before the simulation starts
SPINNING_CYCLES = 250 * CYCLES_PER_MS  # what a turn of such a core takes, in wall time too (`machine.PREEMPT_AFTER`)
NOT_TIMERS = 0xFFFFFFFF ^ (1 << Interrupt.TIMER1 | 1 << Interrupt.TIMER2)
_CORE_BYTES, _CHIP_BYTES = CORE.itemsize, CHIP.itemsize


@jit
def _may_nest(core: Any, mask: Any) -> Any:
    """Whether an interrupt can be entered: it is not masked, or the core sleeps outside of an interrupt's handler."""
    if not core.cpsr & mask:
        return True
    return core.run in (WAITING, POLLING) and core.cpsr & 0x1F in (MODE_SYSTEM, MODE_SVC, MODE_USER)


@jit
def _turn(core: Any) -> Any:
    """Take one interrupt or go on, if the core can; false if it must wait."""
    slot = vic.best_slot(core)
    if 0 <= slot < vic.NO_SLOT and _may_nest(core, IRQ_MASKED):
        engine.enter_exception(core, Vector.IRQ, Mode.IRQ, 4)
    elif vic.pending_fiq(core) and _may_nest(core, FIQ_MASKED) and core.cpsr & 0x1F != MODE_FIQ:
        engine.enter_exception(core, Vector.FIQ, Mode.FIQ, 4)
    elif slot == vic.NO_SLOT and _may_nest(core, IRQ_MASKED):
        engine.enter_exception(core, Vector.IRQ, Mode.IRQ, 4)
    elif core.run == READY or board_at(core.board).now >= core.poll_until:
        pass
    elif core.run == SPINNING or not core.wake:
        return False
    core.wake = 0
    _run(core)
    return True


@jit
def _run(core: Any) -> Any:
    """Let the core run until it stops, and see why it did."""
    board = board_at(core.board)
    core.skew = 0
    core.polls = 0
    core.poll_until = NEVER
    core.runs += 1
    board.preempt = 0  # if the watchdog came a moment too late, it meant the core before
    board.slices += 1
    board.current = core.index
    error = engine.run(core)
    board.current = -1
    if error:
        _fault(core, error)
        return
    core.faults = 0
    if core.waits_for_room:
        core.waits_for_room = 0
        core.run = READY
    elif board.preempt and core.poll_until == NEVER:
        core.preemptions += 1
        core.run = READY
        if core.preemptions > MOST_PREEMPTIONS:
            core.run = SPINNING
            core.poll_until = board.now + SPINNING_CYCLES
    else:
        core.preemptions = 0
        core.run = WAITING if core.poll_until == NEVER else POLLING
    _note_state(board, core)


@jit
def _fault(core: Any, error: Any) -> Any:
    """What the processor does when memory or an instruction is not there: the firmware's own handler reports it."""
    core.fault_error = error
    core.fault_pc = core.pc
    core.faults += 1
    board = board_at(core.board)
    if core.faults > MOST_FAULTS:
        core.run = DEAD
        core.poll_until = NEVER
        core.timer_deadline[:] = NEVER
        _tell(board, core)
        return
    if error in FETCH_FAULTS or core.pc >= ITCM_SIZE:
        engine.enter_exception(core, Vector.PREFETCH_ABORT, Mode.ABORT, 4)
    elif error == SUPERVISOR_CALL:
        engine.enter_exception(core, Vector.SUPERVISOR_CALL, Mode.SUPERVISOR, 0)
    elif error in READ_FAULTS:
        engine.enter_exception(core, Vector.DATA_ABORT, Mode.ABORT, 8)
    else:
        engine.enter_exception(core, Vector.UNDEFINED, Mode.UNDEFINED, 4)
    core.run = READY
    enqueue(core)


@jit
def _tell(board: Any, core: Any) -> Any:
    if board.change_count < CHANGES:
        board.changes[board.change_count] = core.index
        board.change_count += 1


@jit
def _note_state(board: Any, core: Any) -> Any:
    state = bytes_at(chip_at(core.chip).sysram + VCPU + core.virtual * VCPU_SIZE, VCPU_SIZE)[VCPU_STATE]
    if state != core.state_seen:
        core.state_seen = state
        _tell(board, core)


@jit
def _advance_clock(board: Any, now: Any) -> Any:
    board.now = now
    clock_ms = now // CYCLES_PER_MS
    if clock_ms != board.clock_ms:
        board.clock_ms = clock_ms
        for i in range(board.n_chips):
            clock = words_at(chip_at(board.chips + i * _CHIP_BYTES).sysram + SYSTEM_VARIABLES + SV_CLOCK_MS, 2)
            clock[0] = clock_ms & 0xFFFFFFFF
            clock[1] = clock_ms >> 32


@jit
def _next_deadline(board: Any) -> Any:
    deadline = NEVER
    for i in range(board.n_active):
        deadline = min(deadline, timers.next_deadline(core_at(board.cores + board.active[i] * _CORE_BYTES)))
    return deadline


@jit
def _fire(board: Any) -> Any:
    """The timers that have come to zero, in the order of their cores."""
    for i in range(board.n_active):
        core = core_at(board.cores + board.active[i] * _CORE_BYTES)
        if core.dormant == 0:
            for timer in range(2):
                if core.timer_deadline[timer] <= board.now:
                    timers.tick(core, timer)
        if core.poll_until <= board.now:
            enqueue(core)


@jit
def advance(address: Any, horizon: Any, budget: Any) -> Any:
    """Let the board run, up to ``horizon`` (cycles) and for about ``budget`` runs of cores; returns an `Outcome`."""
    board = board_at(address)
    while True:
        while board.queue_count:
            if board.ring_count > comms.NEARLY_FULL:  # whoever sends must wait, and cannot be waited for
                router.deliver(board)
            core = core_at(board.cores + board.queue[board.queue_head] * _CORE_BYTES)
            board.queue_head = (board.queue_head + 1) % QUEUE_SIZE
            board.queue_count -= 1
            core.queued = 0
            if core.dormant and core.lines & core.enable & NOT_TIMERS:
                timers.rouse(core)
            while core.run != DEAD and core.engine != 0 and _turn(core):
                budget -= 1
                if core.run == READY or budget <= 0 or board.ring_count > comms.NEARLY_FULL:
                    enqueue(core)
                    break
            if board.preempt:  # it took long: let the monitor look at the network
                board.preempt = 0
                return Outcome.BUDGET
            if budget <= 0:
                return Outcome.BUDGET
        if board.ring_count:
            router.deliver(board)
            continue
        if board.outbox_count or board.change_count:
            return Outcome.MESSAGES
        deadline = _next_deadline(board)
        if deadline == NEVER:
            return Outcome.IDLE
        if deadline > horizon:
            _advance_clock(board, max(board.now, np.int64(horizon)))
            return Outcome.HORIZON
        _advance_clock(board, max(board.now, deadline))
        _fire(board)

"""The two timers of a core (SP804): they count down at the core's clock and interrupt at zero.

Time is virtual: a running timer is one number, the cycle at which it reaches zero. Executing code costs no virtual
time, except that each read of a count costs a few cycles, so that code which waits for a count gets there, and that
code which polls the second timer as a one-shot (the synapse cores do, to the end of their time step) sleeps until it
expires or an interrupt comes. A timer that does not interrupt costs nothing: it is brought up to now when it is read.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np

from ..engine import stop
from ..layout import Interrupt
from ..state import NEVER, board_at, jit
from .lines import drop_line, raise_line


class Register(IntEnum):
    """Byte offsets from a timer's base; the second timer is at ``SECOND`` (data sheet, section 6)."""

    LOAD = 0x00
    COUNT = 0x04
    CONTROL = 0x08
    CLEAR = 0x0C  # write: clear the interrupt
    RAW = 0x10
    MASKED = 0x14
    BACKGROUND = 0x18  # the reload value, without a restart
    SECOND = 0x20


class Control(IntEnum):
    """Bits of ``CONTROL``."""

    ONE_SHOT = 0x01
    PRESCALE = 0x0C  # 0: 1, 1: 16, 2: 256
    INTERRUPT = 0x20
    PERIODIC = 0x40
    ENABLE = 0x80


READ_CYCLES = 20  # what a read of a count costs: about what the loop around it takes
POLLS = 64  # reads in one run, with nothing done between them, that make a poller
DOZE_AFTER = 100  # ticks without effect after which a poller is left to sleep


@jit
def _scale(control: Any) -> Any:
    prescale = (control & Control.PRESCALE) >> 2
    return 256 if prescale == 2 else 16 if prescale == 1 else 1


@jit
def _cycles(core: Any, timer: Any, count: Any) -> Any:
    return max(1, np.int64(count) * _scale(core.timer_control[timer]))


@jit
def count(core: Any, timer: Any) -> Any:
    """What the timer shows now."""
    if core.timer_deadline[timer] == NEVER:
        return np.uint32(core.timer_count[timer])
    left = core.timer_deadline[timer] - board_at(core.board).now - core.skew
    return np.uint32(max(0, left) // _scale(core.timer_control[timer]))


@jit
def _start(core: Any, timer: Any, value: Any) -> Any:
    core.timer_count[timer] = value
    if core.timer_control[timer] & Control.ENABLE:
        core.timer_deadline[timer] = board_at(core.board).now + _cycles(core, timer, value)
    else:
        core.timer_deadline[timer] = NEVER


@jit
def _roll(core: Any, timer: Any) -> Any:
    """Reload or stop the timer if it has reached zero, as often as it has."""
    late = board_at(core.board).now - core.timer_deadline[timer]
    if late < 0:
        return
    core.timer_raw[timer] = 1
    control = core.timer_control[timer]
    if control & Control.ONE_SHOT:
        core.timer_count[timer] = 0
        core.timer_deadline[timer] = NEVER
        return
    if control & Control.PERIODIC:
        period = _cycles(core, timer, core.timer_load[timer])
    else:
        period = np.int64(1 << 32) * _scale(control)
    core.timer_deadline[timer] += (late // period + 1) * period


@jit
def tick(core: Any, timer: Any) -> Any:
    """The timer has reached zero: reload or stop, and interrupt.

    The extra monitor's timer only looks, every 10 us, whether a dropped packet waits. When its ticks have had no effect
    for a while it is left to sleep until some other interrupt comes to its core.
    """
    _roll(core, timer)
    control = core.timer_control[timer]
    if control & Control.INTERRUPT:
        if core.may_doze:
            core.idle_ticks += 1
            if core.idle_ticks > DOZE_AFTER:
                core.dormant = 1
        raise_line(core, Interrupt.TIMER1 + timer)


@jit
def rouse(core: Any) -> Any:
    """Some other interrupt has come: a sleeping fast timer ticks again, in step with what it would have been."""
    core.idle_ticks = 0
    core.dormant = 0
    for timer in range(2):
        _roll(core, timer)


@jit
def next_deadline(core: Any) -> Any:
    """When the core's clock will next have something for it."""
    deadline = core.poll_until
    if core.dormant == 0:
        for timer in range(2):
            if core.timer_control[timer] & Control.INTERRUPT:
                deadline = min(deadline, core.timer_deadline[timer])
    return deadline


@jit
def read(core: Any, offset: Any) -> Any:
    """A load from the timers' registers."""
    timer = 1 if offset >= Register.SECOND else 0
    register = offset & 0x1F
    _roll(core, timer)
    if register == Register.COUNT:
        shown = count(core, timer)
        core.skew += READ_CYCLES
        if timer == 1 and shown > 0 and core.timer_control[1] & Control.ONE_SHOT:
            core.polls += 1
            if core.polls >= POLLS and core.timer_deadline[1] != NEVER:
                core.poll_until = core.timer_deadline[1]
                stop(core)
        return shown
    if register == Register.LOAD or register == Register.BACKGROUND:
        return core.timer_load[timer]
    if register == Register.CONTROL:
        return core.timer_control[timer]
    if register == Register.RAW:
        return np.uint32(core.timer_raw[timer])
    if register == Register.MASKED:
        return np.uint32(core.timer_raw[timer] if core.timer_control[timer] & Control.INTERRUPT else 0)
    return np.uint32(0)


@jit
def write(core: Any, offset: Any, value: Any) -> Any:
    """A store to the timers' registers."""
    timer = 1 if offset >= Register.SECOND else 0
    register = offset & 0x1F
    _roll(core, timer)
    if register == Register.LOAD:
        core.timer_load[timer] = value
        _start(core, timer, value)
    elif register == Register.BACKGROUND:
        core.timer_load[timer] = value
    elif register == Register.CONTROL:
        left = count(core, timer)
        core.timer_control[timer] = value
        core.polls = 0
        _start(core, timer, left)
    elif register == Register.CLEAR:
        core.timer_raw[timer] = 0
        drop_line(core, Interrupt.TIMER1 + timer)

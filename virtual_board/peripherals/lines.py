"""Interrupt lines: how a peripheral tells its core that something happened, and how a core gets its turn."""

from __future__ import annotations

from typing import Any

from ..layout import N_CORES
from ..state import CORE, board_at, core_at, jit

QUEUE_SIZE = 1024 * N_CORES
_CORE_BYTES = CORE.itemsize


@jit
def sibling(chip: Any, virtual: Any) -> Any:
    """Another core of the chip, by its virtual number."""
    return core_at(chip.cores + virtual * _CORE_BYTES)


@jit
def enqueue(core: Any) -> Any:
    """Put the core at the end of the queue of those that may have something to do."""
    if core.queued == 0 and core.engine != 0:
        board = board_at(core.board)
        board.queue[(board.queue_head + board.queue_count) % QUEUE_SIZE] = core.index
        board.queue_count += 1
        core.queued = 1


@jit
def raise_line(core: Any, interrupt: Any) -> Any:
    """Assert an interrupt line; the core is woken even if it cannot take the interrupt now."""
    core.lines |= 1 << interrupt
    core.wake = 1
    enqueue(core)


@jit
def drop_line(core: Any, interrupt: Any) -> Any:
    """Release an interrupt line."""
    core.lines &= 0xFFFFFFFF ^ (1 << interrupt)


@jit
def had_effect(core: Any) -> Any:
    """Note that the core did something that others may see: it is no idle poller (see `timers`)."""
    core.idle_ticks = 0
    core.polls = 0


@jit
def raise_line_at(address: Any, interrupt: Any) -> Any:
    """`raise_line` for callers in Python, who know the record by its address."""
    raise_line(core_at(address), interrupt)


@jit
def enqueue_at(address: Any) -> Any:
    """`enqueue` for callers in Python."""
    enqueue(core_at(address))

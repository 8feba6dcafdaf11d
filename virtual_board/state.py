"""The state that compiled code works on: plain records in NumPy arrays, one for the board, one a chip, one a core.

The hot path (peripheral registers, interrupts, packets, time) is compiled by Numba and called by Unicorn without
passing through Python. It shares these records with the Python side, which owns the memory: a record is found by its
address, and the addresses stay valid for as long as the `Machine` lives.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.core import types
from numba.extending import intrinsic

from .layout import N_CORES, N_LINKS, N_ROUTES

FIFO = 4096  # packets that wait in one comms controller (a board blocks instead; see docs/virtual-board.md)
RING = 1 << 16  # packets under way on the board
OUTBOX, OUTBOX_BYTES = 4096, 320  # SDP messages from cores that wait for the monitor
CHANGES = 4096  # changes of core state that wait to be told
NEVER = 1 << 62

OFF, READY, WAITING, POLLING, DEAD, SPINNING = range(6)  # a core's run state: see scheduler.py

CORE = np.dtype(
    [
        ("engine", np.int64),  # the Unicorn engine, 0 while the core is off
        ("scratch", np.int64),  # the address of `word` of this record, for register reads and writes
        ("board", np.int64),
        ("chip", np.int64),
        ("itcm", np.int64),
        ("dtcm", np.int64),
        ("word", np.uint32, 4),
        ("index", np.int32),
        ("virtual", np.int32),
        ("physical", np.int32),
        ("run", np.int32),  # OFF, READY, WAITING, POLLING, DEAD, SPINNING
        ("queued", np.int32),
        ("wake", np.int32),  # something happened that may end a wait without an interrupt
        ("faults", np.int32),  # faults in a row
        ("preemptions", np.int32),  # since it last slept
        ("fault_error", np.int32),  # what Unicorn said of the last one
        ("fault_pc", np.uint32),
        ("state_seen", np.int32),  # the state in the virtual-processor block when it was last looked at
        ("pc", np.uint32),
        ("cpsr", np.uint32),
        # interrupt lines and the vectored interrupt controller
        ("lines", np.uint32),
        ("soft", np.uint32),
        ("select", np.uint32),
        ("enable", np.uint32),
        ("in_service", np.uint32),  # a bit per slot
        ("vectors", np.uint32, 16),
        ("controls", np.uint32, 16),
        ("default_vector", np.uint32),
        # two timers
        ("timer_load", np.uint32, 2),
        ("timer_control", np.uint32, 2),
        ("timer_count", np.uint32, 2),  # while it stands still
        ("timer_raw", np.int32, 2),
        ("timer_deadline", np.int64, 2),  # while it runs
        ("skew", np.int64),  # cycles that reads of a timer have cost in this run
        ("polls", np.int32),
        ("poll_until", np.int64),
        ("may_doze", np.int32),  # its fast timer only polls: see timers.tick
        ("idle_ticks", np.int32),  # ticks of a fast timer that had no effect
        ("dormant", np.int32),
        # DMA
        ("dma_system", np.uint32),
        ("dma_tcm", np.uint32),
        ("dma_descriptor", np.uint32),
        ("dma_global", np.uint32),
        ("dma_done", np.int32),
        # comms controller
        ("tx_control", np.uint32),
        ("tx_data", np.uint32),
        ("tx_has_data", np.int32),
        ("source_address", np.uint32),
        ("waits_for_room", np.int32),  # it has been told that its comms controller is full
        ("rx_head", np.int32),
        ("rx_count", np.int32),
        ("rx_key", np.uint32, FIFO),
        ("rx_data", np.uint32, FIFO),
        ("rx_control", np.uint32, FIFO),
        # statistics
        ("runs", np.int64),
        ("packets_sent", np.int64),
        ("packets_received", np.int64),
        ("instructions", np.int64),  # if they are counted
        ("dma_bytes", np.int64),
    ],
    align=True,
)

CHIP = np.dtype(
    [
        ("sysram", np.int64),
        ("sdram", np.int64),
        ("p2p", np.int64),
        ("cores", np.int64),  # the address of the record of its core 0
        ("index", np.int32),
        ("x", np.int32),
        ("y", np.int32),
        ("neighbours", np.int32, N_LINKS),  # indices of chips, -1 where there is none
        ("virtual_of", np.int32, N_CORES),  # by physical core, -1 where it is dead
        ("flags", np.uint32),  # the system controller's flag register
        ("sleeping", np.uint32),
        # router
        ("control", np.uint32),
        ("used", np.int32),  # one more than the highest entry in use
        ("keys", np.uint32, N_ROUTES),
        ("masks", np.uint32, N_ROUTES),
        ("routes", np.uint32, N_ROUTES),
        ("fixed_route", np.uint32),
        ("filters", np.uint32, 16),
        ("counters", np.uint32, 16),
        ("counters_enabled", np.uint32),
        ("dump_header", np.uint32),
        ("dump_key", np.uint32),
        ("dump_data", np.uint32),
        ("dump_outputs", np.uint32),
        ("dump_status", np.uint32),
        ("registers", np.uint32, 64),  # those below 0x100 that only hold what was written
    ],
    align=True,
)

BOARD = np.dtype(
    [
        ("cores", np.int64),
        ("chips", np.int64),
        ("now", np.int64),  # cycles since the board was switched on
        ("clock_ms", np.int64),
        ("n_chips", np.int32),
        ("n_active", np.int32),
        ("active", np.int32, 1024 * N_CORES),
        ("queue_head", np.int32),
        ("queue_count", np.int32),
        ("queue", np.int32, 1024 * N_CORES),
        ("current", np.int32),  # the core that runs, -1 between runs
        ("preempt", np.int32),
        ("slices", np.int64),  # runs so far: the watchdog's heartbeat
        # packets under way
        ("ring_head", np.int32),
        ("ring_count", np.int32),
        ("ring_chip", np.int32, RING),
        ("ring_source", np.int32, RING),
        ("ring_age", np.int32, RING),
        ("ring_key", np.uint32, RING),
        ("ring_data", np.uint32, RING),
        ("ring_control", np.uint32, RING),
        ("ring_lost", np.int64),
        ("congested", np.int32),  # a core's queue is half full: let it work before more is delivered
        ("packets", np.int64),
        ("delivered", np.int64),
        ("dropped", np.int64),
        ("injected_drops", np.int64),
        ("drop_threshold", np.int64),  # of 2^32
        ("random", np.int64),
        # what waits for the Python side
        ("outbox_count", np.int32),
        ("outbox_lost", np.int64),
        ("outbox_chip", np.int32, OUTBOX),
        ("outbox_core", np.int32, OUTBOX),
        ("outbox", np.uint8, OUTBOX * OUTBOX_BYTES),
        ("change_count", np.int32),
        ("changes", np.int32, CHANGES),
        ("digest", np.int64),  # of every packet sent, in order: two runs can be compared by one number
    ],
    align=True,
)


def _cache_folder() -> Path:
    """Where compiled code is kept: a folder for this very source.

    Numba keeps compiled code per file and does not see that a function it calls in another file has changed.
    """
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for source in sorted(package.rglob("*.py")):
        digest.update(source.read_bytes())
    return package / "__pycache__" / f"hot_path_{digest.hexdigest()[:16]}"


def _prepare(folder: Path) -> bool:
    """Make the folder and remove those of other sources; false where nothing can be written."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        for other in folder.parent.glob("hot_path_*"):
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)
        return os.access(folder, os.W_OK)
    return False


_config: Any = numba.config
_FOLDER = _cache_folder()
_KEPT = _prepare(_FOLDER)


@contextlib.contextmanager
def _our_cache() -> Iterator[None]:
    before = _config.CACHE_DIR
    _config.CACHE_DIR = str(_FOLDER) if _KEPT else before
    try:
        yield
    finally:
        _config.CACHE_DIR = before


def jit(function: Any) -> Any:
    """Compile for the hot path: no Python inside, and the interpreter lock is released around it."""
    with _our_cache():
        return numba.njit(cache=True, nogil=True, error_model="numpy")(function)


_intrinsic: Callable[[Any], Any] = intrinsic  # its annotations count the arguments of the compiler, not of the caller


def callback(signature: Any) -> Callable[[Any], Any]:
    """Compile a function that C code calls, by its address."""

    def decorate(function: Any) -> Any:
        with _our_cache():
            return numba.cfunc(signature, cache=True)(function)

    return decorate


carray: Any = vars(numba)["carray"]


@_intrinsic
def _pointer(context: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), generate


@jit
def core_at(address: Any) -> Any:
    """The core's record at this address."""
    return carray(_pointer(address), 1, CORE)[0]


@jit
def chip_at(address: Any) -> Any:
    """The chip's record at this address."""
    return carray(_pointer(address), 1, CHIP)[0]


@jit
def board_at(address: Any) -> Any:
    """The board's record at this address."""
    return carray(_pointer(address), 1, BOARD)[0]


@jit
def bytes_at(address: Any, size: Any) -> Any:
    """``size`` bytes of memory at this address."""
    return carray(_pointer(address), size, np.uint8)


@jit
def words_at(address: Any, count: Any) -> Any:
    """``count`` 32-bit words of memory at this address."""
    return carray(_pointer(address), count, np.uint32)

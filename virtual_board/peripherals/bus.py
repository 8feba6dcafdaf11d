"""The bus: which peripheral answers at which address, and the two callbacks by which Unicorn reaches them."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numba.core import types as numba_types

from .. import layout
from ..state import callback, carray, core_at, jit
from . import comms, dma, router, system_controller, timers, vic

types: Any = numba_types


class Device(IntEnum):
    """What can answer. The last only answers zero: memory controller, watchdog, Ethernet are the monitor's."""

    COMMS = 0
    TIMERS = 1
    VIC = 2
    DMA = 3
    ROUTER = 4
    SYSTEM_CONTROLLER = 5
    SILENT = 6


WIRING = (  # device, addresses, size
    (Device.COMMS, layout.COMMS, layout.PAGE),
    (Device.TIMERS, layout.TIMERS, layout.PAGE),
    (Device.VIC, layout.VIC, layout.PAGE),
    (Device.DMA, layout.DMA, layout.PAGE),
    (Device.ROUTER, layout.ROUTER, layout.ROUTER_SIZE),
    (Device.SYSTEM_CONTROLLER, layout.SYSTEM_CONTROLLER, layout.PAGE),
    (Device.SILENT, layout.MEMORY_CONTROLLER, layout.PAGE),
    (Device.SILENT, layout.WATCHDOG, layout.PAGE),
    (Device.SILENT, layout.ETHERNET, layout.ETHERNET_SIZE),
)

PORT = np.dtype([("core", np.int64), ("device", np.int64)])  # what a callback is given the address of


@jit
def _read(core: Any, device: Any, offset: Any) -> Any:
    if device == Device.VIC:
        return vic.read(core, offset)
    if device == Device.COMMS:
        return comms.read(core, offset)
    if device == Device.TIMERS:
        return timers.read(core, offset)
    if device == Device.DMA:
        return dma.read(core, offset)
    if device == Device.SYSTEM_CONTROLLER:
        return system_controller.read(core, offset)
    if device == Device.ROUTER:
        return router.read(core, offset)
    return np.uint32(0)


@jit
def _write(core: Any, device: Any, offset: Any, value: Any) -> Any:
    if device == Device.VIC:
        vic.write(core, offset, value)
    elif device == Device.COMMS:
        comms.write(core, offset, value)
    elif device == Device.TIMERS:
        timers.write(core, offset, value)
    elif device == Device.DMA:
        dma.write(core, offset, value)
    elif device == Device.SYSTEM_CONTROLLER:
        system_controller.write(core, offset, value)
    elif device == Device.ROUTER:
        router.write(core, offset, value)


@callback(types.uint64(types.voidptr, types.uint64, types.uint32, types.voidptr))
def on_read(engine: Any, offset: Any, size: Any, port: Any) -> Any:
    """A core loads from a register."""
    to = carray(port, 1, PORT)[0]
    return np.uint64(_read(core_at(to.core), to.device, np.int64(offset)))


@callback(types.void(types.voidptr, types.uint64, types.uint32, types.uint64, types.voidptr))
def on_write(engine: Any, offset: Any, size: Any, value: Any, port: Any) -> None:
    """A core stores to a register."""
    to = carray(port, 1, PORT)[0]
    _write(core_at(to.core), to.device, np.int64(offset), np.int64(value))

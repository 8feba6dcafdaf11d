"""One chip: its memories as SC&MP leaves them after boot, its heaps, its router, its cores' blocks."""

from __future__ import annotations

import struct
import time
from typing import Any

import numpy as np

from .geometry import Coordinates, Geometry, p2p_words
from .heap import Heap, RouteAllocator
from .layout import (
    APPLICATION_IMAGE,
    CLOCK_MHZ,
    IMAGE_SIZE,
    IOBUF_SIZE,
    N_CORES,
    N_LINKS,
    N_ROUTES,
    N_SHARED_MESSAGES,
    P2P_NONE,
    P2P_WORDS,
    SDP_MESSAGE_SIZE,
    SDRAM_BASE,
    SDRAM_SIZE,
    SYSRAM_BASE,
    SYSRAM_HEAP,
    SYSTEM_BUFFER_WORDS,
    SYSTEM_VARIABLES,
    UNUSED_KEY,
    UNUSED_MASK,
    UNUSED_ROUTE,
    VCPU,
    VCPU_APP_ID,
    VCPU_IOBUF,
    VCPU_SIZE,
    VCPU_STATE,
    CoreState,
)
from .memory import ChipMemory, page_aligned
from .peripherals import router

SYSTEM_VARIABLE_BASE = SYSRAM_BASE + SYSTEM_VARIABLES
SYSRAM_HEAP_OFFSET = 1024 * 4  # words of user memory below the heap
SOFTWARE_VERSION = (4, 0, 0)
_APP_DATA = 8  # bytes of an application's entry: cores, clean, semaphore, lead core, mask of cores
_ALL_ONES = 0xFF


class Chip:
    """A chip of the machine: `boot` brings it to the state in which the monitor waits for commands.

    Attributes
    ----------
    x, y : coordinates
    record : the chip's record in the compiled state
    memory : its shared memories
    sdram_heap, sysram_heap, system_heap, routes : allocators
    physical_of : physical core by virtual core; the monitor is 0
    """

    def __init__(self, at: Coordinates, record: Any, record_address: int, geometry: Geometry, dead: set[int]) -> None:
        self.x, self.y = at
        self.record = record
        self.geometry = geometry
        self.memory = ChipMemory(record_address)
        self.record_address = record_address
        self.physical_of = [core for core in range(N_CORES) if core not in dead]
        self.is_ethernet = at == geometry.ethernet_of[at]
        self.ip_address = b"\0\0\0\0"
        self._p2p = page_aligned(4 * P2P_WORDS).view(np.uint32)
        record["x"], record["y"] = at
        record["p2p"] = self._p2p.ctypes.data
        for physical in range(N_CORES):
            record["virtual_of"][physical] = self.physical_of.index(physical) if physical not in dead else -1

    @property
    def at(self) -> Coordinates:
        """The chip's coordinates."""
        return self.x, self.y

    @property
    def n_cores(self) -> int:
        """Working cores, the monitor included."""
        return len(self.physical_of)

    @property
    def links(self) -> int:
        """The working links, a bit each."""
        others = self.geometry.neighbours[self.at]
        return sum(1 << link for link in range(N_LINKS) if others[link] is not None)

    @property
    def parent_link(self) -> int:
        """The link towards the root chip (7 on the root itself)."""
        return self.geometry.routes_from(self.at).get((0, 0), P2P_NONE)

    def boot(self) -> None:
        """Clear everything and set up what SC&MP sets up."""
        self.memory.clear()
        self.record["sdram"] = self.memory.sdram.ctypes.data
        self.record["sysram"] = self.memory.sysram.ctypes.data
        self._create_heaps()
        self._write_system_variables()
        self._share_message_buffers()
        self._reset_router()
        self.record["flags"] = 0
        for core in range(self.n_cores):
            self.set_state(core, CoreState.RUNNING if core == 0 else CoreState.IDLE)
        for core in range(self.n_cores, N_CORES):
            self.set_state(core, CoreState.DEAD)

    def _create_heaps(self) -> None:
        memory = self.memory
        top = SDRAM_BASE + SDRAM_SIZE
        self.system_heap = Heap(memory, APPLICATION_IMAGE + IMAGE_SIZE)
        self.system_heap.create(top)
        self.hop_table = self.system_heap.allocate(65536 * 4, 0)
        self.route_copy = self.system_heap.allocate((N_ROUTES + 1) * 16, 0)
        self.tags = self.system_heap.allocate(65536 * 4, 0)
        self.app_data = self.system_heap.allocate(256 * _APP_DATA, 0)
        self.system_heap.tags = self.tags
        user = SDRAM_BASE + N_CORES * SYSTEM_BUFFER_WORDS * 4
        self.sdram_heap = Heap(memory, user, self.tags)
        self.sdram_heap.create(APPLICATION_IMAGE)
        self.sysram_heap = Heap(memory, SYSRAM_BASE + SYSRAM_HEAP + SYSRAM_HEAP_OFFSET, self.tags)
        self.sysram_heap.create(SYSRAM_BASE + VCPU)
        self.routes = RouteAllocator(memory, self.route_copy, SYSTEM_VARIABLE_BASE + 0xE0)
        self.routes.create()

    def _write_system_variables(self) -> None:
        geometry, memory = self.geometry, self.memory
        ethernet = geometry.ethernet_of[self.at]
        root = (0, 0)
        maps = bytes(self.physical_of).ljust(20, b"\xff")
        virtual = bytes(self.physical_of.index(p) if p in self.physical_of else _ALL_ONES for p in range(N_CORES))
        major, minor, patch = SOFTWARE_VERSION
        values: tuple[tuple[int, bytes], ...] = (
            (0x00, bytes([self.y, self.x, geometry.height, geometry.width])),
            (0x06, bytes([1, 0, ethernet[1], ethernet[0], geometry.version, int(self.is_ethernet)])),
            (0x0C, bytes([4, 4, 0x33, 0])),
            (0x1C, struct.pack("<II", int(time.time()), 0)),
            (0x24, struct.pack("<HH", CLOCK_MHZ, 130)),
            (0x28, bytes([0x3F, 0, 200, 1])),
            (0x2E, bytes([root[1], root[0]])),
            (0x30, struct.pack("<I", 1)),
            (0x3C, struct.pack("<I", 0x9E3779B9 ^ (self.x << 8 | self.y))),  # a seed that is the same every time
            (0x40, bytes([int(self.at == root), N_SHARED_MESSAGES, 20, 0])),
            (0x48, struct.pack("<II", self.sysram_heap.base, self.sdram_heap.base)),
            (0x50, struct.pack("<III", IOBUF_SIZE, SDRAM_BASE, SYSTEM_BUFFER_WORDS)),
            (0x65, bytes([self.links])),
            (0x94, virtual.ljust(20, b"\xff")),
            (0xA8, maps),
            (0xBC, bytes([self.n_cores, self.n_cores])),
            (0xC0, struct.pack("<II", SDRAM_BASE + N_CORES * SYSTEM_BUFFER_WORDS * 4, SYSRAM_BASE + SYSRAM_HEAP)),
            (0xC8, struct.pack("<II", APPLICATION_IMAGE, SYSRAM_BASE + VCPU)),
            (0xD0, struct.pack("<III", self.system_heap.base, self.route_copy, self.hop_table)),
            (0xDC, struct.pack("<I", self.tags)),
            (0xE2, struct.pack("<HI", len(geometry.chips), self.app_data)),
            (0xF0, self.ip_address),
            (0xFC, struct.pack("<I", major << 16 | minor << 8 | patch)),
        )
        for offset, data in values:
            memory.write(SYSTEM_VARIABLE_BASE + offset, data)

    def _share_message_buffers(self) -> None:
        memory = self.memory
        first = self.sysram_heap.allocate(N_SHARED_MESSAGES * SDP_MESSAGE_SIZE, 0)
        buffers = self.message_buffers = [first + i * SDP_MESSAGE_SIZE for i in range(N_SHARED_MESSAGES)]
        for buffer, following in zip(buffers, [*buffers[1:], 0], strict=True):
            memory.set_word(buffer, following)
        memory.set_word(SYSTEM_VARIABLE_BASE + 0x68, first)
        memory.set_word(SYSTEM_VARIABLE_BASE + 0xE8, first)

    def _reset_router(self) -> None:
        record = self.record
        self.clear_routes(0, N_ROUTES)
        record["control"] = 0x00400001
        record["fixed_route"] = 0
        record["dump_status"] = 0
        record["filters"] = router.DEFAULT_FILTERS
        record["counters"] = 0
        record["counters_enabled"] = 0xFFFF
        record["registers"] = 0
        self._p2p[:] = sum(P2P_NONE << 3 * i for i in range(8))
        for index, value in p2p_words(self.geometry, self.at):
            self._p2p[index] = value

    def clear_routes(self, first: int, count: int) -> None:
        """Empty these multicast entries, in the router and in its copy."""
        entries = slice(first, first + count)
        self.record["routes"][entries] = UNUSED_ROUTE
        self.record["keys"][entries] = UNUSED_KEY
        self.record["masks"][entries] = UNUSED_MASK
        blank = struct.pack("<III", UNUSED_ROUTE, UNUSED_KEY, UNUSED_MASK)
        for entry in range(first, min(first + count, N_ROUTES)):
            self.memory.write(self.route_copy + 16 * entry + 4, blank)
        used = (self.record["routes"] & UNUSED_ROUTE) == 0
        self.record["used"] = int(used.nonzero()[0][-1]) + 1 if used.any() else 0

    def set_route(self, entry: int, key: int, mask: int, route: int, app_id: int) -> None:
        """Fill a multicast entry; the route names virtual cores."""
        physical = self.to_physical(route >> N_LINKS) << N_LINKS | route & (1 << N_LINKS) - 1
        self.record["keys"][entry] = key
        self.record["masks"][entry] = mask
        self.record["routes"][entry] = physical
        self.record["used"] = max(int(self.record["used"]), entry + 1)
        self.memory.set_half(self.route_copy + 16 * entry + 2, 0x8000 | app_id)
        self.memory.write(self.route_copy + 16 * entry + 4, struct.pack("<III", route & 0xFFFFFF, key, mask))

    def to_physical(self, cores: int) -> int:
        """A mask of virtual cores as one of physical cores."""
        return sum(1 << physical for virtual, physical in enumerate(self.physical_of) if cores >> virtual & 1)

    def _block(self, core: int) -> int:
        return SYSRAM_BASE + VCPU + core * VCPU_SIZE

    def set_state(self, core: int, state: CoreState, app_id: int = 0) -> None:
        """Clear a core's virtual-processor block (all but the user words) and set its state."""
        self.memory.write(self._block(core), bytes(VCPU_SIZE - 16))
        self.memory.set_byte(self._block(core) + VCPU_STATE, state)
        self.memory.set_byte(self._block(core) + VCPU_APP_ID, app_id)
        self.memory.set_byte(self._block(core) + 45, self.physical_of[core] if core < self.n_cores else _ALL_ONES)

    def state(self, core: int) -> int:
        """What the core says of itself: a `CoreState`, if it says something sensible."""
        return int(self.memory.sysram[VCPU + core * VCPU_SIZE + VCPU_STATE])

    def app_id(self, core: int) -> int:
        """Which application the core belongs to, 0 for none."""
        return int(self.memory.sysram[VCPU + core * VCPU_SIZE + VCPU_APP_ID])

    def block(self, core: int) -> bytes:
        """The core's virtual-processor block, 128 bytes."""
        return self.memory.read(self._block(core), VCPU_SIZE)

    def app_name(self, core: int) -> str:
        """The name that the core's firmware was built with."""
        return self.block(core)[72:88].split(b"\0")[0].decode("ascii", "replace")

    def iobuf(self, core: int) -> str:
        """What the core's firmware has printed: a chain of buffers in SDRAM (next, time, milliseconds, length)."""
        text, seen = b"", 0
        address = self.memory.word(self._block(core) + VCPU_IOBUF)
        while address and self.memory.has(address, 16) and seen < 256:
            following, _, _, length = struct.unpack("<4I", self.memory.read(address, 16))
            text += self.memory.read(address + 16, min(length, IOBUF_SIZE))
            address, seen = following, seen + 1
        return text.decode("utf-8", "replace")

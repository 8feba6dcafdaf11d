"""The commands of the monitor: one table, one small function each over the chip's state.

To add one: write a function ``(monitor, chip, request) -> bytes`` that returns what follows the sequence number in the
answer, or raises `Refused`, and enter it in `COMMANDS`. Numbers and arguments: ``scamp-cmd.c``, ``sark.h``.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..chip import SOFTWARE_VERSION, Chip
from ..errors import BinaryError
from ..layout import APPLICATION_IMAGE, IMAGE_SIZE, N_CORES, N_LINKS, N_ROUTES, SDP_MAX_DATA, CoreState
from . import applications
from .applications import Signal
from .messages import ROOT, Request, Result, chip_word
from .tags import ENTRY_SIZE, FIXED, POOL, Flag, Tag

if TYPE_CHECKING:
    from .monitor import Monitor

BUILD_TIME = 0x5F000000  # the word that the version command calls the time of the build
_NN_SIGNAL = 5  # the neighbour packet that carries a signal


class Refused(Exception):  # noqa: N818 - an answer, not a failure of ours
    """The command cannot be done: the return code, and why for the log."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


def version(monitor: Monitor, chip: Chip, request: Request) -> bytes:
    """Who answers: chip and core, and the version of the software (the number is in the text)."""
    number = ".".join(str(part) for part in SOFTWARE_VERSION)
    numbers = struct.pack("<III", chip_word(chip.at) << 16, ROOT << 16 | SDP_MAX_DATA, BUILD_TIME)
    return numbers + b"SC&MP/SpiNNaker\0" + number.encode() + b"\0"


def read(monitor: Monitor, chip: Chip, request: Request) -> bytes:
    """arg2 bytes of memory from arg1."""
    _check_transfer(request)
    _check_there(chip, request.arg1, request.arg2)
    return chip.memory.read(request.arg1, request.arg2)


def write(monitor: Monitor, chip: Chip, request: Request) -> bytes:
    """Write the data, arg2 bytes, to arg1."""
    _check_transfer(request)
    if len(request.data) < request.arg2:
        raise Refused(Result.LENGTH, f"{request.arg2} bytes to write, {len(request.data)} came")
    _check_there(chip, request.arg1, request.arg2)
    monitor.protect(chip, request.arg1, request.arg2)
    chip.memory.write(request.arg1, request.data[: request.arg2])
    return b""


def fill(monitor: Monitor, chip: Chip, request: Request) -> bytes:
    """Fill arg3 bytes from arg1 with the word arg2."""
    if request.arg1 % 4 or request.arg3 % 4:
        raise Refused(Result.ARGUMENT, f"fill of {request.arg3} bytes at 0x{request.arg1:08x}: not whole words")
    _check_there(chip, request.arg1, request.arg3)
    monitor.protect(chip, request.arg1, request.arg3)
    chip.memory.write(request.arg1, struct.pack("<I", request.arg2) * (request.arg3 // 4))
    return b""


def link_read(monitor: Monitor, chip: Chip, request: Request) -> bytes:
    """Read from the neighbour at link arg3."""
    return read(monitor, _neighbour(monitor, chip, request.arg3), request)


def link_write(monitor: Monitor, chip: Chip, request: Request) -> bytes:
    """Write to the neighbour at link arg3."""
    return write(monitor, _neighbour(monitor, chip, request.arg3), request)


def info(monitor: Monitor, chip: Chip, request: Request) -> bytes:
    """Working cores, links, free routes and memory, the cores' states, the way to the network and to the root."""
    flags = chip.n_cores | chip.links << 8 | chip.routes.largest << 14 | int(chip.is_ethernet) << 25
    ethernet = chip.geometry.ethernet_of[chip.at]
    states = bytes(chip.state(core) for core in range(N_CORES))
    return (
        struct.pack("<III", flags, chip.sdram_heap.largest, chip.sysram_heap.largest)
        + states
        + struct.pack("<H", chip_word(ethernet))
        + chip.ip_address
        + struct.pack("<H", chip.parent_link)
    )


def allocate(monitor: Monitor, chip: Chip, request: Request) -> bytes:
    """Memory and routes: arg1 = flags << 16 | application << 8 | operation."""
    operation, app_id, flags = request.arg1 & 0xFF, request.arg1 >> 8 & 0xFF, request.arg1 >> 16 & 0xFF
    if operation == 0:
        found = chip.sdram_heap.allocate(request.arg2, app_id, request.arg3, again=bool(flags & 4))
    elif operation == 1:
        return b"" if chip.sdram_heap.release(request.arg2) else _no_block(request.arg2)
    elif operation == 2:
        found = chip.sdram_heap.release_all(app_id)
    elif operation == 3:
        found = chip.routes.allocate(request.arg2, app_id)
    elif operation == 4:
        count = chip.routes.release(request.arg2)
        if count and request.arg3:
            chip.clear_routes(request.arg2, count)
        return b""
    elif operation == 5:
        blocks = chip.routes.owned_by(app_id)
        for first, count in blocks:
            chip.routes.release(first)
            if request.arg2:
                chip.clear_routes(first, count)
        found = len(blocks)
    elif operation == 6:
        return struct.pack("<II", chip.sdram_heap.free_bytes, chip.sdram_heap.largest)
    elif operation == 7:
        found = chip.memory.word(chip.tags + 4 * (app_id << 8 | request.arg2 & 0xFF))
    else:
        raise Refused(Result.ARGUMENT, f"allocation has operations 0 to 7, not {operation}")
    return struct.pack("<I", found)


def route(monitor: Monitor, chip: Chip, request: Request) -> bytes:
    """The router: arg1 = count << 16 | application << 8 | operation."""
    operation, app_id, count = request.arg1 & 0xFF, request.arg1 >> 8 & 0xFF, request.arg1 >> 16
    if operation == 0:
        chip.clear_routes(1, N_ROUTES - 1)
        chip.routes.create()
    elif operation == 1:
        _check_entries(request.arg2, count)
        chip.clear_routes(request.arg2, count)
    elif operation == 2:
        _load_routes(chip, request.arg2, count, request.arg3, app_id)
    elif operation == 3 and request.arg2 >> 31:
        return struct.pack("<I", chip.memory.word(_FIXED_ROUTE_COPY))
    elif operation == 3:
        chip.memory.set_word(_FIXED_ROUTE_COPY, request.arg2 & 0xFFFFFF)
        links = request.arg2 & (1 << N_LINKS) - 1
        chip.record["fixed_route"] = chip.to_physical(request.arg2 >> N_LINKS & 0x3FFFF) << N_LINKS | links
    else:
        raise Refused(Result.ARGUMENT, f"the router has operations 0 to 3, not {operation}")
    return b""


_FIXED_ROUTE_COPY = 0xF5007FF4


def _load_routes(chip: Chip, table: int, count: int, offset: int, app_id: int) -> None:
    count = count or chip.memory.half(table + 2)
    _check_there(chip, table, 16 * count)
    for i in range(count):
        entry, _, word, key, mask = struct.unpack("<HHIII", chip.memory.read(table + 16 * i, 16))
        _check_entries(entry + offset, 1)
        chip.set_route(entry + offset, key, mask, word, app_id or word >> 24)


def application_run(monitor: Monitor, chip: Chip, request: Request) -> bytes:
    """Start the image in the chip's memory on the cores of arg1."""
    return _start(monitor, chip, request.arg1)


def application_copy_run(monitor: Monitor, chip: Chip, request: Request) -> bytes:
    """Copy the image of arg2 bytes from the neighbour at link arg1 & 7, then start it on the cores of arg3."""
    link, checksum, size = request.arg1 & 7, request.arg1 >> 3, request.arg2
    if size % 4 or size > IMAGE_SIZE:
        raise Refused(Result.ARGUMENT, f"an image of {size} bytes: whole words, at most {IMAGE_SIZE}")
    image = _neighbour(monitor, chip, link).memory.read(APPLICATION_IMAGE, size)
    total = sum(struct.unpack(f"<{size // 4}I", image)) & 0xFFFFFFFF
    if checksum and checksum != total & 0x1FFFFFFF:
        raise Refused(Result.CHECKSUM, f"the image's checksum is 0x{total:08x}, not 0x{checksum:08x}")
    chip.memory.write(APPLICATION_IMAGE, image)
    return _start(monitor, chip, request.arg3)


def _start(monitor: Monitor, chip: Chip, word: int) -> bytes:
    if word & 1:
        raise Refused(Result.ARGUMENT, "core 0 is the monitor's; no application can be started there")
    try:
        cores = applications.start(monitor.machine, chip, word)
    except BinaryError as error:
        monitor.note("refused", f"chip {chip.x},{chip.y}: {error}", chip=chip.at)
        return b""  # the real monitor starts anything; what is no binary shows in the cores' states
    monitor.loaded(chip, cores, word >> 24)
    return b""


def send_signal(monitor: Monitor, chip: Chip, request: Request) -> bytes:
    """A signal to an application: arg1 how it travels, arg2 = signal << 16 | mask << 8 | application."""
    if request.arg1 not in (0, 2):
        raise Refused(Result.ARGUMENT, f"signals travel by multicast (0) or flood (2), not {request.arg1}")
    return _signal(monitor, request.arg2)


def neighbour_packet(monitor: Monitor, chip: Chip, request: Request) -> bytes:
    """A packet flooded to all chips; of these only signals are known here."""
    if request.arg1 >> 24 == 0 and request.arg2 >> 28 == _NN_SIGNAL:
        return _signal(monitor, request.arg2 & 0x0FFFFFFF)
    return b""


def _signal(monitor: Monitor, word: int) -> bytes:
    number, app_id, reached = applications.signal(monitor.machine, word)
    name = Signal(number).name if number in list(Signal) else str(number)
    monitor.signalled(name, app_id, reached)
    return b""


def count_cores(monitor: Monitor, chip: Chip, request: Request) -> bytes:
    """How many cores of application arg1 are in state arg2, on this board."""
    board = chip.geometry.ethernet_of[chip.at]
    chips = [other for at, other in monitor.machine.chips.items() if chip.geometry.ethernet_of[at] == board]
    return struct.pack("<I", applications.count(monitor.machine, chips, request.arg1, request.arg2))


def ip_tag(monitor: Monitor, chip: Chip, request: Request) -> bytes:
    """Tags: arg1 = flags << 24 | operation << 16 | port << 8 | tag, arg2 = chip << 16 | UDP port, arg3 = IP address."""
    operation, number = request.arg1 >> 16 & 0xFF, request.arg1 & 0xFF
    table = monitor.tags(chip)
    if operation > 4 or (number >= FIXED + POOL and operation not in (0, 4)):
        raise Refused(Result.ARGUMENT, f"tag {number}, operation {operation}: there are 16 tags and operations 0 to 4")
    if operation in (0, 1):
        number = table.free() if operation == 0 else number
        table.set(number, _tag(request, monitor.now()))
        monitor.tag_set(chip, number)
        return struct.pack("<I", number)
    if operation == 2:
        return table.tags[number].pack() if request.arg2 else b"\0" * ENTRY_SIZE
    if operation == 3:
        table.clear(number)
        return b""
    was = table.transient_timeout
    if request.arg2 < 16:
        table.transient_timeout = request.arg2
        monitor.session_begins(request.sender)
    return struct.pack("<I", FIXED << 24 | POOL << 16 | ENTRY_SIZE << 8 | was)


def _tag(request: Request, now: float) -> Tag:
    flags = request.arg1 >> 20 & 0x0F00
    ticks = 1 << (request.arg1 >> 24 & 15) - 1 if request.arg1 >> 24 & 15 else 0
    sender = request.sender or ("0.0.0.0", 0)
    ip = socket.inet_ntoa(struct.pack("<I", request.arg3))
    port = request.arg2 & 0xFFFF
    if flags & Flag.REVERSE:
        return Tag(ip, 0, ticks, flags | Flag.VALID, 0, port, request.arg2 >> 16, request.arg1 >> 8 & 0xFF, now)
    if request.arg3 == 0 or flags & Flag.USE_SENDER:
        ip = sender[0]
    if flags & Flag.USE_SENDER:
        port = sender[1]
    return Tag(ip, port, ticks, flags | Flag.VALID, 0, 0, request.arg2 >> 16, request.arg1 >> 8 & 0xFF, now)


def led(monitor: Monitor, chip: Chip, request: Request) -> bytes:
    """Lights: seen by nobody."""
    return b""


def synchronise(monitor: Monitor, chip: Chip, request: Request) -> bytes:
    """Clock beacons between chips: all chips here share one clock."""
    return b""


Command = Callable[["Monitor", Chip, Request], bytes]

COMMANDS: dict[int, Command] = {
    0: version,
    2: read,
    3: write,
    5: fill,
    15: count_cores,
    17: link_read,
    18: link_write,
    19: application_run,
    20: neighbour_packet,
    21: application_copy_run,
    22: send_signal,
    25: led,
    26: ip_tag,
    28: allocate,
    29: route,
    31: info,
    32: synchronise,
}
IDLE_CORE_COMMANDS = (0, 2, 3, 5)  # what SARK on an idle core answers


def _check_transfer(request: Request) -> None:
    if request.arg2 > SDP_MAX_DATA:
        raise Refused(Result.ARGUMENT, f"{request.arg2} bytes; a message carries at most {SDP_MAX_DATA}")


def _check_there(chip: Chip, address: int, size: int) -> None:
    if not chip.memory.has(address, size):
        raise Refused(Result.ARGUMENT, f"chip {chip.x},{chip.y} has no memory for {size} bytes at 0x{address:08x}")


def _check_entries(first: int, count: int) -> None:
    if first + count > N_ROUTES:
        raise Refused(Result.ARGUMENT, f"route entries {first} to {first + count - 1}; there are {N_ROUTES}")


def _neighbour(monitor: Monitor, chip: Chip, link: int) -> Chip:
    others = chip.geometry.neighbours[chip.at]
    other = others[link] if link < N_LINKS else None
    if other is None:
        raise Refused(Result.ARGUMENT, f"chip {chip.x},{chip.y} has no neighbour at link {link}")
    return monitor.machine.chips[other]


def _no_block(address: int) -> bytes:
    raise Refused(Result.ARGUMENT, f"nothing is allocated at 0x{address:08x}")


__all__ = ["COMMANDS", "IDLE_CORE_COMMANDS", "Command", "CoreState", "Refused"]

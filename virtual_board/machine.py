"""The machine: chips, cores and time. `Machine` owns all state; nothing here knows of the network.

machine = Machine(geometry(version=3))
machine.boot()
machine.start(chip, core, app_id, flags)   # runs the image at `APPLICATION_IMAGE`
machine.advance(horizon)                # lets everything run
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from . import layout
from .aplx import load, read_application
from .chip import Chip
from .engine import CPSR, PC, Engine
from .faults import Faults
from .geometry import Coordinates, Geometry
from .layout import N_CORES, CoreState, Interrupt
from .memory import page_aligned
from .peripherals import bus, router
from .peripherals.lines import enqueue_at, raise_line_at
from .scheduler import MODE_SVC, Outcome, advance
from .state import BOARD, CHIP, CORE, NEVER, READY

SUPERVISOR = MODE_SVC | 0xC0  # the mode in which a binary starts, interrupts masked
_R0 = 66  # UC_ARM_REG_R0
PREEMPT_AFTER = 0.25  # seconds of wall time after which a core that does not sleep gives others a turn


def _offset(field: str) -> int:
    assert CORE.fields is not None
    return int(CORE.fields[field][1])


_WORD_OFFSET = _offset("word")


class CoreMemory:
    """A core's tightly coupled memories and its emulator while an application runs."""

    def __init__(self) -> None:
        self.itcm = page_aligned(layout.ITCM_SIZE)
        self.dtcm = page_aligned(layout.DTCM_SIZE)
        self.engine: Engine | None = None
        self.ports: Any = None


class Machine:
    """All chips and cores of a machine, and its virtual time.

    Parameters
    ----------
    geometry : which chips there are, and links
    faults : what is broken, and how often packets are lost
    """

    def __init__(self, geometry: Geometry, faults: Faults | None = None) -> None:
        faults = faults or Faults()
        self.faults = faults
        self.geometry = geometry.without(set(faults.dead_chips), set(faults.dead_links))
        at = self.geometry.chips
        self._board = np.zeros(1, BOARD)
        self._chips = np.zeros(len(at), CHIP)
        self._cores = np.zeros(len(at) * N_CORES, CORE)
        self._core_memory: dict[int, CoreMemory] = {}
        self.board = self._board[0]
        self.board["cores"] = self._cores.ctypes.data
        self.board["chips"] = self._chips.ctypes.data
        self.board["n_chips"] = len(at)
        self.board["current"] = -1
        self._address = int(self._board.ctypes.data)
        self.chips: dict[Coordinates, Chip] = {}
        dead = faults.cores_by_chip(self.geometry)
        for index, place in enumerate(at):
            record = self._chips[index]
            record["index"] = index
            record["cores"] = self._cores.ctypes.data + index * N_CORES * CORE.itemsize
            address = self._chips.ctypes.data + index * CHIP.itemsize
            self.chips[place] = Chip(place, record, address, self.geometry, dead.get(place, set()))
            others = self.geometry.neighbours[place]
            record["neighbours"] = [-1 if other is None else at.index(other) for other in others]
        self.count_instructions = False  # of cores that are started from now on: for measurements, slow
        self._watchdog = _Watchdog(self)

    def warm_up(self) -> None:
        """Compile what is compiled on its first call, or load it: ten seconds once, half a second later on."""
        self.advance(0, 1)
        chip = next(iter(self.chips.values()))
        router.write_at(chip.record_address, 0, router.read_at(chip.record_address, 0))
        raise_line_at(self._record_address(0), Interrupt.CPU)
        enqueue_at(self._record_address(0))

    def boot(self) -> None:
        """Switch off and on: every core idle, memories clear, the clock at zero."""
        for index in list(self._core_memory):
            self._close(index)
        keep = {name: self.board[name].copy() for name in ("cores", "chips", "n_chips")}
        self._board[:] = 0
        for name, value in keep.items():
            self.board[name] = value
        self.board["current"] = -1
        self.board["random"] = self.faults.seed * 2654435761 % (1 << 62) | 1
        self.board["drop_threshold"] = int(self.faults.drop_packets * (1 << 32))
        for chip in self.chips.values():
            chip.boot()

    def close(self) -> None:
        """Give back every emulator, and end the watchdog."""
        self._watchdog.close()
        for index in list(self._core_memory):
            self._close(index)

    # ------------------------------------------------------------------------------------------------ cores

    def index(self, chip: Chip, core: int) -> int:
        """The number of a core's record."""
        return int(chip.record["index"]) * N_CORES + core

    def record(self, index: int) -> Any:
        """A core's record in the compiled state."""
        return self._cores[index]

    def _record_address(self, index: int) -> int:
        return int(self._cores.ctypes.data) + index * CORE.itemsize

    def core_of(self, index: int) -> tuple[Chip, int]:
        """The chip and virtual core of a record."""
        return self.chips[self.geometry.chips[index // N_CORES]], index % N_CORES

    def runs(self, chip: Chip, core: int) -> bool:
        """Whether an application has been started there."""
        return bool(self._cores[self.index(chip, core)]["engine"])

    def start(self, chip: Chip, core: int, app_id: int, flags: int) -> None:
        """Load the image at `APPLICATION_IMAGE` into a core and let it run from its entry.

        Raises
        ------
        BinaryError
            The image is no application.
        """
        application = read_application(chip.memory, layout.APPLICATION_IMAGE)
        index = self.index(chip, core)
        self._close(index)
        memory = self._core_memory[index] = CoreMemory()
        load(application, memory.itcm, memory.dtcm)
        counter = self._record_address(index) + _offset("instructions") if self.count_instructions else 0
        engine = memory.engine = Engine(counter)
        record = self._cores[index]
        self._reset_record(record, chip, index, core, memory)
        self._map(engine, chip, memory, int(record["scratch"]) - _WORD_OFFSET)
        record["engine"] = engine.handle
        engine.set_register(CPSR, SUPERVISOR)
        engine.set_register(PC, application.entry)
        engine.set_register(_R0, flags << 8 | app_id)
        record["pc"], record["cpsr"] = application.entry, SUPERVISOR
        record["run"] = READY
        self._activate(index)
        enqueue_at(self._record_address(index))

    def _reset_record(self, record: Any, chip: Chip, index: int, core: int, memory: CoreMemory) -> None:
        address = self._record_address(index)
        self._cores[index] = np.zeros((), CORE)
        record["scratch"] = address + _WORD_OFFSET
        record["board"] = self._address
        record["chip"] = chip.record_address
        record["itcm"], record["dtcm"] = memory.itcm.ctypes.data, memory.dtcm.ctypes.data
        record["index"], record["virtual"], record["physical"] = index, core, chip.physical_of[core]
        record["state_seen"] = CoreState.INITIALISING
        record["lines"] = 1 << Interrupt.CC_TX_EMPTY | 1 << Interrupt.CC_TX_NOT_FULL  # packets leave at once
        record["timer_deadline"] = NEVER
        record["poll_until"] = NEVER
        record["source_address"] = 7 << 24 | chip.x << 8 | chip.y

    def _map(self, engine: Engine, chip: Chip, memory: CoreMemory, core_address: int) -> None:
        engine.map_memory(layout.ITCM_BASE, layout.ITCM_SIZE, memory.itcm.ctypes.data, code=True)
        engine.map_memory(layout.DTCM_BASE, layout.DTCM_SIZE, memory.dtcm.ctypes.data)
        for base in (layout.SDRAM_BASE, layout.SDRAM_UNBUFFERED):
            engine.map_memory(base, layout.SDRAM_SIZE, chip.memory.sdram.ctypes.data)
        for base in (layout.SYSRAM_BASE, layout.SYSRAM_UNBUFFERED):
            engine.map_memory(base, layout.SYSRAM_SIZE, chip.memory.sysram.ctypes.data)
        memory.ports = np.zeros(len(bus.WIRING), bus.PORT)
        for port, (device, addresses, size) in zip(memory.ports, bus.WIRING, strict=True):
            port["core"], port["device"] = core_address, device
            address = memory.ports.ctypes.data + bus.WIRING.index((device, addresses, size)) * bus.PORT.itemsize
            engine.map_registers(addresses, size, bus.on_read.address, bus.on_write.address, address)

    def stop(self, chip: Chip, core: int) -> None:
        """End what runs on a core; it is idle afterwards."""
        self._close(self.index(chip, core))
        chip.set_state(core, CoreState.IDLE)

    def _close(self, index: int) -> None:
        memory = self._core_memory.pop(index, None)
        self._cores[index]["engine"] = 0
        if memory is not None and memory.engine is not None:
            memory.engine.close()
        active = [i for i in self.active() if i != index]
        self.board["active"][: len(active)] = active
        self.board["n_active"] = len(active)

    def _activate(self, index: int) -> None:
        active = sorted({*self.active(), index})
        self.board["active"][: len(active)] = active
        self.board["n_active"] = len(active)

    def active(self) -> list[int]:
        """The records of the cores that run an application."""
        return [int(i) for i in self.board["active"][: int(self.board["n_active"])]]

    def interrupt(self, chip: Chip, core: int) -> None:
        """Raise the monitor's interrupt on a core."""
        if self.runs(chip, core):
            raise_line_at(self._record_address(self.index(chip, core)), Interrupt.CPU)

    # ------------------------------------------------------------------------------------------------ time

    def advance(self, horizon: int = NEVER - 1, budget: int = 1 << 40) -> Outcome:
        """Let the machine run to the horizon (cycles), for about ``budget`` turns, or until the monitor is needed."""
        with self._watchdog:
            return Outcome(int(advance(self._address, horizon, budget)))

    @property
    def now(self) -> int:
        """Virtual time, in cycles since boot."""
        return int(self.board["now"])

    def take_messages(self) -> Iterator[tuple[Chip, int, bytes]]:
        """The messages that cores have sent, each with its chip and core."""
        count = int(self.board["outbox_count"])
        for i in range(count):
            at = i * (len(self.board["outbox"]) // len(self.board["outbox_chip"]))
            data = self.board["outbox"][at : at + layout.SDP_MESSAGE_SIZE].tobytes()
            chip = self.chips[self.geometry.chips[int(self.board["outbox_chip"][i])]]
            yield chip, int(self.board["outbox_core"][i]), data
        self.board["outbox_count"] = 0

    def take_changes(self) -> list[tuple[Chip, int]]:
        """The cores whose state has changed."""
        count = int(self.board["change_count"])
        changed = [self.core_of(int(index)) for index in self.board["changes"][:count]]
        self.board["change_count"] = 0
        return changed

    def statistics(self) -> dict[str, int | float]:
        """Counts since boot."""
        names = ("packets", "delivered", "dropped", "injected_drops", "ring_lost", "outbox_lost", "digest", "slices")
        counts: dict[str, int | float] = {name: int(self.board[name]) for name in names}
        return {
            **counts,
            "board_ms": self.now / layout.CYCLES_PER_MS,
            "active_cores": len(self.active()),
            "instructions": int(self._cores["instructions"].sum()),
        }

    def preempt(self) -> None:
        """Interrupt the core that runs now, if one does; it goes on after the others. Called by the watchdog."""
        current = int(self.board["current"])
        memory = self._core_memory.get(current)
        if memory is not None and memory.engine is not None:
            self.board["preempt"] = 1
            memory.engine.interrupt()


class _Watchdog:
    """A thread that looks whether one core has been running for long, while the machine runs."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._running = False
        self._lock = threading.Lock()  # while it is held, no emulator is closed
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="core-watchdog", daemon=True)
        self._thread.start()

    def __enter__(self) -> None:
        self._running = True

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._running = False

    def _watch(self) -> None:
        seen = -1
        while not self._closed.wait(PREEMPT_AFTER):
            slices = int(self._machine.board["slices"])
            with self._lock:
                if self._running and slices == seen:
                    self._machine.preempt()
            seen = slices if self._running else -1

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

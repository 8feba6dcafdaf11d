"""Programs that fail, that never end, that are no programs: the core reports or dies, and the others go on."""

import random
import struct

import pytest
from spikeloop.tests.virtual_board.arm import (
    ALWAYS,
    FROM_INTERRUPT,
    MAIN,
    NOT_EQUAL,
    UNDEFINED,
    Program,
    log_of,
    run,
    start,
)
from spikeloop.virtual_board import machine as machine_module
from spikeloop.virtual_board.aplx import EXECUTE, RELATIVE_COPY
from spikeloop.virtual_board.geometry import geometry
from spikeloop.virtual_board.layout import APPLICATION_IMAGE, CYCLES_PER_MS, DTCM_BASE, SDRAM_BASE, Interrupt
from spikeloop.virtual_board.machine import Machine
from spikeloop.virtual_board.scheduler import MOST_PREEMPTIONS, Outcome
from spikeloop.virtual_board.state import DEAD, NEVER

TIMER, VIC = 0x11000000, 0x1F000000
PC_TO_REGISTER, LINK = 15, 14


@pytest.fixture
def machine(monkeypatch):
    monkeypatch.setattr(machine_module, "PREEMPT_AFTER", 0.01)  # not a quarter of a second: these tests wait for it
    machine = Machine(geometry(version=3))
    machine.boot()
    yield machine
    machine.close()


def advance(machine, horizon=NEVER - 1):
    """`Machine.advance`, past everything that is for the monitor."""
    outcome = Outcome.MESSAGES
    while outcome is Outcome.MESSAGES:
        list(machine.take_messages())
        machine.take_changes()
        outcome = machine.advance(horizon)
    return outcome


def ticking(log_number=0):
    """A program that logs its timer's ticks, one each millisecond."""
    program = Program(log_number).load_label(2, "tick").load(3, VIC + 0x100).store(2, 3)
    program.poke(VIC + 0x200, 0x20 | Interrupt.TIMER1).poke(VIC + 0x10, 1 << Interrupt.TIMER1)
    program.poke(TIMER, CYCLES_PER_MS).poke(TIMER + 8, 0xE0).sleep()
    return program.interrupt_handler("tick", 7, {TIMER + 0x0C: 0, VIC + 0x30: 0})


def reporting(program):
    """The program with handlers that log which exception it was and, of the link register, where."""
    for number, name in enumerate(("undefined", "svc", "prefetch", "abort"), 1):
        program.label(name).log(number).log_register(LINK).jump("sleep", ALWAYS)
    return program


def jump_to(program, address):
    return program.load(PC_TO_REGISTER - 3, address).put(0xE12FFF1C)  # bx r12


def fault(name, program):
    place = program.here
    if name == "undefined":
        program.put(UNDEFINED)
        return 1, place + 4
    if name == "svc":
        program.put(0xEF000000)
        return 2, place + 4
    if name == "prefetch":
        jump_to(program, 0x50000000)
        return 3, 0x50000004
    if name == "prefetch in data":
        jump_to(program, DTCM_BASE)
        return 3, DTCM_BASE + 4
    program.load(1, 0x50000000)
    place = program.here
    if name == "load":
        program.fetch(0, 1)
    else:
        program.store(0, 1)
    return 4, place + 8


@pytest.mark.parametrize("name", ["undefined", "svc", "prefetch", "prefetch in data", "load", "store"])
def test_the_firmware_hears_of_its_faults(machine, name):
    program = Program()
    number, link = fault(name, program)
    chip = start(machine, reporting(program.log(99).sleep()))
    run(machine)
    assert log_of(chip) == [number, link]
    assert machine.record(machine.index(chip, 1))["fault_pc"] in (link, link - 4, link - 8)


def test_a_core_whose_handlers_fault_dies_and_is_told_of(machine):
    program = Program().poke(TIMER, CYCLES_PER_MS).poke(TIMER + 8, 0xE0).put(UNDEFINED)
    for name in ("undefined", "prefetch", "abort"):
        program.label(name).put(UNDEFINED)
    chip = start(machine, program)
    other = start(machine, ticking(1), at=(1, 1), core=9)
    assert advance(machine, 5 * CYCLES_PER_MS) is Outcome.HORIZON
    assert machine.record(machine.index(chip, 1))["run"] == DEAD
    assert log_of(other, 1) == [7] * 5
    machine.stop(chip, 1)
    start(machine, Program().log(3).sleep())  # the core can be used again
    run(machine)
    assert log_of(chip) == [3]


def test_a_dead_core_with_a_running_timer_does_not_stop_the_board(machine):
    program = Program().poke(TIMER, CYCLES_PER_MS).poke(TIMER + 8, 0xE0).label("undefined").put(UNDEFINED)
    start(machine, program)
    run(machine)
    assert advance(machine) is Outcome.IDLE  # to the end of time: nothing will happen


@pytest.mark.parametrize("entry", [0x7FF8, 0x8000, 0x00400000, SDRAM_BASE, 0xE5000000, 0xFFFFFFFC, 0x10000008, 2, 3])
def test_binaries_that_start_nowhere(machine, entry):
    chip = machine.chips[0, 0]
    code = struct.pack("<8I", *[UNDEFINED] * 8)
    chip.memory.write(APPLICATION_IMAGE, struct.pack("<8I", RELATIVE_COPY, 0, 32, 32, EXECUTE, entry, 0, 0) + code)
    machine.start(chip, 1, 30, 0)
    other = start(machine, ticking(), core=2)
    run(machine, 3)
    assert log_of(other) == [7] * 3


def test_an_endless_loop_does_not_stop_the_others(machine):
    chip = start(machine, Program().log(1).label("loop").jump("loop"))
    other = start(machine, ticking(1), core=2)
    outcomes = [advance(machine, 3 * CYCLES_PER_MS) for _ in range(MOST_PREEMPTIONS + 20)]
    assert Outcome.BUDGET in outcomes
    assert outcomes[-1] is Outcome.HORIZON
    assert log_of(chip) == [1]
    assert log_of(other, 1) == [7] * 3


def test_while_a_core_computes_for_long_no_time_passes(machine):
    program = Program().load(2, 10_000_000).label("loop").put(0xE2522001).jump("loop", NOT_EQUAL).log(5).sleep()
    chip = start(machine, program)
    start(machine, ticking(1), core=2)
    outcomes = []
    while advance(machine, 2 * CYCLES_PER_MS) is Outcome.BUDGET:
        outcomes.append(machine.now)
    assert outcomes
    assert set(outcomes) == {0}
    assert log_of(chip) == [5]
    assert log_of(chip, 1) == [7, 7]


def test_a_loop_can_be_interrupted_where_it_is_unmasked_only(machine):
    masked = Program().label("loop").jump("loop")
    chip = start(machine, masked)
    open_to_all = (
        Program(1).load_label(2, "call").load(3, VIC + 0x100).store(2, 3).poke(VIC + 0x200, 0x20 | Interrupt.CPU)
    )
    open_to_all.poke(VIC + 0x10, 1 << Interrupt.CPU).status(0x1F).label("loop").jump("loop")
    open_to_all.label("call").log(4).poke(0xF200000C, 0x3FFFE).poke(VIC + 0x30, 0).put(FROM_INTERRUPT)
    start(machine, open_to_all, core=2)
    for _ in range(4):
        advance(machine, 0)
    for core in (1, 2):
        machine.interrupt(chip, core)
    for _ in range(4):
        advance(machine, 0)
    assert log_of(chip, 1) == [4]
    assert machine.record(machine.index(chip, 1))["pc"] >= MAIN


def test_the_loop_can_be_stopped(machine):
    chip = start(machine, Program().label("loop").jump("loop"))
    for _ in range(3):
        assert advance(machine) is Outcome.BUDGET
    machine.stop(chip, 1)
    assert advance(machine) is Outcome.IDLE
    assert chip.state(1) == 15


def test_a_loop_of_branches_between_modes_and_memories(machine):
    """Thumb code that never ends, from an odd address."""
    program = Program().put(0xE28F0001, 0xE12FFF10, 0xE7FEE7FE)  # add r0, pc, #1; bx r0; b . in Thumb, twice
    chip = start(machine, program)
    assert advance(machine) is Outcome.BUDGET
    assert machine.record(machine.index(chip, 1))["cpsr"] & 0x20
    machine.stop(chip, 1)


def test_noise_as_firmware(machine):
    """Whatever the instructions are, the board comes back and another core has its time."""
    source = random.Random(7)
    for _ in range(12):
        machine.boot()
        chip = machine.chips[0, 0]
        for core in range(1, 9):
            code = source.randbytes(2048) if core % 2 else b"".join(
                struct.pack("<I", 0xE0000000 | source.getrandbits(28)) for _ in range(512)
            )  # fmt: skip
            table = struct.pack("<8I", RELATIVE_COPY, 0, 32, len(code), EXECUTE, MAIN, 0, 0)
            chip.memory.write(APPLICATION_IMAGE, table + code)
            machine.start(chip, core, 30, 0)
        other = start(machine, ticking(), at=(1, 0))
        for _ in range(400):
            outcome = advance(machine, 2 * CYCLES_PER_MS)
            if outcome is Outcome.HORIZON:
                break
        assert log_of(other) == [7, 7]


def test_a_core_that_wakes_itself_for_ever_leaves_turns_to_the_others(machine):
    # r0 = VIC; r1 = 16; VIC.soft_set = r1, which ends sleep though it is not enabled; sleep; again
    code = (0xE3A0041F, 0xE3A01010, 0xE5801018, 0xEE070F90, 0xEAFFFFFC)
    image = struct.pack("<12I", RELATIVE_COPY, 0, 48, 128, EXECUTE, *[0] * 7) + struct.pack("<5I", *code)
    chip = machine.chips[0, 0]
    chip.memory.write(APPLICATION_IMAGE, image.ljust(512, b"\0"))
    machine.start(chip, 1, 17, 0)
    for turns in (100, 200, 300):
        machine.take_changes()
        assert machine.advance(budget=100) is Outcome.BUDGET
        assert machine.statistics()["slices"] == turns

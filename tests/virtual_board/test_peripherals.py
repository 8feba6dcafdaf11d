"""The peripherals as firmware sees them: small programs run on the cores, and log what they find.

Register maps: SpiNNaker data sheet v2.02, sections 5 (interrupt controller), 6 (timers), 7 (DMA), 8 (communications
controller), 10 (router), 14 (system controller).
"""

import pytest
from spikeloop.tests.virtual_board.arm import (
    EQUAL,
    FROM_INTERRUPT,
    NOT_EQUAL,
    SYSTEM_MODE,
    WFI,
    Program,
    log_of,
    run,
    start,
)
from spikeloop.virtual_board.geometry import geometry
from spikeloop.virtual_board.layout import CYCLES_PER_MS, DTCM_BASE, SDRAM_BASE, SYSRAM_BASE, Interrupt
from spikeloop.virtual_board.machine import Machine

TIMER, SECOND = 0x11000000, 0x11000020
LOAD, COUNT, CONTROL, CLEAR, RAW, MASKED, BACKGROUND = range(0, 0x1C, 4)
PERIODIC, FREE, ONE_SHOT, NO_INTERRUPT = 0xE0, 0xA0, 0xA1, 0xC0
VIC = 0x1F000000
IRQ_STATUS, FIQ_STATUS, RAW_STATUS, SELECT, ENABLE, DISABLE, SOFT_SET, SOFT_CLEAR = range(0, 0x20, 4)
VECTOR_DONE, DEFAULT, VECTORS, CONTROLS = 0x30, 0x34, 0x100, 0x200
DMA = 0x30000000
SYSTEM, TCM, DESCRIPTOR, DMA_CONTROL, DMA_STATUS, DMA_GLOBAL = range(4, 0x1C, 4)
SYSTEM_CONTROLLER = 0xF2000000
DONE_ENABLED = 1 << 10
TO_SYSTEM = 1 << 19


@pytest.fixture(scope="module")
def shared_machine():
    machine = Machine(geometry(version=3))
    yield machine
    machine.close()


@pytest.fixture
def machine(shared_machine):
    shared_machine.boot()
    return shared_machine


def timer(program, load, control, base=TIMER):
    return program.poke(base + LOAD, load).poke(base + CONTROL, control)


def handle(program, source, name, slot):
    """Let an IRQ go to a label."""
    program.load_label(2, name).load(3, VIC + VECTORS + 4 * slot).store(2, 3)
    program.poke(VIC + CONTROLS + 4 * slot, 0x20 | source)
    return program.poke(VIC + ENABLE, 1 << source)


def done(clear=None):
    """What a handler writes at its end."""
    return {**(clear or {}), VIC + VECTOR_DONE: 0}


# Timers


def test_a_periodic_timer(machine):
    program = timer(handle(Program(), Interrupt.TIMER1, "tick", 0), 2 * CYCLES_PER_MS, PERIODIC)
    program.sleep().interrupt_handler("tick", 7, done({TIMER + CLEAR: 0}))
    chip = start(machine, program)
    run(machine, 1)
    assert log_of(chip) == []
    run(machine, 20)
    assert log_of(chip) == [7] * 10
    assert machine.now == 21 * CYCLES_PER_MS


def test_a_one_shot_timer(machine):
    program = timer(handle(Program(), Interrupt.TIMER2, "tick", 3), 100_000, ONE_SHOT, SECOND)
    program.sleep().interrupt_handler("tick", 8, done({SECOND + CLEAR: 0}))
    chip = start(machine, program)
    run(machine, 100)
    assert log_of(chip) == [8]


@pytest.mark.parametrize(("prescale", "factor"), [(0x0, 1), (0x4, 16), (0x8, 256)])
def test_prescalers(machine, prescale, factor):
    program = timer(handle(Program(), Interrupt.TIMER1, "tick", 0), CYCLES_PER_MS, PERIODIC | prescale)
    program.sleep().interrupt_handler("tick", 7, done({TIMER + CLEAR: 0}))
    chip = start(machine, program)
    run(machine, 600)
    assert len(log_of(chip)) == 600 // factor


def test_counts_go_down_and_reads_take_time(machine):
    program = timer(Program(), 1_000_000, 0x82, SECOND).peek(SECOND + COUNT).peek(SECOND + COUNT)
    program.peek(SECOND + LOAD).peek(SECOND + CONTROL).sleep()
    chip = start(machine, program)
    run(machine)
    first, second, load, control = log_of(chip)
    assert 1_000_000 >= first > second > 999_000
    assert (load, control) == (1_000_000, 0x82)


def test_a_stopped_timer_keeps_its_count(machine):
    program = Program().poke(TIMER + LOAD, 5000).peek(TIMER + COUNT).poke(TIMER + CONTROL, 0x80).peek(TIMER + COUNT)
    program.poke(TIMER + CONTROL, 0).peek(TIMER + COUNT).peek(TIMER + COUNT).sleep()
    chip = start(machine, program)
    run(machine)
    first, second, third, fourth = log_of(chip)
    assert first == 5000
    assert 4900 < third <= second <= 5000
    assert third == fourth


def test_the_background_load_counts_from_the_next_period(machine):
    program = timer(handle(Program(), Interrupt.TIMER1, "tick", 0), 10 * CYCLES_PER_MS, PERIODIC)
    program.poke(TIMER + BACKGROUND, CYCLES_PER_MS)
    program.sleep().interrupt_handler("tick", 7, done({TIMER + CLEAR: 0}))
    chip = start(machine, program)
    run(machine, 9)
    assert log_of(chip) == []
    run(machine, 6)
    assert log_of(chip) == [7] * 6


def test_timers_without_interrupts_cost_nothing_and_are_right_when_read(machine):
    program = timer(Program(), 1_000_000, NO_INTERRUPT)  # periodic: 5 ms
    program.peek(TIMER + RAW)
    handle(program, Interrupt.TIMER2, "tick", 0)
    timer(program, 12 * CYCLES_PER_MS, ONE_SHOT, SECOND).sleep()
    program.label("tick").peek(TIMER + COUNT).peek(TIMER + RAW).peek(TIMER + MASKED).poke(TIMER + CLEAR, 0)
    program.peek(TIMER + RAW).interrupt_handler("end", 1, done({SECOND + CLEAR: 0}))
    chip = start(machine, program)
    run(machine)
    assert log_of(chip) == [0]
    run(machine, 1000)
    before, count, raw, masked, cleared, end = log_of(chip)
    assert 0 <= 3 * CYCLES_PER_MS - count < 1000  # 12 ms are two periods and 2 ms
    assert (before, raw, masked, cleared, end) == (0, 1, 0, 0, 1)
    assert machine.advance().name == "IDLE"


def test_a_free_running_timer_without_interrupts_goes_on_by_itself(machine):
    chip = start(machine, timer(Program(), 1000, 0x82, SECOND).sleep())
    assert run(machine, 1000).name == "IDLE"
    assert machine.statistics()["slices"] == 1
    assert chip.state(1) == 15


def test_a_periodic_timer_of_length_zero_does_not_stop_the_board(machine):
    chip = start(machine, timer(Program().log(1), 0, PERIODIC).sleep())
    run(machine, 1, budget=10_000)
    assert log_of(chip) == [1]


def test_polling_the_second_timer_ends_when_it_does(machine):
    program = Program().poke(SECOND + LOAD, 3 * CYCLES_PER_MS).poke(SECOND + CONTROL, 0x83).label("poll")
    program.load(1, SECOND + COUNT).fetch(0, 1).put(0xE3500000).jump("poll", NOT_EQUAL).log(5).sleep()
    chip = start(machine, program)
    run(machine, 2)
    assert log_of(chip) == []
    run(machine, 2)
    assert log_of(chip) == [5]


def test_a_fast_timer_without_effect_is_left_to_sleep_until_something_comes(machine):
    """The extra monitor's, every 10 us: otherwise an idle board would be busy."""
    program = timer(handle(Program(), Interrupt.TIMER1, "tick", 0), 2000, PERIODIC)
    handle(program, Interrupt.CPU, "call", 1)
    program.sleep().label("tick").poke(TIMER + CLEAR, 0).poke(VIC + VECTOR_DONE, 0).put(FROM_INTERRUPT)
    program.interrupt_handler("call", 9, done({SYSTEM_CONTROLLER + 0x0C: 1 << 1}))
    chip = start(machine, program)
    machine.record(machine.index(chip, 1))["may_doze"] = 1  # as the monitor does, who knows it by its name
    run(machine, 1000)
    before = machine.statistics()["slices"]
    assert before < 200
    machine.interrupt(chip, 1)
    run(machine, 10)
    assert log_of(chip) == [9]
    assert before + 50 < machine.statistics()["slices"] < before + 200


# The interrupt controller


def test_the_lowest_slot_is_served_first(machine):
    program = handle(Program(), Interrupt.TIMER1, "low", 5)
    handle(program, Interrupt.SOFTWARE, "high", 2)
    timer(program, CYCLES_PER_MS, ONE_SHOT)
    handle(timer(program, CYCLES_PER_MS, ONE_SHOT, SECOND), Interrupt.TIMER2, "middle", 3)
    program.sleep().interrupt_handler("low", 5, done({TIMER + CLEAR: 0}))
    program.interrupt_handler("middle", 3, {VIC + SOFT_SET: 1 << Interrupt.SOFTWARE, **done({SECOND + CLEAR: 0})})
    program.interrupt_handler("high", 2, done({VIC + SOFT_CLEAR: 1 << Interrupt.SOFTWARE}))
    chip = start(machine, program)
    run(machine, 2)
    assert log_of(chip) == [3, 2, 5]


def test_nesting(machine):
    """A handler that sleeps in system mode is interrupted by a higher priority, not by a lower one."""
    program = handle(Program(), Interrupt.TIMER1, "outer", 4)
    handle(program, Interrupt.TIMER2, "inner", 1)
    handle(program, Interrupt.CPU, "lower", 9)
    timer(program, CYCLES_PER_MS, ONE_SHOT)
    timer(program, 3 * CYCLES_PER_MS, ONE_SHOT, SECOND).sleep()
    program.label("outer").put(0xE1A0500E).log(1).poke(TIMER + CLEAR, 0)  # mov r5, lr
    program.poke(SYSTEM_CONTROLLER + 0x08, 1 << 1)  # interrupts itself
    program.status(SYSTEM_MODE).load(6, 0).label("asleep").put(WFI, 0xE3560000).jump("asleep", EQUAL)  # until r6 is set
    program.status(0x92).log(2)
    program.poke(VIC + VECTOR_DONE, 0).put(0xE1A0E005, FROM_INTERRUPT)
    program.label("inner").load(6, 1).interrupt_handler("inner end", 10, done({SECOND + CLEAR: 0}))
    program.interrupt_handler("lower", 20, done({SYSTEM_CONTROLLER + 0x0C: 1 << 1}))
    chip = start(machine, program)
    run(machine, 2)
    assert log_of(chip) == [1]
    run(machine, 5)
    assert log_of(chip) == [1, 10, 2, 20]


def test_a_fast_interrupt(machine):
    program = Program().poke(VIC + SELECT, 1 << Interrupt.TIMER1).poke(VIC + ENABLE, 1 << Interrupt.TIMER1)
    timer(program, CYCLES_PER_MS, PERIODIC).sleep().label("fiq").peek(VIC + FIQ_STATUS).peek(VIC + IRQ_STATUS)
    program.interrupt_handler("end", 6, {TIMER + CLEAR: 0})
    chip = start(machine, program)
    run(machine, 2)
    assert log_of(chip) == [1 << Interrupt.TIMER1, 0, 6] * 2


def test_an_interrupt_goes_first_where_a_fast_one_waits_too(machine):
    program = Program().poke(VIC + SELECT, 1 << Interrupt.TIMER1).poke(VIC + ENABLE, 1 << Interrupt.TIMER1)
    handle(program, Interrupt.TIMER2, "slow", 0)
    timer(timer(program, CYCLES_PER_MS, ONE_SHOT), CYCLES_PER_MS, ONE_SHOT, SECOND).sleep()
    program.interrupt_handler("fiq", 1, {TIMER + CLEAR: 0})
    program.interrupt_handler("slow", 2, done({SECOND + CLEAR: 0}))
    chip = start(machine, program)
    run(machine, 2)
    assert log_of(chip) == [2, 1]


def test_disabled_and_unvectored_interrupts(machine):
    program = handle(Program(), Interrupt.TIMER1, "never", 0).poke(VIC + DISABLE, 1 << Interrupt.TIMER1)
    program.load_label(2, "default").load(3, VIC + DEFAULT).store(2, 3).poke(VIC + ENABLE, 1 << Interrupt.TIMER2)
    timer(timer(program, 1000, ONE_SHOT), 2000, ONE_SHOT, SECOND).sleep().interrupt_handler("never", 1, done())
    program.label("default").load(1, VIC + RAW_STATUS).fetch(0, 1)
    program.put(0xE2000030).log_register(0).interrupt_handler("end", 2, done({SECOND + CLEAR: 0}))
    chip = start(machine, program)
    run(machine, 2)
    assert log_of(chip) == [1 << Interrupt.TIMER1 | 1 << Interrupt.TIMER2, 2]


def test_what_the_controller_reads_back(machine):
    program = Program().poke(VIC + ENABLE, 0xF0).poke(VIC + DISABLE, 0x30).peek(VIC + ENABLE)
    program.poke(VIC + SELECT, 0x40).peek(VIC + SELECT).poke(VIC + DEFAULT, 0x1234).peek(VIC + DEFAULT)
    program.poke(VIC + VECTORS + 60, 77).peek(VIC + VECTORS + 60).poke(VIC + CONTROLS + 60, 0x3F)
    program.peek(VIC + CONTROLS + 60).peek(0xFFFFF000 + CONTROLS + 60).peek(VIC + 0x300).sleep()
    chip = start(machine, program)
    run(machine)
    assert log_of(chip) == [0xC0, 0x40, 0x1234, 77, 0x3F, 0x3F, 0]


# DMA


@pytest.mark.parametrize("base", [SDRAM_BASE + 0x1000000, 0x71000000, SYSRAM_BASE + 0x2000, 0xF5002000])
def test_dma_both_ways(machine, base):
    chip = machine.chips[0, 0]
    chip.memory.write(base, b"to the core!")
    program = Program().poke(DMA + SYSTEM, base).poke(DMA + TCM, DTCM_BASE + 16).poke(DMA + DESCRIPTOR, 12)
    program.peek(DTCM_BASE + 24).poke(DTCM_BASE + 20, 0x11223344)
    program.poke(DMA + SYSTEM, base + 64).poke(DMA + DESCRIPTOR, TO_SYSTEM | 12)
    program.peek(DMA + SYSTEM).peek(DMA + TCM).peek(DMA + DESCRIPTOR).sleep()
    start(machine, program)
    run(machine)
    assert log_of(chip) == [int.from_bytes(b"ore!", "little"), base + 64, DTCM_BASE + 16, TO_SYSTEM | 12]
    assert chip.memory.read(base + 64, 12) == b"to t\x44\x33\x22\x11ore!"
    assert machine.record(machine.index(chip, 1))["dma_bytes"] == 24


def test_dma_interrupts_once_for_each_transfer(machine):
    program = handle(Program(), Interrupt.DMA_DONE, "done", 0).poke(DMA + DMA_GLOBAL, DONE_ENABLED)
    program.poke(DMA + SYSTEM, SDRAM_BASE).poke(DMA + TCM, 0x4000)
    program.poke(DMA + DESCRIPTOR, 32).poke(DMA + DESCRIPTOR, 32).peek(DMA + DMA_STATUS).sleep()
    program.interrupt_handler("done", 3, done({DMA + DMA_CONTROL: 0x08}))
    chip = start(machine, program, core=5)
    run(machine)
    status, *handled = log_of(chip)
    assert status >> 24 == chip.physical_of[5]
    assert status & DONE_ENABLED
    assert handled == [3, 3]


def test_dma_without_interrupts_is_seen_in_the_status(machine):
    program = Program().peek(DMA + DMA_STATUS).poke(DMA + SYSTEM, SDRAM_BASE).poke(DMA + TCM, DTCM_BASE)
    program.poke(DMA + DESCRIPTOR, 4).peek(DMA + DMA_STATUS).poke(DMA + DMA_CONTROL, 0x08).peek(DMA + DMA_STATUS)
    chip = start(machine, program.sleep())
    run(machine)
    assert [word & DONE_ENABLED for word in log_of(chip)] == [0, DONE_ENABLED, 0]


@pytest.mark.parametrize(
    ("system", "tcm", "length"),
    [
        (0x50000000, DTCM_BASE, 32),
        (SDRAM_BASE + (128 << 20) - 16, DTCM_BASE, 32),
        (SYSRAM_BASE + 0x7FF0, DTCM_BASE, 32),
        (SDRAM_BASE, DTCM_BASE + 0xFFF0, 32),
        (SDRAM_BASE, 0x7FF0, 32),
        (SDRAM_BASE, SDRAM_BASE + 4096, 32),
        (SDRAM_BASE, DTCM_BASE, 0x1FFFF),
        (0xFFFFFFF0, DTCM_BASE, 32),
        (SDRAM_BASE, 0xFFFFFFF0, 32),
    ],
)
@pytest.mark.parametrize("direction", [0, TO_SYSTEM])
def test_dma_to_nowhere_is_an_error_and_moves_nothing(machine, system, tcm, length, direction):
    program = handle(Program(), Interrupt.DMA_ERROR, "error", 0).poke(DMA + SYSTEM, system).poke(DMA + TCM, tcm)
    program.poke(DMA + DESCRIPTOR, direction | length).sleep()
    program.interrupt_handler("error", 4, done({DMA + DMA_CONTROL: 0x04}))
    chip = start(machine, program)
    run(machine)
    assert log_of(chip) == [4]
    assert machine.record(machine.index(chip, 1))["dma_bytes"] == 0


# The system controller


def test_the_flags_of_a_chip_are_shared(machine):
    program = Program().poke(SYSTEM_CONTROLLER + 0x58, 0b1110).poke(SYSTEM_CONTROLLER + 0x5C, 0b0100)
    program.peek(SYSTEM_CONTROLLER + 0x58).peek(0xE200005C).peek(SYSTEM_CONTROLLER).peek(SYSTEM_CONTROLLER + 0x100)
    chip = start(machine, program.sleep())
    other = start(machine, Program(1).peek(SYSTEM_CONTROLLER + 0x58).sleep(), core=2)
    elsewhere = start(machine, Program().peek(SYSTEM_CONTROLLER + 0x58).sleep(), at=(1, 0))
    run(machine)
    assert log_of(chip) == [0b1010, 0b1010, 0x59111012, 0]
    assert log_of(other, 1) == [0b1010]
    assert log_of(elsewhere) == [0]


def test_cores_interrupt_each_other(machine):
    first, second = Program(), Program(1)
    for program, other, number in ((first, 7, 1), (second, 3, 2)):
        handle(program, Interrupt.CPU, "call", 0)
        if number == 1:
            program.poke(SYSTEM_CONTROLLER + 0x08, 1 << other)
        program.sleep().label("call").poke(SYSTEM_CONTROLLER + 0x0C, 0x3FFFE)
        if number == 2:
            program.poke(SYSTEM_CONTROLLER + 0x08, 1 << other)
        program.interrupt_handler("end", number, done())
    chip = start(machine, second, core=7)
    start(machine, first, core=3)
    run(machine)
    assert (log_of(chip), log_of(chip, 1)) == ([1], [2])


def test_an_interrupt_to_a_core_that_does_not_run_is_lost(machine):
    chip = start(machine, Program().poke(SYSTEM_CONTROLLER + 0x08, 0xFFFFFFFE).log(1).sleep())
    run(machine)
    assert log_of(chip) == [1]

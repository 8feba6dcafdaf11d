"""Packets: sent and received by small programs, through routers with and without entries, past links that are cut."""

import pytest
from spikeloop.tests.virtual_board.arm import FROM_INTERRUPT, NOT_EQUAL, Program, log_of, run, start
from spikeloop.virtual_board import Faults
from spikeloop.virtual_board.geometry import geometry
from spikeloop.virtual_board.layout import N_LINKS, Interrupt
from spikeloop.virtual_board.machine import Machine

CC = 0x10000000
TX_CONTROL, TX_DATA, TX_KEY, RX_STATUS, RX_DATA, RX_KEY, SOURCE = range(0, 0x1C, 4)
VIC = 0x1F000000
ROUTER = 0xF1000000
CONTROL, DUMP_HEADER, DUMP_KEY, DUMP_DATA, DUMP_OUTPUTS, DUMP_STATUS = 0x00, 0x18, 0x1C, 0x20, 0x24, 0x28
KEY, PAYLOAD = 0x1234, 0xABCDEF01
ALL_BITS = 0xFFFFFFFF
EAST, NORTH = 0, 2
FIXED_ROUTE = 0xC0 << 16


@pytest.fixture
def make_machine():
    machines = []

    def make(faults=None):
        machines.append(Machine(geometry(version=3), faults))
        machines[-1].boot()
        return machines[-1]

    yield make
    for machine in machines:
        machine.close()


@pytest.fixture
def machine(make_machine):
    return make_machine()


def receiver(log_number=0, source=Interrupt.CC_MULTICAST):
    """A core that logs key and payload of all it receives, in fast interrupts as SARK does."""
    program = Program(log_number).poke(VIC + 0x0C, 1 << source).poke(VIC + 0x10, 1 << source).sleep()
    program.label("fiq").peek(CC + RX_STATUS).peek(CC + RX_DATA).peek(CC + RX_KEY)
    return program.put(FROM_INTERRUPT)


def sender(*keys, control=0, payload=None):
    program = Program(1).poke(CC + TX_CONTROL, control)
    for key in keys:
        if payload is not None:
            program.poke(CC + TX_DATA, payload)
        program.poke(CC + TX_KEY, key)
    return program.peek(CC + TX_CONTROL).sleep()


def route(machine, at, cores=(), links=(), key=KEY, mask=ALL_BITS, entry=1):
    word = sum(1 << N_LINKS + core for core in cores) | sum(1 << link for link in links)
    machine.chips[at].set_route(entry, key, mask, word, 30)


def received(chip):
    words = log_of(chip)
    return [(words[i + 2], words[i + 1], words[i]) for i in range(0, len(words), 3)]


def test_a_packet_to_a_core_of_the_same_chip(machine):
    route(machine, (0, 0), cores=[4])
    chip = start(machine, receiver(), core=4)
    start(machine, sender(KEY), core=2)
    run(machine)
    assert received(chip) == [(KEY, 0, 1 << 31)]
    ready = log_of(chip, 1)[0]
    assert ready >> 28 == 0x9  # empty and not full: what spin1_api waits for


def test_a_payload_travels_with_its_key(machine):
    route(machine, (0, 0), cores=[4])
    chip = start(machine, receiver(), core=4)
    start(machine, sender(KEY, KEY, payload=PAYLOAD), core=2)
    run(machine)
    assert received(chip) == [(KEY, PAYLOAD, 1 << 31 | 0x02 << 16)] * 2


def test_packets_arrive_in_the_order_they_were_sent(machine):
    route(machine, (0, 0), cores=[4], mask=0xFFFF0000, key=0)
    chip = start(machine, receiver(), core=4)
    start(machine, sender(5, 3, 9, 1), core=2)
    run(machine)
    assert [key for key, _, _ in received(chip)] == [5, 3, 9, 1]


def test_default_routing_goes_straight_on(machine):
    """From (0, 0) north to (0, 1) there is no entry: the packet goes on north, and is back at (0, 0)."""
    route(machine, (0, 0), links=[NORTH], entry=1)
    route(machine, (1, 1), cores=[3])
    route(machine, (0, 0), links=[EAST], key=KEY + 1, entry=2)
    start(machine, sender(KEY + 1), core=1)
    far = start(machine, receiver(), at=(1, 0), core=3)
    run(machine)
    assert received(far) == []  # (1, 0) has no link 0 to go on by
    assert machine.statistics()["dropped"] == 1
    assert machine.chips[1, 0].record["dump_key"] == KEY + 1


def test_default_routing_between_chips(make_machine):
    machine = Machine(geometry(version=5))
    machine.boot()
    try:
        route(machine, (0, 0), links=[1])
        route(machine, (7, 7), cores=[17])
        chip = start(machine, receiver(), at=(7, 7), core=17)
        start(machine, sender(KEY), at=(0, 0), core=1)
        run(machine)
        assert received(chip) == [(KEY, 0, 1 << 31)]
        assert machine.statistics()["dropped"] == 0
    finally:
        machine.close()


def test_the_first_matching_entry_counts(machine):
    route(machine, (0, 0), cores=[4], entry=10)
    route(machine, (0, 0), cores=[5], mask=0, key=0, entry=11)
    chip = start(machine, receiver(), core=4)
    start(machine, receiver(2), core=5)
    start(machine, sender(KEY, KEY + 1), core=2)
    run(machine)
    assert [key for key, _, _ in received(chip)] == [KEY]
    assert log_of(chip, 2)[2] == KEY + 1


def test_a_packet_to_many(machine):
    for at in machine.chips:
        route(machine, at, cores=[6], links=[EAST, NORTH] if at == (0, 0) else [])
        start(machine, receiver(), at=at, core=6)
    start(machine, sender(KEY), core=2)
    run(machine)
    assert [len(received(chip)) for chip in machine.chips.values()] == [1, 1, 1, 0]
    assert machine.statistics()["delivered"] == 3


def test_a_packet_that_nobody_wants(machine):
    chip = start(machine, sender(KEY), core=2)
    run(machine)
    assert machine.statistics()["dropped"] == 1
    assert not chip.record["dump_status"]  # it goes to the monitor, which forgets it


def test_circles_end(machine):
    for at in machine.chips:
        route(machine, at, links=[NORTH, 1] if at[0] == 0 else [NORTH])
    start(machine, sender(KEY), core=2)
    run(machine, budget=100_000)
    assert machine.statistics()["dropped"] + machine.statistics()["ring_lost"] > 0
    assert machine.statistics()["packets"] == 1


def test_a_cut_link_drops_and_dumps(make_machine):
    machine = make_machine(Faults(dead_links=((0, 0, EAST),)))
    route(machine, (0, 0), links=[EAST], cores=[4])
    chip = start(machine, receiver(), core=4)
    start(machine, sender(KEY, KEY, payload=PAYLOAD), core=2)
    run(machine)
    assert len(received(chip)) == 2  # the part for a core arrives
    assert machine.statistics()["dropped"] == 2
    read = chip.memory.word
    assert (read(ROUTER + DUMP_KEY), read(ROUTER + DUMP_DATA)) == (KEY, PAYLOAD)
    assert read(ROUTER + DUMP_OUTPUTS) == 1 << EAST
    assert read(ROUTER + DUMP_HEADER) == 7 << 24 | 0x02 << 16
    assert read(ROUTER + DUMP_STATUS) == 1 << 31 | 1 << 30 | 1 << EAST  # another one was dropped too
    assert read(ROUTER + DUMP_STATUS) == 0  # read once


def test_reinjection(make_machine):
    """What the extra monitor does: take the packet from the dump registers, and send it again by another route."""
    machine = make_machine(Faults(dead_links=((0, 0, EAST),)))
    route(machine, (0, 0), links=[EAST])
    program = Program(2).poke(VIC + 0x200, 0x20 | Interrupt.ROUTER_DUMP).load_label(2, "dumped")
    program.load(3, VIC + 0x100).store(2, 3).poke(VIC + 0x10, 1 << Interrupt.ROUTER_DUMP)
    program.poke(ROUTER + CONTROL, 0x4).sleep().label("dumped").load(1, ROUTER + DUMP_DATA).fetch(5, 1)
    program.peek(ROUTER + DUMP_KEY).peek(ROUTER + DUMP_STATUS).load(1, CC + TX_DATA).store(5, 1)
    program.poke(CC + TX_KEY, KEY + 7).poke(VIC + 0x30, 0).put(FROM_INTERRUPT)
    route(machine, (0, 0), cores=[4], key=KEY + 7, entry=2)
    start(machine, program, core=8)
    chip = start(machine, receiver(), core=4)
    start(machine, sender(KEY, KEY, KEY, payload=PAYLOAD), core=2)
    run(machine)
    assert log_of(chip, 2) == [KEY, 1 << 31 | 1 << EAST] * 3  # none was overwritten: delivery waits for the monitor
    assert [(key, data) for key, data, _ in received(chip)] == [(KEY + 7, PAYLOAD)] * 3


def test_fixed_routes(machine):
    machine.chips[0, 0].record["fixed_route"] = 1 << N_LINKS + 4
    chip = start(machine, receiver(source=Interrupt.CC_FIXED_ROUTE), core=4)
    start(machine, sender(KEY, control=FIXED_ROUTE, payload=PAYLOAD), core=2)
    run(machine)
    assert received(chip) == [(KEY, PAYLOAD, 1 << 31 | 0xC2 << 16)]


def test_a_loop_that_reads_until_nothing_is_left(machine):
    """As spin1_api does: one interrupt, several packets."""
    route(machine, (0, 0), cores=[4])
    program = Program().poke(VIC + 0x0C, 1 << Interrupt.CC_MULTICAST).poke(VIC + 0x10, 1 << Interrupt.CC_MULTICAST)
    program.sleep().label("fiq").log(0xF1).label("next").peek(CC + RX_KEY).load(1, CC + RX_STATUS).fetch(0, 1)
    program.put(0xE3500000).jump("next", NOT_EQUAL).put(FROM_INTERRUPT)
    chip = start(machine, program, core=4)
    start(machine, sender(KEY, KEY, KEY), core=2)
    run(machine)
    assert log_of(chip) == [0xF1, KEY, KEY, KEY]


def test_a_core_that_takes_nothing_loses_what_is_too_much(machine):
    route(machine, (0, 0), cores=[4])
    chip = start(machine, Program().sleep(), core=4)
    program = Program(1).load(2, 5000).load(1, CC + TX_KEY).load(0, KEY).label("more").store(0, 1)
    start(machine, program.put(0xE2522001).jump("more", NOT_EQUAL).sleep(), core=2)  # subs r2, r2, #1
    run(machine)
    statistics = machine.statistics()
    assert (statistics["packets"], statistics["delivered"], statistics["dropped"]) == (5000, 4096, 904)
    assert chip.memory.word(ROUTER + DUMP_OUTPUTS) == 1 << N_LINKS + chip.physical_of[4]


def test_counters_count_what_their_filters_let_through(machine):
    chip = machine.chips[0, 0]
    route(machine, (0, 0), cores=[4], links=[EAST])
    start(machine, receiver(), core=4)
    chip.memory.write(ROUTER + 0x2C, b"\xff\xff\xff\xff")  # clear and enable all
    start(machine, sender(KEY, KEY), core=2)
    run(machine)
    counts = [chip.memory.word(ROUTER + 0x300 + 4 * i) for i in range(16)]
    assert counts[0] == 2  # local multicast
    assert sum(counts) == 2
    assert machine.chips[1, 0].memory.word(ROUTER + 0x304) == 2  # from elsewhere, and there is no link to go on by
    assert machine.chips[1, 0].memory.word(ROUTER + 0x320) == 2


def test_packets_are_dropped_by_a_seed(make_machine):
    def lost(seed):
        machine = make_machine(Faults(drop_packets=0.5, seed=seed))
        route(machine, (0, 0), cores=[4])
        start(machine, receiver(), core=4)
        start(machine, sender(*[KEY] * 60), core=2)
        run(machine)
        assert machine.statistics()["injected_drops"] == machine.statistics()["dropped"]
        return machine.statistics()["injected_drops"], log_of(machine.chips[0, 0])

    assert 10 < lost(1)[0] < 50
    assert lost(1) == lost(1)
    assert len({lost(seed)[0] for seed in range(6)}) > 1

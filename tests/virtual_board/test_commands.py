"""Every command of the monitor, asked and read with spinnman's own classes, and each refusal."""

import struct

import pytest
from spikeloop.tests.virtual_board import scp
from spikeloop.tests.virtual_board.arm import FROM_INTERRUPT, LOGS, Program
from spikeloop.virtual_board.geometry import geometry
from spikeloop.virtual_board.layout import APPLICATION_IMAGE, SDRAM_BASE, CoreState, Interrupt
from spikeloop.virtual_board.machine import Machine
from spikeloop.virtual_board.scamp.messages import Result
from spikeloop.virtual_board.scamp.monitor import Monitor
from spinnman.exceptions import SpinnmanUnexpectedResponseCodeException
from spinnman.messages.scp.enums import Signal
from spinnman.messages.scp.impl import (
    AppCopyRun,
    ApplicationRun,
    AppStop,
    CountState,
    DoSync,
    FillRequest,
    FixedRouteInit,
    FixedRouteRead,
    GetChipInfo,
    GetVersion,
    ReadLink,
    ReadMemory,
    RouterAlloc,
    RouterClear,
    RouterInit,
    SDRAMAlloc,
    SDRAMDeAlloc,
    SendSignal,
    WriteLink,
    WriteMemory,
)
from spinnman.model.enums import CPUState

HOST = ("127.0.0.1", 40000)
USER, IMAGE = SDRAM_BASE + 0x1000000, APPLICATION_IMAGE
APP = 30
TABLE = IMAGE
UNUSED = 0xFFFFFFFF
VIC = 0x1F000000


@pytest.fixture(scope="module")
def shared_monitor():
    monitor = Monitor(Machine(geometry(version=3)))
    yield monitor
    monitor.machine.close()


@pytest.fixture
def monitor(shared_monitor):
    shared_monitor.boot()
    return shared_monitor


@pytest.fixture
def ask(monitor):
    """Send a request of spinnman's, and have spinnman read the one answer."""

    def ask(request, sequence=7):
        (answer,) = monitor.receive(scp.datagram(request, sequence), HOST, (0, 0))
        assert (answer.ethernet, answer.to) == ((0, 0), HOST)
        assert scp.sequence(answer.data) == sequence
        return scp.read(request, answer.data)

    return ask


@pytest.fixture
def raw(monitor):
    """Send a request made by hand; returns the return code and what follows."""

    def raw(*arguments, **options):
        (answer,) = monitor.receive(scp.raw(*arguments, **options), HOST, (0, 0))
        assert scp.sequence(answer.data) == options.get("sequence", 1)
        return scp.code(answer.data), scp.body(answer.data)

    return raw


def load(ask, program, cores=(1,), at=(0, 0)):
    image = program.image()
    for start in range(0, len(image), 256):
        ask(WriteMemory((*at, 0), IMAGE + start, image[start : start + 256]))
    ask(ApplicationRun(APP, *at, list(cores)))
    return len(image)


def test_version(ask):
    for x in (0, 1):
        version = ask(GetVersion(x, 1, 0)).version_info
        assert (version.name, version.hardware, version.version_number) == ("SC&MP", "SpiNNaker", (4, 0, 0))
        assert (version.x, version.y, version.p) == (x, 1, 0)


def test_info(ask):
    info = ask(GetChipInfo(1, 0)).chip_info
    assert (info.x, info.y, info.n_cores, info.working_links) == (1, 0, 18, [2, 3, 4, 5])
    assert not info.is_ethernet_available
    assert (info.nearest_ethernet_x, info.nearest_ethernet_y) == (0, 0)
    assert info.parent_link in (3, 4)
    assert info.n_free_multicast_routing_entries == 1023
    assert 100 << 20 < info.largest_free_sdram_block < 128 << 20
    assert info.core_states == [CPUState.RUNNING] + [CPUState.IDLE] * 17
    assert ask(GetChipInfo(0, 0)).chip_info.is_ethernet_available


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 255, 256])
def test_memory(ask, size):
    data = bytes(i % 251 + 1 for i in range(size))
    ask(WriteMemory((1, 1, 0), USER + 1, data))
    response = ask(ReadMemory((1, 1, 0), USER, 256))
    assert response.data[response.offset : response.offset + 256] == (b"\0" + data).ljust(256, b"\0")[:256]


def test_fill(ask, monitor):
    ask(FillRequest(0, 1, USER, 0x04030201, 4096))
    memory = monitor.machine.chips[0, 1].memory
    assert memory.read(USER - 4, 4104) == bytes(4) + b"\1\2\3\4" * 1024 + bytes(4)


def test_the_neighbours_memory(ask, monitor):
    ask(WriteLink((0, 0, 0), 0, USER, b"next door"))
    assert monitor.machine.chips[1, 0].memory.read(USER, 9) == b"next door"
    response = ask(ReadLink((1, 1, 0), 5, USER, 9))
    assert response.data[response.offset : response.offset + 9] == b"next door"


def test_sdram(ask, monitor):
    heap = monitor.machine.chips[0, 0].sdram_heap
    before = heap.free_bytes, heap.largest
    first = ask(SDRAMAlloc(0, 0, APP, 1000, 5)).base_address
    assert ask(SDRAMAlloc(0, 0, APP, 1000, 5, retry_tag=True)).base_address == first
    with pytest.raises(Exception, match=r"SDRAM"):
        ask(SDRAMAlloc(0, 0, APP, 1000, 5, retry_tag=False))
    second = ask(SDRAMAlloc(0, 0, APP, 24)).base_address
    assert second >= first + 1000
    ask(SDRAMDeAlloc(0, 0, base_address=second))
    assert ask(SDRAMDeAlloc(0, 0, app_id=APP)).number_of_blocks_freed == 1
    assert (heap.free_bytes, heap.largest) == before


def test_the_other_questions_about_memory(raw, monitor):
    code, body = raw(28, APP << 8 | 0, 64, 9)
    (address,) = struct.unpack("<I", body)
    assert (code, raw(28, APP << 8 | 7, 9)[1]) == (scp.OK, body)
    heap = monitor.machine.chips[0, 0].sdram_heap
    assert raw(28, 6)[1] == struct.pack("<II", heap.free_bytes, heap.largest)
    assert raw(28, 1, address + 4)[0] == Result.ARGUMENT
    assert raw(28, 8)[0] == Result.ARGUMENT
    assert raw(28, 0, UNUSED)[1] == bytes(4)


def test_routes(ask, raw, monitor):
    chip = monitor.machine.chips[0, 1]
    base = ask(RouterAlloc(0, 1, APP, 3)).base_address
    assert base == 1
    table = scp.route_table([(0, 0x10, 0xFFFFFFF0, 1 << 6 + 4), (1, 0x20, 0xFFFFFFF0, 0x3F), (2, 0, 0, 1)])
    ask(WriteMemory((0, 1, 0), TABLE, table))
    ask(RouterInit(0, 1, 3, TABLE, base, APP))
    assert chip.record["keys"][1:4].tolist() == [0x10, 0x20, 0]
    assert chip.record["routes"][1:4].tolist() == [1 << 6 + chip.physical_of[4], 0x3F, 1]
    assert raw(28, APP << 8 | 4, 1, 1, chip=(0, 1))[0] == scp.OK  # free and clear
    assert chip.record["keys"][1:4].tolist() == [UNUSED] * 3
    assert ask(RouterAlloc(0, 1, APP, 1023)).base_address == 1
    assert ask(RouterAlloc(0, 1, APP, 1)).base_address == 0
    assert raw(28, APP << 8 | 5, 1, chip=(0, 1)) == (scp.OK, struct.pack("<I", 1))
    ask(RouterInit(0, 1, 3, TABLE, 1, APP))
    assert raw(29, 1 << 16 | 1, 2, chip=(0, 1))[0] == scp.OK  # one entry
    assert chip.record["keys"][1:4].tolist() == [0x10, UNUSED, 0]
    ask(RouterClear(0, 1))
    assert chip.record["keys"][1:4].tolist() == [UNUSED] * 3


def test_fixed_routes(ask, monitor):
    ask(FixedRouteInit(1, 0, 1 << 6 + 3 | 1 << 3, APP))
    route = ask(FixedRouteRead(1, 0, APP)).route
    assert (set(route.processor_ids), set(route.link_ids)) == ({3}, {3})
    chip = monitor.machine.chips[1, 0]
    assert chip.record["fixed_route"] == 1 << 6 + chip.physical_of[3] | 1 << 3


def test_an_application_from_start_to_stop(ask, monitor):
    chip = monitor.machine.chips[0, 0]
    size = load(ask, Program().log(5).sleep(), cores=[1, 2, 17])
    assert chip.memory.word(LOGS) == 5
    assert [core["core"] for core in monitor.running_cores()] == [1, 2, 17]
    assert ask(CountState(0, 0, APP, CPUState.INITIALISING)).count == 3
    ask(AppCopyRun(1, 0, 3, size, APP, [4], 0))
    assert monitor.machine.chips[1, 0].memory.word(LOGS) == 5
    assert ask(CountState(0, 0, APP, CPUState.INITIALISING)).count == 4
    assert ask(CountState(0, 0, APP + 1, CPUState.INITIALISING)).count == 0
    ask(SDRAMAlloc(1, 0, APP, 100, 1))
    ask(RouterAlloc(1, 0, APP, 10))
    ask(AppStop(APP))
    assert monitor.running_cores() == []
    assert ask(GetChipInfo(1, 0)).chip_info.core_states[4] == CPUState.IDLE
    assert ask(RouterAlloc(1, 0, APP, 1023)).base_address == 1  # what it held is free again
    assert ask(SDRAMAlloc(1, 0, APP, 100, 1)).base_address


def test_copies_are_checked(raw, ask):
    size = load(ask, Program().sleep(), cores=[])
    image = Program().sleep().image()
    total = sum(struct.unpack(f"<{size // 4}I", image)) & 0x1FFFFFFF
    assert raw(21, total << 3 | 3, size, APP << 24 | 2, chip=(1, 0))[0] == scp.OK
    assert raw(21, (total ^ 1) << 3 | 3, size, APP << 24 | 2, chip=(1, 0))[0] == Result.CHECKSUM
    assert raw(21, 3, size + 1, APP << 24 | 2, chip=(1, 0))[0] == Result.ARGUMENT
    assert raw(21, 3, 1 << 20, APP << 24 | 2, chip=(1, 0))[0] == Result.ARGUMENT
    assert raw(21, 0, size, APP << 24 | 2, chip=(1, 0))[0] == Result.ARGUMENT  # no neighbour there


def test_signals(ask, raw, monitor):
    chip = monitor.machine.chips[0, 0]
    load(ask, Program().sleep(), cores=[3])
    for signal, flags in ((Signal.SYNC1, 1 << 3), (Signal.SYNC0, 0), (Signal.SYNC1, 1 << 3)):
        ask(SendSignal(APP, signal))
        assert int(chip.record["flags"]) == flags
    ask(SendSignal(APP, Signal.USER_2))
    block = chip.block(3)
    assert (block[56], int.from_bytes(block[48:52], "little")) == (3, Signal.USER_2.value)
    assert raw(22, 1, 0)[0] == Result.ARGUMENT
    assert raw(22, 2, 2 << 16 | 0xFF << 8 | APP)[0] == scp.OK
    assert chip.state(3) == CoreState.IDLE
    assert raw(22, 2, 1 << 16 | 0xFF << 8 | 0)[0] == scp.OK
    assert chip.state(3) == CoreState.POWERED_DOWN


def test_what_only_looks_like_an_application(raw, ask, monitor):
    ask(FillRequest(0, 0, IMAGE, 0xFFFFFFFF, 4096))
    assert raw(19, APP << 24 | 1 << 4)[0] == scp.OK  # as the real monitor, which would start it
    assert monitor.running_cores() == []
    assert monitor.machine.chips[0, 0].state(4) == CoreState.IDLE
    assert raw(19, APP << 24 | 1)[0] == Result.ARGUMENT  # core 0 is the monitor's


@pytest.mark.parametrize("request_", [DoSync(True), DoSync(False)])
def test_synchronisation(ask, request_):
    assert ask(request_).scp_response_header.result.name == "RC_OK"


def test_lights_and_other_floods_change_nothing(raw):
    assert raw(25, 0b111) == (scp.OK, b"")
    assert raw(20, 6 << 24, 0) == (scp.OK, b"")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((1,), Result.COMMAND),
        ((23,), Result.COMMAND),
        ((65535,), Result.COMMAND),
        ((2, USER, 257), Result.ARGUMENT),
        ((2, 0, 4), Result.ARGUMENT),
        ((2, SDRAM_BASE + (128 << 20) - 3, 4), Result.ARGUMENT),
        ((2, UNUSED, 256), Result.ARGUMENT),
        ((3, USER, 5, 0, b"four"), Result.LENGTH),
        ((3, USER, 257, 0, bytes(256)), Result.ARGUMENT),
        ((3, 0x50000000, 4, 0, b"four"), Result.ARGUMENT),
        ((3, 0xE5000100, 4, 0, b"four"), Result.ARGUMENT),
        ((3, 0xF5007F10, 4, 0, b"four"), Result.ARGUMENT),
        ((3, 0xE5007000 + 46, 1, 0, b"4"), Result.ARGUMENT),
        ((3, 0xE5007000 + 124, 8, 0, bytes(8)), Result.ARGUMENT),
        ((3, 0x67900000, 4, 0, b"four"), Result.ARGUMENT),
        ((3, 0x77FFFFFC, 4, 0, b"four"), Result.ARGUMENT),
        ((5, USER, 0, 6), Result.ARGUMENT),
        ((5, USER + 1, 0, 4), Result.ARGUMENT),
        ((5, USER, 0, 0xFFFFFFFC), Result.ARGUMENT),
        ((5, 0x67000000, 0, 16 << 20), Result.ARGUMENT),
        ((17, USER, 4, 3), Result.ARGUMENT),
        ((17, USER, 4, 6), Result.ARGUMENT),
        ((17, USER, 4, UNUSED), Result.ARGUMENT),
        ((18, 0xE5000100, 4, 0, b"four"), Result.ARGUMENT),
        ((29, 4), Result.ARGUMENT),
        ((29, 2 << 16 | 1, 1023), Result.ARGUMENT),
        ((29, 1 << 16 | 2, 0x10), Result.ARGUMENT),
        ((29, 1 << 16 | 2, USER, 1024), Result.ARGUMENT),
    ],
)
def test_what_is_refused(raw, monitor, arguments, code):
    before = monitor.refused
    assert raw(*arguments) == (code, b"")
    assert monitor.refused == before + 1


def test_the_words_of_applications_may_be_written(ask, monitor):
    for core in (0, 17):
        ask(WriteMemory((0, 0, 0), 0xE5007000 + 128 * core + 112, bytes(range(1, 17))))
        assert monitor.machine.chips[0, 0].block(core)[112:] == bytes(range(1, 17))


def test_spinnman_raises_what_is_refused(ask):
    with pytest.raises(SpinnmanUnexpectedResponseCodeException, match="RC_ARG"):
        ask(ReadMemory((0, 0, 0), 0, 4))


def test_messages_to_where_nobody_is(raw):
    assert raw(0, chip=(2, 0))[0] == Result.ROUTE
    assert raw(0, chip=(254, 254))[0] == Result.ROUTE
    assert raw(0, core=18)[0] == Result.CPU
    assert raw(0, core=31)[0] == Result.CPU
    assert raw(0, port=1)[0] == Result.PORT
    assert raw(0, chip=(255, 255))[0] == scp.OK  # whoever is connected
    assert raw(0, core=5)[0] == scp.OK  # an idle core answers what SARK answers
    assert raw(31, core=5)[0] == Result.COMMAND


@pytest.mark.parametrize("size", [0, 1, 9, 283, 1000])
def test_datagrams_that_are_no_messages(monitor, size):
    before = monitor.refused
    assert monitor.receive(bytes(size), HOST, (0, 0)) == []
    assert monitor.refused == before + 1


@pytest.mark.parametrize("size", range(10, 26))
def test_commands_that_are_too_short(monitor, size):
    (answer,) = monitor.receive(scp.raw(0, sequence=0)[:size], HOST, (0, 0))
    assert scp.code(answer.data) == Result.LENGTH


def test_no_answer_where_none_is_expected(monitor):
    assert monitor.receive(scp.raw(0, flags=scp.NO_REPLY), HOST, (0, 0)) == []
    assert monitor.receive(scp.raw(99, flags=scp.NO_REPLY), HOST, (0, 0)) == []


def test_messages_to_a_core_wait_in_its_mailbox_and_are_given_up(monitor, ask):
    load(ask, Program().sleep(), cores=[6])
    now = [100.0]
    monitor.now = lambda: now[0]
    first, *others = (scp.raw(0, core=6, port=1, sequence=i) for i in range(70))
    assert monitor.receive(first, HOST, (0, 0)) == []  # handed over: in the chip's memory
    chip = monitor.machine.chips[0, 0]
    assert chip.block(6)[56] == 1
    address = int.from_bytes(chip.block(6)[48:52], "little")
    assert chip.memory.read(address + 8, 4) == bytes([scp.REPLY, 8, 1 << 5 | 6, 0xFF])
    answers = [monitor.receive(other, HOST, (0, 0)) for other in others]
    assert answers[:64] == [[]] * 64
    assert [scp.code(answer.data) for (answer,) in answers[64:]] == [Result.BUFFER] * 5
    assert monitor.waits
    now[0] += 1.5
    monitor.expire()
    timeouts = monitor.take()
    assert [scp.code(answer.data) for answer in timeouts] == [Result.TIMEOUT] * 64
    assert not monitor.waits


@pytest.mark.parametrize("again", ["stopped", "started anew"])
def test_messages_that_no_core_took_are_free_again(monitor, ask, raw, again):
    chip = monitor.machine.chips[0, 0]
    for _ in range(20):
        load(ask, Program().sleep(), cores=[6])
        assert chip.block(6)[56] == 0
        assert monitor.receive(scp.raw(0, core=6, port=1), HOST, (0, 0)) == []
        assert chip.block(6)[56] == 1
        if again == "stopped":
            ask(AppStop(APP))
    ask(AppStop(APP))
    free, buffer = set(), chip.memory.word(0xE5007F68)
    while buffer:
        free.add(buffer)
        buffer = chip.memory.word(buffer)
    assert free == set(chip.message_buffers)
    assert chip.memory.byte(0xE5007F6C) == 0


def test_a_core_that_floods_the_monitor_with_commands(monitor, ask):
    """Each command makes the board let the cores run, and the core sends the next one."""
    chip = monitor.machine.chips[0, 0]
    body = scp.SCP.pack(22, 0, 0, 10 << 16 | 0xFF << 8 | APP, 0)
    header = struct.pack("<IHH", 0, 8 + len(body), 0) + scp.SDP.pack(scp.NO_REPLY, 0xFF, 0, 1, 0, 0)
    chip.memory.write(USER, header + body)
    program = Program().load_label(2, "call").load(3, VIC + 0x100).store(2, 3)
    program.poke(VIC + 0x200, 0x20 | Interrupt.CPU).poke(VIC + 0x10, 1 << Interrupt.CPU)
    for last in ("sleep", "end"):
        program.poke(0xE5007000 + 128 + 52, USER).poke(0xE5007000 + 128 + 56, 1 << 8)
        program.poke(0xE5007FEC, 1 << 1).poke(0xF2000008, 1)  # a message waits; interrupt the monitor
        if last == "sleep":
            program.sleep().label("call").poke(0xF200000C, 0x3FFFE)
    load(ask, program.poke(VIC + 0x30, 0).put(FROM_INTERRUPT))
    for _ in range(200):
        monitor.machine.advance(0, 100)
        monitor.collect()
    assert ask(GetVersion(0, 0, 0)).version_info.name == "SC&MP"
    assert monitor.machine.record(monitor.machine.index(chip, 1))["runs"] > 200
    ask(AppStop(APP))
    assert monitor.running_cores() == []

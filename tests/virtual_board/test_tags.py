"""IP tags: set, read, used, forgotten; reverse tags and what comes by them."""

import socket
import struct

import pytest
from spikeloop.tests.virtual_board import scp
from spikeloop.tests.virtual_board.arm import Program, start
from spikeloop.virtual_board.geometry import geometry
from spikeloop.virtual_board.machine import Machine
from spikeloop.virtual_board.scamp.messages import Result
from spikeloop.virtual_board.scamp.monitor import Monitor
from spikeloop.virtual_board.scamp.tags import FIXED, POOL
from spinnman.messages.scp.impl import (
    GetVersion,
    IPTagClear,
    IPTagGet,
    IPTagGetInfo,
    IPTagSet,
    IPTagSetTTO,
    ReverseIPTagSet,
)
from spinnman.messages.scp.impl.iptag_set_tto import IPTAG_TIME_OUT_WAIT_TIMES

HOST, OTHER = ("127.0.0.1", 40000), ("127.0.0.1", 40001)


@pytest.fixture(scope="module")
def machine():
    machine = Machine(geometry(version=3))
    yield machine
    machine.close()


@pytest.fixture
def clock():
    return [1000.0]


@pytest.fixture
def monitor(machine, clock):
    monitor = Monitor(machine, now=lambda: clock[0])
    monitor.boot()
    return monitor


@pytest.fixture
def ask(monitor):
    def ask(request, sender=HOST):
        (answer,) = monitor.receive(scp.datagram(request), sender, (0, 0))
        assert answer.to == sender
        return scp.read(request, answer.data)

    return ask


@pytest.fixture
def raw(monitor):
    def raw(*arguments, **options):
        (answer,) = monitor.receive(scp.raw(*arguments, **options), HOST, (0, 0))
        return scp.code(answer.data), scp.body(answer.data)

    return raw


def message(tag, data=b"spikes"):
    """A message to the network by a tag, as a core would send it."""
    return bytes(2) + scp.SDP.pack(scp.NO_REPLY, tag, 0xFF, 1 << 5 | 3, 0, 0) + data


def test_a_tag_is_as_it_was_set(ask):
    ask(IPTagSet(0, 0, [127, 0, 0, 9], 54000, 3, strip=True))
    tag = ask(IPTagGet(0, 0, 3))
    assert tag.in_use
    assert tag.strip_sdp
    assert not tag.is_reverse
    assert not tag.is_temporary
    assert (tag.ip_address, tag.port, tag.timeout, tag.count) == (bytes([127, 0, 0, 9]), 54000, 0, 0)
    ask(IPTagClear(0, 0, 3))
    assert not ask(IPTagGet(0, 0, 3)).in_use


@pytest.mark.parametrize("strip", [False, True])
def test_a_message_goes_where_its_tag_leads(ask, monitor, strip):
    ask(IPTagSet(0, 0, [127, 0, 0, 9], 54000, 3, strip=strip))
    (sent,) = monitor.receive(message(3), HOST, (0, 0))
    assert sent.to == ("127.0.0.9", 54000)
    assert sent.data == (b"spikes" if strip else message(3))
    assert ask(IPTagGet(0, 0, 3)).count == 1


@pytest.mark.parametrize("tag", [0, 7, 15, 16, 200, 254])
def test_a_message_by_no_tag_is_lost(monitor, tag):
    assert monitor.receive(message(tag), HOST, (0, 0)) == []


def test_a_tag_for_whoever_sets_it(ask, monitor):
    ask(IPTagSet(0, 0, [0, 0, 0, 0], 0, 2, use_sender=True), sender=OTHER)
    (sent,) = monitor.receive(message(2), HOST, (0, 0))
    assert sent.to == OTHER


def test_a_tag_without_an_address_is_for_the_senders_machine(ask):
    ask(IPTagSet(0, 0, [0, 0, 0, 0], 54000, 2))
    tag = ask(IPTagGet(0, 0, 2))
    assert (tag.ip_address, tag.port) == (bytes([127, 0, 0, 1]), 54000)


def test_any_free_tag(raw):
    numbers = [struct.unpack("<I", raw(26, 0, 50000 + i, 0x0100007F)[1])[0] for i in range(2)]
    assert all(FIXED <= number < FIXED + POOL for number in numbers)
    assert numbers[0] != numbers[1]


def test_the_tables_size_and_the_timeout(ask):
    info = ask(IPTagGetInfo(0, 0))
    assert (info.fixed_size, info.pool_size) == (FIXED, POOL)
    ask(IPTagSetTTO(0, 0, IPTAG_TIME_OUT_WAIT_TIMES.TIMEOUT_160_ms))
    assert ask(IPTagGetInfo(0, 0)).transient_timeout == IPTAG_TIME_OUT_WAIT_TIMES.TIMEOUT_160_ms.value


def test_setting_the_timeout_begins_a_session_and_reading_it_does_not(ask, monitor):
    sessions = []
    monitor.on_session = sessions.append
    ask(IPTagGetInfo(0, 0))
    assert sessions == []
    ask(IPTagSetTTO(0, 0, IPTAG_TIME_OUT_WAIT_TIMES.TIMEOUT_160_ms), sender=OTHER)
    assert sessions == [OTHER]


def test_every_sender_has_a_tag_for_its_replies_for_a_while(ask, monitor, clock):
    for sender in (HOST, OTHER, HOST):
        ask(GetVersion(0, 0, 0), sender=sender)
    transient = [ask(IPTagGet(0, 0, tag)).is_temporary for tag in range(FIXED, FIXED + POOL)]
    assert sum(transient) == 2
    clock[0] += 2
    ask(GetVersion(0, 0, 0), sender=OTHER)
    clock[0] += 1
    monitor.expire()  # 2.56 s after the last use
    tags = [ask(IPTagGet(0, 0, tag), sender=OTHER) for tag in range(FIXED, FIXED + POOL)]
    assert [tag.port for tag in tags if tag.is_temporary] == [OTHER[1]]


def test_more_senders_than_tags(ask, clock):
    for port in range(41000, 41040):
        clock[0] += 0.001
        ask(GetVersion(0, 0, 0), sender=("127.0.0.1", port))  # each is answered at its own address


def test_a_tag_that_is_not_used_is_forgotten_after_its_timeout(raw, monitor, clock, ask):
    raw(26, 8 << 24 | 1 << 16 | 4, 50000, 0x0100007F)  # 2^7 times 10 ms
    assert ask(IPTagGet(0, 0, 4)).timeout == 128
    clock[0] += 1.0
    assert len(monitor.receive(message(4), HOST, (0, 0))) == 1
    clock[0] += 1.0
    monitor.expire()
    assert ask(IPTagGet(0, 0, 4)).in_use
    clock[0] += 1.0
    monitor.expire()
    assert not ask(IPTagGet(0, 0, 4)).in_use


def test_a_reverse_tag(ask, monitor, machine):
    ask(ReverseIPTagSet(0, 0, 1, 1, 5, 50007, 6, 2))
    tag = ask(IPTagGet(0, 0, 6))
    assert tag.is_reverse
    assert (tag.rx_port, tag.spin_chip_x, tag.spin_chip_y, tag.spin_cpu, tag.spin_port) == (50007, 1, 1, 5, 2)
    assert monitor.listening_ports() == {((0, 0), 50007)}
    chip = start(machine, Program().sleep(), at=(1, 1), core=5)
    assert monitor.receive_on_port(50007, b"\1\0event", OTHER, (0, 0)) == []
    address = int.from_bytes(chip.block(5)[48:52], "little")
    stored = chip.memory.read(address, 32)
    assert struct.unpack_from("<H", stored, 4)[0] == 8 + 7
    assert stored[8:12] == bytes([scp.NO_REPLY, 6, 2 << 5 | 5, 0xFF])
    assert stored[16:23] == b"\1\0event"
    (sent,) = monitor.receive(message(6), HOST, (0, 0))
    assert sent.to == OTHER  # an answer goes to who sent last
    ask(IPTagClear(0, 0, 6))
    assert monitor.listening_ports() == set()


@pytest.mark.parametrize(("port", "size"), [(50008, 4), (50007, 273), (50007, 60000)])
def test_what_does_not_come_by_a_reverse_tag(ask, monitor, machine, port, size):
    ask(ReverseIPTagSet(0, 0, 1, 1, 5, 50007, 6, 2))
    chip = start(machine, Program().sleep(), at=(1, 1), core=5)
    assert monitor.receive_on_port(port, bytes(size), OTHER, (0, 0)) == []
    assert chip.block(5)[56] == 0


@pytest.mark.parametrize(
    ("arg1", "chip"),
    [(1 << 16 | 16, (0, 0)), (1 << 16 | 255, (0, 0)), (2 << 16 | 16, (0, 0)), (3 << 16 | 99, (0, 0)), (5 << 16, (0, 0)),
     (1 << 16 | 1, (1, 0))],
)  # fmt: skip
def test_what_is_refused(raw, arg1, chip):
    assert raw(26, arg1, 50000, 0x0100007F, chip=chip) == (Result.ARGUMENT, b"")


def test_a_boot_forgets_all_tags(ask, monitor):
    ask(IPTagSet(0, 0, [127, 0, 0, 1], 54000, 1))
    monitor.boot()
    assert not ask(IPTagGet(0, 0, 1)).in_use


def test_addresses_are_in_the_order_of_the_network(ask, raw):
    raw(26, 1 << 16 | 1, 50000, struct.unpack("<I", socket.inet_aton("127.1.2.3"))[0])
    assert ask(IPTagGet(0, 0, 1)).ip_address == bytes([127, 1, 2, 3])

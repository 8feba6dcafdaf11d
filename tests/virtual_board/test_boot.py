"""The boot port, fed with spinnman's own messages, and with what is no boot."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spikeloop.virtual_board.boot import LARGEST_BLOCK, MOST_BLOCKS, BootError, BootLoader
from spinn_utilities.config_holder import set_config
from spinnman.config_setup import unittest_setup
from spinnman.messages.spinnaker_boot.spinnaker_boot_messages import SpinnakerBootMessages


def packet(operation, first=0, second=0, third=0, data=b"", version=1):
    return struct.pack(">HIIII", version, operation, first, second, third) + data


def start(blocks):
    return packet(1, third=blocks - 1)


def block(number, size=LARGEST_BLOCK):
    return packet(3, 255 << 8 | number, data=bytes(size))


END = packet(5, 1)


@pytest.fixture(params=[3, 5])
def messages(request):
    unittest_setup()
    set_config("Machine", "version", str(request.param))
    return [message.bytestring for message in SpinnakerBootMessages().messages]


def test_spinnman_boots_the_board(messages):
    loader = BootLoader()
    assert [loader.receive(message) for message in messages] == [False] * (len(messages) - 1) + [True]
    assert 10 < len(messages) <= MOST_BLOCKS + 2


def test_spinnman_boots_the_board_twice(messages):
    loader = BootLoader()
    for _ in range(2):
        assert [loader.receive(message) for message in messages][-1]


def test_data_may_come_in_any_order_and_twice(messages):
    loader = BootLoader()
    first, *data, last = messages
    for message in [first, *reversed(data), *data]:
        assert not loader.receive(message)
    assert loader.receive(last)


def test_a_missing_block_is_named(messages):
    loader = BootLoader()
    for message in [*messages[:4], *messages[5:-1]]:
        loader.receive(message)
    with pytest.raises(BootError, match=r"blocks \[3\] are missing"):
        loader.receive(messages[-1])
    with pytest.raises(BootError, match="an end came before a start"):
        loader.receive(messages[-1])
    assert [loader.receive(message) for message in messages][-1]


def test_a_start_begins_anew(messages):
    loader = BootLoader()
    for message in messages[:-1]:
        loader.receive(message)
    loader.receive(messages[0])
    with pytest.raises(BootError, match="are missing"):
        loader.receive(messages[-1])


@pytest.mark.parametrize(
    ("packets", "message"),
    [
        ([b""], "0 bytes; a boot packet has at least 18"),
        ([start(2)[:-1]], "17 bytes"),
        ([packet(1, version=2)], "boot protocol version 2; this is version 1"),
        ([packet(2)], "operation 2 is not known"),
        ([packet(0xFFFFFFFF)], "operation 4294967295 is not known"),
        ([block(0)], "block 0 came before a start"),
        ([END], "an end came before a start"),
        ([start(MOST_BLOCKS + 1)], "33 blocks are to come; at most 32 fit"),
        ([packet(1, third=0xFFFFFFFF)], "4294967296 blocks are to come"),
        ([start(2), block(2)], "block 2 of 1024 bytes; 2 were announced"),
        ([start(2), block(255)], "block 255 of"),
        ([start(2), block(1, LARGEST_BLOCK + 1)], "block 1 of 1025 bytes"),
        ([start(2), block(0), END], r"blocks \[1\] are missing"),
    ],
)
def test_what_is_no_boot(packets, message):
    loader = BootLoader()
    for good in packets[:-1]:
        assert not loader.receive(good)
    with pytest.raises(BootError, match=message):
        loader.receive(packets[-1])


def test_a_greeting_changes_nothing():
    loader = BootLoader()
    loader.receive(start(1))
    assert not loader.receive(packet(0x41))
    loader.receive(block(0))
    assert loader.receive(END)


numbers = st.integers(0, 40)
plausible = st.builds(packet, st.sampled_from([1, 3, 5, 0x41]), numbers, numbers, numbers)


@given(st.lists(st.one_of(st.binary(max_size=40), plausible), max_size=30))
def test_only_a_whole_boot_boots(packets):
    loader = BootLoader()
    announced, seen = 0, set()
    for data in packets:
        try:
            done = loader.receive(data)
        except BootError:
            done = False
        if len(data) >= 18:
            version, operation, first, _, third = struct.unpack_from(">HIIII", data)
            if (version, operation) == (1, 1) and third < MOST_BLOCKS:
                announced, seen = third + 1, set()
            elif (version, operation) == (1, 3):
                seen.add(first & 0xFF)
            elif (version, operation) == (1, 5):
                assert done == (announced > 0 and set(range(announced)) <= seen)
                announced = 0
                continue
        assert not done

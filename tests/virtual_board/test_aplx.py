"""The loader: images as the tools build them, every binary that ships, and images that want what there is not."""

import importlib.util
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spikeloop.tests.virtual_board.arm import MAIN, Program
from spikeloop.virtual_board import BinaryError
from spikeloop.virtual_board.aplx import ABSOLUTE_COPY, EXECUTE, FILL, RELATIVE_COPY, load, read_application
from spikeloop.virtual_board.layout import (
    APPLICATION_IMAGE,
    DTCM_BASE,
    DTCM_SIZE,
    ITCM_SIZE,
    SDRAM_BASE,
    SDRAM_SIZE,
    SDRAM_UNBUFFERED,
)
from spikeloop.virtual_board.memory import ChipMemory

PACKAGES = Path(importlib.util.find_spec("spynnaker").origin).parents[1]
SHIPPED = sorted(PACKAGES.glob("*/**/*.aplx"))
TABLE = APPLICATION_IMAGE


@pytest.fixture(scope="module")
def memory():
    return ChipMemory(0)


@pytest.fixture
def tcm():
    return np.full(ITCM_SIZE, 0xEE, np.uint8), np.full(DTCM_SIZE, 0xEE, np.uint8)


def put(memory, *entries, behind=b""):
    words = struct.pack(f"<{4 * len(entries)}I", *(word for entry in entries for word in (*entry, 0, 0, 0)[:4]))
    memory.write(TABLE, words + behind)


def test_every_command(memory, tcm):
    itcm, dtcm = tcm
    memory.write(SDRAM_BASE + 0x1000, bytes(range(64)))
    put(
        memory,
        (RELATIVE_COPY, 0, 4 * 16, 32),
        (ABSOLUTE_COPY, DTCM_BASE, SDRAM_BASE + 0x1000, 64),
        (FILL, DTCM_BASE + 128, 32, 0x04030201),
        (EXECUTE, 0x40),
        behind=bytes(range(100, 132)),
    )
    application = read_application(memory, TABLE)
    assert application.entry == 0x40
    load(application, itcm, dtcm)
    assert itcm[:32].tobytes() == bytes(range(100, 132))
    assert dtcm[:64].tobytes() == bytes(range(64))
    assert dtcm[128:160].tobytes() == bytes([1, 2, 3, 4]) * 8
    assert not itcm[32:].any()  # what lay there before is gone
    assert not dtcm[64:128].any()
    assert not dtcm[160:].any()


def test_lengths_are_rounded_up_to_blocks(memory):
    put(memory, (RELATIVE_COPY, 0, 64, 33), (FILL, DTCM_BASE, 1, 7), (EXECUTE, 0))
    writes = read_application(memory, TABLE).writes
    assert [len(data) for _, data in writes] == [64, 32]


def test_a_relative_copy_counts_from_its_own_entry(memory):
    put(memory, (FILL, 0, 32, 0), (RELATIVE_COPY, 0, 32, 32), (EXECUTE, 0), behind=b"\x11" * 32)
    assert read_application(memory, TABLE).writes[1][1] == b"\x11" * 32


def test_the_unbuffered_addresses_are_the_same_memory(memory):
    memory.write(SDRAM_BASE + 0x2000, b"same" * 8)
    put(memory, (ABSOLUTE_COPY, 0, SDRAM_UNBUFFERED + 0x2000, 32), (EXECUTE, 0))
    assert read_application(memory, TABLE).writes[0][1] == b"same" * 8


def test_later_commands_overwrite_earlier_ones(memory, tcm):
    put(memory, (FILL, 0, 64, 0x01010101), (FILL, 32, 32, 0x02020202), (EXECUTE, 0))
    load(read_application(memory, TABLE), *tcm)
    assert tcm[0][:64].tobytes() == b"\1" * 32 + b"\2" * 32


def test_a_core_can_be_filled_to_the_last_byte(memory, tcm):
    put(memory, (FILL, 0, ITCM_SIZE, 0x05050505), (FILL, DTCM_BASE, DTCM_SIZE, 0x06060606), (EXECUTE, 0))
    load(read_application(memory, TABLE), *tcm)
    assert (tcm[0] == 5).all()
    assert (tcm[1] == 6).all()


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([(FILL, ITCM_SIZE, 32, 0)], r"32 bytes to 0x00008000; .* Is it an APLX file"),
        ([(FILL, ITCM_SIZE - 32, 33, 0)], "64 bytes to 0x00007fe0"),
        ([(FILL, DTCM_BASE - 32, 64, 0)], "64 bytes to 0x003fffe0"),
        ([(FILL, DTCM_BASE + DTCM_SIZE - 31, 32, 0)], "32 bytes to 0x0040ffe1"),
        ([(FILL, SDRAM_BASE, 32, 0)], "0x60000000"),
        ([(FILL, 0xFFFFFFE0, 32, 0)], "0xffffffe0"),
        ([(FILL, 0, 0xFFFFFFFF, 0)], "bytes to 0x00000000"),
        ([(RELATIVE_COPY, 0, 16, 0xFFFFFFFF)], "bytes to 0x00000000"),
        ([(ABSOLUTE_COPY, 0, 0, 32)], "copies 32 bytes from 0x00000000, where there is no SDRAM"),
        ([(ABSOLUTE_COPY, 0, SDRAM_BASE - 4, 32)], "from 0x5ffffffc"),
        ([(ABSOLUTE_COPY, 0, SDRAM_BASE + SDRAM_SIZE - 16, 32)], "from 0x67fffff0"),
        ([(ABSOLUTE_COPY, 0, 0xE5000000, 32)], "from 0xe5000000"),
        ([(RELATIVE_COPY, 0, 0xFFFFFFF0, 32)], "where there is no SDRAM"),
        ([(5, 0, 0, 0)], "entry 0 of the binary has command 5; APLX knows copy"),
        ([(0, 0, 0, 0)], "entry 0 of the binary has command 0"),
        ([(FILL, 0, 0, 0)] * 3 + [(77, 0, 0, 0)], "entry 3 of the binary has command 77"),
        ([(FILL, 0, 0, 0)] * 64 + [(EXECUTE, 0)], "no execute command among its first 64 entries"),
    ],
)
def test_images_that_want_what_there_is_not(memory, entries, message):
    put(memory, *entries, *[(EXECUTE, 0)] * (len(entries) < 64))
    with pytest.raises(BinaryError, match=message):
        read_application(memory, TABLE)


def test_a_table_outside_of_memory_is_no_binary(memory):
    with pytest.raises(BinaryError, match="command 0"):
        read_application(memory, 0x12345678)


limits = [0x7FE0, 0x3FFFE0, 0x400000, 0x40FFE0, 0x60000000, 0x67FFFFE0, 0xFFFFFFFF]
arguments = st.one_of(st.integers(0, 96), st.sampled_from(limits))
entries = st.tuples(st.sampled_from([1, 2, 3, 3, 3, 4, 0, 9]), arguments, arguments, arguments)


@settings(max_examples=300)
@given(st.lists(entries, min_size=1, max_size=8), st.binary(max_size=64))
def test_whatever_comes_is_read_or_refused(memory, entries, behind):
    put(memory, *entries, behind=behind)
    try:
        application = read_application(memory, TABLE)
    except BinaryError:
        return
    itcm, dtcm = np.zeros(ITCM_SIZE, np.uint8), np.zeros(DTCM_SIZE, np.uint8)
    load(application, itcm, dtcm)
    for number, (address, data) in enumerate(application.writes):
        later = application.writes[number + 1 :]
        if not any(at < address + len(data) and address < at + len(other) for at, other in later):
            place = address if address < DTCM_BASE else address - DTCM_BASE
            assert (itcm if address < DTCM_BASE else dtcm)[place : place + len(data)].tobytes() == data


def test_our_own_programs(memory, tcm):
    program = Program().log(1).sleep()
    memory.write(TABLE, program.image())
    application = read_application(memory, TABLE)
    assert application.entry == MAIN
    load(application, *tcm)
    words = program.image_words()
    assert tcm[0][MAIN : MAIN + 4 * len(words)].view("<u4").tolist() == words


def test_there_are_shipped_binaries():
    names = {path.name for path in SHIPPED}
    assert len(SHIPPED) > 60
    assert {"IF_curr_delta.aplx", "synapse_expander.aplx"} <= names


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_binaries_are_read(memory, tcm, path):
    image = path.read_bytes()
    memory.write(TABLE, image.ljust(-(-len(image) // 4) * 4, b"\0"))
    application = read_application(memory, TABLE)
    load(application, *tcm)
    itcm = tcm[0]
    vectors = itcm[:32].view("<u4")
    # at every vector there is a load of the program counter, a branch, or nothing
    assert application.entry < ITCM_SIZE
    assert itcm[application.entry : application.entry + 4].any()
    assert all(word >> 24 in (0xE5, 0xEA) or word == 0xE1A00000 for word in vectors[[0, 1, 3, 4, 6, 7]]), vectors
    assert 0 < sum(len(data) for _, data in application.writes) <= ITCM_SIZE + DTCM_SIZE
    assert any(data in image or data[: len(data) - 32] in image for _, data in application.writes)

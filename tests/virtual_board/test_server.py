"""Boards as processes: several at once, on addresses in use, killed, cold, asked about their cores."""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from spikeloop.tests.virtual_board import scp
from spikeloop.tests.virtual_board.arm import Program
from spikeloop.virtual_board import AddressInUseError, BoardError, BoardSettingError, BoardStartError, VirtualBoard
from spikeloop.virtual_board.host_config import ConfigExistsError
from spikeloop.virtual_board.layout import APPLICATION_IMAGE, SDRAM_BASE
from spikeloop.virtual_board.server import Server, Settings
from spinn_utilities.config_holder import set_config
from spinnman.config_setup import unittest_setup
from spinnman.messages.scp.impl import ApplicationRun, AppStop, GetVersion, WriteMemory
from spinnman.messages.spinnaker_boot.spinnaker_boot_messages import SpinnakerBootMessages

SCP_PORT, BOOT_PORT = 17893, 54321
PARENT = """
import sys, time
from spikeloop.virtual_board import VirtualBoard
with VirtualBoard(version=3, pace=None, address=sys.argv[1]) as board:
    print(board._process.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def board():
    with VirtualBoard(version=3, pace=None) as board:
        yield board


@contextlib.contextmanager
def host(timeout_s=5.0):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.settimeout(timeout_s)
        yield opened


def ask(client, board, request):
    """The answer to a request of spinnman's, as spinnman reads it."""
    client.sendto(scp.datagram(request), (board.address, SCP_PORT))
    return scp.read(request, client.recv(4096))


def load(client, board, program, cores):
    image = program.image()
    for at in range(0, len(image), 256):
        ask(client, board, WriteMemory((0, 0, 0), APPLICATION_IMAGE + at, image[at : at + 256]))
    ask(client, board, ApplicationRun(30, 0, 0, cores))


def talking(text, core):
    """A program that prints as SARK does: a buffer in SDRAM, its address in the core's block."""
    data = text.encode()
    program = Program().poke(0xE5007000 + 128 * core + 88, SDRAM_BASE + 0x3000000)
    for i, word in enumerate(struct.pack("<4I", 0, 0, 0, len(data)) + data.ljust(-(-len(data) // 4) * 4)):
        program.load(1, SDRAM_BASE + 0x3000000).load(0, word).put(0xE5C10000 | i)  # strb r0, [r1, #i]
    return program.sleep()


def test_two_boards_at_once(board):
    with VirtualBoard(version=5, pace=None) as other, host() as client:
        assert board.address != other.address
        assert ask(client, board, GetVersion(0, 0, 0)).version_info.name == "SC&MP"
        assert ask(client, other, GetVersion(7, 7, 0)).version_info.x == 7
        client.sendto(scp.datagram(GetVersion(7, 7, 0)), (board.address, SCP_PORT))
        assert scp.code(client.recv(4096)) == 0x87  # no route: the first board has four chips


def test_an_address_in_use(board):
    third = VirtualBoard(version=3, address=board.address)
    with pytest.raises(AddressInUseError, match=f"{board.address} is in use .* give another address"):
        third.start()
    assert third._process.poll() is not None
    with host() as client:
        assert ask(client, board, GetVersion(0, 0, 0)).version_info.name == "SC&MP"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"version": 4}, "version 4 was asked for"),
        ({"boards": 3}, "version 3 stands alone"),
        ({"pace": 0}, "the pace is 0; it is between 0.001 and 1000"),
        ({"pace": float("nan")}, "the pace is nan"),
        ({"address": "127.0.0.1"}, "127.0.0.1 cannot be used"),
        ({"address": "192.0.2.1"}, "listen at .192.0.2.1"),
    ],
)
def test_boards_that_cannot_be(options, message):
    with pytest.raises(BoardSettingError, match=message):
        Server(Settings(**options)).close()


def test_the_process_says_why_it_cannot_be():
    with pytest.raises(BoardSettingError, match="version 4 was asked for"), VirtualBoard(version=4):
        pass


def test_stopping_twice_and_starting_twice():
    board = VirtualBoard(version=3, pace=None)
    board.stop()
    board.start()
    process = board._process
    with pytest.raises(BoardStartError, match="has been started already"):
        board.start()
    board.stop()
    board.stop()
    assert process.poll() == 0
    with pytest.raises(BoardStartError, match="does not run"):
        board.statistics()
    with pytest.raises(BoardStartError, match="has been started already"):
        board.start()


def test_a_board_does_not_come_to_live_where_another_has_died():
    """The host of the dead one may still send it commands."""
    with VirtualBoard(pace=None) as board:
        address = board.address
        board._process.kill()
    with VirtualBoard(pace=None) as board:
        assert board.address != address


def test_a_board_ends_with_the_process_that_started_it():
    address = f"127.0.77.{2 + os.getpid() % 200}"  # where nobody else starts a board
    parent = subprocess.Popen([sys.executable, "-c", PARENT, address], stdout=subprocess.PIPE, text=True)
    pid = parent.stdout.readline()
    try:
        child = psutil.Process(int(pid))
        assert child.is_running()
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        gone, alive = psutil.wait_procs([child], timeout=10)
        assert gone
        assert not alive
    finally:
        parent.kill()
        parent.stdout.close()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((address, SCP_PORT))  # and gives its ports back


def test_a_board_ends_even_while_a_core_never_sleeps():
    with VirtualBoard(version=3, pace=None) as board, host() as client:
        load(client, board, Program().label("loop").jump("loop"), [1, 2])
        assert ask(client, board, GetVersion(0, 0, 0)).version_info.name == "SC&MP"
        assert len(board.cores()) == 2
        process = board._process
    assert process.poll() == 0


def test_a_core_that_never_sleeps_can_be_stopped(board):
    with host(timeout_s=20) as client:
        load(client, board, Program().label("loop").jump("loop"), [1])
        ask(client, board, AppStop(30))
        assert board.cores() == []


def test_the_configuration_is_written_but_never_overwritten(board, tmp_path):
    path = board.write_config(tmp_path)
    assert path.name == "spynnaker.cfg"
    assert path.read_text() == board.config
    assert f"machine_name = {board.address}" in board.config
    assert board.write_config(tmp_path) == path  # the same again
    path.write_text("[Machine]\nmachine_name = spinn-1\n")
    with pytest.raises(ConfigExistsError, match="exists and is different; it is left as it is"):
        board.write_config(tmp_path)
    assert path.read_text() == "[Machine]\nmachine_name = spinn-1\n"
    with pytest.raises(ConfigExistsError, match="is no folder"):
        board.write_config(tmp_path / "nowhere")


def test_in_the_home_directory_the_file_has_another_name(board, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert board.write_config(tmp_path) == Path(tmp_path / ".spynnaker.cfg")


def test_a_cold_board_answers_when_it_has_been_booted():
    unittest_setup()
    set_config("Machine", "version", "3")
    with VirtualBoard(version=3, pace=None, cold=True) as board, host(timeout_s=0.3) as client:
        client.sendto(scp.datagram(GetVersion(0, 0, 0)), (board.address, SCP_PORT))
        with pytest.raises(TimeoutError):
            client.recv(4096)
        *messages, last = SpinnakerBootMessages().messages
        for message in messages:
            client.sendto(message.bytestring, (board.address, BOOT_PORT))
        client.sendto(scp.datagram(GetVersion(0, 0, 0)), (board.address, SCP_PORT))
        with pytest.raises(TimeoutError):
            client.recv(4096)
        client.sendto(last.bytestring, (board.address, BOOT_PORT))
        client.settimeout(5)
        assert board.wait_for("boot") is not None
        assert ask(client, board, GetVersion(0, 0, 0)).version_info.name == "SC&MP"


def test_what_cores_say(board):
    with host() as client:
        load(client, board, talking("hello\nworld, ünter", 4), [4])
        assert board.iobuf(0, 0, 4) == "hello\nworld, ünter"
        assert board.iobuf(0, 0, 5) == ""
        (core,) = board.cores()
        assert (core["chip"], core["core"]) == ([0, 0], 4)
        ask(client, board, AppStop(30))
        assert board.cores() == []
    for place in ((2, 0, 1), (0, 0, 18), (0, 0, -1)):
        with pytest.raises(BoardSettingError, match="there is no core"):
            board.iobuf(*place)


def test_statistics(board):
    before = board.statistics()
    with host() as client:
        load(client, board, Program().poke(0x10000008, 1).sleep(), [1])
        after = board.statistics()
        ask(client, board, AppStop(30))
    assert after["packets"] == before["packets"] + 1
    assert after["slices"] > before["slices"]
    assert after["active_cores"] == 1
    assert after["digest"] != before["digest"]


def test_foolish_questions_are_answered(board):
    with pytest.raises(BoardError):
        board._ask("what?")
    with pytest.raises(BoardError):
        board._ask("iobuf", x=[], y={}, core="one")
    board._process.stdin.write("no json\n[1]\n\n")
    assert board.statistics()["board_ms"] >= 0


def test_events_tell_what_happened(board):
    kinds = {event["kind"] for event in board.events}
    assert {"listening", "boot", "client", "load", "signal"} <= kinds
    assert all(event["message"] for event in board.events)
    began = time.monotonic()
    assert board.wait_for("error", timeout_s=0.2) is None
    assert time.monotonic() - began < 2

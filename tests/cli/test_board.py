"""`spikeloop board`: wrong calls, the log, the configuration, the end."""

import contextlib
import json
import os
import signal
import subprocess
import sys

import pytest
from spikeloop.cli.board import _stopped_by_signals
from spikeloop.virtual_board.server import Server, Settings

ADDRESS = "127.0.77.2"
COMMAND = [sys.executable, "-m", "spikeloop", "board"]


def board(*arguments):
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--version", "4"], "version 4 was asked for"),
        (["--version", "5", "--boards", "2"], "2 boards"),
        (["--boards", "3"], "version 3 stands alone"),
        (["--address", "127.0.0.1"], "127.0.0.1 cannot be used"),
        (["--address", "8.8.8.8"], "listen at '8.8.8.8'"),
        (["--drop-packets", "1"], "--drop-packets is 1.0"),
        (["--udp-loss", "-0.1"], "--udp-loss is -0.1"),
        (["--udp-delay", "nan"], "--udp-delay is nan"),
        (["--pace", "0"], "the pace is 0.0"),
        (["--pace", "1e-300"], "between 0.001 and 1000"),
        (["--dead-core", "a,b,c"], "--dead-core a,b,c cannot be read"),
        (["--dead-core", "0,0,0"], "core 0,0,0 cannot be dead"),
        (["--dead-chip", "0,0"], "chip 0,0 cannot be dead"),
        (["--dead-chip", "7,7"], "there is no chip 7,7"),
        (["--dead-link", "0,0,9"], "link 9"),
        (["--address", "localhost"], "listen at 'localhost'"),
        (["--address", "0.0.0.0"], "such as 127.0.0.2"),
        (["--iobuf", "300,0,1"], "no core 300,0,1"),
        (["--iobuf", "0;0;1"], "--iobuf 0;0;1 cannot be read"),
    ],
)
def test_a_wrong_call_says_what_is_needed(arguments, said):
    done = board("--address", ADDRESS, *arguments)
    assert done.returncode == 2, done.stderr
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_board_logs_events_and_ends_when_told_to(tmp_path):
    with subprocess.Popen(
        [*COMMAND, "--address", ADDRESS, "--json", "--write-config", str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            kinds = [json.loads(process.stdout.readline())["kind"] for _ in range(2)]
            assert kinds == ["listening", "boot"]
            assert f"machine_name = {ADDRESS}\n" in (tmp_path / "spynnaker.cfg").read_text()
            second = board("--address", ADDRESS)
            assert second.returncode == 1
            assert "another board runs there" in " ".join(second.stderr.split())
            iobuf = board("--address", ADDRESS, "--iobuf", "0,0,1")
            assert (iobuf.returncode, iobuf.stdout) == (0, "")
        finally:
            os.kill(process.pid, signal.SIGTERM)  # as Ctrl-C, which a shell may have its background jobs ignore
        assert process.wait(20) == 0
    (tmp_path / "spynnaker.cfg").write_text("[Machine]\nmachine_name = mine\n")
    other = board("--address", ADDRESS, "--write-config", str(tmp_path))
    assert other.returncode == 2
    assert "it is left as it is" in " ".join(other.stderr.split())
    assert board("--address", ADDRESS, "--iobuf", "0,0,1").returncode == 1


def test_a_signal_that_comes_before_the_board_listens_ends_it_and_raises_nothing():
    """On the first start that is while code is compiled, which an exception would leave half done."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    told = []
    with contextlib.closing(Server(Settings(address="auto"), told.append)) as server, _stopped_by_signals(server):
        os.kill(os.getpid(), signal.SIGTERM)
        server.serve()
    assert [event.kind for event in told] == ["listening", "boot"]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before

"""The vendor seam of sPyNNaker: what it opens and gives back, what it leaves alone, and what it says when it cannot."""

import contextlib
import gc
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest
from spikeloop.errors import MissingPackageError, ProfileError, TargetError
from spikeloop.hardware_profiles.profile import load_profile
from spikeloop.tests.virtual_board.arm import UNDEFINED
from spikeloop.virtual_board import Faults, VirtualBoard

pytest.importorskip("spynnaker", reason="sPyNNaker is not installed")
pytest.importorskip("unicorn", reason="the virtual board's emulator is not installed")

from spikeloop.deploy.spinnaker import boards, scp, vendor
from spikeloop.deploy.spinnaker.machine import KEEP, Machine
from spikeloop.deploy.spinnaker.vendor_errors import UnexpectedError, translated

BOOT_HEADER, BOOT_VARIABLES = 18, 384  # bytes; spinnman 7.4.1, spinnaker_boot_message(s).py
SPIKES = [[22.0, 75.0], [22.0, 75.0]]


def virtual(**settings):
    return load_profile("spinnaker-virtual", settings)


def real(**settings):
    return load_profile("spinnaker", settings)


def network(sim, n=2):
    """16 sources that together drive each of n neurons over its threshold, twice."""
    source = sim.Population(16, sim.SpikeSourceArray(spike_times=[[10 + i, 50 + 2 * i] for i in range(16)]))
    target = sim.Population(n, sim.IF_curr_delta())
    sim.Projection(source, target, sim.AllToAllConnector(), sim.StaticSynapse(weight=2.0, delay=3))
    target.record(["spikes"])
    return target


def spikes(machine, n=2):
    with machine.quiet():
        target = network(machine.sim, n)
        machine.sim.run(100)
        return [train.magnitude.tolist() for train in target.get_data("spikes").segments[-1].spiketrains]


def refusal(profile, kind=TargetError):
    with pytest.raises(kind) as caught:
        Machine(profile)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 500
    return text


def folders():
    return set(Path(tempfile.gettempdir()).glob("spikeloop-spinnaker-*"))


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path_factory, monkeypatch):
    """Other processes may have machines too, and kept logs need no tidying here."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))


def surroundings():
    loggers = {name: item for name, item in logging.root.manager.loggerDict.items() if isinstance(item, logging.Logger)}
    return {
        "environment": dict(os.environ),
        "folder": Path.cwd(),
        "files": sorted(Path.cwd().iterdir()),
        "streams": (sys.stdout, sys.stderr),
        "hook": sys.excepthook,
        "handlers": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "root logger": (logging.root.level, list(logging.root.handlers), [h.filters for h in logging.root.handlers]),
        "loggers": {
            name: (item.level, item.propagate, list(item.handlers))
            for name, item in loggers.items()
            if item.level or item.handlers or not item.propagate
        },
        "threads": {thread.name for thread in threading.enumerate()},
        "children": [child.pid for child in psutil.Process().children(recursive=True)],
        "folders": folders(),
    }


@pytest.fixture(scope="module")
def standing_board():
    """A board that is there before and after, as a real one."""
    with VirtualBoard(version=3, pace=None) as board:
        yield board


# --- opening, running, closing ----------------------------------------------------------------------------------------


def test_a_network_runs_twice_in_one_process_and_nothing_is_changed(tmp_path, monkeypatch, capfd):
    vendor.import_spynnaker()
    home = tmp_path / "home"
    home.mkdir()
    (home / ".spynnaker.cfg").write_text("[Machine]\nmachine_name = 203.0.113.9\nversion = 5\n[Mode]\nmode = Debug\n")
    (tmp_path / "spynnaker.cfg").write_text("[Nonsense]\nthat = would be refused\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    before = surroundings()
    for _ in range(2):
        with Machine(virtual()) as machine:
            assert machine.address == machine.board.address
            assert spikes(machine) == SPIKES
            machine.check()
        assert surroundings() == before
    assert [path.name for path in home.iterdir()] == [".spynnaker.cfg"]
    assert capfd.readouterr() == ("", "")


def test_no_configuration_is_needed_or_made(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with Machine(virtual()):
        pass
    assert list(tmp_path.iterdir()) == []


def test_settings_of_sPyNNaker_can_be_given():  # noqa: N802
    from spinn_utilities.config_holder import get_config_int, get_config_str

    more = {"Simulation": {"incoming_spike_buffer_size": 512}, "Machine": {"max_machine_core": 9}}
    with Machine(virtual(), configuration=more, resolution_ms=0.5) as machine:
        assert get_config_int("Simulation", "incoming_spike_buffer_size") == 512
        assert get_config_str("Machine", "machine_name") == machine.address
        assert machine.sim.get_time_step() == 0.5


def test_free_running_takes_the_time_that_it_simulates():
    with Machine(virtual(timing="free-running", time_scale_factor=3)) as machine:
        assert spikes(machine) == SPIKES
        begin = time.monotonic()
        with machine.quiet():
            machine.sim.run(800)
        assert 2.4 < time.monotonic() - begin < 4.8


def test_a_second_machine_is_refused_until_the_first_is_closed_or_dropped():
    first = Machine(virtual())
    board = first.board
    assert "already run another agent" in refusal(virtual())
    assert "already run another agent" in refusal(real(machine_name="127.0.0.99"))
    del first
    gc.collect()
    assert board._process.returncode is not None
    machine = Machine(virtual())
    machine.close()
    machine.close()


def test_the_log_is_kept_where_that_is_asked_for(monkeypatch):
    monkeypatch.setenv(KEEP, "1")
    with Machine(virtual()):
        pass
    (kept,) = folders()
    assert "Setting hardware timestep" in (kept / vendor.LOG_NAME).read_text()


def test_an_unexpected_error_keeps_the_log_and_says_where():
    kept = pytest.raises(UnexpectedError, match="Its log is kept: ")
    with Machine(virtual()) as machine, kept as caught, machine.quiet():
        machine.sim.Population(2, machine.sim.IF_curr_delta(no_such_parameter=1))
    log = Path(str(caught.value).split("kept: ")[1])
    assert "Traceback" in log.read_text()


def test_errors_of_ours_pass():
    with Machine(virtual()) as machine:
        with pytest.raises(ProfileError, match=r"^ours$"), machine.quiet():
            raise ProfileError("ours")
        with pytest.raises(KeyboardInterrupt), machine.quiet():
            raise KeyboardInterrupt


# --- what is missing --------------------------------------------------------------------------------------------------


def test_missing_packages(monkeypatch):
    monkeypatch.setitem(sys.modules, "unicorn", None)
    assert 'unicorn, which is not installed: pip install "spikeloop[spinnaker]"' in refusal(
        virtual(), MissingPackageError
    )
    monkeypatch.setitem(sys.modules, "spynnaker.pyNN", None)
    assert 'sPyNNaker, which is not installed: pip install "spikeloop[spinnaker]"' in refusal(
        virtual(), MissingPackageError
    )


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "neither was given"),
        ({"machine_name": "a", "spalloc_server": "b"}, "both were given"),
        ({"spalloc_server": "b"}, "spalloc_user=NAME"),
    ],
)
def test_profiles_that_name_no_board(settings, says):
    assert says in refusal(real(**settings), ProfileError)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"machine_name": "127.0.0.99"}, "machine_name was given, and the target 'spinnaker-virtual' runs"),
        ({"spalloc_server": "b"}, "spalloc_server was given"),
        ({"machine_name": "a", "take_over": True}, "machine_name and take_over were given"),
    ],
)
def test_a_virtual_target_is_given_no_board(settings, says):
    text = refusal(virtual(**settings), ProfileError)
    assert says in text
    assert "use the target 'spinnaker'" in text


def test_a_profile_without_a_machine():
    assert r"no table [machine]" in refusal(load_profile("reference"), ProfileError)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"machine_name": "127.0.0.99"}, "No board answers at 127.0.0.99"),
        ({"machine_name": "no-such-host.invalid"}, "'no-such-host.invalid' does not resolve"),
        ({"machine_name": "a..b"}, "'a..b' does not resolve"),
        ({"spalloc_server": "127.0.0.99", "spalloc_user": "me"}, "No spalloc server answers at 127.0.0.99"),
        ({"spalloc_server": "https://me:secret@127.0.0.99/spalloc/"}, "No spalloc server answers at 127.0.0.99"),
    ],
)
def test_nobody_is_there(settings, says):
    begin = time.monotonic()
    text = refusal(real(**settings))
    assert says in text
    assert "secret" not in text
    assert time.monotonic() - begin < 5


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the client leaves its socket to the garbage collector
def test_a_spalloc_server_that_talks_nonsense():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            with contextlib.suppress(OSError):
                while True:
                    server.accept()[0].close()

        threading.Thread(target=answer, daemon=True).start()
        text = refusal(real(spalloc_server=f"127.0.0.1:{server.getsockname()[1]}", spalloc_user="me"))
        server.shutdown(socket.SHUT_RDWR)
    gc.collect()
    assert "The spalloc server lends no board" in text


def test_an_address_that_is_silent_is_given_up():
    """The version in the image is the one that was told: no configuration says it, or one of a run before."""
    from spinnman.messages.spinnaker_boot import SystemVariableDefinition

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as scp_port, socket.socket(type=socket.SOCK_DGRAM) as boot:
        scp_port.bind(("127.0.0.98", 17893))
        boot.bind(("127.0.0.98", 54321))
        begin = time.monotonic()
        assert "No board answers at 127.0.0.98" in refusal(real(machine_name="127.0.0.98", version=5))
        assert time.monotonic() - begin < 30
        packets = [boot.recv(2048) for _ in range(3)]  # start, and two blocks of the image
    offset = BOOT_VARIABLES + SystemVariableDefinition.hardware_version.offset
    assert packets[1][BOOT_HEADER + (offset ^ 3)] == 5  # bytes of a word in reverse


# --- boards that are there --------------------------------------------------------------------------------------------


def test_a_board_that_has_to_be_booted():
    """In a new process: in this one, sPyNNaker may have its configuration already."""
    with VirtualBoard(version=3, pace=None, cold=True) as board:
        assert scp.probe(board.address) is scp.Presence.SILENCE
        with child("spinnaker", f"machine_name={board.address}", "version=3", then="pass") as (process, address, own):
            assert (address, own) == (board.address, "None")
            assert process.wait(40) == 0
            assert process.stderr.read() == ""


def test_another_version_than_told(standing_board):
    text = refusal(real(machine_name=standing_board.address))
    assert "2 x 2 chips, which is version 3, and version 5 was given: use --set version=3" in text
    with VirtualBoard(version=5, pace=None) as board:
        assert "8 x 8 chips, which is version 5" in refusal(real(machine_name=board.address, version=3))


CHILD = """
import sys, time
from spikeloop.hardware_profiles.profile import load_profile
from spikeloop.deploy.spinnaker.machine import Machine

def main():
    with Machine(load_profile(sys.argv[1], dict(pair.split("=") for pair in sys.argv[2:]))) as machine:
        sim = machine.sim
        with machine.quiet():
            source = sim.Population(4, sim.SpikeSourceArray(spike_times=[[10]] * 4))
            target = sim.Population(20, sim.IF_curr_delta())
            sim.Projection(source, target, sim.AllToAllConnector(), sim.StaticSynapse(weight=2.0, delay=3))
            sim.run(10)
            print("ready", machine.address, machine.board and machine.board._process.pid, flush=True)
            {then}

main()
"""


@contextlib.contextmanager
def child(*arguments, then):
    """A process that has a machine and runs something on it; with its address and the board's process."""
    command = [sys.executable, "-c", textwrap.dedent(CHILD).replace("{then}", then), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            word, address, board = process.stdout.readline().split() or ("", "", "")
            assert word == "ready", process.stderr.read()
            yield process, address, board
        finally:
            process.kill()


def test_a_board_in_use_is_refused_or_taken_over(standing_board):
    where = [f"machine_name={standing_board.address}", "version=3"]
    with child("spinnaker", *where, then="time.sleep(60)") as (process, _, _):
        process.kill()  # as a run that was killed: its cores stay
        process.wait()
    profile = real(machine_name=standing_board.address, version=3)
    text = refusal(profile)
    assert "is in use: 2 of its cores run something, the first is core" in text
    assert "--set take_over=true" in text
    with Machine(profile.with_settings({"take_over": True})) as machine:
        assert spikes(machine) == SPIKES
    with Machine(profile) as machine:  # and it leaves nothing behind
        assert spikes(machine) == SPIKES


HOLDER = """
import os, sys, time
from spikeloop.deploy.spinnaker import boards

with boards.held(sys.argv[1]):
    if os.fork() == 0:  # has the file open too, and outlives the one that is killed
        time.sleep(10)
        os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_board_is_one_process_s_from_before_anything_runs_there(standing_board):
    profile = real(machine_name=standing_board.address, version=3)
    command = [sys.executable, "-c", HOLDER, standing_board.address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "held\n"
            for take_over in (False, True):
                text = refusal(profile.with_settings({"take_over": take_over}))
                assert f"is being used by another process of this computer (pid {process.pid})" in text
        finally:
            process.kill()
    with Machine(profile) as machine:  # the lock of a process that was killed is gone
        assert machine.address == standing_board.address
        (file,) = Path(tempfile.gettempdir()).glob("spikeloop-board-*.lock")
        assert file.read_text() == f"{os.getpid()}\n"
        assert file.stat().st_mode & 0o777 == 0o666  # other users lock it too
    with boards.held(standing_board.address):  # and that of a machine that was closed
        pass


def test_a_board_that_cannot_be_locked(standing_board, monkeypatch):
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/proc")
    with pytest.raises(TargetError, match=r"cannot be locked by /proc/spikeloop-board-127.*\.lock: "):
        boards.held(standing_board.address).__enter__()


@pytest.mark.parametrize(
    ("number", "code", "then"),
    [
        (signal.SIGTERM, 143, "time.sleep(60)"),
        (signal.SIGINT, -signal.SIGINT, "sim.run(30_000)"),
        (signal.SIGKILL, -signal.SIGKILL, "sim.run(30_000)"),
    ],
)
def test_signals_leave_no_board_behind(number, code, then):
    with child("spinnaker-virtual", "timing=free-running", then=then) as (process, _, board):
        time.sleep(0.3)
        process.send_signal(number)
        process.wait(40)
        error = process.stderr.read()
    assert process.returncode == code, error
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(int(board)).wait(20)
    assert not psutil.pid_exists(int(board))
    if number != signal.SIGKILL:
        assert folders() == set()
        assert "SpinnmanException" not in error


def test_an_interrupt_frees_a_board_that_stays(standing_board):
    where = [f"machine_name={standing_board.address}", "version=3"]
    with child("spinnaker", *where, then="time.sleep(60)") as (process, _, _):
        process.send_signal(signal.SIGINT)
        assert process.wait(40) == -signal.SIGINT
    assert [core for core in standing_board.cores() if core["state"] in ("RUNNING", "PAUSED", "SYNC0", "SYNC1")] == []


def test_a_machine_that_nobody_closes_is_released_when_the_interpreter_ends():
    left_open = "Machine.__exit__ = lambda *_: None; globals().update(kept=machine); sys.exit(3)"
    with child("spinnaker-virtual", then=left_open) as (process, _, board):
        assert process.wait(40) == 3
        assert process.stderr.read() == ""
    assert not psutil.pid_exists(int(board))
    assert folders() == set()


# --- what fails while it runs -----------------------------------------------------------------------------------------


def test_a_network_that_does_not_fit_says_how_many_cores_it_needs():
    faults = Faults(dead_cores=((0, 0, 5), (1, 1, 3)))
    with (
        VirtualBoard(version=3, pace=None, faults=faults) as board,
        Machine(real(machine_name=board.address, version=3)) as machine,
    ):
        machine.sim.set_number_of_neurons_per_core(machine.sim.IF_curr_delta, 1)
        with pytest.raises(TargetError, match="does not fit the machine: 101 cores are needed, 66 are available"):
            spikes(machine, 100)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (9216, r"on core 0,0,2 \(IF_curr_delta\) failed, undefined instruction; it said last: \[INFO\] .*Resuming"),
        (21504, r"Core 0,0,2 \(.*\) is in state RUN_TIME_EXCEPTION, not in the one that was waited for"),
    ],
    ids=["in the run", "while it starts"],
)
def test_a_program_that_crashes(monkeypatch, tmp_path, broken, says):
    """The shipped program with a kilobyte of instructions that there are not."""
    from spinn_utilities.executable_finder import ExecutableFinder

    find = ExecutableFinder.get_executable_path

    def broken_path(finder, name):
        path = Path(find(finder, name))
        if name != "IF_curr_delta.aplx":
            return str(path)
        program = bytearray(path.read_bytes())
        program[broken : broken + 1024] = UNDEFINED.to_bytes(4, "little") * 256
        (tmp_path / name).write_bytes(program)
        return str(tmp_path / name)

    monkeypatch.setattr(ExecutableFinder, "get_executable_path", broken_path)
    with Machine(virtual()) as machine, pytest.raises(TargetError, match=says):
        spikes(machine)


def test_a_board_that_is_lost():
    with Machine(virtual()) as machine:
        assert spikes(machine) == SPIKES
        machine.board.stop()
        with pytest.raises(TargetError, match=f"The board at {machine.address} does not answer any more"):
            machine.check()
        with pytest.raises(TargetError, match="does not answer any more"), machine.quiet():
            machine.sim.run(10)


def test_datagrams_that_are_lost_are_sent_again():
    with Machine(virtual(udp_loss=0.002)) as machine:
        assert spikes(machine) == SPIKES


def test_errors_of_sPyNNaker_in_our_words():  # noqa: N802
    from spinn_front_end_common.utilities.exceptions import ConfigurationException, DataSpecException
    from spinnman.exceptions import (
        SpallocException,
        SpinnmanGenericProcessException,
        SpinnmanTimeoutException,
        SpinnmanUnexpectedResponseCodeException,
    )

    def wrapped(error):
        return SpinnmanGenericProcessException(error, None, 0, 0, 1, "")

    cases = [
        (wrapped(SpinnmanTimeoutException("read", 1.0)), "The board at 10.0.0.1 does not answer any more"),
        (wrapped(SpinnmanUnexpectedResponseCodeException("read", "CMD_READ", "RC_CPU")), "refuses a command: Unexp"),
        (DataSpecException("a table is bad"), "cannot be loaded onto the machine: a table is bad"),
        (ConfigurationException("Too much SDRAM has been used on 0, 0"), "cannot be loaded onto the machine: Too much"),
        (SpallocException("queue\nis full"), "lends no board: queue is full"),
    ]
    for error, says in cases:
        ours = translated(error, "10.0.0.1")
        assert says in str(ours)
        assert "\n" not in str(ours)
        assert not isinstance(ours, UnexpectedError)
    assert isinstance(translated(ConfigurationException("anything")), UnexpectedError)
    ours = translated(wrapped(SpinnmanTimeoutException("read", 1.0)), "10.0.0.1", 0.25)
    assert "it is virtual, and loses 25 % of all datagrams" in str(ours)
    assert boards.SPALLOC_PORT == 22244

"""Unmodified sPyNNaker scripts on the virtual board: configurations, sessions, live input and output, faults."""

import importlib.util
import itertools
import json
import re
import signal
import socket
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from spikeloop.tests.virtual_board import pynn
from spikeloop.virtual_board import Faults, VirtualBoard
from spikeloop.virtual_board.geometry import geometry
from spikeloop.virtual_board.layout import APPLICATION_IMAGE, SYSRAM_BASE, VCPU, VCPU_SIZE
from spikeloop.virtual_board.machine import Machine
from spikeloop.virtual_board.scamp import applications
from spikeloop.virtual_board.scamp.monitor import Monitor

# 16 sources that together drive two neurons over the threshold, twice
NETWORK = """
sim.setup(1.0)
source = sim.Population(16, sim.SpikeSourceArray(spike_times=[[10 + i, 50 + 2 * i] for i in range(16)]))
target = sim.Population(2, sim.IF_curr_delta())
sim.Projection(source, target, sim.AllToAllConnector(), sim.StaticSynapse(weight=2.0, delay=3))
target.record(["v", "spikes"])
"""
RUN = """
sim.run(100)
segment = target.get_data().segments[-1]
result(spikes=[train.magnitude.tolist() for train in segment.spiketrains])
sim.end()
"""
SPIKES = [[22.0, 75.0], [22.0, 75.0]]
WITHOUT_MONITORS = {"enable_advanced_monitor_support": "False", "enable_reinjection": "False"}


def with_settings(board, folder, settings, text, extra=""):
    """Run with more settings in the [Machine] section, and whole sections at the end."""
    command, environment = pynn.prepare(folder, board, text)
    path = folder / "spynnaker.cfg"
    lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
    path.write_text(path.read_text().replace("[Machine]\n", "[Machine]\n" + lines) + extra)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    found = re.search(r"^RESULT (.*)$", done.stdout, re.MULTILINE)
    return done, json.loads(found.group(1))["spikes"]


@pytest.fixture(scope="module")
def shared_board():
    with VirtualBoard(version=3, pace=None) as board:
        yield board


def test_the_default_configuration_with_monitors_and_reinjection(shared_board, tmp_path):
    values = pynn.run(tmp_path, shared_board, NETWORK + RUN)
    assert values["spikes"] == SPIKES
    assert "WARNING" not in values["log"]
    loaded = {event["name"] for event in shared_board.events if event["kind"] == "load"}
    assert {"extra_monitor_s", "IF_curr_delta", "synapse_expande"} <= loaded
    assert pynn.errors(shared_board) == []


def test_another_script_on_the_same_board_without_monitors(shared_board, tmp_path):
    _, spikes = with_settings(shared_board, tmp_path, WITHOUT_MONITORS, NETWORK + RUN)
    assert spikes == SPIKES


def test_debug_mode_finds_nothing_to_complain_of(shared_board, tmp_path):
    reports = "\n[Mode]\nmode = Debug\n\n[Reports]\nwrite_network_graph = False\n"  # that one needs graphviz
    done, spikes = with_settings(shared_board, tmp_path, {}, NETWORK + RUN, reports)
    assert spikes == SPIKES
    database = next(tmp_path.glob("reports/*/global_provenance.sqlite3")).parent
    provenance = [path for path in database.rglob("*.sqlite3") if _has(path, "router_provenance")]
    assert provenance, sorted(database.rglob("*"))
    for path in provenance:
        with closing(sqlite3.connect(path)) as connection:
            rows = connection.execute("SELECT description, the_value FROM router_provenance").fetchall()
            assert sum(value for name, value in rows if "Local_Multicast" in name) > 0
            assert not [row for row in rows if "Dropped" in row[0] and row[1]]
            assert not [row for row in rows if "Error status" in row[0] and row[1]]
    assert "ERROR" not in done.stdout + done.stderr


def _has(path, table):
    with closing(sqlite3.connect(path)) as connection:
        return bool(connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone())


def test_a_killed_script_leaves_the_board_fit_for_the_next(shared_board, tmp_path):
    command, environment = pynn.prepare(tmp_path / "killed", shared_board, NETWORK + "sim.run(1_000_000_000)")
    already = len(shared_board.events)
    script = subprocess.Popen(
        command, cwd=tmp_path / "killed", env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        assert _await_new(shared_board, already, "RUNNING", "IF_curr_delta")
    finally:
        script.send_signal(signal.SIGKILL)
        script.wait()
    assert any(core["name"] == "IF_curr_delta" for core in shared_board.cores())
    values = pynn.run(tmp_path / "next", shared_board, NETWORK + RUN)
    assert values["spikes"] == SPIKES


def _await_new(board, already, state, name):
    return board._await(
        lambda event: (
            board.events.index(event) >= already and event.get("state") == state and event.get("name") == name
        ),
        60,
    )


def test_the_same_script_sends_the_same_packets_in_the_same_order(tmp_path):
    digests, spikes = [], []
    for number in range(2):
        with VirtualBoard(version=3, pace=None) as board:
            spikes.append(pynn.run(tmp_path / str(number), board, NETWORK + RUN)["spikes"])
            digests.append(board.statistics()["digest"])
    assert digests[0] == digests[1] != 0
    assert spikes[0] == spikes[1]


def test_a_board_that_was_just_switched_on_is_booted_by_the_host(tmp_path):
    with VirtualBoard(version=3, pace=None, cold=True) as board:
        assert pynn.run(tmp_path, board, NETWORK + RUN)["spikes"] == SPIKES
        assert board.wait_for("boot")


WHERE = """
sim.setup(1.0)
sim.set_number_of_neurons_per_core(sim.IF_curr_delta, 2)
source = sim.Population(1, sim.SpikeSourceArray(spike_times=[5]))
target = sim.Population({neurons}, sim.IF_curr_delta())
sim.Projection(source, target, sim.AllToAllConnector(), sim.StaticSynapse(weight=20.0, delay=1))
target.record("spikes")
sim.run(20)
spikes = [train.magnitude.tolist() for train in target.get_data().segments[-1].spiketrains]
from spynnaker.pyNN.data import SpynnakerDataView
machine = SpynnakerDataView.get_machine()
result(spikes=spikes, n_chips=machine.n_chips, cores=[chip.n_processors for chip in machine.chips],
       links=sum(len(list(chip.router.links)) for chip in machine.chips))
sim.end()
"""


@pytest.mark.parametrize(
    ("version", "boards", "chips", "neurons"),
    [(3, 1, 4, 40), (5, 1, 48, 120), (5, 3, 144, 40)],
    ids=["3", "5", "triad"],
)
def test_every_kind_of_machine_is_discovered_and_runs(tmp_path, version, boards, chips, neurons):
    with VirtualBoard(version=version, boards=boards, pace=None) as board:
        values = pynn.run(tmp_path, board, WHERE.format(neurons=neurons))
        loads = [event for event in board.events if event["kind"] == "load" and event["name"] == "IF_curr_delta"]
        assert pynn.errors(board) == []
    assert values["n_chips"] == chips
    assert set(values["cores"]) == {18}
    assert values["spikes"] == [[6.0]] * neurons
    assert len({tuple(event["chip"]) for event in loads}) > 1  # spikes crossed links


@pytest.mark.parametrize(
    ("faults", "chips", "cores", "links"),
    [
        (Faults(dead_cores=((0, 0, 3), (0, 0, 9))), 4, [16, 18, 18, 18], 16),
        (Faults(dead_chips=((1, 1),)), 3, [18, 18, 18], 8),
        (Faults(dead_links=((0, 0, 0),)), 4, [18, 18, 18, 18], 14),
    ],
    ids=["cores", "chip", "link"],
)
def test_the_host_does_without_what_is_dead(tmp_path, faults, chips, cores, links):
    with VirtualBoard(version=3, pace=None, faults=faults) as board:
        values = pynn.run(tmp_path, board, WHERE.format(neurons=40))
    assert values["n_chips"] == chips
    assert sorted(values["cores"]) == cores
    assert values["links"] == links
    assert values["spikes"] == [[6.0]] * 40


def test_lost_and_late_datagrams_are_asked_for_again(tmp_path):
    with VirtualBoard(version=3, pace=None, faults=Faults(udp_loss=0.02, udp_delay_ms=1.0, seed=3)) as board:
        assert pynn.run(tmp_path, board, NETWORK + RUN)["spikes"] == SPIKES


def test_dropped_spikes_are_lost_without_reinjection_and_brought_back_with_it(tmp_path):
    faults = Faults(drop_packets=0.3, seed=1)
    with VirtualBoard(version=3, pace=None, faults=faults) as board:
        _, lost = with_settings(board, tmp_path / "off", WITHOUT_MONITORS, NETWORK + RUN)
        assert board.statistics()["injected_drops"] > 3
        assert lost != SPIKES
        _, back = with_settings(board, tmp_path / "on", {}, NETWORK + RUN)
        assert board.statistics()["injected_drops"] > 3
        assert back == SPIKES


def test_a_core_that_dies_is_named_with_the_firmware_s_last_words():
    happened = []
    machine = Machine(geometry(version=3))
    try:
        monitor = Monitor(machine, happened.append)
        monitor.boot()
        chip = machine.chips[0, 1]
        binaries = Path(importlib.util.find_spec("spynnaker.pyNN.model_binaries").origin).parent
        chip.memory.write(APPLICATION_IMAGE, (binaries / "IF_curr_delta.aplx").read_bytes())
        chip.memory.set_word(SYSRAM_BASE + VCPU + 5 * VCPU_SIZE + 112, chip.sdram_heap.allocate(4096, 17))
        applications.start(machine, chip, 17 << 24 | 1 << 5)  # where the host would have loaded data there is none
        monitor.settle()
    finally:
        machine.close()
    error = next(event for event in happened if event.kind == "error")
    said = r"its last words: \[ERROR\] .*Magic number is incorrect: 00000000"
    assert re.match(rf"0,1,5 IF_curr_delta: API start-up failure at 0x[0-9a-f]{{8}}; {said}", error.message)
    assert "data_specification.c" in error.details["iobuf"]


LIVE = """
import spynnaker.pyNN.external_devices as external
sim.setup(1.0)
injector = sim.Population(4, external.SpikeInjector(database_notify_port_num={port_in}), label="in")
target = sim.Population(4, sim.IF_curr_exp(tau_refrac=40), label="out")
sim.Projection(injector, target, sim.OneToOneConnector(), sim.StaticSynapse(weight=20.0, delay=1))
target.record("spikes")
external.activate_live_output_for(target, database_notify_port_num={port_out})
sent, received = [], []
sender = external.SpynnakerLiveSpikesConnection(send_labels=["in"], local_port={port_in})
receiver = external.SpynnakerLiveSpikesConnection(receive_labels=["out"], local_port={port_out})

def send(label, connection):
    for i in range(12):
        time.sleep(0.05)
        connection.send_spike(label, i % 4)
        sent.append(i % 4)

sender.add_start_resume_callback("in", send)
receiver.add_receive_callback("out", lambda label, when, neurons: received.extend([[when, n] for n in neurons]))
sim.run(1500)
trains = target.get_data().segments[-1].spiketrains
result(sent=sent, received=received, recorded=[train.magnitude.tolist() for train in trains])
sim.end()
"""


def test_spikes_come_in_and_go_out_live(tmp_path):
    port_in, port_out = free_ports(2)
    with VirtualBoard(version=3) as board:  # in real time: the script sends by the wall clock
        values = pynn.run(tmp_path, board, LIVE.format(port_in=port_in, port_out=port_out))
    assert len(values["sent"]) == 12
    assert [len(train) for train in values["recorded"]] == [3, 3, 3, 3]
    times = {(round(time), neuron) for neuron, train in enumerate(values["recorded"]) for time in train}
    assert {(when, neuron) for when, neuron in values["received"]} == times


LOCK_STEP = """
import spynnaker.pyNN.external_devices as external
from spinnman.model.enums import CPUState
from spynnaker.pyNN.data import SpynnakerDataView as view
sim.setup(1.0)
source = sim.Population(1, sim.SpikeSourceArray(spike_times=list(range(0, 1000, 10))))
target = sim.Population(1, sim.IF_curr_delta())
sim.Projection(source, target, sim.OneToOneConnector(), sim.StaticSynapse(weight=30.0, delay=1))
target.record("spikes")
runs = threading.Thread(target=lambda: external.run_forever(sync_time=5))
runs.start()

def waiting(state):
    return view.get_transceiver().get_core_state_count(view.get_app_id(), state)

def await_state(state):
    while waiting(state) < 2:
        pass

import pathlib
while not pathlib.Path("go").exists():  # the host tools are not made for two threads that talk to the board at once
    time.sleep(0.05)
await_state(CPUState.SYNC1)
states = [CPUState.SYNC0, CPUState.SYNC1]
for chunk in range({chunks}):
    external.continue_simulation()
    await_state(states[chunk % 2])
external.request_stop()
while runs.is_alive():  # the pause takes effect in the next chunk
    runs.join(0.5)
    if runs.is_alive():
        external.continue_simulation()
result(spikes=target.get_data().segments[-1].spiketrains[0].magnitude.tolist())
sim.end()
"""


def test_in_lock_step_the_board_waits_for_the_host(tmp_path):
    with VirtualBoard(version=3, pace=None) as board:
        command, environment = pynn.prepare(tmp_path, board, LOCK_STEP.format(chunks=40))
        script = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
        try:
            assert board.wait_for("signal", 100, signal="SYNC0")
            assert board.wait_for("state", 10, state="SYNC1")
            (tmp_path / "go").touch()
            output, _ = script.communicate(timeout=100)
        finally:
            script.kill()
        signals = [event for event in board.events if event["kind"] == "signal" and "SYNC" in event["signal"]]
    spikes = json.loads(re.search("^RESULT (.*)$", output, re.MULTILINE).group(1))["spikes"]
    chunks = [signal["board_ms"] for signal in signals[1:41]]
    assert [round(b - a) for a, b in itertools.pairwise(chunks)] == [5] * 39
    assert [round(b - a) for a, b in itertools.pairwise(spikes)][:18] == [10] * 18


def free_ports(count):
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
    for opened in sockets:
        opened.bind(("", 0))
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports

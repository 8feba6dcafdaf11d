"""Agents on SpiNNaker from the command line: a virtual board is started and stopped with each command."""

import json
import signal
import time

import psutil
import pytest
from spikeloop.runtime import Trace

pytest.importorskip("spynnaker", reason="sPyNNaker is not installed: pip install 'spikeloop[spinnaker]'")

CARTPOLE = ("--on", "spinnaker-virtual", "--env", "CartPole-v1", "--episodes", "1")


def boards_of(process):
    """The processes of the virtual boards below a process."""
    return [child for child in process.children(recursive=True) if "spikeloop.virtual_board" in child.cmdline()]


def await_board(process, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and process.poll() is None:
        if found := boards_of(process):
            return found
        time.sleep(0.05)
    return pytest.fail(f"no board was started: {process.communicate()}")


def test_a_run_with_its_shadow(spikeloop, files):
    result = spikeloop(
        "run",
        "cartpole-spinnaker",
        *CARTPOLE,
        "--max-steps",
        60,
        "--shadow",
        "--trace",
        "board.db",
        "--json",
        timeout=200,
    )
    assert result.code == 0, result.err
    document = result.document
    assert document["compared_with"] == "twin"
    assert (document["agreed"], document["compared"], document["parted"]) == (60, 60, 0)
    assert document["exchange"] == {"resent": 0, "stale": 0, "late": 0}
    assert document["energy_per_decision"]["estimate"] is True
    assert document["energy_per_decision"]["parts_joules"]["idle chips"] > 0
    rows = list(Trace(files / "board.db").decisions())
    assert len(rows) == 60
    assert all(row.exchange is not None and row.spike_events is not None for row in rows)
    assert all(row.divergence is None for row in rows)


def test_spikes_that_routers_lose_are_seen_by_the_shadow(spikeloop, files):
    lossy = ("--set", "drop_packets=0.02", "--set", "self_test=false", "--set", "resends=50")
    result = spikeloop(
        "run",
        "cartpole-spinnaker",
        *CARTPOLE,
        "--max-steps",
        40,
        "--shadow",
        "--trace",
        "lossy.db",
        *lossy,
        timeout=200,
    )
    assert result.code == 0, result.err
    assert "with other spikes" in result.err
    parted = [row.divergence for row in Trace(files / "lossy.db").decisions() if row.divergence is not None]
    assert len(parted) > 3
    # A spike that is lost shows in the layer after it, or in the first one, where a bit of the input has been lost.
    assert {place.layer for place in parted} <= {0, 1}


def test_check_finds_every_spike_alike(spikeloop, files):
    result = spikeloop(
        "check",
        "cartpole-spinnaker",
        "--on",
        "spinnaker-virtual",
        "--observations",
        "states.npz",
        "--json",
        timeout=200,
    )
    assert result.code == 0, result.err
    document = result.document
    assert (document["against"], document["teacher_forced"]["agreed"], document["observations"]) == ("twin", 12, 12)
    assert (document["differing_trains"], document["first_divergence"]) == (0, None)


def test_served_to_an_environment_elsewhere(start, spikeloop):
    host = start("serve", "mountaincar-spinnaker", "--on", "spinnaker-virtual", "--bind", "tcp://127.0.0.1:*", "--json")
    address = json.loads(host.stdout.readline())["address"]
    (board,) = await_board(host)
    driven = spikeloop(
        "drive",
        "--connect",
        address,
        "--env",
        "MountainCar-v0",
        "--episodes",
        1,
        "--max-steps",
        30,
        "--json",
        timeout=120,
    )
    assert driven.code == 0, driven.err
    assert driven.document["decisions"] == 30
    assert driven.document["exchange"] == {"resent": 0, "stale": 0, "late": 0}
    host.terminate()
    host.wait(30)
    assert not board.is_running()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_board_is_given_back_when_a_run_is_stopped(start, wait_for_decisions, sent):
    name = f"stopped-{sent.name}.db"
    run = start("run", "cartpole-spinnaker", *CARTPOLE, "--in-process", "--trace", name, restore_signals=True)
    (board,) = await_board(run)
    wait_for_decisions(run, name, count=10)
    run.send_signal(sent)
    _, error = run.communicate(timeout=60)
    assert run.returncode == 130, error
    assert "Traceback" not in error
    assert not board.is_running()


def test_a_board_is_given_back_when_a_run_is_stopped_while_it_loads(start):
    run = start("run", "cartpole-spinnaker", *CARTPOLE)  # the board is the host's, in a process of its own
    (board,) = await_board(run)
    host = board.parent()
    run.send_signal(signal.SIGINT)
    _, error = run.communicate(timeout=60)
    assert run.returncode == 130, error
    assert "Traceback" not in error
    # The host may have been ended before it could wait for its board, which then ends by itself.
    _, alive = psutil.wait_procs([host, board], timeout=10)
    assert all(process.status() == psutil.STATUS_ZOMBIE for process in alive), alive


def test_a_plan_tells_what_the_machine_will_get(spikeloop):
    document = spikeloop("plan", "cartpole-spinnaker", "--on", "spinnaker-virtual", "--json").document
    assert {"cores", "delay slots", "ring-buffer shifts", "range used", "busiest tick"} <= set(document["takes"])
    assert document["energy_per_decision"]["estimate"] is True


REFUSED = {
    "no machine": ("run cartpole-spinnaker --on spinnaker --env CartPole-v1", 2, "machine_name"),
    "no circuit": ("run cartpole --on spinnaker-virtual --env CartPole-v1", 2, "does not quantise its inputs"),
    "continuous": ("run cartpole-spinnaker --on spinnaker-virtual --env Pendulum-v1", 2, "actions"),
    "too long": ("plan cartpole-spinnaker --on spinnaker-twin --set hidden_shift=0", 2, "can reach"),
    "version": ("plan cartpole-spinnaker --on spinnaker --set version=4", 2, "version"),
    "target": ("plan cartpole-spinnaker --on spinnaker-live --set target=nest", 2, "it must be one of"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_gets_one_line(in_process, name):
    words, code, text = REFUSED[name]
    assert text in in_process(*words.split()).refused(code)

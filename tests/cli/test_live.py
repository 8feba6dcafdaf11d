"""Live runs over the bridge, in real processes, and what a signal leaves behind."""

import json
import signal

import numpy as np
import psutil
import pytest
from spikeloop.models import load
from spikeloop.runtime import Trace

LONG = ("--env", "MountainCar-v0", "--episodes", "100000")  # 200 steps each, and never done


def hosts_of(process):
    return [child for child in process.children(recursive=True) if "serve" in child.cmdline()]


def check_trace(path):
    """A trace with every decision that was finished, without gaps."""
    trace = Trace(path)
    decisions = list(trace.decisions())
    assert len(decisions) == len(trace) > 0
    places = [(decision.episode, decision.step) for decision in decisions]
    assert places == [(i // 200, i % 200) for i in range(len(places))]
    # What the environment answered is written with the next decision: only the last one can lack it.
    assert all(decision.reward == -1.0 for decision in decisions[:-1])
    assert all(decision.output.shape == (3,) for decision in decisions)
    assert all(decision.action == np.argmax(decision.output) for decision in decisions)
    return trace, decisions


def test_a_run_over_the_bridge_on_nest_and_its_trace(spikeloop, files):
    words = ("run", "small.spk", "--on", "nest-exact", "--env", "CartPole-v1", "--episodes", "2", "--seed", "5")
    result = spikeloop(*words, "--trace", "run.db", "--spikes", "--json")
    assert result.code == 0, result.err
    run = result.document
    assert (run["profile"], run["mode"], run["bridge"]) == ("nest-exact", "lock-step", True)
    assert run["network_hash"] == load(files / "small.spk").content_hash
    assert [episode["seed"] for episode in run["episodes"]] == [5, 6]
    assert run["agreement"] == 1.0
    assert run["compared"] == run["decisions"] == sum(episode["length"] for episode in run["episodes"])
    assert all(value >= 0 for value in run["ms_per_decision"].values())
    assert len(result.err.splitlines()) == 2
    assert all(line.startswith("episode ") for line in result.err.splitlines())

    shown = spikeloop("inspect", "run.db", "--json").document
    assert shown["decisions"] == run["decisions"]
    assert [episode["return"] for episode in shown["episodes"]] == [episode["return"] for episode in run["episodes"]]
    assert {episode["outcome"] for episode in shown["episodes"]} == {"terminated"}
    assert shown["meta"]["network_hash"] == run["network_hash"]
    assert shown["meta"]["versions"]["nest-simulator"]
    assert spikeloop("inspect", "run.db").code == 0
    spikes = [decision.spike_events for decision in Trace(files / "run.db").decisions()]
    assert all(events.shape[1] == 3 for events in spikes)
    assert sum(len(events) for events in spikes) > 0


def test_the_bridge_and_one_process_decide_alike(spikeloop, files):
    words = ("run", "poisson.spk", "--on", "reference", "--env", "MountainCar-v0", "--episodes", "1", "--seed", "3")
    bridged = spikeloop(*words, "--trace", "bridged.db", "--json")
    single = spikeloop(*words, "--trace", "single.db", "--in-process", "--json")
    assert (bridged.code, single.code) == (0, 0)
    assert (bridged.document["bridge"], single.document["bridge"]) == (True, False)
    assert bridged.document["agreement"] == single.document["agreement"] == 1.0
    ours, theirs = (list(Trace(files / name).decisions()) for name in ("bridged.db", "single.db"))
    assert len(ours) == len(theirs) == 200
    for one, other in zip(ours, theirs, strict=True):
        assert one.action == other.action
        np.testing.assert_array_equal(one.output, other.output)


def test_a_run_for_people_ends_with_a_table(spikeloop):
    words = ("run", "small.spk", "--on", "reference", "--env", "CartPole-v1", "--episodes", "1", "--in-process")
    result = spikeloop(*words)
    assert result.code == 0
    assert "small on reference, CartPole-v1, lock-step: 1 episodes" in result.out
    assert "agreement with the reference" in result.out
    assert "100.00 %" in result.out


def test_a_run_of_an_agent_that_was_trained_for_the_profile_is_compared_with_its_twin(in_process):
    words = ("run", "distilled.spk", "--on", "nest-iaf_psc_delta", "--env", "CartPole-v1", "--episodes", "1")
    shown = in_process(*words, "--in-process")
    assert "agreement with the twin" in shown.out
    assert "100.00 %" in shown.out
    assert "as the twin" in shown.err
    assert "agreement with the reference" in in_process(*words, "--in-process", "--set", "t_ref=1.0").out


def test_a_paced_run_keeps_its_period(spikeloop):
    words = ("run", "small.spk", "--on", "reference", "--env", "CartPole-v1", "--episodes", "2")
    run = spikeloop(*words, "--pace", "1", "--slack-ms", "10", "--on-miss", "safe:1", "--json").document
    assert run["mode"] == "paced x 1"
    assert run["period_ms"] == pytest.approx(20.0)
    assert run["on_miss"] == "safe action 1"
    assert run["compared"] == run["decisions"] - run["missed"]


def serving(start, *words):
    process = start("serve", *words, "--bind", "tcp://127.0.0.1:*", "--json")
    ready = process.stdout.readline()
    assert ready, process.stderr.read()
    return process, json.loads(ready)


def test_serve_and_drive_are_two_processes(start, spikeloop, files):
    host, ready = serving(start, "small.spk", "--on", "nest-exact")
    assert ready["network_hash"] == load(files / "small.spk").content_hash
    drive = ("drive", "--connect", ready["address"], "--env", "CartPole-v1", "--episodes", "2")
    driven = spikeloop(*drive, "--reference", "small.spk", "--trace", "drive.db", "--json")
    assert driven.code == 0, driven.err
    assert driven.document["agreement"] == 1.0
    assert driven.document["host"] == ready["address"]
    assert len(Trace(files / "drive.db")) == driven.document["decisions"]

    # The host's place is free again, and it refuses what does not fit.
    wrong = spikeloop(*drive, "--reference", "poisson.spk")
    assert "refused: The client expects the network" in wrong.refused(2)
    misfit = spikeloop("drive", "--connect", ready["address"], "--env", "MountainCar-v0")
    assert "has 3 actions, the network decides between 2" in misfit.refused(2)

    host.send_signal(signal.SIGINT)
    out, err = host.communicate(timeout=20)
    assert (host.returncode, out) == (0, "")
    assert "arrived (1 of 8)" in err
    assert "Traceback" not in err


def test_serve_stops_at_sigterm_at_once_and_says_goodbye(start):
    host, _ = serving(start, "small.spk", "--on", "reference")
    host.send_signal(signal.SIGTERM)  # perhaps before it serves
    host.communicate(timeout=20)
    assert host.returncode == 0


def test_a_host_that_dies_is_an_error_and_loses_nothing(start, spikeloop, files, wait_for_decisions):
    host, ready = serving(start, "car.spk", "--on", "reference")
    drive = start("drive", "--connect", ready["address"], *LONG, "--trace", "dies.db", "--timeout", "1", "--json")
    wait_for_decisions(drive, "dies.db")
    host.kill()
    out, err = drive.communicate(timeout=20)
    assert drive.returncode == 1
    assert json.loads(out)["error"]["type"] == "HostLostError"
    assert err.splitlines()[-1].startswith(f"error: The host at {ready['address']} has not answered for")
    trace, decisions = check_trace(files / "dies.db")
    last = trace.episodes()[-1]
    assert (last["outcome"], last["length"]) == ("interrupted", len(decisions) % 200 or 200)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_a_readable_trace_and_no_host(start, spikeloop, files, wait_for_decisions, number):
    name = f"{number.name}.db"
    run = start("run", "car.spk", "--on", "nest-exact", *LONG, "--trace", name, "--json")
    wait_for_decisions(run, name)
    (host,) = hosts_of(run)
    run.send_signal(number)
    out, err = run.communicate(timeout=30)
    assert run.returncode == 130, err
    assert json.loads(out)["error"]["message"] == "Interrupted."
    assert err.splitlines()[-1] == "error: Interrupted."
    trace, decisions = check_trace(files / name)
    last = trace.episodes()[-1]
    assert last["outcome"] == "interrupted"
    assert len(decisions) - sum(episode["length"] for episode in trace.episodes()) in (0, 1)
    assert not host.is_running()
    assert spikeloop("inspect", name).code == 0


def test_a_killed_run_leaves_every_finished_decision_and_no_host(start, spikeloop, files, wait_for_decisions):
    run = start("run", "car.spk", "--on", "nest-exact", *LONG, "--trace", "killed.db")
    wait_for_decisions(run, "killed.db", 250)
    (host,) = hosts_of(run)
    run.kill()
    run.communicate()
    _, alive = psutil.wait_procs([host], timeout=20)
    for orphan in alive:
        orphan.kill()
    assert alive == []
    trace, decisions = check_trace(files / "killed.db")
    assert len(decisions) >= 250
    assert [episode["outcome"] for episode in trace.episodes()][-1] is None
    assert "cut off" in spikeloop("inspect", "killed.db").out

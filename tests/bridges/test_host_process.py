"""The host in its own process, with the real agent and NEST behind it."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from spikeloop.bridges.client import RemoteAgent
from spikeloop.bridges.host_process import HostProcess
from spikeloop.deploy.conformance import example
from spikeloop.errors import HostLostError, InvalidInputError, RefusedError
from spikeloop.models import Decoder, Encoder, Stimulus
from spikeloop.runtime import launch

STATES = np.random.default_rng(0).normal(size=(20, 3))


@pytest.mark.parametrize("encoder", [Encoder(), Encoder("poisson", two_neurons=True)], ids=["current", "poisson"])
def test_decisions_over_the_bridge_are_the_reference_s(encoder):
    network = example(0, encoder=encoder, decoder=Decoder("spike_count"))
    with launch(network) as reference, HostProcess(network, "nest-exact") as host, RemoteAgent(host.address) as remote:
        assert remote.network_hash == network.content_hash
        assert (remote.profile, remote.target, remote.steps) == ("nest-exact", "nest", 20)
        for seed in (3, 4):
            remote.reset(seed=seed)
            reference.reset(seed=seed)
            for state in STATES:
                given, expected = remote.decide(state, spikes=True), reference.decide(state, spikes=True)
                assert given.action == expected.action
                assert np.abs(given.output - expected.output).max() <= 1e-9
                assert all(np.array_equal(a, b) for a, b in zip(given.rasters, expected.rasters, strict=True))
                assert given.timings.run_us > 0


def test_spike_events_over_the_bridge():
    network = example(1)
    stimulus = Stimulus.from_events([0, 1, 1, 2], [0, 3, 3, 9], n_channels=3, window=20)
    with launch(network) as reference, HostProcess(network, "nest-exact") as host, RemoteAgent(host.address) as remote:
        given, expected = remote.decide_stimulus(stimulus), reference.decide_stimulus(stimulus)
    assert np.abs(given.output - expected.output).max() <= 1e-9


def test_two_clients_share_a_host_without_a_trace_of_each_other():
    network = example(2, encoder=Encoder("poisson", two_neurons=True))

    def outputs(remote, n=5):
        return [remote.decide(STATES[0]).output for _ in range(n)]

    with launch(network) as reference:
        reference.reset(seed=7)
        expected = [reference.decide(STATES[0]).output for _ in range(5)]
    with HostProcess(network, "reference") as host, RemoteAgent(host.address) as a, RemoteAgent(host.address) as b:
        a.reset(seed=7)
        b.reset(seed=7)
        interleaved = [(a.decide(STATES[0]).output, b.decide(STATES[0]).output) for _ in range(5)]
    for one, (first, second) in zip(expected, interleaved, strict=True):
        assert np.array_equal(first, one)
        assert np.array_equal(second, one)


def test_settings_reach_the_host():
    network = example(3)
    settings = {"resolution_ms": 1.0, "t_ref": 2.0}
    with launch(network, "nest-iaf_psc_delta", settings=settings) as local:
        expected = local.decide(STATES).output
    with HostProcess(network, "nest-iaf_psc_delta", settings=settings) as host, RemoteAgent(host.address) as remote:
        given = [remote.decide(state).output for state in STATES]
    assert np.array_equal(given, expected)


def test_a_killed_host_is_noticed_within_seconds_and_named():
    with (
        HostProcess(example(4), "reference") as host,
        RemoteAgent(host.address, why_dead=host.why_dead) as remote,
    ):
        remote.decide(STATES[0])
        os.kill(host._process.pid, signal.SIGKILL)
        started = time.monotonic()
        with pytest.raises(HostLostError, match="SIGKILL"):
            remote.decide(STATES[0])
        assert time.monotonic() - started < 8


def test_a_host_that_cannot_start_says_why():
    with (
        pytest.raises(RefusedError, match="t_ref"),
        HostProcess(example(5), "nest-iaf_psc_delta", settings={"t_ref": -1.0}),
    ):
        pass


def test_bad_input_leaves_the_conversation_alive():
    with HostProcess(example(6), "reference") as host, RemoteAgent(host.address) as remote:
        for bad in ([1.0], [np.nan, 0, 0], "abc"):
            with pytest.raises(InvalidInputError):
                remote.decide(bad)
        assert remote.decide(STATES[0]).action in (0, 1, 2)


PARENT = """
import sys, time
from spikeloop.bridges.host_process import HostProcess
from spikeloop.deploy.conformance import example
with HostProcess(example(0), "reference") as host:
    print(host._process.pid, flush=True)
    time.sleep(60)
"""


def test_the_host_ends_with_a_parent_that_is_killed():
    psutil = pytest.importorskip("psutil", reason="processes are looked up through psutil")
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 20
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the host outlived its parent"
        time.sleep(0.1)

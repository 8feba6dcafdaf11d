"""The host and the client over loopback, with a small agent whose answers are known."""

import logging
import time

import numpy as np
import pytest
from spikeloop.bridges.client import RemoteAgent
from spikeloop.bridges.wire import MAX_FRAME, ErrorCode, Ping, Pong, Reset, ResetDone, encode
from spikeloop.errors import HostLostError, LocalProtocolError, RefusedError
from spikeloop.models.stimulus import Stimulus
from spikeloop.tests.bridges.exchanges import code_of, observation, welcomed

FACTS = [
    *("network_hash", "network_name", "profile", "target", "n_inputs", "n_channels", "n_outputs"),
    *("steps", "layer_sizes", "step_ms", "window_ms", "decoder"),
]


class TestDecisions:
    def test_facts_are_those_of_the_agent(self, serving, agent):
        with serving() as host, RemoteAgent(host.address) as remote:
            for name in FACTS:
                assert getattr(remote, name) == getattr(agent, name)
            assert (remote.paced, remote.scale) == (False, 0.0)
            assert remote.software

    def test_a_decision_is_the_agents(self, serving, agent):
        with serving() as host, RemoteAgent(host.address) as remote:
            decision = remote.decide([0.5, 0.25])
        assert type(decision.action) is int
        assert decision.action == 1
        assert decision.output.tolist() == [0.75, 7.0, 0.0]
        assert decision.timings.as_dict() == {
            "encode_us": 1.0, "inject_us": 2.0, "run_us": 3.0, "read_us": 4.0, "decode_us": 5.0
        }  # fmt: skip
        assert decision.rasters is None
        assert agent.calls == [("decide", [0.5, 0.25])]

    def test_spikes_go_there_and_back(self, serving, agent):
        counts = np.zeros((1, 5, 3), np.uint8)
        counts[0, 0, 2], counts[0, 4, 1] = 1, 3
        currents = np.array([[0.0, 0.5, 0.0]])
        with serving() as host, RemoteAgent(host.address) as remote:
            for stimulus in (Stimulus(currents, counts), Stimulus(0 * currents, counts)):
                here = agent.decide_stimulus(stimulus, spikes=True)
                agent.encoder_state = (7, 0)
                there = remote.decide_stimulus(stimulus, spikes=True)
                agent.encoder_state = (7, 0)
                assert there.output.tolist() == here.output.tolist()
                assert len(there.rasters) == len(here.rasters) == 2
                for ours, theirs in zip(there.rasters, here.rasters, strict=True):
                    assert ours.dtype == np.uint8
                    assert np.array_equal(ours, theirs)
            assert remote.decide_stimulus(stimulus).rasters is None

    def test_currents_go_without_spikes(self, serving, agent):
        with serving() as host, RemoteAgent(host.address) as remote:
            decision = remote.decide_stimulus(Stimulus.from_currents([1.0, 2.0, 4.0]), spikes=True)
        assert decision.output[0] == 7.0
        assert decision.rasters[0].sum() == 0
        assert decision.rasters[1].sum() == 4
        assert agent.calls == [("decide_stimulus", [[1.0, 2.0, 4.0]])]

    def test_reset_hands_on_the_seed_or_its_absence(self, serving, agent):
        with serving() as host, RemoteAgent(host.address) as remote:
            remote.reset(seed=2**64 - 1, episode=3)
            remote.reset()
            remote.reset(seed=0)
            assert remote.decide([1.0, 1.0]).output.tolist() == [2.0, 0.0, 0.0]
        assert agent.calls[:3] == [("reset", 2**64 - 1), ("reset", None), ("reset", 0)]

    def test_submit_and_poll(self, serving, agent):
        agent.delay_s = 0.05
        with serving() as host, RemoteAgent(host.address) as remote:
            remote.submit([1.0, 0.0])
            assert remote.outstanding
            assert remote.poll() is None
            assert remote.poll(0.001) is None
            assert remote.poll(5.0).output[0] == 1.0
            assert not remote.outstanding
            with pytest.raises(LocalProtocolError, match="Nothing was submitted"):
                remote.poll()

    def test_one_request_at_a_time(self, serving, agent):
        agent.delay_s = 0.05
        with serving() as host, RemoteAgent(host.address) as remote:
            remote.submit([1.0, 0.0])
            for ask in (lambda: remote.submit([0.0, 0.0]), remote.reset, lambda: remote.decide([0.0, 0.0])):
                with pytest.raises(LocalProtocolError, match="while an Inject waits for its Readout"):
                    ask()
            assert remote.poll(5.0).output[0] == 1.0

    def test_nothing_can_be_asked_after_close(self, serving):
        with serving() as host:
            remote = RemoteAgent(host.address)
            remote.close()
            remote.close()
            with pytest.raises(LocalProtocolError, match="closed"):
                remote.decide([0.0, 0.0])
            with pytest.raises(LocalProtocolError, match="closed"):
                remote.poll()
            with pytest.raises(LocalProtocolError, match="closed"):
                remote.keep_alive()


class TestFailures:
    def test_a_failing_target_is_reported_and_the_host_lives_on(self, serving, agent, fake):
        lines = []
        with serving(log=lines.append) as host, RemoteAgent(host.address, name="env") as remote:
            with pytest.raises(RefusedError, match="The simulator fell over") as caught:
                remote.decide([fake.FAILS, 0.0])
            assert caught.value.code == "TARGET_FAILED"
            assert remote.decide([1.0, 0.0]).output[0] == 1.0
        assert "client 'env': The simulator fell over." in lines

    def test_a_defect_is_reported_and_logged_with_its_trace(self, serving, fake):
        lines = []
        with serving(log=lines.append) as host, RemoteAgent(host.address) as remote:
            with pytest.raises(RefusedError, match="failed with RuntimeError: a defect") as caught:
                remote.decide([fake.CRASHES, 0.0])
            assert caught.value.code == "TARGET_FAILED"
            assert remote.decide([1.0, 0.0]).output[0] == 1.0
        assert any("Traceback" in line and "a defect" in line for line in lines)

    def test_without_a_log_they_go_to_logging(self, serving, fake, monkeypatch):
        # Not through caplog: what it keeps for reports must be UTF-8, and the defect's message is not.
        logger, records = logging.getLogger("spikeloop.bridges.host"), []
        monkeypatch.setattr(logger, "propagate", False)
        monkeypatch.setattr(logger, "handlers", [handler := logging.Handler()])
        monkeypatch.setattr(handler, "emit", records.append)
        with serving() as host, RemoteAgent(host.address) as remote, pytest.raises(RefusedError):
            remote.decide([fake.CRASHES, 0.0])
        assert any(record.levelname == "ERROR" and "a defect" in record.getMessage() for record in records)

    def test_an_answer_too_long_for_a_frame(self, serving, fake):
        with serving() as host, RemoteAgent(host.address) as remote:
            with pytest.raises(RefusedError, match=f"at most {MAX_FRAME}") as caught:
                remote.decide([fake.IS_TOO_LONG, 0.0])
            assert caught.value.code == "TOO_LARGE"
            assert remote.decide([1.0, 0.0]).output[0] == 1.0


class TestRepetition:
    def test_a_repeated_request_gets_the_first_answer_and_decides_nothing(self, serving, agent, bare_client):
        with serving() as host, bare_client(host.address) as client:
            welcomed(client)
            frame = encode(observation(1.0, 2.0), 1)
            first = client.ask(frame)
            assert client.ask(frame) == client.ask(frame) == first
            assert agent.calls == [("decide", [1.0, 2.0])]
            assert client.ask(encode(observation(1.0, 2.0), 2))[1].output.tolist() == [3.0, 7.0, 1.0]

    def test_it_also_works_over_a_new_connection(self, serving, agent, bare_client):
        with serving() as host:
            frame = encode(observation(1.0, 2.0), 1)
            with bare_client(host.address, identity=b"one") as old:
                welcomed(old)
                first = old.ask(frame)
                # The host may not have noticed yet that the old connection is gone: here it still stands.
                with bare_client(host.address, identity=b"one") as new:
                    assert new.ask(frame) == first
                    assert new.ask(encode(Reset(1), 2)) == (2, ResetDone(1))
        assert len(agent.calls) == 2


class TestSeveralClients:
    def test_they_do_not_influence_each_other(self, serving):
        with serving() as host, RemoteAgent(host.address) as one, RemoteAgent(host.address) as two:
            two.reset(seed=11)
            outputs = [remote.decide([1.0, 0.0]).output.tolist() for remote in (one, two, two, one, two)]
            one.reset(seed=13)
            outputs += [remote.decide([1.0, 0.0]).output.tolist() for remote in (two, one)]
        seeds_and_counts = [output[1:] for output in outputs]
        assert seeds_and_counts == [[7, 0], [11, 0], [11, 1], [7, 1], [11, 2], [11, 3], [13, 0]]

    def test_each_begins_as_the_first_did(self, serving):
        with serving() as host:
            for _ in range(2):
                with RemoteAgent(host.address) as remote:
                    assert remote.decide([1.0, 0.0]).output.tolist() == [1.0, 7.0, 0.0]

    def test_the_next_one_is_refused_until_a_place_is_free(self, serving):
        with serving(max_clients=2) as host, RemoteAgent(host.address):
            with RemoteAgent(host.address):
                with pytest.raises(RefusedError, match=r"taken \(2\)") as caught:
                    RemoteAgent(host.address)
                assert caught.value.code == "BUSY"
            with RemoteAgent(host.address) as third:
                assert third.decide([1.0, 0.0]).output[0] == 1.0

    def test_who_is_silent_is_forgotten(self, serving):
        lines = []
        options = {"max_clients": 1, "idle_timeout_s": 0.2, "log": lines.append}
        with serving(**options) as host, RemoteAgent(host.address, name="sleepy") as silent:
            time.sleep(0.45)
            with RemoteAgent(host.address), pytest.raises(HostLostError, match="goodbye: nothing was heard for"):
                silent.decide([1.0, 0.0])
            with pytest.raises(LocalProtocolError, match="make another remote agent"):
                silent.decide([1.0, 0.0])
        assert "client 'sleepy' was forgotten: nothing was heard for 0.2 s" in lines

    def test_who_pings_is_not(self, serving):
        with serving(idle_timeout_s=0.2) as host, RemoteAgent(host.address) as remote:
            for _ in range(8):
                time.sleep(0.05)
                remote.keep_alive()
            assert remote.decide([1.0, 0.0]).output[0] == 1.0

    def test_the_hosts_own_work_is_no_silence_of_the_clients(self, serving, agent):
        with serving(idle_timeout_s=0.5) as host, RemoteAgent(host.address) as one, RemoteAgent(host.address) as two:
            agent.delay_s = 1.1
            one.decide([1.0, 0.0])
            agent.delay_s = 0.0
            one.decide([1.0, 0.0])
            assert two.decide([2.0, 0.0]).output[0] == 2.0

    def test_the_wrong_network(self, serving):
        with serving() as host:
            with pytest.raises(RefusedError, match="expects the network cd34; this host serves ab12") as caught:
                RemoteAgent(host.address, expect_network="cd34")
            assert caught.value.code == "WRONG_NETWORK"
            with RemoteAgent(host.address, expect_network="ab12") as remote:
                assert remote.network_hash == "ab12"


class TestPace:
    """The agent's window is 5 steps of 10 ms."""

    def test_an_answer_is_held_back_until_it_is_due(self, serving):
        with serving(pace_scale=2.0) as host, RemoteAgent(host.address) as remote:
            assert (remote.paced, remote.scale) == (True, 2.0)
            start = time.monotonic()
            for _ in range(3):
                assert remote.decide([1.0, 0.0]).output[0] == 1.0
                assert not remote.last_late
            assert 0.3 <= time.monotonic() - start < 0.5

    def test_pings_are_answered_meanwhile_and_repetitions_are_not(self, serving, agent, bare_client):
        with serving(pace_scale=4.0) as host, bare_client(host.address) as client:
            welcomed(client)
            start = time.monotonic()
            client.send(observation(1.0, 0.0), 1)
            assert client.ask(encode(Ping(), 5)) == (5, Pong())
            client.send(observation(1.0, 0.0), 1)
            assert code_of(client.ask(encode(observation(2.0, 0.0), 2))) == (2, ErrorCode.ORDER)
            assert time.monotonic() - start < 0.15
            number, readout = client.receive()
            assert time.monotonic() - start >= 0.2
            assert (number, readout.late) == (1, False)
            assert client.ask(encode(Ping(), 6)) == (6, Pong())
        assert len(agent.calls) == 1

    def test_late_is_said_and_not_held_back(self, serving, agent):
        with serving(pace_scale=1.0) as host, RemoteAgent(host.address) as remote:
            agent.delay_s = 0.1
            start = time.monotonic()
            remote.decide([1.0, 0.0])
            assert remote.last_late
            assert 0.1 <= time.monotonic() - start < 0.2
            agent.delay_s = 0.0
            remote.decide([1.0, 0.0])
            assert not remote.last_late

    def test_there_is_one_clock_and_one_client(self, serving):
        with serving(pace_scale=1.0, max_clients=8) as host, RemoteAgent(host.address):
            with pytest.raises(RefusedError) as caught:
                RemoteAgent(host.address)
            assert caught.value.code == "BUSY"

    def test_who_leaves_takes_the_held_answer_along(self, serving):
        with serving(pace_scale=4.0) as host:
            with RemoteAgent(host.address) as remote:
                remote.submit([1.0, 0.0])
                assert remote.poll(0.02) is None
            start = time.monotonic()
            with RemoteAgent(host.address) as remote:
                remote.reset()
                assert time.monotonic() - start < 0.15
                time.sleep(0.25)
                remote.reset()

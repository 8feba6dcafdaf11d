"""The host and the client over loopback, with a small agent whose answers are known."""

import logging
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import zmq
from spikeloop.bridges import wire
from spikeloop.bridges.client import RemoteAgent
from spikeloop.bridges.host import Host
from spikeloop.bridges.wire import (
    MAX_FRAME,
    UNNUMBERED,
    Bye,
    Error,
    ErrorCode,
    Hello,
    Inject,
    InputKind,
    Ping,
    Pong,
    Readout,
    Reset,
    ResetDone,
    Welcome,
    encode,
)
from spikeloop.errors import (
    AddressError,
    HostLostError,
    InvalidInputError,
    LocalProtocolError,
    RefusedError,
    RemoteProtocolError,
)
from spikeloop.models.stimulus import Stimulus


def observation(*values, spikes=False):
    return Inject(InputKind.OBSERVATION, spikes, np.array(values, np.float64))


def u32s(*values):
    return np.array(values, np.uint32)


def welcomed(client):
    """Say hello on a bare socket; requests go on with number 1."""
    number, welcome = client.ask(encode(Hello("bare"), 0))
    assert number == 0
    assert isinstance(welcome, Welcome)
    return welcome


def code_of(answer):
    number, error = answer
    assert isinstance(error, Error), error
    return number, ErrorCode(error.code)


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


class TestBadInput:
    @pytest.mark.parametrize("values", [[1.0], [[1.0, 2.0]], [1.0, np.nan], [np.inf, 0.0], "text"])
    def test_the_client_refuses_a_bad_observation_itself(self, serving, agent, values):
        with serving() as host, RemoteAgent(host.address) as remote:
            with pytest.raises(InvalidInputError):
                remote.decide(values)
            assert remote.decide([1.0, 1.0]).output[0] == 2.0
        assert len(agent.calls) == 1

    @pytest.mark.parametrize(
        "stimulus",
        [
            Stimulus(np.zeros((2, 3))),
            Stimulus(np.zeros((1, 4))),
            Stimulus(np.full((1, 3), np.nan)),
            Stimulus(np.zeros((1, 3)), np.zeros((1, 4, 3), np.uint8)),
            Stimulus(np.zeros((1, 3)), np.zeros((1, 5, 3))),
        ],
    )
    def test_the_client_refuses_a_bad_stimulus_itself(self, serving, agent, stimulus):
        with serving() as host, RemoteAgent(host.address) as remote, pytest.raises(InvalidInputError):
            remote.decide_stimulus(stimulus)
        assert agent.calls == []

    @pytest.mark.parametrize("wrong", [{"seed": -1}, {"seed": 2**64}, {"episode": -1}])
    def test_the_client_refuses_a_bad_reset_itself(self, serving, agent, wrong):
        with (
            serving() as host,
            RemoteAgent(host.address) as remote,
            pytest.raises(InvalidInputError, match="2\\*\\*64"),
        ):
            remote.reset(**wrong)
        assert agent.calls == []

    @pytest.mark.parametrize(
        "inject",
        [
            observation(1.0),
            observation(1.0, np.nan),
            observation(-np.inf, 1.0),
            Inject(InputKind.OBSERVATION, False, np.zeros(2), u32s(0), u32s(0)),
            Inject(InputKind.CURRENTS, False, np.zeros(2)),
            Inject(InputKind.CURRENTS, False, np.array([0.0, np.inf, 0.0])),
            Inject(InputKind.CURRENTS, False, np.zeros(3), u32s(0), u32s(0)),
            Inject(InputKind.SPIKES, False, np.zeros(2), u32s(0), u32s(0)),
            Inject(InputKind.SPIKES, False, np.zeros(0), u32s(3), u32s(0)),
            Inject(InputKind.SPIKES, False, np.zeros(0), u32s(0), u32s(5)),
            Inject(InputKind.SPIKES, False, np.zeros(0), u32s(0, 1), u32s(0)),
            Inject(InputKind.SPIKES, False, np.zeros(0), u32s(*[0] * 256), u32s(*[0] * 256)),
        ],
    )
    def test_the_host_refuses_what_another_client_lets_through(self, serving, agent, bare_client, inject):
        with serving() as host, bare_client(host.address) as client:
            welcomed(client)
            assert code_of(client.ask(encode(inject, 1))) == (1, ErrorCode.BAD_INPUT)
            assert agent.calls == []
            assert client.ask(encode(observation(1.0, 2.0), 2))[1].output[0] == 3.0

    def test_bad_input_found_by_the_host_is_invalid_input_for_the_caller(self, serving, bare_host):
        def host():
            sender, _ = bare_host.receive()
            bare_host.send(sender, WELCOME, 0)
            sender, _ = bare_host.receive()
            bare_host.send(sender, Error(ErrorCode.BAD_INPUT, "The seed is too odd."), 1)

        thread = threading.Thread(target=host)
        thread.start()
        with RemoteAgent(bare_host.address) as remote, pytest.raises(InvalidInputError, match="too odd"):
            remote.reset(seed=3)
        thread.join()


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


class TestHostileClients:
    def test_frames_that_are_none_of_ours_get_errors_and_the_host_lives_on(self, serving, bare_client):
        rng = np.random.default_rng(0)
        damaged = bytearray(encode(observation(1.0, 2.0), 1))
        damaged[-1] ^= 0xFF
        with serving() as host, RemoteAgent(host.address) as remote, bare_client(host.address) as client:
            for frame in (b"", b"garbage", rng.bytes(5000), bytes(MAX_FRAME), bytes(damaged)):
                assert code_of(client.ask(frame)) == (UNNUMBERED, ErrorCode.MALFORMED)
            assert code_of(client.ask([encode(Hello("x"), 0), b"more"])) == (UNNUMBERED, ErrorCode.MALFORMED)
            assert code_of(client.ask(NEWER)) == (3, ErrorCode.VERSION)
            assert code_of(client.ask(encode(observation(1.0, 2.0), 0))) == (0, ErrorCode.NOT_WELCOME)
            assert code_of(client.ask(encode(WELCOME, 0))) == (0, ErrorCode.ORDER)
            welcomed(client)
            assert code_of(client.ask(encode(observation(1.0, 2.0), 9))) == (9, ErrorCode.ORDER)
            assert code_of(client.ask(encode(Hello("again"), 1))) == (1, ErrorCode.ORDER)
            assert client.ask(encode(observation(1.0, 2.0), 1))[1].output[0] == 3.0
            assert remote.decide([4.0, 0.0]).output[0] == 4.0

    def test_a_frame_beyond_the_limit_is_cut_off(self, serving, bare_client):
        with serving() as host, RemoteAgent(host.address) as remote, bare_client(host.address, timeout_s=0.3) as client:
            with pytest.raises(zmq.Again):
                client.ask(bytes(MAX_FRAME + 1))
            assert remote.decide([4.0, 0.0]).output[0] == 4.0

    def test_strangers_may_ping_and_leave(self, serving, bare_client):
        with serving() as host, bare_client(host.address) as client:
            client.send(Bye("never mind"), 0)
            client.send(Pong(), 0)
            assert client.ask(encode(Ping(), 1)) == (1, Pong())


class TestUnreliableHosts:
    """A client against a host that the test plays."""

    def play(self, host, script):
        """Welcome the client, then run ``script(sender)`` in a thread."""

        def run():
            sender, _ = host.receive()
            host.send(sender, WELCOME, 0)
            script(sender)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def test_an_unanswered_request_is_sent_again_as_it_was(self, bare_host):
        frames = []

        def script(sender):
            for _ in range(3):
                frames.append(bare_host.receive()[1])
            bare_host.send(sender, READOUT, 1)

        thread = self.play(bare_host, script)
        with RemoteAgent(bare_host.address, timeout_s=0.1, retries=2) as remote:
            assert remote.decide([1.0, 2.0]).action == 1
        thread.join()
        assert frames == [encode(observation(1.0, 2.0), 1)] * 3

    def test_pongs_alone_keep_the_client_waiting(self, bare_host):
        def script(sender):
            end = time.monotonic() + 0.4
            while time.monotonic() < end:
                bare_host.send(sender, Pong(), 0)
                time.sleep(0.02)
            time.sleep(0.2)  # the patience begins anew with every Pong
            bare_host.send(sender, READOUT, 1)

        thread = self.play(bare_host, script)
        with RemoteAgent(bare_host.address, timeout_s=0.1, retries=3) as remote:
            assert remote.decide([1.0, 2.0]).action == 1
        thread.join()

    def test_the_client_pings_while_it_waits(self, bare_host):
        pings = []

        def script(sender):
            bare_host.receive()
            for _ in range(3):
                pings.append(wire.decode(bare_host.receive(pings=True)[1])[1])
            bare_host.send(sender, READOUT, 1)

        thread = self.play(bare_host, script)
        with RemoteAgent(bare_host.address, heartbeat_s=0.03) as remote:
            assert remote.decide([1.0, 2.0]).action == 1
        thread.join()
        assert pings == [Ping()] * 3

    def test_silence_is_a_lost_host(self, bare_host):
        thread = self.play(bare_host, lambda sender: None)
        with RemoteAgent(bare_host.address, timeout_s=0.1, retries=1) as remote:
            start = time.monotonic()
            with pytest.raises(HostLostError, match=rf"The host at {bare_host.address} has not answered for 0\.2 s"):
                remote.decide([1.0, 2.0])
            assert 0.2 <= time.monotonic() - start < 0.5
            with pytest.raises(LocalProtocolError, match="has not answered"):
                remote.decide([1.0, 2.0])
        thread.join()

    def test_a_pause_of_the_caller_is_no_silence_of_the_host(self, bare_host):
        thread = self.play(bare_host, lambda sender: bare_host.send(sender, READOUT, 1))
        with RemoteAgent(bare_host.address, timeout_s=0.05, retries=0) as remote:
            remote.submit([1.0, 2.0])
            time.sleep(0.2)
            assert remote.poll().action == 1
        thread.join()

    def test_stale_answers_are_dropped(self, bare_host):
        def script(sender):
            bare_host.receive()
            bare_host.send(sender, ResetDone(0), 1)
            bare_host.receive()
            bare_host.send(sender, WELCOME, 0)
            bare_host.send(sender, ResetDone(0), 1)
            bare_host.send(sender, READOUT, 2)

        thread = self.play(bare_host, script)
        with RemoteAgent(bare_host.address) as remote:
            remote.reset()
            assert remote.decide([1.0, 2.0]).action == 1
        thread.join()

    @pytest.mark.parametrize(
        ("answer", "why"),
        [
            (b"garbage", "no message: 7 bytes were given"),
            (ResetDone(0), "The host sent ResetDone while an Inject waits"),
            (Readout(1, np.zeros(2), np.zeros(5)), "2 outputs and 5 timings; 3 and 5"),
            (Readout(1, np.zeros(3), np.zeros(4)), "3 outputs and 4 timings; 3 and 5"),
            ((u32s(2), u32s(0), u32s(0)), "does not have"),
            ((u32s(0), u32s(3), u32s(0)), "does not have"),
            ((u32s(0), u32s(0), u32s(5)), "does not have"),
            ((u32s(0, 1), u32s(0), u32s(0)), "does not have"),
            ((u32s(*[1] * 256), u32s(*[3] * 256), u32s(*[4] * 256)), "more than 255 spikes"),
        ],
    )
    def test_nonsense_is_the_hosts_fault_and_ends_it(self, bare_host, answer, why):
        if isinstance(answer, tuple):
            layers, neurons, steps = answer
            answer = Readout(1, np.zeros(3), np.zeros(5), False, True, layers.astype(np.uint16), neurons, steps)
        frame = answer if isinstance(answer, bytes) else encode(answer, 1)
        thread = self.play(bare_host, lambda sender: bare_host.socket.send_multipart([sender, frame]))
        with RemoteAgent(bare_host.address) as remote:
            with pytest.raises(RemoteProtocolError, match=why):
                remote.decide([1.0, 2.0])
            with pytest.raises(LocalProtocolError, match="make another remote agent"):
                remote.reset()
        thread.join()

    def test_rasters_beyond_belief_are_not_allocated(self, bare_host):
        huge = Welcome("", "", "", "", "", 2, 3, 3, 2**32 - 1, u32s(2**32 - 1), False, 0.0, 1.0, 5.0, "")
        readout = Readout(1, np.zeros(3), np.zeros(5), False, True)

        def run():
            sender, _ = bare_host.receive()
            bare_host.send(sender, huge, 0)
            bare_host.send(sender, readout, 1)

        thread = threading.Thread(target=run)
        thread.start()
        with RemoteAgent(bare_host.address) as remote, pytest.raises(RemoteProtocolError, match="cells were announced"):
            remote.decide([1.0, 2.0], spikes=True)
        thread.join()

    def test_a_host_that_forgot_the_client(self, bare_host):
        error = Error(ErrorCode.NOT_WELCOME, "Who are you?")
        thread = self.play(bare_host, lambda sender: bare_host.send(sender, error, 1))
        with RemoteAgent(bare_host.address) as remote:
            with pytest.raises(RefusedError, match="Who are you") as caught:
                remote.decide([1.0, 2.0])
            assert caught.value.code == "NOT_WELCOME"
            with pytest.raises(LocalProtocolError, match="Who are you"):
                remote.decide([1.0, 2.0])
        thread.join()


class TestStopping:
    def test_clients_are_told_why(self, serving):
        with serving() as host, RemoteAgent(host.address) as remote:
            host.stop("maintenance")
            time.sleep(0.1)  # a request that comes before the host looks up would still be answered
            with pytest.raises(HostLostError, match="said goodbye: maintenance"):
                remote.decide([1.0, 0.0])

    def test_who_is_at_the_door_is_told_too(self, serving, agent, bare_client):
        agent.delay_s = 0.3
        with serving() as host, RemoteAgent(host.address) as remote, bare_client(host.address) as late:
            assert late.ask(encode(Ping(), 0)) == (0, Pong())
            remote.submit([1.0, 0.0])
            time.sleep(0.1)
            late.send(Hello("late"), 0)
            time.sleep(0.05)
            host.stop("maintenance")
            assert code_of(late.receive()) == (0, ErrorCode.SHUTTING_DOWN)

    def test_an_event_stops_it(self, agent):
        stop = threading.Event()
        with Host(agent, "tcp://127.0.0.1:*") as host:
            thread = threading.Thread(target=host.serve, args=(stop,))
            thread.start()
            with RemoteAgent(host.address) as remote:
                stop.set()
                thread.join(2)
                assert not thread.is_alive()
                with pytest.raises(HostLostError, match="goodbye: the host was stopped"):
                    remote.decide([1.0, 0.0])

    def test_a_stop_before_serving_counts(self, agent):
        with Host(agent, "tcp://127.0.0.1:*") as host:
            host.stop()
            host.serve()  # would never return otherwise

    def test_close_waits_for_a_serving_thread(self, agent):
        host = Host(agent, "tcp://127.0.0.1:*")
        thread = threading.Thread(target=host.serve)
        thread.start()
        with RemoteAgent(host.address) as remote:
            remote.reset()
            with pytest.raises(LocalProtocolError, match="serving already"):
                host.serve()
            host.close()
            thread.join(2)
            assert not thread.is_alive()
        host.close()
        with pytest.raises(LocalProtocolError, match="closed"):
            host.serve()


class TestProcesses:
    @pytest.fixture
    def process(self, fake):
        with subprocess.Popen([sys.executable, fake.__file__], stdout=subprocess.PIPE, text=True) as process:
            yield process, process.stdout.readline().strip()
            process.kill()

    def test_a_killed_host_is_noticed_in_time(self, process):
        host, address = process
        with RemoteAgent(address, timeout_s=0.2, retries=1) as remote:
            remote.reset(episode=1)
            assert remote.decide([1.0, 0.0]).output[0] == 1.0
            host.kill()
            host.wait()
            start = time.monotonic()
            with pytest.raises(HostLostError, match=r"has not answered for 0\.\d s"):
                remote.decide([1.0, 0.0])
            assert time.monotonic() - start < 1.0

    @pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
    def test_a_signal_ends_it_with_a_goodbye(self, process, name):
        host, address = process
        with RemoteAgent(address) as remote:
            host.send_signal(getattr(signal, name))
            assert host.wait(3) == 0
            assert host.stdout.read() == "closed\n"
            with pytest.raises(HostLostError, match=f"goodbye: the host was stopped by {name}"):
                remote.decide([1.0, 0.0])

    def test_handlers_are_put_back(self, agent):
        before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        with Host(agent, "tcp://127.0.0.1:*") as host:
            host.stop()
            host.serve_until_signalled()
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


class TestAddresses:
    def test_a_port_in_use(self, agent):
        with (
            Host(agent, "tcp://127.0.0.1:*") as host,
            pytest.raises(AddressError, match=r"cannot be bound: something else listens there"),
        ):
            Host(agent, host.address)

    @pytest.mark.parametrize("address", ["tcp://192.0.2.1:5560", "tcp://no-such-host.invalid:5560"])
    def test_not_of_this_machine(self, agent, address):
        with pytest.raises(AddressError, match="no such address"):
            Host(agent, address)

    @pytest.mark.parametrize(
        "address",
        ["", "5560", "127.0.0.1:5560", "tcp://127.0.0.1", "tcp://:5560", "http://127.0.0.1:80", "ipc:///tmp/x",
         "tcp://127.0.0.1:65536", "tcp://127.0.0.1:-1", "tcp://127.0.0.1:5560/x", "tcp://a b:1", "tcp://::1:80"],
    )  # fmt: skip
    def test_malformed(self, agent, address):
        with pytest.raises(AddressError):
            Host(agent, address)
        with pytest.raises(AddressError):
            RemoteAgent(address)

    @pytest.mark.parametrize("address", ["tcp://*:5560", "tcp://127.0.0.1:*", "tcp://127.0.0.1:0"])
    def test_nothing_to_connect_to(self, address):
        with pytest.raises(AddressError, match="names no single host and port"):
            RemoteAgent(address)

    def test_a_name_that_nobody_knows(self):
        with pytest.raises(AddressError, match=r"'no-such-host\.invalid' is not known"):
            RemoteAgent("tcp://no-such-host.invalid:5560")

    @pytest.mark.parametrize("bind", ["tcp://localhost:0", "tcp://127.0.0.1:*", "tcp://*:*", "tcp://[::1]:*"])
    def test_the_actual_address_can_be_connected(self, agent, bind):
        with Host(agent, bind) as host:
            thread = threading.Thread(target=host.serve)
            thread.start()
            with RemoteAgent(host.address) as remote:
                assert remote.decide([1.0, 0.0]).output[0] == 1.0
            host.stop()
            thread.join()

    def test_nobody_there(self, agent):
        with Host(agent, "tcp://127.0.0.1:*") as host:
            address = host.address
        start = time.monotonic()
        with pytest.raises(HostLostError, match=rf"The host at {address} has not answered for 0\.2 s"):
            RemoteAgent(address, timeout_s=0.1, retries=1)
        assert time.monotonic() - start < 1.0


@pytest.mark.parametrize(
    "wrong",
    [{"max_clients": 0}, {"idle_timeout_s": 0.0}, {"pace_scale": 0.0}, {"pace_scale": float("nan")}],
)
def test_settings_of_a_host_have_their_range(agent, wrong):
    with pytest.raises(InvalidInputError, match=next(iter(wrong))):
        Host(agent, "tcp://127.0.0.1:*", **wrong)


@pytest.mark.parametrize("wrong", [{"timeout_s": 0.0}, {"heartbeat_s": -1.0}, {"retries": -1}])
def test_settings_of_a_client_have_their_range(wrong):
    with pytest.raises(InvalidInputError, match=next(iter(wrong))):
        RemoteAgent("tcp://127.0.0.1:5560", **wrong)


WELCOME = Welcome("", "", "", "", "", 2, 3, 3, 5, u32s(3, 4), False, 0.0, 1.0, 5.0, "")
READOUT = Readout(1, np.zeros(3), np.zeros(5))
NEWER = bytes.fromhex("53504b4c0301000003000000000000000000000027e8cc7e")

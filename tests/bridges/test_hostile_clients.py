"""A host against clients that ask for what cannot be, or do not keep to the rules."""

import threading

import numpy as np
import pytest
import zmq
from spikeloop.bridges.client import RemoteAgent
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
    encode,
)
from spikeloop.errors import InvalidInputError
from spikeloop.models.stimulus import Stimulus
from spikeloop.tests.bridges.exchanges import WELCOME, code_of, observation, u32s, welcomed

NEWER = bytes.fromhex("53504b4c0301000003000000000000000000000027e8cc7e")


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

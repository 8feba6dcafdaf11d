"""The rules of a conversation, one by one, without sockets."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spikeloop.bridges import wire
from spikeloop.bridges.protocol import (
    ANSWERS,
    CONVERSATION,
    FINAL,
    REFUSALS,
    REQUESTS,
    ClientConversation,
    HostConversation,
    Ignored,
    Pinged,
    Rejected,
    Repeated,
    State,
    checked,
    spike_events,
)
from spikeloop.bridges.wire import (
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
    decode,
    encode,
)
from spikeloop.errors import InvalidInputError, LocalProtocolError, RemoteProtocolError

HELLO, RESET, DONE = Hello("env"), Reset(1), ResetDone(1)
INJECT, OTHER = (Inject(InputKind.OBSERVATION, False, np.array([value])) for value in (1.0, 2.0))
READOUT = Readout(1, np.zeros(2), np.zeros(5))
WELCOME = Welcome("", "", "", "", "", 1, 1, 2, 5, np.zeros(0, np.uint32), False, 0.0, 1.0, 5.0, "")
SAMPLES = [HELLO, RESET, DONE, INJECT, READOUT, WELCOME, Ping(), Pong(), Bye(""), Error(ErrorCode.BAD_INPUT, "")]

HOST_PATHS = {  # how a conversation comes into each state
    State.STRANGER: [],
    State.GREETING: [HELLO],
    State.READY: [HELLO, WELCOME],
    State.RESETTING: [HELLO, WELCOME, RESET],
    State.DECIDING: [HELLO, WELCOME, INJECT],
    State.OVER: [HELLO, WELCOME, Bye("")],
}


def host_in(state):
    """A host's side in `state`, and the number that its client's next request has."""
    host, number = HostConversation(), 0
    for message in HOST_PATHS[state]:
        if type(message) in ANSWERS:
            host.reply(message)
        else:
            host.receive(encode(message, number))
            number += 1
    assert host.state is state
    return host, number


def client_in(state):
    client = ClientConversation()
    for message in HOST_PATHS[state]:
        if type(message) in REQUESTS:
            client.request(message)
        elif isinstance(message, Bye):
            client.goodbye("")
        else:
            client.receive(encode(message, 0))
    assert client.state is state
    return client


def refusal(event):
    """Number and code of a Rejected event, which must be what its bytes say."""
    assert isinstance(event, Rejected)
    number, error = decode(event.reply)
    assert error == event.error
    return number, ErrorCode(error.code)


class TestTables:
    def test_every_state_has_its_row(self):
        assert set(CONVERSATION) == set(REFUSALS) == set(State)

    def test_who_may_speak(self):
        for state in State:
            speakers = set(CONVERSATION[state])
            assert speakers <= REQUESTS or speakers <= ANSWERS

    def test_an_answer_or_an_error_ends_every_wait(self):
        for row in CONVERSATION.values():
            if any(message in ANSWERS for message in row):
                assert Error in row

    @pytest.mark.parametrize("state", State)
    @pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
    def test_the_host_accepts_what_the_table_allows_and_nothing_else(self, state, message):
        host, number = host_in(state)
        event = host.receive(encode(message, number))
        if type(message) in REQUESTS and type(message) in CONVERSATION[state]:
            assert event == message
            assert host.state is CONVERSATION[state][type(message)]
        elif isinstance(message, Bye):
            assert event == message
            assert host.state is State.OVER
        else:
            assert host.state is state
            if isinstance(message, Ping):
                assert isinstance(event, Pinged)
            elif isinstance(message, Pong | Error):
                assert event == Ignored()
            else:
                code = REFUSALS[state][0] if type(message) in REQUESTS else ErrorCode.ORDER
                assert refusal(event) == (number, code)

    @pytest.mark.parametrize("state", State)
    @pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
    def test_the_host_sends_what_the_table_allows_and_nothing_else(self, state, message):
        host, number = host_in(state)
        if type(message) in ANSWERS and type(message) in CONVERSATION[state]:
            assert decode(host.reply(message)) == (number - 1, message)
            assert host.state is CONVERSATION[state][type(message)]
        else:
            with pytest.raises(LocalProtocolError, match=f"No {type(message).__name__} can be sent while"):
                host.reply(message)
            assert host.state is state

    @pytest.mark.parametrize("state", State)
    @pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
    def test_the_client_sends_what_the_table_allows_and_nothing_else(self, state, message):
        client = client_in(state)
        if type(message) in REQUESTS and type(message) in CONVERSATION[state]:
            assert decode(client.request(message))[1] == message
            assert client.outstanding
        else:
            with pytest.raises(LocalProtocolError, match=f"No {type(message).__name__} can be sent while"):
                client.request(message)
            assert client.state is state

    @pytest.mark.parametrize("state", [State.GREETING, State.RESETTING, State.DECIDING])
    @pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
    def test_the_client_takes_what_the_table_allows_and_nothing_else(self, state, message):
        client = client_in(state)
        number = 0 if state is State.GREETING else 1
        if type(message) in CONVERSATION[state]:
            assert client.receive(encode(message, number)) == message
            assert client.state is CONVERSATION[state][type(message)]
        elif isinstance(message, Bye):
            assert client.receive(encode(message, number)) == message
            assert client.state is State.OVER
        elif isinstance(message, Ping | Pong):
            assert client.receive(encode(message, number)) is None
            assert client.outstanding
        else:
            with pytest.raises(RemoteProtocolError, match=f"The host sent {type(message).__name__}"):
                client.receive(encode(message, number))


class TestNumbering:
    def test_requests_count_from_zero_and_answers_carry_their_number(self):
        client, host = ClientConversation(), HostConversation()
        for expected, (request, answer) in enumerate([(HELLO, WELCOME), (RESET, DONE), (INJECT, READOUT)]):
            frame = client.request(request)
            assert decode(frame)[0] == expected
            assert host.receive(frame) == request
            reply = host.reply(answer)
            assert decode(reply)[0] == expected
            assert client.receive(reply) == answer

    @pytest.mark.parametrize("number", [3, 100, UNNUMBERED])
    def test_a_number_too_high_is_out_of_order(self, number):
        host, _ = host_in(State.READY)
        host.receive(encode(RESET, 1))
        host.reply(DONE)
        assert refusal(host.receive(encode(INJECT, number))) == (number, ErrorCode.ORDER)
        assert host.receive(encode(INJECT, 2)) == INJECT

    def test_a_number_long_past_is_out_of_order(self):
        host, _ = host_in(State.READY)
        for number in (1, 2):
            host.receive(encode(RESET, number))
            host.reply(DONE)
        assert refusal(host.receive(encode(RESET, 1))) == (1, ErrorCode.ORDER)

    def test_hello_is_number_zero(self):
        host = HostConversation()
        assert refusal(host.receive(encode(HELLO, 1))) == (1, ErrorCode.ORDER)
        assert host.receive(encode(HELLO, 0)) == HELLO

    def test_a_failed_encoding_uses_no_number(self):
        client = client_in(State.READY)
        with pytest.raises(LocalProtocolError):
            client.request(Reset(-1))
        assert decode(client.request(RESET))[0] == 1


class TestRepetition:
    def test_the_first_answer_comes_again(self):
        host, number = host_in(State.READY)
        frame = encode(INJECT, number)
        host.receive(frame)
        reply = host.reply(READOUT)
        for _ in range(3):
            assert host.receive(frame) == Repeated(reply)
        assert host.receive(encode(INJECT, number + 1)) == INJECT

    def test_there_is_none_while_it_is_worked_on(self):
        host, number = host_in(State.READY)
        frame = encode(INJECT, number)
        host.receive(frame)
        assert host.receive(frame) == Repeated(None)
        assert decode(host.reply(READOUT)) == (number, READOUT)

    def test_an_error_is_an_answer_too(self):
        host, number = host_in(State.READY)
        frame = encode(INJECT, number)
        host.receive(frame)
        reply = host.reply(Error(ErrorCode.BAD_INPUT, "no"))
        assert host.receive(frame) == Repeated(reply)

    def test_other_bytes_under_the_same_number_are_refused(self):
        host, number = host_in(State.READY)
        host.receive(encode(INJECT, number))
        reply = host.reply(READOUT)
        assert refusal(host.receive(encode(OTHER, number))) == (number, ErrorCode.ORDER)
        assert host.receive(encode(INJECT, number)) == Repeated(reply)

    def test_a_repeated_hello(self):
        host = HostConversation()
        host.receive(encode(HELLO, 0))
        reply = host.reply(WELCOME)
        assert host.receive(encode(HELLO, 0)) == Repeated(reply)

    def test_the_client_repeats_byte_for_byte(self):
        client = client_in(State.READY)
        frame = client.request(INJECT)
        assert client.again() == client.again() == frame
        client.receive(encode(READOUT, 1))
        with pytest.raises(LocalProtocolError, match="nothing to repeat"):
            client.again()


class TestRefusals:
    def test_a_damaged_frame_has_no_number(self):
        host, number = host_in(State.READY)
        frame = bytearray(encode(INJECT, number))
        frame[-1] ^= 1
        assert refusal(host.receive(bytes(frame))) == (UNNUMBERED, ErrorCode.MALFORMED)
        assert host.receive(encode(INJECT, number)) == INJECT

    def test_a_bad_payload_in_a_good_frame_has_one(self):
        head = struct.pack("<4sBBHQI", b"SPKL", 2, 3, 0, 5, 0)
        frame = head + struct.pack("<I", zlib.crc32(head + bytes(4)))
        assert refusal(HostConversation().receive(frame)) == (5, ErrorCode.MALFORMED)

    def test_another_version_is_told_both_versions(self):
        head = struct.pack("<4sBBHQI", b"SPKL", 9, 1, 0, 0, 3)
        frame = head + struct.pack("<I", zlib.crc32(b"new", zlib.crc32(head + bytes(4)))) + b"new"
        event = HostConversation().receive(frame)
        assert refusal(event) == (0, ErrorCode.VERSION)
        assert "version 9" in event.error.message
        assert "version 2" in event.error.message

    @settings(deadline=None)
    @given(st.binary(max_size=100), st.sampled_from(State))
    def test_random_bytes_change_nothing(self, data, state):
        host, number = host_in(state)
        assert refusal(host.receive(data)) == (UNNUMBERED, ErrorCode.MALFORMED)
        assert host.state is state
        if state is State.READY:
            assert host.receive(encode(INJECT, number)) == INJECT

    @settings(deadline=None)
    @given(st.lists(st.tuples(st.sampled_from(SAMPLES), st.integers(0, 4)), max_size=12))
    def test_whatever_order_the_host_survives_and_its_answers_can_be_read(self, said):
        host = HostConversation()
        for message, number in said:
            event = host.receive(encode(message, number))
            if type(event) in REQUESTS:
                reply = host.reply({Hello: WELCOME, Reset: DONE, Inject: READOUT}[type(event)])
            else:
                reply = getattr(event, "reply", None)
            if reply is not None:
                assert decode(reply)[0] in (number, UNNUMBERED)


class TestPingsAndByes:
    @pytest.mark.parametrize("state", State)
    def test_a_ping_gets_a_pong_of_its_number(self, state):
        host, _ = host_in(state)
        assert decode(host.receive(encode(Ping(), 77)).reply) == (77, Pong())

    @pytest.mark.parametrize("side", [HostConversation, ClientConversation])
    def test_goodbye_ends_it_from_this_side(self, side):
        conversation = side()
        assert decode(conversation.goodbye("done")) == (UNNUMBERED, Bye("done"))
        assert conversation.state is State.OVER


class TestClient:
    def test_stale_answers_are_dropped(self):
        client = client_in(State.READY)
        client.request(INJECT)
        assert client.receive(encode(WELCOME, 0)) is None
        assert client.receive(encode(READOUT, 1)) == READOUT
        assert client.receive(encode(READOUT, 1)) is None
        assert client.state is State.READY

    def test_an_answer_to_what_was_never_asked(self):
        client = client_in(State.READY)
        with pytest.raises(RemoteProtocolError, match="answered request 5; the last one was number 0"):
            client.receive(encode(READOUT, 5))

    def test_bytes_that_are_no_message(self):
        with pytest.raises(RemoteProtocolError, match="no message: 7 bytes were given"):
            client_in(State.DECIDING).receive(b"garbage")

    @pytest.mark.parametrize("code", ErrorCode)
    def test_some_errors_end_the_conversation_and_others_do_not(self, code):
        client = client_in(State.DECIDING)
        assert client.receive(encode(Error(code, ""), 1)) == Error(code, "")
        assert client.state is (State.OVER if code in FINAL else State.READY)

    def test_only_errors_about_one_request_are_survived(self):
        assert set(ErrorCode) - FINAL == {ErrorCode.BAD_INPUT, ErrorCode.TARGET_FAILED, ErrorCode.TOO_LARGE}

    def test_an_error_without_a_number_is_for_the_request_that_waits(self):
        client = client_in(State.DECIDING)
        assert client.receive(encode(Error(ErrorCode.MALFORMED, "?"), UNNUMBERED)) == Error(ErrorCode.MALFORMED, "?")
        assert client.state is State.OVER
        client = client_in(State.READY)
        assert client.receive(encode(Error(ErrorCode.MALFORMED, "?"), UNNUMBERED)) is None


class TestValues:
    def test_good_ones_pass(self):
        assert checked([1, 2], "observation", 2).tolist() == [1.0, 2.0]
        assert checked(np.array([1.0, -1e300]), "observation", 2).tolist() == [1.0, -1e300]

    @pytest.mark.parametrize(
        "values", [[1.0], [1.0, 2.0, 3.0], [[1.0, 2.0]], [1.0, np.nan], [-np.inf, 1.0], "ab", None]
    )
    def test_others_do_not(self, values):
        if isinstance(values, list):
            with pytest.raises(InvalidInputError, match="observation"):
                checked(np.array(values), "observation", 2)
        with pytest.raises(InvalidInputError, match="observation"):
            checked(values, "observation", 2)

    def test_a_cell_that_spikes_twice_is_named_twice(self):
        steps, columns = spike_events(np.array([[0, 2], [1, 0]], np.uint8))
        assert steps.tolist() == [0, 0, 1]
        assert columns.tolist() == [1, 1, 0]


def test_every_type_of_message_is_sampled():
    assert {type(message) for message in SAMPLES} == set(wire.TYPES.values())

"""The rules of a conversation between an environment (client) and a network (host). No sockets and no clocks here.

1.  The client asks, the host answers, one request at a time. The requests are Hello, Reset and Inject; the answers
    Welcome, ResetDone and Readout, or an Error in place of any of them. :data:`CONVERSATION` says what may follow what.
2.  The client numbers its requests 0, 1, 2, ...; an answer carries the number of its request. Hello is number 0.
3.  A request may be repeated, byte for byte, as often as the client likes: nothing is done again. It gets its first
    answer again, or none while that is still being worked on.
4.  The last number with other bytes, or a number that is neither the last nor the next, is refused: Error(ORDER).
    So is a new request while an answer is owed. Requests of somebody who was not welcomed get Error(NOT_WELCOME).
5.  Frames that are no message get Error(MALFORMED), those of another version Error(VERSION). The Error carries the
    frame's number where that can be read, and UNNUMBERED where not.
6.  What rules 4 and 5 refuse leaves the host's side as it was. For the client an Error of :data:`FINAL` ends the
    conversation: the two sides do not agree on where they are.
7.  Ping, Pong and Bye stand outside of the numbering. A Ping gets a Pong of the same number, in any state. A Bye ends
    the conversation and is not answered. An Error or a Pong is never answered either, so that two sides cannot quarrel
    for ever.
8.  Observations and currents are finite, and as many as the network takes; everything else gets Error(BAD_INPUT).
9.  Spikes are sent one by one, as events: a neuron or channel that spikes twice in a step is named twice.
10. The client drops answers to requests before its last one, and answers that come a second time.

LocalProtocolError says that this side broke a rule, RemoteProtocolError that the other one did. The host never raises
the second: it refuses, and lives on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidInputError, LocalProtocolError, RemoteProtocolError, WireError
from ..models.stimulus import CountArray, FloatArray, finite
from . import wire
from .wire import Bye, Error, ErrorCode, Hello, Inject, Message, Ping, Pong, Readout, Reset, ResetDone, Welcome


class State(StrEnum):
    """Where a conversation is; both sides go through the same states."""

    STRANGER = "nobody has said hello"
    GREETING = "a Hello waits for its Welcome"
    READY = "the next request may come"
    RESETTING = "a Reset waits for its answer"
    DECIDING = "an Inject waits for its Readout"
    OVER = "the conversation is over"


CONVERSATION: Mapping[State, Mapping[type[Message], State]] = {
    State.STRANGER: {Hello: State.GREETING},
    State.GREETING: {Welcome: State.READY, Error: State.OVER},
    State.READY: {Reset: State.RESETTING, Inject: State.DECIDING},
    State.RESETTING: {ResetDone: State.READY, Error: State.READY},
    State.DECIDING: {Readout: State.READY, Error: State.READY},
    State.OVER: {},
}
"""Which messages may come in a state, and the state that follows."""

REFUSALS: Mapping[State, tuple[ErrorCode, str]] = {
    State.STRANGER: (ErrorCode.NOT_WELCOME, "the host does not know this client (any more), so Hello must come first"),
    State.GREETING: (ErrorCode.ORDER, "the Hello has not been answered yet"),
    State.READY: (ErrorCode.ORDER, "Hello is said only once"),
    State.RESETTING: (ErrorCode.ORDER, "the Reset before it has not been answered yet"),
    State.DECIDING: (ErrorCode.ORDER, "the Inject before it has not been answered yet"),
    State.OVER: (ErrorCode.NOT_WELCOME, "the conversation is over: begin another one with a Hello"),
}
"""How a host refuses a request that may not come in a state."""

REQUESTS = frozenset({Hello, Reset, Inject})
ANSWERS = frozenset({Welcome, ResetDone, Readout, Error})
FINAL = frozenset(ErrorCode) - {ErrorCode.BAD_INPUT, ErrorCode.TARGET_FAILED, ErrorCode.TOO_LARGE}
"""The Errors after which a client cannot go on."""


@dataclass(frozen=True, slots=True)
class Pinged:
    """The client asked whether the host is there: send `reply`."""

    reply: bytes


@dataclass(frozen=True, slots=True)
class Repeated:
    """A request came again: send `reply`, its first answer, or nothing (None) while that is not there yet."""

    reply: bytes | None


@dataclass(frozen=True, slots=True)
class Rejected:
    """The rules do not allow this frame: send `reply`, which carries `error`."""

    reply: bytes
    error: Error


@dataclass(frozen=True, slots=True)
class Ignored:
    """Nothing to do, nothing to send."""

    reply: None = None


HostEvent = Hello | Reset | Inject | Bye | Pinged | Repeated | Rejected | Ignored


class HostConversation:
    """The host's side of the conversation with one client.

    Give each frame of the client to :meth:`receive`. Of the events, Hello, Reset and Inject ask for :meth:`reply`, Bye
    asks to forget the client, and all others carry what there is to send in their attribute ``reply``.
    """

    __slots__ = ("_last", "_number", "_reply", "state")

    def __init__(self) -> None:
        self.state = State.STRANGER
        self._number = -1  # of the last request that was accepted
        self._last: bytes | None = None  # its frame
        self._reply: bytes | None = None  # the frame of its answer, once given

    def receive(self, frame: bytes) -> HostEvent:
        """What a frame of the client means. Never raises, whatever the bytes are."""
        if frame == self._last:
            return Repeated(self._reply)
        try:
            number, message = wire.decode(frame)
        except WireError as error:
            return _malformed(frame, error)
        if isinstance(message, (Hello, Reset, Inject)):  # not a union, which would be built anew each time
            return self._request(number, message, frame)
        match message:
            case Ping():
                return Pinged(wire.encode(Pong(), number))
            case Bye():
                self.state = State.OVER
                return message
            case Pong() | Error():
                return Ignored()
        return _rejected(number, ErrorCode.ORDER, f"Only a host may send {type(message).__name__}.")

    def _request(self, number: int, request: Hello | Reset | Inject, frame: bytes) -> HostEvent:
        follows = CONVERSATION[self.state].get(type(request))
        if follows is None:
            code, why = REFUSALS[self.state]
            return _rejected(number, code, f"The {type(request).__name__} number {number} is refused: {why}.")
        if number == self._number:
            return _rejected(number, ErrorCode.ORDER, f"Request {number} was another one: a repetition must be exact.")
        if number != self._number + 1:
            due = self._number + 1
            return _rejected(number, ErrorCode.ORDER, f"Request number {number} is out of order: number {due} is due.")
        self.state = follows
        self._number, self._last, self._reply = number, frame, None
        return request

    def reply(self, message: Message) -> bytes:
        """The frame that answers the request which is open.

        Raises
        ------
        LocalProtocolError
            If no request is open, `message` does not answer it, or `message` cannot be encoded.
        """
        follows = CONVERSATION[self.state].get(type(message)) if type(message) in ANSWERS else None
        if follows is None:
            raise LocalProtocolError(f"No {type(message).__name__} can be sent while {self.state}.")
        self._reply = wire.encode(message, self._number)
        self.state = follows
        return self._reply

    def goodbye(self, reason: str) -> bytes:
        """The frame that ends the conversation from this side."""
        self.state = State.OVER
        return wire.encode(Bye(reason), wire.UNNUMBERED)


class ClientConversation:
    """The client's side: :meth:`request` gives the frame to send, :meth:`receive` the answer once it has come."""

    __slots__ = ("_number", "_request", "state")

    def __init__(self) -> None:
        self.state = State.STRANGER
        self._number = -1
        self._request = b""

    @property
    def outstanding(self) -> bool:
        """Whether an answer is owed."""
        return self.state in (State.DECIDING, State.RESETTING, State.GREETING)

    def request(self, message: Message) -> bytes:
        """The frame of the next request.

        Raises
        ------
        LocalProtocolError
            If `message` is no request, its turn has not come, or it cannot be encoded.
        """
        follows = CONVERSATION[self.state].get(type(message)) if type(message) in REQUESTS else None
        if follows is None:
            raise LocalProtocolError(f"No {type(message).__name__} can be sent while {self.state}.")
        self._request = wire.encode(message, self._number + 1)
        self._number += 1
        self.state = follows
        return self._request

    def again(self) -> bytes:
        """The frame of the outstanding request once more, byte for byte."""
        if not self.outstanding:
            raise LocalProtocolError("No request waits for an answer; there is nothing to repeat.")
        return self._request

    def receive(self, frame: bytes) -> Message | None:
        """The answer to the outstanding request, or a Bye; None for what is stale or needs no attention.

        Raises
        ------
        RemoteProtocolError
            If the host sends what is no message, or what it may not send now.
        """
        try:
            number, message = wire.decode(frame)
        except WireError as error:
            raise RemoteProtocolError(f"The host sent what is no message: {error}") from None
        if type(message) not in ANSWERS:
            return self._aside(message)
        # An Error about a frame whose number could not be read: that of the request, if there is one.
        unnumbered = isinstance(message, Error) and number == wire.UNNUMBERED
        if number > self._number and not unnumbered:
            raise RemoteProtocolError(f"The host answered request {number}; the last one was number {self._number}.")
        if number < self._number or not self.outstanding:
            return None
        follows = CONVERSATION[self.state].get(type(message))
        if follows is None:
            raise RemoteProtocolError(f"The host sent {type(message).__name__} while {self.state}.")
        final = isinstance(message, Error) and (message.code in FINAL or unnumbered)
        self.state = State.OVER if final else follows
        return message

    def _aside(self, message: Message) -> Message | None:
        """What stands outside of the numbering."""
        if isinstance(message, Bye):
            self.state = State.OVER
            return message
        if type(message) in REQUESTS:
            raise RemoteProtocolError(f"The host sent {type(message).__name__}, which only a client may send.")
        return None

    def goodbye(self, reason: str) -> bytes:
        """The frame that ends the conversation from this side."""
        self.state = State.OVER
        return wire.encode(Bye(reason), wire.UNNUMBERED)


def checked(values: object, name: str, size: int) -> FloatArray:
    """Rule 8: `values` as a flat array of `size` finite numbers.

    Raises
    ------
    InvalidInputError
        If they are anything else.
    """
    if isinstance(values, np.ndarray) and values.dtype == np.float64:
        usual: FloatArray = values
        if usual.shape == (size,) and 0 not in np.isfinite(usual).tobytes():  # a quarter of the time of `all`
            return usual
    array = finite(values, name)
    if array.shape != (size,):
        raise InvalidInputError(f"The {name} has the shape {array.shape}; this network takes ({size},).")
    return array


def spike_events(counts: CountArray) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Rule 9: the steps and the columns of the spikes that are counted in ``counts[step, column]``."""
    steps, columns = np.nonzero(counts)
    times = counts[steps, columns]
    return np.repeat(steps, times).astype(np.uint32), np.repeat(columns, times).astype(np.uint32)


def _malformed(frame: bytes, error: WireError) -> Rejected:
    try:
        version, _, _, number = wire.read_header(frame)
    except WireError:
        return _rejected(wire.UNNUMBERED, ErrorCode.MALFORMED, str(error))
    code = ErrorCode.MALFORMED if version == wire.VERSION else ErrorCode.VERSION
    return _rejected(number, code, str(error))


def _rejected(number: int, code: ErrorCode, text: str) -> Rejected:
    error = Error(code, text)
    return Rejected(wire.encode(error, number), error)

"""The wire format, version 2: one message is one frame. Bytes in, messages out; no sockets here.

A frame is a header of 24 bytes and a payload, everything little-endian::

    0      4        5     6      8         16      20     24
    magic  version  type  flags  sequence  length  crc32  payload
    SPKL   u8       u8    u16    u64       u32     u32    `length` bytes

The crc32 is that of the whole frame with its own four bytes taken as zero. The header and the ERROR message are frozen
for all versions, so that a host can tell a client of another version so, in words that it can read.

The messages below are the format: the annotation of a field is its codec, and :mod:`~spikeloop.bridges.codecs` says how
a payload is laid out. Whatever bytes come in, :func:`decode` answers with a message or a WireError, and never allocates
more than the frame itself holds.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Annotated, Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from ..errors import LocalProtocolError, WireError
from . import codecs

MAGIC = b"SPKL"
VERSION = 2
MAX_FRAME = 16 * 1024 * 1024
"""No frame is longer than this, in bytes, header included."""
UNNUMBERED = 2**64 - 1
"""The sequence number of an ERROR about a frame whose own number cannot be read."""

_HEADER = struct.Struct("<4sBBHQII")
HEADER_SIZE = _HEADER.size
_CRC_AT = HEADER_SIZE - 4
_NO_CRC = bytes(4)


class InputKind(IntEnum):
    """What the values of an :class:`Inject` are."""

    OBSERVATION = 0
    CURRENTS = 1
    SPIKES = 2


class ErrorCode(IntEnum):
    """Why a host refuses; frozen in its numbers, open at its end."""

    VERSION = 1
    MALFORMED = 2
    ORDER = 3
    BUSY = 4
    NOT_WELCOME = 5
    BAD_INPUT = 6
    WRONG_NETWORK = 7
    TARGET_FAILED = 8
    SHUTTING_DOWN = 9
    TOO_LARGE = 10


U16 = Annotated[int, codecs.Number("H")]
U32 = Annotated[int, codecs.Number("I")]
U64 = Annotated[int, codecs.Number("Q")]
I32 = Annotated[int, codecs.Number("i")]
F64 = Annotated[float, codecs.Number("d")]
Bool = Annotated[bool, codecs.Number("B", ((0, False), (1, True)))]
Kind = Annotated[InputKind, codecs.Number("B", tuple((int(kind), kind) for kind in InputKind))]
Text = Annotated[str, codecs.Text()]
F64s = Annotated[NDArray[np.float64], codecs.Array("<f8", np.float64)]
U32s = Annotated[NDArray[np.uint32], codecs.Array("<u4", np.uint32)]
U16s = Annotated[NDArray[np.uint16], codecs.Array("<u2", np.uint16)]

_NO_U32S = np.zeros(0, np.uint32)
_NO_U16S = np.zeros(0, np.uint16)


# --- messages --------------------------------------------------------------------------------------------------------


class Message:
    """What one side says to the other. Two messages are equal when they are the same bytes on the wire."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        return encode(self, 0) == encode(other, 0)

    def __hash__(self) -> int:
        return hash(encode(self, 0))


@dataclass(frozen=True, slots=True, eq=False)
class Hello(Message):
    """Client: who it is, and the hash of the network that it expects ("" for any)."""

    client: Text
    expected_network_hash: Text = ""


@dataclass(frozen=True, slots=True, eq=False)
class Welcome(Message):
    """Host: what it serves. `layer_sizes` are the layers that can spike; `scale` is 0 unless the host is `paced`."""

    network_hash: Text
    network_name: Text
    profile: Text
    target: Text
    software: Text
    n_inputs: U32
    n_channels: U32
    n_outputs: U32
    steps: U32
    layer_sizes: U32s
    paced: Bool
    scale: F64
    step_ms: F64
    window_ms: F64
    decoder: Text


@dataclass(frozen=True, slots=True, eq=False)
class Reset(Message):
    """Client: a new episode begins, with a seed for a random encoder if there is one."""

    episode: U64
    has_seed: Bool = False
    seed: U64 = 0


@dataclass(frozen=True, slots=True, eq=False)
class ResetDone(Message):
    """Host: the episode has begun."""

    episode: U64


@dataclass(frozen=True, slots=True, eq=False)
class Inject(Message):
    """Client: the input of one decision.

    `values` are an observation or currents, by `kind`. For spikes, event ``i`` is a spike of ``channels[i]`` in step
    ``spike_steps[i]``, and `values` are the currents that go with them, or nothing.
    """

    kind: Kind
    want_spikes: Bool
    values: F64s
    channels: U32s = field(default_factory=lambda: _NO_U32S)
    spike_steps: U32s = field(default_factory=lambda: _NO_U32S)


@dataclass(frozen=True, slots=True, eq=False)
class Readout(Message):
    """Host: the decision. `timings` are in microseconds, in the order of ``Timings.stages()``, as is `cpu_us`.

    `exchange` is what the target's own network did, in the order of ``Exchange``'s fields; empty where it has none.
    Event ``i`` says that neuron ``spike_neurons[i]`` of spiking layer ``spike_layers[i]`` spiked in ``spike_steps[i]``.
    """

    action: I32
    output: F64s
    timings: F64s
    late: Bool = False
    has_spikes: Bool = False
    spike_layers: U16s = field(default_factory=lambda: _NO_U16S)
    spike_neurons: U32s = field(default_factory=lambda: _NO_U32S)
    spike_steps: U32s = field(default_factory=lambda: _NO_U32S)
    exchange: U32s = field(default_factory=lambda: _NO_U32S)
    cpu_us: F64 = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Ping(Message):
    """Client: are you there?"""


@dataclass(frozen=True, slots=True, eq=False)
class Pong(Message):
    """Host: I am."""


@dataclass(frozen=True, slots=True, eq=False)
class Bye(Message):
    """Either side: the conversation is over."""

    reason: Text


@dataclass(frozen=True, slots=True, eq=False)
class Error(Message):
    """Host: no, and why. A code that this version does not know stays a number."""

    code: U16
    message: Text

    @property
    def code_name(self) -> str:
        """The name of the code, or ``CODE_<number>`` for one of a later version."""
        return ErrorCode(self.code).name if self.code in ErrorCode.__members__.values() else f"CODE_{self.code}"


ERROR_TYPE = 255
TYPES: Mapping[int, type[Message]] = {
    1: Hello,
    2: Welcome,
    3: Reset,
    4: ResetDone,
    5: Inject,
    6: Readout,
    7: Ping,
    8: Pong,
    9: Bye,
    ERROR_TYPE: Error,
}


_WRITERS: dict[type[Message], tuple[int, Callable[[Any], bytes]]] = {}
_READERS: dict[int, Callable[[bytes], Message]] = {}
for _number, _message in TYPES.items():
    _write, _READERS[_number] = codecs.compile_codec(_message, HEADER_SIZE)
    _WRITERS[_message] = _number, _write


# --- frames ----------------------------------------------------------------------------------------------------------


def encode(message: Message, sequence: int) -> bytes:
    """The frame that carries `message` under the number `sequence`.

    Raises
    ------
    LocalProtocolError
        If a field or the number does not fit its type, or the frame would be longer than MAX_FRAME.
    """
    kind = type(message)
    number, write = _WRITERS[kind]
    try:
        payload = write(message)
    except (struct.error, TypeError) as error:
        raise LocalProtocolError(f"This {kind.__name__} cannot be sent: {error}.") from None
    size = HEADER_SIZE + len(payload)
    if size > MAX_FRAME:
        raise LocalProtocolError(f"This {kind.__name__} takes {size} bytes; a frame has at most {MAX_FRAME}.")
    if not 0 <= sequence <= UNNUMBERED:
        raise LocalProtocolError(f"The sequence number {sequence} does not fit 64 bits.")
    header = _HEADER.pack(MAGIC, VERSION, number, 0, sequence, len(payload), 0)
    crc = crc32(payload, crc32(header))
    return b"".join((header[:_CRC_AT], crc.to_bytes(4, "little"), payload))


def read_header(frame: bytes) -> tuple[int, int, int, int]:
    """Version, type, flags and sequence number of a whole and undamaged frame, of this version or another.

    Raises
    ------
    WireError
        If these bytes are no frame of ours, or not all of one.
    """
    size = len(frame)
    if size > MAX_FRAME:
        raise WireError(f"A frame of {size} bytes was given; at most {MAX_FRAME} are allowed.")
    if size < HEADER_SIZE:
        raise WireError(f"{size} bytes were given; a frame has at least the {HEADER_SIZE} of its header.")
    magic, version, number, flags, sequence, length, stated = _HEADER.unpack_from(frame)
    if magic != MAGIC:
        raise WireError(f"The frame begins with {magic!r}; one of Spikeloop begins with {MAGIC!r}.")
    if length != size - HEADER_SIZE:
        raise WireError(f"The header announces {length} bytes of payload, but {size - HEADER_SIZE} follow it.")
    found = crc32(memoryview(frame)[HEADER_SIZE:], crc32(frame[:_CRC_AT] + _NO_CRC))
    if stated != found:
        raise WireError(f"The frame was damaged: its crc32 is {found:08x}, its header says {stated:08x}.")
    return version, number, flags, sequence


def decode(frame: bytes) -> tuple[int, Message]:
    """The sequence number and the message of a frame.

    Raises
    ------
    WireError
        For anything that is not one whole message of this version (or an Error of any version).
    """
    version, number, flags, sequence = read_header(frame)
    if version != VERSION and number != ERROR_TYPE:
        raise WireError(f"The frame is of version {version} of the wire format; this side speaks version {VERSION}.")
    if flags:
        raise WireError(f"The header's flags are {flags:#06x}; they must be zero.")
    read = _READERS.get(number)
    if read is None:
        raise WireError(f"There is no message of type {number} in version {VERSION}.")
    return sequence, read(frame)

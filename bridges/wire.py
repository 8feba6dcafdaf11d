"""The wire format, version 1: one message is one frame. Bytes in, messages out; no sockets here.

A frame is a header of 24 bytes and a payload, everything little-endian::

    0      4        5     6      8         16      20     24
    magic  version  type  flags  sequence  length  crc32  payload
    SPKL   u8       u8    u16    u64       u32     u32    `length` bytes

The crc32 is that of the whole frame with its own four bytes taken as zero. The header and the ERROR message are frozen
for all versions, so that a host can tell a client of another version so, in words that it can read.

A payload is a block of fixed size, and then the contents of the fields that have none. The fixed block holds every
field in its order: numbers as they are, texts as their number of bytes (u32), arrays as their number of items (u32).
The contents follow without gaps, in the same order.

The messages below are the format: the annotation of a field is its codec. Whatever bytes come in, :func:`decode`
answers with a message or a WireError, and never allocates more than the frame itself holds.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from operator import attrgetter
from typing import Annotated, Any, NamedTuple, get_type_hints
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from ..errors import LocalProtocolError, WireError

MAGIC = b"SPKL"
VERSION = 1
MAX_FRAME = 16 * 1024 * 1024
"""No frame is longer than this, in bytes, header included."""
UNNUMBERED = 2**64 - 1
"""The sequence number of an ERROR about a frame whose own number cannot be read."""

_HEADER = struct.Struct("<4sBBHQII")
HEADER_SIZE = _HEADER.size
_CRC_AT = HEADER_SIZE - 4
_NO_CRC = bytes(4)


# --- field codecs ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Number:
    """A field of fixed size, `code` as `struct` calls it; of those with `meanings`, no other value is valid."""

    code: str
    meanings: Mapping[int, object] | None = None


class _Text:
    """UTF-8."""

    code, itemsize, empty = "I", 1, ""

    def dump(self, text: str) -> bytes:
        return text.encode()

    def load(self, data: bytes) -> str:
        return data.decode()


class _Array:
    """A flat array."""

    code = "I"

    def __init__(self, wire: str, native: type[np.generic]) -> None:
        self.wire, self.native = np.dtype(wire), np.dtype(native)
        self.itemsize = self.wire.itemsize
        self.empty = np.zeros(0, native)

    def dump(self, array: NDArray[Any]) -> bytes:
        if array.ndim != 1:
            raise ValueError(f"an array of shape {array.shape} is not flat")
        if array.dtype == self.wire:
            return array.tobytes()
        converted = array.astype(self.wire)
        if self.wire.kind == "u" and not np.array_equal(array, converted):
            raise ValueError(f"not all values fit {self.wire.name}")
        return converted.tobytes()

    def load(self, data: bytes) -> NDArray[Any]:
        # From a copy: inside of the frame the items are neither aligned nor writable, and would keep the frame alive.
        items = np.frombuffer(bytearray(data), self.wire)
        return items if self.wire is self.native else items.astype(self.native)


def _meanings(kind: type[IntEnum]) -> Mapping[int, IntEnum]:
    return {int(member): member for member in kind}


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


U16 = Annotated[int, _Number("H")]
U32 = Annotated[int, _Number("I")]
U64 = Annotated[int, _Number("Q")]
I32 = Annotated[int, _Number("i")]
F64 = Annotated[float, _Number("d")]
Bool = Annotated[bool, _Number("B", {0: False, 1: True})]
Kind = Annotated[InputKind, _Number("B", _meanings(InputKind))]
Text = Annotated[str, _Text()]
F64s = Annotated[NDArray[np.float64], _Array("<f8", np.float64)]
U32s = Annotated[NDArray[np.uint32], _Array("<u4", np.uint32)]
U16s = Annotated[NDArray[np.uint16], _Array("<u2", np.uint16)]

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
    """Host: the decision. `timings` are in microseconds, in the order of ``Timings.stages()``.

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
        known = _meanings(ErrorCode).get(self.code)
        return f"CODE_{self.code}" if known is None else known.name


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


class _Layout:
    """How the messages of one type are laid out: the fixed block as one precompiled Struct, and what follows it."""

    __slots__ = ("contents", "fixed", "get", "meanings", "message", "names", "number")

    def __init__(self, number: int, message: type[Message]) -> None:
        hints = get_type_hints(message, include_extras=True)
        codecs = [hint.__metadata__[0] for hint in hints.values()]
        self.number, self.message, self.names = number, message, list(hints)
        self.fixed = struct.Struct("<" + "".join(codec.code for codec in codecs))
        self.get = [attrgetter(name) for name in hints]
        self.meanings = [(i, codec.meanings) for i, codec in enumerate(codecs) if getattr(codec, "meanings", None)]
        self.contents = [(i, codec.itemsize, codec) for i, codec in enumerate(codecs) if not isinstance(codec, _Number)]

    def dump(self, message: Message) -> bytes:
        values = [get(message) for get in self.get]
        blocks = [b""]
        for i, itemsize, codec in self.contents:
            try:
                block = codec.dump(values[i])
            except ValueError as error:
                raise LocalProtocolError(f"{self.where(i)} cannot be sent: {error}.") from None
            values[i] = len(block) // itemsize
            blocks.append(block)
        try:
            blocks[0] = self.fixed.pack(*values)
        except struct.error as error:
            raise LocalProtocolError(f"This {self.message.__name__} cannot be sent: {error}.") from None
        return b"".join(blocks)

    def load(self, frame: bytes) -> Message:
        at = HEADER_SIZE + self.fixed.size
        if len(frame) < at:
            raise self.wrong_size(frame, self.fixed.size)
        values: list[Any] = list(self.fixed.unpack_from(frame, HEADER_SIZE))
        needed = at + sum([values[i] * itemsize for i, itemsize, _ in self.contents])
        if needed != len(frame):
            raise self.wrong_size(frame, needed - HEADER_SIZE)
        for i, meanings in self.meanings:
            if values[i] not in meanings:
                raise WireError(f"{self.where(i)} is {values[i]}, which means nothing in version {VERSION}.")
            values[i] = meanings[values[i]]
        for i, itemsize, codec in self.contents:
            if values[i] == 0:
                values[i] = codec.empty
                continue
            start, at = at, at + values[i] * itemsize
            try:
                values[i] = codec.load(frame[start:at])
            except ValueError as error:
                raise WireError(f"{self.where(i)} cannot be read: {error}.") from None
        return self.message(*values)

    def where(self, index: int) -> str:
        return f"{self.message.__name__}.{self.names[index]}"

    def wrong_size(self, frame: bytes, needed: int) -> WireError:
        given = len(frame) - HEADER_SIZE
        return WireError(f"This {self.message.__name__} needs a payload of {needed} bytes; {given} were given.")


_LAYOUTS = {number: _Layout(number, message) for number, message in TYPES.items()}
_LAYOUT_OF = {message: _LAYOUTS[number] for number, message in TYPES.items()}


# --- frames ----------------------------------------------------------------------------------------------------------


class Header(NamedTuple):
    """The frozen part of a frame."""

    version: int
    type: int
    flags: int
    sequence: int


def encode(message: Message, sequence: int) -> bytes:
    """The frame that carries `message` under the number `sequence`.

    Raises
    ------
    LocalProtocolError
        If a field or the number does not fit its type, or the frame would be longer than MAX_FRAME.
    """
    layout = _LAYOUT_OF[type(message)]
    payload = layout.dump(message)
    size = HEADER_SIZE + len(payload)
    if size > MAX_FRAME:
        raise LocalProtocolError(f"A {type(message).__name__} takes {size} bytes; a frame has at most {MAX_FRAME}.")
    if not 0 <= sequence <= UNNUMBERED:
        raise LocalProtocolError(f"The sequence number {sequence} does not fit 64 bits.")
    header = _HEADER.pack(MAGIC, VERSION, layout.number, 0, sequence, len(payload), 0)
    crc = crc32(payload, crc32(header))
    return b"".join((header[:_CRC_AT], crc.to_bytes(4, "little"), payload))


def read_header(frame: bytes) -> Header:
    """The header of a whole and undamaged frame, of this version or another.

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
    return Header(version, number, flags, sequence)


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
    layout = _LAYOUTS.get(number)
    if layout is None:
        raise WireError(f"There is no message of type {number} in version {VERSION}.")
    return sequence, layout.load(frame)

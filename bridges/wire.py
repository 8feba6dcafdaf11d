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
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from typing import Annotated, Any, NoReturn, get_type_hints
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


class _Meanings(dict[int, object]):
    """What the numbers of a field stand for; others are an error."""

    def __init__(self, where: str, meanings: Iterable[tuple[int, object]]) -> None:
        super().__init__(meanings)
        self.where = where

    def __missing__(self, value: int) -> NoReturn:
        raise WireError(f"{self.where} is {value}, which means nothing in version {VERSION}.")


@dataclass(frozen=True, slots=True)
class _Number:
    """A field of fixed size, `code` as `struct` calls it; of those with `meanings`, no other value is valid."""

    code: str
    meanings: tuple[tuple[int, object], ...] = ()


class _Text:
    """UTF-8."""

    code, itemsize, empty = "I", 1, ""

    def writer(self, where: str) -> Callable[[str], bytes]:
        def write(text: str) -> bytes:
            try:
                return text.encode()
            except UnicodeEncodeError as error:
                raise LocalProtocolError(f"{where} is not text that UTF-8 can carry: {error}.") from None

        return write

    def reader(self, where: str) -> Callable[[bytes], str]:
        def read(data: bytes) -> str:
            try:
                return data.decode()
            except UnicodeDecodeError as error:
                raise WireError(f"{where} is not UTF-8 text: {error}.") from None

        return read


class _Array:
    """A flat array."""

    code = "I"

    def __init__(self, wire: str, native: type[np.generic]) -> None:
        self.wire, self.native = np.dtype(wire), np.dtype(native)
        self.itemsize = self.wire.itemsize
        self.empty = np.zeros(0, native)

    def writer(self, where: str) -> Callable[[NDArray[Any]], bytes]:
        wire = self.wire

        def write(array: NDArray[Any]) -> bytes:
            if array.ndim != 1:
                raise LocalProtocolError(f"{where} must be a flat array; its shape is {array.shape}.")
            if array.dtype == wire:
                return array.tobytes()
            converted = array.astype(wire)
            if wire.kind == "u" and not np.array_equal(array, converted):
                raise LocalProtocolError(f"{where} has values that do not fit {wire.name}.")
            return converted.tobytes()

        return write

    def reader(self, where: str) -> Callable[[bytes], NDArray[Any]]:
        wire, native = self.wire, self.native

        def read(data: bytes) -> NDArray[Any]:
            # From a copy: inside of the frame items are neither aligned nor writable, and would keep the frame alive.
            items = np.frombuffer(bytearray(data), wire)
            return items if wire == native else items.astype(native)

        return read


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
Bool = Annotated[bool, _Number("B", ((0, False), (1, True)))]
Kind = Annotated[InputKind, _Number("B", tuple((int(kind), kind) for kind in InputKind))]
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


def _compile(message: type[Message]) -> tuple[Callable[[Any], bytes], Callable[[bytes], Message]]:
    """The two functions that write and read the payload of one type of message, generated from its fields.

    Generated as `dataclass` generates an __init__, and for the same reason: every decision passes here four times, and
    straight code runs in half the time of a loop over the codecs. For :class:`Bye` it comes to this::

        def write(m):
            b0 = write0(m.reason) if len(m.reason) else b""
            return b"".join((pack(len(b0) // 1), b0))

        def read(frame):
            if len(frame) < 28: raise wrong_size(frame, 4)
            (v0,) = unpack_from(frame, 24); a0 = 28
            a1 = a0 + v0 * 1
            if len(frame) != a1: raise wrong_size(frame, a1 - 24)
            return message(read0(frame[a0:a1]) if v0 else empty0)
    """
    hints = get_type_hints(message, include_extras=True)
    codecs = [hint.__metadata__[0] for hint in hints.values()]
    fixed = struct.Struct("<" + "".join(codec.code for codec in codecs))
    scope: dict[str, Any] = {"message": message, "pack": fixed.pack, "unpack_from": fixed.unpack_from}
    scope["wrong_size"] = partial(_wrong_size, message.__name__)
    blocks: list[str] = []
    writes, packed, ends, loaded = [], [], [], []
    for i, (name, codec) in enumerate(zip(hints, codecs, strict=True)):
        where = f"{message.__name__}.{name}"
        if isinstance(codec, _Number):
            scope[f"meanings{i}"] = _Meanings(where, codec.meanings)
            packed.append(f"m.{name}")
            loaded.append(f"meanings{i}[v{i}]" if codec.meanings else f"v{i}")
        else:
            scope |= {f"write{i}": codec.writer(where), f"read{i}": codec.reader(where), f"empty{i}": codec.empty}
            k = len(blocks)
            blocks.append(f"b{i}")
            writes.append(f"b{i} = write{i}(m.{name}) if len(m.{name}) else b''")
            packed.append(f"len(b{i}) // {codec.itemsize}")
            ends.append(f"a{k + 1} = a{k} + v{i} * {codec.itemsize}")
            loaded.append(f"read{i}(frame[a{k}:a{k + 1}]) if v{i} else empty{i}")
    at, last = HEADER_SIZE + fixed.size, f"a{len(blocks)}"
    write = [*writes, f"return b''.join((pack({', '.join(packed)}), {', '.join(blocks)}))"]
    read = [
        f"if len(frame) < {at}: raise wrong_size(frame, {fixed.size})",
        f"({''.join(f'v{i}, ' for i in range(len(codecs)))}) = unpack_from(frame, {HEADER_SIZE}); a0 = {at}",
        *ends,
        f"if len(frame) != {last}: raise wrong_size(frame, {last} - {HEADER_SIZE})",
        f"return message({', '.join(loaded)})",
    ]
    exec("\n    ".join(["def write(m):", *write]) + "\n" + "\n    ".join(["def read(frame):", *read]), scope)
    return scope["write"], scope["read"]


def _wrong_size(name: str, frame: bytes, needed: int) -> WireError:
    return WireError(f"This {name} needs a payload of {needed} bytes; {len(frame) - HEADER_SIZE} were given.")


_WRITERS: dict[type[Message], tuple[int, Callable[[Any], bytes]]] = {}
_READERS: dict[int, Callable[[bytes], Message]] = {}
for _number, _message in TYPES.items():
    _write, _READERS[_number] = _compile(_message)
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

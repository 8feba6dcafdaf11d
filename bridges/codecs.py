"""Codecs of the wire format's fields, and the functions that read and write whole payloads.

A payload is a block of fixed size, and then the contents of the fields that have none. The fixed block holds every
field in its order: numbers as they are, texts as their number of bytes (u32), arrays as their number of items (u32).
The contents follow without gaps, in the same order. Nothing is allocated beyond what the frame itself holds.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, get_type_hints

import numpy as np
from numpy.typing import NDArray

from ..errors import LocalProtocolError, WireError


class _Meanings(dict[int, object]):
    """What the numbers of a field stand for; others are an error."""

    def __init__(self, where: str, meanings: Iterable[tuple[int, object]]) -> None:
        super().__init__(meanings)
        self.where = where

    def __missing__(self, value: int) -> NoReturn:
        raise WireError(f"{self.where} is {value}, which means nothing in this version of the wire format.")


@dataclass(frozen=True, slots=True)
class Number:
    """A field of fixed size, `code` as `struct` calls it; of those with `meanings`, no other value is valid."""

    code: str
    meanings: tuple[tuple[int, object], ...] = ()


class Text:
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


class Array:
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


def compile_codec(message: type[Any], header_size: int) -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    """The two functions that write and read the payload of one type of message, generated from its fields.

    The annotation of each field carries its codec; `header_size` is where a payload begins in its frame.

    Generated as `dataclass` generates an __init__, and for the same reason: every decision passes here four times, and
    straight code runs in half the time of a loop over the codecs. For a message of one text it comes to this::

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
    scope["wrong_size"] = partial(_wrong_size, message.__name__, header_size)
    blocks: list[str] = []
    writes, packed, ends, loaded = [], [], [], []
    for i, (name, codec) in enumerate(zip(hints, codecs, strict=True)):
        where = f"{message.__name__}.{name}"
        if isinstance(codec, Number):
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
    at, last = header_size + fixed.size, f"a{len(blocks)}"
    write = [*writes, f"return b''.join((pack({', '.join(packed)}), {', '.join(blocks)}))"]
    read = [
        f"if len(frame) < {at}: raise wrong_size(frame, {fixed.size})",
        f"({''.join(f'v{i}, ' for i in range(len(codecs)))}) = unpack_from(frame, {header_size}); a0 = {at}",
        *ends,
        f"if len(frame) != {last}: raise wrong_size(frame, {last} - {header_size})",
        f"return message({', '.join(loaded)})",
    ]
    exec("\n    ".join(["def write(m):", *write]) + "\n" + "\n    ".join(["def read(frame):", *read]), scope)
    return scope["write"], scope["read"]


def _wrong_size(name: str, header_size: int, frame: bytes, needed: int) -> WireError:
    return WireError(f"This {name} needs a payload of {needed} bytes; {len(frame) - header_size} were given.")

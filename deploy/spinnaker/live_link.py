"""Spikes into and out of a running machine: EIEIO in UDP datagrams, through sockets of our own.

In: an SDP message straight to the injector's core (port 17893), with 16-bit keys::

    2 bytes padding | SDP: flags 07, tag ff, destination port 1 << 5 | core, source ff, y x of the chip, 0 0
    count | 00 | count x 16-bit neuron

Out: what the live packet gatherer sends to this host's port at the end of a tick::

    count | 38 | 32-bit tick | count x 32-bit key

Source: spinnman's ``messages.eieio`` and SpiNNFrontEndCommon's ``live_packet_gather.c``, as of sPyNNaker 7.4.1.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from ...errors import TargetError

SCP_PORT = 17893
_SDP = struct.Struct("<2xBBBBBBBB")
_FLAGS, _NO_TAG, _INPUT_PORT, _FROM = 0x07, 0xFF, 1, 0xFF
_PLAIN_KEYS = 0x00  # the second byte of data with 16-bit keys and nothing before them
_STAMPED_KEYS = 0x38  # the same of 32-bit keys after a 32-bit time stamp
_MAX_DATAGRAM = 2048


@dataclass(frozen=True, slots=True)
class Core:
    """Where a program runs."""

    x: int
    y: int
    p: int


def injection(core: Core, neurons: NDArray[np.int64]) -> bytes:
    """The datagram that has an injector's neurons fire; at most 255 of them."""
    header = _SDP.pack(_FLAGS, _NO_TAG, _INPUT_PORT << 5 | core.p, _FROM, core.y, core.x, 0, 0)
    return header + bytes((len(neurons), _PLAIN_KEYS)) + neurons.astype("<u2").tobytes()


def spikes_in(datagram: bytes) -> tuple[int, NDArray[np.uint32]] | None:
    """Tick and keys of what a live packet gatherer sent; None where the bytes are nothing of the kind."""
    if len(datagram) < 6 or datagram[1] != _STAMPED_KEYS or len(datagram) != 6 + 4 * datagram[0]:
        return None
    return int.from_bytes(datagram[2:6], "little"), np.frombuffer(datagram, "<u4", offset=6)


class LiveLink:
    """The two sockets of a session.

    Parameters
    ----------
    address : str
        The board's.

    Attributes
    ----------
    host, port : where the gatherer is to send to
    """

    def __init__(self, address: str) -> None:
        self._in = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._in.connect((address, SCP_PORT))
            self.host: str = self._in.getsockname()[0]
            self._out.bind((self.host, 0))
            self.port: int = self._out.getsockname()[1]
        except OSError as error:
            self.close()
            raise TargetError(f"No way to the board at {address}: {error.strerror or error}.") from None

    def send(self, datagrams: Iterable[bytes]) -> None:
        """Send; a datagram may be lost on its way."""
        try:
            for datagram in datagrams:
                self._in.send(datagram)
        except OSError as error:
            raise TargetError(f"The board cannot be reached any more: {error.strerror or error}.") from None

    def receive(self, deadline: float) -> tuple[int, NDArray[np.uint32]] | None:
        """Tick and keys of the next datagram with spikes; None if none has come by the deadline (of `perf_counter`)."""
        while True:
            # In any case once without waiting: what is there is there.
            self._out.settimeout(max(0.0, deadline - perf_counter()))
            try:
                datagram = self._out.recv(_MAX_DATAGRAM)
            except (TimeoutError, BlockingIOError):
                return None
            found = spikes_in(datagram)
            if found is not None:
                return found

    def close(self) -> None:
        """Close both sockets."""
        self._in.close()
        self._out.close()

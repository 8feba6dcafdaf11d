"""Addresses and the ZeroMQ sockets behind them: the one place that knows socket options and ZeroMQ's errors."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Mapping

import zmq

from ..errors import AddressError
from .wire import MAX_FRAME

DEFAULT_ADDRESS = "tcp://127.0.0.1:5560"
LINGER_MS = 200
"""How long the last frames of a closed socket, a Bye most likely, may take to leave."""
QUEUE = 64
"""Frames that may wait per connection and direction; one request and a few Pings are under way at a time."""

_OPTIONS = {
    zmq.LINGER: LINGER_MS,
    zmq.MAXMSGSIZE: MAX_FRAME,
    zmq.RCVHWM: QUEUE,
    zmq.SNDHWM: QUEUE,
}
_HOST_OPTIONS = {
    # A client that lost its connection comes back under its own identity, also before the loss was noticed.
    zmq.ROUTER_HANDOVER: 1,
    # Heartbeats between ZeroMQ's own threads: a connection that is silently gone is dropped, and the client makes a new
    # one. From the host alone, which also sets the time after which the client gives up: each end that sends them pays
    # some microseconds per message for its timer.
    zmq.HEARTBEAT_IVL: 2_000,
    zmq.HEARTBEAT_TIMEOUT: 10_000,
    zmq.HEARTBEAT_TTL: 10_000,
}
_TCP = re.compile(r"tcp://(?P<host>\[[^\[\]/]+\]|[^\[\]:/\s]+):(?P<port>\d{1,5}|\*)", re.ASCII)
_NOT_OURS = "this machine has no such address; bind 127.0.0.1, another address of its own, or * for all of them"
_REASONS = {
    errno.EADDRINUSE: "something else listens there; choose another port, or port 0 for any that is free",
    errno.EADDRNOTAVAIL: _NOT_OURS,
    errno.ENODEV: _NOT_OURS,
    errno.EACCES: "ports below 1024 need privileges; choose a higher one",
}


def bind(context: zmq.Context[zmq.Socket[bytes]], address: str) -> zmq.Socket[bytes]:
    """A ROUTER bound to ``tcp://<own address, or *>:<port, 0 for any that is free>``.

    Raises
    ------
    AddressError
        If the address is malformed, in use, or not of this machine.
    """
    host, port = _split(address)
    router = _open(context, zmq.ROUTER, host, _OPTIONS | _HOST_OPTIONS)
    try:
        # ZeroMQ resolves no names when it binds; localhost is what people write when they mean the loopback.
        router.bind(f"tcp://{'127.0.0.1' if host == 'localhost' else host}:{port}")
    except zmq.ZMQError as error:
        router.close(linger=0)
        raise AddressError(f"'{address}' cannot be bound: {_REASONS.get(error.errno or 0, str(error))}.") from None
    return router


def connect(context: zmq.Context[zmq.Socket[bytes]], address: str, identity: bytes) -> zmq.Socket[bytes]:
    """A DEALER called `identity` that connects to ``tcp://<name or address>:<port>``, now or once a host is there.

    Raises
    ------
    AddressError
        If the address is malformed, or its name cannot be resolved.
    """
    host, port = _split(address)
    if host == "*" or port == "*" or int(port) == 0:
        raise AddressError(f"'{address}' names no single host and port; connect to the address that the host states.")
    try:
        # ZeroMQ itself would go on trying in silence.
        socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise AddressError(f"'{address}' cannot be connected: the name '{host}' is not known ({error}).") from None
    dealer = _open(context, zmq.DEALER, host, _OPTIONS)
    dealer.setsockopt(zmq.ROUTING_ID, identity)
    try:
        dealer.connect(address)
    except zmq.ZMQError as error:
        dealer.close(linger=0)
        raise AddressError(f"'{address}' cannot be connected: {error}.") from None
    return dealer


def _open(
    context: zmq.Context[zmq.Socket[bytes]], kind: int, host: str, options: Mapping[zmq.SocketOption, int]
) -> zmq.Socket[bytes]:
    opened = context.socket(kind)
    for option, value in options.items():
        opened.setsockopt(option, value)
    opened.setsockopt(zmq.IPV6, int(host.startswith("[")))
    return opened


def _split(address: str) -> tuple[str, str]:
    match = _TCP.fullmatch(address)
    if match is None:
        raise AddressError(f"'{address}' is no address; tcp://<host>:<port> is needed, such as {DEFAULT_ADDRESS}.")
    if match["port"] != "*" and int(match["port"]) > 65535:
        raise AddressError(f"'{address}' has the port {match['port']}; ports go up to 65535.")
    return match["host"], match["port"]

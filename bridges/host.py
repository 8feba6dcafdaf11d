"""The host: a deployed agent behind a ZeroMQ ROUTER socket.

Several clients. In lock-step (no `pace_scale`) every decision starts from a clean state of the network, so up to
`max_clients` clients are served in order of arrival and cannot influence each other: what an encoder keeps from one
decision to the next (its seed and count) is kept per client. Who comes when all places are taken is refused with
Error(BUSY). With a pace there is one network clock, and so one client. A place is free again when its client says Bye,
or has sent nothing at all, not even a Ping, for `idle_timeout_s`.

Pace. A decision then takes ``window_ms * pace_scale`` of wall time from the arrival of its request: an answer
that is ready earlier is held back until then, one that is not is sent as soon as it is there, and marked late.

The host neither authenticates nor encrypts: whoever can reach the address can use it. It binds to the loopback unless
the address says otherwise.
"""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from operator import attrgetter
from types import FrameType, TracebackType
from typing import Any

import numpy as np
import zmq

from ..errors import AddressError, InvalidInputError, LocalProtocolError, SpikeloopError
from ..runtime.decision import Timings
from . import addresses, served, wire
from .protocol import HostConversation
from .served import ServedAgent
from .wire import Bye, Error, ErrorCode, Hello, Inject, Message, Readout, Reset, ResetDone

_TICK_MS = 50  # how long a stop may go unnoticed
_LONG_WORK_S = 1.0
_LONGEST_TEXT = 2000
_log = logging.getLogger(__name__)
_stages = attrgetter(*Timings.stages())
_NONE = np.zeros(0, np.uint32)


class _Client:
    """What the host keeps of one client."""

    __slots__ = ("conversation", "encoder_state", "heard", "name")

    def __init__(self, encoder_state: Any) -> None:
        self.conversation = HostConversation()
        self.encoder_state = encoder_state
        self.heard = 0.0
        self.name = ""


@dataclass(frozen=True, slots=True)
class _Held:
    """A readout that is ready before its time."""

    due: float
    sender: bytes
    client: _Client
    readout: Readout


class Host:
    """Serves one agent to the clients of one address.

    Parameters
    ----------
    agent : ServedAgent
        Stays the caller's: the host never closes it.
    bind : str
        ``tcp://<own address, or *>:<port>``; port 0 takes any that is free, :attr:`address` says which.
    max_clients : int
        How many clients are served at the same time; always one with a pace.
    idle_timeout_s : float
        After this long without a frame a client is forgotten.
    pace_scale : float or None
        Wall time per network time: 1 is real time, 2 half the speed. None answers as soon as possible.
    log : callable or None
        Takes one line per arrival, departure and failure; None sends them to :mod:`logging`.

    Raises
    ------
    AddressError
        If `bind` is malformed, in use, or not of this machine.
    InvalidInputError
        If a number is out of its range.
    """

    def __init__(
        self,
        agent: ServedAgent,
        bind: str = addresses.DEFAULT_ADDRESS,
        *,
        max_clients: int = 8,
        idle_timeout_s: float = 60.0,
        pace_scale: float | None = None,
        log: Callable[[str], None] | None = None,
    ) -> None:
        if max_clients < 1:
            raise InvalidInputError(f"max_clients is {max_clients}; a host needs a place for at least 1 client.")
        for name, value in (("idle_timeout_s", idle_timeout_s), ("pace_scale", pace_scale)):
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise InvalidInputError(f"{name} is {value}; it must be a positive number.")
        self._agent = agent
        self._welcome = served.welcome(agent, pace_scale)
        self._window_s = None if pace_scale is None else agent.window_ms * 1e-3 * pace_scale
        self._places = max_clients if pace_scale is None else 1
        self._idle_timeout_s = idle_timeout_s
        self._say = log
        self._fresh_state = agent.encoder_state  # with which every client begins
        self._clients: dict[bytes, _Client] = {}
        self._served: _Client | None = None  # whose encoder state the agent holds
        self._held: _Held | None = None
        self._deaf_s = 0.0
        self._sweep_at = 0.0
        self._wait_ms = _TICK_MS
        self._reason: str | None = None  # why to stop; a plain attribute, as a signal handler may take no lock
        self._serving = threading.Lock()
        self._context = zmq.Context()
        try:
            self._socket = addresses.bind(self._context, bind)
        except AddressError:
            self._context.term()
            raise
        self._socket.setsockopt(zmq.RCVTIMEO, _TICK_MS)
        self.address: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        """Where the host can be reached, with the actual port."""

    # --- running -----------------------------------------------------------------------------------------------------

    def serve(self, stop: threading.Event | None = None) -> None:
        """Serve until :meth:`stop` is called or the event `stop` is set; then say Bye to every client.

        Raises
        ------
        LocalProtocolError
            If the host is closed, or is serving already.
        """
        if not self._serving.acquire(blocking=False):
            raise LocalProtocolError("This host is serving already.")
        try:
            if self._socket.closed:
                raise LocalProtocolError("This host is closed; make another one.")
            while self._reason is None and not (stop is not None and stop.is_set()):
                self._serve_once()
        finally:
            try:
                if not self._socket.closed:
                    self._dismiss(self._reason or "the host was stopped")
            finally:
                self._serving.release()

    def serve_until_signalled(self) -> None:
        """Serve until SIGINT or SIGTERM, whose handlers are put back afterwards. Only the main thread can do this."""

        def handler(number: int, frame: FrameType | None) -> None:
            self.stop(f"the host was stopped by {signal.Signals(number).name}")

        previous = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self.serve()
        finally:
            for number, old in previous.items():
                signal.signal(number, signal.SIG_DFL if old is None else old)

    def stop(self, reason: str = "the host was stopped") -> None:
        """Make :meth:`serve` end soon; `reason` is told to the clients. For any thread and any signal handler."""
        self._reason = reason

    def close(self) -> None:
        """Stop serving, and close the socket. The agent stays open."""
        self.stop(self._reason or "the host was closed")
        with self._serving:
            self._socket.close()
            self._context.term()

    def __enter__(self) -> Host:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- the loop ----------------------------------------------------------------------------------------------------

    def _serve_once(self) -> None:
        parts = self._receive()
        now = time.monotonic()
        if parts is not None:
            self._handle(parts, now)
            worked = time.monotonic() - now
            if worked > _LONG_WORK_S:
                # Meanwhile the host heard nobody, which is no silence of its clients.
                self._deaf_s += worked
        if self._held is not None and time.monotonic() >= self._held.due:
            held, self._held = self._held, None
            self._answer(held.sender, held.client, held.readout)
        if now >= self._sweep_at:
            self._forget_idle(now)

    def _receive(self) -> list[bytes] | None:
        # One blocking receive with a timeout, not poll and then receive: that would be one more system call a decision.
        held = self._held
        wait_ms = _TICK_MS
        if held is not None:
            wait_ms = min(_TICK_MS, max(0, int((held.due - time.monotonic()) * 1e3)))
        if wait_ms != self._wait_ms:
            self._socket.setsockopt(zmq.RCVTIMEO, wait_ms)
            self._wait_ms = wait_ms
        try:
            parts = [self._socket.recv(), self._socket.recv()]
            while self._socket.getsockopt(zmq.RCVMORE):
                parts.append(self._socket.recv())
            return parts
        except zmq.Again:
            if held is not None and wait_ms < _TICK_MS:
                # ZeroMQ waits in whole milliseconds; this is the fraction that is left.
                time.sleep(min(1e-3, max(0.0, held.due - time.monotonic())))
            return None

    def _handle(self, parts: list[bytes], now: float) -> None:
        sender = parts[0]
        client = self._clients.get(sender)
        known = client is not None
        if client is None:
            client = _Client(self._fresh_state)
        client.heard = now - self._deaf_s
        if len(parts) != 2:
            text = f"A message of {len(parts) - 1} parts was sent; a frame is one part (of a DEALER socket)."
            self._send(sender, wire.encode(_error(ErrorCode.MALFORMED, text), wire.UNNUMBERED))
            return
        event = client.conversation.receive(parts[1])
        if isinstance(event, Inject):
            self._decide(sender, client, event, now)
        elif isinstance(event, Reset):
            self._answer(sender, client, self._guarded(client, self._reset, event))
        elif isinstance(event, Hello):
            self._greet(sender, client, event)
        elif isinstance(event, Bye):
            if known:
                self._forget(sender, f"said goodbye ({event.reason[:80]!r})")
        elif event.reply is not None:
            self._send(sender, event.reply)

    def _send(self, sender: bytes, frame: bytes) -> None:
        # Never blocks: a ROUTER drops what a client that is gone, or reads nothing, has no room for.
        self._socket.send(sender, zmq.SNDMORE)
        self._socket.send(frame)

    def _answer(self, sender: bytes, client: _Client, message: Message) -> None:
        try:
            frame = client.conversation.reply(message)
        except LocalProtocolError as error:
            frame = client.conversation.reply(_error(ErrorCode.TOO_LARGE, f"The answer cannot be sent: {error}"))
        self._send(sender, frame)

    # --- requests ----------------------------------------------------------------------------------------------------

    def _greet(self, sender: bytes, client: _Client, hello: Hello) -> None:
        client.name = hello.client[:80]
        ours, expected = self._welcome.network_hash, hello.expected_network_hash
        if expected not in ("", ours):
            text = f"The client expects the network {expected[:80]}; this host serves {ours}."
            self._answer(sender, client, _error(ErrorCode.WRONG_NETWORK, text))
        elif len(self._clients) >= self._places:
            text = (
                f"All places of this host are taken ({self._places}). One is free when a client says Bye, "
                f"or after {self._idle_timeout_s:g} s of its silence."
            )
            self._answer(sender, client, _error(ErrorCode.BUSY, text))
        else:
            self._clients[sender] = client
            self._answer(sender, client, self._welcome)
            self._note(f"client {client.name!r} arrived ({len(self._clients)} of {self._places})")

    def _decide(self, sender: bytes, client: _Client, inject: Inject, now: float) -> None:
        readout = self._guarded(client, self._infer, inject)
        if self._window_s is None or not isinstance(readout, Readout):
            self._answer(sender, client, readout)
            return
        due = now + self._window_s
        if time.monotonic() <= due:
            self._held = _Held(due, sender, client, readout)
        else:
            self._answer(sender, client, replace(readout, late=True))

    def _guarded(self, client: _Client, work: Callable[[Any], Message], request: Message) -> Message:
        """What `work` answers with the client's own encoder state, or the Error that says why it failed."""
        try:
            if self._served is not client:
                if self._served is not None:
                    self._served.encoder_state = self._agent.encoder_state
                self._agent.encoder_state = client.encoder_state
                self._served = client
            return work(request)
        except SpikeloopError as error:
            code = ErrorCode.BAD_INPUT if error.exit_code == 2 else ErrorCode.TARGET_FAILED
            if code is ErrorCode.TARGET_FAILED:
                self._note(f"client {client.name!r}: {error}", logging.ERROR)
            return _error(code, str(error))
        except Exception as error:
            # Not one of ours, so a defect; but its client must not wait for ever, nor the others lose their host.
            self._note(f"client {client.name!r}: the agent failed\n{traceback.format_exc()}", logging.ERROR)
            return _error(ErrorCode.TARGET_FAILED, f"The agent failed with {type(error).__name__}: {error}")

    def _reset(self, reset: Reset) -> ResetDone:
        self._agent.reset(seed=reset.seed if reset.has_seed else None)
        return ResetDone(reset.episode)

    def _infer(self, inject: Inject) -> Readout:
        return served.decide(self._agent, inject)

    # --- departures --------------------------------------------------------------------------------------------------

    def _forget(self, sender: bytes, why: str) -> None:
        client = self._clients.pop(sender)
        if self._held is not None and self._held.client is client:
            self._held = None
        self._note(f"client {client.name!r} {why}")

    def _forget_idle(self, now: float) -> None:
        patience = self._idle_timeout_s
        for sender, client in list(self._clients.items()):
            if now - self._deaf_s - client.heard > patience:
                self._send(sender, client.conversation.goodbye(f"nothing was heard for {patience:g} s"))
                self._forget(sender, f"was forgotten: nothing was heard for {patience:g} s")
        self._sweep_at = now + min(1.0, patience / 4)

    def _dismiss(self, reason: str) -> None:
        """Say Bye to the clients, and no to those who are at the door."""
        self._held = None
        for sender, client in list(self._clients.items()):
            self._send(sender, client.conversation.goodbye(reason))
            self._forget(sender, f"was sent away: {reason}")
        for _ in range(addresses.QUEUE):
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            conversation = HostConversation()
            if len(parts) == 2 and isinstance(conversation.receive(parts[1]), Hello):
                refusal = _error(ErrorCode.SHUTTING_DOWN, f"No client is taken any more: {reason}.")
                self._send(parts[0], conversation.reply(refusal))

    def _note(self, text: str, level: int = logging.INFO) -> None:
        if self._say is None:
            _log.log(level, "%s", text)
        else:
            self._say(text)


def _error(code: ErrorCode, text: str) -> Error:
    # An Error must be sent whatever an exception had to say.
    return Error(code, text[:_LONGEST_TEXT].encode(errors="replace").decode())

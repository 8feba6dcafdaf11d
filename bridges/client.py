"""The client: an agent that runs in another process, or on another machine.

A request that stays unanswered for `timeout_s` is sent again, byte for byte; the host does nothing twice. The host
counts as lost when it has sent nothing at all for ``retries + 1`` such spans. During the wait Pings tell the host that
the client is there, and its Pongs tell the client that the host is. A host that computes is silent, so those spans
together must be longer than the longest decision.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable
from dataclasses import fields
from types import TracebackType
from typing import NoReturn

import numpy as np
import zmq

from ..deploy.backend import Exchange
from ..errors import (
    AddressError,
    BridgeError,
    HostLostError,
    InvalidInputError,
    LocalProtocolError,
    RefusedError,
    RemoteProtocolError,
)
from ..models.stimulus import CountArray, Stimulus
from ..runtime.decision import Decision, Timings
from . import addresses, wire
from .protocol import ClientConversation, State, checked, spike_events
from .wire import Bye, Error, ErrorCode, Hello, Inject, InputKind, Message, Readout, Reset, ResetDone, Welcome

MAX_RASTER_CELLS = 2**28
"""More steps x neurons than this are not believed: a host must not be able to exhaust its client's memory."""

_MOST = int(np.iinfo(np.uint8).max)
_N_STAGES = len(Timings.stages())
_N_COUNTS = len(fields(Exchange))
_PING = wire.encode(wire.Ping(), wire.UNNUMBERED)


class RemoteAgent:
    """An agent behind a :class:`~spikeloop.bridges.host.Host`; it can be asked as soon as it is constructed.

    Its facts are attributes: `network_hash`, `network_name`, `profile`, `target`, `n_inputs`, `n_channels`,
    `n_outputs`, `steps`, `layer_sizes`, `step_ms`, `window_ms` and `decoder` as of a local agent, and `software` (the
    host's version of Spikeloop), `paced` and `scale` (wall time per network time; 0 if not paced).
    Not for several threads at a time.

    Parameters
    ----------
    connect : str
        ``tcp://<name or address>:<port>`` of the host.
    timeout_s : float
        How long to wait for an answer before the request is sent again.
    retries : int
        How often that is tried before the host counts as lost.
    heartbeat_s : float
        How often the host is told, and asked, whether the other one is there during a wait.
    expect_network : str or None
        Hash of the only network that is wanted; None takes any.
    name : str
        How the host's log calls this client.
    why_dead : callable or None
        Says how the host ended, or None while it lives; asked with every heartbeat, by whoever can know.

    Raises
    ------
    AddressError
        If `connect` is malformed or its name cannot be resolved.
    HostLostError
        If no host answers there.
    RefusedError
        If the host has no place, or serves another network or version; `code` says which.
    """

    def __init__(
        self,
        connect: str = addresses.DEFAULT_ADDRESS,
        *,
        timeout_s: float = 10.0,
        retries: int = 2,
        heartbeat_s: float = 1.0,
        expect_network: str | None = None,
        name: str = "",
        why_dead: Callable[[], str | None] | None = None,
    ) -> None:
        for what, value in (("timeout_s", timeout_s), ("heartbeat_s", heartbeat_s)):
            if not (value > 0 and math.isfinite(value)):
                raise InvalidInputError(f"{what} is {value}; it must be a positive number of seconds.")
        if retries < 0:
            raise InvalidInputError(f"retries is {retries}; it must be 0 or more.")
        self.address = connect
        self.last_late = False
        """Whether the last decision took the host longer than its pace allows."""
        self._timeout_s, self._retries, self._heartbeat_s = timeout_s, retries, heartbeat_s
        self._why_dead = why_dead
        self._conversation = ClientConversation()
        self._over = ""  # why nothing can be asked any more
        self._wait_ms = -1
        self._heard = self._resend_at = self._ping_at = 0.0
        self._repeats = 0
        self._context = zmq.Context()
        try:
            # An identity of its own lets the host know the client again after a lost connection. ZeroMQ keeps those
            # that begin with a zero byte for itself.
            self._socket = addresses.connect(self._context, connect, b"\x01" + uuid.uuid4().bytes)
        except AddressError:
            self._context.term()
            raise
        try:
            welcome = self._exchange(Hello(name, expect_network or ""))
            assert isinstance(welcome, Welcome)
        except BaseException:
            self.close()
            raise
        self.network_hash = welcome.network_hash
        self.network_name = welcome.network_name
        self.profile = welcome.profile
        self.target = welcome.target
        self.software = welcome.software
        self.n_inputs = welcome.n_inputs
        self.n_channels = welcome.n_channels
        self.n_outputs = welcome.n_outputs
        self.steps = welcome.steps
        self.layer_sizes: tuple[int, ...] = tuple(welcome.layer_sizes.tolist())
        self.step_ms = welcome.step_ms
        self.window_ms = welcome.window_ms
        self.decoder = welcome.decoder
        self.paced = welcome.paced
        self.scale = welcome.scale

    # --- asking ------------------------------------------------------------------------------------------------------

    def reset(self, *, seed: int | None = None, episode: int = 0) -> None:
        """Begin an episode; `seed` is that of a random encoder, `episode` a number for the records.

        Raises
        ------
        InvalidInputError
            If a number does not fit 64 bits, or the agent does not take this seed.
        """
        for what, value in (("seed", seed or 0), ("episode", episode)):
            if not 0 <= value < 2**64:
                raise InvalidInputError(f"The {what} is {value}; it must be from 0 to 2**64 - 1.")
        done = self._exchange(Reset(episode, seed is not None, seed or 0))
        if done != ResetDone(episode):
            self._fail(RemoteProtocolError(f"The host answered {done}; episode {episode} was to begin."))

    def decide(self, observation: object, *, spikes: bool = False) -> Decision:
        """The decision on one observation, float [n_inputs]; with its rasters if `spikes`.

        Raises
        ------
        InvalidInputError
            If the observation has another shape, or is not finite.
        HostLostError
            If the host does not answer, or says Bye.
        RefusedError
            If the host cannot decide; `code` says why.
        """
        values = checked(observation, "observation", self.n_inputs)
        return self._decision(self._exchange(Inject(InputKind.OBSERVATION, spikes, values)))

    def decide_stimulus(self, stimulus: Stimulus, *, spikes: bool = False) -> Decision:
        """The decision on one input that is encoded already: a stimulus with a batch axis of length 1.

        Raises the errors of :meth:`decide`.
        """
        return self._decision(self._exchange(self._inject(stimulus, spikes)))

    def submit(self, observation: object, *, spikes: bool = False) -> None:
        """Send an observation and do not wait: :meth:`poll` fetches the decision. For loops that keep a pace."""
        values = checked(observation, "observation", self.n_inputs)
        self._submit(Inject(InputKind.OBSERVATION, spikes, values))

    def poll(self, timeout_s: float = 0.0) -> Decision | None:
        """The decision on what was submitted, waited for up to `timeout_s`; None if it is not there yet.

        Raises the errors of :meth:`decide`, and LocalProtocolError if nothing was submitted.
        """
        if not self.outstanding:
            raise LocalProtocolError(self._over or "Nothing was submitted; there is no decision to wait for.")
        answer = self._await(time.monotonic() + timeout_s)
        return None if answer is None else self._decision(answer)

    @property
    def outstanding(self) -> bool:
        """Whether something was submitted whose decision has not been fetched."""
        return self._conversation.outstanding

    def keep_alive(self) -> None:
        """Tell the host, in a long pause between decisions, that this client is still there."""
        if self._over:
            raise LocalProtocolError(self._over)
        self._send(_PING)

    def close(self) -> None:
        """Say Bye and close the socket. May be called again."""
        if not self._socket.closed:
            self._send(self._conversation.goodbye("the client was closed"))
            self._over = self._over or "This remote agent is closed; make another one."
            self._socket.close()
            self._context.term()

    def __enter__(self) -> RemoteAgent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- requests and answers ----------------------------------------------------------------------------------------

    def _exchange(self, request: Message) -> Message:
        """The answer to `request`, which the rules of the conversation hold to the right type."""
        self._submit(request)
        answer = self._await(None)
        assert answer is not None  # there was no deadline
        return answer

    def _submit(self, request: Message) -> None:
        if self._over:
            raise LocalProtocolError(self._over)
        self._send(self._conversation.request(request))
        self._heard = now = time.monotonic()  # silence counts from here
        self._resend_at, self._ping_at = now + self._timeout_s, now + self._heartbeat_s
        self._repeats = 0

    def _await(self, until: float | None) -> Message | None:
        """The answer to the outstanding request, or None if the time `until` comes first."""
        while True:
            frame = self._receive(until)
            now = time.monotonic()
            if frame is None:
                self._tend(now)
                if until is not None and now >= until:
                    return None
                continue
            self._heard, self._repeats = now, 0
            try:
                message = self._conversation.receive(frame)
            except RemoteProtocolError as error:
                self._fail(error)
            if message is not None:
                return self._unwrap(message)

    def _receive(self, until: float | None) -> bytes | None:
        wake = min(self._ping_at, self._resend_at, math.inf if until is None else until)
        wait_ms = max(0, math.ceil((wake - time.monotonic()) * 1e3))
        if wait_ms != self._wait_ms:
            self._socket.setsockopt(zmq.RCVTIMEO, wait_ms)
            self._wait_ms = wait_ms
        try:
            return self._socket.recv()
        except zmq.Again:
            return None

    def _tend(self, now: float) -> None:
        """Nothing has come: ask whether the host is there, ask again, or give up."""
        if now >= self._ping_at:
            if self._why_dead is not None and (how := self._why_dead()):
                self._fail(HostLostError(f"The host at {self.address} is gone: {how}."))
            self._send(_PING)
            self._ping_at = now + self._heartbeat_s
        if now >= self._resend_at:
            silent_s = now - self._heard
            if self._repeats >= self._retries and silent_s >= self._timeout_s:
                self._fail(HostLostError(f"The host at {self.address} has not answered for {silent_s:.1f} s."))
            # Also when Pongs come: the answer may have been lost with a connection that was made anew since.
            self._send(self._conversation.again())
            self._repeats += 1
            self._resend_at = now + self._timeout_s

    def _send(self, frame: bytes) -> None:
        try:
            self._socket.send(frame, zmq.NOBLOCK)
        except zmq.Again:
            return  # A full queue means that the host does not read, and that is what the timeouts are for.

    def _unwrap(self, message: Message) -> Message:
        if isinstance(message, Bye):
            self._fail(HostLostError(f"The host at {self.address} said goodbye: {message.reason}."))
        if isinstance(message, Error):
            if message.code == ErrorCode.BAD_INPUT:
                raise InvalidInputError(message.message)
            refusal = RefusedError(f"The host at {self.address} refused: {message.message}", message.code_name)
            if self._conversation.state is State.OVER:
                self._fail(refusal)
            raise refusal
        return message

    def _fail(self, error: BridgeError) -> NoReturn:
        """End the conversation for good; the Bye frees this client's place, if the host is still there."""
        self._over = f"Nothing more can be asked of this host, make another remote agent: {error}"
        self._send(self._conversation.goodbye("the client has given up"))
        raise error

    # --- translation -------------------------------------------------------------------------------------------------

    def _inject(self, stimulus: Stimulus, want_spikes: bool) -> Inject:
        if len(stimulus) != 1:
            raise InvalidInputError(f"A stimulus of {len(stimulus)} samples was given; the host takes one at a time.")
        currents = checked(stimulus.currents[0], "currents", self.n_channels)
        if stimulus.spikes is None:
            return Inject(InputKind.CURRENTS, want_spikes, currents)
        shape = (1, self.steps, self.n_channels)
        if stimulus.spikes.shape != shape or stimulus.spikes.dtype != np.uint8:
            given = f"{stimulus.spikes.dtype} {stimulus.spikes.shape}"
            raise InvalidInputError(f"The spikes are {given}; this network takes counts as uint8 {shape}.")
        steps, channels = spike_events(stimulus.spikes[0])
        return Inject(InputKind.SPIKES, want_spikes, currents if currents.any() else currents[:0], channels, steps)

    def _decision(self, answer: Message) -> Decision:
        assert isinstance(answer, Readout)  # nothing else answers an Inject
        if answer.output.size != self.n_outputs or answer.timings.size != _N_STAGES:
            sizes = f"{answer.output.size} outputs and {answer.timings.size} timings"
            self._fail(RemoteProtocolError(f"The host sent {sizes}; {self.n_outputs} and {_N_STAGES} were announced."))
        if answer.exchange.size not in (0, _N_COUNTS):
            sizes = f"{answer.exchange.size} counts of an exchange"
            self._fail(RemoteProtocolError(f"The host sent {sizes}; there are {_N_COUNTS}, or none."))
        self.last_late = answer.late
        rasters = self._rasters(answer) if answer.has_spikes else None
        exchange = Exchange(*answer.exchange.tolist()) if answer.exchange.size else None
        timings = Timings(*answer.timings.tolist())
        return Decision(answer.action, answer.output, timings, rasters, exchange, answer.cpu_us)

    def _rasters(self, readout: Readout) -> tuple[CountArray, ...]:
        """The spike events of a readout as one raster [steps, neurons] per spiking layer."""
        layers, neurons, steps = readout.spike_layers, readout.spike_neurons, readout.spike_steps
        cells = self.steps * sum(self.layer_sizes)
        if cells > MAX_RASTER_CELLS:
            self._fail(RemoteProtocolError(f"Rasters of {cells} cells were announced; at most {MAX_RASTER_CELLS} fit."))
        sizes = np.array(self.layer_sizes, np.int64)
        fits = layers.size == neurons.size == steps.size and (layers < sizes.size).all() and (steps < self.steps).all()
        if not fits or (neurons >= sizes[layers]).any():
            self._fail(RemoteProtocolError("The host sent spikes of neurons or steps that its network does not have."))
        rasters = tuple(np.zeros((self.steps, size), np.uint8) for size in self.layer_sizes)
        for index, raster in enumerate(rasters):
            here = layers == index
            cell, times = np.unique(steps[here].astype(np.int64) * sizes[index] + neurons[here], return_counts=True)
            if times.size and times.max() > _MOST:
                self._fail(RemoteProtocolError(f"The host sent a neuron with more than {_MOST} spikes in a step."))
            raster.flat[cell] = times
        return rasters

"""Decisions of circuits on a machine, live: a datagram in, a datagram out, and nothing loaded in between.

A question's tag comes back with its answer, so that an answer to an older question is known for what it is and thrown
away; so is one that was given before the last that was taken. In lock-step a question that is not answered within its
chunk of ticks has been lost, or its answer has: another chunk passes, in case it was only late, and it is asked again.
Running freely, it is asked again after a silence; the gates see to it that a question which comes while another is
decided on is ignored as a whole.
"""

from __future__ import annotations

import bisect
import contextlib
from collections.abc import Iterator
from time import perf_counter
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import SessionStateError, TargetError
from ...models.stimulus import Stimulus
from ..backend import Exchange, Readout, Recording
from ..deployment import Deployment
from .circuit import TAGS, Ints
from .circuit_plan import machine_of, runs_freely, wiring_for
from .circuit_twin import CircuitTwinSession, codes_of
from .live_link import LiveLink, injection
from .loading import LoadedCircuit
from .machine import Machine
from .ticking import Ticking
from .wiring import DECISION, SELF_TEST, SELF_TEST_TICKS, Wiring, keys_of, layer_name

# Lock-step: how long an answer is waited for until the board is asked whether it is done with its ticks.
_LOOK_S = 0.02
# Once it is: how long something may still be on its way.
_GRACE_S = 0.012
# Ticks after the winner's in which spikes are sent that belong to the decision.
_AFTER = 1
_TESTED = 6


class CircuitSession:
    """Circuits on a machine, open; see `spikeloop.deploy.backend.Session`.

    The answer is the chosen action: its output is 1, all others are 0.

    Raises
    ------
    TargetError
        If the machine cannot be had, does not hold what was planned, or does not compute as its twin.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._settings = machine_of(deployment.profile)
        self._wired: Wiring = wiring_for(deployment)
        self._keys = keys_of(self._wired.circuit)
        self._answers = np.eye(self._wired.circuit.n_actions)
        self.max_batch: int | None = self._settings.circuits
        self._asked = 0
        self._state: Literal["closed", "lost", "idle", "injected", "ran"] = "idle"
        self._machine: Machine | None = None
        self._sends_layers = False
        self._build(layers=self._settings.send_spikes)

    # --- taking the machine -----------------------------------------------------------------------------------------

    def _build(self, *, layers: bool) -> None:
        lock_step = not runs_freely(self._settings)
        # The gatherer sends the winner's spike in the tick after it; what is flushed later is gone by the next step 0.
        chunk = self._wired.winner_tick + 1 if lock_step else 0
        self._machine = Machine(self._deployment.profile)
        try:
            self._link = LiveLink(self._machine.address)
            with self._machine.quiet():
                numbers = range(self._settings.circuits)
                self._circuits = [LoadedCircuit(self._machine, self._wired, number) for number in numbers]
                for circuit in self._circuits:
                    circuit.send_live(self._link, layers=layers)
                if self._settings.read_back:
                    self._machine.sim.run(1)
                    for circuit in self._circuits:
                        circuit.read_back()
            self._ticking = Ticking(self._machine, chunk)
            self._sends_layers = layers
            self._find()
            if self._settings.self_test:
                self._test()
        except BaseException:
            self._release()
            raise

    def _find(self) -> None:
        """Where each circuit's input goes, and whom each key of an answer or of a layer's spike belongs to."""
        names = [DECISION, *(layer_name(i) for i in range(self._wired.circuit.depth - 1) if self._sends_layers)]
        self._injectors = [circuit.injector for circuit in self._circuits]
        self._newest = [-1] * len(self._circuits)
        self._senders = sorted(
            (keys.key, keys.key + keys.span, keys.colour_bits, number, name, keys.first)
            for number, circuit in enumerate(self._circuits)
            for name in names
            for keys in circuit.keys(name)
        )

    def _release(self) -> None:
        machine, self._machine = self._machine, None
        if machine is None:
            return
        try:
            if hasattr(self, "_ticking"):
                self._ticking.stop()
                del self._ticking
            if hasattr(self, "_link"):
                self._link.close()
        finally:
            machine.close()

    def _test(self) -> None:
        """Have the machine show its threshold, its floor and its flush; then a few decisions as the twin takes them."""
        for number in range(len(self._circuits)):
            expected = {neuron for neuron, (fires, _) in enumerate(SELF_TEST) if fires}
            for _ in range(1 + self._settings.resends):
                fired = self._fired_in_test(number)
                if fired == expected:  # else the question or the answer may have been lost, or two have met
                    break
            else:
                raise TargetError(
                    f"The machine failed its self-test: of the test neurons {sorted(fired)} fired, not "
                    f"{sorted(expected)}. Threshold, floor or flush of its neurons are not as presumed (sPyNNaker "
                    "7.4.1); it is not used."
                )
        rng = np.random.default_rng(0)
        most = 1 << (self._keys.bits - 1)
        tested = -(-_TESTED // len(self._circuits)) * len(self._circuits)  # each circuit decides as often
        codes = rng.integers(-most, most, (tested, self._keys.n_inputs))
        codes[0] = 0
        twin = CircuitTwinSession(self._deployment)
        twin.inject(Stimulus(codes.astype(np.float64)))
        twin.run(self._wired.circuit.steps)
        wanted = twin.read().potentials.argmax(axis=1)
        for start in range(0, tested, len(self._circuits)):
            part = codes[start : start + len(self._circuits)]
            actions = self._decide(part)[0]
            for index, action in enumerate(actions):
                if action != wanted[start + index]:
                    raise TargetError(
                        f"The machine failed its self-test: on inputs {part[index].tolist()} it chose action {action}, "
                        f"its twin {wanted[start + index]}; it is not used."
                    )

    def _fired_in_test(self, number: int) -> set[int]:
        self._link.send([injection(self._injectors[number], np.array([self._keys.test]))])
        if self._ticking.chunk:
            self._ticking.go_on()
            self._ticking.await_pause()
            wait_s = _GRACE_S
        else:
            wait_s = (SELF_TEST_TICKS + 2) * self._deployment.window.step_ms / 1e3 + self._settings.answer_ms / 1e3
        deadline, fired = perf_counter() + wait_s, set()
        while (found := self._link.receive(deadline)) is not None:
            for of, name, neuron in self._sources(found[1]):
                if of == number and name == DECISION and neuron >= self._wired.first_test:
                    fired.add(neuron - self._wired.first_test)
        return fired

    # --- one window -------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """End the window before."""
        if self._state in ("closed", "lost"):
            self._expect("idle", "reset", "")
        self._state = "idle"

    def inject(self, stimulus: Stimulus, recording: Recording = Recording()) -> None:  # noqa: B008  # frozen
        """Set the window's input and what to record of it. The first time that spikes are recorded, it loads anew."""
        self._expect("idle", "inject", "reset first")
        if len(stimulus) > len(self._circuits):
            raise SessionStateError(
                f"{len(self._circuits)} samples run side by side; {len(stimulus)} were injected together."
            )
        if recording.potentials:
            raise TargetError("A machine sends spikes, and no potentials; the target 'spinnaker-twin' has those.")
        self._codes = codes_of(stimulus)
        self._recording = recording
        if recording.spikes and not self._sends_layers:
            with self._lost_on_failure():
                self._ticking.check()  # a machine that has failed is to be told of, not replaced
                self._release()
                self._build(layers=True)
        self._state, self._steps = "injected", 0

    def run(self, steps: int) -> None:
        """Decide, once all of the window's steps have been asked for: on the machine it passes as a whole."""
        self._expect("injected", "run", "reset and inject first")
        self._steps += steps
        if self._steps > self._wired.circuit.steps:
            raise SessionStateError(f"{self._steps} steps were asked for; the window has {self._wired.circuit.steps}.")
        if self._steps == self._wired.circuit.steps:
            with self._lost_on_failure():
                self._actions, self._exchange, self._spikes = self._decide(self._codes)
            self._state = "ran"

    def read(self) -> Readout:
        """The answers, and the spikes where they are recorded."""
        self._expect("ran", "read", "reset, inject and run the whole window first")
        return Readout(
            potentials=self._answers[self._actions],
            rasters=self._rasters() if self._recording.spikes else None,
            exchange=self._exchange,
        )

    def close(self) -> None:
        """Give the machine back."""
        self._state = "closed"
        self._release()

    @contextlib.contextmanager
    def _lost_on_failure(self) -> Iterator[None]:
        try:
            yield
        except TargetError as error:
            self._state, self._why = "lost", str(error)
            raise

    def _expect(self, state: str, verb: str, instead: str) -> None:
        if self._state == state:
            return
        if self._state == "closed":
            raise SessionStateError("The session is closed; launch the agent again.")
        if self._state == "lost":
            raise SessionStateError(f"The session has lost its machine; launch the agent again. {self._why}")
        raise SessionStateError(f"{verb} was called out of order: {instead}.")

    # --- asking and listening ---------------------------------------------------------------------------------------

    def _decide(self, codes: Ints) -> tuple[list[int], Exchange, list[tuple[int, int, str, int]]]:
        """The actions for `codes` [n, n_inputs], what it took, and the spikes: (tick r, circuit, group, neuron)."""
        tag = self._asked % TAGS
        self._asked += 1
        open_ = dict(enumerate(injection(self._injectors[i], self._keys.of(row, tag)) for i, row in enumerate(codes)))
        self._heard = _Heard(len(codes))
        resent = 0
        for attempt in range(1 + self._settings.resends):
            if attempt:
                resent += len(open_)
            self._heard.soonest = perf_counter() + self._least_s if attempt else 0.0
            if self._ticking.chunk:
                self._ticking.await_pause()
            self._link.send(open_.values())
            self._listen(tag, open_)
            if not open_:
                self._collect(tag)
                heard = self._heard
                return heard.actions, Exchange(resent, heard.stale, heard.late), heard.relative(self._wired)
        self._ticking.check()
        raise TargetError(
            f"No answer came to an observation that was sent {1 + self._settings.resends} times; the machine is there. "
            "Datagrams to or from it are lost, or held back by a firewall: UDP from the board to this host must pass."
        )

    def _listen(self, tag: int, open_: dict[int, bytes]) -> None:
        """Wait for the answers to what is `open_`, and take those out that come."""
        ticking = self._ticking
        if not ticking.chunk:
            ticks_s = (self._wired.winner_tick + 2) * self._deployment.window.step_ms / 1e3
            self._hear(tag, open_, perf_counter() + ticks_s + self._settings.answer_ms / 1e3)
            return
        for chunk in range(2):  # in the second comes what was late for the first
            if chunk:
                ticking.await_pause()
            ticking.go_on()
            self._hear(tag, open_, perf_counter() + _LOOK_S)
            if open_:
                ticking.await_pause()
                self._hear(tag, open_, perf_counter() + _GRACE_S)
            if not open_:
                self._heard.late += chunk
                return

    def _hear(self, tag: int, open_: dict[int, bytes], deadline: float) -> None:
        while open_ and (found := self._link.receive(deadline)) is not None:
            self._take(tag, open_, *found)

    def _collect(self, tag: int) -> None:
        """Spikes that are recorded come in several datagrams; wait for the last."""
        if not self._recording_spikes:
            return
        if self._ticking.chunk:
            self._ticking.await_pause()
            deadline = perf_counter() + _GRACE_S / 4
        else:
            deadline = perf_counter() + (_AFTER + 2) * self._deployment.window.step_ms / 1e3
        while (found := self._link.receive(deadline)) is not None:
            self._take(tag, {}, *found)

    @property
    def _least_s(self) -> float:
        """Running freely, no answer comes sooner than so long after its question."""
        if self._ticking.chunk:
            return 0.0
        return (self._wired.winner_tick - 1) * self._deployment.window.step_ms / 1e3

    @property
    def _recording_spikes(self) -> bool:
        return self._state == "injected" and self._recording.spikes

    def _take(self, tag: int, open_: dict[int, bytes], tick: int, keys: NDArray[np.uint32]) -> None:
        heard = self._heard
        for number, name, neuron in self._sources(keys):
            if self._sends_layers:
                heard.spikes.append((tick, number, name, neuron))
            answer = self._wired.answer(neuron) if name == DECISION else None
            if answer is None:
                continue
            action, of = answer
            if of == tag and tick > self._newest[number] and open_.pop(number, None) is not None:
                heard.actions[number] = action
                heard.ticks[number] = self._newest[number] = tick
                heard.late += perf_counter() < heard.soonest  # too soon for the last question: it answers one before
            else:
                heard.stale += 1

    def _sources(self, keys: NDArray[np.uint32]) -> list[tuple[int, str, int]]:
        found = []
        for key in keys.tolist():
            place = bisect.bisect(self._senders, (key + 1,)) - 1
            if place < 0:
                continue
            low, high, colour_bits, number, name, first = self._senders[place]
            if low <= key < high:
                found.append((number, name, first + (key - low >> colour_bits)))
        return found

    def _rasters(self) -> tuple[NDArray[np.uint8], ...]:
        """Spikes per step of the Network: uint8 [n, steps, neurons] per layer but the last."""
        circuit = self._wired.circuit
        rasters = [np.zeros((len(self._codes), circuit.steps, n), dtype=np.uint8) for n in circuit.network.sizes[:-1]]
        layers = {layer_name(index): raster for index, raster in enumerate(rasters)}
        for r, number, name, neuron in self._spikes:
            # What the machine fires at the end of step t, the Network counts as fired in step t + 1.
            step = r - self._wired.lead - 1
            if name in layers and number < len(self._codes) and 0 <= step < circuit.steps:
                layers[name][number, step, neuron] += 1
        return tuple(rasters)


class _Heard:
    """What came while one question was open."""

    def __init__(self, n: int) -> None:
        self.actions = [0] * n
        self.ticks = [0] * n
        self.spikes: list[tuple[int, int, str, int]] = []
        self.stale = 0
        self.late = 0
        self.soonest = 0.0  # when the last question can be answered at the earliest; 0: it was the first

    def relative(self, wired: Wiring) -> list[tuple[int, int, str, int]]:
        """The spikes, with ticks counted as the wiring does; those of other circuits or decisions are left out."""
        found = []
        for tick, number, name, neuron in self.spikes:
            if number < len(self.ticks):
                r = tick - self.ticks[number] + wired.winner_tick
                if 0 < r <= wired.winner_tick + _AFTER:
                    found.append((r, number, name, neuron))
        return found

"""How a machine's time passes while an agent decides: in lock-step with the host, or freely.

sPyNNaker's `run_forever` stays in a thread of its own until the end. In lock-step the machine stops after each chunk of
ticks and waits for a signal; that, and the question whether it waits, go through an SCP connection of our own, so that
no two threads use sPyNNaker's.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
from time import perf_counter, sleep
from typing import Any

from ...errors import TargetError
from ...virtual_board.layout import CoreState
from ...virtual_board.scamp.client import Client, NoAnswerError, RefusedError
from . import scp, vendor
from .machine import Machine

_SIGNAL, _COUNT, _TO_ALL = 22, 15, 0xFFFF
_SYNC0 = 4  # the signal; SYNC1 is the next
_START_S, _STOP_S, _CHUNK_S = 120.0, 60.0, 30.0
_ASK_AGAIN_S = 0.1
_PAUSE_S = 2e-4  # between questions: each takes time of a virtual board's


class Ticking:
    """A running machine; `stop` ends it.

    Parameters
    ----------
    machine : Machine
        With its network built.
    chunk : int
        Ticks after which it waits for `go_on`; 0: it runs freely.
    """

    def __init__(self, machine: Machine, chunk: int) -> None:
        self._machine = machine
        self.chunk = chunk
        self._failure: BaseException | None = None
        self._started = threading.Event()
        self._view: Any = importlib.import_module("spynnaker.pyNN.data").SpynnakerDataView
        self._external: Any = importlib.import_module("spynnaker.pyNN.external_devices")
        self._thread = threading.Thread(target=self._run, name="spinnaker", daemon=True)
        self._client = Client(machine.address, _ASK_AGAIN_S)
        try:
            self._start()
        except BaseException:  # an interrupt too: the thread must not outlive this
            self.stop()
            raise

    def _start(self) -> None:
        with vendor.told_when_started(self._started.set):
            self._thread.start()
            deadline = perf_counter() + _START_S
            while not self._started.wait(0.02):
                if not self._thread.is_alive() or perf_counter() > deadline:
                    self._raise_failure("did not start")
        self._app_id: int = self._view.get_app_id()
        self._cores = sum(len(cores) for cores in self._view.get_executable_types().values())
        # The number of the SYNC signal that it waits for at the end of the chunk: they alternate.
        self._next = int(self._view.get_next_sync_signal().name == "SYNC1")
        if self.chunk:
            self.await_pause()

    def _run(self) -> None:
        try:
            with self._machine.quiet():
                self._external.run_forever(sync_time=float(self.chunk))
        except BaseException as error:
            self._failure = error

    def _raise_failure(self, what: str) -> None:
        if isinstance(self._failure, TargetError):
            raise self._failure
        raise TargetError(f"The SpiNNaker machine at {self._machine.address} {what}: {self._failure or 'time is up'}.")

    def go_on(self) -> None:
        """Let the next chunk of ticks pass; the machine must be waiting."""
        self._ask(_SIGNAL, 0, (_SYNC0 + self._next) << 16 | 0xFF << 8 | self._app_id, _TO_ALL)
        self._next ^= 1

    def waits(self) -> bool:
        """Whether every core waits for `go_on`."""
        state = CoreState.SYNC1 if self._next else CoreState.SYNC0
        answer = self._ask(_COUNT, self._app_id, state)
        return int.from_bytes(answer[:4], "little") >= self._cores

    def await_pause(self) -> None:
        """Wait until every core waits for `go_on`.

        Raises
        ------
        TargetError
            If a core has failed, or is not done in time.
        """
        if self.waits():
            return
        deadline, pause = perf_counter() + _CHUNK_S, _PAUSE_S
        while not self.waits():
            if perf_counter() > deadline:
                self._machine.check()
                raise TargetError(
                    f"The SpiNNaker machine at {self._machine.address} is not done with {self.chunk} ticks after "
                    f"{_CHUNK_S:g} s."
                )
            sleep(pause)
            pause = min(1.5 * pause, 10 * _PAUSE_S)

    def check(self) -> None:
        """Say what is wrong with the machine, if anything is."""
        if not self._thread.is_alive():
            self._raise_failure("has stopped")
        self._machine.check()

    def _ask(self, command: int, arg1: int, arg2: int, arg3: int = 0) -> bytes:
        try:
            return self._client.ask(command, arg1, arg2, arg3)
        except (NoAnswerError, RefusedError) as error:
            self.check()
            raise TargetError(f"The SpiNNaker machine does not obey: {error}") from None

    def stop(self) -> None:
        """End the run; the network stays loaded. Whatever the machine does, this returns.

        An interrupt is kept until the thread has ended: it would go on to talk, with nobody left to listen.
        """
        gone = self._thread.is_alive() and scp.probe(self._machine.address) is not scp.Presence.BOARD
        with vendor.not_waiting_for_cores() if gone else contextlib.nullcontext():
            interrupt = self._end_thread()
        self._client.close()
        if interrupt is not None:
            raise interrupt

    def _end_thread(self) -> BaseException | None:
        interrupt: BaseException | None = None
        deadline = perf_counter() + _STOP_S
        asked = False
        while self._thread.is_alive() and perf_counter() < deadline:
            try:
                if not asked:
                    asked = True
                    with self._machine.quiet():
                        self._external.request_stop()
                self._thread.join(0.05)
                # It was told to stop at the end of a chunk, and waits for the next one to begin.
                if self.chunk and self._thread.is_alive() and hasattr(self, "_next") and self.waits():
                    self.go_on()
            except TargetError:
                pass
            except (KeyboardInterrupt, SystemExit) as stop:
                interrupt = stop
        return interrupt

"""`VirtualBoard`: a board in a process of its own, for tests and scripts.

Parent and child talk in lines of JSON: events come by the child's standard output, requests go by its standard input.
When the input ends the board stops, so that it never outlives the process that started it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .errors import AddressInUseError, BoardSettingError, BoardStartError
from .faults import Faults
from .host_config import spynnaker_config, write_config

START_TIMEOUT_S = 120.0  # the first start on a machine compiles the hot path
STOP_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 30.0
_ERRORS = {"AddressInUseError": AddressInUseError, "BoardSettingError": BoardSettingError}


class VirtualBoard:
    """A virtual SpiNNaker board that listens on a loopback address while the ``with`` block lasts.

    Parameters
    ----------
    version : 3 (4 chips) or 5 (48 chips a board)
    boards : how many boards; more than one only of version 5
    address : where to listen; "auto" takes one that is free, each time another
    pace : how many ms of wall time 1 ms of the board's time takes (1: real time, as a real board); None for as fast
        as possible
    cold : wait to be booted, as after power-on
    faults : what is broken
    without : kinds of events that are not told, such as "state" and "signal": a board in lock-step has many

    Raises
    ------
    BoardSettingError, AddressInUseError, BoardStartError
        There is no such board, another one has the address, or the process did not come up.

    Examples
    --------
    >>> with VirtualBoard(version=3, pace=None) as board:  # doctest: +SKIP
    ...     board.write_config(".")  # the spynnaker.cfg of a script that runs here
    """

    def __init__(
        self,
        version: int = 3,
        boards: int = 1,
        *,
        address: str = "auto",
        pace: float | None = 1.0,
        cold: bool = False,
        faults: Faults | None = None,
        without: Sequence[str] = (),
    ) -> None:
        self.version = version
        self.address = address
        self.addresses: list[str] = []
        self.events: list[dict[str, Any]] = []
        faults = faults or Faults()
        self._settings = {
            "version": version,
            "boards": boards,
            "address": address,
            "pace": pace,
            "cold": cold,
            "faults": {name: getattr(faults, name) for name in Faults.__dataclass_fields__},
            "without": list(without),
        }
        self._process: subprocess.Popen[str] | None = None
        self._answers: dict[int, dict[str, Any]] = {}
        self._asked = 0
        self._news = threading.Condition()
        self._ended = False

    def start(self) -> VirtualBoard:
        """Start the process, and wait until it listens."""
        if self._process is not None:
            raise BoardStartError("this board has been started already; make another VirtualBoard for another one")
        root = Path(__file__).resolve().parents[__package__.count(".") + 1]
        path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
        command = [sys.executable, "-m", __package__, json.dumps(self._settings)]
        self._process = subprocess.Popen(
            command,
            start_new_session=True,  # Ctrl-C is for whoever started this
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path} if (root / __package__.split(".")[0]).is_dir() else None,
        )
        threading.Thread(target=self._listen, name="board-events", daemon=True).start()
        try:
            first = self._await(lambda event: event["kind"] in ("listening", "failed"), START_TIMEOUT_S)
        except BaseException:
            self.stop()
            raise
        if first is None or first["kind"] == "failed":
            ended = self._ended
            self.stop()
            if first is None:
                how = (
                    f"ended with code {self._process.returncode}"
                    if ended
                    else f"was silent for {START_TIMEOUT_S:.0f} s"
                )
                raise BoardStartError(f"the board's process {how}; start it by hand to see why: {shlex.join(command)}")
            raise _ERRORS.get(first["error"], BoardStartError)(first["message"])
        self.address = first["addresses"][0]
        self.addresses = first["addresses"]
        return self

    def __enter__(self) -> VirtualBoard:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _listen(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if record.get("kind") == "answer":
                with self._news:
                    self._answers[record["id"]] = record
                    self._news.notify_all()
                continue
            with self._news:
                self.events.append(record)
                self._news.notify_all()
        with self._news:
            self.events.append({"kind": "ended", "message": "the board's process has ended"})
            self._ended = True
            self._news.notify_all()

    def _await(self, wanted: Any, timeout_s: float) -> dict[str, Any] | None:
        """The first event that is wanted; None when the time is over or the process has ended."""
        deadline = time.monotonic() + timeout_s
        seen = 0
        with self._news:
            while True:
                for event in self.events[seen:]:
                    if wanted(event):
                        return event
                    if event["kind"] == "ended":
                        return None
                seen = len(self.events)
                left = deadline - time.monotonic()
                if left <= 0 or not self._news.wait(left):
                    return None

    def wait_for(self, kind: str, timeout_s: float = 10.0, **details: Any) -> dict[str, Any] | None:
        """The first event of this kind with these details, None if it does not come in time."""
        return self._await(
            lambda event: event["kind"] == kind and all(event.get(name) == value for name, value in details.items()),
            timeout_s,
        )

    def _ask(self, question: str, **arguments: Any) -> Any:
        process = self._process
        if process is None or process.stdin is None or self._ended:
            raise BoardStartError("the board does not run; use it inside of `with VirtualBoard() as board:`")
        with self._news:
            self._asked += 1
            number = self._asked
            try:
                process.stdin.write(json.dumps({"ask": question, "id": number, **arguments}) + "\n")
                process.stdin.flush()
            except (OSError, ValueError) as error:
                raise BoardStartError(f"the board's process has ended: {error}") from error
            self._news.wait_for(lambda: number in self._answers or self._ended, ANSWER_TIMEOUT_S)
            answer = self._answers.pop(number, None)
        if answer is None:
            raise BoardStartError("the board's process has ended" if self._ended else "the board does not answer")
        if "error" in answer:
            raise BoardSettingError(answer["error"])
        return answer["value"]

    def iobuf(self, x: int, y: int, core: int) -> str:
        """What the firmware on a core has printed."""
        return str(self._ask("iobuf", x=x, y=y, core=core))

    def statistics(self) -> dict[str, Any]:
        """Counts since boot: turns of cores, packets sent, delivered and dropped, the digest of all packets, time."""
        return dict(self._ask("statistics"))

    def cores(self) -> list[dict[str, Any]]:
        """The cores that run something: where, the binary's name, the state."""
        return list(self._ask("cores"))

    def change_network(self, udp_loss: float, udp_delay_ms: float) -> None:
        """From now on, lose this share of the datagrams in each direction, and have all come so late."""
        self._ask("network", udp_loss=udp_loss, udp_delay_ms=udp_delay_ms)

    @property
    def config(self) -> str:
        """The text of the ``spynnaker.cfg`` that leads to this board."""
        return spynnaker_config(self.address, self.version)

    def write_config(self, folder: str | os.PathLike[str]) -> Path:
        """Write that ``spynnaker.cfg`` into a folder; another file of that name is left alone."""
        return write_config(Path(folder), self.address, self.version)

    def stop(self) -> None:
        """Stop the board; whatever happens, its process is gone afterwards."""
        process = self._process
        if process is None:
            return
        if process.stdin is not None and not process.stdin.closed:
            with contextlib.suppress(OSError):  # it has ended by itself
                process.stdin.write(json.dumps({"ask": "stop", "id": 0}) + "\n")  # a fork may hold the other end open
                process.stdin.close()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            with self._news:
                self._news.wait_for(lambda: any(event["kind"] == "ended" for event in self.events), 2)
            process.stdout.close()


def requests(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """The requests in the lines of the standard input."""
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            yield record

"""``spikeloop board``: a SpiNNaker board in software, in the foreground."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.live import Live
from rich.text import Text

from ..errors import InvalidInputError, MissingPackageError, TargetError
from .output import emit, err, line, printable, say

if TYPE_CHECKING:
    from ..virtual_board.events import Event
    from ..virtual_board.server import Server, Settings

REFRESH_HZ = 4
GATHER_S = 0.15  # how long equal news of many cores are gathered into one line
_STYLES = {
    "error": "bold red",
    "refused": "yellow",
    "fault": "yellow",
    "load": "cyan",
    "signal": "green",
    "state": "dim",
}
T = TypeVar("T")


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.command("board")(board)


def board(
    version: Annotated[int, typer.Option("--version", help="3: four chips; 5: 48 chips.")] = 3,
    boards: Annotated[int, typer.Option("--boards", help="Of version 5: 1, or 3, 6, 9, ... as one machine.")] = 1,
    address: Annotated[
        str, typer.Option("--address", help="Where to listen; 'auto': at one that is free.")
    ] = "127.0.0.2",
    pace: Annotated[
        float, typer.Option("--pace", metavar="SCALE", help="1 ms of the board's time takes SCALE ms of wall time.")
    ] = 1.0,
    fast: Annotated[bool, typer.Option("--fast", help="As fast as possible instead.")] = False,
    cold: Annotated[bool, typer.Option("--cold", help="Start switched off: the host has to boot the board.")] = False,
    write_config: Annotated[
        Path | None, typer.Option("--write-config", metavar="DIR", help="Write the spynnaker.cfg for this board there.")
    ] = None,
    drop_packets: Annotated[
        float, typer.Option("--drop-packets", metavar="RATE", help="Fault: routers drop this share of the spikes.")
    ] = 0.0,
    dead_core: Annotated[
        list[str] | None, typer.Option("--dead-core", metavar="X,Y,P", help="Fault: a core is missing; repeatable.")
    ] = None,
    dead_chip: Annotated[
        list[str] | None, typer.Option("--dead-chip", metavar="X,Y", help="Fault: a chip is missing; repeatable.")
    ] = None,
    dead_link: Annotated[
        list[str] | None, typer.Option("--dead-link", metavar="X,Y,L", help="Fault: a link is cut; repeatable.")
    ] = None,
    udp_loss: Annotated[
        float, typer.Option("--udp-loss", metavar="RATE", help="Fault: this share of the datagrams is lost.")
    ] = 0.0,
    udp_delay: Annotated[float, typer.Option("--udp-delay", metavar="MS", help="Fault: datagrams come late.")] = 0.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the faults.")] = 1,
    iobuf: Annotated[
        str | None,
        typer.Option("--iobuf", metavar="X,Y,P", help="Print what a core of the running board has printed, and end."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print each event as one line of JSON.")] = False,
) -> None:
    """Be a SpiNNaker board for unmodified sPyNNaker: the shipped firmware runs on emulated cores. Ctrl-C stops it."""
    if iobuf is not None:
        _print_iobuf(address, iobuf, json)
        return
    faults = {
        "drop_packets": drop_packets,
        "dead_cores": tuple(_numbers(text, "--dead-core", "x,y,p") for text in dead_core or []),
        "dead_chips": tuple(_numbers(text, "--dead-chip", "x,y") for text in dead_chip or []),
        "dead_links": tuple(_numbers(text, "--dead-link", "x,y,link") for text in dead_link or []),
        "udp_loss": udp_loss,
        "udp_delay_ms": udp_delay,
        "seed": seed,
    }
    settings = _translated(lambda: _settings(version, boards, address, None if fast else pace, cold, faults))
    display = _JsonLog() if json else _Display()
    server = _translated(lambda: _server(settings, display.tell))
    with contextlib.closing(server):
        if write_config is not None:
            path = _translated(lambda: _write_config(write_config, server))
            say(f"{path} leads sPyNNaker scripts in that folder to this board.")
        with display.showing(server), _stopped_by_signals(server):
            server.serve()
        say("The board is off.")


@contextlib.contextmanager
def _stopped_by_signals(server: Server) -> Iterator[None]:
    """While it lasts, SIGINT and SIGTERM end `serve`, and raise nothing.

    The first start compiles for some seconds, and an exception in the midst of that leaves the compiler broken.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: server.stop()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _settings(
    version: int, boards: int, address: str, pace: float | None, cold: bool, faults: dict[str, Any]
) -> Settings:
    try:
        from ..virtual_board import Faults
        from ..virtual_board.server import Settings
    except ImportError as error:
        raise MissingPackageError.needs("The virtual board", error.name or "unicorn", "spinnaker") from None
    return Settings(version, boards, address, pace, cold, Faults(**faults))


def _server(settings: Settings, listener: Callable[[Event], None]) -> Server:
    from ..virtual_board.server import Server

    return Server(settings, listener)


def _write_config(folder: Path, server: Server) -> Path:
    from ..virtual_board.host_config import write_config

    return write_config(folder, next(iter(server.addresses.values())), server.settings.version)


def _print_iobuf(address: str, where: str, json: bool) -> None:
    x, y, core = _numbers(where, "--iobuf", "x,y,p")

    def read() -> str:
        from ..virtual_board.scamp.client import Client

        with Client(address) as client:
            return client.iobuf(x, y, core)

    text = _translated(read)
    if json:
        emit({"chip": [x, y], "core": core, "iobuf": text})
        return
    for row in text.splitlines():
        line(row)


def _translated(action: Callable[[], T]) -> T:
    """Call it; what the virtual board raises becomes an error of ours."""
    try:
        return action()
    except (InvalidInputError, TargetError, MissingPackageError):
        raise
    except Exception as error:
        from ..virtual_board import BoardError, BoardSettingError

        if isinstance(error, BoardSettingError):
            raise InvalidInputError(_sentence(error)) from error
        if isinstance(error, BoardError):
            raise TargetError(_sentence(error)) from error
        raise


def _sentence(error: Exception) -> str:
    text = str(error)
    for name, option in _OPTIONS.items():
        text = text.replace(name, option)
    return f"The board: {text}" + ("" if text.endswith((".", "\n")) else ".")


_OPTIONS = {"drop_packets": "--drop-packets", "udp_loss": "--udp-loss", "udp_delay_ms": "--udp-delay"}


def _numbers(text: str, option: str, form: str) -> tuple[int, ...]:
    parts = text.split(",")
    if (
        len(text) > 40
        or len(parts) != form.count(",") + 1
        or not all(part.strip().isascii() and part.strip().isdigit() for part in parts)
    ):
        raise InvalidInputError(f"{option} {text} cannot be read; it needs {form}, such as {'1,0,4'[: len(form)]}.")
    return tuple(int(part) for part in parts)


class _JsonLog:
    """Every event as a line of JSON on stdout."""

    def tell(self, event: Event) -> None:
        emit(event.as_json(), indent=None)

    def showing(self, server: Server) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


class _Display:
    """Events as lines on stderr, and below them what the board is doing now, where there is a terminal."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gathered: dict[tuple[str, str], list[Event]] = {}
        self._oldest = 0.0
        self._server: Server | None = None
        self._seen = (time.monotonic(), 0.0, 0)
        self._rates = ""

    def tell(self, event: Event) -> None:
        """Print the event, or gather it with others of its kind."""
        with self._lock:
            if event.kind == "listening":
                self._greet(event)
            elif event.kind in ("state", "load"):
                if not self._gathered:
                    self._oldest = time.monotonic()
                key = (event.kind, str(event.details.get("name")) + "\0" + str(event.details.get("state", "")))
                self._gathered.setdefault(key, []).append(event)
                if time.monotonic() - self._oldest > GATHER_S:
                    self._flush()
            else:
                self._flush()
                self._print(event.kind, event.board_ms, event.message)
                if event.kind == "error":
                    for row in str(event.details.get("iobuf", "")).strip().splitlines()[-20:]:
                        self._print("error", event.board_ms, f"  | {row}")

    def _greet(self, event: Event) -> None:
        from ..virtual_board.host_config import spynnaker_config

        details = event.details
        say(f"SpiNNaker board in software: {event.message}. Ctrl-C stops it.")
        say("Give scripts this spynnaker.cfg (or: spikeloop board --write-config DIR):")
        for row in spynnaker_config(details["addresses"][0], details["version"]).strip().splitlines():
            say(f"    {row}")
        say("")

    def _flush(self) -> None:
        for (kind, key), events in self._gathered.items():
            name, _, state = key.partition("\0")
            if kind == "load":
                cores = sum(len(event.details["cores"]) for event in events)
                chips = sorted({tuple(event.details["chip"]) for event in events})
                text = f"{name} on {cores} core{'s' * (cores > 1)} of {_chips(chips)}"
            elif len(events) == 1:
                text = events[0].message
            else:
                text = f"{name}: {len(events)} cores {state}"
            self._print(kind, events[-1].board_ms, text)
        self._gathered.clear()

    def _print(self, kind: str, board_ms: float, text: str) -> None:
        with contextlib.suppress(OSError):
            row = Text(f"{board_ms:12.3f} ms  {kind:9s} ", style="dim")
            row.append(printable(text), style=_STYLES.get(kind, ""))
            err.print(row, soft_wrap=True)

    @contextlib.contextmanager
    def showing(self, server: Server) -> Any:
        """Show a line of status for as long as this lasts."""
        self._server = server
        stop = threading.Event()
        with Live(console=err, refresh_per_second=REFRESH_HZ, transient=True, get_renderable=self._status) as live:
            ticker = threading.Thread(target=self._tick, args=(stop, live), daemon=True)
            ticker.start()
            try:
                yield
            finally:
                stop.set()
                ticker.join()
                with self._lock:
                    self._flush()

    def _tick(self, stop: threading.Event, live: Live) -> None:
        while not stop.wait(1 / REFRESH_HZ):
            with self._lock:
                if self._gathered and time.monotonic() - self._oldest > GATHER_S:
                    self._flush()

    def _status(self) -> Text:
        server = self._server
        if server is None or not err.is_terminal:
            return Text("")
        counts = server.machine.statistics()
        states = Counter(core["state"] for core in server.monitor.running_cores())
        now, then = time.monotonic(), self._seen
        if now - then[0] > 0.5:
            elapsed = now - then[0]
            speed = (counts["board_ms"] - then[1]) / 1000 / elapsed
            packets = (counts["packets"] - then[2]) / elapsed
            self._rates = f"{max(speed, 0):.2f} x real time   {max(packets, 0):,.0f} packets/s"
            self._seen = (now, float(counts["board_ms"]), int(counts["packets"]))
        cores = ", ".join(f"{number} {state}" for state, number in states.most_common()) or "all cores idle"
        lost = f"   {counts['dropped']:,} dropped" if counts["dropped"] else ""
        return Text(f"  {counts['board_ms'] / 1000:10.3f} s   {self._rates}   {cores}{lost}", style="bold")


def _chips(chips: list[tuple[int, ...]]) -> str:
    shown = " ".join(f"{chip[0]},{chip[1]}" for chip in chips[:6])
    return shown if len(chips) <= 6 else f"{len(chips)} chips"

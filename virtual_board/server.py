"""The board's process: sockets, the wall clock, and the loop that lets the machine run between datagrams."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import random
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from . import boot
from .errors import AddressInUseError, BoardSettingError
from .events import Event, Listener, ignore
from .faults import Faults
from .firmware_log import expand
from .geometry import Coordinates, geometry
from .layout import CYCLES_PER_MS
from .link import Link
from .machine import Machine
from .scamp.monitor import Address, Datagram, Monitor
from .scheduler import Outcome
from .state import NEVER

SCP_PORT = 17893
CYCLES_PER_S = CYCLES_PER_MS * 1000
BUDGET = 4000  # turns of cores between two looks at the sockets: a millisecond or two
CATCH_UP_S = 0.02  # how far a paced board may hurry after it has fallen behind
RECEIVE_BUFFER = 4 << 20
DATAGRAMS_AT_ONCE = 64
HOUSEKEEPING_S = 0.1
LAST_ADDRESS = 254
CHANCES = 16


@dataclass(frozen=True)
class Settings:
    """What board to be.

    Attributes
    ----------
    version, boards : 3 (4 chips) or 5 (48 chips a board)
    address : loopback address of the first board; those of further boards follow. "auto": any that is free
    pace : how many ms of wall time 1 ms of the board's time takes (1: real time); None for as fast as possible
    cold : wait to be booted, as a board does that was just switched on
    faults : what is broken
    """

    version: int = 3
    boards: int = 1
    address: str = "127.0.0.2"
    pace: float | None = 1.0
    cold: bool = False
    faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        if self.pace is not None and not 0.001 <= self.pace <= 1000:
            raise BoardSettingError(
                f"the pace is {self.pace}; it is between 0.001 and 1000 (1: real time), or none at all"
            )
        _check_address(self.address, self.boards)


def _check_address(text: str, boards: int) -> None:
    """Whether boards can listen there: on loopback addresses, for the protocol knows no authentication."""
    if text == "auto":
        return
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        raise BoardSettingError(
            f"a board was to listen at {text!r}; give an address of this machine alone, such as 127.0.0.2, or 'auto'"
        )
    if text == "127.0.0.1":
        raise BoardSettingError("127.0.0.1 cannot be used: the host tools take it for no board at all; use 127.0.0.2")
    if int(text.rpartition(".")[2]) + boards - 1 > LAST_ADDRESS:
        raise BoardSettingError(f"{boards} boards from {text} would go past .{LAST_ADDRESS}; start lower")


def _candidates(boards: int) -> Iterator[str]:
    """Where boards could listen: by chance, then the first ones, for a system that has no others.

    A host whose board has died goes on talking to its address for some seconds, and tells the cores there to stop: the
    next board should not come to live at it.
    """
    chance = random.SystemRandom()
    for _ in range(CHANCES):
        yield f"127.{chance.randint(1, 254)}.{chance.randint(0, 254)}.{chance.randint(2, LAST_ADDRESS - boards)}"
    for last in range(2, LAST_ADDRESS - boards):
        yield f"127.0.0.{last}"


class Server:
    """A virtual board on the network.

    Parameters
    ----------
    settings : Settings
    listener : is told what happens
    """

    def __init__(self, settings: Settings, listener: Listener = ignore) -> None:
        self.settings = settings
        self.listener = listener
        self.machine = Machine(geometry(settings.version, settings.boards), settings.faults)
        self.monitor = Monitor(self.machine, listener)
        self.monitor.on_session = self._session_begins
        self._selector = selectors.DefaultSelector()
        self._scp: dict[Coordinates, socket.socket] = {}
        self._tag_ports: dict[tuple[Coordinates, int], socket.socket] = {}
        self._loader = boot.BootLoader()
        self._booted = False
        self._fresh = False
        self._clients: set[Address] = set()
        self._link = Link(settings.faults, self._send_now)
        self._stop = threading.Event()
        self._housekeeping = 0.0
        self._anchor = (time.monotonic(), 0)
        self._idle = True
        self._requests: list[tuple[Callable[[], Any], threading.Event, list[Any]]] = []
        try:
            self._open_sockets()
        except BaseException:
            self.close()
            raise

    # ------------------------------------------------------------------------------------------------ sockets

    def _open_sockets(self) -> None:
        first = self.settings.address
        auto = first == "auto"
        for candidate in _candidates(self.settings.boards) if auto else [first]:
            try:
                self.addresses = self._bind_all(candidate)
                break
            except OSError as error:
                self._close_sockets()
                if error.errno != errno.EADDRINUSE and not (auto and error.errno == errno.EADDRNOTAVAIL):
                    raise BoardSettingError(
                        f"the board cannot listen at {candidate}: {error.strerror}. Give an address of this machine, "
                        "such as 127.0.0.2"
                    ) from error
        else:
            where = "every loopback address" if auto else first
            raise AddressInUseError(
                f"{where} is in use on UDP port {SCP_PORT} or {boot.PORT}: another board runs there. Stop it, or give "
                "another address, such as 127.0.0.3"
            )
        for at, address in self.addresses.items():
            self.machine.chips[at].ip_address = socket.inet_aton(address)

    def _bind_all(self, first: str) -> dict[Coordinates, str]:
        prefix, _, last = first.rpartition(".")
        addresses = {}
        for number, at in enumerate(self.machine.geometry.ethernet_chips):
            address = first if number == 0 else f"{prefix}.{int(last) + number}"
            addresses[at] = address
            self._scp[at] = self._bind(address, SCP_PORT, ("scp", at))
            if number == 0:
                self._bind(address, boot.PORT, ("boot", at))
        return addresses

    def _bind(self, address: str, port: int, key: Any) -> socket.socket:
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            opened.setblocking(False)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            opened.bind((address, port))
        except BaseException:
            opened.close()
            raise
        self._selector.register(opened, selectors.EVENT_READ, key)
        return opened

    def _close_sockets(self) -> None:
        for key in list(self._selector.get_map().values()):
            self._selector.unregister(key.fileobj)
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._scp.clear()
        self._tag_ports.clear()

    def _follow_tags(self) -> None:
        """Listen on the ports of the reverse tags, and on no others."""
        wanted = self.monitor.listening_ports()
        for place in set(self._tag_ports) - wanted:
            gone = self._tag_ports.pop(place)
            self._selector.unregister(gone)
            gone.close()
        for at, port in wanted - set(self._tag_ports):
            try:
                self._tag_ports[at, port] = self._bind(self.addresses[at], port, ("tag", (at, port)))
            except OSError as error:
                self.monitor.note("refused", f"UDP port {port} of a reverse tag cannot be opened: {error.strerror}")

    # ------------------------------------------------------------------------------------------------ the loop

    def serve(self) -> None:
        """Be a board, until `stop`."""
        self.machine.warm_up()
        self._tell_listening()
        if not self.settings.cold:
            self._boot()
        while not self._stop.is_set():
            for key, _ in self._selector.select(self._patience()):
                self._read(key.fileobj, *key.data)  # type: ignore[arg-type]
            self._link.pump()
            self._answer_requests()
            self._advance()
            if time.monotonic() - self._housekeeping > HOUSEKEEPING_S:
                self._housekeeping = time.monotonic()
                self.monitor.expire()
                self._send(self.monitor.take())

    def stop(self) -> None:
        """End `serve`; may be called from another thread or a signal handler."""
        self._stop.set()

    def close(self) -> None:
        """Give back sockets, memory and emulators."""
        self._close_sockets()
        self._selector.close()
        self.machine.close()

    def ask(self, question: Callable[[], Any]) -> Any:
        """Call something between two turns of the loop, from another thread, and return what it returns."""
        done, answer = threading.Event(), []  # type: tuple[threading.Event, list[Any]]
        self._requests.append((question, done, answer))
        if not done.wait(10):
            raise TimeoutError("the board is busy")
        if isinstance(answer[0], Exception):
            raise answer[0]
        return answer[0]

    def answer(self, request: dict[str, Any]) -> Any:
        """What a program asks beside the network: the IOBUF of a core, counts, which cores run."""
        what = request.get("ask")
        if what == "iobuf":
            chip = self.machine.chips.get((request["x"], request["y"]))
            if chip is None or not 0 <= request["core"] < chip.n_cores:
                raise BoardSettingError(f"there is no core {request['x']},{request['y']},{request['core']}")
            return expand(chip.iobuf(request["core"]))
        if what == "statistics":
            lost = {f"datagrams_lost_{direction}": number for direction, number in self._link.lost.items()}
            return {**self.machine.statistics(), **lost, "refused": self.monitor.refused}
        if what == "cores":
            return self.monitor.running_cores()
        if what == "network":
            return self._link.change(request["udp_loss"], request["udp_delay_ms"])
        raise BoardSettingError(f"{what!r} is no question; ask for iobuf, statistics, cores or network")

    def _answer_requests(self) -> None:
        while self._requests:
            question, done, answer = self._requests.pop(0)
            try:
                answer.append(question())
            except Exception as error:
                answer.append(error)
            done.set()

    def _patience(self) -> float:
        """How long to wait for a datagram."""
        return self._link.patience(HOUSEKEEPING_S / 2) if self._idle else 0.0

    def _advance(self) -> None:
        was_idle = self._idle
        now = time.monotonic()
        if self.settings.pace is None:
            horizon = NEVER - 1
        else:
            wall, virtual = self._anchor
            horizon = virtual + int((now - wall) * CYCLES_PER_S / self.settings.pace)
            if was_idle or horizon - self.machine.now > CATCH_UP_S * CYCLES_PER_S / self.settings.pace:
                self._anchor = (now, self.machine.now)
                horizon = self.machine.now
        outcome = self.machine.advance(horizon, BUDGET)
        self.monitor.collect()
        self._send(self.monitor.take())
        self._idle = outcome is Outcome.IDLE and not self.monitor.waits
        if outcome is Outcome.HORIZON:
            time.sleep(0.0002)

    def _tell_listening(self) -> None:
        where = ", ".join(self.addresses.values())
        self.listener(
            Event(
                "listening",
                f"version {self.settings.version}, {len(self.machine.chips)} chips, at {where}",
                {"addresses": list(self.addresses.values()), "version": self.settings.version,
                 "chips": len(self.machine.chips), "boards": self.settings.boards},
            )
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------------ datagrams

    def _read(self, source: socket.socket, kind: str, place: Any) -> None:
        for _ in range(DATAGRAMS_AT_ONCE):
            try:
                data, sender = source.recvfrom(65536)
            except BlockingIOError:
                return
            except OSError:
                continue  # an answer found nobody; the next datagram may be for us
            self._link.receive(lambda data=data, sender=sender: self._take(kind, place, data, sender))  # type: ignore[misc]

    def _take(self, kind: str, place: Any, data: bytes, sender: Address) -> None:
        if kind == "boot":
            self._take_boot(data)
        elif not self._booted:
            return  # a board that has not been booted does not answer
        elif kind == "scp":
            if sender not in self._clients:
                self._clients.add(sender)
                self.monitor.note("client", f"{sender[0]}:{sender[1]} talks to the board", client=list(sender))
            self._send(self.monitor.receive(data, sender, place))
            if self._fresh:
                self._freshen(sender)
            self._follow_tags()
        else:
            at, port = place
            self._send(self.monitor.receive_on_port(port, data, sender, at))

    def _take_boot(self, data: bytes) -> None:
        try:
            done = self._loader.receive(data)
        except boot.BootError as error:
            self.monitor.note("refused", f"boot: {error}")
            return
        if done:
            self._boot()

    def _boot(self) -> None:
        self._booted = True
        self._clients.clear()
        self.monitor.boot()
        self._follow_tags()
        self._anchor = (time.monotonic(), 0)

    def _session_begins(self, sender: Address | None) -> None:
        """A host begins: if those before it have all gone, what they left behind goes too.

        A real board has to be switched off and on after a script was killed. Here each script finds a fresh board,
        unless another program still talks to it.
        """
        others = [client for client in self._clients if client != sender]
        self._fresh = bool(others) and not any(_may_be_there(client) for client in others)

    def _freshen(self, sender: Address) -> None:
        """Boot for a new host, once it has its answer."""
        self._fresh = False
        self._boot()
        self._clients.add(sender)

    def _send(self, datagrams: list[Datagram]) -> None:
        for datagram in datagrams:
            self._link.send(datagram)

    def _send_now(self, datagram: Datagram) -> None:
        source = self._scp.get(datagram.ethernet)
        if source is not None:
            with contextlib.suppress(OSError):  # nobody there, or no room: UDP promises nothing
                source.sendto(datagram.data, datagram.to)


def _may_be_there(address: Address) -> bool:
    """Whether somebody still has this UDP port: of other machines nobody knows, on this one it can be tried."""
    if not address[0].startswith("127."):
        return True
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(address)
        except OSError:
            return True
    return False

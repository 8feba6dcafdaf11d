"""A SpiNNaker machine with sPyNNaker set up on it: one at a time in a process, and always released."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from ...errors import ProfileError, SpikeloopError, TargetError
from ...hardware_profiles.profile import Machine as Settings
from ...hardware_profiles.profile import Profile
from ...virtual_board import BoardError, Faults, VirtualBoard
from . import boards, scp, vendor
from .vendor import Configuration
from .vendor_errors import UnexpectedError, cores_crashed, lost, translated

VIRTUAL = "spinnaker-virtual"
KEEP = "SPIKELOOP_KEEP_SPINNAKER_LOG"
# How much later than its time a run may end: a virtual board may be much slower than real time.
_PATIENCE_S = {True: 900, False: 30}

# A dead reference: it was dropped without being closed, and has been released by that.
_holder: weakref.ref[Machine] | None = None


class Machine:
    """A board with sPyNNaker set up on it; use it in a ``with`` block.

    Parameters
    ----------
    profile : of target "spinnaker-virtual" (a virtual board is started, and stopped at the end) or "spinnaker"
    resolution_ms : sPyNNaker's time step
    configuration : more of sPyNNaker's configuration: section -> option -> value

    Attributes
    ----------
    sim : the module `pyNN.spiNNaker`, after its `setup`
    board : the virtual board, or None
    address : of the board's Ethernet chip

    Raises
    ------
    MissingPackageError
        If sPyNNaker, or the virtual board's emulator, is not installed.
    ProfileError
        If the profile names no board, or names one for a virtual target.
    TargetError
        If this process has a machine already, another process has the board, or the board cannot be used.
    """

    def __init__(
        self, profile: Profile, *, resolution_ms: float = 1.0, configuration: Configuration | None = None
    ) -> None:
        global _holder
        if profile.machine is None:
            raise ProfileError(f"Profile '{profile.name}' has no table [machine], which a SpiNNaker machine needs.")
        if _holder is not None and _holder() is not None:
            raise TargetError(
                "SpiNNaker's host tools in this process already run another agent, and there is one per process: "
                "close it, or run this one in a process of its own (spikeloop serve)."
            )
        self.board: VirtualBoard | None = None
        self.address = ""
        stack = contextlib.ExitStack()
        self._release = weakref.finalize(self, stack.close)
        _holder = weakref.ref(self)
        try:
            self._open(stack, profile, profile.machine, resolution_ms, configuration or {})
        except BaseException:
            self.close()
            raise

    def _open(
        self,
        stack: contextlib.ExitStack,
        profile: Profile,
        settings: Settings,
        resolution_ms: float,
        configuration: Configuration,
    ) -> None:
        virtual = profile.target == VIRTUAL
        where: Mapping[str, object] = {"version": settings.version}
        self._udp_loss = settings.udp_loss if virtual else 0.0
        if virtual:
            boards.check_none_named(settings)
        else:
            boards.check_named(settings)
        stack.enter_context(_terminated_cleanly())
        self._folder = stack.enter_context(_private_folder())
        log = stack.enter_context((self._folder.path / vendor.LOG_NAME).open("a", encoding="utf-8", buffering=1))
        self._log: TextIO = log
        if settings.machine_name:
            self.address = scp.resolve(settings.machine_name)
            stack.enter_context(boards.held(self.address))
            with self.quiet():
                boards.make_ready(settings, self.address)
        elif not virtual:
            where = boards.lender(settings)
        self.sim: Any = vendor.import_spynnaker()
        if virtual:
            self.board = stack.enter_context(_virtual_board(settings))
            self.address = self.board.address
        if self.address:
            where = {**where, "machine_name": self.address}
        path = self._folder.path / "spikeloop.cfg"
        sections = _merged(_configuration(where, self._folder.path, _PATIENCE_S[virtual]), configuration)
        vendor.write_configuration(path, sections)
        stack.enter_context(vendor.silenced(log))
        stack.enter_context(vendor.handlers_kept())
        if virtual:
            stack.enter_context(vendor.without_pauses())
        with self.quiet(), vendor.configured_by(path):
            stack.callback(_end, self.sim)
            self.sim.setup(resolution_ms, time_scale_factor=settings.time_scale_factor, n_boards_required=1)
            vendor.keep_no_messages()
        stack.enter_context(vendor.failures_noted(_noting(weakref.ref(self))))
        if not virtual:
            with self.quiet():
                self.sim.get_machine()
                self.address = vendor.machine_address()

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """What uses `sim` goes into such a block; it may be used by several threads, and nested.

        In the block its errors become `TargetError`. What it logs and draws goes to the log file of the private folder,
        there and elsewhere.
        """
        try:
            yield
        except SpikeloopError:
            raise
        except Exception as error:
            traceback.print_exception(error, file=self._log)
            ours = translated(error, self.address, self._udp_loss)
            if isinstance(ours, UnexpectedError):
                self._folder.keep = True
                ours = UnexpectedError(f"{ours} Its log is kept: {self._folder.path / vendor.LOG_NAME}")
            raise ours from None

    def check(self) -> None:
        """Look at the cores of the machine, where no answer comes; does nothing if all are well.

        Raises
        ------
        TargetError
            If a program on a core has failed (with what it said last), or the board does not answer.
        """
        if scp.probe(self.address) is not scp.Presence.BOARD:
            raise lost(self.address, self._udp_loss)
        if crash := cores_crashed(self.address):
            raise crash

    def close(self) -> None:
        """Stop what runs on the machine and give it back; undo all that was changed. A second time does nothing."""
        global _holder
        self._release()
        if _holder is not None and _holder() is self:
            _holder = None

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _noting(machine: weakref.ref[Machine]) -> Callable[[BaseException], None]:
    # Not a method: what will be undone must not hold the machine, or one that is dropped would never be released.
    def note(error: BaseException) -> None:
        here = machine()
        if here is not None and (crash := cores_crashed(here.address)):
            error.add_note(str(crash))

    return note


def _configuration(where: Mapping[str, object], folder: Path, patience_s: int) -> Configuration:
    return {
        "Machine": {
            "enable_advanced_monitor_support": False,
            "enable_reinjection": False,
            "post_simulation_overrun_before_error": patience_s,
            "spalloc_retry": 0,
            **where,
        },
        "Java": {"use_java": False},
        "Reports": {"default_report_file_path": folder},
    }


@contextlib.contextmanager
def _virtual_board(settings: Settings) -> Iterator[VirtualBoard]:
    vendor.require_unicorn()
    faults = Faults(
        drop_packets=settings.drop_packets,
        udp_loss=settings.udp_loss,
        udp_delay_ms=settings.udp_delay_ms,
        seed=settings.fault_seed,
    )
    # A time_scale_factor is in the ticks that sPyNNaker sets, as on a real board.
    pace = None if settings.timing == "lock-step" else 1.0
    # Of those there are a dozen for each decision in lock-step.
    board = VirtualBoard(settings.version, pace=pace, faults=faults, without=("state", "signal"))
    try:
        board.start()
    except BoardError as error:
        raise TargetError(f"The virtual board did not start: {error}") from None
    try:
        yield board
    finally:
        board.stop()


@dataclass
class _Folder:
    path: Path
    keep: bool


@contextlib.contextmanager
def _private_folder() -> Iterator[_Folder]:
    folder = _Folder(Path(tempfile.mkdtemp(prefix="spikeloop-spinnaker-")), keep=bool(os.environ.get(KEEP)))
    try:
        yield folder
    finally:
        if not folder.keep:
            shutil.rmtree(folder.path, ignore_errors=True)


@contextlib.contextmanager
def _terminated_cleanly() -> Iterator[None]:
    """Where SIGTERM would end the process at once, it raises SystemExit instead: what is open is closed."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is _terminate:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _end(sim: Any) -> None:
    with contextlib.suppress(Exception):
        sim.end()
    vendor.forget()


def _merged(base: Configuration, more: Configuration) -> Configuration:
    return {section: {**base.get(section, {}), **more.get(section, {})} for section in {**base, **more}}

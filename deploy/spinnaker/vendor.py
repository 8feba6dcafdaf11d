"""sPyNNaker as a vendor: its imports, its configuration, its talk and its global state, kept away from the process.

sPyNNaker reads configuration files from the home and the current directory, formats the handlers of the root logger,
draws progress bars on the standard error, repeats warnings at exit and takes over SIGINT and `sys.excepthook`. Nothing
of this happens while it is used through here. The facts are those of sPyNNaker 7.4.1 (`spinn_utilities.config_holder`,
`log`, `progress_bar`; `abstract_spinnaker_base`).
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import importlib.util
import logging
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from configparser import RawConfigParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

from ...errors import MissingPackageError

PACKAGES = (
    "spynnaker",
    "spinn_front_end_common",
    "pacman",
    "spinnman",
    "spinn_machine",
    "spinn_utilities",
    "spalloc_client",
    "pyNN",
    "PyNN",
)
LOG_NAME = "spynnaker.log"
_LED_0 = {3: 0x502, 5: 0x1}  # spinnman.transceiver: how the board's LEDs are wired
Configuration = Mapping[str, Mapping[str, object]]


def import_spynnaker() -> Any:
    """The module `spynnaker.pyNN`, which is also known as `pyNN.spiNNaker`.

    Raises
    ------
    MissingPackageError
        If sPyNNaker is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("spynnaker.pyNN")
    except ImportError:
        raise MissingPackageError.needs("Running on SpiNNaker", "sPyNNaker", "spinnaker") from None


def require_unicorn() -> None:
    """Say so if the virtual board's emulator is not installed."""
    if importlib.util.find_spec("unicorn") is None:
        raise MissingPackageError.needs("A virtual SpiNNaker board", "unicorn", "spinnaker")


def write_configuration(path: Path, sections: Configuration) -> None:
    """Write a configuration file, with sPyNNaker's names of sections and options."""
    parser = RawConfigParser()
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_dict({section: {k: str(v) for k, v in options.items()} for section, options in sections.items()})
    with path.open("w", encoding="utf-8") as file:
        parser.write(file)


@contextlib.contextmanager
def configured_by(path: Path) -> Iterator[None]:
    """While it lasts, `sim.setup` reads sPyNNaker's defaults and this file, and no other; loggers are left alone."""
    holder = importlib.import_module("spinn_utilities.config_holder")
    setup = importlib.import_module("spynnaker.pyNN.config_setup")
    simulator = importlib.import_module("spynnaker.pyNN.spinnaker")

    def only_ours() -> None:
        holder.clear_cfg_files(False)
        setup.add_spynnaker_cfg()
        holder.add_default_cfg(str(path))  # later files override earlier ones

    with replaced(simulator, "setup_configs", only_ours), replaced(holder, "logging_parser", lambda _: None):
        yield


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: object) -> Iterator[None]:
    """While it lasts, a module has another value of that name; names that were not there disappear again."""
    missing = object()
    before = getattr(owner, name, missing)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is missing:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


@contextlib.contextmanager
def silenced(log: TextIO) -> Iterator[None]:
    """While it lasts, all that sPyNNaker logs, draws or prints, in any thread, goes to this file."""
    handler = logging.StreamHandler(log)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    control = importlib.import_module("spinn_front_end_common.utilities.system_control_logic")
    with contextlib.ExitStack() as stack:
        stack.callback(_forget_messages)
        for logger in _loggers():
            stack.enter_context(_routed(logger, handler))
        progress = importlib.import_module("spinn_utilities.progress_bar")
        stack.enter_context(replaced(progress, "sys", SimpleNamespace(stderr=log)))
        stack.enter_context(replaced(control, "print", lambda *words: log.write(" ".join(map(str, words)) + "\n")))
        yield


def _loggers() -> list[logging.Logger]:
    # Some of the vendor's modules name their logger by the path of their file.
    by_path = [name for name in logging.root.manager.loggerDict if any(f"/{package}/" in name for package in PACKAGES)]
    return [logging.getLogger(name) for name in (*PACKAGES, *by_path)]


@contextlib.contextmanager
def _routed(logger: logging.Logger, handler: logging.Handler) -> Iterator[None]:
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]


def keep_no_messages() -> None:
    """Have sPyNNaker's log forget what was logged: it writes each message into a database, or keeps it for ever."""
    log = importlib.import_module("spinn_utilities.log")
    store = importlib.import_module("spinn_utilities.log_store").LogStore

    class Forgetful(store):  # type: ignore[misc,valid-type]
        def store_log(self, level: int, message: str, timestamp: object = None) -> None:
            pass

        def retreive_log_messages(self, min_level: int = 0) -> list[str]:
            return []

        def get_location(self) -> str:
            return ""

    log.FormatAdapter.set_log_store(Forgetful())


def _forget_messages() -> None:
    adapter = importlib.import_module("spinn_utilities.log").FormatAdapter
    adapter.set_log_store(None)
    adapter._pop_not_stored_messages()


@contextlib.contextmanager
def handlers_kept() -> Iterator[None]:
    """While it lasts, sPyNNaker leaves SIGINT and `sys.excepthook` alone, and ends no process.

    Else its handler of SIGINT stays after the first run, and swallows the signal outside of runs.
    """
    base = importlib.import_module("spinn_front_end_common.interface.abstract_spinnaker_base")
    no_signal = SimpleNamespace(SIGINT=signal.SIGINT, signal=lambda number, handler: None)
    no_sys = SimpleNamespace(maxsize=sys.maxsize, excepthook=None, exit=_interrupted)
    with replaced(base, "signal", no_signal), replaced(base, "sys", no_sys):
        yield


def _interrupted(_: object) -> None:
    # sPyNNaker makes an exit of a KeyboardInterrupt that comes during a run, and of nothing else.
    raise KeyboardInterrupt from None


@contextlib.contextmanager
def without_pauses() -> Iterator[None]:
    """Shorten the half second that sPyNNaker waits twice for cores to start: emulated ones have when it is asked."""
    control = importlib.import_module("spinn_front_end_common.utilities.system_control_logic")
    with replaced(control, "time", SimpleNamespace(sleep=lambda _: time.sleep(0.01))):
        yield


def boot(address: str, version: int) -> None:
    """Send sPyNNaker's boot image to a board that waits for one; that takes three seconds, for the board's sake."""
    messages = importlib.import_module("spinnman.messages.spinnaker_boot")
    module = importlib.import_module("spinnman.messages.spinnaker_boot.spinnaker_boot_messages")
    connections = importlib.import_module("spinnman.connections.udp_packet_connections")
    led = {messages.SystemVariableDefinition.led_0: _LED_0[version]}
    # The image would get its version from the configuration: there is none before `sim.setup`, or that of a run before.
    told = SimpleNamespace(get_machine_version=lambda: SimpleNamespace(number=version))
    with replaced(module, "SpiNNManDataView", told):
        image = messages.SpinnakerBootMessages(extra_boot_values=led)
    with connections.BootConnection(remote_host=address) as connection:
        for message in image.messages:
            connection.send_boot_message(message)


@contextlib.contextmanager
def failures_noted(note: Callable[[BaseException], None]) -> Iterator[None]:
    """Call `note` with the error of a run while the cores still are as they were when it happened.

    It takes the place of sPyNNaker's own recovery, which reads all that was recorded and logs it.
    """
    base = importlib.import_module("spinn_front_end_common.interface.abstract_spinnaker_base").AbstractSpinnakerBase
    with replaced(base, "_recover_from_error", lambda _, error: note(error)):
        yield


@contextlib.contextmanager
def told_when_started(tell: Callable[[], None]) -> Iterator[None]:
    """While it lasts, `tell` is called when a run has begun; no other program is told of it, nor waited for."""
    module = importlib.import_module("spinn_front_end_common.utilities.notification_protocol.notification_protocol")
    protocol = module.NotificationProtocol
    with (
        replaced(protocol, "wait_for_confirmation", lambda _: None),
        replaced(protocol, "send_start_resume_notification", lambda _: tell()),
    ):
        yield


@contextlib.contextmanager
def not_waiting_for_cores() -> Iterator[None]:
    """While it lasts, a run that ends does not wait for its cores: for a minute, where the machine is gone."""
    module = importlib.import_module("spinn_front_end_common.interface.abstract_spinnaker_base")
    with replaced(module, "application_finisher", lambda: None):
        yield


def machine_address() -> str:
    """The IP address of the machine that sPyNNaker has found or borrowed."""
    return str(importlib.import_module("spynnaker.pyNN.data").SpynnakerDataView.get_ipaddress())


def forget() -> None:
    """Have sPyNNaker write no file about this run when the interpreter ends."""
    writer = importlib.import_module("spinn_utilities.data.utils_data_writer").UtilsDataWriter
    atexit.unregister(writer.write_errored_file)

"""Real boards: is there one at the address, of the version that was told, and free; one process at a time has it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from ...errors import ProfileError, TargetError
from ...hardware_profiles.profile import Machine as Settings
from ...virtual_board.scamp.client import Client, NoAnswerError, RefusedError
from . import scp, vendor
from .vendor_errors import lost, nobody

SPALLOC_PORT = 22244
_CONNECT_S = 5.0
_STOP_S = 2.0
_BOOT_S = 4.0


def check_named(settings: Settings) -> None:
    """Is a board named, or a server that lends one?

    Raises
    ------
    ProfileError
        If neither is, or both are.
    """
    if bool(settings.machine_name) == bool(settings.spalloc_server):
        given = "both were" if settings.machine_name else "neither was"
        raise ProfileError(
            f"The target 'spinnaker' needs --set machine_name=HOST or --set spalloc_server=HOST, and {given} given; "
            "without a board, use --set target=spinnaker-virtual."
        )
    if settings.spalloc_server and not _is_url(settings.spalloc_server) and not settings.spalloc_user:
        raise ProfileError(
            f"The spalloc server {settings.spalloc_server} needs to know who borrows: give --set spalloc_user=NAME "
            "(an e-mail address by custom)."
        )


def check_none_named(settings: Settings) -> None:
    """Is nothing set that only the target 'spinnaker' heeds?

    Raises
    ------
    ProfileError
        If a board, a server or a take-over is.
    """
    given = [name for name in ("machine_name", "spalloc_server", "take_over") if getattr(settings, name)]
    if given:
        raise ProfileError(
            f"{' and '.join(given)} {'was' if len(given) == 1 else 'were'} given, and the target 'spinnaker-virtual' "
            "runs on a virtual board of its own: use the target 'spinnaker'."
        )


@contextlib.contextmanager
def held(address: str) -> Iterator[None]:
    """While it lasts, no other process of this computer gets the board at this IP address.

    It is a lock on a file, which the kernel takes away from a process that dies; a forked process does not inherit it.

    Raises
    ------
    TargetError
        If another process has it, or the file cannot be locked.
    """
    path = Path(tempfile.gettempdir()) / f"spikeloop-board-{address}.lock"
    with contextlib.ExitStack() as stack:
        try:
            descriptor = _opened_by_all(path)
            stack.callback(os.close, descriptor)  # and the file stays: who removes it may remove the next one's
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            pid = os.pread(descriptor, 16, 0).decode("ascii", "ignore").strip()
            raise TargetError(
                f"The board at {address} is being used by another process of this computer (pid {pid or 'unknown'}): "
                "wait until it ends, or name another board by --set machine_name=HOST."
            ) from None
        except OSError as error:
            raise TargetError(f"The board at {address} cannot be locked by {path}: {error.strerror}.") from None
        yield


def _opened_by_all(path: Path) -> int:
    """A file open for writing that other users of this computer can open too, whatever the umask is."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL)
        os.fchmod(descriptor, 0o666)
        return descriptor
    return os.open(path, flags)


def make_ready(settings: Settings, address: str) -> None:
    """See to it that the named board, which has this IP address, is booted and free.

    Raises
    ------
    MissingPackageError
        If it has to be booted, and sPyNNaker is not installed.
    TargetError
        If no board is there, it is of another version, or it is in use.
    """
    presence = scp.probe(address)
    if presence is scp.Presence.SILENCE:  # as a board is before it is booted
        vendor.import_spynnaker()
        with contextlib.suppress(OSError):
            vendor.boot(address, settings.version)
        deadline = time.monotonic() + _BOOT_S
        while presence is scp.Presence.SILENCE and time.monotonic() < deadline:
            presence = scp.probe(address)
    if presence is not scp.Presence.BOARD:
        raise nobody(settings.machine_name)
    _check_version(address, settings.version)
    _make_free(address, settings)


def lender(settings: Settings) -> Mapping[str, object]:
    """sPyNNaker's settings for a board that is borrowed from a spalloc server.

    Raises
    ------
    TargetError
        If no server answers.
    """
    server = settings.spalloc_server
    by_url = _is_url(server)
    parts = urlsplit(server if by_url else f"//{server}")
    host = parts.hostname or server
    try:
        port = parts.port or (443 if by_url else SPALLOC_PORT)
        with socket.create_connection((host, port), timeout=_CONNECT_S):
            pass
    except (OSError, ValueError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise TargetError(
            f"No spalloc server answers at {host}: {why}. Look at --set spalloc_server=..., or name a board by --set "
            "machine_name=HOST."
        ) from None
    user = {"spalloc_user": settings.spalloc_user} if settings.spalloc_user else {}
    if by_url:
        return {"spalloc_server": server, "version": settings.version, **user}
    return {"spalloc_server": host, "spalloc_port": port, "version": settings.version, **user}


def _check_version(address: str, version: int) -> None:
    try:
        with Client(address) as board:
            width, height = scp.dimensions(board)
    except (NoAnswerError, RefusedError):
        raise lost(address) from None
    right = scp.version_of((width, height))
    if right != version:
        raise TargetError(
            f"The board at {address} has {width} x {height} chips, which is version {right}, and version {version} was "
            f"given: use --set version={right}."
        )


def _make_free(address: str, settings: Settings) -> None:
    try:
        with Client(address) as board:
            loaded = scp.cores(board)
            running = [core for core in loaded if core.running]
            if running and not settings.take_over:
                raise TargetError(
                    f"The board at {settings.machine_name} is in use: {len(running)} of its cores run something, the "
                    f"first is {running[0]}. Wait until it ends, or stop it by --set take_over=true (a run that was "
                    "killed leaves such cores behind)."
                )
            # What has crashed or ended is stopped too: sPyNNaker would count it among its own cores.
            for app_id in {core.app_id for core in loaded}:
                scp.stop(board, app_id)
            deadline = time.monotonic() + _STOP_S
            while loaded and (loaded := scp.cores(board)):
                if time.monotonic() > deadline:
                    raise TargetError(
                        f"{len(loaded)} cores of the board at {settings.machine_name} do not stop, the first is "
                        f"{loaded[0]}. Switch the board off and on."
                    )
                time.sleep(0.05)
    except (NoAnswerError, RefusedError):
        raise lost(settings.machine_name) from None


def _is_url(server: str) -> bool:
    return server.startswith(("http://", "https://"))

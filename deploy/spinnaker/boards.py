"""Real boards: is there one at the address, of the version that was told, and free."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Mapping
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


def found(settings: Settings) -> str:
    """The IP address of the named board, which is free; it is booted where that is needed.

    Raises
    ------
    MissingPackageError
        If it has to be booted, and sPyNNaker is not installed.
    TargetError
        If the name does not resolve, no board is there, it is of another version, or it is in use.
    """
    address = scp.resolve(settings.machine_name)
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
    return address


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

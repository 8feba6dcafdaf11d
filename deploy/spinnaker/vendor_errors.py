"""sPyNNaker's errors in our words: one sentence, and what to do."""

from __future__ import annotations

import contextlib
import importlib
from typing import Any

from ...errors import TargetError
from .scp import Core, crashed
from .vendor import PACKAGES

_LONGEST = 300
_LOST = ("SpinnmanTimeoutException", "SpinnmanIOException", "SpinnmanEOFException")
_PLACEMENT = ("PacmanPlaceException", "PacmanTooBigToPlace", "PacmanPartitionException")
_MEMORY = ("too much sdram", "could not allocate", "no space", "sdram")
_LOADING = ("DataSpecException", "DsDatabaseException", "CantFindSDRAMToUseException")
_SPALLOC = ("SpallocException", "SpallocBoardUnavailableException", "JobDestroyedError", "StateChangeTimeoutError")
_SPALLOC_MODULES = ("spalloc_client", "spinnman.spalloc", "requests", "websocket")


class UnexpectedError(TargetError):
    """sPyNNaker failed in a way that has no words of ours; its log is kept."""


def translated(error: BaseException, address: str = "", udp_loss: float = 0.0) -> TargetError:
    """An error of sPyNNaker's as ours; `address` is the board's, which is asked what went wrong.

    `udp_loss` is the share of datagrams that a virtual board loses because that was asked for. An `UnexpectedError` is
    one that only the log explains.
    """
    error = _innermost(error)
    kind, text = _kinds(error), _text(error)
    board = _board(address)
    if kind & {
        "SpiNNManCoresNotInStateException",
        "ExecutableFailedToStartException",
        "ExecutableFailedToStopException",
    }:
        return _cores_failed(error, address)
    if "SpinnmanBootException" in kind:
        return nobody(address or "that address")
    if kind & set(_SPALLOC) or type(error).__module__.startswith(_SPALLOC_MODULES):
        return TargetError(
            f"The spalloc server lends no board: {text}. Look at --set spalloc_server=... and spalloc_user=..., or "
            "name a board by --set machine_name=HOST."
        )
    if kind & set(_LOST):
        return lost(address, udp_loss)
    if kind & set(_PLACEMENT):
        return _no_place(text)
    if kind & set(_LOADING) or (kind & {"ConfigurationException", "SpinnmanException"} and _of_memory(text)):
        return TargetError(
            f"The network's data cannot be loaded onto the machine: {text}. Use a smaller network, or fewer neurons or "
            "circuits (spikeloop plan shows the settings)."
        )
    if "SpinnmanUnexpectedResponseCodeException" in kind:
        return TargetError(
            f"{board} refuses a command: {text}. If another program uses the board, wait until it ends; else switch "
            "the board off and on."
        )
    if type(error).__module__.split(".")[0] in PACKAGES:
        return UnexpectedError(f"sPyNNaker refuses: {text}.")
    return UnexpectedError(f"sPyNNaker failed: {type(error).__name__}: {text}.")


def nobody(address: str) -> TargetError:
    """The error for an address at which no board answers."""
    return TargetError(
        f"No board answers at {address}: it is not there, is off, or a firewall is between. Name a board by --set "
        "machine_name=HOST, or use a virtual one: --set target=spinnaker-virtual."
    )


def lost(address: str, udp_loss: float = 0.0) -> TargetError:
    """The error for a board that has answered before."""
    if udp_loss:
        return TargetError(
            f"{_board(address)} does not answer any more: it is virtual, and loses {100 * udp_loss:g} % of all "
            "datagrams, which is more than sPyNNaker bears. Use a smaller one: --set udp_loss=..."
        )
    return TargetError(
        f"{_board(address)} does not answer any more: the connection is lost, or the board was switched off or "
        "stopped. Open the agent again when it answers."
    )


def cores_crashed(address: str) -> TargetError | None:
    """The error for the cores of a board that have failed; None if none has."""
    failed = crashed(address)
    return _crash(failed) if failed else None


def _crash(failed: list[tuple[Core, str]]) -> TargetError:
    core, last_line = failed[0]
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    said = f"it said last: {' '.join(last_line.split())[:_LONGEST]}" if last_line else "it said nothing"
    return TargetError(
        f"The program on {core}{more} failed, {core.why}; {said}. Open the agent again; if it fails again, use fewer "
        "neurons per core or a larger time_scale_factor."
    )


def _cores_failed(error: BaseException, address: str) -> TargetError:
    if notes := getattr(error, "__notes__", ()):  # taken when it happened: the cores have been stopped since
        return TargetError(str(notes[0]))
    if address and (crash := cores_crashed(address)):
        return crash
    states = getattr(error, "failed_core_states", None)
    if states is None:
        return TargetError(f"Cores of the machine did not start or stop: {_text(error)}. Open the agent again.")
    infos = [states().get_cpu_info(*where) for where in states()]
    first = infos[0]
    return TargetError(
        f"Core {first.x},{first.y},{first.p} ({first.application_name or 'no name'}) is in state {first.state.name}, "
        f"not in the one that was waited for; so are {len(infos) - 1} others. Open the agent again."
    )


def _no_place(text: str) -> TargetError:
    needed, available = _count_cores()
    sizes = f": {needed} cores are needed, {available} are available" if needed and available else f": {text}"
    return TargetError(
        f"The network does not fit the machine{sizes}. Use a larger board (--set version=5 has 48 chips), more neurons "
        "per core, or fewer circuits."
    )


def _count_cores() -> tuple[int, int]:
    """Cores that the network that was to be placed needs, and those that the machine has."""
    needed = available = 0
    # The vendor has begun to clean up when this is asked.
    with contextlib.suppress(Exception):
        view: Any = importlib.import_module("spynnaker.pyNN.data").SpynnakerDataView
        available = view.get_machine().total_available_user_cores
        needed = sum(len(vertex.machine_vertices) for vertex in view.iterate_vertices())
    return needed, available


def _board(address: str) -> str:
    return f"The board at {address}" if address else "The board"


def _innermost(error: BaseException) -> BaseException:
    """The error that the vendor has wrapped into others, with a stack trace in the message."""
    while isinstance(inner := getattr(error, "exception", None), BaseException):
        error = inner
    return error


def _kinds(error: BaseException) -> set[str]:
    names = {cls.__name__ for cls in type(error).__mro__}
    if "SpinnmanGroupedProcessException" in names:  # it has kept the names of what it wraps only in its text
        names |= {line.split()[-1] for line in str(error).splitlines() if "exception class:" in line}
    return names


def _of_memory(text: str) -> bool:
    return any(words in text.lower() for words in _MEMORY)


def _text(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if "Stack trace:" not in line]
    return " ".join(" ".join(lines).split())[:_LONGEST].rstrip(". ") or type(error).__name__

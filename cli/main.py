"""The command line: ``spikeloop``.

Exit codes: 0 done; 1 it failed while it ran (a target, a host, a file that cannot be written), or a bar was not met;
2 it cannot run as called (an unknown name, a file that is not valid, a network that does not fit); 130 interrupted.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from types import FrameType
from typing import Annotated

import typer

from .. import __version__
from ..errors import SpikeloopError
from . import board, check, convert, evaluate, inspection, live, replay, train
from .output import emit, err, prepare_streams, printable

app = typer.Typer(
    name="spikeloop",
    help="Deploy a trained spiking agent, close the loop with a live environment, prove that it decides as trained.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
inspection.register(app)
live.register(app)
check.register(app)
replay.register(app)
evaluate.register(app)
train.register(app)
convert.register(app)
board.register(app)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"spikeloop {__version__}")
        raise typer.Exit()
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """Run the command line; every error becomes one line and an exit code."""
    signal.signal(signal.SIGTERM, _terminated)
    prepare_streams(json="--json" in sys.argv)
    try:
        code = app(prog_name="spikeloop", standalone_mode=False)
    except SpikeloopError as error:
        code = _failed(str(error), type(error).__name__, error.exit_code)
    except BrokenPipeError:
        code = 1  # whoever read our output has gone; what is left to print has no reader
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except OSError as error:
        where = "" if error.filename is None else f": {error.filename}"
        code = _failed(f"{error.strerror or error}{where}", type(error).__name__, 1)
    except Exception as error:
        code = _wrong_call(error) or _unexpected(error)
    if code == _INTERRUPTED:  # which typer returns rather than raises
        _failed("Interrupted.", "KeyboardInterrupt", _INTERRUPTED)
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python would complain of it at the end
    sys.exit(code or 0)


_INTERRUPTED = 130


def _terminated(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _wrong_call(error: Exception) -> int | None:
    """What typer says of options and arguments that do not fit. Its error classes have moved between its versions."""
    if not hasattr(error, "format_message"):
        return None
    context = getattr(error, "ctx", None)
    command = "spikeloop" if context is None else context.command_path
    return _failed(f"{error.format_message().rstrip('.')}. {command} --help says how.", "UsageError", 2)


def _unexpected(error: Exception) -> int:
    if os.environ.get("SPIKELOOP_DEBUG"):
        traceback.print_exc()
    what = f"{type(error).__name__}: {error}"
    return _failed(f"Unexpected, so a bug of ours: {what} (SPIKELOOP_DEBUG=1 shows where)", "InternalError", 1)


def _failed(message: str, kind: str, code: int) -> int:
    message = printable(" ".join(message.split()))
    if "--json" in sys.argv:
        with contextlib.suppress(OSError):  # nowhere to say it; the exit code does
            emit({"error": {"type": kind, "message": message, "exit_code": code}})
    with contextlib.suppress(OSError):
        err.print("[bold red]error:[/bold red] ", end="", highlight=False)
        err.print(message, markup=False, highlight=False)
    return code

"""The command line: ``spikeloop``.

Exit codes: 0 done; 1 it failed while it ran (a target, a host, a file that cannot be written), or a bar was not met;
2 it cannot run as called (an unknown name, a file that is not valid, a network that does not fit); 130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from types import FrameType
from typing import Annotated

import typer

from .. import __version__
from ..errors import SpikeloopError
from . import inspection, live
from .output import emit, err

app = typer.Typer(
    name="spikeloop",
    help="Deploy a trained spiking agent, close the loop with a live environment, prove that it decides as trained.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
inspection.register(app)
live.register(app)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"spikeloop {__version__}")
        raise typer.Exit()


def main() -> None:
    """Run the command line; every error of ours becomes one line and an exit code."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        app()
    except SpikeloopError as error:
        _fail(str(error), type(error).__name__, error.exit_code)
    except KeyboardInterrupt:
        _fail("Interrupted.", "KeyboardInterrupt", 130)
    except BrokenPipeError:
        # Whoever read our output has gone; what is left to print has no reader.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if os.environ.get("SPIKELOOP_DEBUG"):
            traceback.print_exc()
        what = f"{type(error).__name__}: {error}"
        _fail(f"Unexpected, so a bug of ours: {what} (SPIKELOOP_DEBUG=1 shows where)", "InternalError", 1)


def _terminated(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _fail(message: str, kind: str, code: int) -> None:
    message = " ".join(message.split())
    if "--json" in sys.argv:
        emit({"error": {"type": kind, "message": message, "exit_code": code}})
    err.print("[bold red]error:[/bold red] ", end="", highlight=False)
    err.print(message, markup=False, highlight=False)
    sys.exit(code)

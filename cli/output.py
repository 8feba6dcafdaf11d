"""What commands print: results on stdout (tables, or one JSON document), everything else on stderr."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # Rich's own way is to end the process on the spot, whatever it is doing


# Where no terminal says how wide it is, tables get room.
_WIDTH = None if os.environ.get("COLUMNS") or (sys.stdout is not None and sys.stdout.isatty()) else 120
out = _Console(soft_wrap=True, width=_WIDTH)
err = _Console(stderr=True, soft_wrap=True)
_documents: TextIO | None = None  # where JSON goes, when that is not sys.stdout


def prepare_streams(json: bool) -> None:
    """Make stdout and stderr fit to print on; with `json`, keep stdout for documents.

    Environments and simulators print what they like, pygame a greeting, NEST its errors. With `json` all of that,
    from C too, ends on stderr.
    """
    global _documents
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115  # until the process ends
        else:
            stream.reconfigure(errors="backslashreplace")
    if json:
        with contextlib.suppress(OSError):  # no such descriptors: nobody listens
            _documents = os.fdopen(os.dup(1), "w", encoding="utf-8")
            os.dup2(2, 1)
    warnings.formatwarning = _one_line_warning


def emit(document: Any, indent: int | None = 2) -> None:
    """Print one JSON document on stdout."""
    stream = _documents or sys.stdout
    stream.write(json.dumps(_plain(document), indent=indent, allow_nan=False) + "\n")
    stream.flush()


def say(text: str) -> None:
    """Print one line on stderr. Whether anybody still reads it must not matter to what is being done."""
    with contextlib.suppress(OSError):
        err.print(Text(printable(text)))


def line(text: str) -> None:
    """Print one line on stdout."""
    out.print(Text(printable(text)))


def printable(value: object) -> str:
    """`value` as text that says what it says, on one line: names in files may hold newlines or a terminal's codes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table on stdout; columns whose name ends with a space are aligned right."""
    view = Table(title=Text(printable(title)), title_justify="left", header_style="bold")
    for column in columns:
        view.add_column(column.strip(), justify="right" if column.endswith(" ") else "left", overflow="fold")
    for row in rows:
        view.add_row(*(Text("" if cell is None else printable(cell)) for cell in row))
    out.print(view)


def unfolded(values: Mapping[str, Any], longest: int = 160) -> list[tuple[str, object]]:
    """Nested `values` for `facts`: the names joined by dots, and what is too long to read cut short."""
    pairs: list[tuple[str, object]] = []
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            pairs += [(f"{name}.{inner}", item) for inner, item in unfolded(value, longest)]
        elif value is not None:
            text = str(value)
            pairs.append((name, text if len(text) <= longest else f"{text[: longest - 4]} ..."))
    return pairs


def facts(title: str, pairs: Sequence[tuple[str, object]]) -> None:
    """Print names and values on stdout, one pair a line."""
    out.print(Text(printable(title), style="bold"))
    names = [printable(name) for name, _ in pairs]
    width = max(len(name) for name in names)
    for name, (_, value) in zip(names, pairs, strict=True):
        out.print(Text(f"  {name:<{width}}  {printable(value)}"))


@contextlib.contextmanager
def progress(description: str, total: int, *, unit: str) -> Iterator[Any]:
    """A progress bar on stderr, if that is a terminal; yields ``update(done, note="", total=None)``."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit, markup=False),
    )
    with Progress(
        *columns,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    ) as bar:
        task = bar.add_task(printable(description), total=total, note="")
        yield lambda done, note="", total=None: bar.update(task, completed=done, note=note, total=total)


def _one_line_warning(message: Warning | str, *where: object, **more: object) -> str:
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(message))  # Gymnasium's are coloured
    return f"warning: {printable(' '.join(text.removeprefix('WARN: ').split()))}\n"


def _plain(value: Any) -> Any:
    """`value` as JSON can hold it: no NaN or infinity, which JSON has no words for."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value

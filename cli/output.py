"""What commands print: results on stdout (tables, or one JSON document), everything else on stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)


def emit(document: Any) -> None:
    """Print one JSON document on stdout."""
    sys.stdout.write(json.dumps(_plain(document), indent=2, allow_nan=False) + "\n")
    sys.stdout.flush()


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table on stdout; columns whose name ends with a space are aligned right."""
    view = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        view.add_column(column.strip(), justify="right" if column.endswith(" ") else "left", overflow="fold")
    for row in rows:
        view.add_row(*("" if cell is None else str(cell) for cell in row))
    out.print(view)


def facts(title: str, pairs: Sequence[tuple[str, object]]) -> None:
    """Print names and values on stdout, one pair a line."""
    out.print(f"[bold]{title}[/bold]")
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        out.print(f"  {name:<{width}}  ", end="")
        out.print(str(value), markup=False, highlight=False)


@contextmanager
def progress(description: str, total: int, *, unit: str) -> Iterator[Any]:
    """A progress bar on stderr; yields ``update(done, note="")``."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
    with Progress(
        *columns,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=err,
        transient=True,
    ) as bar:
        task = bar.add_task(description, total=total, note="")
        yield lambda done, note="": bar.update(task, completed=done, note=note)


def _plain(value: Any) -> Any:
    """`value` as JSON can hold it: no NaN or infinity, which JSON has no words for."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value

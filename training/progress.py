"""What a training run shows while it runs: a bar where there is a terminal, else a line now and then."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

LINE_SECONDS = 10.0


class Progress:
    """Progress on stderr."""

    def __init__(self, name: str, total: int, done: int) -> None:
        self._console = Console(stderr=True)
        self._name, self._total = name, total
        self._said = time.monotonic()
        self._bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(name, total=total, completed=done, note="")
        self._bar.start()

    def update(self, done: int, values: Mapping[str, Any]) -> None:
        """Say how much is done, and some figures by name."""
        note = "  ".join(f"{name} {value:.4g}" for name, value in values.items() if value is not None)
        self._bar.update(self._task, completed=done, note=note)
        if not self._console.is_terminal and time.monotonic() - self._said > LINE_SECONDS:
            self._said = time.monotonic()
            self._console.print(f"{self._name} {done}/{self._total}  {note}", highlight=False, markup=False)

    def close(self) -> None:
        """Take the bar away."""
        self._bar.stop()

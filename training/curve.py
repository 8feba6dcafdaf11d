"""The learning curve of a run, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .storage import replace_file

LABELS = {
    "average": "mean of the last episodes",
    "return": "return of an episode",
    "loss": "loss",
    "episode": "episode",
    "update": "gradient steps",
    "accuracy": "accuracy on training batches",
    "validation_accuracy": "accuracy on held-out states",
}


def draw(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], title: str) -> None:
    """Draw some columns of the metrics over the first of them; "loss" in a panel of its own.

    Parameters
    ----------
    path : Path
        Of the PNG file.
    rows : sequence of mapping
    columns : sequence of str
        The x axis, then the curves; the first of those is drawn pale, as it is noisy.
    title : str
    """
    x, *curves = columns
    figure = Figure(figsize=(8, 5), layout="constrained")
    main, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for index, name in enumerate(name for name in curves if name != "loss"):
        style = {"color": "#9ab7d3", "linewidth": 0.8} if index == 0 else {"color": "#c1440e", "linewidth": 1.8}
        main.plot(*_points(rows, x, name), label=LABELS.get(name, name), **style)
    below.plot(*_points(rows, x, "loss"), color="#555555", linewidth=0.8)
    main.set_title(title)
    main.legend(loc="best", frameon=False)
    below.set_ylabel(LABELS["loss"])
    below.set_xlabel(LABELS.get(x, x))
    for axes in (main, below):
        axes.grid(alpha=0.3)
    replace_file(path, lambda file: figure.savefig(file, format="png", dpi=120))


def _points(rows: Sequence[Mapping[str, Any]], x: str, y: str) -> tuple[Any, Any]:
    points = [(row[x], row[y]) for row in rows if row[y] is not None]
    return tuple(np.array(points, dtype=float).T) if points else (np.zeros(0), np.zeros(0))

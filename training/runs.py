"""A training run's folder: what it was asked for, what it measured, where it can go on, and the models it made.

::

    run.json             algorithm, hyperparameters, versions, and at the end a summary
    metrics.csv          one row per episode, or per so many updates
    checkpoint.pt        everything that the run needs to go on
    best.*, last.*       models: .spk a spiking network, .pt a conventional one
    replay.npz           states that were visited, and what was done there
    learning_curve.png

A run that is killed goes on from its last checkpoint, to the same result as if it had not been killed: checkpoints are
taken between episodes, each episode's environment is reset with a seed of its own, and all random draws come from
generators whose states the checkpoint keeps.
"""

from __future__ import annotations

import csv
import json
import math
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from .. import __version__
from ..errors import InvalidInputError, NetworkFileError, TargetError
from ..models.file import save
from ..models.network import Network
from .curve import draw
from .policy import Policy
from .progress import Progress
from .storage import replace_file

CHECKPOINT_SECONDS = 30.0
PAUSE_PER_SECOND = 20.0  # a large replay memory takes its time to write: at most a twentieth of the run
MOST_REPLAY_BYTES = 64 << 20


class Run:
    """An open run; a context manager, which closes the progress bar.

    Parameters
    ----------
    algorithm : str
    settings : dataclass
        With the fields `output` (the folder), `resume` and `seed`.
    columns : sequence of str
        Of metrics.csv.
    score : str
        The column by which the best model is chosen.
    score_from : int
        The first row whose score counts.
    target : float, optional
        The score at which training is to end.
    curve : sequence of str
        The columns to draw; the first is the x axis.
    total : int
        Rows that a whole run has, for the progress bar.
    note : sequence of str
        The columns to show beside the progress bar.

    Attributes
    ----------
    rows : list of dict
        Of metrics.csv.
    state : mapping or None
        What `checkpoint` was given last, where the run goes on from there.
    best : dict or None
        The row with the best score.
    """

    def __init__(
        self,
        algorithm: str,
        settings: Any,
        columns: Sequence[str],
        *,
        score: str,
        score_from: int = 1,
        target: float | None = None,
        curve: Sequence[str],
        total: int,
        note: Sequence[str],
    ) -> None:
        self.folder = Path(settings.output)
        self.algorithm = algorithm
        self.settings = settings
        self.columns = (*columns, "seconds")
        self._score, self._score_from, self._target = score, score_from, target
        self._curve, self._note = curve, note
        self.rows: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None
        self.state: Mapping[str, Any] | None = None
        self._before = 0.0  # seconds of earlier sessions of this run
        if settings.resume:
            self._continue()
        else:
            self._begin()
        self._started = self._saved = time.monotonic()
        self._pause = CHECKPOINT_SECONDS
        self._progress = Progress(algorithm, total, len(self.rows))

    # --- beginning and going on -----------------------------------------------------------------------------------

    def _begin(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if any(self.folder.iterdir()):
                raise InvalidInputError(
                    f"The folder {self.folder} exists and is not empty: give another one with -o, or --resume to go on "
                    "with the run that is in it."
                )
        except OSError as error:
            raise InvalidInputError(f"Cannot make the folder {self.folder}: {error.strerror}.") from None
        self.write_facts({})
        self._write_metrics()

    def _continue(self) -> None:
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            self._write_metrics()
            return  # killed before its first checkpoint: the beginning is where it goes on
        try:
            # As a mapped file: a large replay memory need not fit into memory twice.
            state = _Checkpoint(torch.load(path, map_location="cpu", weights_only=True, mmap=True))
        except Exception as error:  # torch raises UnpicklingError, RuntimeError, EOFError, ... for damaged files
            reason = " ".join(str(error).split())[:100]
            raise NetworkFileError(f"The run in {self.folder} cannot go on: {path} is damaged ({reason}).") from None
        try:
            count, self._before = int(state.pop("rows")), float(state.pop("seconds"))
            rows = list(csv.DictReader(StringIO((self.folder / "metrics.csv").read_text("utf-8"))))[:count]
            for row in rows:
                self._add({name: _value(row[name]) for name in self.columns})
            if len(rows) != count:
                raise ValueError(f"metrics.csv has {len(rows)} rows, the checkpoint counts {count}")
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise NetworkFileError(f"The run in {self.folder} cannot go on: {error}.") from None
        self.state = state
        self._write_metrics()

    # --- while it runs --------------------------------------------------------------------------------------------

    def log(self, **row: Any) -> bool:
        """Add a row to metrics.csv, and show it; returns whether its score is the best so far."""
        row["seconds"] = round(self.seconds, 3)
        self._add(row)
        try:
            with (self.folder / "metrics.csv").open("a", encoding="utf-8", newline="") as file:
                csv.writer(file).writerow([row[name] for name in self.columns])
        except OSError as error:
            raise TargetError(f"Cannot write {self.folder / 'metrics.csv'}: {error.strerror}.") from None
        self._progress.update(len(self.rows), {name: row[name] for name in self._note})
        return row is self.best

    def _add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        if len(self.rows) >= self._score_from and (self.best is None or row[self._score] > self.best[self._score]):
            self.best = row

    def average(self, latest: float, over: int) -> float:
        """The mean return of the last `over` episodes, of which the `latest` is not in a row yet."""
        before = [row["return"] for row in self.rows[-over:]]
        return float(np.mean([*before, latest][-over:]))

    @property
    def reached(self) -> bool:
        """Whether the best score has reached the target."""
        return self._target is not None and self.best is not None and bool(self.best[self._score] >= self._target)

    @property
    def seconds(self) -> float:
        """What the run has taken so far, in all its sessions."""
        return self._before + time.monotonic() - self._started

    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return time.monotonic() - self._saved > self._pause

    def checkpoint(self, state: Mapping[str, Any]) -> None:
        """Keep what the run needs to go on: tensors and plain values."""
        content = {**state, "rows": len(self.rows), "seconds": self.seconds}
        started = time.monotonic()
        replace_file(self.folder / "checkpoint.pt", lambda file: torch.save(content, file))
        self._pause = max(CHECKPOINT_SECONDS, PAUSE_PER_SECOND * (time.monotonic() - started))
        draw(self.folder / "learning_curve.png", self.rows, self._curve, f"{self.algorithm}: {self.folder.name}")
        self._saved = time.monotonic()

    def save_model(self, name: str, model: Policy | Network, **facts: Any) -> None:
        """Write ``best`` or ``last``, with its provenance."""
        told = replace(model, name=self.folder.name, provenance=self.provenance(**facts))
        if isinstance(told, Network):
            save(told, self.folder / f"{name}.spk")
        else:
            told.save(self.folder / f"{name}.pt")

    def save_replay(self, states: NDArray[Any], actions: NDArray[np.int64]) -> None:
        """Write replay.npz: observations [n, n_inputs] and actions [n]."""
        path = self.folder / "replay.npz"
        replace_file(path, lambda file: np.savez_compressed(file, observations=states, actions=actions))

    def finish(self, state: Mapping[str, Any], **summary: Any) -> dict[str, Any]:
        """The last checkpoint, and the summary in run.json; returns the summary."""
        self.checkpoint(state)
        facts = summary | {"seconds": round(self.seconds, 1)}
        self.write_facts({"summary": facts})
        return facts

    def provenance(self, **facts: Any) -> dict[str, Any]:
        """Where a model of this run comes from, as plain values."""
        return {
            "algorithm": self.algorithm,
            "script": f"spikeloop.training.{self.algorithm}",
            "seed": self.settings.seed,
            "hyperparameters": hyperparameters(self.settings),
            **facts,
            "versions": versions(),
        }

    def write_facts(self, more: Mapping[str, Any]) -> None:
        """Write run.json."""
        text = json.dumps({**self.provenance(), **more}, indent=2) + "\n"
        replace_file(self.folder / "run.json", lambda file: file.write(text.encode()))

    def _write_metrics(self) -> None:
        text = StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(self.columns)
        writer.writerows([[row[name] for name in self.columns] for row in self.rows])
        replace_file(self.folder / "metrics.csv", lambda file: file.write(text.getvalue().encode()))

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.close()
        if kind is KeyboardInterrupt:
            Console(stderr=True).print(
                f"Interrupted; --resume -o {self.folder} goes on.", highlight=False, markup=False
            )


class _Checkpoint(dict[str, Any]):
    def __missing__(self, name: str) -> Any:
        raise NetworkFileError(f"The run cannot go on: its checkpoint.pt has no '{name}'.")


def summary(run: Run) -> dict[str, Any]:
    """How a run of episodes ended, for its summary."""
    best = run.best
    return {
        "best_average": None if best is None else best["average"],
        "best_at_episode": None if best is None else best["episode"],
        "target_average": run.settings.target_average,
        "target_reached": run.reached,
    }


def told(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a model's provenance says of the moment it was kept."""
    return {"kept": {name: row[name] for name in ("episode", "average")}}


def resumed(settings: Any, algorithm: str, given: frozenset[str], may_change: frozenset[str] = frozenset()) -> Any:
    """The settings with which a run in ``settings.output`` goes on: those it began with.

    Raises
    ------
    InvalidInputError
        If there is no such run, or `given` settings differ from those it began with.
    """
    if not settings.resume:
        return settings
    path = Path(settings.output) / "run.json"
    try:
        facts = json.loads(path.read_text("utf-8"))
        kept, found = dict(facts["hyperparameters"]), facts["algorithm"]
        kept["seed"] = facts["seed"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InvalidInputError(f"There is no run to go on with in {settings.output}: {path} cannot be read.") from None
    if found != algorithm:
        raise InvalidInputError(f"{settings.output} holds a run of '{found}', not of '{algorithm}'.")
    asked = {**hyperparameters(settings), "seed": settings.seed}
    unknown = sorted(set(kept) ^ set(asked))
    if unknown:
        raise InvalidInputError(f"{path} is of another version of Spikeloop: it differs in '{unknown[0]}'.")
    for name in sorted((given & set(kept)) - may_change):
        if asked[name] != kept[name]:
            raise InvalidInputError(
                f"The run in {settings.output} has {name}={kept[name]}; it cannot go on with {asked[name]}."
            )
    values = {name: _like(getattr(settings, name), value) for name, value in kept.items()}
    values |= {name: asked[name] for name in given & may_change}
    return replace(settings, **values)


def _like(present: Any, kept: Any) -> Any:
    if isinstance(kept, list):
        return tuple(kept)
    return Path(kept) if isinstance(present, Path) else kept


def hyperparameters(settings: Any) -> dict[str, Any]:
    """All settings that bear on the result, as plain values."""
    apart = {"output", "resume", "seed"}
    values = {name: value for name, value in asdict(settings).items() if name not in apart}
    return {
        name: list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
        for name, value in values.items()
    }


def versions() -> dict[str, str]:
    """Of what a training run depends on."""
    packages = {name: version(name) for name in ("torch", "numpy", "gymnasium", "numba")}
    return {"spikeloop": __version__, "python": platform.python_version(), **packages}


def positive(settings: Any, *names: str) -> None:
    """Refuse settings below 1.

    Raises
    ------
    InvalidInputError
    """
    for name in names:
        value = getattr(settings, name)
        if value is not None and not value >= 1:
            raise InvalidInputError(f"{name} is {value}; it must be 1 or more.")


def within(settings: Any, low: float, high: float, *names: str) -> None:
    """Refuse settings outside of [low, high].

    Raises
    ------
    InvalidInputError
    """
    for name in names:
        value = getattr(settings, name)
        if not (math.isfinite(value) and low <= value <= high):
            raise InvalidInputError(f"{name} is {value}; it must be from {low:g} to {high:g}.")


def reproducible(seed: int, threads: int = 1) -> None:
    """Make torch draw from `seed` and compute in a fixed order."""
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)


def generator_state(rng: np.random.Generator) -> str:
    """A generator's state as text."""
    return json.dumps(rng.bit_generator.state)


def restore_generator(rng: np.random.Generator, state: str) -> None:
    """Put a generator into a state that `generator_state` gave."""
    rng.bit_generator.state = json.loads(state)


def _value(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text or None

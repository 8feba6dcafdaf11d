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

import contextlib
import csv
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from ..errors import InvalidInputError, NetworkFileError, TargetError
from ..models.file import to_bytes
from ..models.network import Network
from .curve import draw
from .policy import Policy
from .progress import Progress
from .settings import hyperparameters, resumed, versions
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
            resumed(settings, algorithm, frozenset(hyperparameters(settings)) | {"seed"})
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
        if path.exists():  # or it was killed before its first one: the beginning is where it goes on
            self._read(path)
        self.write_facts({})
        self._write_metrics()

    def _read(self, path: Path) -> None:
        try:
            # As a mapped file: a large replay memory need not fit into memory twice.
            state = dict(torch.load(path, map_location="cpu", weights_only=True, mmap=True))
        except Exception as error:  # torch raises UnpicklingError, RuntimeError, EOFError, ... for damaged files
            reason = " ".join(str(error).split())[:100]
            raise NetworkFileError(f"The run in {self.folder} cannot go on: {path} is damaged ({reason}).") from None
        try:
            count, self._before = int(state.pop("rows")), float(state.pop("seconds"))
            rows = list(csv.DictReader(StringIO((self.folder / "metrics.csv").read_text("utf-8"))))[:count]
            for row in rows:
                self._add({name: _value(row[name]) for name in self.columns})
            if len(rows) != count or count < 1:
                raise ValueError(f"metrics.csv has {len(rows)} rows, the checkpoint counts {count}")
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise NetworkFileError(f"The run in {self.folder} cannot go on: {error}.") from None
        self.state = state

    @contextlib.contextmanager
    def restoring(self) -> Iterator[None]:
        """Whatever a checkpoint holds that does not fit becomes one clear error."""
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:100]
            raise NetworkFileError(
                f"The run in {self.folder} cannot go on: its checkpoint.pt does not fit it ({reason})."
            ) from None

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
        if isinstance(told, Policy):
            told.save(self.folder / f"{name}.pt")
            return
        data = to_bytes(told)
        replace_file(self.folder / f"{name}.spk", lambda file: file.write(data))

    def save_replay(self, states: NDArray[Any], actions: NDArray[np.int64]) -> None:
        """Write replay.npz: observations [n, n_inputs] and actions [n]."""
        path = self.folder / "replay.npz"
        replace_file(path, lambda file: np.savez_compressed(file, observations=states, actions=actions))

    def finish(self, **summary: Any) -> dict[str, Any]:
        """Write the summary into run.json; returns it."""
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
        text = json.dumps({**self.provenance(), **more}, indent=2, allow_nan=False) + "\n"
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


def summary(run: Run) -> dict[str, Any]:
    """How a run of episodes ended, for its summary."""
    best = run.best
    return {
        "best_average": None if best is None else best["average"],
        "best_at_episode": None if best is None else best["episode"],
        "target_average": run.settings.target_average,
        "target_reached": run.reached,
    }


def learnt(loss: float) -> float:
    """`loss` itself, of a gradient step that was taken.

    Raises
    ------
    TargetError
        If it is NaN or infinite: the network is of no use any more.
    """
    if not math.isfinite(loss):
        raise TargetError(
            f"Training has diverged: the loss is {loss}. Lower the learning rate, or scale the inputs or rewards; what "
            "was best so far is kept."
        )
    return loss


def told(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a model's provenance says of the moment it was kept."""
    return {"kept": {name: row[name] for name in ("episode", "average")}}


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

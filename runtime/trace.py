"""The trace: a run kept in SQLite, readable after a crash.

Each decision is one transaction of a write-ahead log, so that a process killed at any moment leaves every decision it
had finished. What the environment answered (reward, end of the episode) is known a moment later and is written with
the next transaction.

Tables: ``meta`` (key, JSON), ``episodes``, ``decisions``, ``spikes``, and ``divergences``: where the spikes of a
decision first part from those of the shadow. Format 1 had neither these nor what a machine's network did. Arrays are
little-endian float64 (observations, outputs) and uint32 (spike events: layer, neuron, step per event).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..deploy.backend import Exchange
from ..errors import InvalidInputError, TraceError
from ..models.stimulus import FloatArray
from .decision import Decision, Divergence, Timings

FORMAT = 2

_STAGES = Timings.stages()
_COUNTS = tuple(field.name for field in fields(Exchange))
_SCHEMA = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE episodes (
    episode INTEGER PRIMARY KEY, seed INTEGER, return REAL, length INTEGER,
    outcome TEXT CHECK (outcome IN ('terminated', 'truncated', 'interrupted'))
);
CREATE TABLE decisions (
    id INTEGER PRIMARY KEY, episode INTEGER NOT NULL REFERENCES episodes, step INTEGER NOT NULL,
    observation BLOB NOT NULL, output BLOB, action INTEGER NOT NULL, reference_action INTEGER,
    missed INTEGER NOT NULL, wall_us REAL, {", ".join(f"{stage} REAL" for stage in _STAGES)},
    {", ".join(f"{count} INTEGER" for count in _COUNTS)}, cpu_us REAL,
    reward REAL, terminated INTEGER, truncated INTEGER,
    UNIQUE (episode, step)
);
CREATE TABLE spikes (decision INTEGER PRIMARY KEY REFERENCES decisions, events BLOB NOT NULL);
CREATE TABLE divergences (
    decision INTEGER PRIMARY KEY REFERENCES decisions,
    layer INTEGER NOT NULL, neuron INTEGER NOT NULL, step INTEGER NOT NULL,
    fired INTEGER NOT NULL, expected INTEGER NOT NULL
);
"""
_INSERT = f"INSERT INTO decisions VALUES ({', '.join('?' * (10 + len(_STAGES) + len(_COUNTS)))}, NULL, NULL, NULL)"


@dataclass(frozen=True, slots=True, eq=False)
class TracedDecision:
    """One row of a trace. `output` is None where a deadline was missed; `reward` where the run ended before it.

    `exchange` is None where the target has no network of its own, `divergence` where no shadow's spikes differed.
    """

    episode: int
    step: int
    observation: FloatArray
    output: FloatArray | None
    action: int
    reference_action: int | None
    missed: bool
    wall_us: float | None
    timings: Timings
    reward: float | None
    terminated: bool | None
    truncated: bool | None
    spike_events: NDArray[np.uint32] | None
    exchange: Exchange | None = None
    cpu_us: float | None = None
    divergence: Divergence | None = None


class TraceWriter:
    """Writes a trace; a context manager.

    Parameters
    ----------
    path : str or Path
        Must not exist: a trace is never overwritten.
    meta : mapping
        Seeds, versions, hashes, settings; anything JSON can hold.

    Raises
    ------
    TraceError
        If the file cannot be written.
    InvalidInputError
        If it exists.
    """

    def __init__(self, path: str | Path, meta: Mapping[str, Any]) -> None:
        self._path = Path(path)
        if self._path.exists():
            raise InvalidInputError(f"{path} exists, and a trace is never overwritten: give another name, or move it.")
        try:
            self._db = sqlite3.connect(self._path, isolation_level=None)
        except sqlite3.Error as error:
            raise TraceError(f"Cannot write the trace {path}: {error}.") from None
        self._pending: tuple[Any, ...] | None = None
        self._next_id = 0
        with self._translated():
            self._db.execute("PRAGMA journal_mode = WAL")
            # Survives the death of the process; only a power cut can lose the last decisions.
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;")
            rows = [(key, json.dumps(value)) for key, value in {"format": FORMAT, **meta}.items()]
            self._db.executemany("INSERT INTO meta VALUES (?, ?)", rows)

    def begin_episode(self, episode: int, seed: int | None) -> None:
        """Open an episode."""
        with self._translated():
            self._db.execute("INSERT INTO episodes (episode, seed) VALUES (?, ?)", (episode, seed))

    def decided(
        self,
        episode: int,
        step: int,
        observation: object,
        action: int,
        decision: Decision | None,
        reference_action: int | None = None,
        wall_us: float | None = None,
        divergence: Divergence | None = None,
    ) -> None:
        """Keep one decision, for good. `decision` is None where the action stands in for one that came too late."""
        output = None if decision is None else np.asarray(decision.output, dtype="<f8").tobytes()
        stages = [None] * len(_STAGES) if decision is None else list(decision.timings.as_dict().values())
        blob = np.asarray(observation, dtype="<f8").tobytes()
        number, self._next_id = self._next_id, self._next_id + 1
        exchange = None if decision is None else decision.exchange
        counts = [None] * len(_COUNTS) if exchange is None else astuple(exchange)
        row = (number, episode, step, blob, output, action, reference_action, decision is None, wall_us, *stages)
        row += (*counts, None if decision is None else decision.cpu_us)
        with self._transaction():
            self._db.execute(_INSERT, row)
            if decision is not None and decision.rasters is not None:
                self._db.execute("INSERT INTO spikes VALUES (?, ?)", (number, _events(decision).tobytes()))
            if divergence is not None:
                self._db.execute("INSERT INTO divergences VALUES (?, ?, ?, ?, ?, ?)", (number, *astuple(divergence)))

    def answered(self, reward: float, terminated: bool, truncated: bool) -> None:
        """What the environment answered to the last decision; written with the next transaction."""
        self._pending = (reward, terminated, truncated, self._next_id - 1)

    def end_episode(self, episode: int, total: float, length: int, outcome: str) -> None:
        """Close an episode."""
        with self._transaction():
            self._db.execute(
                "UPDATE episodes SET return = ?, length = ?, outcome = ? WHERE episode = ?",
                (total, length, outcome, episode),
            )

    def note(self, key: str, value: Any) -> None:
        """Add or replace an entry of the meta table."""
        with self._translated():
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))

    def close(self) -> None:
        """Write what is pending and close the file."""
        with self._transaction():
            pass
        with self._translated():
            self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """What is pending, and what the with block writes: all of it or, if anything interrupts, nothing."""
        with self._translated():
            self._db.execute("BEGIN")
            try:
                if self._pending is not None:
                    self._db.execute(
                        "UPDATE decisions SET reward = ?, terminated = ?, truncated = ? WHERE id = ?", self._pending
                    )
                yield
                self._db.execute("COMMIT")
            except BaseException:  # Ctrl-C comes between any two statements, and the episode is still to be closed
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            self._pending = None

    def _translated(self) -> _Translated:
        return _Translated(f"Cannot write the trace {self._path}")

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Trace:
    """Reads a trace, also one that is being written or whose writer was killed.

    Raises
    ------
    TraceError
        If the file is no trace, or from a newer version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise TraceError(f"There is no trace {path}.")
        if not is_sqlite(self.path):
            raise TraceError(f"{path} is no SQLite file, so no trace.")
        with self._connect() as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if version > FORMAT:
            raise TraceError(
                f"{path} has trace format {version}; this Spikeloop reads {FORMAT}: pip install -U spikeloop"
            )
        self._format = version
        if version not in (1, FORMAT) or not {"meta", "episodes", "decisions", "spikes"} <= tables:
            raise TraceError(f"{path} is a SQLite file, but no trace.")

    @property
    def meta(self) -> dict[str, Any]:
        """Seeds, versions, hashes, settings."""
        with self._connect() as db:
            rows = list(db.execute("SELECT key, value FROM meta"))
        try:
            return {key: json.loads(value) for key, value in rows}
        except (ValueError, TypeError, RecursionError) as error:
            raise TraceError(f"{self.path} is damaged: its meta table holds what is no JSON: {error}.") from None

    def episodes(self) -> list[dict[str, Any]]:
        """One row per episode: episode, seed, return, length, outcome; None where it did not end."""
        with self._connect() as db:
            db.row_factory = sqlite3.Row
            return [dict(row) for row in db.execute("SELECT * FROM episodes ORDER BY episode")]

    def __len__(self) -> int:
        with self._connect() as db:
            return int(db.execute("SELECT count(*) FROM decisions").fetchone()[0])

    def decisions(self, episode: int | None = None) -> Iterator[TracedDecision]:
        """The decisions in their order, of one episode or of all."""
        query = "SELECT d.*, s.events FROM decisions d LEFT JOIN spikes s ON s.decision = d.id"
        if self._format > 1:
            query = query.replace("s.events", "s.events, v.layer, v.neuron, v.step AS at_step, v.fired, v.expected")
            query += " LEFT JOIN divergences v ON v.decision = d.id"
        where = "" if episode is None else f" WHERE episode = {int(episode)}"
        with self._connect() as db:
            db.row_factory = sqlite3.Row
            for row in db.execute(query + where + " ORDER BY d.id"):
                yield _traced(row)

    def _connect(self) -> Any:
        # Opened for writing where possible: SQLite recovers a killed writer's log then, and needs the shared memory.
        return _Closing(self.path)


class _Closing:
    """A connection that is closed, and whose errors are translated, at the end of a with block."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> sqlite3.Connection:
        self._translated = _Translated(f"Cannot read the trace {self._path}")
        with self._translated:
            self._db = sqlite3.connect(f"file:{self._path}?mode=rw", uri=True)
        return self._db

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with closing(self._db):
            self._translated.__exit__(kind, error, trace)


class _Translated:
    """The one place where SQLite's errors become ours."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, sqlite3.Error):
            raise TraceError(f"{self._what}: {error}.") from None


def is_sqlite(path: Path) -> bool:
    """Whether the file begins as SQLite files do."""
    try:
        with path.open("rb") as file:
            return file.read(16) == b"SQLite format 3\x00"
    except OSError:
        return False


def _events(decision: Decision) -> NDArray[np.uint32]:
    assert decision.rasters is not None, "only called with spikes"
    parts = []
    for layer, raster in enumerate(decision.rasters):
        steps, neurons = np.nonzero(raster)
        times = raster[steps, neurons]
        columns = (np.full(len(steps), layer), neurons, steps)
        parts.append(np.stack([np.repeat(column, times) for column in columns], axis=1))
    return np.concatenate(parts).astype("<u4")


def _traced(row: sqlite3.Row) -> TracedDecision:
    def flag(name: str) -> bool | None:
        return None if row[name] is None else bool(row[name])

    return TracedDecision(
        episode=row["episode"],
        step=row["step"],
        observation=np.frombuffer(row["observation"], dtype="<f8"),
        output=None if row["output"] is None else np.frombuffer(row["output"], dtype="<f8"),
        action=row["action"],
        reference_action=row["reference_action"],
        missed=bool(row["missed"]),
        wall_us=row["wall_us"],
        timings=Timings(*(row[stage] or 0.0 for stage in _STAGES)),
        reward=row["reward"],
        terminated=flag("terminated"),
        truncated=flag("truncated"),
        spike_events=None if row["events"] is None else np.frombuffer(row["events"], dtype="<u4").reshape(-1, 3),
        **_since_2(row),
    )


def _since_2(row: sqlite3.Row) -> dict[str, Any]:
    if "layer" not in row.keys():  # noqa: SIM118  # a Row's `in` looks among the values
        return {}
    counts = [row[count] for count in _COUNTS]
    places = [row[name] for name in ("layer", "neuron", "at_step", "fired", "expected")]
    return {
        "exchange": None if None in counts else Exchange(*counts),
        "cpu_us": row["cpu_us"],
        "divergence": None if None in places else Divergence(*places),
    }

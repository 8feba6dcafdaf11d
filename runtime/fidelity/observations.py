"""Where the observations of a check come from: a file, a trace, or episodes that are played for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import InvalidInputError, TraceError
from ...models.network import Network
from ...models.stimulus import FloatArray, finite
from ..agent import Decider, launch
from ..loop import Environment, EpisodeResult, run_episodes
from ..trace import Trace, is_sqlite
from .episodes import Noted, opened

# Of the states of episodes, whose number is known at their end only, so many values are held at most (256 MB).
MOST_VALUES = 2**25


@dataclass(frozen=True, slots=True, eq=False)
class Observations:
    """What a check decides on.

    Attributes
    ----------
    values : float64 [n, n_inputs]
    source : str
        Where they came from, in words.
    """

    values: FloatArray
    source: str

    def __len__(self) -> int:
        return len(self.values)


def observations_of(
    source: str | Path,
    network: Network,
    *,
    seed: int = 0,
    most: int = 1000,
    make_environment: Callable[[str], Environment] | None = None,
    player: Callable[[], Decider] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Observations:
    """Observations from a file, a trace or episodes.

    Parameters
    ----------
    source : str or Path
        A ``.npy`` or ``.npz`` (see `load_observations`); a trace, of which all decisions count, in their order; or
        ``ENV:EPISODES``, such as ``CartPole-v1:20``: the states met in so many episodes.
    network : Network
        Who is to read them.
    seed : int
        Episode ``i`` begins with the seed ``seed + i``.
    most : int
        Of more observations, so many are picked: evenly spaced, the first and the last among them.
    make_environment : callable, optional
        The environment of that name. Closed after use, if it can be. Needed for ``ENV:EPISODES``.
    player : callable, optional
        Opens whoever plays the episodes: the network on the reference unless given. Closed after use.
    on_progress : callable, optional
        Called with the number of episodes played.

    Raises
    ------
    InvalidInputError
        If `source` is none of the three, holds no observations, or holds some that the network cannot read.
    TraceError
        If the trace is damaged.
    SpikeloopError
        As the environment and the player raise them.
    """
    if most < 1:
        raise InvalidInputError(f"most is {most}; at least one observation is needed.")
    path = Path(source)
    if path.exists():
        if is_sqlite(path):
            return _of_trace(path, network, most)
        found = load_observations(path)
        found = found.reshape(1, -1) if found.ndim == 1 else found
        _check_fit(found, network, str(path))
        picks = evenly_spaced(len(found), most)
        return Observations(found[picks], f"{_counted(len(picks), len(found), 'observation')} of {path}")
    split = split_environment(source)
    if split is None:
        raise InvalidInputError(
            f"'{source}' was given for observations, and there is no such file. Give a .npy or .npz file, a trace "
            "(run.db), or ENV:EPISODES such as CartPole-v1:20."
        )
    if make_environment is None:
        raise InvalidInputError(f"'{source}' names episodes; to play them, make_environment is needed.")
    env, episodes = split
    if episodes < 1:
        raise InvalidInputError(f"'{source}' was given for observations; at least 1 episode is needed: {env}:1.")
    player = player or (lambda: launch(network, "reference", seed=seed))
    kept = _Kept(max(2 * most, MOST_VALUES // network.n_inputs))

    def on_episode(episode: EpisodeResult) -> None:
        if on_progress is not None:
            on_progress(episode.episode + 1)

    with opened(lambda: make_environment(env)) as environment, closing(player()) as decider:
        noted = Noted(decider, keep=kept.add)
        run_episodes(environment, noted, episodes=episodes, seed=seed, on_episode=on_episode)
    values, total = kept.picked(most), kept.total
    last = seed + episodes - 1
    seeds = f"seed {seed}" if last == seed else f"seeds {seed} to {last}"
    what = f"{_counted(len(values), total, 'decision')} of {_plural(episodes, 'episode')} of {env}, {seeds}"
    return Observations(network.observations(values), what)


def split_environment(source: str | Path) -> tuple[str, int] | None:
    """Of ``ENV:EPISODES`` both; None where `source` is something else, such as a file that exists."""
    env, _, episodes = str(source).rpartition(":")
    return (env, int(episodes)) if env and episodes.isdecimal() and not Path(source).exists() else None


def load_observations(path: str | Path) -> FloatArray:
    """Read observations [n, n_inputs]: a ``.npy``, or a ``.npz`` with ``observations`` or with one array only.

    Raises
    ------
    InvalidInputError
        If the file cannot be read or holds no such array. Nothing in it is ever unpickled.
    """
    path = Path(path)
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            arrays = {"observations": content}
        else:
            with content:
                arrays = dict(content)
    except Exception as error:  # NumPy raises a dozen kinds for files that are not its own
        reason = str(error) or type(error).__name__
        if "allow_pickle" in reason:
            reason = "it holds Python objects, or is no NumPy file, and objects are never unpickled"
        raise InvalidInputError(f"Cannot read observations from {path}: {reason}.") from None
    if "observations" not in arrays and len(arrays) != 1:
        names = ", ".join(list(arrays)[:8]) or "none"
        raise InvalidInputError(f"{path} holds the arrays: {names}; one named 'observations' is needed.")
    array = arrays.get("observations", next(iter(arrays.values())))
    return finite(array, "observations")


def evenly_spaced(n: int, most: int) -> NDArray[np.int64]:
    """Indices below `n`, ascending: all, or `most` evenly spaced ones with the first and the last among them."""
    if n <= most:
        return np.arange(n)
    if most == 1:
        return np.zeros(1, dtype=np.int64)
    return np.arange(most) * (n - 1) // (most - 1)


def _of_trace(path: Path, network: Network, most: int) -> Observations:
    trace = Trace(path)
    episodes, picks = set(), []
    wanted = iter(evenly_spaced(len(trace), most).tolist())
    next_one = next(wanted, None)
    total = 0
    for total, row in enumerate(trace.decisions(), 1):
        episodes.add(row.episode)
        if total - 1 == next_one:
            if row.observation.size != network.n_inputs:
                _check_fit(row.observation.reshape(1, -1), network, str(path))
            picks.append(row.observation)
            next_one = next(wanted, None)
    if not picks:
        raise InvalidInputError(f"{path} is a trace without decisions; at least one is needed.")
    values = np.array(picks, dtype=np.float64)
    if not np.isfinite(values).all():
        raise TraceError(f"{path} is damaged: an observation holds NaN or infinite values.")
    decisions, of = _counted(len(picks), total, "decision"), _plural(len(episodes), "episode")
    return Observations(values, f"{decisions} of {of} in {path}")


def _check_fit(values: FloatArray, network: Network, path: str) -> None:
    if values.ndim != 2 or values.shape[1] != network.n_inputs:
        raise InvalidInputError(
            f"{path} holds observations of shape {values.shape}; network '{network.name}' needs "
            f"[n, {network.n_inputs}]: give some of the environment that it was trained for."
        )
    if not len(values):
        raise InvalidInputError(f"{path} holds no observations; at least one is needed.")


def _counted(picked: int, total: int, what: str) -> str:
    return _plural(total, what) if picked == total else f"{picked:,} of {_plural(total, what)}"


def _plural(count: int, what: str) -> str:
    return f"{count:,} {what}" + ("" if count == 1 else "s")


class _Kept:
    """States, of which all are kept as long as there is room, and then every second, fourth, ... and the last."""

    def __init__(self, room: int) -> None:
        self._room, self._stride = room, 1
        self._values: list[FloatArray] = []
        self._last: FloatArray | None = None
        self.total = 0

    def add(self, observation: object) -> None:
        """Keep a state."""
        self._last = np.array(observation, dtype=np.float64)
        if self.total % self._stride == 0:
            self._values.append(self._last)
            if len(self._values) > self._room:
                self._values, self._stride = self._values[::2], 2 * self._stride
        self.total += 1

    def picked(self, most: int) -> FloatArray:
        """At most `most` of them, evenly spaced, the first and the last among them."""
        values = self._values
        if self._last is not None and values[-1] is not self._last:
            values = [*values, self._last]
        return np.array([values[i] for i in evenly_spaced(len(values), most).tolist()])

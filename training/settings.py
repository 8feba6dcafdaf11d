"""What every algorithm's settings share: checks, plain values, and the settings with which a run goes on."""

from __future__ import annotations

import json
import math
import platform
import warnings
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from .. import __version__
from ..errors import InvalidInputError
from .environment import shaping_of

SEEDS_PER_RUN = 1_000_000
MAY_BE_RAISED = frozenset({"episodes"})  # of a run that goes on


def episode_seed(seed: int, episode: int) -> int:
    """What an episode of a training run is reset with: far from the small seeds of evaluations."""
    return SEEDS_PER_RUN * (1 + seed) + episode


def checked(settings: Any) -> None:
    """Refuse values that are not of their field's type, and what no algorithm can take.

    Raises
    ------
    InvalidInputError
    """
    hints = get_type_hints(type(settings))
    for field in fields(settings):
        value, hint = getattr(settings, field.name), hints[field.name]
        if isinstance(value, str) and hint is Path:
            continue
        try:
            TypeAdapter(hint, config=ConfigDict(strict=True)).validate_python(value)
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Input should be ")
            raise InvalidInputError(f"{field.name} is {value!r}; it should be {reason}.") from None
        if isinstance(value, tuple) and any(isinstance(size, int) and size < 1 for size in value):
            raise InvalidInputError(f"{field.name} is {value}; every layer needs 1 neuron or more.")
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidInputError(f"{field.name} is {value}; it must be a finite number.")
    within(settings, 0, 10**9, "seed")


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
        if not low <= value <= high:
            raise InvalidInputError(f"{name} is {value}; it must be from {low:g} to {high:g}.")


def unused(settings: Any, why: str, *names: str) -> None:
    """Refuse settings that have no effect, unless they are as they were.

    Raises
    ------
    InvalidInputError
    """
    defaults = {field.name: field.default for field in fields(settings)}
    for name in names:
        if getattr(settings, name) != defaults[name]:
            raise InvalidInputError(f"{name} is {getattr(settings, name)}; it has no effect {why}: leave it out.")


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodicSettings:
    """What every algorithm that learns from episodes can be told.

    Parameters
    ----------
    env : str
        The environment; it needs discrete actions.
    seed : int
        Of weights, exploration, batches and episodes. The same seed gives the same network, bit by bit, on the same
        machine with the same versions.
    output : Path
        The run's folder; it must not hold anything yet.
    resume : bool
        Go on with the run that is in the folder.
    episodes : int
        After which training ends at the latest.
    target_average : float, optional
        Training ends when the mean return of the last `average_over` episodes reaches it.
    average_over : int
        Episodes of the moving average, by which the best network is chosen too.
    max_steps : int, optional
        Length of an episode, where it is not to be the environment's own.
    hidden : tuple of int
        Neurons of each hidden layer.
    frame_skip : int
        Steps of the environment for which an action is held.
    no_op_max : int
        An episode begins with up to so many actions 0.
    shaping : str
        What is learnt from: "none" the environment's reward, "mountain-car" min(r + |x + 0.5|, -0.1), "sign" its sign.
    threads : int
        Of torch.
    """

    env: str = "CartPole-v1"
    seed: int = 1
    output: Path = Path("runs/run")
    resume: bool = False
    episodes: int = 1000
    target_average: float | None = None
    average_over: int = 100
    max_steps: int | None = None
    hidden: tuple[int, ...] = (16, 16)
    frame_skip: int = 1
    no_op_max: int = 0
    shaping: str = "none"
    threads: int = 1

    def __post_init__(self) -> None:
        checked(self)
        positive(self, "episodes", "average_over", "max_steps", "frame_skip", "threads")
        within(self, 0, 10**9, "no_op_max")
        shaping_of(self.shaping)


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


def resumed(settings: Any, algorithm: str, given: frozenset[str]) -> Any:
    """The settings with which the run in ``settings.output`` goes on: those it began with.

    Parameters
    ----------
    settings : dataclass
        Returned as they are unless they say `resume`.
    algorithm : str
    given : set of str
        The settings that were stated: they must be those the run began with, but for `MAY_BE_RAISED`.

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
        kept, found, made_with = dict(facts["hyperparameters"]), facts["algorithm"], dict(facts["versions"])
        kept["seed"] = facts["seed"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InvalidInputError(f"There is no run to go on with in {settings.output}: {path} cannot be read.") from None
    if found != algorithm:
        raise InvalidInputError(f"{settings.output} holds a run of '{found}', not of '{algorithm}'.")
    asked = {**hyperparameters(settings), "seed": settings.seed}
    unknown = sorted(set(kept) ^ set(asked))
    if unknown:
        raise InvalidInputError(f"{path} is of another version of Spikeloop: it differs in '{unknown[0]}'.")
    values = {name: _like(getattr(settings, name), value) for name, value in kept.items()}
    kept_settings = replace(settings, **values)  # which checks them
    for name in sorted(given & set(kept)):
        raised = name in MAY_BE_RAISED and asked[name] > kept[name]
        if asked[name] != kept[name] and not raised:
            more = "; it can only be raised" if name in MAY_BE_RAISED else ""
            raise InvalidInputError(
                f"The run in {settings.output} has {name}={kept[name]}; it cannot go on with {asked[name]}{more}."
            )
    if made_with != versions():
        other = next(name for name, number in versions().items() if made_with.get(name) != number)
        text = f"made with {other} {made_with.get(other)}, now {versions()[other]}: not the same as an unbroken run"
        warnings.warn(f"The run in {settings.output} was {text}.", stacklevel=2)
    return replace(kept_settings, **{name: asked[name] for name in given & MAY_BE_RAISED})


def _like(present: Any, kept: Any) -> Any:
    if isinstance(kept, list):
        return tuple(kept)
    return Path(kept) if isinstance(present, Path) else kept

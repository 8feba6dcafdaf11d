"""What is done with a share: a function that every process can import, from plain values to named arrays."""

from __future__ import annotations

import json
import pickle
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import __version__
from ...errors import InvalidInputError, SpikeloopError, TargetError

FORMAT = 1  # of a kept share, and of what its name is made of

Result = dict[str, NDArray[Any]]
Work = Callable[[Mapping[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Task:
    """One share, as it is sent to where it is done.

    Attributes
    ----------
    position : int
        Among the shares; of equal ones the first's.
    work : str
        The function, as "module:function".
    text : str
        The share as canonical JSON.
    """

    position: int
    work: str
    text: str

    @property
    def digest(self) -> str:
        """SHA-256 of all that the result depends on."""
        return sha256(json.dumps([FORMAT, __version__, self.work, self.text]).encode()).hexdigest()

    @property
    def summary(self) -> dict[str, Any]:
        """The share, to be read: without long values, such as a whole network."""
        return {name: value if len(str(value)) <= 60 else "..." for name, value in json.loads(self.text).items()}

    def __str__(self) -> str:
        text = json.dumps(self.summary, separators=(",", ":"))
        return f"Share {self.position} ({text if len(text) <= 160 else text[:156] + ' ...'})"


def name_of(work: Work) -> str:
    """The function as "module:function".

    Raises
    ------
    InvalidInputError
        If it is not found again under that name: a lambda, a local function, one of the script that is run.
    """
    module, name = getattr(work, "__module__", None), getattr(work, "__qualname__", "")
    try:
        if module == "__main__" or attrgetter(name)(import_module(str(module))) is not work:
            raise AttributeError
    except (ImportError, AttributeError):
        raise InvalidInputError(
            f"{work!r} was given; other processes must be able to import it: a function at the top of a module that is "
            "not the script itself is needed."
        ) from None
    return f"{module}:{name}"


def canonical(share: Mapping[str, Any], index: int) -> str:
    """The share as JSON, the same for equal shares.

    Raises
    ------
    InvalidInputError
    """
    try:
        if not isinstance(share, Mapping):
            raise TypeError(f"it is a {type(share).__name__}")
        return json.dumps(dict(share), sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(
            f"Share {index} is no mapping of plain values ({error}); JSON must be able to hold it."
        ) from None


def done(task: Task) -> Result:
    """Do a share here. The function gets what JSON made of the share, in every process alike.

    Raises
    ------
    InvalidInputError
        If the function returns something else than arrays by name.
    Exception
        Whatever the function raises.
    """
    module, _, name = task.work.partition(":")
    found = attrgetter(name)(import_module(module))(json.loads(task.text))
    if not isinstance(found, Mapping):
        raise InvalidInputError(f"{task.work} returned a {type(found).__name__}; arrays by name are needed.")
    result: Result = {}
    for key, value in found.items():
        if not isinstance(key, str) or not isinstance(value, np.ndarray | np.generic) or value.dtype.kind in "OT":
            raise InvalidInputError(
                f"{task.work} returned {key!r}: {type(value).__name__}; arrays by name are needed, without objects."
            )
        result[key] = np.asarray(value)
        if result[key].dtype.hasobject:
            raise InvalidInputError(f"{task.work} returned {key!r} with objects in it; plain arrays are needed.")
    return result


def outcome(task: Task) -> Result | Exception:
    """`done`, with an error as a value that can be sent to another process."""
    try:
        return done(task)
    except Exception as error:
        if not isinstance(error, SpikeloopError):  # a mistake in the program: its traceback would be lost on the way
            error.add_note("In the worker process:\n" + traceback.format_exc())
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            return TargetError(f"{task} failed: {type(error).__name__}: {error}")
        return error

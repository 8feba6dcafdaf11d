"""What stands between an agent and the environment in a test of robustness: noise, and values that are hidden."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bridges.environments import Spaces
from ..errors import InvalidInputError
from ..models.stimulus import FloatArray
from .episodes import NOISE, Moment


@dataclass(frozen=True, slots=True, eq=False)
class Perturbation:
    """Adds Gaussian noise to an observation, then sets hidden values to 0.

    Values that the environment gives as whole numbers, such as pixels, stay whole numbers in their type's range:
    rounded, then clipped. The noise of an episode's step depends on the episode's seed and the step alone; with twice
    the deviation it is twice as large.

    Parameters
    ----------
    deviation : float64 [n_inputs] or float
        Standard deviation of the noise, in the observation's units.
    hidden : int64 [k]
        Indices into the flat observation.
    dtype : dtype, optional
        Of the environment's values.

    Raises
    ------
    InvalidInputError
        If a deviation is negative, NaN or infinite.
    """

    deviation: FloatArray | float = 0.0
    hidden: NDArray[np.int64] | tuple[()] = ()
    dtype: np.dtype[Any] | None = None

    def __post_init__(self) -> None:
        if not (np.isfinite(self.deviation).all() and np.min(self.deviation) >= 0.0):
            raise InvalidInputError("A standard deviation of noise must be a finite number of at least 0.")

    def __call__(self, moment: Moment) -> FloatArray:
        """What the agent observes: float64 [n, n_inputs]."""
        observations = moment.observations
        if np.any(self.deviation):
            size = observations.shape[1]
            draws = np.stack([generator.standard_normal(size) for generator in moment.generators(NOISE)])
            observations = observations + self.deviation * draws
            if self.dtype is not None and self.dtype.kind in "iu":
                limits = np.iinfo(self.dtype)
                observations = np.clip(np.rint(observations), limits.min, limits.max)
        if len(self.hidden):
            observations = observations.copy()
            observations[:, self.hidden] = 0.0
        return observations


def deviations(states: NDArray[Any]) -> FloatArray:
    """The standard deviation of each value over some states: float64 [n_inputs] for [states, n_inputs]."""
    blocks = np.array_split(states, -(-states.shape[1] // 1000), axis=1)  # float64 of all images would be gigabytes
    return np.concatenate([block.std(axis=0, dtype=np.float64) for block in blocks])


def occluded(spaces: Spaces, numbers: Sequence[int]) -> NDArray[np.int64]:
    """Indices into the flat observation of what `numbers` hide.

    Parameters
    ----------
    spaces : Spaces
    numbers : sequence of int
        Of a flat observation, the indices of values, from 0. Of images, the rectangle ``x, y, width, height`` in
        pixels from the left and the top; it is hidden in all frames.

    Raises
    ------
    InvalidInputError
        If they are not inside the observation.
    """
    shape = spaces.shape
    given = ",".join(str(number) for number in numbers)
    if len(shape) == 1:
        if not numbers or min(numbers) < 0 or max(numbers) >= shape[0]:
            raise InvalidInputError(
                f"'{given}' is to be hidden; the observation has the values 0 to {shape[0] - 1}: give indices, as 0,2."
            )
        return np.unique(np.array(numbers, dtype=np.int64))
    if len(shape) not in (2, 3):
        raise InvalidInputError(f"Values can be hidden in lists and in images; this observation has shape {shape}.")
    # Colours come last, frames first.
    rows, columns = (0, 1) if len(shape) == 2 or shape[2] <= 4 < shape[0] else (1, 2)
    if len(numbers) != 4:
        raise InvalidInputError(f"'{given}' is to be hidden; of images a rectangle X,Y,WIDTH,HEIGHT is needed.")
    x, y, width, height = numbers
    if min(x, y) < 0 or min(width, height) < 1 or x + width > shape[columns] or y + height > shape[rows]:
        raise InvalidInputError(
            f"The rectangle {given} is to be hidden; it must lie within the image, which is {shape[columns]} pixels "
            f"wide and {shape[rows]} high."
        )
    mask = np.zeros(shape, dtype=bool)
    np.moveaxis(mask, (rows, columns), (0, 1))[y : y + height, x : x + width] = True
    return np.flatnonzero(mask)

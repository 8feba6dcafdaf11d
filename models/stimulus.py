"""What an encoder hands to a session: the input of one window, for a batch of observations."""

from __future__ import annotations

import operator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidInputError

FloatArray = NDArray[np.float64]
CountArray = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Stimulus:
    """The input of one window: constant currents, spikes at chosen steps, or both.

    Attributes
    ----------
    currents : float64 [n, n_channels]
        Held constant for the whole window; the first layer receives ``currents @ weights``.
    spikes : uint8 [n, steps, n_channels] or None
        How many spikes each channel emits in each step; a spike of step ``t`` adds its row of the first layer's
        weights to that layer's input of step ``t``.
    """

    currents: FloatArray
    spikes: CountArray | None = None

    def __len__(self) -> int:
        return int(self.currents.shape[0])

    def sample(self, index: int) -> Stimulus:
        """The stimulus of one sample, still with a batch axis of length 1."""
        return self.samples(index, index + 1)

    def samples(self, first: int, last: int) -> Stimulus:
        """The stimulus of the samples from `first` to `last` (exclusive)."""
        some = slice(first, last)
        return Stimulus(self.currents[some], None if self.spikes is None else self.spikes[some])

    @classmethod
    def from_currents(cls, currents: object) -> Stimulus:
        """Constant currents, one per channel: shape [n_channels] or [n, n_channels]."""
        return cls(np.atleast_2d(finite(currents, "currents")))

    @classmethod
    def from_events(cls, channels: object, steps: object, *, n_channels: int, window: int) -> Stimulus:
        """Spike events of one window: event ``i`` is a spike of ``channels[i]`` in step ``steps[i]``.

        Raises
        ------
        InvalidInputError
            If the lists differ in length, or an event is outside of ``n_channels`` or of the ``window`` (in steps).
        """
        where = [_indices(channels, "channels"), _indices(steps, "steps")]
        if where[0].shape != where[1].shape:
            raise InvalidInputError(
                f"{where[0].size} channels were given with {where[1].size} steps: give one of each per spike."
            )
        for name, values, limit in (("channel", where[0], n_channels), ("step", where[1], window)):
            if values.size and (values.min() < 0 or values.max() >= limit):
                wrong = int(values[(values < 0) | (values >= limit)][0])
                raise InvalidInputError(f"A spike names {name} {wrong}; this network has {name}s 0 to {limit - 1}.")
        counts = np.zeros((1, window, n_channels), dtype=np.int64)
        np.add.at(counts[0], (where[1], where[0]), 1)
        if counts.size and counts.max() > 255:
            raise InvalidInputError("A channel has more than 255 spikes in one step; at most 255 can be injected.")
        return cls(np.zeros((1, n_channels)), counts.astype(np.uint8))


def finite(values: object, name: str) -> FloatArray:
    """`values` as a float64 array, refused if it is not numeric or not finite."""
    try:
        # NumPy would drop an imaginary part with no more than a warning.
        if np.iscomplexobj(values):  # type: ignore[arg-type]
            raise TypeError("they are complex")
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInputError(f"The {name} cannot be read as numbers: {error}.") from None
    count = array.size - np.count_nonzero(np.isfinite(array))
    if count:
        raise InvalidInputError(
            f"{count} of {array.size} values of the {name} are NaN or infinite; all must be finite."
        )
    return array


def _indices(values: object, name: str) -> NDArray[np.int64]:
    try:
        array = np.atleast_1d(np.asarray(values))
    except ValueError:  # lists of different lengths
        array = np.zeros((1, 1))
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise InvalidInputError(f"The {name} of spike events must be a flat list of integers.")
    return array.astype(np.int64)


def number(value: object, name: str) -> float:
    """`value` as a float."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise InvalidInputError(f"{name} is {value!r}; it must be a number.") from None


def whole(value: object, name: str, least: int, most: int) -> int:
    """`value` as an int from `least` to `most`."""
    try:
        index = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        index = least - 1
    if not least <= index <= most:
        raise InvalidInputError(f"{name} is {value!r}; it must be a whole number from {least} to {most}.")
    return index

"""What all sessions in this process share: the order of their calls, and records that grow with the steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SessionStateError
from ..models.stimulus import Stimulus
from .backend import Readout, Recording

NO_SPIKES = np.zeros((1, 0, 1), dtype=np.uint8)
_IDLE, _CLOSED = -1, -2


class SoftwareSession(ABC):
    """A session that simulates any number of samples here; see `spikeloop.deploy.backend.Session`.

    Parameters
    ----------
    sizes : sequence of int
        Neurons of each layer.
    output_fires : bool
        Whether the last layer's spikes are always kept.
    trace_type : dtype
        Of the potentials, as `_advance` records them.
    """

    max_batch: int | None = None

    def __init__(self, sizes: Any, output_fires: bool, trace_type: Any = np.float64) -> None:
        edges = np.cumsum([0, *sizes]).tolist()
        self._neurons: int = edges[-1]
        self._layers = [slice(a, b) for a, b in pairwise(edges)]
        self._fires = output_fires
        self._spiking = self._layers if output_fires else self._layers[:-1]
        self._no_traces = np.zeros((1, 0, 1), dtype=trace_type)
        self._step = _IDLE

    @abstractmethod
    def _begin(self, stimulus: Stimulus) -> None:
        """Set the state to the start of a window with this input."""

    @abstractmethod
    def _advance(self, first: int, last: int) -> None:
        """Advance from step `first` to `last` (exclusive), and fill these steps of `_raster` and `_traces`.

        Either has the shape [n, last, neurons], or no steps where it is not recorded.
        """

    @abstractmethod
    def _readout(self) -> Readout:
        """What is there after the steps run so far."""

    def reset(self) -> None:
        """End the window before."""
        if self._step == _CLOSED:
            raise SessionStateError("The session is closed; launch the agent again.")
        self._step = _IDLE

    def inject(self, stimulus: Stimulus, recording: Recording = Recording()) -> None:  # noqa: B008  # frozen
        """Set the window's input and what to record of it."""
        if self._step != _IDLE:
            self._refuse("inject", "reset first")
        self._begin(stimulus)
        self._n = len(stimulus.currents)
        self._recording = recording
        self._raster: NDArray[np.uint8] = NO_SPIKES
        self._traces: NDArray[Any] = self._no_traces
        self._step = 0

    def run(self, steps: int) -> None:
        """Advance by `steps` steps of the Network."""
        first = self._step
        if first < 0:
            self._refuse("run", "reset and inject first")
        last = first + steps
        if self._recording.spikes or self._fires:
            self._raster = self._grown(self._raster, last)
        if self._recording.potentials:
            self._traces = self._grown(self._traces, last)
        self._advance(first, last)
        self._step = last

    def read(self) -> Readout:
        """Potentials of the last layer, and what was recorded, after the steps run so far."""
        if self._step < 0:
            self._refuse("read", "reset, inject and run first")
        return self._readout()

    def close(self) -> None:
        """Nothing to give back; the session cannot be used any more."""
        self._step = _CLOSED

    def _grown(self, array: NDArray[Any], steps: int) -> NDArray[Any]:
        new = np.zeros((self._n, steps, self._neurons), dtype=array.dtype)
        if array.shape[1]:
            new[:, : array.shape[1]] = array
        return new

    def _refuse(self, verb: str, instead: str) -> None:
        if self._step == _CLOSED:
            raise SessionStateError("The session is closed; launch the agent again.")
        raise SessionStateError(f"{verb} was called out of order: {instead}.")

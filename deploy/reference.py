"""The reference target: an in-process simulation of exactly the Network's own dynamics."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import SessionStateError
from ..hardware_profiles.profile import Profile
from ..models.network import Network
from ..models.stimulus import FloatArray, Stimulus
from .backend import Readout, Recording
from .deployment import Deployment, Population, Projection, Window
from .dynamics import advance, drive, pack
from .findings import Finding

_NO_SPIKES = np.zeros((1, 0, 1), dtype=np.uint8)
_NO_TRACES = np.zeros((1, 0, 1))


class ReferenceBackend:
    """Runs a network in this process, in float64, any number of samples at once."""

    cannot: tuple[tuple[str, str], ...] = ()

    def preflight(self, network: Network, profile: Profile) -> list[Finding]:
        """Nothing speaks against any network: the reference is its definition."""
        if profile.mapping != "reference":
            return [Finding("error", f"Mapping '{profile.mapping}' is none of the reference's.", "Use 'reference'.")]
        return []

    def plan(self, network: Network, profile: Profile) -> Deployment:
        """One population per layer, with the Network's own parameters."""
        neuron = network.neuron
        parameters = {
            "threshold": neuron.threshold,
            "reset": neuron.reset if neuron.reset == "zero" else f"subtract {neuron.subtracted}",
            "membrane_decay": neuron.membrane_decay,
            "synapse_decay": neuron.synapse_decay,
            "compare": neuron.compare,
        }
        names = ["input", *(f"layer {i}" for i in range(len(network.layers)))]
        fires = [True] * (len(network.layers) - 1) + [network.output_fires]
        populations = [
            Population(name, layer.n_out, "discrete", parameters, fires=fire, constant_input=layer.neuron_bias)
            for name, layer, fire in zip(names[1:], network.layers, fires, strict=True)
        ]
        source = Population("input", network.n_channels, network.encoder.kind, {}, role="currents")
        projections = [
            Projection(names[i], names[i + 1], layer.connections, float(layer.delay), form=layer.form)
            for i, layer in enumerate(network.layers)
        ]
        return Deployment(
            network=network,
            profile=profile,
            recipe="the network's own discrete dynamics, one target step per step",
            exact=True,
            window=Window(step_ms=1.0, resolution_ms=1.0),
            populations=(source, *populations),
            projections=tuple(projections),
        )

    def open(self, deployment: Deployment, seed: int) -> ReferenceSession:
        """Open a session; the reference draws no random numbers, so `seed` has no effect."""
        return ReferenceSession(deployment.network)


class ReferenceSession:
    """A session of the reference target; see `spikeloop.deploy.backend.Session`."""

    max_batch: int | None = None

    def __init__(self, network: Network) -> None:
        self._network = network
        self._ints, self._floats = pack(network)
        self._neurons = sum(network.sizes)
        self._n_out = network.n_outputs
        self._edges = np.cumsum([0, *network.sizes]).tolist()
        self._depth = max(layer.delay for layer in network.layers)
        self._step = -1  # -1: no window is open; -2: closed
        self._recording = Recording()
        self._allocate(1)

    def _allocate(self, n: int) -> None:
        self._state = np.zeros((n, 2, self._neurons))
        self._ring = np.zeros((n, self._depth, self._neurons))
        self._drives = np.zeros((n, self._network.sizes[0]))

    def reset(self) -> None:
        """End the window before."""
        if self._step == -2:
            raise SessionStateError("The session is closed; launch the agent again.")
        self._step = -1

    def inject(self, stimulus: Stimulus, recording: Recording = Recording()) -> None:  # noqa: B008  # frozen
        """Set the window's input and what to record of it."""
        if self._step != -1:
            self._refuse("inject", "reset first")
        n = len(stimulus.currents)
        if n == len(self._state):
            self._state.fill(0.0)
        else:
            self._allocate(n)
        drive(self._ints, self._floats, stimulus.currents, self._drives)
        self._spikes = _NO_SPIKES if stimulus.spikes is None else stimulus.spikes
        self._recording = recording
        self._keeps_raster = recording.spikes or self._network.output_fires
        self._raster: NDArray[np.uint8] = _NO_SPIKES
        self._traces: FloatArray = _NO_TRACES
        self._step = 0

    def run(self, steps: int) -> None:
        """Advance by `steps` steps."""
        if self._step < 0:
            self._refuse("run", "reset and inject first")
        last = self._step + steps
        if self._keeps_raster:
            self._raster = _extended(self._raster, len(self._state), last, self._neurons, np.uint8)
        if self._recording.potentials:
            self._traces = _extended(self._traces, len(self._state), last, self._neurons, np.float64)
        advance(
            self._ints,
            self._floats,
            self._step,
            last,
            self._drives,
            self._spikes,
            self._state,
            self._ring,
            self._raster,
            self._traces,
        )
        self._step = last

    def read(self) -> Readout:
        """Potentials of the last layer, and what was recorded, after the steps run so far."""
        if self._step < 0:
            self._refuse("read", "reset, inject and run first")
        potentials = self._state[:, 0, -self._n_out :].copy()
        if not (self._keeps_raster or self._recording.potentials):
            return Readout(potentials)
        layers = [slice(a, b) for a, b in zip(self._edges, self._edges[1:], strict=False)]
        spiking = layers[: len(self._network.spiking_sizes)]
        raster = self._raster[:, : self._step].copy()
        return Readout(
            potentials=potentials,
            output_raster=raster[:, :, layers[-1]] if self._network.output_fires else None,
            rasters=tuple(raster[:, :, layer] for layer in spiking) if self._recording.spikes else None,
            traces=tuple(self._traces[:, :, layer] for layer in layers) if self._recording.potentials else None,
        )

    def close(self) -> None:
        """Nothing to give back; the session cannot be used any more."""
        self._step = -2

    def _refuse(self, verb: str, instead: str) -> None:
        if self._step == -2:
            raise SessionStateError("The session is closed; launch the agent again.")
        raise SessionStateError(f"{verb} was called out of order: {instead}.")


def _extended(array: NDArray[np.generic], n: int, steps: int, neurons: int, dtype: type) -> NDArray:  # type: ignore[type-arg]
    new: NDArray = np.zeros((n, steps, neurons), dtype=dtype)  # type: ignore[type-arg]
    if array.shape[1]:
        new[:, : array.shape[1]] = array
    return new

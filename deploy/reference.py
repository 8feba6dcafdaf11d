"""The reference target: an in-process simulation of exactly the Network's own dynamics."""

from __future__ import annotations

import numpy as np

from ..hardware_profiles.profile import Profile
from ..models.network import Network
from ..models.stimulus import Stimulus
from .backend import Readout
from .deployment import Deployment, Population, Projection, Window
from .dynamics import advance, drive, pack
from .findings import Finding
from .software_session import NO_SPIKES, SoftwareSession


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


class ReferenceSession(SoftwareSession):
    """A session of the reference target; see `spikeloop.deploy.backend.Session`."""

    def __init__(self, network: Network) -> None:
        super().__init__(network.sizes, network.output_fires)
        self._ints, self._floats = pack(network)
        self._depth = max(layer.delay for layer in network.layers)
        self._allocate(1)

    def _allocate(self, n: int) -> None:
        self._state = np.zeros((n, 2, self._neurons))
        self._ring = np.zeros((n, self._depth, self._neurons))
        self._drives = np.zeros((n, self._layers[0].stop))

    def _begin(self, stimulus: Stimulus) -> None:
        n = len(stimulus.currents)
        if n == len(self._state):
            self._state.fill(0.0)
        else:
            self._allocate(n)
        drive(self._ints, self._floats, stimulus.currents, self._drives)
        self._spikes = NO_SPIKES if stimulus.spikes is None else stimulus.spikes

    def _advance(self, first: int, last: int) -> None:
        advance(
            self._ints,
            self._floats,
            first,
            last,
            self._drives,
            self._spikes,
            self._state,
            self._ring,
            self._raster,
            self._traces,
        )

    def _readout(self) -> Readout:
        potentials = self._state[:, 0, self._layers[-1]].copy()
        recording = self._recording
        if not (recording.spikes or recording.potentials or self._fires):
            return Readout(potentials)
        raster = self._raster.copy()
        return Readout(
            potentials=potentials,
            output_raster=raster[:, :, self._layers[-1]] if self._fires else None,
            rasters=tuple(raster[:, :, layer] for layer in self._spiking) if recording.spikes else None,
            traces=tuple(self._traces[:, :, layer] for layer in self._layers) if recording.potentials else None,
        )

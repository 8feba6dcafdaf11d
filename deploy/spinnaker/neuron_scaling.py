"""What a layer's weights and biases become on the target under the mapping "pynn". Pure functions.

A neuron that is set to zero when it fires loses what it had above the threshold: of what drives it, about half of one
tick's input over the threshold. Two parameters of a profile's neuron make that loss small for converted networks,
whose meaning is in rates and outlives both:

``slowdown`` s
    Weights into each spiking layer are divided by s, and the biases of layer l by as much as the rates that reach it:
    every input of one tick is s times smaller beside the threshold, and a layer's rates are s times lower than they
    would be. They need a longer window: more steps of the network, or steps of several ticks.
``copies`` K
    Each hidden neuron stands there K times, and a spike of one copy counts 1/K of the neuron's. A tick's input into the
    next layer is smaller by that, and rates are as fine in a window 1/K as long. Copies get the same input, so they
    must differ: they start at staggered potentials, ``(k + 1/2)/K`` thresholds, and their inputs are divided by
    thresholds that lie evenly in ``1 -+ SPREAD/2``.

A step of the network that lasts several ticks counts as so many steps: currents act in each tick. Outputs are read in
the units of a network that was not slowed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...hardware_profiles.profile import NeuronModel, Profile, TimeGrid
from ...models.layers import Connections
from ...models.network import Network
from ...models.stimulus import FloatArray

LEAKY, TRUNCATED = "IF_curr_delta", "IFTruncDelta"
SPREAD = 0.2
MOST_COUNTED = 255  # spikes of one neuron in one step, in a raster


@dataclass(frozen=True, slots=True, eq=False)
class ScaledLayer:
    """A layer as the target gets it, before its weights are rounded.

    Attributes
    ----------
    weights : float64 [pre, post]
        Between copies, where there are some: those of a neuron are side by side.
    bias : float64 [post]
    gains : float64 [post]
        What a current into the layer is multiplied by.
    copies : int
        Of each neuron.
    """

    weights: FloatArray
    bias: FloatArray
    gains: FloatArray
    copies: int


def tables(profile: Profile) -> tuple[TimeGrid, NeuronModel]:
    """The tables that every profile of the mapping "pynn" has."""
    assert profile.time is not None, "the schema requires it"
    assert profile.neuron is not None, "the schema requires it"
    return profile.time, profile.neuron


def dense(connections: Connections) -> FloatArray:
    """Of a layer that the preflight lets pass."""
    assert isinstance(connections, np.ndarray), "the preflight refuses others"
    return connections


def slowdown_of(neuron: NeuronModel) -> float:
    """1 where the profile does not say."""
    return float(neuron.parameters.get("slowdown", 1.0))


def copies_of(neuron: NeuronModel) -> int:
    """1 where the profile does not say."""
    return int(neuron.parameters.get("copies", 1))


def scaled_layers(network: Network, profile: Profile) -> tuple[ScaledLayer, ...]:
    """The layers of `network` as the target gets them."""
    _, neuron = tables(profile)
    slowdown, hidden_copies = slowdown_of(neuron), copies_of(neuron)
    layers = []
    rates, copies_before = 1.0, 1
    for index, layer in enumerate(network.layers):
        last = index == len(network.layers) - 1
        fires = not last or network.output_fires
        gain = 1.0
        if fires:
            gain = _to_threshold(network, neuron) / slowdown
            rates *= slowdown
        copies = 1 if last else hidden_copies
        thresholds = np.tile(1.0 + SPREAD * (staggered(copies) - 0.5), layer.n_out)
        gains = gain / thresholds
        weights = np.repeat(np.repeat(dense(layer.connections), copies_before, axis=0), copies, axis=1)
        # A layer's rates are lower than the network's by `rates` over its own slowdown before it is slowed itself.
        bias = np.repeat(layer.neuron_bias, copies) * gains * (slowdown if fires else 1.0) / rates
        layers.append(ScaledLayer(weights * gains / copies_before, bias, gains, copies))
        copies_before = copies
    return tuple(layers)


def staggered(copies: int) -> FloatArray:
    """Where `copies` points stand evenly in (0, 1): float64 [copies]."""
    return (np.arange(copies) + 0.5) / copies


def _to_threshold(network: Network, neuron: NeuronModel) -> float:
    """IFTruncDelta has a threshold of its own, so weights are brought to it."""
    if neuron.model != TRUNCATED:
        return 1.0
    return 1.0 / (float(neuron.parameters["v_thresh"]) * network.neuron.threshold)


class Readings:
    """What is read from the target, in the Network's terms.

    Parameters
    ----------
    network : Network
    profile : Profile
    """

    def __init__(self, network: Network, profile: Profile) -> None:
        _, neuron = tables(profile)
        copies = copies_of(neuron)
        self._sizes = network.sizes
        self._copies = (*(copies,) * (len(network.layers) - 1), 1)
        # Outputs that fire have a threshold to be seen beside.
        self._scale = 1.0 if network.output_fires else slowdown_of(neuron) ** (len(network.layers) - 1)

    def outputs(self, potentials: FloatArray) -> FloatArray:
        """The output layer's potentials [..., n_out], as if nothing had been slowed."""
        return potentials * self._scale

    def traces(self, layer: int, potentials: FloatArray) -> FloatArray:
        """A layer's potentials [..., target's neurons]: [..., neurons], of copies the mean."""
        if layer == len(self._sizes) - 1:
            return self.outputs(potentials)
        mean: FloatArray = self._of_copies(layer, potentials).mean(axis=-1)
        return mean

    def raster(self, layer: int, counts: NDArray[Any]) -> NDArray[np.uint8]:
        """A layer's spike counts [..., target's neurons]: uint8 [..., neurons], of all copies; 255 stands for more."""
        total = self._of_copies(layer, counts).sum(axis=-1, dtype=np.int64)
        counted: NDArray[np.uint8] = np.minimum(total, MOST_COUNTED).astype(np.uint8)
        return counted

    def _of_copies(self, layer: int, values: NDArray[Any]) -> NDArray[Any]:
        return values.reshape(*values.shape[:-1], self._sizes[layer], self._copies[layer])


def starts(network: Network, profile: Profile, layer: int) -> FloatArray:
    """The potentials that a layer's neurons on the target start at: 0, of copies staggered ones."""
    _, neuron = tables(profile)
    copies = copies_of(neuron)
    size = network.sizes[layer]
    if layer == len(network.layers) - 1 or copies == 1:
        return np.zeros(size)
    threshold = 1.0 if neuron.model == TRUNCATED else float(neuron.parameters["v_thresh"]) * network.neuron.threshold
    return np.tile(_shuffled(staggered(copies)) * threshold, size)


def _shuffled(values: FloatArray) -> FloatArray:
    """In another order than the thresholds', so that the lowest threshold is not always met first."""
    golden = (np.arange(values.size) * 0.6180339887498949) % 1.0
    return values[np.argsort(np.argsort(golden))]

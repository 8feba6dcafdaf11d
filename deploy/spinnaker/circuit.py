"""The decision circuit: a network as integers, and how many of them its neurons can take.

All neurons are sPyNNaker's ``IFTruncDelta``, whose update in a tick of 1 ms is, in exact s16.15 arithmetic::

    V <- max(0, V + E - I)          # E, I: what its ring buffers hold for this tick, 16 bits each, << shift
    fires at V >= 1:  V <- 0

The circuit works in units of ``2**(shift - 15)``, so a layer's threshold is ``2**(15 - shift)``. A network of T steps
and L layers drives each of its layers for ``n = T - L + 1`` steps and more: layer l in the steps ``0 .. n + l - 1``,
of which none later bears on the outputs. Then the layer is flushed: more is taken than it can hold.

The outputs ``o_i`` are compared on the machine, every pair of them: the comparator of ``i < j`` adds up what moves
``o_i - o_j``, starting from 0.5 so that it stays between floor and threshold (`Ranges` says whether it can do else),
and gets another 0.5 with the last of it: it fires if ``o_i >= o_j``. A winner neuron fires if all comparators of its
action do as they must: the first of the largest outputs, as the decoder takes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ...hardware_profiles.profile import Profile
from ...models.network import Network
from ...models.stimulus import FloatArray

Ints = NDArray[np.int64]

ONE = 1 << 15  # of s16.15
RING_MAX = 0xFFFF  # where ring buffers saturate
# An answer says which of so many questions it belongs to: decisions count modulo this.
TAGS = 4


@dataclass(frozen=True, eq=False)
class Circuit:
    """A network's integers.

    Attributes
    ----------
    bits : int
        Of each input.
    shifts : tuple of int
        Each layer's ring-buffer shift.
    weights, biases : tuple of int64 [n_in, n_out] and [n_out]
        In units of their layer; the first layer's are per unit of input.
    """

    network: Network
    bits: int
    shifts: tuple[int, ...]
    weights: tuple[Ints, ...]
    biases: tuple[Ints, ...]

    @property
    def steps(self) -> int:
        """The network's window."""
        return self.network.steps

    @property
    def drives(self) -> int:
        """Steps in which the input drives the first layer."""
        return self.network.steps - len(self.weights) + 1

    @property
    def depth(self) -> int:
        """Layers, the outputs included."""
        return len(self.weights)

    @property
    def n_actions(self) -> int:
        """Outputs."""
        return self.network.n_outputs

    def threshold(self, layer: int) -> int:
        """Of a layer, in its units."""
        return ONE >> self.shifts[layer]

    def active(self, layer: int) -> int:
        """Steps in which a layer is driven."""
        return self.drives + layer

    @cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Who is compared with whom, in the comparators' order."""
        return tuple(combinations(range(self.n_actions), 2))

    @cached_property
    def differences(self) -> tuple[Ints, Ints]:
        """The comparators' weights [n_hidden, pairs] and biases [pairs], in units of the last layer."""
        first, second = (np.array([pair[i] for pair in self.pairs]) for i in (0, 1))
        weights, bias = self.weights[-1], self.biases[-1]
        return weights[:, first] - weights[:, second], bias[first] - bias[second]


def unit(shift: int) -> float:
    """What 1 stands for in weights of a layer with that ring-buffer shift."""
    return 2.0 ** (shift - 15)


def shifts_of(network: Network, profile: Profile) -> tuple[int, ...]:
    """Each layer's ring-buffer shift."""
    assert profile.circuit is not None, "the schema requires it"
    hidden = len(network.layers) - 1
    return (profile.circuit.hidden_shift,) * hidden + (profile.circuit.output_shift,)


def circuit_of(network: Network, profile: Profile) -> Circuit:
    """The integers of a network that the preflight lets pass."""
    shifts = shifts_of(network, profile)
    assert network.encoder.bits is not None, "the preflight sees to it"
    return Circuit(
        network,
        network.encoder.bits,
        shifts,
        tuple(_whole(layer.weights, shift) for layer, shift in zip(network.layers, shifts, strict=True)),
        tuple(_whole(layer.neuron_bias, shift) for layer, shift in zip(network.layers, shifts, strict=True)),
    )


def _whole(values: FloatArray, shift: int) -> Ints:
    return np.rint(values / unit(shift)).astype(np.int64)


def off_grid(values: FloatArray, shift: int) -> int:
    """How many of the values are no multiples of the layer's unit."""
    scaled = values / unit(shift)
    return int(np.count_nonzero(scaled != np.rint(scaled)))


@dataclass(frozen=True, slots=True, eq=False)
class Ranges:
    """The most that can come together in one tick, or in a window, whatever the observation.

    Attributes
    ----------
    excitation, inhibition : tuple of int64 [n_out], one per layer but the last
        In a tick, in units of the layer.
    highest, lowest : int64 [pairs]
        That a comparator's sum can reach within a window, relative to its start.
    """

    excitation: tuple[Ints, ...]
    inhibition: tuple[Ints, ...]
    highest: Ints
    lowest: Ints


def ranges_of(circuit: Circuit) -> Ranges:
    """Worst cases: all neurons before fire in every step; inputs have the worst of their codes."""
    excitation, inhibition = [], []
    for index in range(circuit.depth - 1):
        weights, bias = circuit.weights[index], circuit.biases[index]
        positive, negative = np.maximum(weights, 0), np.maximum(-weights, 0)
        if index == 0:
            # In two's complement the highest bit counts negatively, and can be set together with all others.
            top = 1 << (circuit.bits - 1)
            positive, negative = positive * (top - 1) + negative * top, negative * (top - 1) + positive * top
        excitation.append(positive.sum(axis=0) + np.maximum(bias, 0))
        inhibition.append(negative.sum(axis=0) + np.maximum(-bias, 0))
    weights, bias = circuit.differences
    spikes, steps = circuit.active(circuit.depth - 2), circuit.steps
    return Ranges(
        tuple(excitation),
        tuple(inhibition),
        np.maximum(weights, 0).sum(axis=0) * spikes + np.maximum(bias, 0) * steps,
        np.minimum(weights, 0).sum(axis=0) * spikes + np.minimum(bias, 0) * steps,
    )

"""Probe networks: single neurons and pairs of them, side by side, with inputs made for one departure each.

Chains of one neuron a layer share a network so that a target is opened few times: they do not touch each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...hardware_profiles.profile import Profile
from ...models.encoders import Encoder
from ...models.network import Dense, Network, Neuron
from ...models.stimulus import FloatArray, Stimulus

STEPS = 20
LEAKY = Neuron(reset="zero", membrane_decay=0.9, synapse_decay=0.5)
HIGHEST_INPUT = 60_000.0  # of s16.15 numbers, which end at 65536


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """A network, and the windows that it is given; the samples of `stimulus`."""

    name: str
    network: Network
    stimulus: Stimulus


def probes_for(profile: Profile) -> list[Probe]:
    """The probes that a profile's mapping takes; its preflight may refuse some of their dynamics."""
    if profile.circuit is not None:
        return [_circuit(profile)]
    neurons = {"reset by subtraction": Neuron(), "leak and synaptic currents": LEAKY}
    # Machines take seconds to load, and random targets run every window many times.
    if profile.machine is None and not profile.stochastic:
        neurons |= {"ties that fire": Neuron(compare=">="), "reset to zero": Neuron(reset="zero")}
    found = [_chains(name, neuron) for name, neuron in neurons.items()]
    return [*found, *_loud_output(profile)]


# From each channel one neuron, from which one neuron, from which one output. All but the third are fed by currents:
#   0  a pair with plain weights: below, at, above and far above the threshold
#   1  the first neuron inhibits the second, which a bias drives up again
#   2  nothing but injected spikes, and long silence after them
#   3  weights, currents and biases that no binary fraction holds
_FIRST = (1.0, 0.75, 1.25, 0.7301)
_SECOND = (0.75, -1.5, 1.0, 0.61132)
_OUTPUT = (1.0, 0.5, -0.75, 0.33071)
_BIASES = ((0.0, 0.25, 0.0, 0.0713), (0.0, 0.375, 0.0, 0.0291), (0.125, 0.0, 0.0, 0.0117))
_CURRENTS = (
    (0.3125, 0.4375, 0.0, 0.2003),
    (0.5, 1.0, 0.0, 0.4007),  # exact ties
    (1.0, -0.5, 0.0, 0.9001),
    (3.75, 2.0, 0.0, 1.7003),  # several spikes a step, where time steps are shorter than steps
    (-0.625, 0.1875, 0.0, -0.3001),
)


def _chains(name: str, neuron: Neuron) -> Probe:
    layers = tuple(
        Dense(np.diag(weights), np.array(biases))
        for weights, biases in zip((_FIRST, _SECOND, _OUTPUT), _BIASES, strict=True)
    )
    currents = np.array(_CURRENTS)
    spikes = np.zeros((len(currents), STEPS, 4), dtype=np.uint8)
    spikes[0, 2, 2] = 1
    spikes[1, [0, 3], 2] = 1
    spikes[2, 1, 2] = 2
    spikes[3, [4, 5, STEPS - 1], 2] = 1
    # An encoder of spikes, so that a machine has sources for them from the beginning.
    network = Network(layers, STEPS, neuron, Encoder("equidistant"), name=name)
    return Probe(name, network, Stimulus(currents, spikes))


def _loud_output(profile: Profile) -> list[Probe]:
    """One neuron, an output that is driven over its threshold within the window, where it has one."""
    neuron, time = profile.neuron, profile.time
    if neuron is None or time is None or "v_thresh_output" not in neuron.parameters:
        return []
    threshold, tau, capacity = (float(neuron.parameters[name]) for name in ("v_thresh_output", "tau_m", "cm"))
    asymptote = max(2.0 * threshold, min(6.0 * threshold, HIGHEST_INPUT - threshold))
    if asymptote >= HIGHEST_INPUT:
        return []
    # A little longer than the potential needs for its way towards the asymptote.
    ticks = -tau * np.log1p(-threshold / asymptote) / time.resolution_ms
    steps = int(1.2 * ticks * time.resolution_ms / time.step_ms) + 3
    name = "an output over its threshold"
    network = Network((Dense(np.ones((1, 1))),), steps, Neuron(), name=name)
    return [Probe(name, network, Stimulus(np.array([[asymptote * capacity / tau]])))]


def _circuit(profile: Profile) -> Probe:
    """The like of it on the grid of a decision circuit, with inputs of whole numbers."""
    assert profile.circuit is not None, "asked for by its caller"
    bits = profile.circuit.input_bits
    most = 2.0 ** (bits - 1)
    hidden, output = (2.0 ** (shift - 15) for shift in (profile.circuit.hidden_shift, profile.circuit.output_shift))

    def on_grid(values: FloatArray, grid: float) -> FloatArray:
        return np.rint(values / grid) * grid

    # Outputs must not differ by half a threshold in a window, whatever fires.
    loudest = 0.2 / (STEPS * sum(abs(weight) for weight in _OUTPUT))
    codes = np.array(
        [
            [0.3, 0.4, 0.2, 0.1],
            [0.5, 0.9, 0.5, 0.4],
            [0.9, -0.5, 0.1, 0.9],
            [-0.6, -0.2, 0.9, 0.6],  # rare inhibition, after which there is time to recover from the floor
        ]
    )
    layers = (
        Dense(on_grid(np.diag(_FIRST) / most, hidden), on_grid(np.array(_BIASES[0]), hidden)),
        Dense(on_grid(np.diag(_SECOND), hidden), on_grid(np.array(_BIASES[1]), hidden)),
        Dense(on_grid(np.diag(_OUTPUT) * loudest, output), np.zeros(4)),
    )
    encoder = Encoder(bits=bits, resolution=(1.0,) * 4)
    network = Network(layers, STEPS, Neuron(reset="zero", compare=">="), encoder, name="circuit of chains")
    return Probe(network.name, network, Stimulus(np.rint(codes * (most - 1))))

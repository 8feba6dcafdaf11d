"""The mapping "pynn": every neuron of the network is one neuron of PyNN, as in the thesis. Pure functions.

Constant input goes in as ``i_offset``, the first layer's with the observation's share; spikes through a spike source,
whose spike of a step is sent in that step's first tick. Signs need two projections between two layers, because
sPyNNaker takes absolute values.

On SpiNNaker a weight is a whole number of 16 bits, in units of ``2**(shift - 15)``. sPyNNaker guesses a shift for each
receptor; here the plan states them: the smallest with which no ring buffer saturates although every neuron before
fires in one tick.

``IFTruncDelta`` ignores v_thresh: its threshold is the time step, 1 at 1 ms. So weights and biases are divided by the
threshold wanted. It never falls below v_reset, so where the output layer is read by its potential that layer is
IF_curr_delta all the same.

The profile can slow the network down and put several copies of each hidden neuron on the target; see `neuron_scaling`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...hardware_profiles.profile import NeuronModel, Profile, TimeGrid
from ...models.network import Network
from ...models.stimulus import FloatArray
from ..deployment import Deployment, Population, Projection, Window
from ..dynamics import drive, pack
from .neuron_scaling import LEAKY, TRUNCATED, scaled_layers, tables

RING_MAX = 0xFFFF  # where ring buffers saturate
MOST_SHIFT = 15
SHIFTS = "ring_buffer_shifts"  # of a population's parameters: what is for sPyNNaker rather than the neuron


def plan(network: Network, profile: Profile) -> Deployment:
    """What SpiNNaker will get: weights as its synapses hold them."""
    return _plan(network, profile, on_spinnaker=True)


def plan_for_nest(network: Network, profile: Profile) -> Deployment:
    """The same populations and projections for a simulator whose weights are not rounded."""
    return _plan(network, profile, on_spinnaker=False)


def _plan(network: Network, profile: Profile, *, on_spinnaker: bool) -> Deployment:
    time, neuron = tables(profile)
    populations, projections = [], []
    for index, (layer, scaled) in enumerate(zip(network.layers, scaled_layers(network, profile), strict=True)):
        fires = index < len(network.layers) - 1 or network.output_fires
        model, parameters = _neuron(network, neuron, fires)
        weights = scaled.weights
        if on_spinnaker:
            shifts = shifts_of(weights)
            parameters[SHIFTS] = list(shifts)
            weights = whole_weights(weights, shifts) * np.where(weights < 0, unit(shifts[1]), unit(shifts[0]))
        name = f"layer {index}"
        size = layer.n_out * scaled.copies
        populations.append(Population(name, size, model, parameters, fires=fires, constant_input=scaled.bias))
        source = f"layer {index - 1}" if index else "spikes"
        projections.append(Projection(source, name, weights, delay_ms(time, layer.delay), form=layer.form))
    spikes = Population("spikes", network.n_channels, "SpikeSourceArray", {}, role="spikes")
    models = " and ".join(dict.fromkeys(p.model for p in populations))
    return Deployment(
        network=network,
        profile=profile,
        recipe=f"{models} with the profile's own parameters, {time.resolution_ms:g} ms time step, input by i_offset",
        exact=False,
        window=Window(time.step_ms, time.resolution_ms),
        populations=(spikes, *populations),
        projections=tuple(projections),
    )


def delay_ms(time: TimeGrid, delay: int) -> float:
    """Of the spikes that arrive at a layer with this delay, in steps of the Network."""
    return time.delay_ms + (delay - 1) * time.step_ms


def _neuron(network: Network, neuron: NeuronModel, fires: bool) -> tuple[str, dict[str, Any]]:
    """Model and parameters of a layer, in PyNN's names."""
    given = {name: float(value) for name, value in neuron.parameters.items()}
    if neuron.model == TRUNCATED and fires:
        # A v_thresh other than 0 would be taken for the synapses' first input: the firmware expects none.
        parameters = {"tau_m": 1.0, "cm": 1.0, "v_reset": given["v_reset"], "tau_refrac": given["tau_refrac"]}
        return TRUNCATED, parameters | {"v_thresh": 0.0}
    # The profile's thresholds are in units of the network's own.
    threshold = given["v_thresh" if fires else "v_thresh_output"] * network.neuron.threshold
    parameters = {name: given[name] for name in ("tau_m", "cm", "v_rest", "v_reset", "tau_refrac")}
    return LEAKY, parameters | {"v_thresh": threshold}


def unit(shift: int) -> float:
    """The potential that an integer weight of 1 stands for."""
    return 2.0 ** (shift - 15)


def shifts_of(weights: FloatArray) -> tuple[int, int]:
    """The ring-buffer shifts of both receptors for weights [pre, post]."""
    return _shift(np.maximum(weights, 0.0)), _shift(np.maximum(-weights, 0.0))


def _shift(weights: FloatArray) -> int:
    for shift in range(MOST_SHIFT + 1):
        if np.rint(weights / unit(shift)).sum(axis=0).max(initial=0.0) <= RING_MAX:
            return shift
    return MOST_SHIFT + 1  # the preflight refuses it


def whole_weights(weights: FloatArray, shifts: tuple[int, int] | list[int]) -> FloatArray:
    """Integer weights, negative where they inhibit, as sPyNNaker rounds those of a list: to nearest, ties to even."""
    return np.rint(np.where(weights < 0, weights / unit(shifts[1]), weights / unit(shifts[0])))


def expected_sums(shifts: tuple[int, int] | list[int]) -> list[float]:
    """``max_expected_summed_weight`` that makes sPyNNaker choose these shifts."""
    return [0.9 * 2.0**shift for shift in shifts]


class FirstLayer:
    """What the first layer's neurons get as i_offset, computed as the reference computes its drive.

    Parameters
    ----------
    deployment : by the mapping "pynn"
    """

    def __init__(self, deployment: Deployment) -> None:
        network = deployment.network
        self._ints, self._floats = pack(network, 1)
        first = scaled_layers(network, deployment.profile)[0]
        self._gains, self._copies = first.gains, first.copies
        self._size = network.sizes[0]

    def offsets(self, currents: FloatArray) -> FloatArray:
        """For currents [n, n_channels]: [n, neurons on the target]."""
        out = np.zeros((len(currents), self._size))
        drive(self._ints, self._floats, currents, out)
        return np.repeat(out, self._copies, axis=1) * self._gains

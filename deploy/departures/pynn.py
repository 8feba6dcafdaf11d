"""PyNN's neurons, on NEST and SpiNNaker: which dynamics each departure gives.

Potentials of a leaky neuron are counted from its v_rest. Where the model is IFTruncDelta, layers that fire have weights
and potentials in units of that model's threshold, which is 1, with departures and without.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from ...hardware_profiles.profile import Profile
from ...models.stimulus import FloatArray
from ..deployment import Deployment, Population
from ..spinnaker import neuron_mapping, neuron_scaling
from ..spinnaker.firmware_math import accum_of, divided, exponential
from .dynamics import Dynamics, FixedPoint, Layer, Membrane
from .own import Grid, Kinds, loss, own, with_delays, with_reset

ONE = 1 << 15


def pynn(deployment: Deployment, kinds: Kinds) -> Dynamics:
    """The dynamics of a deployment by the mapping "pynn" with the departures `kinds`."""
    time, neuron = neuron_scaling.tables(deployment.profile)
    network, grid = deployment.network, Grid.of(time, kinds)
    on_spinnaker = deployment.profile.target != "pynn-nest"
    precise = on_spinnaker and "state precision" in kinds
    truncates = neuron.model == neuron_scaling.TRUNCATED
    populations = [deployment.population(f"layer {index}") for index in range(len(network.layers))]
    leaky = [population.model == neuron_scaling.LEAKY for population in populations]
    parameters = {name: float(value) for name, value in neuron.parameters.items()}
    rests = [parameters["v_rest"] if one else 0.0 for one in leaky]

    def above(value: float, rest: float) -> float:
        return _s1615(value) - _s1615(rest) if precise else value - rest

    found = own(network, grid.per_own, grid.per_step, grid.tick_ms)
    if truncates:
        found = _in_units(found, parameters["v_thresh"] * network.neuron.threshold, leaky)
    if truncates or "rate coding" in kinds:
        found = _scaled(found, deployment, "rate coding" in kinds)
    if "weight precision" in kinds and on_spinnaker:
        found = replace(found, layers=tuple(_rounded(layer) for layer in found.layers))
    if "delay" in kinds:
        projections = [next(p for p in deployment.projections if p.target == one.name) for one in populations]
        found = with_delays(found, projections, grid)
        found = replace(found, bias_at=0, input_at=0, spikes_at=found.layers[0].delay)
    leak = (1.0, 1.0, 1.0)
    if "leak" in kinds:
        tau, capacity = parameters["tau_m"], parameters["cm"]
        decay = math.exp(-grid.tick_ms / tau)
        gain = tau / capacity * (1.0 - decay)
        # SpiNNaker's synapses give currents for a tick rather than charges.
        leak = (gain, decay, gain / grid.tick_ms if on_spinnaker else 1.0)
        gain, decay, spike_gain = leak if leaky[0] else (1.0, 1.0, 1.0)
        found = replace(found, gain=gain, decay=decay, spike_gain=spike_gain)
    if "threshold" in kinds:
        layers = []
        for layer, population, rest in zip(found.layers, populations, rests, strict=True):
            threshold = 1.0
            if population.model == neuron_scaling.LEAKY:
                threshold = above(float(population.parameters["v_thresh"]), rest)
            fires = np.isfinite(layer.threshold)
            zero = above(0.0, rest)
            # To the unit in which potentials are counted, start potentials are what is planned, whatever v_rest is.
            start = np.array([above(value, rest) for value in layer.start.tolist()])
            threshold_of = np.where(fires, threshold, layer.threshold)
            layers.append(replace(layer, threshold=threshold_of, start=start, zero=zero))
        found = replace(found, layers=tuple(layers))
    if "output threshold" in kinds and not network.output_fires:
        outputs = found.layers[-1]
        highest = above(float(populations[-1].parameters["v_thresh"]), rests[-1])
        outputs = replace(outputs, threshold=np.full(outputs.size, highest))
        found = found.with_layer(len(found.layers) - 1, outputs)
    if "reset" in kinds:
        found = with_reset(found, "zero", 1.0, above(parameters["v_reset"], rests[0]))
    if "refractory" in kinds:
        ticks = grid.ticks_to_wait(parameters["tau_refrac"])
        found = replace(found, refractory=ticks, holds=ticks > 0)
    if "order" in kinds:
        found = replace(found, strict=False, late=False, spike_shift=0)
    if "synapse" in kinds:
        found = replace(found, synapse_decay=0.0, synapse_gain=1.0)
    if "floor" in kinds and not leaky[0]:
        found = replace(found, floor=above(parameters["v_reset"], 0.0))
    if leaky[-1] != leaky[0]:  # the outputs of IFTruncDelta's networks are leaky neurons
        gain, decay, spike_gain = leak if "leak" in kinds else (found.gain, found.decay, found.spike_gain)
        reset_to = above(parameters["v_reset"], rests[-1]) if "reset" in kinds else found.reset_to
        membrane = Membrane(gain, decay, spike_gain, reset_to, -math.inf)
        found = found.with_layer(len(found.layers) - 1, replace(found.layers[-1], membrane=membrane))
    if "input quantisation" in kinds and on_spinnaker:
        found = replace(found, input_unit=1.0 / ONE)
    if precise:
        layers = [
            replace(
                layer,
                fixed=_fixed(population, grid, "leak" in kinds, found),
                threshold=_s1615s(layer.threshold),
                start=_s1615s(layer.start),
            )
            for layer, population in zip(found.layers, populations, strict=True)
        ]
        found = replace(found, layers=tuple(layers), reset_to=_s1615(found.reset_to))
    return replace(found, loss=loss(deployment, kinds))


def _in_units(found: Dynamics, unit: float, leaky: list[bool]) -> Dynamics:
    """Thresholds, and what resets take, of IFTruncDelta; its weights are scaled with those of all layers."""
    layers = tuple(
        layer if one else replace(layer, threshold=layer.threshold / unit, taken=layer.taken / unit)
        for layer, one in zip(found.layers, leaky, strict=True)
    )
    return replace(found, layers=layers)


def _scaled(found: Dynamics, deployment: Deployment, rate_coding: bool) -> Dynamics:
    """Weights in units of the model's threshold; copies of each hidden neuron with smaller ones: `neuron_scaling`."""
    network, profile = deployment.network, deployment.profile
    if not rate_coding:
        profile = _without_scaling(profile)
    layers, copies = [], []
    for index, (layer, scaled) in enumerate(
        zip(found.layers, neuron_scaling.scaled_layers(network, profile), strict=True)
    ):
        layers.append(
            replace(
                layer,
                weights=scaled.weights,
                bias=scaled.bias,
                gains=scaled.gains,
                threshold=np.repeat(layer.threshold, scaled.copies),
                taken=np.repeat(layer.taken, scaled.copies),
                start=neuron_scaling.starts(network, profile, index),
            )
        )
        copies.append(scaled.copies)
    scale = float(neuron_scaling.Readings(network, profile).outputs(np.ones(1))[0])
    return replace(found, layers=tuple(layers), copies=tuple(copies), output_scale=scale)


def _without_scaling(profile: Profile) -> Profile:
    _, neuron = neuron_scaling.tables(profile)
    parameters = {name: value for name, value in neuron.parameters.items() if name not in ("slowdown", "copies")}
    return profile.model_copy(update={"neuron": neuron.model_copy(update={"parameters": parameters})})


def _rounded(layer: Layer) -> Layer:
    """Weights of 16 bits, at the ring-buffer shifts that fit them."""
    weights = neuron_scaling.dense(layer.weights)
    shifts = neuron_mapping.shifts_of(weights)
    units = np.where(weights < 0, neuron_mapping.unit(shifts[1]), neuron_mapping.unit(shifts[0]))
    return replace(layer, weights=neuron_mapping.whole_weights(weights, shifts) * units, shifts=shifts)


def _fixed(population: Population, grid: Grid, leaks: bool, found: Dynamics) -> FixedPoint:
    """The firmware's constants where the leak is the target's; else the like of them."""
    parameters = {
        name: accum_of(float(v)) for name, v in population.parameters.items() if name != neuron_mapping.SHIFTS
    }
    if not leaks:
        return FixedPoint(accum_of(found.gain), accum_of(found.decay), ONE, False)
    step = accum_of(grid.tick_ms)
    resistance, per_ms = divided(parameters["tau_m"], parameters["cm"]), divided(ONE, step)
    if population.model == neuron_scaling.TRUNCATED:
        return FixedPoint(resistance, ONE, per_ms, False)
    return FixedPoint(resistance, exponential(-divided(step, parameters["tau_m"])), per_ms, True)


def _s1615(value: float) -> float:
    return accum_of(value) / ONE if math.isfinite(value) else value


def _s1615s(values: FloatArray) -> FloatArray:
    return np.array([_s1615(value) for value in values.tolist()])

"""From a deployment and the departures to adopt, to the dynamics that have these and no others.

Each kind of departure stands for a group of values: adopted, they are the target's, else the Network's own. Both are
stated in Network steps of 1 ms and become ticks at the end, because one departure is the length of a tick.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from typing import get_args

import numpy as np

from ...hardware_profiles.profile import DepartureKind, TimeGrid
from ...models.layers import Sparse
from ...models.network import Network
from ..deployment import Deployment, Population, Projection
from ..spinnaker import neuron_mapping, neuron_scaling
from ..spinnaker.circuit import circuit_of, unit
from ..spinnaker.firmware_math import accum_of, divided, exponential
from .dynamics import NEVER, Dynamics, FixedPoint, Layer, Noise

STEP_MS = 1.0  # of the Network, wherever a profile does not depart from it
ONE = 1 << 15

Kinds = Collection[DepartureKind]


def departed(deployment: Deployment, kinds: Kinds) -> Dynamics:
    """The dynamics of the deployment's network with the departures `kinds` of its profile.

    With all that the profile declares, the dynamics are the target's; with none the Network's own, up to rounding.
    Kinds that the profile does not depart by change nothing.
    """
    mapping = deployment.profile.mapping
    if mapping == "point_neuron":
        return _point_neuron(deployment, kinds)
    if mapping == "pynn":
        return _pynn(deployment, kinds)
    if mapping == "decision_circuit":
        return _circuit(deployment, kinds)
    return _own(deployment.network)


def effective(deployment: Deployment) -> tuple[DepartureKind, ...]:
    """The kinds by which the deployment departs from this network at all, declared or not."""
    kinds: tuple[DepartureKind, ...] = get_args(DepartureKind)
    everything, nothing = signature(departed(deployment, kinds)), signature(departed(deployment, ()))
    return tuple(
        kind
        for kind in kinds
        if signature(departed(deployment, (kind,))) != nothing
        or signature(departed(deployment, [other for other in kinds if other != kind])) != everything
    )


def signature(dynamics: Dynamics) -> bytes:
    """A digest that equal dynamics of the same network share."""
    digest = hashlib.sha256()
    parts: tuple[Dynamics | Layer, ...] = (dynamics, *dynamics.layers)
    for one in parts:
        for item in fields(one):
            value = getattr(one, item.name)
            if isinstance(value, Sparse):
                value = value.values
            if isinstance(value, np.ndarray):
                digest.update(np.ascontiguousarray(value).tobytes())
            elif item.name not in ("network", "layers"):
                digest.update(repr(value).encode())
    return digest.digest()


# --- the Network's own ------------------------------------------------------------------------------------------------


def _own(network: Network, ticks: int = 1, step_ticks: int = 1, tick_ms: float = STEP_MS) -> Dynamics:
    """With so many ticks in a step as the Network means it, and in a step as it is run."""
    neuron = network.neuron
    beta, alpha = neuron.membrane_decay, neuron.synapse_decay
    decay, faded = beta ** (1 / ticks), alpha ** (1 / ticks)
    last = len(network.layers) - 1
    layers = [
        Layer(
            weights=layer.connections,
            bias=layer.neuron_bias,
            threshold=np.full(layer.n_out, neuron.threshold if index < last or network.output_fires else NEVER),
            taken=np.full(layer.n_out, neuron.subtracted),
            start=np.zeros(layer.n_out),
            gains=np.ones(layer.n_out),
            delay=(layer.delay + 1) * ticks,
        )
        for index, layer in enumerate(network.layers)
    ]
    return Dynamics(
        network=network,
        layers=tuple(layers),
        input_weights=network.layers[0].connections,
        ticks_per_step=step_ticks,
        tick_s=tick_ms * 1e-3,
        bias_at=ticks,
        input_at=ticks,
        spikes_at=ticks,
        gain=1.0 / ticks if beta == 1 else (1.0 - decay) / (1.0 - beta),
        decay=decay,
        synapse_decay=faded,
        synapse_gain=(1.0 - faded) / (1.0 - alpha),
        reset=neuron.reset,
        late=neuron.reset == "subtract",
        # After a reset to zero, the Network drops the input of one step.
        refractory=ticks if neuron.reset == "zero" else 0,
        holds=neuron.reset == "zero",
        strict=neuron.compare == ">",
        spike_shift=1,
        copies=(1,) * len(layers),
    )


@dataclass(frozen=True, slots=True)
class _Grid:
    """Time with the departures adopted.

    Attributes
    ----------
    tick_ms : float
    per_own : int
        Ticks in what would be a step of the Network without departures.
    per_step : int
        Ticks in a step.
    """

    tick_ms: float
    per_own: int
    per_step: int

    @classmethod
    def of(cls, time: TimeGrid, kinds: Kinds) -> _Grid:
        own_ms = max(STEP_MS, time.resolution_ms)
        tick_ms = time.resolution_ms if "time step" in kinds else own_ms
        step_ms = time.step_ms if "step length" in kinds else own_ms
        return cls(tick_ms, round(own_ms / tick_ms), max(1, round(step_ms / tick_ms)))

    def ticks(self, time_ms: float) -> int:
        """Of a delay: at least 1."""
        return max(1, round(time_ms / self.tick_ms))

    def ticks_to_wait(self, time_ms: float) -> int:
        """Of a refractory time."""
        return math.ceil(round(time_ms / self.tick_ms, 6))


def _reset(given: Dynamics, kind: str, threshold: float, reset_to: float) -> Dynamics:
    """The target's reset, which is immediate whatever the Network's is."""
    if kind == "subtract":
        return replace(_taking(given, threshold), reset="subtract")
    return replace(given, reset="zero", reset_to=reset_to, late=False)


def _taking(given: Dynamics, taken: float) -> Dynamics:
    layers = tuple(replace(layer, taken=np.full(layer.size, taken)) for layer in given.layers)
    return replace(given, layers=layers)


# --- NEST's point neurons ---------------------------------------------------------------------------------------------


def _point_neuron(deployment: Deployment, kinds: Kinds) -> Dynamics:
    time, neuron = neuron_scaling.tables(deployment.profile)
    network, grid = deployment.network, _Grid.of(time, kinds)
    found = _own(network, grid.per_own, grid.per_step, grid.tick_ms)
    first = deployment.population("layer 0")
    parameters = {name: float(value) for name, value in neuron.parameters.items()}
    rest, tau = parameters.get("E_L", 0.0), parameters["tau_m"]
    arriving = {p.target: p for p in deployment.projections if p.source != "currents"}
    projections = [arriving[f"layer {index}"] for index in range(len(network.layers))]
    latched = next((p for p in deployment.projections if p.source == "currents"), None)
    if "delay" in kinds:
        found = _arrivals(found, projections, grid)
        found = replace(
            found,
            bias_at=0,
            input_at=0 if latched is None else grid.ticks(latched.delay_ms) + 1,
            # A spike generator's spike of step t has the time of the tick before the step.
            spikes_at=found.layers[0].delay - 1,
        )
    if "leak" in kinds:
        decay = math.exp(-grid.tick_ms / tau)
        capacity = parameters["C_m"]
        subtracts = neuron.model == "eprop_iaf"
        gain = tau / capacity * (1.0 - decay) if subtracts else 1.0 / capacity * (1.0 - decay) * tau
        found = replace(found, decay=decay, gain=gain)
        found = replace(found, adaptation_decay=math.exp(-grid.tick_ms / parameters.get("tau_sfa", math.inf)))
    threshold = network.neuron.threshold
    if "threshold" in kinds:
        threshold = 0.0 if "V_th" not in parameters else parameters["V_th"] * network.neuron.threshold - rest
        layers = [
            replace(
                layer,
                threshold=np.where(np.isfinite(layer.threshold), threshold, NEVER),
                start=np.full(layer.size, first.start - rest),
            )
            for layer in found.layers
        ]
        found = replace(found, layers=tuple(layers))
    if "reset" in kinds:
        if neuron.reset == "none":
            found = _taking(found, parameters.get("q_sfa", 0.0))
            found = replace(found, reset="none", adapts=True, late=False)
        else:
            found = _reset(found, neuron.reset, threshold, parameters.get("V_reset", rest) - rest)
    if "refractory" in kinds:
        refractory = max(parameters.get(name, 0.0) for name in ("t_ref", "dead_time"))
        ticks = grid.ticks_to_wait(refractory)
        if neuron.model == "eprop_iaf":  # which counts down before it tests
            ticks = max(0, ticks - 1)
        found = replace(found, refractory=ticks, holds=ticks > 0 and neuron.model == "iaf_psc_delta")
    if "order" in kinds:
        found = replace(found, strict=False, late=False, spike_shift=deployment.window.spike_shift)
    if "synapse" in kinds:
        found = replace(found, synapse_decay=0.0, synapse_gain=1.0)
    if "noise" in kinds and neuron.model == "pp_psc_delta":
        found = replace(found, noise=Noise(*(parameters[name] for name in ("c_1", "c_2", "c_3"))))
    return found


def _arrivals(found: Dynamics, projections: list[Projection], grid: _Grid) -> Dynamics:
    """The target's synaptic delays."""
    layers = [
        replace(layer, delay=grid.ticks(projection.delay_ms))
        for layer, projection in zip(found.layers, projections, strict=True)
    ]
    return replace(found, layers=tuple(layers))


# --- PyNN's, on NEST and SpiNNaker ------------------------------------------------------------------------------------


def _pynn(deployment: Deployment, kinds: Kinds) -> Dynamics:
    time, neuron = neuron_scaling.tables(deployment.profile)
    network, grid = deployment.network, _Grid.of(time, kinds)
    on_spinnaker = deployment.profile.target != "pynn-nest"
    populations = [deployment.population(f"layer {index}") for index in range(len(network.layers))]
    projections = [next(p for p in deployment.projections if p.target == one.name) for one in populations]
    found = _own(network, grid.per_own, grid.per_step, grid.tick_ms)
    # IFTruncDelta's threshold is 1, to which weights are brought.
    if "rate coding" in kinds or neuron.model == neuron_scaling.TRUNCATED:
        found = _slowed(found, deployment)
    if "weight precision" in kinds and on_spinnaker:
        found = replace(
            found,
            layers=tuple(_rounded(layer) for layer in found.layers),
        )
    if "delay" in kinds:
        found = _arrivals(found, projections, grid)
        found = replace(found, bias_at=0, input_at=0, spikes_at=found.layers[0].delay)
    parameters = {name: float(value) for name, value in neuron.parameters.items()}
    tau, capacity = parameters["tau_m"], parameters["cm"]
    rest = parameters["v_rest"] if neuron.model == neuron_scaling.LEAKY else 0.0
    leaks = "leak" in kinds and neuron.model == neuron_scaling.LEAKY
    if leaks:
        decay = math.exp(-grid.tick_ms / tau)
        gain = tau / capacity * (1.0 - decay)
        found = replace(found, decay=decay, gain=gain)
        if on_spinnaker:  # whose synapses give currents for a tick rather than charges
            found = replace(found, spike_gain=gain / grid.tick_ms)
    outputs = found.layers[-1]
    if "threshold" in kinds and neuron.model == neuron_scaling.LEAKY:
        layers = [
            replace(layer, threshold=np.full(layer.size, float(population.parameters["v_thresh"]) - rest))
            for layer, population in zip(found.layers, populations, strict=True)
        ]
        if not network.output_fires:
            layers[-1] = replace(layers[-1], threshold=outputs.threshold)
        layers = [replace(layer, start=layer.start - rest) for layer in layers]
        found = replace(found, layers=tuple(layers))
    if "output threshold" in kinds and not network.output_fires:
        highest = np.full(outputs.size, float(populations[-1].parameters["v_thresh"]) - rest)
        found = found.with_layer(-1 % len(found.layers), replace(found.layers[-1], threshold=highest))
    if "reset" in kinds:
        found = _reset(found, "zero", 1.0, parameters["v_reset"] - rest)
    if "refractory" in kinds:
        ticks = grid.ticks_to_wait(parameters["tau_refrac"])
        found = replace(found, refractory=ticks, holds=ticks > 0)
    if "order" in kinds:
        found = replace(found, strict=False, late=False, spike_shift=0)
    if "synapse" in kinds:
        found = replace(found, synapse_decay=0.0, synapse_gain=1.0)
    if "floor" in kinds and neuron.model == neuron_scaling.TRUNCATED:
        found = replace(found, floor=parameters["v_reset"])
    if "input quantisation" in kinds and on_spinnaker:
        found = replace(found, input_unit=1.0 / ONE)
    if "state precision" in kinds and on_spinnaker:
        layers = [
            replace(
                layer,
                fixed=_fixed(population, grid, leaks, found),
                threshold=np.array([_s1615(value) for value in layer.threshold.tolist()]),
                start=np.array([_s1615(value) for value in layer.start.tolist()]),
            )
            for layer, population in zip(found.layers, populations, strict=True)
        ]
        found = replace(found, layers=tuple(layers), input_unit=1.0 / ONE, reset_to=_s1615(found.reset_to))
    return replace(found, loss=_loss(deployment, kinds))


def _slowed(found: Dynamics, deployment: Deployment) -> Dynamics:
    """Copies of each hidden neuron, with smaller weights; see `neuron_scaling`."""
    network, profile = deployment.network, deployment.profile
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


def _rounded(layer: Layer) -> Layer:
    """Weights of 16 bits, at the ring-buffer shifts that fit them."""
    weights = neuron_scaling.dense(layer.weights)
    shifts = neuron_mapping.shifts_of(weights)
    units = np.where(weights < 0, neuron_mapping.unit(shifts[1]), neuron_mapping.unit(shifts[0]))
    return replace(layer, weights=neuron_mapping.whole_weights(weights, shifts) * units, shifts=shifts)


def _fixed(population: Population, grid: _Grid, leaks: bool, found: Dynamics) -> FixedPoint:
    """The firmware's constants where the leak is the target's; else the like of them."""
    parameters = {
        name: accum_of(float(v)) for name, v in population.parameters.items() if name != neuron_mapping.SHIFTS
    }
    if not leaks:
        return FixedPoint(accum_of(found.gain), 0)
    step = accum_of(grid.tick_ms)
    return FixedPoint(divided(parameters["tau_m"], parameters["cm"]), exponential(-divided(step, parameters["tau_m"])))


def _s1615(value: float) -> float:
    return accum_of(value) / ONE if math.isfinite(value) else value


# --- the decision circuit ---------------------------------------------------------------------------------------------


def _circuit(deployment: Deployment, kinds: Kinds) -> Dynamics:
    network = deployment.network
    circuit = circuit_of(network, deployment.profile)
    found = _own(network)
    layers = list(found.layers)
    for index, layer in enumerate(layers):
        scale = unit(circuit.shifts[index])
        if "weight precision" in kinds:
            weights, bias = (
                np.asarray(values * scale, dtype=np.float64)
                for values in (circuit.weights[index], circuit.biases[index])
            )
            layer = replace(layer, weights=weights, bias=bias)
        if "delay" in kinds:
            layer = replace(layer, delay=network.layers[index].delay)
        if "window" in kinds:
            layer = replace(layer, until=circuit.active(index))
        layers[index] = layer
    found = replace(found, layers=tuple(layers))
    if "delay" in kinds:
        found = replace(found, bias_at=0, input_at=0, spikes_at=0)
    if "reset" in kinds:
        found = _reset(found, "zero", network.neuron.threshold, 0.0)
    if "refractory" in kinds:
        found = replace(found, refractory=0, holds=False)
    if "leak" in kinds:
        found = replace(found, decay=1.0, gain=1.0)
    if "order" in kinds:
        found = replace(found, strict=False, late=False)
    if "floor" in kinds:
        found = replace(found, floor=0.0)
    if "readout" in kinds:
        found = replace(found, answers_only=True)
    return replace(found, loss=_loss(deployment, kinds))


def _loss(deployment: Deployment, kinds: Kinds) -> float:
    machine = deployment.profile.machine
    return machine.drop_packets if machine is not None and "packet loss" in kinds else 0.0

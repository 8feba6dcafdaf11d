"""From a deployment and the departures to adopt, to the dynamics that have these and no others.

Each kind of departure stands for a group of values: adopted, they are the target's, else the Network's own. Both are
stated in Network steps of 1 ms and become ticks at the end, because one departure is the length of a tick.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import fields, replace
from typing import get_args

import numpy as np

from ...hardware_profiles.profile import DepartureKind
from ...models.layers import Sparse
from ..deployment import Deployment
from ..spinnaker import neuron_scaling
from ..spinnaker.circuit import circuit_of, unit
from .dynamics import NEVER, Dynamics, Layer, Noise
from .own import Grid, Kinds, loss, own, taking, with_delays, with_reset
from .pynn import pynn


def departed(deployment: Deployment, kinds: Kinds) -> Dynamics:
    """The dynamics of the deployment's network with the departures `kinds` of its profile.

    With all that the profile declares, the dynamics are the target's; with none the Network's own, up to rounding.
    Kinds that the profile does not depart by change nothing.
    """
    mapping = deployment.profile.mapping
    if mapping == "point_neuron":
        return _point_neuron(deployment, kinds)
    if mapping == "pynn":
        return pynn(deployment, kinds)
    if mapping == "decision_circuit":
        return _circuit(deployment, kinds)
    return own(deployment.network)


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


# --- NEST's point neurons ---------------------------------------------------------------------------------------------


def _point_neuron(deployment: Deployment, kinds: Kinds) -> Dynamics:
    time, neuron = neuron_scaling.tables(deployment.profile)
    network, grid = deployment.network, Grid.of(time, kinds)
    found = own(network, grid.per_own, grid.per_step, grid.tick_ms)
    first = deployment.population("layer 0")
    parameters = {name: float(value) for name, value in neuron.parameters.items()}
    rest, tau = parameters.get("E_L", 0.0), parameters["tau_m"]
    arriving = {p.target: p for p in deployment.projections if p.source != "currents"}
    projections = [arriving[f"layer {index}"] for index in range(len(network.layers))]
    latched = next((p for p in deployment.projections if p.source == "currents"), None)
    if "delay" in kinds:
        found = with_delays(found, projections, grid)
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
                zero=first.start - rest,
            )
            for layer in found.layers
        ]
        found = replace(found, layers=tuple(layers))
    if "reset" in kinds:
        if neuron.reset == "none":
            found = taking(found, parameters.get("q_sfa", 0.0))
            found = replace(found, reset="none", adapts=True, late=False)
        else:
            found = with_reset(found, neuron.reset, threshold, parameters.get("V_reset", rest) - rest)
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


# --- the decision circuit ---------------------------------------------------------------------------------------------


def _circuit(deployment: Deployment, kinds: Kinds) -> Dynamics:
    network = deployment.network
    circuit = circuit_of(network, deployment.profile)
    found = own(network)
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
    if "refractory" in kinds:
        found = replace(found, refractory=0, holds=False)
    if "order" in kinds:
        found = replace(found, strict=False, late=False)
    if "floor" in kinds:
        found = replace(found, floor=0.0)
    if "readout" in kinds:
        found = replace(found, answers_only=True)
    lost = loss(deployment, kinds)
    # An input's bit goes to a gate, and from there on: two spikes.
    return replace(found, loss=lost, input_loss=1.0 - (1.0 - lost) ** 2)

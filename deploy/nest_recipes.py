"""How a Network is mapped onto NEST. Pure functions: nothing here needs NEST.

The exact recipes rest on the update equations of NEST 3.10 (resolution 1 ms = one step of the network). Let k count
steps from the window's start, and let P = exp(-1/tau_m) be the membrane decay:

- ``eprop_iaf``: ``V <- P*V + I[k-1] + spikes arriving``; fires at ``V >= V_th`` and then subtracts V_th. The constant
  current is latched one step late, which is the Network's one step of synaptic latency, and a delay of two steps is
  the same for spikes. NEST subtracts before the decay, the Network after it: with the potential shifted by a
  constant, ``V = mem + c``, ``V_th = reset_amount/P`` and ``c = V_th - threshold``, both are the same.
- ``iaf_psc_delta``: resets to zero; one step of refractoriness drops the one input that the Network drops.
- ``iaf_psc_exp``: resets to zero, with exponential synaptic currents; all input goes through them.

Ties: NEST fires at ``>=``. Moving the threshold a little, above the rounding noise and below any weight, makes a
potential that equals the threshold fire or not, as `Neuron.compare` says. In the same way output potentials are
rounded to READ_GRID: outputs that tie in the reference tie on NEST. All in units of the threshold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..hardware_profiles.profile import NeuronModel, Profile, TimeGrid
from ..models.layers import Connections, Sparse
from ..models.network import Network
from .deployment import Deployment, Population, Projection, Window

TIE = 2.0**-40  # without leak: NEST's own potential loses up to 2^-53 of itself in each step
LEAKY_TIE = 2.0**-48  # with leak, rounding errors fade, but a potential can come close to the threshold by itself
READ_GRID = 2.0**-34
NO_LEAK_TAU_MS = 2.0**53  # exp(-1/tau) is the largest double below 1, and (1 - P)*tau is exactly 1
NEVER = 1e300  # a threshold that is never reached; NEST refuses infinity for some models

# The largest input of a neuron in one step, in thresholds. Beyond it float64 has no digits left for the promise.
MOST_INPUT = 2.0**30
FADING_BITS = 90  # what is left of the last window's synaptic currents: 2^-60 for an input of MOST_INPUT


@dataclass(frozen=True, slots=True)
class Recipe:
    """What all of a network's populations and projections are made by."""

    sentence: str
    model: str
    parameters: dict[str, object]
    threshold: tuple[str, float]
    start: float
    window: Window
    delay_ms: float = 2.0  # from a layer to the next, where the Network's delay is 1
    gain: float = 1.0  # what one unit of weight becomes on the target
    input_model: str = ""  # "": the first layer's constant current; else the device that carries the input
    input_delay_ms: float = 1.0
    input_gain: float = 1.0


def plan(network: Network, profile: Profile) -> Deployment:
    """Map `network`, in which the preflight found no error, under `profile`."""
    recipe = exact_recipe(network) if profile.mapping == "exact" else _point_neuron(network, profile)
    return Deployment(
        network=network,
        profile=profile,
        recipe=recipe.sentence,
        exact=profile.exact,
        window=recipe.window,
        populations=_populations(network, recipe),
        projections=_projections(network, recipe),
    )


def exact_recipe(network: Network) -> Recipe:
    """The recipe that fits the network's dynamics; the preflight has seen to it that there is one."""
    neuron = network.neuron
    beta, alpha = neuron.membrane_decay, neuron.synapse_decay
    tau = NO_LEAK_TAU_MS if beta == 1 else -1.0 / math.log(beta)
    decay = math.exp(-1.0 / tau)
    tie = (TIE if beta == 1 else LEAKY_TIE) * neuron.threshold * (1 if neuron.compare == ">" else -1)
    grid = READ_GRID * neuron.threshold
    base: dict[str, object] = {"E_L": 0.0, "tau_m": tau, "C_m": tau * (1.0 - decay)}
    longest = max(layer.delay for layer in network.layers)
    if alpha > 0:
        tau_syn = -1.0 / math.log(alpha)
        # Potential per unit of synaptic current after one step, for C_m = 1; stable at alpha = beta.
        x = 1.0 / tau_syn - 1.0 / tau
        gain = math.exp(-1.0 / tau_syn) * (math.expm1(x) / x if x else 1.0)
        fading = math.ceil(FADING_BITS * math.log(2) / -math.log(alpha))
        return Recipe(
            sentence="iaf_psc_exp: exponential synaptic currents, reset to zero, one step of refractoriness",
            model="iaf_psc_exp",
            parameters=base | {"C_m": 1.0, "V_reset": 0.0, "t_ref": 1.0, "tau_syn_ex": tau_syn, "tau_syn_in": tau_syn},
            threshold=("V_th", neuron.threshold + tie),
            start=0.0,
            window=Window(
                1.0, 1.0, silence_ms=float(2 + longest + fading), input_lead_ms=2.0, spike_shift=1, read_grid=grid
            ),
            delay_ms=1.0,
            gain=1.0 / gain,
            input_model="dc_generator",
            input_gain=1.0 / (1.0 - alpha),
        )
    window = Window(1.0, 1.0, silence_ms=float(longest + 1), lead_steps=1, spike_shift=1, read_grid=grid)
    if neuron.reset == "zero":
        return Recipe(
            sentence="iaf_psc_delta: reset to zero, one step of refractoriness",
            model="iaf_psc_delta",
            parameters=base | {"V_reset": 0.0, "t_ref": 1.0},
            threshold=("V_th", neuron.threshold + tie),
            start=0.0,
            window=window,
        )
    threshold = neuron.subtracted / decay
    return Recipe(
        sentence="eprop_iaf: reset by subtraction, potential shifted by a constant where threshold and reset differ",
        model="eprop_iaf",
        parameters=base | {"t_ref": 0.0},
        threshold=("V_th", threshold),
        start=threshold - neuron.threshold - tie,
        window=window,
    )


def _point_neuron(network: Network, profile: Profile) -> Recipe:
    time, neuron = tables(profile)
    parameters: dict[str, object] = dict(neuron.parameters)
    # The profile's threshold is in units of the network's own.
    threshold = float(neuron.parameters.get("V_th", 1.0)) * network.neuron.threshold
    parameters.pop("V_th", None)
    for name in ("q_sfa", "tau_sfa"):
        if name in parameters:
            parameters[name] = [parameters[name]]
    refractory = max(float(neuron.parameters.get(name, 0.0)) for name in ("t_ref", "dead_time"))
    longest = time.delay_ms + (max(layer.delay for layer in network.layers) - 1) * time.step_ms
    silence = max(longest, time.input_delay_ms, refractory) + time.resolution_ms
    ticks = math.ceil(round(silence / time.resolution_ms, 6))
    return Recipe(
        sentence=f"{neuron.model} with the profile's own parameters, {time.resolution_ms:g} ms time step",
        model=neuron.model,
        parameters=parameters,
        threshold=("" if neuron.model == "pp_psc_delta" else "V_th", threshold),
        start=0.0,
        window=Window(time.step_ms, time.resolution_ms, silence_ms=ticks * time.resolution_ms),
        delay_ms=time.delay_ms,
        input_model="dc_generator" if time.input_delay_ms else "",
        input_delay_ms=time.input_delay_ms or time.resolution_ms,
    )


def _populations(network: Network, recipe: Recipe) -> tuple[Population, ...]:
    populations = []
    threshold_name, threshold = recipe.threshold
    # An integrator's decay of a shifted potential is made up for by a constant current.
    tau, capacity = (float(str(recipe.parameters[name])) for name in ("tau_m", "C_m"))
    decay = math.exp(-recipe.window.resolution_ms / tau)
    upkeep = recipe.start * (1.0 - decay) if recipe.start and decay < 1 - 2.0**-52 else 0.0
    through_synapses = recipe.model == "iaf_psc_exp"
    for index, layer in enumerate(network.layers):
        fires = index < len(network.layers) - 1 or network.output_fires
        model, parameters = recipe.model, dict(recipe.parameters)
        if fires and threshold_name:
            parameters[threshold_name] = threshold
        elif not fires and model == "pp_psc_delta":
            # The origin's output layer: an integrator that never fires.
            model, parameters = (
                "iaf_psc_delta",
                {"E_L": 0.0, "C_m": capacity, "tau_m": tau, "V_th": NEVER, "t_ref": 0.0},
            )
        elif not fires:
            parameters["V_th"] = NEVER
        constant = np.zeros(layer.n_out) if through_synapses else layer.neuron_bias + upkeep
        populations.append(
            Population(
                f"layer {index}",
                layer.n_out,
                model,
                parameters,
                fires=fires,
                constant_input=constant,
                start=recipe.start,
            )
        )
    inputs = []
    if recipe.input_model:
        first = network.layers[0]
        # NEST sends every current along every connection in every step, of which an image has millions: those of a
        # convolution are added up before they are sent.
        if isinstance(first.connections, Sparse):
            inputs.append(Population("currents", first.n_out, recipe.input_model, {}, role="drives"))
        else:
            inputs.append(Population("currents", network.n_channels, recipe.input_model, {}, role="currents"))
    if through_synapses:
        inputs.append(Population("bias", 1, "dc_generator", {"amplitude": 1.0}, role="bias"))
    inputs.append(Population("spikes", network.n_channels, "spike_generator", {}, role="spikes"))
    return (*inputs, *populations)


def _projections(network: Network, recipe: Recipe) -> tuple[Projection, ...]:
    first = network.layers[0]
    time = recipe.window
    through_synapses = recipe.model == "iaf_psc_exp"
    current_gain = recipe.gain * recipe.input_gain
    projections = []
    if recipe.input_model:
        receptor = 1 if through_synapses else 0
        weights: Connections
        if isinstance(first.connections, Sparse):
            weights, form = Sparse.one_to_one(first.n_out, current_gain), "one to one"
        else:
            weights, form = first.connections * current_gain, first.form
        projections.append(Projection("currents", "layer 0", weights, recipe.input_delay_ms, receptor, form))
    if through_synapses:
        for index, layer in enumerate(network.layers):
            weights = layer.neuron_bias[None, :] * current_gain
            projections.append(Projection("bias", f"layer {index}", weights, 1.0, 1))
    delays = [recipe.delay_ms + (layer.delay - 1) * time.step_ms for layer in network.layers]
    for index, layer in enumerate(network.layers):
        source = f"layer {index - 1}" if index else "spikes"
        weights = layer.connections * recipe.gain
        projections.append(Projection(source, f"layer {index}", weights, delays[index], form=layer.form))
    return tuple(projections)


def tables(profile: Profile) -> tuple[TimeGrid, NeuronModel]:
    """The tables that every profile of the mapping 'point_neuron' has."""
    assert profile.time is not None, "the schema requires it"
    assert profile.neuron is not None, "the schema requires it"
    return profile.time, profile.neuron

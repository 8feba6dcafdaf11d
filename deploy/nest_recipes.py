"""How a Network is mapped onto NEST. Pure functions: nothing here needs NEST.

The exact recipes rest on the update equations of NEST 3.10 (resolution 1 ms = one step of the network). Let k count
steps from the window's start, and let P = exp(-1/tau_m) be the membrane decay:

- ``eprop_iaf``: ``V <- P*V + I[k-1] + spikes arriving``; fires at ``V >= V_th`` and then subtracts V_th. The constant
  current is latched one step late, which is the Network's one step of synaptic latency, and a delay of two steps is
  the same for spikes. NEST subtracts before the decay, the Network after it: with the potential shifted by a
  constant, ``V = mem + c``, ``V_th = reset_amount/P`` and ``c = V_th - threshold``, both are the same.
- ``iaf_psc_delta``: resets to zero; one step of refractoriness drops the one input that the Network drops.
- ``iaf_psc_exp``: resets to zero, with exponential synaptic currents; all input goes through them.

Ties: NEST fires at ``>=``. Moving the threshold by TIE, far above the rounding noise and far below any weight, makes a
potential that equals the threshold fire or not, as `Neuron.compare` says. In the same way output potentials are
rounded to READ_GRID: outputs that tie in the reference tie on NEST.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..hardware_profiles.profile import NeuronModel, Profile, TimeGrid
from ..models.network import Network
from .deployment import Deployment, Population, Projection, Window
from .findings import Finding

TIE = 2.0**-40
READ_GRID = 2.0**-34
NO_LEAK_TAU_MS = 2.0**53  # exp(-1/tau) is the largest double below 1, and (1 - P)*tau is exactly 1
NEVER = 1e300  # a threshold that is never reached; NEST refuses infinity for some models
SMALLEST_DECAY = 1e-3  # below it, the shift of the subtracting recipe costs more precision than is promised

# What the mapping 'point_neuron' knows of NEST's models: how each resets.
POINT_NEURONS = {"iaf_psc_delta": "zero", "pp_psc_delta": "none", "eprop_iaf": "subtract"}


@dataclass(frozen=True, slots=True)
class _Recipe:
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


def preflight(network: Network, profile: Profile) -> list[Finding]:
    """What speaks against `network` under `profile`, and what should be known of it."""
    if profile.mapping == "exact":
        return _exact_findings(network)
    if profile.mapping == "point_neuron":
        return _point_neuron_findings(network, profile)
    return [Finding("error", f"Mapping '{profile.mapping}' is none of NEST's.", "Use 'exact' or 'point_neuron'.")]


def plan(network: Network, profile: Profile) -> Deployment:
    """Map `network`, in which the preflight found no error, under `profile`."""
    recipe = _exact(network) if profile.mapping == "exact" else _point_neuron(network, profile)
    return Deployment(
        network=network,
        profile=profile,
        recipe=recipe.sentence,
        exact=profile.exact,
        window=recipe.window,
        populations=_populations(network, recipe),
        projections=_projections(network, recipe),
    )


def _exact(network: Network) -> _Recipe:
    neuron = network.neuron
    beta, alpha = neuron.membrane_decay, neuron.synapse_decay
    tau = NO_LEAK_TAU_MS if beta == 1 else -1.0 / math.log(beta)
    decay = math.exp(-1.0 / tau)
    tie = TIE * neuron.threshold * (1 if neuron.compare == ">" else -1)
    grid = READ_GRID * neuron.threshold
    base: dict[str, object] = {"E_L": 0.0, "tau_m": tau, "C_m": tau * (1.0 - decay)}
    longest = max(layer.delay for layer in network.layers)
    if alpha > 0:
        tau_syn = -1.0 / math.log(alpha)
        # Potential per unit of synaptic current after one step, for C_m = 1; stable at alpha = beta.
        x = 1.0 / tau_syn - 1.0 / tau
        gain = math.exp(-1.0 / tau_syn) * (math.expm1(x) / x if x else 1.0)
        fading = math.ceil(60 * math.log(2) / -math.log(alpha))  # until the last window's currents are below 2^-60
        return _Recipe(
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
        return _Recipe(
            sentence="iaf_psc_delta: reset to zero, one step of refractoriness",
            model="iaf_psc_delta",
            parameters=base | {"V_reset": 0.0, "t_ref": 1.0},
            threshold=("V_th", neuron.threshold + tie),
            start=0.0,
            window=window,
        )
    threshold = neuron.subtracted / decay
    return _Recipe(
        sentence="eprop_iaf: reset by subtraction, potential shifted by a constant where threshold and reset differ",
        model="eprop_iaf",
        parameters=base | {"t_ref": 0.0},
        threshold=("V_th", threshold),
        start=threshold - neuron.threshold - tie,
        window=window,
    )


def _point_neuron(network: Network, profile: Profile) -> _Recipe:
    time, neuron = _tables(profile)
    parameters: dict[str, object] = dict(neuron.parameters)
    # The profile's threshold is in units of the network's own.
    threshold = float(neuron.parameters.get("V_th", 1.0)) * network.neuron.threshold
    parameters.pop("V_th", None)
    for name in ("q_sfa", "tau_sfa"):
        if name in parameters:
            parameters[name] = [parameters[name]]
    refractory = max(float(neuron.parameters.get(name, 0.0)) for name in ("t_ref", "dead_time"))
    silence = max(time.delay_ms, time.input_delay_ms, refractory) + time.resolution_ms
    ticks = math.ceil(round(silence / time.resolution_ms, 6))
    return _Recipe(
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


def _populations(network: Network, recipe: _Recipe) -> tuple[Population, ...]:
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
        constant = np.zeros(layer.n_out) if through_synapses else layer.bias + upkeep
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
        inputs.append(Population("currents", network.n_channels, recipe.input_model, {}, role="currents"))
    if through_synapses:
        inputs.append(Population("bias", 1, "dc_generator", {"amplitude": 1.0}, role="bias"))
    inputs.append(Population("spikes", network.n_channels, "spike_generator", {}, role="spikes"))
    return (*inputs, *populations)


def _projections(network: Network, recipe: _Recipe) -> tuple[Projection, ...]:
    first = network.layers[0]
    time = recipe.window
    through_synapses = recipe.model == "iaf_psc_exp"
    current_gain = recipe.gain * recipe.input_gain
    projections = []
    if recipe.input_model:
        receptor = 1 if through_synapses else 0
        weights = first.weights * current_gain
        projections.append(Projection("currents", "layer 0", weights, recipe.input_delay_ms, receptor))
    if through_synapses:
        for index, layer in enumerate(network.layers):
            projections.append(Projection("bias", f"layer {index}", layer.bias[None, :] * current_gain, 1.0, 1))
    delays = [recipe.delay_ms + (layer.delay - 1) * time.step_ms for layer in network.layers]
    projections.append(Projection("spikes", "layer 0", first.weights * recipe.gain, delays[0]))
    for index, layer in enumerate(network.layers[1:], start=1):
        projections.append(
            Projection(f"layer {index - 1}", f"layer {index}", layer.weights * recipe.gain, delays[index])
        )
    return tuple(projections)


def _exact_findings(network: Network) -> list[Finding]:
    neuron = network.neuron
    alternative = "Run it on 'reference', or train with other dynamics."
    findings = []
    if neuron.synapse_decay > 0 and neuron.reset == "subtract":
        findings.append(
            Finding(
                "error",
                f"No exact recipe is known on NEST for synapse_decay={neuron.synapse_decay} with reset by subtraction: "
                "of its built-in models with synaptic currents, none subtracts.",
                alternative,
                needed="synaptic currents and reset by subtraction",
                available="one of both",
            )
        )
    if neuron.membrane_decay < SMALLEST_DECAY:
        findings.append(
            Finding(
                "error",
                f"membrane_decay={neuron.membrane_decay} is too small for an exact recipe on NEST.",
                alternative,
                needed=neuron.membrane_decay,
                available=f">= {SMALLEST_DECAY}",
            )
        )
    for index, layer in enumerate(network.layers):
        largest = float(np.abs(layer.weights).max())
        if largest > 2.0**20 * neuron.threshold:
            findings.append(
                Finding(
                    "warning",
                    f"A weight of {largest:.3g} is over 2^20 thresholds: sums may round differently.",
                    "Scale the network so that its threshold is near its weights.",
                    layer=index,
                    needed=largest,
                    available=2.0**20 * neuron.threshold,
                )
            )
    if not findings and neuron.synapse_decay > 0.9:
        findings.append(
            Finding(
                "info",
                f"Each decision waits until the synaptic currents of the last one have faded: "
                f"{_exact(network).window.silence_ms:g} steps before a window of {network.steps}.",
            )
        )
    return findings


def _point_neuron_findings(network: Network, profile: Profile) -> list[Finding]:
    time, model = _tables(profile)
    neuron = network.neuron
    findings = []
    if model.model not in POINT_NEURONS:
        known = ", ".join(POINT_NEURONS)
        findings.append(
            Finding("error", f"The profile names NEST's model '{model.model}'.", f"It must be one of {known}.")
        )
        return findings
    if POINT_NEURONS[model.model] != model.reset:
        findings.append(
            Finding(
                "error",
                f"{model.model} has reset '{POINT_NEURONS[model.model]}', the profile says '{model.reset}'.",
                "Set model and reset together: " + ", ".join(f"{m} ({r})" for m, r in POINT_NEURONS.items()) + ".",
            )
        )
    for name in ("tau_m", "C_m"):
        value = model.parameters.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
            findings.append(Finding("error", f"The profile has {name}={value}.", "Give a number above 0."))
    if model.model == "pp_psc_delta":
        if model.parameters.get("tau_sfa") != model.parameters.get("tau_m"):
            findings.append(
                Finding(
                    "error",
                    "tau_sfa differs from tau_m: NEST cannot reset the threshold adaptation between decisions; only "
                    "with equal time constants can the potential be set so that it makes no difference.",
                    "Set both to the same value.",
                )
            )
        if model.parameters.get("with_reset") is not False:
            findings.append(
                Finding(
                    "error",
                    "pp_psc_delta without with_reset=false resets its potential besides adapting, and NEST cannot "
                    "reset the adaptation between decisions then.",
                    "Set with_reset=false.",
                )
            )
        if neuron.threshold != 1.0:
            findings.append(
                Finding(
                    "error",
                    f"pp_psc_delta has no threshold to set; the network's is {neuron.threshold}.",
                    "Scale it to 1.",
                )
            )
    if findings:
        return findings
    decay = math.exp(-time.step_ms / float(model.parameters["tau_m"]))
    for what, wanted, given in (
        ("reset", neuron.reset, model.reset),
        ("synapse_decay", neuron.synapse_decay, 0.0),
        ("membrane_decay", round(neuron.membrane_decay, 6), round(decay, 6)),
    ):
        if wanted != given:
            findings.append(
                Finding(
                    "warning",
                    f"The network was trained with {what}={wanted}; this profile gives {given}.",
                    "Expect other decisions; spikeloop check says how many.",
                    needed=wanted,
                    available=given,
                )
            )
    return findings


def _tables(profile: Profile) -> tuple[TimeGrid, NeuronModel]:
    assert profile.time is not None, "the schema requires it"
    assert profile.neuron is not None, "the schema requires it"
    return profile.time, profile.neuron

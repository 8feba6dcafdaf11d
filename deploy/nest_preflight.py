"""What speaks against a network under one of NEST's profiles, before NEST is even imported."""

from __future__ import annotations

import math

import numpy as np

from ..hardware_profiles.profile import NeuronModel, Profile, TimeGrid
from ..models.layers import most_input
from ..models.network import Network
from .findings import Finding
from .nest_recipes import MOST_INPUT, exact_recipe, tables

# What the mapping 'point_neuron' knows of NEST's models: how each resets.
POINT_NEURONS = {"iaf_psc_delta": "zero", "pp_psc_delta": "none", "eprop_iaf": "subtract"}
SMALLEST_DECAY = 1e-3  # below it, the shift of the subtracting recipe costs more precision than is promised


def preflight(network: Network, profile: Profile) -> list[Finding]:
    """What speaks against `network` under `profile`, and what should be known of it."""
    if profile.mapping == "exact":
        return _exact_findings(network)
    if profile.mapping == "point_neuron":
        return _point_neuron_findings(network, profile)
    return [Finding("error", f"Mapping '{profile.mapping}' is none of NEST's.", "Use 'exact' or 'point_neuron'.")]


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
    if neuron.reset == "subtract" and neuron.subtracted > 2.0**10 * neuron.threshold:
        findings.append(
            Finding(
                "warning",
                f"A spike subtracts {neuron.subtracted:.3g}, over 2^10 thresholds: potentials lose digits on NEST.",
                "Expect differences above 1e-9.",
                needed=neuron.subtracted,
                available=2.0**10 * neuron.threshold,
            )
        )
    for index, layer in enumerate(network.layers):
        most = float((most_input(layer.connections) + np.abs(layer.neuron_bias)).max())
        if most > MOST_INPUT * neuron.threshold:
            findings.append(
                Finding(
                    "error",
                    f"Weights and bias of one neuron add up to {most:.3g}, over 2^30 thresholds.",
                    "Scale the network so that its threshold is near its weights.",
                    layer=index,
                    needed=most,
                    available=MOST_INPUT * neuron.threshold,
                )
            )
            continue
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
                f"{exact_recipe(network).window.silence_ms:g} steps before a window of {network.steps}.",
            )
        )
    return findings


def _point_neuron_findings(network: Network, profile: Profile) -> list[Finding]:
    time, model = tables(profile)
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
    findings += _parameter_findings(model, time)
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


# Parameter of a point neuron: (lowest, whether that itself is allowed, highest).
_RANGES = {
    "tau_m": (0.0, False, math.inf),
    "C_m": (1e-12, True, 1e12),
    "t_ref": (0.0, True, 1000.0),
    "dead_time": (0.0, False, 1000.0),
    "V_th": (0.0, False, 1e12),
    "tau_sfa": (0.0, False, math.inf),
    "q_sfa": (0.0, True, 1e12),
    "c_1": (0.0, True, math.inf),
    "c_2": (0.0, True, math.inf),
    "c_3": (0.0, True, math.inf),
}


def _parameter_findings(model: NeuronModel, time: TimeGrid) -> list[Finding]:
    """What NEST would refuse or choke on only once it runs."""
    findings = []
    parameters = dict(model.parameters)
    for name in ("tau_m", "C_m"):
        parameters.setdefault(name, 0.0)  # what is missing is refused like what is wrong
    for name, (lowest, included, highest) in _RANGES.items():
        value = parameters.get(name, 1.0)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not (lowest < float(value) <= highest or (included and value == lowest)):
            needed = f"{'at least' if included else 'above'} {lowest:g}, at most {highest:g}"
            findings.append(
                Finding("error", f"The profile has {name}={value}.", f"Give a number {needed}.", needed=needed)
            )
    if findings:
        return findings
    steps = float(parameters.get("t_ref", 0.0)) / time.resolution_ms
    if abs(steps - round(steps)) > 1e-9:
        text = f"t_ref={parameters['t_ref']} ms is no multiple of resolution_ms={time.resolution_ms}."
        findings.append(Finding("error", text, "NEST would round it without a word; give a multiple."))
    if "V_reset" in parameters and not float(parameters["V_reset"]) < float(parameters.get("V_th", 1.0)):
        text = f"V_reset={parameters['V_reset']} is not below V_th={parameters.get('V_th', 1.0)}."
        findings.append(Finding("error", text, "Give a reset potential below the threshold."))
    return findings

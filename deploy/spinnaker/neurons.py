"""The mapping "pynn": what speaks against a network, before any simulator or machine is asked, and its plan."""

from __future__ import annotations

import math

import numpy as np

from ...hardware_profiles.profile import NeuronModel, Profile, TimeGrid
from ...models.layers import Dense, most_input
from ...models.network import Network
from ..findings import Finding
from . import neuron_mapping as mapping
from . import neuron_scaling as scaling
from .neuron_mapping import plan

__all__ = ["plan", "preflight", "preflight_on_nest"]

MOST = 65536.0  # s16.15 numbers lie below
LONGEST_DELAY = 31  # in ticks; longer ones go through delay extensions, which send old spikes after a reset
FINEST_MS = 1.0  # found on emulated cores; from 1 ms on, every window is as the first
COARSE = 2.0**-6  # a unit of weight, in thresholds, from which on rounding is worth a word

MOST_COPIES = 256

# Parameter: (lowest, whether that itself is allowed).
_RANGES = {
    "tau_m": (0.0, False),
    "cm": (0.0, False),
    "v_rest": (-MOST, False),
    "v_reset": (-MOST, False),
    "v_thresh": (0.0, False),
    "v_thresh_output": (0.0, False),
    "tau_refrac": (0.0, True),
}
# Of the mapping rather than of the neuron; 1 where a profile does not say.
_SCALING = {"slowdown": (1.0, True), "copies": (1.0, True)}


def preflight(network: Network, profile: Profile) -> list[Finding]:
    """What speaks against `network` on SpiNNaker, and what should be known of it."""
    time, neuron = scaling.tables(profile)
    findings = _models(neuron, (scaling.LEAKY, scaling.TRUNCATED)) or _parameters(neuron, MOST)
    findings += _layers(network) + _times(network, time) + _resolution(time)
    if not findings and neuron.model == scaling.TRUNCATED:
        findings += _truncated(neuron, time)
    if not findings:
        findings += _ranges(network, profile)
    if any(finding.severity == "error" for finding in findings):
        return findings
    return findings + _dynamics(network, neuron, time)


def preflight_on_nest(network: Network, profile: Profile) -> list[Finding]:
    """What speaks against `network` through PyNN on NEST."""
    time, neuron = scaling.tables(profile)
    findings = _models(neuron, (scaling.LEAKY,)) or _parameters(neuron, math.inf)
    findings += _layers(network) + _times(network, time, math.inf)
    if not findings and not (value := float(neuron.parameters["v_reset"])) < float(neuron.parameters["v_thresh"]):
        text = f"v_reset={value} is not below v_thresh={neuron.parameters['v_thresh']}, which NEST refuses."
        findings.append(Finding("error", text, "Give a reset potential below the threshold."))
    steps = 0.0 if findings else float(neuron.parameters["tau_refrac"]) / time.resolution_ms
    if abs(steps - round(steps)) > 1e-9:
        text = f"tau_refrac={neuron.parameters['tau_refrac']} ms is no multiple of {time.resolution_ms} ms."
        findings.append(Finding("error", text, "NEST would round it without a word; give a multiple."))
    return findings or _dynamics(network, neuron, time)


def _models(neuron: NeuronModel, known: tuple[str, ...]) -> list[Finding]:
    if neuron.model not in known:
        text = f"The profile names the model '{neuron.model}'."
        return [Finding("error", text, f"It must be {' or '.join(known)}.")]
    if neuron.reset != "zero":
        text = f"{neuron.model} sets the potential to v_reset, the profile says reset '{neuron.reset}'."
        return [Finding("error", text, "Set reset=zero.")]
    return []


def _parameters(neuron: NeuronModel, most: float) -> list[Finding]:
    findings = []
    for name, (lowest, included) in (_RANGES | _SCALING).items():
        value = neuron.parameters.get(name, 1.0 if name in _SCALING else None)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not (lowest < float(value or 0.0) < most or (included and value == lowest)):
            needed = f"{'at least' if included else 'above'} {lowest:g}, below {most:g}"
            given = f"{name}={value}" if name in neuron.parameters else f"no {name}"
            findings.append(Finding("error", f"The profile has {given}.", f"Give a number {needed}.", needed=needed))
    copies = 1 if findings else scaling.copies_of(neuron)
    if not findings and (copies != neuron.parameters.get("copies", 1) or copies > MOST_COPIES):
        text = f"The profile has copies={neuron.parameters['copies']}."
        findings.append(Finding("error", text, f"Give a whole number from 1 to {MOST_COPIES}.", needed=MOST_COPIES))
    for name in neuron.parameters.keys() - _RANGES.keys() - _SCALING.keys():
        known = ", ".join(_RANGES | _SCALING)
        findings.append(Finding("error", f"The profile has the parameter {name}.", f"Known are {known}."))
    return findings


def _layers(network: Network) -> list[Finding]:
    return [
        Finding(
            "error",
            f"A layer of the form '{layer.form}' cannot be deployed by the mapping 'pynn', only dense ones.",
            "Use 'nest-exact', or a network of dense layers.",
            layer=index,
            needed=layer.form,
            available="dense",
        )
        for index, layer in enumerate(network.layers)
        if not isinstance(layer, Dense)
    ]


def _times(network: Network, time: TimeGrid, longest: float = LONGEST_DELAY) -> list[Finding]:
    findings = []
    if time.input_delay_ms:
        text = f"The profile has input_delay_ms={time.input_delay_ms}; i_offset acts at once."
        findings.append(Finding("error", text, "Set input_delay_ms=0."))
    for index, layer in enumerate(network.layers):
        ticks = mapping.delay_ms(time, layer.delay) / time.resolution_ms
        if ticks > longest:
            text = f"Its spikes take {ticks:g} ticks to arrive; at most {longest:g} are possible between resets."
            advice = "Set a smaller step_ms or delay_ms, or a larger resolution_ms."
            findings.append(Finding("error", text, advice, layer=index, needed=ticks, available=longest))
    return findings


def _resolution(time: TimeGrid) -> list[Finding]:
    if time.resolution_ms < FINEST_MS:
        text = f"resolution_ms={time.resolution_ms}: under 1 ms, spikes in flight survive sPyNNaker's reset."
        advice = "Set resolution_ms=1.0, and step_ms and delay_ms to multiples of it."
        return [Finding("error", text, advice, needed=FINEST_MS, available=time.resolution_ms)]
    given = time.resolution_ms * 1000
    if abs(given - round(given)) < 1e-6:
        return []
    text = f"resolution_ms={time.resolution_ms} is no whole number of microseconds, which sPyNNaker needs."
    return [Finding("error", text, "Give a multiple of 0.001.")]


def _truncated(neuron: NeuronModel, time: TimeGrid) -> list[Finding]:
    findings = []
    if time.resolution_ms != 1.0:
        text = f"IFTruncDelta's threshold is the time step, here {time.resolution_ms} ms."
        findings.append(Finding("error", text, "Set resolution_ms=1.0.", needed=1.0, available=time.resolution_ms))
    if not float(neuron.parameters["v_reset"]) < 1.0:
        text = f"v_reset={neuron.parameters['v_reset']} is not below IFTruncDelta's threshold, 1."
        findings.append(Finding("error", text, "Give a reset potential below it."))
    return findings


def _ranges(network: Network, profile: Profile) -> list[Finding]:
    """Weights of 16 bits, currents and potentials of s16.15."""
    _, neuron = scaling.tables(profile)
    findings = []
    for index, scaled in enumerate(scaling.scaled_layers(network, profile)):
        fires = index < len(network.layers) - 1 or network.output_fires
        # Input spikes come in the first layer's place of a layer's spikes; without them it has currents alone.
        most = float((most_input(scaled.weights) + np.abs(scaled.bias)).max())
        coarsest = max(mapping.shifts_of(scaled.weights))
        if coarsest > mapping.MOST_SHIFT or most >= MOST:
            text = f"Weights and bias of one neuron add up to {most:.3g}; s16.15 numbers lie below {MOST:g}."
            advice = "Scale the network so that its threshold is near its weights."
            findings.append(Finding("error", text, advice, layer=index, needed=most, available=MOST))
            continue
        truncated = neuron.model == scaling.TRUNCATED and fires
        threshold = 1.0 if truncated else float(neuron.parameters["v_thresh"]) * network.neuron.threshold
        if fires and not 2.0**-14 <= threshold < MOST:
            text = f"Its threshold is {threshold:.3g}; it must be in [2^-14, {MOST:g}) for s16.15."
            findings.append(Finding("error", text, "Scale the network so that it is near 1.", layer=index))
            continue
        highest = float(neuron.parameters["v_thresh_output"]) * network.neuron.threshold
        if not fires and highest >= MOST:
            text = f"The output layer's threshold is {highest:.3g}; s16.15 numbers lie below {MOST:g}."
            findings.append(Finding("error", text, "Set a smaller v_thresh_output.", layer=index))
            continue
        if mapping.unit(coarsest) > COARSE * threshold:
            text = (
                f"Weights are rounded to multiples of {mapping.unit(coarsest):.3g}, {threshold:g} being the threshold."
            )
            findings.append(Finding("warning", text, "Expect other decisions.", layer=index))
        if not truncated:
            findings += _overflow(network, profile, index, most, threshold if fires else highest)
    return findings


def _overflow(network: Network, profile: Profile, index: int, most: float, threshold: float) -> list[Finding]:
    """Of the update's ``target - v``, both of which can be as large as tau_m/cm times the largest input."""
    time, neuron = scaling.tables(profile)
    resistance = float(neuron.parameters["tau_m"]) / float(neuron.parameters["cm"])
    found = []
    target = most * resistance * (1 / time.resolution_ms if index or network.encoder.kind != "current" else 1)
    if target + max(target, threshold) >= MOST:
        text = (
            f"Potentials can overflow: the largest input of a neuron times tau_m/cm is {target:.3g}, and s16.15 "
            f"numbers lie below {MOST:g}, which must hold twice that."
        )
        found.append(Finding("warning", text, "Set a smaller tau_m.", layer=index, needed=2 * target, available=MOST))
    steps = round(network.steps * time.step_ms / time.resolution_ms)
    reach = min(target, most * steps)
    if index == len(network.layers) - 1 and not network.output_fires and reach >= threshold:
        text = f"Output potentials can reach {reach:.3g}, and outputs that reach {threshold:g} fire and start anew."
        found.append(
            Finding("warning", text, "Set a larger v_thresh_output.", layer=index, needed=reach, available=threshold)
        )
    return found


def _dynamics(network: Network, neuron: NeuronModel, time: TimeGrid) -> list[Finding]:
    """How the neurons differ from those that the network was trained with."""
    own = network.neuron
    leaks = neuron.model == scaling.LEAKY
    decay = math.exp(-time.step_ms / float(neuron.parameters["tau_m"])) if leaks else 1.0
    ticks = round(time.step_ms / time.resolution_ms)
    found = []
    if ticks > 1 and network.encoder.kind != "current":
        text = f"A step lasts {ticks} ticks: currents and biases act in each, input spikes arrive in one."
        found.append(
            Finding("warning", text, "Set step_ms to resolution_ms, or let currents carry the input.", layer=0)
        )
    return found + [
        Finding(
            "warning",
            f"The network was trained with {what}={wanted}; this profile gives {given}.",
            "Expect other decisions; spikeloop check says how many.",
            needed=wanted,
            available=given,
        )
        for what, wanted, given in (
            ("reset", own.reset, neuron.reset),
            ("synapse_decay", own.synapse_decay, 0.0),
            ("membrane_decay", round(own.membrane_decay, 6), round(decay, 6)),
        )
        if wanted != given
    ]

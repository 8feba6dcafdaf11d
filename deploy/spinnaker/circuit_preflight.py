"""What speaks against a network as a decision circuit, before any machine is asked."""

from __future__ import annotations

import numpy as np

from ...hardware_profiles.profile import Profile
from ...models.layers import Dense
from ...models.network import Network, Neuron
from ..findings import Finding
from .circuit import RING_MAX, Circuit, circuit_of, off_grid, ranges_of, shifts_of, unit
from .wiring import MAX_DELAY

MOST_KEYS = 126  # 16 bits each, in one datagram
MOST_ACTIONS = 18
DISTIL = "Distil it: spikeloop train distil --teacher FILE --for spinnaker-live."


def preflight(network: Network, profile: Profile) -> list[Finding]:
    """What speaks against `network`, and what should be known of it."""
    findings = _dynamics(network)
    findings += _sizes(network, profile)
    if not findings:
        findings += _grid(network, profile)
    if not findings:
        findings += _worst_cases(circuit_of(network, profile))
    return findings


def _error(message: str, advice: str, needed: float | str, available: float | str, layer: int | None = None) -> Finding:
    return Finding("error", message, advice, layer=layer, needed=needed, available=available)


def _dynamics(network: Network) -> list[Finding]:
    findings = []
    if network.encoder.bits is None:
        kind = network.encoder.kind
        findings.append(
            _error(
                f"Its encoder ('{kind}') does not quantise its inputs; a decision circuit takes them bit by bit.",
                DISTIL,
                f"{kind}, not quantised",
                "current, with bits and resolution",
            )
        )
    if network.decoder.kind != "potential":
        findings.append(
            _error(
                f"Its decoder is '{network.decoder.kind}'; a decision circuit compares potentials.",
                DISTIL,
                network.decoder.kind,
                "potential",
            )
        )
    neuron, needed = network.neuron, Neuron(threshold=1.0, reset="zero", compare=">=")
    for name in ("threshold", "reset", "membrane_decay", "synapse_decay", "compare"):
        given, possible = getattr(neuron, name), getattr(needed, name)
        if given != possible:
            findings.append(
                _error(f"Its neurons have {name}={given}; the circuit's have {possible}.", DISTIL, given, possible)
            )
    for index, layer in enumerate(network.layers):
        if not isinstance(layer, Dense) or layer.delay != 1:
            given = f"{layer.form}, delay {layer.delay}"
            findings.append(
                _error(f"{given}: a decision circuit has dense layers of delay 1.", DISTIL, given, "dense, 1", index)
            )
    return findings


def _sizes(network: Network, profile: Profile) -> list[Finding]:
    findings = []
    depth, steps, actions = len(network.layers), network.steps, network.n_outputs
    if depth < 2:
        findings.append(_error("It has no hidden layer; a decision circuit needs one.", DISTIL, depth, ">= 2 layers"))
    if steps < depth:
        findings.append(
            _error(
                f"It is too deep for its window: {depth} layers in {steps} steps, and each takes one.",
                f"Train with at least {depth} steps.",
                depth,
                steps,
            )
        )
    if steps + 3 > MAX_DELAY:
        findings.append(
            _error(
                f"Its window of {steps} steps is too long: delays hold the input, and are at most {MAX_DELAY}.",
                "Train with fewer steps.",
                steps,
                MAX_DELAY - 3,
            )
        )
    if not 2 <= actions <= MOST_ACTIONS:
        findings.append(
            _error(f"It has {actions} actions.", "Use another target.", actions, f"2 to {MOST_ACTIONS} actions")
        )
    if network.encoder.bits is not None:
        keys = network.n_channels * network.encoder.bits
        most = MOST_KEYS - 2
        if keys > most:
            findings.append(
                _error(
                    f"It is too wide: {network.n_channels} inputs of {network.encoder.bits} bits are {keys} keys, and "
                    f"an observation has to fit into one datagram of {most}.",
                    "Use fewer bits (--set input_bits=...) or fewer inputs.",
                    keys,
                    most,
                )
            )
    if profile.machine is None:
        findings.append(_error(f"Profile '{profile.name}' has no table [machine].", "Add one.", "[machine]", "nothing"))
    return findings


def _grid(network: Network, profile: Profile) -> list[Finding]:
    findings = []
    for index, (layer, shift) in enumerate(zip(network.layers, shifts_of(network, profile), strict=True)):
        for what, values in (("weights", layer.weights), ("biases", layer.neuron_bias)):
            wrong = off_grid(values, shift)
            if wrong:
                findings.append(
                    _error(
                        f"{wrong} of {values.size} {what} are no multiples of 2^{shift - 15}.",
                        f"{DISTIL} Or set the shift that it was distilled for.",
                        "2^-k",
                        unit(shift),
                        index,
                    )
                )
    return findings


def _worst_cases(circuit: Circuit) -> list[Finding]:
    findings = []
    ranges = ranges_of(circuit)
    for index in range(circuit.depth - 1):
        # Inhibition saturates at the same value, and must be able to flush whatever came in with it.
        most = RING_MAX - circuit.threshold(index)
        for what, sums in (("excitation", ranges.excitation[index]), ("inhibition", ranges.inhibition[index])):
            neuron = int(np.argmax(sums))
            if sums[neuron] > most:
                findings.append(_out_of_range(circuit, index, neuron, what, int(sums[neuron]), most))
    half = circuit.threshold(circuit.depth - 1) // 2
    for sums, most in ((ranges.highest, half - 1), (-ranges.lowest, half)):
        worst = int(np.argmax(sums))
        if sums[worst] > most:
            first, second = circuit.pairs[worst]
            what = f"difference between outputs {first} and {second}"
            findings.append(_out_of_range(circuit, circuit.depth - 1, None, what, int(sums[worst]), most))
    return findings


def _out_of_range(circuit: Circuit, layer: int, neuron: int | None, what: str, needed: int, available: int) -> Finding:
    scale = unit(circuit.shifts[layer])
    return Finding(
        "error",
        f"Its {what} can reach {needed * scale:.4g}, and {available * scale:.4g} is the most that there is room for.",
        "Distil it with a larger range_weight, or with another shift.",
        layer=layer,
        neuron=neuron,
        needed=needed * scale,
        available=available * scale,
    )

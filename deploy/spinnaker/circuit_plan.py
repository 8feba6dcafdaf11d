"""What a decision circuit takes of a machine: populations, projections, cores, and the time of its busiest tick."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from ...hardware_profiles.profile import Machine, Profile
from ...models.layers import Sparse
from ...models.network import Network
from ..deployment import Deployment, Population, Projection, Window
from ..energy import SpinnakerUse
from ..findings import Finding
from .circuit import Circuit, circuit_of, ranges_of, unit
from .wiring import DECISION, GATES, INPUT, Group, Wire, Wiring, keys_of, wiring

NEURON_PARAMETERS = {"tau_m": 1.0, "cm": 1.0, "v_reset": 0.0, "tau_refrac": 0.0, "v_thresh": 0.0, "v_rest": 0.0}

# A core's clock in a tick of 1 ms.
CYCLES_PER_MS = 200_000
# Instructions, as counted on emulated cores: of a synapse, of a row that is fetched, of a neuron's update, of a tick.
PER_SYNAPSE, PER_ROW, PER_NEURON, PER_TICK = 16, 600, 120, 2_500
# Cores beside the circuits': the live gatherer.
GATHERERS = 1
CORES_PER_CHIP = 16  # of 18: one is the monitor, and some boards have one less that works
CHIPS = {3: 4, 5: 48}
# Spikes of a neuron in a step, as distilled agents have; for the estimate of the energy.
TYPICAL_RATE = 0.2


def wiring_for(deployment: Deployment) -> Wiring:
    """The wiring of a deployed circuit."""
    return _wiring(circuit_of(deployment.network, deployment.profile), machine_of(deployment.profile))


def machine_of(profile: Profile) -> Machine:
    """The profile's table [machine]."""
    assert profile.machine is not None, "the preflight sees to it"
    return profile.machine


def runs_freely(machine: Machine) -> bool:
    """Whether observations come at any moment of the machine's time."""
    return machine.timing == "free-running"


def _wiring(circuit: Circuit, machine: Machine) -> Wiring:
    # In lock-step all spikes of an observation come in one tick; the gates are for what comes late or twice.
    gates = machine.gate_steps if runs_freely(machine) else 1
    return wiring(circuit, neurons_per_core=machine.neurons_per_core, gate_steps=gates)


def plan(network: Network, profile: Profile) -> Deployment:
    """Say what the machine will get."""
    machine = machine_of(profile)
    circuit = circuit_of(network, profile)
    wired = _wiring(circuit, machine)
    neurons = [_population(circuit, group) for group in wired.groups]
    source = Population(INPUT, keys_of(circuit).size, "SpikeInjector", {}, role="spikes")
    wait = f"{wired.lead - 1} tick{'s' if wired.lead > 2 else ''}"
    return Deployment(
        network=network,
        profile=profile,
        recipe=f"decision circuit: one datagram in, gates that wait {wait} for it, input held in synaptic delays, "
        "outputs compared pairwise, the winner's spike out, flushed after each decision",
        exact=False,
        window=Window(
            step_ms=float(machine.time_scale_factor),
            resolution_ms=float(machine.time_scale_factor),
            # The spike is sent in the tick after the winner's; an observation may come just after a tick.
            latency_ms=float((wired.winner_tick + 2) * machine.time_scale_factor),
        ),
        populations=(source, *neurons),
        projections=tuple(_projections(wired)),
        takes=_takes(wired, machine),
        use=_use(wired, machine),
    )


def budget_findings(network: Network, profile: Profile) -> list[Finding]:
    """Are there cores enough; can the busiest tick outlast a real board's; do the gates outlast a decision."""
    machine = machine_of(profile)
    wired = _wiring(circuit_of(network, profile), machine)
    name, instructions = busiest(wired)
    budget = CYCLES_PER_MS * machine.time_scale_factor
    findings = []
    cores, available = _cores(wired, machine), CHIPS[machine.version] * CORES_PER_CHIP
    if cores > available:
        findings.append(
            Finding(
                "error",
                f"It takes {cores} cores ({machine.circuits} of the circuit); a board of version {machine.version} has "
                f"{available} for it.",
                "Use fewer circuits, more neurons_per_core, or a board of version 5.",
                needed=cores,
                available=available,
            )
        )
    if wired.open_tick > wired.winner_tick + 2:  # when an observation can come at the earliest that follows an answer
        findings.append(
            Finding(
                "warning",
                f"gate_steps={machine.gate_steps} is long for a window of {network.steps} steps: the gates are still "
                "shut when the next observation can come, so that it has to be sent twice.",
                f"Use gate_steps={network.steps} or less.",
                needed=wired.open_tick,
                available=wired.winner_tick + 2,
            )
        )
    if instructions <= budget:
        return findings
    return [
        *findings,
        Finding(
            "warning",
            f"A core of '{name}' may need {instructions:,} instructions in its busiest tick; {budget:,} cycles are "
            "what a board's core has then.",
            "Use fewer neurons_per_core, input_bits or steps, or a time_scale_factor "
            f"of {math.ceil(instructions / CYCLES_PER_MS)}.",
            needed=instructions,
            available=budget,
        ),
    ]


def cores_of(group: Group) -> int:
    """Cores of a population."""
    return -(-group.size // group.per_core)


def _cores(wired: Wiring, machine: Machine) -> int:
    return machine.circuits * (1 + sum(cores_of(group) for group in wired.groups)) + GATHERERS


def busiest(wired: Wiring) -> tuple[str, int]:
    """The population with the busiest core, and an estimate of that core's instructions in its busiest tick.

    In that tick every neuron before it fires, and of an observation every bit is set.
    """
    found = []
    for group in wired.groups:
        share = group.per_core / max(group.size, group.per_core)
        by_source: dict[str, int] = {}
        rows = 0
        for wire in (wire for wire in wired.wires if wire.target == group.name):
            by_source[wire.source] = by_source.get(wire.source, 0) + len(wire.synapses)
            rows += len(np.unique(wire.synapses["source"]))
        synapses = max(by_source.values(), default=0) * share
        found.append(
            (int(PER_TICK + PER_NEURON * group.per_core + PER_ROW * rows + PER_SYNAPSE * synapses), group.name)
        )
    most, name = max(found)
    return name, most


def _takes(wired: Wiring, machine: Machine) -> dict[str, float | str]:
    circuit = wired.circuit
    name, instructions = busiest(wired)
    budget = CYCLES_PER_MS * machine.time_scale_factor
    ranges = ranges_of(circuit)
    half = circuit.threshold(circuit.depth - 1) / 2
    used = [max(int(e.max()), int(i.max())) / 65535 for e, i in zip(ranges.excitation, ranges.inhibition, strict=True)]
    used.append(max(int(ranges.highest.max()), -int(ranges.lowest.min())) / half)
    return {
        "copies": machine.circuits,
        "cores": _cores(wired, machine),
        "delay slots": max(int(wire.synapses["delay"].max()) for wire in wired.wires),
        "ring-buffer shifts": ", ".join(f"{group.name} {group.shift}" for group in wired.groups),
        "range used": ", ".join(f"layer {index} {share:.0%}" for index, share in enumerate(used)) + " at worst",
        "latency": f"{wired.winner_tick} ticks to the winner's spike, {wired.winner_tick + 1} until it is sent",
        "busiest tick": f"{name}: about {instructions:,} instructions at worst, of {budget:,} cycles "
        f"({instructions / budget:.0%}); an estimate",
    }


def _use(wired: Wiring, machine: Machine) -> SpinnakerUse:
    """Of one decision, at half of the bits set and `TYPICAL_RATE` spikes of a neuron a step."""
    circuit = wired.circuit
    keys = keys_of(circuit)
    rates = {INPUT: 0.5, **{group.name: TYPICAL_RATE * circuit.steps for group in wired.groups}}
    rates |= {DECISION: 1 / len(circuit.pairs), GATES: 0.5}  # half of the comparators, and one winner
    spikes = rates[INPUT] * keys.size + sum(rates[group.name] * group.size for group in wired.groups)
    return SpinnakerUse(
        chips=CHIPS[machine.version],
        cores=_cores(wired, machine),
        ms=wired.idle_tick * machine.time_scale_factor,
        packets=round(spikes),
        synaptic_events=round(sum(rates[wire.source] * len(wire.synapses) for wire in wired.wires)),
        version=machine.version,
    )


def _population(circuit: Circuit, group: Group) -> Population:
    parameters = {**NEURON_PARAMETERS, "threshold": "1 (the time step)", "ring_buffer_shift": group.shift}
    return Population(group.name, group.size, "IFTruncDelta", parameters, fires=True)


def _projections(wired: Wiring) -> Iterable[Projection]:
    shifts = {group.name: group.shift for group in wired.groups}
    sizes = {group.name: group.size for group in wired.groups} | {INPUT: keys_of(wired.circuit).size}
    for (source, target), wires in _by_ends(wired.wires).items():
        synapses = np.concatenate([wire.synapses for wire in wires])
        signs = np.concatenate([np.full(len(w.synapses), 1 if w.receptor == "excitatory" else -1) for w in wires])
        order = np.argsort(synapses["source"], kind="stable")
        synapses, signs = synapses[order], signs[order]
        yield Projection(
            source,
            target,
            Sparse(
                np.searchsorted(synapses["source"], np.arange(sizes[source] + 1)).astype(np.int64),
                synapses["target"].astype(np.int32),
                synapses["weight"] * signs * unit(shifts[target]),
                sizes[target],
            ),
            float(synapses["delay"].min()),
            form="a list",
            last_delay_ms=float(synapses["delay"].max()),
        )


def _by_ends(wires: Iterable[Wire]) -> dict[tuple[str, str], list[Wire]]:
    found: dict[tuple[str, str], list[Wire]] = {}
    for wire in wires:
        found.setdefault((wire.source, wire.target), []).append(wire)
    return found

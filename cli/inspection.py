"""Commands that run nothing: agents, profiles, inspect, import, plan."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from ..deploy.deployment import Deployment, Projection
from ..deploy.energy import estimate_spinnaker
from ..deploy.mapping import plan as plan_deployment
from ..errors import InvalidInputError, PreflightError
from ..hardware_profiles.profile import Profile, load_profile, parse_settings
from ..hardware_profiles.profile import profiles as known_profiles
from ..models import Decoder, Encoder, Network, Neuron, bundled, load, save
from ..models.torch_files import IMPORT_KINDS, import_torch
from ..runtime.trace import Trace, is_sqlite
from .options import AgentArgument, JsonOption, ProfileOption, SetOption
from .output import emit, facts, line, say, table, unfolded


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.command("agents")(agents)
    app.command("profiles")(profiles)
    app.command("inspect")(inspect)
    app.command("import")(import_)
    app.command("plan")(plan)


def agents(json: JsonOption = False) -> None:
    """List the bundled agents."""
    networks = [load(name) for name in bundled()]
    if json:
        emit([_network_facts(network) for network in networks])
        return
    rows = []
    for network in networks:
        evaluation = network.provenance.get("evaluation", {})
        rows.append(
            (
                network.name,
                evaluation.get("env"),
                _shape(network),
                network.steps,
                f"{evaluation['mean_return']:.1f}" if "mean_return" in evaluation else None,
                network.content_hash[:12],
            )
        )
    table("Bundled agents", ["name", "environment", "shape", "steps ", "mean return ", "hash"], rows)


def profiles(
    name: Annotated[str | None, typer.Argument(metavar="[PROFILE]", help="Show this profile's settings.")] = None,
    json: JsonOption = False,
) -> None:
    """List the hardware profiles, or show one with its settings."""
    if name is None:
        found = [load_profile(key) for key in known_profiles()]
        if json:
            emit([profile.model_dump() for profile in found])
        else:
            rows = [(p.name, p.target, "exact" if p.exact else "approximate", p.summary) for p in found]
            table("Profiles", ["name", "target", "promise", "what it is"], rows)
        return
    profile = load_profile(name)
    if json:
        emit(profile.model_dump())
        return
    facts(profile.name, [*_profile_facts(profile), *(("departs", departure) for departure in profile.departures)])
    if settings := profile.settings():
        table("Settings (--set key=value)", ["key", "value "], list(settings.items()))


def inspect(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A network file, a bundled agent's name, or a trace.")],
    json: JsonOption = False,
) -> None:
    """Show what a network file or a trace holds."""
    if is_sqlite(Path(file)):
        _inspect_trace(Trace(file), json)
        return
    network = load(file)
    if json:
        emit(_network_facts(network))
        return
    neuron, encoder = network.neuron, network.encoder
    reset = "to zero" if neuron.reset == "zero" else f"subtracts {neuron.subtracted:g}"
    extras = [name for name in ("two_neurons", "constant_one") if getattr(encoder, name)]
    if encoder.bits is not None and encoder.resolution is not None:
        extras += [f"{encoder.bits} bits in steps of {', '.join(f'{step:.3g}' for step in encoder.resolution)}"]
    facts(
        network.name,
        [
            ("shape", _shape(network)),
            ("window", f"{network.steps} steps"),
            ("neuron", f"fires at mem {neuron.compare} {neuron.threshold:g}, {reset}"),
            ("decays", f"membrane {neuron.membrane_decay:g}, synapse {neuron.synapse_decay:g} per step"),
            ("encoder", ", ".join([encoder.kind, *extras])),
            ("decoder", network.decoder.kind),
            ("hash", network.content_hash),
        ],
    )
    rows = [
        (index, layer.form, layer.synapses, layer.delay, _range(layer.weights), _range(layer.bias))
        for index, layer in enumerate(network.layers)
    ]
    table("Layers", ["layer ", "form", "connections ", "delay ", "weight range", "bias range"], rows)
    if network.provenance:
        facts("Provenance", unfolded(network.provenance))


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What torch.save wrote.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The network file to write.")],
    steps: Annotated[int, typer.Option("--steps", min=1, help="Length of a decision's window, in steps.")],
    kind: Annotated[
        str, typer.Option("--kind", help="One of: " + "; ".join(f"{k} ({v})" for k, v in IMPORT_KINDS.items()))
    ] = ("auto"),
    constant_one: Annotated[
        bool, typer.Option("--constant-one", help="Trained with one extra input fixed at 1.")
    ] = False,
    encoder: Annotated[str, typer.Option("--encoder", help="current, poisson or equidistant.")] = "current",
    two_neurons: Annotated[bool, typer.Option("--two-neurons", help="Two channels per input, for the signs.")] = False,
    gain: Annotated[float, typer.Option("--gain", help="Spikes per step and unit of input (spiking encoders).")] = 1.0,
    decoder: Annotated[str, typer.Option("--decoder", help="potential, spike_count or first_spike.")] = "potential",
    threshold: Annotated[float, typer.Option("--threshold", help="Firing threshold.")] = 1.0,
    reset: Annotated[str, typer.Option("--reset", help="subtract or zero.")] = "subtract",
    reset_amount: Annotated[
        float | None, typer.Option("--reset-amount", help="What a spike subtracts. [default: the threshold]")
    ] = None,
    membrane_decay: Annotated[float, typer.Option("--membrane-decay", help="beta, per step; 1: no leak.")] = 1.0,
    synapse_decay: Annotated[float, typer.Option("--synapse-decay", help="alpha, per step; 0: none.")] = 0.0,
    compare: Annotated[str, typer.Option("--compare", help="'>' or '>=': does the threshold itself fire?")] = ">",
    name: Annotated[str | None, typer.Option("--name", help="The network's name. [default: the output's]")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the output file if it exists.")] = False,
    json: JsonOption = False,
) -> None:
    """Turn a trained torch model into a network file."""
    if output.exists() and not force:
        raise InvalidInputError(f"{output} exists: give another name, or --force to replace it.")
    network = import_torch(
        file,
        steps=steps,
        kind=kind,  # type: ignore[arg-type]  # checked there
        encoder=Encoder(encoder, two_neurons, constant_one, gain),  # type: ignore[arg-type]
        decoder=Decoder(decoder),  # type: ignore[arg-type]
        neuron=Neuron(threshold, reset, reset_amount, membrane_decay, synapse_decay, compare),  # type: ignore[arg-type]
        name=name or output.stem,
    )
    save(network, output)
    if json:
        emit({"file": str(output), **_network_facts(network)})
    else:
        line(f"{output}: {_shape(network)}, {network.steps} steps, hash {network.content_hash[:12]}")


def plan(
    agent: AgentArgument,
    on: ProfileOption,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Say what a target would get, before anything runs: populations, connections, delays, read-out."""
    network = load(agent)
    profile = load_profile(on, parse_settings(set_ or []))
    try:
        deployment = plan_deployment(network, profile)
    except PreflightError as error:
        for finding in error.findings:
            if str(finding) not in str(error):  # which is printed too
                say(f"- {finding.severity}: {finding}")
        raise
    if json:
        emit(deployment.as_dict())
    else:
        _print_plan(deployment)


def _print_plan(deployment: Deployment) -> None:
    network, window = deployment.network, deployment.window
    run_ms = (network.steps - window.lead_steps) * window.step_ms
    facts(
        f"{network.name} on {deployment.profile.name}",
        [
            ("recipe", deployment.recipe),
            ("promise", "exact" if deployment.exact else "approximate"),
            ("size", f"{deployment.neurons} neurons, {deployment.synapses} connections"),
            ("time", f"one step = {window.step_ms:g} ms, resolution {window.resolution_ms:g} ms"),
            ("window", f"{window.silence_ms:g} ms silence, then {window.input_lead_ms + run_ms:g} ms"),
            ("read-out", f"{network.decoder.kind}, after step {network.steps}"),
            *deployment.takes.items(),
            *_energy(deployment),
        ],
    )
    table(
        "Populations",
        ["name", "size ", "model", "parameters"],
        [
            (p.name, p.size, p.model, ", ".join(f"{k}={_short(v)}" for k, v in p.parameters.items()))
            for p in deployment.populations
        ],
    )
    table(
        "Projections",
        ["from", "to", "form", "connections ", "delay ms ", "weights"],
        [(p.source, p.target, p.form, p.synapses, _delays(p), _range(p.weight_range)) for p in deployment.projections],
    )
    for finding in deployment.findings:
        line(f"{finding.severity}: {finding}")


def _inspect_trace(trace: Trace, json: bool) -> None:
    episodes = trace.episodes()
    if json:
        emit({"trace": str(trace.path), "meta": trace.meta, "decisions": len(trace), "episodes": episodes})
        return
    facts(f"trace {trace.path}", [("decisions", len(trace)), *unfolded(trace.meta)])
    table(
        "Episodes",
        ["episode ", "seed ", "return ", "length ", "outcome"],
        [(e["episode"], e["seed"], e["return"], e["length"], e["outcome"] or "cut off") for e in episodes],
    )


def _network_facts(network: Network) -> dict[str, Any]:
    neuron, encoder = network.neuron, network.encoder
    return {
        "name": network.name,
        "hash": network.content_hash,
        "n_inputs": network.n_inputs,
        "n_channels": network.n_channels,
        "sizes": list(network.sizes),
        "layers": [layer.form for layer in network.layers],
        "delays": [layer.delay for layer in network.layers],
        "steps": network.steps,
        "neuron": {field: getattr(neuron, field) for field in neuron.__slots__},
        "encoder": encoder.facts,
        "decoder": network.decoder.kind,
        "provenance": dict(network.provenance),
    }


def _profile_facts(profile: Profile) -> list[tuple[str, object]]:
    return [
        ("what", profile.summary),
        ("target", profile.target),
        ("promise", "exact" if profile.exact else "approximate"),
        ("precision", profile.precision),
        ("order", profile.update_order),
        ("source", profile.source),
    ]


def _shape(network: Network) -> str:
    return "-".join(str(size) for size in (network.n_inputs, *network.sizes))


def _range(values: Any) -> str:
    return f"{np.min(values):.4g} to {np.max(values):.4g}"


def _energy(deployment: Deployment) -> list[tuple[str, str]]:
    if deployment.use is None:
        return []
    energy = estimate_spinnaker(deployment.use)
    parts = ", ".join(f"{name} {100 * joules / energy.joules:.1f} %" for name, joules in energy.parts.items())
    return [("energy per decision", str(energy)), ("of which", parts)]


def _delays(projection: Projection) -> str:
    last = projection.last_delay_ms
    return f"{projection.delay_ms:g}" + ("" if last in (None, projection.delay_ms) else f" to {last:g}")


def _short(value: object) -> str:
    return f"{value:.12g}" if isinstance(value, float) else str(value)

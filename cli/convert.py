"""The command that makes a conventional network spike: convert."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer

from ..errors import InvalidInputError
from ..models import Decoder, Encoder, save
from ..models.decoders import DecoderKind
from ..models.encoders import EncoderKind
from ..models.stimulus import FloatArray
from ..runtime.fidelity import load_observations
from .options import JsonOption
from .output import emit, facts, say, table


def register(app: typer.Typer) -> None:
    """Add this module's command to `app`."""
    app.command("convert")(convert)


def convert(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="A conventional network (.pt), a Stable-Baselines3 zip, or a training run's folder."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The network file to write.")],
    steps: Annotated[int, typer.Option("--steps", min=1, max=100_000, help="Length of a decision's window.")],
    normalise: Annotated[
        Literal["robust", "data", "model"],
        typer.Option("--normalise", help="Scale layers by a percentile of activations, the largest, or by weights."),
    ] = "robust",
    percentile: Annotated[
        float | None,
        typer.Option("--percentile", help="Of the activations, above 0 and at most 1; for 'robust'. [default: 0.99]"),
    ] = None,
    states: Annotated[
        Path | None,
        typer.Option(
            "--states",
            metavar="FILE",
            help="Observations [n, ...] that it meets (.npz, .npy), such as a run's replay.npz; 'model' needs none.",
        ),
    ] = None,
    max_states: Annotated[
        int, typer.Option("--max-states", min=1, help="Normalise by the first so many of the states.")
    ] = 20_000,
    encoder: Annotated[EncoderKind, typer.Option("--encoder", help="How observations enter.")] = "current",
    two_neurons: Annotated[
        bool, typer.Option("--two-neurons", help="Two channels per value, one for its negative part.")
    ] = False,
    gain: Annotated[
        float, typer.Option("--gain", help="Spikes per step and unit of value, of spiking encoders.")
    ] = 1.0,
    decoder: Annotated[DecoderKind, typer.Option("--decoder", help="How the output layer is read.")] = "potential",
    reset: Annotated[Literal["subtract", "zero"], typer.Option("--reset", help="What a spike does.")] = "subtract",
    architecture: Annotated[
        str | None,
        typer.Option("--architecture", metavar="NAME", help="Of a bare state_dict with convolutions: mnih or patel."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="The agent's name; the output file's unless given.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the output file if it exists.")] = False,
    json: JsonOption = False,
) -> None:
    """Make a conventional network spike: normalise its weights, and write a network file."""
    if not output.parent.is_dir():
        raise InvalidInputError(f"The output is {output}; its folder does not exist.")
    if output.exists() and not force:
        raise InvalidInputError(f"{output} exists: give another name, or --force to replace it.")
    if percentile is not None and normalise != "robust":
        raise InvalidInputError(f"A percentile was given; '{normalise}' has none: only --normalise robust does.")
    from ..training import conversion, policy  # which bring torch

    origin = policy.load_policy(file, architecture)
    known = None if states is None else conversion.usable_states(load_observations(states), origin.n_inputs)
    network = conversion.convert(
        origin,
        steps=steps,
        method=normalise,
        percentile=0.99 if percentile is None else percentile,
        states=known,
        max_states=max_states,
        encoder=Encoder(encoder, two_neurons=two_neurons, gain=gain),
        decoder=Decoder(decoder),
        reset=reset,
        name=name or output.stem,
    )
    save(network, output)
    scales = network.provenance["conversion"]["scales"]
    judged = None if known is None else _spread(known, _most_judged(network.n_channels))
    agreement = None if judged is None else conversion.agreement(origin, network, judged)
    if known is not None and encoder != "current" and (lost := conversion.inexpressible(network.encoder, known)):
        advice = "--gain" if two_neurons else "--two-neurons and --gain"
        say(f"warning: {lost:.1%} of the states' values are cut off, since rates go from 0 to 1: see {advice}")
    if json:
        emit(
            {
                "file": str(output),
                "network_hash": network.content_hash,
                "policy": origin.description,
                "layers": [layer.form for layer in network.layers],
                "steps": steps,
                "scales": scales,
                "agreement": agreement,
                "states": None if judged is None else len(judged),
            }
        )
        return
    rows = [
        (i, layer.form, f"{scale:.4g}") for i, (layer, scale) in enumerate(zip(network.layers, scales, strict=True))
    ]
    table(f"{origin.description}, made to spike", ["layer ", "connections", "scale "], rows)
    found = "not measured: no states were given"
    if agreement is not None and judged is not None:
        found = f"{agreement:.2%} of {len(judged)} states, on the reference"
    facts(str(output), [("steps", steps), ("agreement", found), ("hash", network.content_hash)])


def _most_judged(n_channels: int) -> int:
    """In how many states agreement is measured: all of them, but for images, whose decisions take long."""
    return 20_000 if n_channels < 1000 else 100


def _spread(states: FloatArray, most: int) -> FloatArray:
    """At most so many of the states, evenly spread over all: neighbours of one episode are alike."""
    return states[np.linspace(0, len(states) - 1, min(most, len(states))).astype(np.int64)]

"""Who plays: a spiking network on a target, a conventional one, or chance. Needs torch for torch files only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..deploy.findings import Finding
from ..deploy.twin import trained_for
from ..errors import InvalidInputError, NetworkFileError
from ..hardware_profiles.profile import Profile, Value, load_profile, profiles
from ..models import file
from ..models.decoders import Decoder, DecoderKind
from ..models.encoders import Encoder, EncoderKind, with_negatives
from ..models.loading import load
from ..models.network import Dense, Network
from ..models.stimulus import Stimulus
from ..models.torch_files import is_torch_file, load_torch
from ..runtime.agent import Agent, launch
from .episodes import CHANCE, Decide, Moment
from .storage import model_file

RANDOM = "random"


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a spiking network is fed and read, where it is not as the network itself says; see `Encoder`, `Decoder`.

    Parameters
    ----------
    encoder : str, optional
    two_neurons : bool
        The first layer's weights are doubled if the network has one channel per value.
    gain : float, optional
    decoder : str, optional
    steps : int, optional
    """

    encoder: EncoderKind | None = None
    two_neurons: bool = False
    gain: float | None = None
    decoder: DecoderKind | None = None
    steps: int | None = None

    def stated(self) -> list[str]:
        """The names of what is given."""
        return [entry.name for entry in fields(self) if getattr(self, entry.name) not in (None, False)]

    def of_encoder(self, encoder: Encoder) -> Encoder:
        """`encoder` with what is given in place of its own."""
        changed = replace(
            encoder,
            kind=self.encoder or encoder.kind,
            two_neurons=self.two_neurons or encoder.two_neurons,
            gain=encoder.gain if self.gain is None else self.gain,
        )
        if changed.kind == "current" and self.gain is not None:
            raise InvalidInputError(
                f"A gain of {self.gain:g} was given; constant currents have none: choose an encoder of spikes."
            )
        return changed

    def applied(self, network: Network) -> Network:
        """`network` with what is given in place of its own.

        Raises
        ------
        InvalidInputError
            If a value cannot be, or the encoder does not fit the network.
        """
        encoder, layers = self.of_encoder(network.encoder), network.layers
        if encoder.two_neurons and not network.encoder.two_neurons:
            first = layers[0]
            if not isinstance(first, Dense):
                raise InvalidInputError(
                    f"Two neurons per value need a dense first layer; '{network.name}' begins with {first!r}."
                )
            doubled = with_negatives(first.weights, encoder.constant_one)
            layers = (Dense(doubled, first.bias, first.delay), *layers[1:])
        return replace(
            network,
            layers=layers,
            encoder=encoder,
            decoder=network.decoder if self.decoder is None else Decoder(self.decoder),
            steps=network.steps if self.steps is None else self.steps,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Player:
    """Whoever plays.

    Attributes
    ----------
    name : str
    decide : Decide
    n_inputs, n_actions : int or None
        What it needs and chooses between; None where it does not matter.
    facts : mapping
        Plain values: what it is.
    side_by_side : int or None
        How many episodes it should play at a time, if not any number.
    findings : tuple of Finding
        What preflight had to say.
    """

    name: str
    decide: Decide
    n_inputs: int | None = None
    n_actions: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    side_by_side: int | None = None
    findings: tuple[Finding, ...] = ()


@contextlib.contextmanager
def open_player(
    source: str,
    n_actions: int,
    *,
    profile: Profile | str | Path = "reference",
    settings: Mapping[str, Value | str] | None = None,
    seed: int = 0,
    encoding: Encoding = Encoding(),
    constant_one: bool = False,
    architecture: str | None = None,
) -> Iterator[Player]:
    """Make `source` play.

    Parameters
    ----------
    source : str
        A network file, a bundled agent's name, a file of a conventional network as `policy.load_policy` reads it, the
        thesis' torch files of spiking networks, a training run's folder, or "random".
    n_actions : int
        What "random" chooses between.
    profile, settings
        Where a spiking network runs, as `launch` takes them. Elsewhere than on "reference" it plays one episode after
        the other.
    seed : int
        For targets that draw random numbers.
    encoding : Encoding
        A spiking network's. The thesis' files need ``steps``.
    constant_one : bool
        The thesis' file was trained with one more input, fixed at 1.
    architecture : str, optional
        Of a state_dict that does not say it itself.

    Raises
    ------
    SpikeloopError
        As loading and `launch` raise them.
    InvalidInputError
        If an option does not go with what `source` is.
    """
    options = {
        **dict.fromkeys((f"--{name.replace('_', '-')}" for name in encoding.stated()), "spiking"),
        **({"--constant-one": "thesis"} if constant_one else {}),
        **({"--architecture": "conventional"} if architecture is not None else {}),
        **({"--on": "spiking"} if profile != "reference" else {}),
        **({"--set": "spiking"} if settings else {}),
    }
    if source == RANDOM:
        _refuse(options, source, "random", "draws its actions at random")
        yield Player(RANDOM, lambda moment: _chance(moment, n_actions), facts={"kind": "random"})
        return
    path = model_file(source)
    kind = _kind(path)
    if kind == "conventional":
        _refuse(options, source, kind, "is a conventional network")
        yield _conventional(path, architecture)
        return
    if kind == "spiking":
        _refuse(options, source, kind, "is a network file")
        network = encoding.applied(load(path))
    else:
        _refuse(options, source, kind, "is a torch file of a spiking network", "spiking")
        network = _imported(path, encoding, constant_one)
    with launch(network, profile, seed=seed, settings=settings) as agent:
        yield Player(
            network.name,
            lambda moment: _spiking(agent, moment),
            network.n_inputs,
            network.n_outputs,
            {
                "kind": "spiking",
                "file": str(path),
                "network_hash": network.content_hash,
                "profile": agent.profile,
                "steps": network.steps,
                "encoder": {entry.name: getattr(network.encoder, entry.name) for entry in fields(network.encoder)},
                "decoder": network.decoder.kind,
            },
            None if agent.profile == "reference" else 1,
            (*agent.deployment.findings, *_elsewhere(agent)),
        )


def _elsewhere(agent: Agent) -> list[Finding]:
    """What should be known of a network that was trained under the dynamics of another profile."""
    meant_for = agent.network.provenance.get("trained_for")
    profile = agent.deployment.profile
    if not isinstance(meant_for, Mapping) or trained_for(agent.network, profile):
        return []
    name = str(meant_for.get("profile"))
    alike = profile.exact and name in profiles() and load_profile(name).exact
    if alike or name == profile.name:
        return []
    return [
        Finding(
            "warning",
            f"'{agent.network.name}' was trained under the dynamics of '{name}' and decides otherwise here.",
            f"Evaluate it with --on {name}.",
        )
    ]


def _kind(path: Path) -> str:
    """What a file holds: "spiking", also where that is for `load` to refuse, "thesis" or "conventional"."""
    if not path.is_file():
        return "spiking"
    data = file.read(path)
    if file.is_network_file(data) or not is_torch_file(data):
        return "spiking"
    try:
        content, _ = load_torch(path)
    except NetworkFileError:  # perhaps another library's archive
        return "conventional"
    return "thesis" if isinstance(content, tuple | list) else "conventional"


def _refuse(options: Mapping[str, str], source: str, kind: str, what: str, also: str = "") -> None:
    """Refuse an option that is for something else than a player of `kind`."""
    wrong = [name for name, needed in options.items() if needed not in (kind, also)]
    if wrong:
        needed = {
            "spiking": "a spiking network",
            "thesis": "a torch file of a spiking network",
            "conventional": "a conventional network's state_dict",
        }[options[wrong[0]]]
        raise InvalidInputError(f"{wrong[0]} is for {needed}; '{source}' {what}: leave it out.")


def _imported(path: Path, encoding: Encoding, constant_one: bool) -> Network:
    if encoding.steps is None:
        raise InvalidInputError(
            f"{path} is a torch file of a spiking network, which does not say how many steps a decision takes: "
            "give --steps N."
        )
    return load(
        path,
        steps=encoding.steps,
        encoder=encoding.of_encoder(Encoder(constant_one=constant_one)),
        decoder=Decoder(encoding.decoder or "potential"),
    )


def _conventional(path: Path, architecture: str | None) -> Player:
    from .policy import load_policy  # which needs torch

    policy = load_policy(path, architecture)
    return Player(
        policy.name,
        lambda moment: policy.actions(moment.observations),
        policy.n_inputs,
        policy.n_actions,
        {"kind": "conventional", "file": str(path), "description": policy.description},
    )


def _spiking(agent: Agent, moment: Moment) -> NDArray[np.int64]:
    """What the agent does; random encodings are those of `Agent.decide` in an episode reset with the same seed."""
    network = agent.network
    if network.encoder.random:
        parts = [
            network.encoder.encode(one[None, :], network.steps, int(seed), int(step))
            for one, seed, step in zip(moment.observations, moment.seeds, moment.steps, strict=True)
        ]
        spikes = [part.spikes for part in parts if part.spikes is not None]
        stimulus = Stimulus(np.concatenate([part.currents for part in parts]), np.concatenate(spikes))
    else:
        stimulus = network.encoder.encode(moment.observations, network.steps)
    return np.atleast_1d(agent.decide_stimulus(stimulus).action)


def _chance(moment: Moment, n_actions: int) -> NDArray[np.int64]:
    return np.array([int(generator.integers(n_actions)) for generator in moment.generators(CHANCE)])

"""The Network: what a trained spiking agent is, apart from any target.

Dynamics, in discrete steps, for layer ``l`` and step ``t`` (all potentials and synaptic inputs start at 0)::

    fired[l]  = mem[l] > threshold                  # or >=; tested on the potential before this step's update
    mem[l]    = beta*mem[l] + syn[l] - fired[l]*reset_amount      # reset "subtract"
    mem[l]    = 0 where fired[l], else beta*mem[l] + syn[l]       # reset "zero"
    syn[l]    = alpha*syn[l] + h[l]
    h[0]      = currents @ W[0] + spikes[t] @ W[0] + b[0]
    h[l]      = fired[l-1] @ W[l] + b[l]            # of this step; of `delay - 1` steps ago where the delay exceeds 1

``W[l]`` and ``b[l]`` are the layer's `connections` and `neuron_bias`, whatever its kind (`layers`). ``beta`` is the
membrane decay, ``alpha`` the synapse decay. With a potential decoder the last layer never fires. The update is
SpyTorch's (Zenke and Ganguli, *SuperSpike*, 2018), which the thesis' networks were trained under; with alpha = 0 and
beta = 1 it is the integrate-and-fire neuron of Rueckauer et al. (2016) with one step of latency a layer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from ..errors import InvalidInputError
from .decoders import Decoder
from .encoders import Encoder
from .layers import MAX_DELAY, MAX_NEURONS, MAX_SYNAPSES, Conv2d, Dense, Layer
from .stimulus import FloatArray, Stimulus, finite, number, whole

__all__ = ["MAX_DELAY", "MAX_STEPS", "Conv2d", "Dense", "Layer", "Network", "Neuron"]

MAX_STEPS = 100_000


@dataclass(frozen=True, slots=True)
class Neuron:
    """The dynamics that all neurons of a network share.

    Parameters
    ----------
    threshold : float > 0
    reset : "subtract" or "zero"
        What a spike does to the potential: lowers it by `reset_amount`, or sets it to 0 (and drops that step's input).
    reset_amount : float > 0, optional
        Only with reset "subtract"; the threshold unless given.
    membrane_decay : float in [0, 1]
        beta: the share of the potential that stays from one step to the next; 1 is a neuron without leak.
    synapse_decay : float in [0, 1)
        alpha: the share of the synaptic input that stays; 0 is an input that acts for one step.
    compare : ">" or ">="
        Whether a potential equal to the threshold fires.

    Raises
    ------
    InvalidInputError
        If a value is outside of its range.
    """

    threshold: float = 1.0
    reset: Literal["subtract", "zero"] = "subtract"
    reset_amount: float | None = None
    membrane_decay: float = 1.0
    synapse_decay: float = 0.0
    compare: Literal[">", ">="] = ">"

    def __post_init__(self) -> None:
        # Equal neurons must hash alike, however their numbers were written: 1 and 1.0 differ in a hash.
        for name in ("threshold", "membrane_decay", "synapse_decay"):
            object.__setattr__(self, name, number(getattr(self, name), name))
        _require("threshold", self.threshold, 0 < self.threshold < np.inf, "a finite number above 0")
        _require("reset", self.reset, self.reset in ("subtract", "zero"), "'subtract' or 'zero'")
        _require("membrane_decay", self.membrane_decay, 0 <= self.membrane_decay <= 1, "in [0, 1]")
        _require("synapse_decay", self.synapse_decay, 0 <= self.synapse_decay < 1, "in [0, 1)")
        _require("compare", self.compare, self.compare in (">", ">="), "'>' or '>='")
        if self.reset_amount is not None:
            object.__setattr__(self, "reset_amount", number(self.reset_amount, "reset_amount"))
            _require("reset", self.reset, self.reset == "subtract", "'subtract' where a reset_amount is given")
            _require("reset_amount", self.subtracted, 0 < self.subtracted < np.inf, "a finite number above 0")

    @property
    def subtracted(self) -> float:
        """What a spike takes from the potential, where the reset subtracts."""
        return self.threshold if self.reset_amount is None else self.reset_amount


@dataclass(frozen=True, eq=False)
class Network:
    """A trained spiking agent: layers, neuron dynamics, encoder, decoder and the length of its window.

    Two networks with the same `content_hash` decide alike; the name and the provenance are not part of it.

    Raises
    ------
    InvalidInputError
        If the layers do not fit together.
    """

    layers: tuple[Layer, ...]
    steps: int
    neuron: Neuron = field(default_factory=Neuron)
    encoder: Encoder = field(default_factory=Encoder)
    decoder: Decoder = field(default_factory=Decoder)
    name: str = "unnamed"
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        object.__setattr__(self, "provenance", MappingProxyType(dict(self.provenance)))
        if not self.layers:
            raise InvalidInputError("A network needs at least one layer; none was given.")
        for index, layer in enumerate(self.layers):
            if not isinstance(layer, Layer):
                raise InvalidInputError(
                    f"Layer {index} is of type {type(layer).__name__}; it must be a Dense or a Conv2d."
                )
        object.__setattr__(self, "steps", whole(self.steps, "steps", 1, MAX_STEPS))
        for index, (before, after) in enumerate(zip(self.layers, self.layers[1:], strict=False)):
            if before.n_out != after.n_in:
                raise InvalidInputError(
                    f"Layer {index} has {before.n_out} neurons, but layer {index + 1} expects {after.n_in} inputs."
                )
        unrolled = [layer for layer in self.layers if not isinstance(layer, Dense)]
        for what, count, most in (
            ("neurons", sum(layer.n_out for layer in unrolled), MAX_NEURONS),
            ("synapses", sum(layer.synapses for layer in unrolled), MAX_SYNAPSES),
        ):
            if count > most:
                raise InvalidInputError(f"The convolutions have {count} {what} together; at most {most} are possible.")
        if self.layers[0].delay != 1:
            raise InvalidInputError("The first layer's delay must be 1: its inputs come from outside of the network.")
        self.encoder.n_inputs(self.n_channels)  # raises if the channels cannot come from this encoder

    def __repr__(self) -> str:
        shape = "-".join(str(size) for size in (self.n_channels, *self.sizes))
        return f"<Network '{self.name}' {shape}, {self.steps} steps, {self.content_hash[:12]}>"

    @property
    def n_channels(self) -> int:
        """Inputs of the first layer, as the encoder fills them."""
        return self.layers[0].n_in

    @cached_property
    def n_inputs(self) -> int:
        """Values of one observation."""
        return self.encoder.n_inputs(self.n_channels)

    @property
    def n_outputs(self) -> int:
        """Neurons of the last layer: the number of actions."""
        return self.layers[-1].n_out

    @property
    def sizes(self) -> tuple[int, ...]:
        """Neurons of each layer."""
        return tuple(layer.n_out for layer in self.layers)

    @property
    def output_fires(self) -> bool:
        """Whether the last layer spikes, or only integrates (potential read-out)."""
        return self.decoder.kind != "potential"

    @property
    def spiking_sizes(self) -> tuple[int, ...]:
        """Neurons of each layer that can spike."""
        return self.sizes if self.output_fires else self.sizes[:-1]

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 (hex) of everything that bears on a decision."""
        digest = hashlib.sha256()
        facts = {
            "layers": [layer.signature for layer in self.layers],
            "steps": self.steps,
            "neuron": {**asdict(self.neuron), "reset_amount": self.neuron.subtracted},
            "encoder": self.encoder.facts,
            "decoder": asdict(self.decoder),
        }
        digest.update(json.dumps(facts, sort_keys=True).encode())
        for layer in self.layers:
            digest.update(layer.weights.astype("<f8").tobytes())
            digest.update(layer.bias.astype("<f8").tobytes())
        return digest.hexdigest()

    def observations(self, values: object) -> FloatArray:
        """`values` as float64 [n, n_inputs], refused if the shape or a value is unusable."""
        array = finite(values, "observation")
        if array.ndim not in (1, 2) or array.shape[-1] != self.n_inputs:
            raise InvalidInputError(
                f"An observation of shape {array.shape} was given; network '{self.name}' needs "
                f"({self.n_inputs},) or [n, {self.n_inputs}]."
            )
        if not array.size:
            raise InvalidInputError("No observations were given; at least one is needed.")
        return array if array.ndim == 2 else array.reshape(1, -1)

    def stimulus(self, stimulus: Stimulus) -> Stimulus:
        """`stimulus` itself, refused if it does not fit this network or a current is not finite."""
        given = stimulus.currents.shape, None if stimulus.spikes is None else stimulus.spikes.shape
        spikes_fit = stimulus.spikes is None or given[1] == (len(stimulus), self.steps, self.n_channels)
        if stimulus.currents.ndim != 2 or given[0][1] != self.n_channels or not spikes_fit:
            raise InvalidInputError(
                f"A stimulus of currents {given[0]} and spikes {given[1]} was given; network '{self.name}' needs "
                f"[n, {self.n_channels}] and [n, {self.steps}, {self.n_channels}]."
            )
        if stimulus.spikes is not None and stimulus.spikes.dtype != np.uint8:
            raise InvalidInputError(f"Spikes of type {stimulus.spikes.dtype} were given; counts as uint8 are needed.")
        finite(stimulus.currents, "currents")
        return stimulus


def _require(name: str, value: object, holds: bool, needed: str) -> None:
    if not holds:
        raise InvalidInputError(f"{name} is {value!r}; it must be {needed}.")

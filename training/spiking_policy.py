"""A spiking network that takes observations as they come, for algorithms that learn values or classes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..models.encoders import Encoder
from ..models.network import Dense, Network, Neuron
from .settings import positive, within
from .spiking import SpikingStack
from .surrogate import SurrogateKind


@dataclass(frozen=True, kw_only=True)
class SpikingSettings:
    """What a spiking network in training can be told.

    Parameters
    ----------
    steps : int
        Length of a decision's window.
    threshold, membrane_decay, synapse_decay : float
        The neuron's threshold, beta and alpha; see `spikeloop.models.Neuron`.
    reset : "subtract" or "zero"
        What a spike does to the potential.
    constant_one : bool
        One more input, which is always 1.
    biases : bool
        Whether neurons have biases that are learnt.
    weight_scale : float
        The first weights are drawn with a standard deviation of this over the square root of a neuron's inputs.
    surrogate : "superspike", "sigmoid", "triangle" or "arctan"
        Shape of the surrogate derivative.
    surrogate_scale : float
        Its steepness at the threshold.
    """

    steps: int = 20
    threshold: float = 1.0
    membrane_decay: float = 1.0
    synapse_decay: float = 0.0
    reset: Literal["subtract", "zero"] = "subtract"
    constant_one: bool = True
    biases: bool = False
    weight_scale: float = 1.0
    surrogate: SurrogateKind = "superspike"
    surrogate_scale: float = 100.0

    def check_spiking(self) -> None:
        """Refuse values that cannot be."""
        positive(self, "steps")
        within(self, 1e-6, 1e6, "surrogate_scale", "weight_scale")
        self.neuron()

    def neuron(self) -> Neuron:
        """The dynamics that all neurons share."""
        return Neuron(
            threshold=self.threshold,
            reset=self.reset,
            membrane_decay=self.membrane_decay,
            synapse_decay=self.synapse_decay,
        )


class SpikingPolicy(nn.Module):
    """A spiking stack behind a constant-current encoder.

    Parameters
    ----------
    settings : SpikingSettings
        Which also have `hidden`, `seed` and `input_scale`.
    n_inputs, n_actions : int
    """

    def __init__(self, settings: Any, n_inputs: int, n_actions: int) -> None:
        super().__init__()
        self._constant_one, self._scale, self._biases = settings.constant_one, settings.input_scale, settings.biases
        self.stack = SpikingStack(
            (n_inputs + settings.constant_one, *settings.hidden, n_actions),
            settings.steps,
            settings.neuron(),
            surrogate=settings.surrogate,
            surrogate_scale=settings.surrogate_scale,
            generator=torch.Generator().manual_seed(settings.seed),
            dtype=torch.float32,
        )
        with torch.no_grad():
            for weights in self.stack.weights:
                weights *= settings.weight_scale
        for bias in self.stack.biases:
            bias.requires_grad_(settings.biases)

    def forward(self, observations: Tensor) -> Tensor:
        """The output potentials [n, n_actions] for observations [n, n_inputs]."""
        currents = observations * self._scale
        if self._constant_one:
            currents = torch.cat([currents, torch.ones(len(currents), 1)], dim=1)
        potentials: Tensor = self.stack(currents)
        return potentials

    def learnt(self) -> tuple[Tensor, ...]:
        """The parameters that are learnt."""
        return tuple(parameter for parameter in self.parameters() if parameter.requires_grad)

    def to_network(self) -> Network:
        """The present parameters as a Network that takes raw observations."""
        network = self.stack.to_network(encoder=Encoder(constant_one=self._constant_one))
        first = network.layers[0]
        assert isinstance(first, Dense)
        weights = first.weights.copy()
        weights[: len(weights) - self._constant_one] *= self._scale
        return replace(network, layers=(Dense(weights, first.bias, first.delay), *network.layers[1:]))

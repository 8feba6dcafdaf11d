"""A spiking network that takes observations as they come, for algorithms that learn values or classes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..models.encoders import Encoder
from ..models.network import Dense, Network
from .spiking import SpikingStack


class SpikingPolicy(nn.Module):
    """A spiking stack behind a constant-current encoder.

    Parameters
    ----------
    settings : dataclass
        With `hidden`, `steps`, `neuron()`, `constant_one`, `biases`, `weight_scale`, `surrogate`, `surrogate_scale` and
        `input_scale`; see `spikeloop.training.dsqn.Settings`.
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

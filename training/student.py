"""What every student is: a spiking network in training, for one target. See `spikeloop.training.targets`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InvalidInputError
from ..hardware_profiles.profile import Profile
from ..models.encoders import Encoder
from ..models.network import Dense, Network, Neuron
from ..models.stimulus import FloatArray

# Weights and bias of each layer.
Layers = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True, slots=True)
class NeuronSettings:
    """What is asked of the neuron; see `spikeloop.models.Neuron`. None leaves it to the target.

    Parameters
    ----------
    threshold : float
    reset : "subtract" or "zero", optional
    membrane_decay, synapse_decay : float, optional
    """

    threshold: float = 1.0
    reset: Literal["subtract", "zero"] | None = None
    membrane_decay: float | None = None
    synapse_decay: float | None = None


@dataclass(frozen=True, slots=True)
class StudentSettings:
    """What a student is made of.

    Parameters
    ----------
    sizes : sequence of int
        Values of an observation, then the neurons of each layer.
    steps : int
        Length of a window.
    neuron : NeuronSettings
    surrogate_scale : float
        Steepness of the surrogate derivative at the threshold.
    range_weight : float
        Of the penalty for weights that could drive a neuron beyond the target's range, where it has one.
    """

    sizes: Sequence[int]
    steps: int
    neuron: NeuronSettings = NeuronSettings()
    surrogate_scale: float = 10.0
    range_weight: float = 1.0


class Student(nn.Module, ABC):
    """A spiking network in training, for one target.

    The parameters are those of a network that takes standardised observations: they are learnt more easily. The
    network that is exported takes raw ones.

    Attributes
    ----------
    weights, biases : torch.nn.ParameterList
        Of each layer: float64 [n_in, n_out] and [n_out].
    mean, deviation : float64 [n_inputs]
        Of the observations; see `standardise`.
    """

    def __init__(self, weights: nn.ParameterList, biases: nn.ParameterList) -> None:
        super().__init__()
        self.weights, self.biases = weights, biases
        self.mean = torch.zeros(len(weights[0]), dtype=torch.float64)
        self.deviation = torch.ones_like(self.mean)

    def standardise(self, observations: FloatArray) -> None:
        """Say how observations are distributed, by many [n, n_inputs]: what was learnt before loses its meaning."""
        self.mean = torch.from_numpy(observations.mean(axis=0))
        self.deviation = torch.from_numpy(np.maximum(observations.std(axis=0), 1e-6))

    def rescaled(self) -> Layers:
        """Weights and bias of each layer for raw observations."""
        layers = list(zip(self.weights, self.biases, strict=True))
        weights = layers[0][0] / self.deviation[:, None]
        layers[0] = weights, layers[0][1] - self.mean @ weights
        return layers

    def folded(self) -> Layers:
        """Weights and bias of each layer as the target will hold them: for raw observations, and quantised."""
        return [(self.quantise(weights), self.quantise(bias)) for weights, bias in self.rescaled()]

    def quantise(self, values: Tensor) -> Tensor:
        """Weights or biases in the target's number format, with a gradient as if they were as before.

        As they are, unless a target's student says otherwise: ``values + (rounded - values).detach()``.
        """
        return values

    def penalty(self) -> Tensor:
        """What is added to the loss for parameters that the target can hold only badly. Nothing, unless overridden."""
        return torch.zeros((), dtype=torch.float64)

    @abstractmethod
    def forward(self, observations: Tensor) -> Tensor:
        """The output potentials float64 [n, n_out] for raw observations float64 [n, n_inputs]."""

    @abstractmethod
    def to_network(self) -> Network:
        """The network that takes raw observations."""


def drawn(sizes: Sequence[int], generator: torch.Generator) -> tuple[nn.ParameterList, nn.ParameterList]:
    """First weights, normal with variance 1/n_in, and biases, 0."""
    shapes = list(pairwise(sizes))
    weights = (torch.randn(shape, generator=generator, dtype=torch.float64) / shape[0] ** 0.5 for shape in shapes)
    return nn.ParameterList(weights), nn.ParameterList(torch.zeros(shape[1], dtype=torch.float64) for shape in shapes)


def refuse_others(asked: NeuronSettings, given: Mapping[str, Any], profile: Profile) -> None:
    """Refuse a neuron that is not the profile's.

    Raises
    ------
    InvalidInputError
    """
    for name, value in given.items():
        wanted = getattr(asked, name)
        if wanted not in (None, value):
            raise InvalidInputError(
                f"{name}={wanted} was given; profile '{profile.name}' has {name}={value}: leave it out, or train for "
                "another profile."
            )


def empty(settings: StudentSettings, neuron: Neuron, encoder: Encoder = Encoder()) -> Network:  # noqa: B008  # frozen
    """A network of the shape that the student's will have, for the preflight."""
    return Network(tuple(Dense(np.zeros(shape)) for shape in pairwise(settings.sizes)), settings.steps, neuron, encoder)

"""Under which dynamics to train, so that a network decides on a target as it did in training.

A profile's mapping says which `Student` fits: a differentiable module that computes in its forward pass what the
profile's twin computes (`spikeloop.deploy.twin`), holds what the target demands of a network, and exports the network.
A new kind of target joins with one entry in `STUDENTS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from ..deploy.mapping import plan
from ..deploy.point_neuron import Constants, constants, is_known
from ..errors import InvalidInputError
from ..hardware_profiles.profile import Profile
from ..models.network import Dense, Network, Neuron
from .circuit import circuit_student
from .point_neuron import fire
from .spiking import SpikingStack, fold_standardisation
from .student import Layers, Student, StudentSettings, drawn, empty, refuse_others


class DiscreteStudent(Student):
    """Trained under the Network's own dynamics, for profiles that keep them exactly."""

    def __init__(self, stack: SpikingStack) -> None:
        super().__init__(stack.weights, stack.biases)
        self.stack = stack

    def forward(self, observations: Tensor) -> Tensor:
        """The output potentials float64 [n, n_out] for raw observations float64 [n, n_inputs]."""
        # Step by step, in the order in which the bundled agents were trained: they can be made again, bit by bit.
        *_, (_, potentials) = self.stack.unroll((observations - self.mean) / self.deviation)
        return potentials[-1]

    def to_network(self) -> Network:
        """The network that takes raw observations."""
        return fold_standardisation(self.stack.to_network(), self.mean.numpy(), self.deviation.numpy())


class PointNeuronStudent(Student):
    """Trained under the update of NEST's point neurons, tick by tick.

    The gradient is that of the plain unrolled window, without the reset; see `spikeloop.training.point_neuron`.

    Parameters
    ----------
    settings : StudentSettings
    neuron : Neuron
        Of the exported network.
    found : Constants
    generator : torch.Generator
        Draws the first weights: normal with variance 1/n_in. Biases start at 0.
    """

    def __init__(self, settings: StudentSettings, neuron: Neuron, found: Constants, generator: torch.Generator) -> None:
        super().__init__(*drawn(settings.sizes, generator))
        self.steps, self.neuron, self.constants = settings.steps, neuron, found
        self.surrogate_scale = settings.surrogate_scale
        self.ticks = settings.steps * found.ticks_per_step
        # What is left, at the window's end, of a potential that was there at the end of each tick.
        self._left = found.decay ** torch.arange(self.ticks - 1, -1, -1, dtype=torch.float64)

    def forward(self, observations: Tensor) -> Tensor:
        """The output potentials float64 [n, n_out] for raw observations float64 [n, n_inputs]."""
        spikes, layers = self._spikes(observations)
        found, delay, (weights, _) = self.constants, self.constants.delays[-1], layers[-1]
        before, after = self._currents(observations, layers, len(layers) - 1)
        early = self._left[: found.input_at].sum()
        integrated = found.gain * (early * before + (self._left.sum() - early) * after)
        if spikes:
            # A spike of tick k arrives in tick k + delay.
            kept = torch.cat([self._left[delay:], torch.zeros(min(delay, self.ticks), dtype=torch.float64)])
            n, size = spikes[-1].shape[1:]
            integrated = integrated + (kept @ spikes[-1].reshape(self.ticks, -1)).view(n, size) @ weights
        return integrated + found.start * found.decay**self.ticks - found.start

    def spikes(self, observations: Tensor) -> list[Tensor]:
        """Who fires when: float64 [ticks, n, neurons] of each hidden layer, 0 or 1."""
        return self._spikes(observations)[0]

    def _spikes(self, observations: Tensor) -> tuple[list[Tensor], Layers]:
        layers, found = self.folded(), self.constants
        spikes: list[Tensor] = []
        for index, (weights, _) in enumerate(layers[:-1]):
            before, after = self._currents(observations, layers, index)
            arrivals = spikes[-1] @ weights if spikes else None
            delay = found.delays[index]
            spikes.append(fire(before, after, arrivals, delay, self.ticks, found, self.surrogate_scale))
        return spikes, layers

    def _currents(self, observations: Tensor, layers: Layers, index: int) -> tuple[Tensor, Tensor]:
        """Of a layer, before and after the input has arrived: float64 [n, neurons]."""
        weights, bias = layers[index]
        steady = bias.expand(len(observations), -1)
        return steady, observations @ weights + bias if index == 0 else steady

    def to_network(self) -> Network:
        """The network that takes raw observations."""
        with torch.no_grad():
            layers = tuple(Dense(weights.numpy(), bias.numpy()) for weights, bias in self.folded())
        return Network(layers, self.steps, self.neuron)


def student_for(profile: Profile, settings: StudentSettings, generator: torch.Generator) -> Student:
    """The untrained student for a profile.

    Parameters
    ----------
    profile : Profile
    settings : StudentSettings
    generator : torch.Generator
        Draws the first weights.

    Raises
    ------
    InvalidInputError
        If no dynamics to train under are known for the profile, or it does not leave the neuron as asked for.
    PreflightError
        If a network of these sizes and this neuron cannot run under the profile.
    """
    factory = STUDENTS.get(profile.mapping)
    student = None if factory is None else factory(profile, settings, generator)
    if student is None:
        raise InvalidInputError(
            f"No dynamics to train under are known for profile '{profile.name}': it is random, or leaves parameters to "
            "the target. Train for another profile."
        )
    return student


def _discrete(profile: Profile, settings: StudentSettings, generator: torch.Generator) -> Student:
    asked = {entry.name: getattr(settings.neuron, entry.name) for entry in fields(settings.neuron)}
    neuron = Neuron(**{name: value for name, value in asked.items() if value is not None})
    plan(empty(settings, neuron), profile)
    stack = SpikingStack(
        settings.sizes, settings.steps, neuron, surrogate_scale=settings.surrogate_scale, generator=generator
    )
    return DiscreteStudent(stack)


def _point_neuron(profile: Profile, settings: StudentSettings, generator: torch.Generator) -> Student | None:
    if profile.target != "nest" or not is_known(profile):
        return None
    assert profile.neuron is not None and profile.time is not None, "the schema requires both"  # noqa: PT018
    # NEST's neurons fire at the threshold itself.
    given: dict[str, Any] = {"reset": profile.neuron.reset, "synapse_decay": 0.0}
    neuron = Neuron(threshold=settings.neuron.threshold, compare=">=", **given)
    found = constants(plan(empty(settings, neuron), profile))
    # Six digits, as the preflight compares them.
    given["membrane_decay"] = round(math.exp(-profile.time.step_ms / float(profile.neuron.parameters["tau_m"])), 6)
    refuse_others(settings.neuron, given, profile)
    return PointNeuronStudent(settings, replace(neuron, membrane_decay=given["membrane_decay"]), found, generator)


Factory = Callable[[Profile, StudentSettings, torch.Generator], Student | None]

# By a profile's mapping.
STUDENTS: dict[str, Factory] = {
    "reference": _discrete,
    "exact": _discrete,
    "point_neuron": _point_neuron,
    "decision_circuit": circuit_student,
}

"""The student for decision circuits: the integers of `spikeloop.deploy.spinnaker.circuit` in its forward pass.

What it computes is what the machine does, to the bit: quantised inputs, weights on each layer's grid, potentials with a
floor at zero, the outputs summed up.

A circuit compares its outputs within a range of +-0.5, whatever the observation. The largest of them stays the largest
at any scale. So the last layer is learnt at a scale of its own, and held at the largest one at which its worst case
fits. `CircuitStudent.forward` gives the outputs at the scale that is learnt, so that losses and margins mean what they
mean for other students.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..deploy.mapping import plan
from ..deploy.spinnaker.circuit import RING_MAX, Circuit, Ints, Ranges, ranges_of, shifts_of, unit
from ..errors import TargetError
from ..hardware_profiles.profile import Profile
from ..models.encoders import Encoder
from ..models.network import Dense, Network, Neuron
from ..models.stimulus import FloatArray
from .circuit_layer import fire
from .student import Layers, Student, StudentSettings, drawn, empty, refuse_others

NEURON = Neuron(threshold=1.0, reset="zero", compare=">=")
# The share of the first observations, a teacher's, that is within the codes' range in each value; the rest is cut off.
# Without the few largest, the codes are the finer where the teacher mostly is.
COVERED = 0.999
# Where weights are cut off before they are fitted: far beyond every range, and exact as integers and as floats.
_MOST = 2.0**40

# A layer's weights and biases as integers.
_Pair = tuple[Ints, Ints]


class CircuitStudent(Student):
    """Trained under a decision circuit's arithmetic.

    Parameters
    ----------
    settings : StudentSettings
    profile : Profile
        With mapping "decision_circuit".
    generator : torch.Generator
        Draws the first weights: normal with variance 1/n_in. Biases start at 0.

    Attributes
    ----------
    encoder : Encoder
        Quantises the inputs, at the resolution that `standardise` chooses.
    """

    def __init__(self, settings: StudentSettings, profile: Profile, generator: torch.Generator) -> None:
        super().__init__(*drawn(settings.sizes, generator))
        self.settings = settings
        self.encoder = _encoder(settings, profile)
        self._shape = empty(settings, NEURON, self.encoder)
        self._shifts = shifts_of(self._shape, profile)

    def standardise(self, observations: FloatArray) -> None:
        """Say how observations are distributed; the codes' range covers `COVERED` of these."""
        super().standardise(observations)
        largest = np.maximum(np.quantile(np.abs(observations), COVERED, axis=0), 1e-6)
        resolution = largest / (self._top - 1)
        self.encoder = Encoder(bits=self.encoder.bits, resolution=tuple(resolution.tolist()))

    def rescaled(self) -> Layers:
        """Weights and bias of each layer for quantised inputs."""
        (weights, bias), *others = super().rescaled()
        return [(weights * torch.tensor(self.encoder.resolution, dtype=weights.dtype)[:, None], bias), *others]

    def folded(self) -> Layers:
        """Weights and bias of each layer as the machine will hold them."""
        return self.held()[0]

    def held(self) -> tuple[Layers, float]:
        """Weights and bias of each layer as the machine will hold them, and the last layer's scale.

        They are rounded to the layer's grid. If a hidden neuron could be driven beyond its range, all that drives it is
        scaled down. The gradient is as if neither had happened.

        Raises
        ------
        TargetError
            If a parameter is not finite: the training has diverged.
        """
        layers = self.rescaled()
        if not all(torch.isfinite(values).all() for pair in layers for values in pair):
            raise TargetError("The training diverged: a weight is no longer a finite number. Lower the learning_rate.")
        units = [unit(shift) for shift in self._shifts]
        integers = self._within_range([_integers(pair, 1.0 / size) for pair, size in zip(layers, units, strict=True)])
        integers[-1], per_unit = self._fitted(integers, layers[-1])
        scale = per_unit * units[-1]
        weights, bias = layers[-1]
        layers[-1] = weights * scale, bias * scale
        held = [
            (_rounded(weights, w, size), _rounded(bias, b, size))
            for (weights, bias), (w, b), size in zip(layers, integers, units, strict=True)
        ]
        return held, scale

    def penalty(self) -> Tensor:
        """By how much hidden neurons could be driven beyond their range, as a share of it, times `range_weight`."""
        total = super().penalty()
        for index, (weights, bias) in enumerate(self.rescaled()[:-1]):
            up, down = weights.clamp(min=0.0), (-weights).clamp(min=0.0)
            if index == 0:  # in two's complement every bit can be set, and the highest counts negatively
                up = down = (up + down) * self._top
            room = self._room(index) * unit(self._shifts[index])
            for drive in (up.sum(dim=0) + bias.clamp(min=0.0), down.sum(dim=0) + (-bias).clamp(min=0.0)):
                total = total + (drive / room - 1.0).clamp(min=0.0).sum()
        return self.settings.range_weight * total

    def forward(self, observations: Tensor) -> Tensor:
        """The output potentials float64 [n, n_out] for raw observations float64 [n, n_inputs], as they are learnt.

        Divided by the last layer's scale, that is: what the machine compares is these times the scale.
        """
        layers, scale = self.held()
        spikes = self._spikes(observations, layers)[-1]
        weights, bias = layers[-1]
        return (spikes.sum(dim=0) @ weights + self.settings.steps * bias) / scale

    def spikes(self, observations: Tensor) -> list[Tensor]:
        """Who fires when: float64 [steps, n, neurons] of each hidden layer, 0 or 1, while the layer is driven."""
        return self._spikes(observations, self.folded())

    def _spikes(self, observations: Tensor, layers: Layers) -> list[Tensor]:
        steps, scale = self.settings.steps - len(layers) + 1, self.settings.surrogate_scale
        codes = torch.from_numpy(self.encoder.channels(observations.detach().numpy()))
        (weights, bias), *others = layers[:-1]
        spikes = [fire(codes @ weights + bias, None, steps, scale)]
        for index, (weights, bias) in enumerate(others, start=1):
            spikes.append(fire(bias.expand(len(codes), -1), spikes[-1] @ weights, steps + index, scale))
        return spikes

    def to_network(self) -> Network:
        """The network that takes raw observations."""
        with torch.no_grad():
            layers = tuple(Dense(weights.numpy(), bias.numpy()) for weights, bias in self.folded())
        return Network(layers, self.settings.steps, NEURON, self.encoder)

    @property
    def _top(self) -> int:
        assert self.encoder.bits is not None, "it quantises"
        return 1 << (self.encoder.bits - 1)

    def _room(self, layer: int) -> int:
        return RING_MAX - (1 << (15 - self._shifts[layer]))

    def _ranges(self, integers: list[_Pair]) -> Ranges:
        assert self.encoder.bits is not None, "it quantises"
        weights, biases = zip(*integers, strict=True)
        return ranges_of(Circuit(self._shape, self.encoder.bits, self._shifts, weights, biases))

    def _within_range(self, integers: list[_Pair]) -> list[_Pair]:
        """The integers, with all that drives a hidden neuron scaled down until its worst case fits."""
        found, ranges = list(integers), self._ranges(integers)
        for index, sums in enumerate(zip(ranges.excitation, ranges.inhibition, strict=True)):
            share = np.minimum(1.0, self._room(index) / np.maximum(np.maximum(*sums), 1))
            weights, bias = found[index]
            # Towards zero, so that rounding adds nothing.
            found[index] = np.trunc(weights * share).astype(np.int64), np.trunc(bias * share).astype(np.int64)
        return found

    def _fitted(self, integers: list[_Pair], last: tuple[Tensor, Tensor]) -> tuple[_Pair, float]:
        """The last layer's integers at the largest scale that fits, and that scale in integers per 1."""
        most = (1 << (14 - self._shifts[-1])) - 1
        largest = max(values.abs().max().item() for values in last)
        scale = 2.0**20 / max(largest, 1e-300)
        while True:
            pair = _integers(last, scale)
            ranges = self._ranges([*integers[:-1], pair])
            worst = max(int(ranges.highest.max()), -int(ranges.lowest.min()))
            if worst <= most:
                return pair, scale
            scale *= min(most / worst, 0.9999)


def circuit_student(profile: Profile, settings: StudentSettings, generator: torch.Generator) -> Student:
    """The untrained student for a profile with mapping "decision_circuit".

    Raises
    ------
    InvalidInputError
        If another neuron is asked for than the circuit's.
    PreflightError
        If a network of these sizes cannot be such a circuit.
    """
    given = {name: getattr(NEURON, name) for name in ("threshold", "reset", "membrane_decay", "synapse_decay")}
    refuse_others(settings.neuron, given, profile)
    plan(empty(settings, NEURON, _encoder(settings, profile)), profile)
    return CircuitStudent(settings, profile, generator)


def _encoder(settings: StudentSettings, profile: Profile) -> Encoder:
    assert profile.circuit is not None, "the schema requires it"
    return Encoder(bits=profile.circuit.input_bits, resolution=(1.0,) * settings.sizes[0])


def _integers(pair: tuple[Tensor, Tensor], scale: float) -> _Pair:
    weights, bias = (
        np.rint(np.clip(values.detach().numpy() * scale, -_MOST, _MOST)).astype(np.int64) for values in pair
    )
    return weights, bias


def _rounded(values: Tensor, integers: Ints, size: float) -> Tensor:
    """The integers in units of `size`, with the gradient of `values`."""
    return torch.from_numpy(integers) * size + (values - values.detach())

"""The Network's dynamics as a differentiable torch module: what is trained here is what is deployed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..errors import InvalidInputError
from ..models.decoders import Decoder
from ..models.encoders import Encoder
from ..models.network import Dense, Network, Neuron
from ..models.stimulus import FloatArray
from .fused import window
from .surrogate import Spike, SurrogateKind


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """What every layer did in a window.

    Attributes
    ----------
    rasters : tuple of float [n, steps, neurons], one per spiking layer
        1 where the neuron fired in the step, else 0; differentiable through the surrogate.
    traces : tuple of float [n, steps, neurons], one per layer
        The potential after the update of each step.
    """

    rasters: tuple[Tensor, ...]
    traces: tuple[Tensor, ...]


class SpikingStack(nn.Module):
    """Fully connected spiking layers, step for step as `spikeloop.models.network` defines them.

    The gradient does not pass through the reset, as in SuperSpike's reference implementation (SpyTorch).

    Parameters
    ----------
    sizes : sequence of int
        Channels, then the neurons of each layer.
    steps : int
        Length of a window.
    neuron : Neuron
    surrogate_scale : float > 0
        Steepness of the surrogate derivative: the larger, the narrower around the threshold.
    surrogate : str
        One of `spikeloop.training.surrogate.KINDS`.
    delays : sequence of int, optional
        One per layer, in steps; 1 unless given.
    decoder : Decoder, optional
        How the network is to be read; with "potential", as unless given, the last layer never fires.
    generator : torch.Generator, optional
        Draws the first weights: normal with variance 1/n_in. Biases start at 0.
    dtype : torch.dtype
        float64 unless given, in which the deployed network computes.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        steps: int,
        neuron: Neuron,
        *,
        surrogate_scale: float = 10.0,
        surrogate: SurrogateKind = "superspike",
        delays: Sequence[int] | None = None,
        decoder: Decoder | None = None,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        if len(sizes) < 2:
            raise InvalidInputError(f"Sizes {tuple(sizes)} were given; a stack needs its channels and a layer or more.")
        self.steps = steps
        self.neuron = neuron
        self.surrogate_scale = surrogate_scale
        self.surrogate = surrogate
        self.decoder = decoder or Decoder()
        self.delays = tuple(delays or [1] * (len(sizes) - 1))
        shapes = list(pairwise(sizes))
        self.weights = nn.ParameterList(
            torch.randn(shape, generator=generator, dtype=dtype) / shape[0] ** 0.5 for shape in shapes
        )
        self.biases = nn.ParameterList(torch.zeros(n_out, dtype=dtype) for _, n_out in shapes)

    @classmethod
    def from_network(
        cls, network: Network, *, surrogate_scale: float = 10.0, dtype: torch.dtype = torch.float64
    ) -> SpikingStack:
        """A stack with the parameters of `network`. It takes channels, so the encoder stays outside."""
        stack = cls(
            (network.n_channels, *network.sizes),
            network.steps,
            network.neuron,
            surrogate_scale=surrogate_scale,
            delays=[layer.delay for layer in network.layers],
            decoder=network.decoder,
            dtype=dtype,
        )
        with torch.no_grad():
            for layer, weights, bias in zip(network.layers, stack.weights, stack.biases, strict=True):
                weights.copy_(torch.from_numpy(layer.weights.copy()))
                bias.copy_(torch.from_numpy(layer.bias.copy()))
        return stack

    def to_network(self, *, encoder: Encoder | None = None, name: str = "unnamed") -> Network:
        """The stack's parameters as a Network, in float64; `encoder` is constant current unless given."""
        return Network(
            layers=tuple(
                Dense(weights.detach().double().numpy(), bias.detach().double().numpy(), delay)
                for weights, bias, delay in zip(self.weights, self.biases, self.delays, strict=True)
            ),
            steps=self.steps,
            neuron=self.neuron,
            encoder=encoder or Encoder(),
            decoder=self.decoder,
            name=name,
        )

    def forward(self, currents: Tensor, spikes: Tensor | None = None) -> Tensor:
        """The last layer's potentials [n, n_out] after the window; see `unroll` for the arguments."""
        if spikes is None and self.decoder.kind == "potential":
            return window(
                currents @ self.weights[0] + self.biases[0],
                list(self.weights)[1:],
                list(self.biases)[1:],
                steps=self.steps,
                neuron=self.neuron,
                surrogate=self.surrogate,
                scale=self.surrogate_scale,
                delays=self.delays[1:],
            )
        *_, (_, potentials) = self.unroll(currents, spikes)
        return potentials[-1]

    def record(self, currents: Tensor, spikes: Tensor | None = None) -> Record:
        """Spikes and potentials of all layers in all steps; see `unroll` for the arguments."""
        fired, potentials = zip(*self.unroll(currents, spikes), strict=True)
        return Record(
            rasters=tuple(torch.stack(layer, dim=1) for layer in zip(*fired, strict=True)),
            traces=tuple(torch.stack(layer, dim=1) for layer in zip(*potentials, strict=True)),
        )

    def unroll(self, currents: Tensor, spikes: Tensor | None = None) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
        """Advance step by step from the initial state.

        Parameters
        ----------
        currents : float [n, n_channels]
            Held constant for the window.
        spikes : float [n, steps, n_channels], optional
            How many spikes each channel emits in each step.

        Yields
        ------
        fired : list of float [n, neurons], one per spiking layer
            Who fired in this step.
        potentials : list of float [n, neurons], one per layer
            After this step's update.
        """
        neuron = self.neuron
        weights, biases = list(self.weights), list(self.biases)
        n_spiking = len(weights) - (self.decoder.kind == "potential")
        drive = currents @ weights[0] + biases[0]
        mem = [torch.zeros(len(currents), len(bias), dtype=bias.dtype) for bias in biases]
        syn = mem
        history: list[list[Tensor]] = []  # who fired, by step and layer
        for t in range(self.steps):
            fired = [self._fire(potential - neuron.threshold) for potential in mem[:n_spiking]]
            history.append(fired)
            inputs = [drive if spikes is None else drive + spikes[:, t] @ weights[0]]
            for layer in range(1, len(weights)):
                sent = t + 1 - self.delays[layer]
                arriving = history[sent][layer - 1] @ weights[layer] if sent >= 0 else 0.0
                inputs.append(arriving + biases[layer])
            updated = [neuron.membrane_decay * m + s for m, s in zip(mem, syn, strict=True)]
            mem = [self._reset(m, f) for m, f in zip(updated, fired, strict=False)] + updated[n_spiking:]
            syn = [neuron.synapse_decay * s + h for s, h in zip(syn, inputs, strict=True)]
            yield fired, mem

    def _fire(self, distance: Tensor) -> Tensor:
        neuron = self.neuron
        spikes: Tensor = Spike.apply(distance, self.surrogate, self.surrogate_scale, neuron.compare)  # type: ignore[no-untyped-call]
        return spikes

    def _reset(self, potential: Tensor, fired: Tensor) -> Tensor:
        spent = fired.detach()
        if self.neuron.reset == "zero":
            return potential * (1.0 - spent)
        return potential - self.neuron.subtracted * spent


def fold_standardisation(network: Network, mean: FloatArray, deviation: FloatArray) -> Network:
    """The network that takes raw observations where `network` takes ``(observation - mean) / deviation``.

    Scale and offset go into the first layer's weights and bias. Needs constant currents, one channel a value.

    Parameters
    ----------
    network : Network
    mean, deviation : float64 [n_inputs]
    """
    if network.encoder != Encoder():
        raise InvalidInputError(
            f"The network has {network.encoder}; only constant currents, one channel a value, can be rescaled."
        )
    first = network.layers[0]
    weights = first.weights / deviation[:, None]
    folded = Dense(weights, first.bias - mean @ weights, first.delay)
    return replace(network, layers=(folded, *network.layers[1:]))

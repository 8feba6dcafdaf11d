"""Conversion: the weights of a conventional network, normalised, as those of a spiking one.

A neuron with reset by subtraction that receives a constant input ``x`` in [0, 1] per step fires at the rate ``x``,
within one spike in the whole window: it is a ReLU whose output is read as a rate. A rate cannot exceed one spike a
step. Conversion therefore divides each layer by a scale that keeps its activations below 1. With ``s[l]`` the scale of
layer ``l`` and ``s[-1] = 1`` that of the observation::

    W'[l] = W[l] * s[l-1] / s[l]        b'[l] = b[l] / s[l]

so that the rate of a neuron stands for its activation divided by ``s[l]``.

Equivalence. In a window of T steps, the output potential divided by T differs from the scaled output of the
conventional network by terms of order 1/T (each layer acts one step later than the one before, and rates are multiples
of 1/T), as long as no activation exceeds its layer's scale and the encoder can express the observation. The share of
decisions that agree then tends to 1 as T grows. Where an activation does exceed the scale, as the percentile below 1 of
the robust method allows, the limit is a network whose activations are cut off there; `agreement` measures what that
costs.

References
----------
Diehl et al., "Fast-classifying, high-accuracy spiking deep networks through weight and threshold balancing", IJCNN
2015, algorithms 1 and 2.
Rueckauer et al., "Theory and tools for the conversion of analog to spiking convolutional neural networks", 2016,
section 3 (normalisation by a percentile, biases, average pooling).
"""

from __future__ import annotations

import hashlib
import math
import platform
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .. import __version__
from ..errors import InvalidInputError, MissingPackageError
from ..models.decoders import Decoder
from ..models.encoders import Encoder
from ..models.layers import Conv2d as SpikingConv2d
from ..models.layers import Layer as SpikingLayer
from ..models.network import Dense, Network, Neuron
from ..models.stimulus import FloatArray, finite, whole
from ..runtime.agent import launch

try:
    import torch

    from .architecture import AvgPool2d, Conv2d, Flatten, Linear, ReLU, Scale, Shape
    from .policy import Policy
except ModuleNotFoundError:
    raise MissingPackageError.needs("Conversion", "PyTorch", "training") from None

Method = Literal["robust", "data", "model"]
METHODS: dict[str, str] = {
    "robust": "a percentile of the activations in given states (Rueckauer et al. 2016)",
    "data": "the largest activation in given states (Diehl et al. 2015)",
    "model": "the largest activation that the weights allow (Diehl et al. 2015)",
}
CONVERTIBLE = "linear, conv2d, avg_pool2d, scale and flatten, with a relu after every layer of neurons but the last"
_STATES_AT_ONCE = 128
_ADVICE = {
    "tanh": (
        "rates cannot be negative. Train with ReLU instead (Stable-Baselines3: "
        "policy_kwargs=dict(activation_fn=torch.nn.ReLU)), or distil: let a spiking network imitate this one"
    ),
}


@dataclass(slots=True)
class _Stage:
    """A layer of neurons: what it computes, before normalisation."""

    index: int  # of its layer in the architecture
    kind: str
    weights: FloatArray  # dense [n_in, n_out], else [c_out, c_in / groups, kernel, kernel]
    bias: FloatArray
    shape: Shape  # of what goes into it
    stride: int = 1
    padding: int = 0
    output: int = -1  # where `Policy.activations` tells what comes out of it

    @property
    def where(self) -> str:
        return f"Layer {self.index} ({self.kind})"

    @property
    def pools(self) -> bool:
        return self.kind == "avg_pool2d"


def convert(
    policy: Policy,
    *,
    steps: int,
    method: Method = "robust",
    percentile: float = 0.99,
    states: object = None,
    max_states: int = 20_000,
    encoder: Encoder | None = None,
    decoder: Decoder | None = None,
    reset: Literal["subtract", "zero"] = "subtract",
    name: str | None = None,
) -> Network:
    """A spiking network that decides as `policy` does, the more often the more steps it has.

    Parameters
    ----------
    policy : Policy
        Of linear, conv2d and avg_pool2d layers with a ReLU after each but the last, scale and flatten. A factor of
        scale goes into the weights next to it; linear layers without a ReLU between them become one. Average pooling
        becomes a layer of neurons (a convolution of each channel with 1 / kernel**2) that keeps the scale of the layer
        before it.
    steps : int
        Length of the window.
    method : "robust", "data" or "model"
        Where a layer's scale comes from. In each case it is at least the layer's largest weight or bias (by sign, not
        by size).

        "robust": in each state the largest activation of the layer, after the ReLU (of the last layer: as it is);
        these n maxima in ascending order; the one at index ``int(percentile * (n - 1))``.
        "data": "robust" with a percentile of 1, the largest activation.
        "model": the largest, over the layer's neurons, of the sum of a neuron's positive weights and positive bias,
        each layer by itself, of the weights as trained. It bounds the activations of the first layer for inputs in
        [0, 1] only, and those of the others not strictly; Diehl et al. divide by it without multiplying by the scale of
        the layer before.
    percentile : float in (0, 1]
        Of "robust".
    states : array [n, ...], for "robust" and "data"
        Observations that the policy meets; each is flattened.
    max_states : int
        Only the first so many are used.
    encoder : Encoder, optional
        Constant currents unless given. The first layer's weights are divided by a spiking encoder's gain, and doubled
        in number, with negative signs, for one of two neurons per value.
    decoder : Decoder, optional
        Potential unless given.
    reset : "subtract" or "zero"
        Reset to zero drops what a potential has above the threshold, so rates are too low (Rueckauer et al. 2016).
    name : str, optional
        The policy's unless given.

    Returns
    -------
    Network
        Neurons without leak, threshold 1. Its provenance tells method, scales, states and the policy's origin.

    Raises
    ------
    InvalidInputError
        If a layer cannot be converted, an argument is out of range, or a layer's scale is not above 0.
    """
    encoder, decoder = encoder or Encoder(), decoder or Decoder()
    _check(method, percentile, encoder)
    stages = _stages(policy)
    facts: dict[str, Any] = {"method": method}
    if method == "model":
        scales = [math.nan if stage.pools else _largest_sum(stage) for stage in stages]
    else:
        quantile = 1.0 if method == "data" else float(percentile)
        used = _usable(states, policy, method)[: whole(max_states, "max_states", 1, 10**9)]
        scales = _quantiles(policy, stages, used, quantile)
        facts |= {"percentile": quantile, "states": len(used), "states_sha256": _sha256(used)}
        if encoder.kind != "current":
            facts["inexpressible_values"] = inexpressible(encoder, used)
    scales = _at_least_the_weights(stages, scales)
    facts["scales"] = scales
    facts["layers"] = [stage.index for stage in stages]
    return Network(
        layers=tuple(_normalised(stages, scales, encoder)),
        steps=steps,
        neuron=Neuron(reset=reset),
        encoder=encoder,
        decoder=decoder,
        name=name or policy.name,
        provenance={
            "algorithm": "conversion of a conventional network",
            "script": "spikeloop.training.conversion",
            "conversion": facts,
            "policy": {
                "name": policy.name,
                "description": policy.description,
                **({"sha256": policy.sha256} if policy.sha256 else {}),
                **policy.provenance,
            },
            "versions": {
                "spikeloop": __version__,
                "torch": torch.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
        },
    )


def agreement(policy: Policy, network: Network, states: FloatArray, seed: int = 0) -> float:
    """The share of states [n, n_inputs] in which the network, on the reference target, does what the policy does.

    Raises
    ------
    InvalidInputError
        If the states fit one of them not, or there are none.
    """
    states = network.observations(states)
    # A window's spikes are what takes memory: in, for spiking encoders, and out, for decoders that read them.
    per_state = network.steps * (network.n_channels + sum(network.sizes))
    at_once = max(1, min(4096, 200_000_000 // per_state))
    agreed = 0
    with launch(network, "reference", seed=seed) as agent:
        for first in range(0, len(states), at_once):
            chunk = states[first : first + at_once]
            agreed += int(np.count_nonzero(agent.decide(chunk).action == policy.actions(chunk)))
    return agreed / len(states)


def inexpressible(encoder: Encoder, states: FloatArray) -> float:
    """The share of values that a spiking encoder cuts off: rates above 1, and negative values without two neurons."""
    scaled = states * encoder.gain
    return float(np.mean((scaled > 1.0) | (scaled < (-1.0 if encoder.two_neurons else 0.0))))


def usable_states(states: object, n_inputs: int) -> FloatArray:
    """States [n, ...] as float64 [n, n_inputs].

    Raises
    ------
    InvalidInputError
        If there are none, or their shape is another.
    """
    array = finite(states, "states")
    if not array.size:
        raise InvalidInputError("No states were given; at least one is needed.")
    flat = array.reshape(len(array), -1) if array.ndim > 1 else array.reshape(1, -1)
    if flat.shape[1] != n_inputs:
        raise InvalidInputError(f"States of shape {array.shape} were given; the policy needs [n, {n_inputs}].")
    return flat


def _check(method: str, percentile: float, encoder: Encoder) -> None:
    if method not in METHODS:
        raise InvalidInputError(f"Method '{method}' was given; it must be one of {', '.join(METHODS)}.")
    if isinstance(percentile, bool) or not 0.0 < percentile <= 1.0:  # NaN too
        raise InvalidInputError(f"A percentile of {percentile!r} was given; it must be above 0 and at most 1.")
    if encoder.constant_one:
        raise InvalidInputError("A converted network has biases and no constant channel: constant_one cannot be used.")


def _usable(states: object, policy: Policy, method: str) -> FloatArray:
    if states is None:
        raise InvalidInputError(
            f"Method '{method}' needs states that the policy meets, and none were given; method 'model' needs none."
        )
    return usable_states(states, policy.n_inputs)


def _sha256(states: FloatArray) -> str:
    return hashlib.sha256(states.astype("<f8").tobytes()).hexdigest()


def _stages(policy: Policy) -> list[_Stage]:
    """The layers of neurons, with scale folded into their weights; refuses what has no spiking counterpart."""
    architecture = policy.architecture
    stages: list[_Stage] = []
    linear: _Stage | None = None  # the last layer of neurons, while no ReLU has followed
    factor = 1.0  # that what comes out of the last ReLU is still to be multiplied by
    layers = zip(architecture.layers, architecture.shapes(), policy.module, strict=False)
    for index, (layer, shape, module) in enumerate(layers):
        where = f"Layer {index} ({layer.kind})"
        if isinstance(layer, Scale):
            if linear is None:
                factor *= layer.factor
            else:
                linear.weights, linear.bias = linear.weights * layer.factor, linear.bias * layer.factor
        elif isinstance(layer, Linear | Conv2d):
            weights, bias = _array(module.weight) * factor, _array(module.bias)
            if isinstance(layer, Conv2d):
                following = _Stage(index, layer.kind, weights, bias, shape, layer.stride, layer.padding)
            else:
                following = _Stage(index, layer.kind, np.ascontiguousarray(weights.T), bias, shape)
            linear, factor = following if linear is None else _joined(linear, following), 1.0
        elif isinstance(layer, AvgPool2d):
            if linear is not None or not stages or factor <= 0.0:
                raise InvalidInputError(
                    f"{where} cannot be converted: it needs a relu, and no negative scale, before it."
                )
            kernel = np.full((shape[0], 1, layer.kernel, layer.kernel), factor / layer.kernel**2)
            stages.append(_Stage(index, layer.kind, kernel, np.zeros(shape[0]), shape, layer.stride, output=index))
            factor = 1.0
        elif isinstance(layer, ReLU):
            if linear is not None:
                linear.output = index
                stages.append(linear)
                linear = None
            elif not stages or factor < 0.0:
                raise InvalidInputError(f"{where} cannot be converted: a layer of neurons must come before it.")
        elif not isinstance(layer, Flatten):
            raise InvalidInputError(
                f"{where} cannot be converted: {_ADVICE.get(layer.kind, f'supported are {CONVERTIBLE}')}."
            )
    if linear is None:
        last = architecture.layers[-1].kind
        raise InvalidInputError(
            f"Layer {len(architecture.layers) - 1} ({last}) cannot be converted as the last one: a linear layer "
            "without a relu must be the last, since decisions compare its outputs, negative ones too."
        )
    return [*stages, linear]


def _joined(before: _Stage, after: _Stage) -> _Stage:
    """Two layers without a ReLU between them are one."""
    if before.kind != "linear" or after.kind != "linear":
        raise InvalidInputError(
            f"{after.where} cannot be converted: a relu is needed between it and layer {before.index} ({before.kind})."
        )
    bias = before.bias @ after.weights + after.bias
    return _Stage(after.index, after.kind, before.weights @ after.weights, bias, before.shape)


def _array(values: object) -> FloatArray:
    assert isinstance(values, torch.Tensor), "weights and bias; every layer of `build` has both"
    return np.array(values.detach().double().numpy())


def _largest_sum(stage: _Stage) -> float:
    inputs = 0 if stage.kind == "linear" else (1, 2, 3)
    return float((np.maximum(stage.weights, 0.0).sum(axis=inputs) + np.maximum(stage.bias, 0.0)).max())


def _quantiles(policy: Policy, stages: list[_Stage], states: FloatArray, percentile: float) -> list[float]:
    maxima: list[list[FloatArray]] = [[] for _ in stages]
    for first in range(0, len(states), _STATES_AT_ONCE):
        activations = policy.activations(states[first : first + _STATES_AT_ONCE])
        for stage, found in zip(stages, maxima, strict=True):
            layer = activations[stage.output]
            found.append(layer.reshape(len(layer), -1).max(axis=1))
    ordered = [np.sort(np.concatenate(found)) for found in maxima]
    return [float(values[int(percentile * (len(values) - 1))]) for values in ordered]


def _at_least_the_weights(stages: list[_Stage], activations: list[float]) -> list[float]:
    scales: list[float] = []
    for stage, activation in zip(stages, activations, strict=True):
        if stage.pools:  # a mean of rates is a rate
            scales.append(scales[-1] * float(stage.weights.flat[0]) * stage.weights[0].size)
            continue
        largest = max(float(stage.weights.max()), float(stage.bias.max()))
        scale = max(activation, largest)
        if not 0.0 < scale < math.inf:  # NaN too
            raise InvalidInputError(
                f"{stage.where} cannot be normalised: its largest activation is {activation:g} and its largest weight "
                f"or bias {largest:g}, and one of them must be above 0 and finite. Does the policy work, and are the "
                "states its own?"
            )
        scales.append(scale)
    return scales


def _normalised(stages: list[_Stage], scales: list[float], encoder: Encoder) -> list[SpikingLayer]:
    layers: list[SpikingLayer] = []
    before = 1.0 if encoder.kind == "current" else 1.0 / encoder.gain
    for stage, scale in zip(stages, scales, strict=True):
        weights, bias, shape = stage.weights * (before / scale), stage.bias / scale, stage.shape
        dense = stage.kind == "linear"
        if not layers and encoder.two_neurons:  # all positive parts come first, then all negative ones
            weights = np.concatenate([weights, -weights], axis=0 if dense else 1)
            shape = shape if dense else (2 * shape[0], *shape[1:])
        layers.append(Dense(weights, bias) if dense else _convolution(stage, weights, bias, shape))
        before = scale
    return layers


def _convolution(stage: _Stage, weights: FloatArray, bias: FloatArray, shape: Shape) -> SpikingLayer:
    channels, height, width = shape
    return SpikingConv2d(
        weights,
        bias,
        input_shape=(channels, height, width),
        stride=(stage.stride, stage.stride),
        padding=(stage.padding, stage.padding),
        groups=channels if stage.pools else 1,
    )

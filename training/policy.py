"""A conventional network: what DQN and REINFORCE train, what other libraries bring, and what is converted or imitated.

Its file is what ``torch.save`` writes of a format name, an architecture, the arrays and a provenance; it is read with
``weights_only=True``, like every torch file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from ..errors import InvalidInputError, NetworkFileError
from ..models.stimulus import FloatArray, finite
from ..models.torch_files import linear_stack, load_torch
from .storage import replace_file

FORMAT = "spikeloop-policy"


class _Layer(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Linear(_Layer):
    """Fully connected; takes what came before as a flat list."""

    kind: Literal["linear"] = "linear"
    outputs: int = Field(ge=1, le=10**6)


class Conv2d(_Layer):
    """A convolution over [channels, height, width], with zeros around it."""

    kind: Literal["conv2d"] = "conv2d"
    channels: int = Field(ge=1, le=10**5)
    kernel: int = Field(ge=1, le=1000)
    stride: int = Field(default=1, ge=1, le=1000)
    padding: int = Field(default=0, ge=0, le=1000)


class AvgPool2d(_Layer):
    """The mean over squares of `kernel` pixels a side."""

    kind: Literal["avg_pool2d"] = "avg_pool2d"
    kernel: int = Field(ge=1, le=1000)
    stride: int = Field(ge=1, le=1000)


class ReLU(_Layer):
    """``max(0, x)``."""

    kind: Literal["relu"] = "relu"


class Flatten(_Layer):
    """[channels, height, width] as a flat list, in this order."""

    kind: Literal["flatten"] = "flatten"


class Scale(_Layer):
    """Multiplies by a number, such as 1/255 for pixels."""

    kind: Literal["scale"] = "scale"
    factor: float


Layer = Annotated[Linear | Conv2d | AvgPool2d | ReLU | Flatten | Scale, Field(discriminator="kind")]


class Architecture(_Layer):
    """The shape of an observation, and the layers from first to last."""

    input_shape: tuple[int, ...] = Field(min_length=1, max_length=3, strict=False)
    layers: tuple[Layer, ...] = Field(min_length=1, max_length=1000, strict=False)

    @property
    def n_inputs(self) -> int:
        """Values of an observation."""
        return math.prod(self.input_shape)


def mlp(n_inputs: int, hidden: Sequence[int], n_actions: int) -> Architecture:
    """Linear layers with ReLU between them."""
    layers: list[Any] = []
    for size in hidden:
        layers += [Linear(outputs=size), ReLU()]
    return Architecture(input_shape=(n_inputs,), layers=(*layers, Linear(outputs=n_actions)))


def mnih(n_actions: int) -> Architecture:
    """The network of Mnih et al., "Human-level control through deep reinforcement learning", Nature 518, 2015."""
    return Architecture(
        input_shape=(4, 84, 84),
        layers=(
            Scale(factor=1.0 / 255.0),
            Conv2d(channels=32, kernel=8, stride=4),
            ReLU(),
            Conv2d(channels=64, kernel=4, stride=2),
            ReLU(),
            Conv2d(channels=64, kernel=3, stride=1),
            ReLU(),
            Flatten(),
            Linear(outputs=512),
            ReLU(),
            Linear(outputs=n_actions),
        ),
    )


def patel(n_actions: int) -> Architecture:
    """The network of Patel et al., "Improved robustness of reinforcement learning policies ...", 2019: 6400-1000-n."""
    return Architecture(
        input_shape=(80, 80),
        layers=(Scale(factor=1.0 / 255.0), Flatten(), Linear(outputs=1000), ReLU(), Linear(outputs=n_actions)),
    )


class _Scaled(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, values: Tensor) -> Tensor:
        return values * self.factor


def build(architecture: Architecture) -> nn.Sequential:
    """The torch module of an architecture, one child a layer, with torch's own first weights.

    Raises
    ------
    InvalidInputError
        If a layer does not fit what comes before it.
    """
    shape = architecture.input_shape
    modules: list[nn.Module] = []
    for index, layer in enumerate(architecture.layers):
        if isinstance(layer, Conv2d | AvgPool2d):
            if len(shape) != 3:
                raise InvalidInputError(f"Layer {index} ({layer.kind}) needs [channels, height, width], not {shape}.")
            padding = layer.padding if isinstance(layer, Conv2d) else 0
            sides = [(side + 2 * padding - layer.kernel) // layer.stride + 1 for side in shape[1:]]
            if min(sides) < 1:
                raise InvalidInputError(f"Layer {index} ({layer.kind}) has a kernel too large for {shape}.")
            if isinstance(layer, Conv2d):
                modules.append(nn.Conv2d(shape[0], layer.channels, layer.kernel, layer.stride, layer.padding))
                shape = (layer.channels, *sides)
            else:
                modules.append(nn.AvgPool2d(layer.kernel, layer.stride))
                shape = (shape[0], *sides)
        elif isinstance(layer, Linear):
            if len(shape) != 1:
                raise InvalidInputError(f"Layer {index} (linear) needs a flat list, not {shape}: flatten first.")
            modules.append(nn.Linear(shape[0], layer.outputs))
            shape = (layer.outputs,)
        elif isinstance(layer, Flatten):
            modules.append(nn.Flatten())
            shape = (math.prod(shape),)
        else:
            modules.append(_Scaled(layer.factor) if isinstance(layer, Scale) else nn.ReLU())
    if len(shape) != 1:
        raise InvalidInputError(f"The last layer gives {shape}; a value for each action is needed.")
    return nn.Sequential(*modules)


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """A conventional network that decides by its largest output. It is a `Teacher`.

    Parameters
    ----------
    architecture : Architecture
    module : torch.nn.Sequential
        One child for each layer.
    provenance : mapping
        Plain values: how it was trained.
    name : str
    """

    architecture: Architecture
    module: nn.Sequential
    provenance: Mapping[str, Any] = field(default_factory=dict)
    name: str = "unnamed"

    @property
    def n_inputs(self) -> int:
        """Values of an observation."""
        return self.architecture.n_inputs

    @property
    def n_actions(self) -> int:
        """Actions it chooses from."""
        return next(layer.outputs for layer in reversed(self.architecture.layers) if isinstance(layer, Linear))

    @property
    def description(self) -> str:
        """What it is, in one sentence."""
        kinds = "-".join(
            str(layer.outputs) if isinstance(layer, Linear) else f"{layer.channels}c{layer.kernel}"
            for layer in self.architecture.layers
            if isinstance(layer, Linear | Conv2d)
        )
        how = self.provenance.get("algorithm")
        return f"conventional network '{self.name}', {self.n_inputs}-{kinds}" + (f", trained by {how}" if how else "")

    def values(self, observations: FloatArray) -> FloatArray:
        """What it compares: float64 [n, n_actions] for observations [n, n_inputs]."""
        return self.activations(observations)[-1]

    def actions(self, observations: FloatArray) -> NDArray[np.int64]:
        """What it does: [n] for observations [n, n_inputs]; the first of equal values."""
        return np.asarray(self.values(observations).argmax(axis=1))

    def activations(self, observations: FloatArray) -> list[FloatArray]:
        """What comes out of each layer: float64 [n, ...], for observations [n, n_inputs].

        Raises
        ------
        InvalidInputError
            If the observations do not fit.
        """
        states = finite(observations, "observations")
        if states.ndim != 2 or states.shape[1] != self.n_inputs:
            raise InvalidInputError(
                f"Observations of shape {states.shape} were given; '{self.name}' needs [n, {self.n_inputs}]."
            )
        kind = next(self.module.parameters()).dtype
        values = torch.from_numpy(states).to(kind).reshape(-1, *self.architecture.input_shape)
        found = []
        with torch.no_grad():
            for layer in self.module:
                values = layer(values)
                found.append(values.double().numpy())
        return found

    def save(self, path: str | Path) -> None:
        """Write the file; an existing one is replaced in one step."""
        content = {
            "format": FORMAT,
            "version": 1,
            "name": self.name,
            "architecture": self.architecture.model_dump_json(),
            "provenance": json.dumps(dict(self.provenance)),
            "state_dict": self.module.state_dict(),
        }
        replace_file(path, lambda file: torch.save(content, file))


def load_policy(path: str | Path) -> Policy:
    """Read a conventional network: one of ours, or a state_dict of Linear layers with ReLU between them.

    Raises
    ------
    NetworkFileError
        If the file is neither, or damaged.
    """
    path = Path(path)
    content, _ = load_torch(path)
    if not (isinstance(content, Mapping) and content.get("format") == FORMAT):
        return _from_linear_stack(content, path)
    try:
        if content["version"] != 1:
            raise NetworkFileError(
                f"{path} has policy format version {content['version']}; this Spikeloop reads 1: "
                "pip install -U spikeloop"
            )
        architecture = Architecture.model_validate_json(content["architecture"])
        module = build(architecture)
        module.load_state_dict(content["state_dict"])
        policy = Policy(architecture, module, json.loads(content["provenance"]), str(content["name"]))
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, ValidationError) as error:
        raise NetworkFileError(f"{path} is damaged: {' '.join(str(error).split())[:200]}.") from None
    _refuse_not_finite(module, path)
    return policy


def from_linear(pairs: Sequence[tuple[Any, Any]], name: str = "unnamed", **provenance: Any) -> Policy:
    """A policy of Linear layers with ReLU between them.

    Parameters
    ----------
    pairs : sequence of (float [n_in, n_out], float [n_out] or None)
        Weights and bias of each layer.

    Raises
    ------
    InvalidInputError
        If a layer does not take what the one before gives.
    """
    for (before, _), (after, _) in pairwise(pairs):
        if before.shape[1] != after.shape[0]:
            raise InvalidInputError(
                f"a layer of {before.shape[1]} neurons is followed by one of {after.shape[0]} inputs"
            )
    sizes = [pairs[0][0].shape[0], *(weights.shape[1] for weights, _ in pairs)]
    architecture = mlp(sizes[0], sizes[1:-1], sizes[-1])
    module = build(architecture)
    linear = [child for child in module if isinstance(child, nn.Linear)]
    with torch.no_grad():
        for child, (weights, bias) in zip(linear, pairs, strict=True):
            child.weight.copy_(torch.as_tensor(np.array(weights)).T)
            child.bias.copy_(torch.as_tensor(np.zeros(child.out_features) if bias is None else np.array(bias)))
    return Policy(architecture, module, provenance, name)


def _from_linear_stack(content: Any, path: Path) -> Policy:
    if not isinstance(content, Mapping):
        raise NetworkFileError(f"{path} holds no conventional network: a state_dict of Linear layers is needed.")
    try:
        policy = from_linear(linear_stack(content, path), path.stem, imported_from=path.name)
    except InvalidInputError as error:
        raise NetworkFileError(f"{path} is no stack of Linear layers: {error}.") from None
    _refuse_not_finite(policy.module, path)
    return policy


def _refuse_not_finite(module: nn.Module, path: Path) -> None:
    for name, values in module.state_dict().items():
        if not bool(torch.isfinite(values).all()):
            raise NetworkFileError(f"{path} holds values that are NaN or infinite, in '{name}'.")

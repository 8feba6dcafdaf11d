"""What a conventional network is made of: kinds of layer, and the shape of what flows between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from ..errors import InvalidInputError

Shape = tuple[int, ...]


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


class Tanh(_Layer):
    """The hyperbolic tangent: a teacher may have it, a conversion cannot."""

    kind: Literal["tanh"] = "tanh"


class Flatten(_Layer):
    """[channels, height, width] as a flat list, in this order."""

    kind: Literal["flatten"] = "flatten"


class Scale(_Layer):
    """Multiplies by a number, such as 1/255 for pixels."""

    kind: Literal["scale"] = "scale"
    factor: float


Layer = Annotated[Linear | Conv2d | AvgPool2d | ReLU | Tanh | Flatten | Scale, Field(discriminator="kind")]


class Architecture(_Layer):
    """The shape of an observation, and the layers from first to last."""

    input_shape: tuple[Annotated[int, Field(ge=1, le=10**6)], ...] = Field(min_length=1, max_length=3, strict=False)
    layers: tuple[Layer, ...] = Field(min_length=1, max_length=1000, strict=False)

    @property
    def n_inputs(self) -> int:
        """Values of an observation."""
        return math.prod(self.input_shape)

    def shapes(self) -> tuple[Shape, ...]:
        """The shape of what goes into each layer, and last of what comes out.

        Raises
        ------
        InvalidInputError
            If a layer does not fit what comes before it, none is Linear, or the last gives no flat list.
        """
        shapes = [self.input_shape]
        for index, layer in enumerate(self.layers):
            shapes.append(_after(layer, index, shapes[-1]))
        if len(shapes[-1]) != 1:
            raise InvalidInputError(f"The last layer gives {shapes[-1]}; a value for each action is needed.")
        if not any(isinstance(layer, Linear) for layer in self.layers):
            raise InvalidInputError("There is no Linear layer; at least one is needed.")
        return tuple(shapes)


def _after(layer: Layer, index: int, shape: Shape) -> Shape:
    if isinstance(layer, Conv2d | AvgPool2d):
        if len(shape) != 3:
            raise InvalidInputError(f"Layer {index} ({layer.kind}) needs [channels, height, width], not {shape}.")
        padding = layer.padding if isinstance(layer, Conv2d) else 0
        sides = [(side + 2 * padding - layer.kernel) // layer.stride + 1 for side in shape[1:]]
        if min(sides) < 1:
            raise InvalidInputError(f"Layer {index} ({layer.kind}) has a kernel too large for {shape}.")
        return (layer.channels if isinstance(layer, Conv2d) else shape[0], *sides)
    if isinstance(layer, Linear):
        if len(shape) != 1:
            raise InvalidInputError(f"Layer {index} (linear) needs a flat list, not {shape}: flatten first.")
        return (layer.outputs,)
    return (math.prod(shape),) if isinstance(layer, Flatten) else shape


def mlp(n_inputs: int, hidden: Sequence[int], n_actions: int, activation: ReLU | Tanh | None = None) -> Architecture:
    """Linear layers with an activation function, ReLU unless given, between them."""
    layers: list[Any] = []
    for size in hidden:
        layers += [Linear(outputs=size), activation or ReLU()]
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


ARCHITECTURES = {"mnih": mnih, "patel": patel}


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
    modules: list[nn.Module] = []
    for layer, shape in zip(architecture.layers, architecture.shapes(), strict=False):
        if isinstance(layer, Linear):
            modules.append(nn.Linear(shape[0], layer.outputs))
        elif isinstance(layer, Conv2d):
            modules.append(nn.Conv2d(shape[0], layer.channels, layer.kernel, layer.stride, layer.padding))
        elif isinstance(layer, AvgPool2d):
            modules.append(nn.AvgPool2d(layer.kernel, layer.stride))
        elif isinstance(layer, Scale):
            modules.append(_Scaled(layer.factor))
        else:
            modules.append({"relu": nn.ReLU, "tanh": nn.Tanh, "flatten": nn.Flatten}[layer.kind]())
    return nn.Sequential(*modules)


# What each module of torch is here, as far as its options are those that we have a word for.
SUPPORTED = "Linear, Conv2d, AvgPool2d, ReLU, Tanh, Flatten"


def describe(module: nn.Module) -> Layer | None:
    """The layer that a torch module is; None for one that does nothing when it decides (Dropout, Identity).

    Raises
    ------
    InvalidInputError
        If there is no such layer.
    """
    if isinstance(module, nn.Dropout | nn.Identity):
        return None
    if isinstance(module, nn.ReLU):
        return ReLU()
    if isinstance(module, nn.Tanh):
        return Tanh()
    if isinstance(module, nn.Linear):
        return Linear(outputs=module.out_features)
    if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
        return Flatten()
    if isinstance(module, nn.Conv2d):
        plain = module.groups == 1 and module.padding_mode == "zeros"
        sides = [_side(value) for value in (module.kernel_size, module.stride, module.padding, module.dilation)]
        if plain and None not in sides and sides[3] == 1:
            kernel, stride, padding = (int(side or 0) for side in sides[:3])
            return Conv2d(channels=module.out_channels, kernel=kernel, stride=stride, padding=padding)
        raise InvalidInputError(
            "Conv2d is supported with square kernels and strides, zero padding, one group and no dilation"
        )
    if isinstance(module, nn.AvgPool2d):
        kernel_side, stride_side = _side(module.kernel_size), _side(module.stride)
        plain = _side(module.padding) == 0 and not module.ceil_mode and module.divisor_override is None
        if kernel_side and stride_side and plain:
            return AvgPool2d(kernel=kernel_side, stride=stride_side)
        raise InvalidInputError("AvgPool2d is supported with square kernels and strides, without padding")
    raise InvalidInputError(f"supported are {SUPPORTED}")


def _side(value: Any) -> int | None:
    """The side of a square, given as torch takes it; None if it is none, or a word such as ``same``."""
    if isinstance(value, str):
        return None
    sides = {int(side) for side in value} if isinstance(value, tuple) else {int(value)}
    return sides.pop() if len(sides) == 1 else None

"""Layers: how the channels of the input, or the neurons of one layer, feed the neurons of the next.

What every kind of layer offers, and all that backends use of it::

    weights, bias    float64, in the layer's own form: what was trained, and what the network file keeps
    n_in, n_out      channels or neurons that feed it; its own neurons
    delay            in steps
    neuron_bias      float64 [n_out]
    connections      float64 [n_in, n_out]; `Sparse` where most of that matrix would be missing
    synapses         how many connections that is
    signature        plain values that define the layer together with its arrays
    form             the same in words, for people
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidInputError
from .stimulus import FloatArray, finite, whole

MAX_DELAY = 1_000
# Of layers that state more than their arrays hold: a few bytes must not claim any amount of memory.
MAX_NEURONS = 1 << 24
MAX_SYNAPSES = 1 << 26


@dataclass(frozen=True, slots=True, eq=False)
class Sparse:
    """Connections by presynaptic neuron: compressed sparse rows.

    Attributes
    ----------
    starts : int64 [n_in + 1]
        The connections of presynaptic neuron i are those from ``starts[i]`` to ``starts[i + 1]`` (exclusive).
    columns : int32 [synapses]
        The postsynaptic neurons, ascending within a row.
    values : float64 [synapses]
    n_out : int
    """

    starts: NDArray[np.int64]
    columns: NDArray[np.int32]
    values: FloatArray
    n_out: int

    def __post_init__(self) -> None:
        for array in (self.starts, self.columns, self.values):
            array.setflags(write=False)

    @classmethod
    def one_to_one(cls, size: int, weight: float) -> Sparse:
        """Each neuron connected with the one of the same number."""
        columns = np.arange(size, dtype=np.int32)
        return cls(np.arange(size + 1, dtype=np.int64), columns, np.full(size, weight), size)

    def __mul__(self, factor: float) -> Sparse:
        """The same connections with other weights."""
        return Sparse(self.starts, self.columns, self.values * factor, self.n_out)

    @property
    def size(self) -> int:
        """How many connections there are."""
        return len(self.values)

    @property
    def rows(self) -> NDArray[np.int32]:
        """The presynaptic neuron of each connection: int32 [synapses]."""
        n_in = len(self.starts) - 1
        return np.repeat(np.arange(n_in, dtype=np.int32), np.diff(self.starts))

    def dense(self) -> FloatArray:
        """The matrix [n_in, n_out], 0 where there is no connection."""
        matrix = np.zeros((len(self.starts) - 1, self.n_out))
        matrix[self.rows, self.columns] = self.values
        return matrix


Connections = FloatArray | Sparse


def weights_of(connections: Connections) -> FloatArray:
    """The weight of each connection, in the order in which they are kept."""
    return connections.values if isinstance(connections, Sparse) else connections


def most_input(connections: Connections) -> FloatArray:
    """The largest input that each postsynaptic neuron can get: its weights' absolute values, summed; [n_out]."""
    if isinstance(connections, Sparse):
        sums = np.bincount(connections.columns, np.abs(connections.values), minlength=connections.n_out)
        return sums.astype(np.float64)
    return np.asarray(np.abs(connections).sum(axis=0))


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """A fully connected layer.

    Parameters
    ----------
    weights : float64 [n_in, n_out]
    bias : float64 [n_out], optional
        A constant input in every step; 0 unless given.
    delay : int >= 1, in steps
        After how many steps a spike of the layer before acts on this layer's potential.

    Raises
    ------
    InvalidInputError
        If a shape does not fit, or a value is not finite.
    """

    weights: FloatArray
    bias: FloatArray = None  # type: ignore[assignment]  # filled in by __post_init__
    delay: int = 1

    def __post_init__(self) -> None:
        weights = np.array(finite(self.weights, "weights"), order="C")
        if weights.ndim != 2 or 0 in weights.shape:
            raise InvalidInputError(f"Weights of shape {weights.shape} were given; a dense layer needs [n_in, n_out].")
        _settle(self, weights, weights.shape[1])

    def __repr__(self) -> str:
        return f"<Dense {self.n_in}-{self.n_out}, delay {self.delay}>"

    @property
    def n_in(self) -> int:
        """Channels or neurons that feed the layer."""
        return int(self.weights.shape[0])

    @property
    def n_out(self) -> int:
        """Neurons of the layer."""
        return int(self.weights.shape[1])

    @property
    def neuron_bias(self) -> FloatArray:
        """The bias of each neuron: float64 [n_out]."""
        return self.bias

    @property
    def connections(self) -> FloatArray:
        """The weights [n_in, n_out]."""
        return self.weights

    @property
    def synapses(self) -> int:
        """How many connections there are."""
        return int(self.weights.size)

    @property
    def signature(self) -> list[Any]:
        """What defines the layer besides its arrays' values."""
        return ["dense", *self.weights.shape, self.delay]

    @property
    def form(self) -> str:
        """The layer in words."""
        return f"{self.n_in} x {self.n_out}"


@dataclass(frozen=True, slots=True, eq=False)
class Conv2d:
    """A convolution over channels of images: the cross-correlation of ``torch.nn.Conv2d``, with zeros as padding.

    Channels of the input, and neurons, are numbered in the order [channel, row, column], as ``torch.nn.Flatten`` does.
    An average pooling over k x k is a Conv2d with one group a channel and weights of 1/k^2.

    Parameters
    ----------
    weights : float64 [c_out, c_in / groups, height, width]
    bias : float64 [c_out], optional
        A constant input of all neurons of a channel in every step; 0 unless given.
    input_shape : (c_in, height, width)
    stride, padding : int, or a pair for rows and columns
    groups : int
        The channels of input and output are parted into so many groups, each connected within itself alone.
    delay : int >= 1, in steps
        After how many steps a spike of the layer before acts on this layer's potential.

    Raises
    ------
    InvalidInputError
        If the shapes do not fit together, a value is not finite, or the layer is too large.
    """

    weights: FloatArray
    bias: FloatArray = None  # type: ignore[assignment]  # filled in by __post_init__
    input_shape: tuple[int, int, int] = field(kw_only=True)
    stride: tuple[int, int] = field(default=(1, 1), kw_only=True)
    padding: tuple[int, int] = field(default=(0, 0), kw_only=True)
    groups: int = field(default=1, kw_only=True)
    delay: int = field(default=1, kw_only=True)
    _sparse: Sparse | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        weights = np.array(finite(self.weights, "weights"), order="C")
        if weights.ndim != 4 or 0 in weights.shape:
            raise InvalidInputError(
                f"Weights of shape {weights.shape} were given; a convolution needs "
                "[c_out, c_in / groups, height, width]."
            )
        c_out, c_group, *kernel = weights.shape
        shape = _wholes(self.input_shape, "input_shape", 3, 1)
        stride = _wholes(self.stride, "stride", 2, 1)
        padding = _wholes(self.padding, "padding", 2, 0)
        groups = whole(self.groups, "groups", 1, MAX_NEURONS)
        if c_out % groups:
            raise InvalidInputError(f"Weights for {c_out} channels cannot be parted into {groups} groups.")
        if shape[0] != c_group * groups:
            raise InvalidInputError(
                f"An input of {shape[0]} channels was given; weights of shape {weights.shape} in {groups} "
                f"group{'s' * (groups > 1)} need {c_group * groups}."
            )
        for side, size, extent, rim in zip(("high", "wide"), shape[1:], kernel, padding, strict=True):
            if extent > size + 2 * rim:
                raise InvalidInputError(
                    f"A kernel {extent} {side} was given for an input {size} {side} with a padding of {rim}; it must "
                    "not be larger than the padded input."
                )
        for name, value in (("input_shape", shape), ("stride", stride), ("padding", padding), ("groups", groups)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "weights", weights)
        for what, count, most in (
            ("inputs", self.n_in, MAX_NEURONS),
            ("neurons", self.n_out, MAX_NEURONS),
            ("synapses", self.synapses, MAX_SYNAPSES),
        ):
            if count > most:
                raise InvalidInputError(f"A convolution ({self.form}) has {count} {what}; at most {most} are possible.")
        if not self.synapses:
            raise InvalidInputError(
                f"A convolution ({self.form}) has no synapses: its kernels meet nothing but padding."
            )
        _settle(self, weights, c_out)

    def __repr__(self) -> str:
        return f"<Conv2d {self.form.removeprefix('conv2d ')}, delay {self.delay}>"

    @property
    def n_in(self) -> int:
        """Channels or neurons that feed the layer."""
        channels, height, width = self.input_shape
        return channels * height * width

    @property
    def n_out(self) -> int:
        """Neurons of the layer."""
        channels, height, width = self.output_shape
        return channels * height * width

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the layer's neurons."""
        sides = zip(self.input_shape[1:], self.weights.shape[2:], self.stride, self.padding, strict=True)
        height, width = ((size + 2 * rim - kernel) // step + 1 for size, kernel, step, rim in sides)
        return int(self.weights.shape[0]), height, width

    @property
    def neuron_bias(self) -> FloatArray:
        """The bias of each neuron: float64 [n_out]."""
        _, height, width = self.output_shape
        return np.repeat(self.bias, height * width)

    @property
    def connections(self) -> Sparse:
        """The weight of each synapse, by presynaptic neuron; kept once it was made."""
        if self._sparse is None:
            object.__setattr__(self, "_sparse", _unrolled(self))
        assert self._sparse is not None
        return self._sparse

    @property
    def synapses(self) -> int:
        """How many connections there are: kernels that reach over the rim have fewer."""
        c_out, c_group, *_ = self.weights.shape
        rows, columns = (int((last - first).sum()) for first, last in (_reach(self, 0), _reach(self, 1)))
        return int(c_out * c_group) * rows * columns

    @property
    def signature(self) -> list[Any]:
        """What defines the layer besides its arrays' values."""
        geometry = [list(self.input_shape), list(self.stride), list(self.padding), self.groups]
        return ["conv2d", *self.weights.shape, *geometry, self.delay]

    @property
    def form(self) -> str:
        """The layer in words."""
        c_out, _, height, width = self.weights.shape
        words = [f"conv2d {c_out}x{height}x{width}", f"stride {_sides(self.stride)}"]
        words += [f"padding {_sides(self.padding)}"] if any(self.padding) else []
        words += [f"groups {self.groups}"] if self.groups > 1 else []
        return f"{' '.join(words)}, {_by(self.input_shape)} -> {_by(self.output_shape)}"


Layer = Dense | Conv2d  # other kinds join here, and in file.LayerHeader


def _settle(layer: Layer, weights: FloatArray, n_bias: int) -> None:
    """Give a layer its own arrays, which cannot be changed, and its delay."""
    bias = np.zeros(n_bias) if layer.bias is None else np.array(finite(layer.bias, "bias"))
    if bias.shape != (n_bias,):
        raise InvalidInputError(f"A bias of shape {bias.shape} was given; these weights need ({n_bias},).")
    weights.setflags(write=False)
    bias.setflags(write=False)
    object.__setattr__(layer, "weights", weights)
    object.__setattr__(layer, "bias", bias)
    object.__setattr__(layer, "delay", whole(layer.delay, "delay", 1, MAX_DELAY))


def _wholes(value: object, name: str, length: int, least: int) -> tuple[int, ...]:
    """`value` as so many whole numbers; one number stands for a pair of it."""
    single = length == 2 and not isinstance(value, Sequence | np.ndarray)
    given = [value] * length if single else list(value) if isinstance(value, Sequence | np.ndarray) else []
    if len(given) != length:
        raise InvalidInputError(f"{name} is {value!r}; {length} whole numbers are needed.")
    return tuple(whole(item, name, least, MAX_NEURONS) for item in given)


def _reach(layer: Conv2d, axis: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last (exclusive) output row or column at which each row or column of the kernel is inside the input."""
    size, step, rim = layer.input_shape[1 + axis], layer.stride[axis], layer.padding[axis]
    offset = np.arange(layer.weights.shape[2 + axis], dtype=np.int64) - rim
    first = np.maximum(-(offset // step), 0)
    last = np.minimum((size - 1 - offset) // step + 1, layer.output_shape[1 + axis])
    return first, np.maximum(last, first)


def _pairs(layer: Conv2d, axis: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """All (row of the input, row of the output, row of the kernel) that meet, in this order; or columns."""
    first, last = _reach(layer, axis)
    counts = last - first
    kernel = np.repeat(np.arange(len(counts)), counts)
    outputs = np.arange(len(kernel)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
    inputs = outputs * layer.stride[axis] - layer.padding[axis] + kernel
    order = np.lexsort((outputs, inputs))
    return inputs[order], outputs[order], kernel[order]


def _unrolled(layer: Conv2d) -> Sparse:
    """Each synapse by itself. All input channels are connected alike, so that one of them is sorted for all."""
    c_in, height, width = layer.input_shape
    c_out, out_height, out_width = layer.output_shape
    _, c_group, kernel_height, kernel_width = layer.weights.shape
    out_group, kernel_size = c_out // layer.groups, kernel_height * kernel_width
    (iy, oy, ky), (ix, ox, kx) = _pairs(layer, 0), _pairs(layer, 1)
    here = np.arange(out_group)[:, None, None]

    pre = np.broadcast_to(iy[:, None] * width + ix, (out_group, len(iy), len(ix))).ravel()
    order = np.argsort(pre, kind="stable")
    post = ((here * out_height + oy[:, None]) * out_width + ox).ravel()[order]
    taken = (here * (c_group * kernel_size) + ky[:, None] * kernel_width + kx).ravel()[order]
    counts = np.bincount(pre, minlength=height * width)

    group, within = np.divmod(np.arange(c_in), c_group)
    weights_before = group * (out_group * c_group * kernel_size) + within * kernel_size
    neurons_before = group * (out_group * out_height * out_width)
    return Sparse(
        starts=np.concatenate([[0], np.cumsum(np.tile(counts, c_in))]),
        columns=(neurons_before.astype(np.int32)[:, None] + post.astype(np.int32)).ravel(),
        values=layer.weights.ravel()[weights_before[:, None] + taken].ravel(),
        n_out=layer.n_out,
    )


def _by(sizes: Sequence[int]) -> str:
    return "x".join(str(size) for size in sizes)


def _sides(pair: tuple[int, int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else _by(pair)

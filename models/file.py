"""The network file: safetensors arrays under a versioned JSON header.

The header is the entry ``spikeloop`` of the safetensors metadata; layer ``i`` has the float64 tensors ``i.weights`` and
``i.bias``. The header carries the network's content hash, which is checked on reading. A network is written in the
oldest version that can hold it: 1 has dense layers only, 2 has convolutions too, 3 quantised inputs.
"""

from __future__ import annotations

import contextlib
import json
import stat
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from ..errors import InvalidInputError, NetworkFileError
from .decoders import Decoder, DecoderKind
from .encoders import Encoder, EncoderKind
from .layers import MAX_DELAY, MAX_NEURONS, Conv2d, Dense, Layer
from .network import MAX_STEPS, Network, Neuron
from .stimulus import FloatArray

FORMAT = "spikeloop-network"
VERSION = 3
MAX_BYTES = 2 << 30


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class NeuronHeader(_Part):
    """Neuron, as the file states it."""

    threshold: float
    reset: Literal["subtract", "zero"]
    reset_amount: float | None
    membrane_decay: float
    synapse_decay: float
    compare: Literal[">", ">="]


class EncoderHeader(_Part):
    """Encoder, as the file states it."""

    kind: EncoderKind
    two_neurons: bool
    constant_one: bool
    gain: float
    bits: int | None = None
    resolution: tuple[float, ...] | None = None


class DecoderHeader(_Part):
    """Decoder, as the file states it."""

    kind: DecoderKind


class DenseHeader(_Part):
    """A dense layer, as the file states it; its arrays are tensors."""

    kind: Literal["dense"]
    delay: int = Field(ge=1, le=MAX_DELAY)


Size = Annotated[int, Field(ge=1, le=MAX_NEURONS)]
Rim = Annotated[int, Field(ge=0, le=MAX_NEURONS)]


class Conv2dHeader(_Part):
    """A convolution, as the file states it; its arrays are tensors."""

    kind: Literal["conv2d"]
    input_shape: tuple[Size, Size, Size]
    stride: tuple[Size, Size]
    padding: tuple[Rim, Rim]
    groups: Size
    delay: int = Field(ge=1, le=MAX_DELAY)


LayerHeader = Annotated[DenseHeader | Conv2dHeader, Field(discriminator="kind")]
KINDS = ("dense", "conv2d")  # pydantic names the kind in a field's place, though the file has no such level


class Header(_Part):
    """The JSON header of a network file."""

    format: Literal["spikeloop-network"]
    version: Literal[1, 2, 3]
    name: str
    steps: int = Field(ge=1, le=MAX_STEPS)
    neuron: NeuronHeader
    encoder: EncoderHeader
    decoder: DecoderHeader
    layers: list[LayerHeader] = Field(min_length=1, max_length=1000)
    content_hash: str = Field(pattern="^[0-9a-f]{64}$")
    provenance: dict[str, Any]


def to_bytes(network: Network) -> bytes:
    """The network file's bytes.

    Raises
    ------
    InvalidInputError
        If the name or the provenance is nothing that JSON can hold.
    """
    try:
        header = _header_of(network).model_dump_json(exclude=None if network.encoder.bits else _OF_VERSION_3)
    except ValueError as error:  # pydantic's errors are ValueErrors
        reason = " ".join(str(error).split())
        raise InvalidInputError(f"Name or provenance of '{network.name}' do not go into JSON: {reason}.") from None
    tensors = {}
    for index, layer in enumerate(network.layers):
        tensors[f"{index}.weights"] = layer.weights.astype("<f8")
        tensors[f"{index}.bias"] = layer.bias.astype("<f8")
    return save_tensors(tensors, {"spikeloop": header})


# Earlier versions know nothing of these.
_OF_VERSION_3: Any = {"encoder": {"bits", "resolution"}}


def _version(network: Network) -> Literal[1, 2, 3]:
    if network.encoder.bits is not None:
        return 3
    return 1 if all(isinstance(layer, Dense) for layer in network.layers) else 2


def _header_of(network: Network) -> Header:
    return Header(
        format="spikeloop-network",
        version=_version(network),
        name=network.name,
        steps=network.steps,
        neuron=NeuronHeader(**asdict(network.neuron)),
        encoder=EncoderHeader(**asdict(network.encoder)),
        decoder=DecoderHeader(**asdict(network.decoder)),
        layers=[_layer_header(layer) for layer in network.layers],
        content_hash=network.content_hash,
        provenance=dict(network.provenance),
    )


def _layer_header(layer: Layer) -> DenseHeader | Conv2dHeader:
    if isinstance(layer, Dense):
        return DenseHeader(kind="dense", delay=layer.delay)
    return Conv2dHeader(
        kind="conv2d",
        input_shape=layer.input_shape,
        stride=layer.stride,
        padding=layer.padding,
        groups=layer.groups,
        delay=layer.delay,
    )


def _layer(header: DenseHeader | Conv2dHeader, weights: FloatArray, bias: FloatArray) -> Layer:
    kind = Dense if isinstance(header, DenseHeader) else Conv2d
    return kind(weights, bias, **header.model_dump(exclude={"kind"}))


def save(network: Network, path: str | Path) -> None:
    """Write the network file; an existing file is replaced in one step, never left half written."""
    data = to_bytes(network)
    path = Path(path)
    if not path.name:
        raise NetworkFileError(f"Cannot write '{path}': a file name is needed.")
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise NetworkFileError(f"Cannot write {path}: {error.strerror or error}.") from None


def read(path: str | Path) -> bytes:
    """The bytes of a file that a network is to be made of.

    Raises
    ------
    NetworkFileError
        If it cannot be read, is no regular file, or is too large to be meant.
    """
    path = Path(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a directory, or what never ends
            raise NetworkFileError(f"Cannot read {path}: it is no regular file.")
        if status.st_size > MAX_BYTES:
            raise NetworkFileError(f"{path} has {status.st_size} bytes; at most {MAX_BYTES} are read.")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise NetworkFileError(f"Cannot read {path}: {getattr(error, 'strerror', None) or error}.") from None


def is_network_file(data: bytes) -> bool:
    """Whether the bytes begin as a network file does: with the length of a header, and the header's brace."""
    return data[8:9] == b"{"


def from_bytes(data: bytes, source: str = "the file") -> Network:
    """Read a network file's bytes; `source` names it in errors.

    Raises
    ------
    NetworkFileError
        If the bytes are no network file, truncated, damaged, or from a newer version.
    """
    header = _header(data, source)
    try:
        tensors = load_tensors(data)
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise NetworkFileError(f"{source} is damaged or truncated: {error}. Export or copy it again.") from None
    expected = {f"{index}.{part}" for index in range(len(header.layers)) for part in ("weights", "bias")}
    if set(tensors) != expected:
        raise NetworkFileError(f"{source} is damaged: it holds the arrays {sorted(tensors)}, not {sorted(expected)}.")
    try:
        network = Network(
            layers=tuple(
                _layer(layer, _float64(tensors[f"{i}.weights"]), _float64(tensors[f"{i}.bias"]))
                for i, layer in enumerate(header.layers)
            ),
            steps=header.steps,
            neuron=Neuron(**header.neuron.model_dump()),
            encoder=Encoder(**header.encoder.model_dump()),
            decoder=Decoder(**header.decoder.model_dump()),
            name=header.name,
            provenance=header.provenance,
        )
    except InvalidInputError as error:
        raise NetworkFileError(f"{source} holds no usable network: {error}") from None
    if network.content_hash != header.content_hash:
        raise NetworkFileError(
            f"{source} is damaged: its content hash is {network.content_hash[:12]}, its header says "
            f"{header.content_hash[:12]}. Export or copy it again."
        )
    return network


def _header(data: bytes, source: str) -> Header:
    not_ours = f"{source} is no Spikeloop network file, and nothing that torch.save wrote."
    length = int.from_bytes(data[:8], "little")
    if not is_network_file(data):
        raise NetworkFileError(not_ours)
    if length > len(data) - 8:
        raise NetworkFileError(f"{source} is truncated: its header needs {length} bytes, {len(data) - 8} are there.")
    try:
        text = json.loads(data[8 : 8 + length])["__metadata__"]["spikeloop"]
        fields = json.loads(text)
        version = fields["version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise NetworkFileError(not_ours) from None
    if isinstance(version, int) and version > VERSION:
        raise NetworkFileError(
            f"{source} has format version {version}; this Spikeloop reads up to {VERSION}: pip install -U spikeloop"
        )
    try:
        header = Header.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in KINDS)
        raise NetworkFileError(f"{source} has a header that is not valid: {where}: {first['msg']}.") from None
    newer = [index for index, layer in enumerate(header.layers) if layer.kind != "dense"]
    if header.version == 1 and newer:
        raise NetworkFileError(
            f"{source} has a header that is not valid: layers.{newer[0]}: version 1 has dense layers only."
        )
    if header.version < 3 and header.encoder.bits is not None:
        raise NetworkFileError(f"{source} has a header that is not valid: encoder.bits: that is of version 3.")
    return header


def _float64(array: FloatArray) -> FloatArray:
    if array.dtype not in (np.dtype("<f8"), np.dtype("<f4")):
        raise InvalidInputError(f"an array is of type {array.dtype}; float64 is needed.")
    return array.astype(np.float64)

"""Importers for PyTorch files: the thesis' spiking networks and stacks of Linear layers.

Nothing is unpickled except by ``torch.load(weights_only=True)``; torch is imported only here, and only when used.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ..errors import InvalidInputError, MissingPackageError, NetworkFileError
from . import file
from .conventional import refuse_conventional, zip_entries
from .decoders import Decoder
from .encoders import Encoder, with_negatives
from .network import Dense, Network, Neuron

ImportKind = Literal["auto", "dsqn", "converted", "mlp"]
IMPORT_KINDS: dict[str, str] = {
    "auto": "told from the file's structure",
    "dsqn": "spiking, directly trained: a (weights, biases) tuple or a bare list of weights [n_in, n_out]",
    "converted": "spiking, converted from a conventional network: the same structure, with biases",
    "mlp": "a state_dict of Linear layers; its weights are taken as they are, without normalisation",
}


def import_torch(
    path: str | Path,
    *,
    steps: int,
    kind: ImportKind = "auto",
    constant_one: bool = False,
    neuron: Neuron | None = None,
    encoder: Encoder | None = None,
    decoder: Decoder | None = None,
    name: str | None = None,
) -> Network:
    """Read a trained model that torch saved.

    Parameters
    ----------
    path : str or Path
    steps : int
        Length of the window, in steps: the file does not say.
    kind : str
        One of `IMPORT_KINDS`.
    constant_one : bool
        The network was trained with one extra input fixed at 1 (the thesis' DSQN).
    neuron, encoder, decoder : optional
        What the network was trained under, where it is not the default. With an encoder of two neurons per input,
        weights that have one row per input are extended: the second neuron's are the negative of the first's.
    name : str, optional
        The file's name unless given.

    Raises
    ------
    NetworkFileError
        If torch refuses the file, or it holds nothing of the `kind`.
    """
    if kind not in IMPORT_KINDS:
        raise InvalidInputError(f"Kind '{kind}' was given; it must be one of {', '.join(IMPORT_KINDS)}.")
    path = Path(path)
    refuse_conventional(file.read(path), path)
    content, sha256 = load_torch(path)
    found = "mlp" if isinstance(content, Mapping) else "dsqn"
    if kind != "auto" and (kind == "mlp") != (found == "mlp"):
        holds = "a state_dict" if found == "mlp" else "a list or tuple of weights"
        raise NetworkFileError(f"{path} holds {holds}, which is not of kind '{kind}': {IMPORT_KINDS[kind]}.")
    pairs = linear_stack(content, path) if isinstance(content, Mapping) else _spiking_layers(content, path)
    encoder = encoder or Encoder(constant_one=constant_one)
    if constant_one and not encoder.constant_one:
        raise InvalidInputError("constant_one was given together with an encoder that has none; give one of them.")
    try:
        if encoder.two_neurons:
            pairs[0] = (with_negatives(pairs[0][0], encoder.constant_one), pairs[0][1])
        return Network(
            layers=tuple(Dense(weights, bias) for weights, bias in pairs),
            steps=steps,
            neuron=neuron or Neuron(),
            encoder=encoder,
            decoder=decoder or Decoder(),
            name=name or path.stem,
            provenance={
                "imported_from": path.name,
                "sha256": sha256,
                "kind": found if kind == "auto" else kind,
            },
        )
    except InvalidInputError as error:
        raise NetworkFileError(f"{path} cannot be imported: {error}") from None


def is_torch_file(data: bytes) -> bool:
    """Whether the bytes begin as what torch.save writes: its zip container, or its older bare pickle."""
    return data[:4] == b"PK\x03\x04" or data[:1] == b"\x80"


def load_torch(path: Path) -> tuple[Any, str]:
    """What torch.save wrote, read without unpickling, and the file's SHA-256 (hex).

    Raises
    ------
    NetworkFileError
        If the file cannot be read, is nothing that torch.save wrote, or holds more than arrays and plain values.
    """
    data = file.read(path)
    # torch.save stores arrays as they are. Compressed ones, or one stored number that stands for all numbers of an
    # array, could be larger than any memory.
    if any(entry.file_size > entry.compress_size for entry in zip_entries(data).values()):
        raise NetworkFileError(f"{path} is damaged: it is compressed, which torch.save never does.")
    content = _load(data, path)
    claimed = _bytes_of(content)
    if claimed > len(data):
        raise NetworkFileError(
            f"{path} is damaged: its arrays claim {claimed} bytes, more than the file's {len(data)}."
        )
    return content, hashlib.sha256(data).hexdigest()


def _bytes_of(content: Any) -> int:
    if isinstance(content, Mapping):
        return sum(_bytes_of(value) for value in content.values())
    if isinstance(content, tuple | list):
        return sum(_bytes_of(value) for value in content)
    return content.numel() * content.element_size() if hasattr(content, "element_size") else 0


def _load(data: bytes, path: Path) -> Any:
    if file.is_network_file(data):
        raise NetworkFileError(f"{path} seems to be a Spikeloop network file already; it needs no import.")
    if not is_torch_file(data):
        raise NetworkFileError(f"{path} is nothing that torch.save wrote.")
    try:
        import torch
    except ImportError:
        raise MissingPackageError.needs("Reading a torch file", "PyTorch", "torch") from None
    try:
        with warnings.catch_warnings(action="ignore"):  # about old formats, which are read none the less
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises UnpicklingError, RuntimeError, EOFError, ... for hostile bytes
        forbidden = re.search(r"GLOBAL ([\w.]+)", str(error))
        if forbidden is None:
            raise NetworkFileError(
                f"{path} is damaged, truncated, nothing that torch.save wrote, or holds objects, which are never "
                "unpickled. Save the weights alone: torch.save(model.state_dict(), FILE)."
            ) from None
        raise NetworkFileError(
            f"{path} holds more than arrays: reading it would call {forbidden[1]}, which is never done. Save the "
            "weights alone: torch.save(model.state_dict(), FILE)."
        ) from None


def _spiking_layers(content: Any, path: Path) -> list[tuple[Any, Any]]:
    """The thesis' files: (weights, biases), or the older bare list of weights."""
    layered = isinstance(content, tuple | list) and len(content) == 2 and all(isinstance(p, list) for p in content)
    weights, biases = content if layered else (content, None)
    if not isinstance(weights, Sequence) or not weights or not all(_is_matrix(w) for w in weights):
        raise NetworkFileError(
            f"{path} holds an object of type {type(content).__name__}; a state_dict, or a list of weight matrices "
            "[n_in, n_out] with or without a list of biases, is needed."
        )
    biases = biases or [None] * len(weights)
    if len(biases) != len(weights):
        raise NetworkFileError(f"{path} holds {len(weights)} weight matrices and {len(biases)} biases.")
    pairs = zip(weights, biases, strict=True)
    return [(_array(w, path), None if b is None else _array(b, path)) for w, b in pairs]


def linear_stack(state: Mapping[Any, Any], path: Path) -> list[tuple[Any, Any]]:
    """A state_dict of Linear layers (weights [n_out, n_in]), ordered by the numbers in their names."""
    names = [str(key).removesuffix(".weight") for key in state if str(key).endswith(".weight")]
    known = {f"{name}{part}" for name in names for part in (".weight", ".bias")}
    strangers = sorted({str(key) for key in state} - known)
    if not names or strangers:
        what = f"entries that belong to no Linear layer ({', '.join(strangers[:3])})" if strangers else "no layers"
        raise NetworkFileError(
            f"{path} holds {what}; a state_dict of Linear layers ('NAME.weight', 'NAME.bias') is needed."
        )
    if len({re.sub(r"\d+", "", name) for name in names}) == 1:
        # Names that differ in their numbers alone say the order; any others are in it, as their modules were made.
        names.sort(key=lambda name: [int(number) for number in re.findall(r"\d+", name)])
    pairs: list[tuple[Any, Any]] = []
    for name in names:
        weight, bias = state[f"{name}.weight"], state.get(f"{name}.bias")
        if not _is_matrix(weight):
            shape = tuple(getattr(weight, "shape", ()))
            raise NetworkFileError(
                f"Layer '{name}' of {path} has weights of shape {shape}; only Linear layers can be imported."
            )
        pairs.append((_array(weight, path).T, None if bias is None else _array(bias, path)))
    return pairs


def _is_matrix(value: Any) -> bool:
    return getattr(value, "ndim", None) == 2 and hasattr(value, "detach")


def _array(tensor: Any, path: Path) -> Any:
    try:
        if not tensor.is_complex():
            return tensor.detach().double().numpy()
    except (AttributeError, RuntimeError, TypeError):
        pass
    kind = getattr(tensor, "dtype", type(tensor).__name__)
    raise NetworkFileError(f"{path} holds an entry ({kind}) that is no plain array of real numbers in memory.")

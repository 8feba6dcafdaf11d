"""A conventional network: what DQN and REINFORCE train, what other libraries bring, and what is converted or imitated.

Its file is what ``torch.save`` writes of a format name, an architecture, the arrays and a provenance; it is read with
``weights_only=True``, like every torch file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor, nn

from ..errors import InvalidInputError, NetworkFileError, UnknownNameError
from ..models import file
from ..models.conventional import POLICY_FORMAT, zip_entries
from ..models.stimulus import FloatArray, finite
from ..models.torch_files import linear_stack, load_torch
from .architecture import (
    ARCHITECTURES,
    Architecture,
    AvgPool2d,
    Conv2d,
    Flatten,
    Layer,
    Linear,
    ReLU,
    Scale,
    Shape,
    Tanh,
    build,
    describe,
    mlp,
    mnih,
    patel,
)
from .arrays import plain_arrays
from .storage import replace_file

__all__ = [
    "ARCHITECTURES",
    "FORMAT",
    "Architecture",
    "AvgPool2d",
    "Conv2d",
    "Flatten",
    "Layer",
    "Linear",
    "Policy",
    "ReLU",
    "Scale",
    "Shape",
    "Tanh",
    "build",
    "from_linear",
    "from_module",
    "load_policy",
    "mlp",
    "mnih",
    "patel",
]

FORMAT = POLICY_FORMAT


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
    sha256 : str, optional
        Of the file it was read from (hex).
    """

    architecture: Architecture
    module: nn.Sequential
    provenance: Mapping[str, Any] = field(default_factory=dict)
    name: str = "unnamed"
    sha256: str | None = None

    @property
    def n_inputs(self) -> int:
        """Values of an observation."""
        return self.architecture.n_inputs

    @property
    def n_actions(self) -> int:
        """Actions it chooses from."""
        return self.architecture.shapes()[-1][0]

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
        # A copy: torch takes neither arrays that cannot be written nor those that run backwards.
        values = torch.from_numpy(np.array(states, order="C")).to(kind).reshape(-1, *self.architecture.input_shape)
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


def load_policy(path: str | Path, architecture: Architecture | str | None = None) -> Policy:
    """Read a conventional network: one of ours, a Stable-Baselines3 zip, or a state_dict.

    Parameters
    ----------
    path : str or Path
        A file, or the folder of a training run, which stands for its ``best.pt``, else its ``last.pt``.
    architecture : Architecture or str, optional
        Of a state_dict that does not say it itself; by name one of `ARCHITECTURES`. Without it, a state_dict is taken
        for Linear layers with ReLU between them.

    Raises
    ------
    NetworkFileError
        If the file is none of these, or damaged.
    InvalidInputError
        If an architecture is given for a file that says its own.
    UnknownNameError
        If there is no architecture of that name.
    """
    path = _found(Path(path))
    if isinstance(architecture, str) and architecture not in ARCHITECTURES:
        raise UnknownNameError.among("architecture", architecture, ARCHITECTURES)
    from . import sb3  # which reads into a Policy, and so imports this module

    data = file.read(path)
    says_its_own = True
    entries = zip_entries(data)
    if entries and not any(name == "policy.pth" or name.endswith("data.pkl") for name in entries):
        raise NetworkFileError(
            f"{path} is a zip, but neither torch.save's (it has no data.pkl) nor Stable-Baselines3's (no policy.pth)."
        )
    if sb3.is_sb3(data):
        policy = sb3.read(data, path)
    else:
        content, _ = load_torch(path)
        if isinstance(content, Mapping) and content.get("format") == FORMAT:
            policy = _ours(content, path, len(data))
        elif architecture is None:
            policy = _from_linear_stack(content, path, len(data))
        else:
            policy, says_its_own = _with_architecture(content, architecture, path, len(data)), False
    if architecture is not None and says_its_own:
        raise InvalidInputError(f"{path} says its own architecture; give one only for a bare state_dict.")
    return replace(policy, sha256=hashlib.sha256(data).hexdigest())


def _found(path: Path) -> Path:
    try:
        if not path.is_dir():
            return path
    except OSError:  # no file can have this name, which reading it tells
        return path
    for name in ("best.pt", "last.pt"):
        if (path / name).is_file():
            return path / name
    raise NetworkFileError(f"{path} is a folder without a best.pt or last.pt: name a file, or a training run's folder.")


def _ours(content: Mapping[str, Any], path: Path, size: int) -> Policy:
    for key in ("version", "name", "architecture", "provenance", "state_dict"):
        if key not in content:
            raise NetworkFileError(f"{path} is damaged: it holds no '{key}'.")
    try:
        if content["version"] != 1:
            raise NetworkFileError(
                f"{path} has policy format version {content['version']}; this Spikeloop reads 1: "
                "pip install -U spikeloop"
            )
        architecture = Architecture.model_validate_json(content["architecture"])
        module = _filled(architecture, dict(content["state_dict"]), path, size)
        provenance, name = json.loads(content["provenance"]), content["name"]
        if not isinstance(provenance, dict) or not isinstance(name, str):
            raise TypeError("its name is no text, or its provenance no JSON object")
        return Policy(architecture, module, provenance, name)
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise NetworkFileError(f"{path} is damaged: {_told(error)}.") from None


def _told(error: Exception) -> str:
    """What an error says, in one line."""
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:2])[:200]
    return " ".join(str(error).split())[:200]


def _filled(architecture: Architecture, state: dict[str, Any], path: Path, size: int) -> nn.Sequential:
    """The module of an architecture with the arrays of a file; without memory for what the file does not hold."""
    arrays = plain_arrays(state, size, path)
    with torch.device("meta"):
        module = build(architecture)
    module.load_state_dict(arrays, assign=True)
    return module


def _with_architecture(content: Any, architecture: Architecture | str, path: Path, size: int) -> Policy:
    """A bare state_dict as the layers of `architecture`, by the order of its entries."""
    state = dict(content) if isinstance(content, Mapping) else {}
    arrays = [values for values in state.values() if isinstance(values, Tensor)]
    called = "this architecture"
    if isinstance(architecture, str):
        called = f"'{architecture}'"
        last = next((values for values in reversed(arrays) if values.ndim == 2), None)
        if last is None:
            raise NetworkFileError(f"{path} holds no Linear layer; a state_dict of {called} is needed.")
        try:
            architecture = ARCHITECTURES[architecture](len(last))
        except ValidationError as error:
            raise NetworkFileError(f"{path} ends in a layer of {len(last)} neurons: {_told(error)}.") from None
    with torch.device("meta"):
        expected = build(architecture).state_dict()
    wanted, given = [tuple(v.shape) for v in expected.values()], [tuple(v.shape) for v in arrays]
    if wanted != given or len(arrays) != len(state):
        unlike = next((pair for pair in zip(wanted, given, strict=False) if pair[0] != pair[1]), None)
        what = f"an array of {unlike[1]} where {called} has {unlike[0]}" if unlike else f"{len(state)} entries"
        raise NetworkFileError(f"{path} holds {what}; {called} has {len(wanted)} arrays: {wanted}.")
    module = _filled(architecture, dict(zip(expected, arrays, strict=True)), path, size)
    return Policy(architecture, module, {"imported_from": path.name}, path.stem)


def from_linear(
    pairs: Sequence[tuple[Any, Any]], name: str = "unnamed", activation: ReLU | Tanh | None = None, **provenance: Any
) -> Policy:
    """A policy of Linear layers with an activation function between them.

    Parameters
    ----------
    pairs : sequence of (float [n_in, n_out], float [n_out] or None)
        Weights and bias of each layer.
    name : str
    activation : ReLU or Tanh, optional
        ReLU unless given.
    **provenance
        Plain values.

    Raises
    ------
    InvalidInputError
        If there is no layer, or one does not take what the one before gives.
    """
    for index, (weights, bias) in enumerate(pairs):
        shape, bias_shape = np.shape(weights), () if bias is None else np.shape(bias)
        if len(shape) != 2 or (bias is not None and bias_shape != shape[1:]):
            raise InvalidInputError(
                f"layer {index} has weights of shape {shape} and a bias of shape {bias_shape}; [n_in, n_out] and "
                "[n_out] are needed"
            )
    for (before, _), (after, _) in pairwise(pairs):
        if before.shape[1] != after.shape[0]:
            raise InvalidInputError(
                f"a layer of {before.shape[1]} neurons is followed by one of {after.shape[0]} inputs"
            )
    if not pairs:
        raise InvalidInputError("there is no layer; at least one is needed")
    sizes = [pairs[0][0].shape[0], *(weights.shape[1] for weights, _ in pairs)]
    try:
        architecture = mlp(sizes[0], sizes[1:-1], sizes[-1], activation)
    except ValidationError as error:
        raise InvalidInputError(f"layers of {sizes[:10]} neurons cannot be: {_told(error)}") from None
    module = build(architecture)
    linear = [child for child in module if isinstance(child, nn.Linear)]
    with torch.no_grad():
        for child, (weights, bias) in zip(linear, pairs, strict=True):
            child.weight.copy_(torch.as_tensor(np.array(weights)).T)
            child.bias.copy_(torch.as_tensor(np.zeros(child.out_features) if bias is None else np.array(bias)))
    return Policy(architecture, module, provenance, name)


def from_module(module: nn.Sequential, input_shape: Sequence[int], name: str = "unnamed", **provenance: Any) -> Policy:
    """A policy of a torch Sequential, whose arrays are copied.

    Parameters
    ----------
    module : torch.nn.Sequential
        Of Linear, Conv2d, AvgPool2d, ReLU, Tanh, Flatten; may be nested.
    input_shape : sequence of int
        Of one observation.

    Raises
    ------
    InvalidInputError
        If a layer is of another kind, or does not fit what comes before it.
    """
    layers: list[Layer] = []
    state: dict[str, Tensor] = {}
    for path, child in module.named_modules(remove_duplicate=False):  # an activation may serve at several places
        if isinstance(child, nn.Sequential):
            continue
        try:
            layer = describe(child)
        except ValueError as error:
            raise InvalidInputError(
                f"Layer '{path}' ({type(child).__name__}) has no counterpart: {_told(error)}."
            ) from None
        if layer is None:
            continue
        if isinstance(child, nn.Linear | nn.Conv2d):
            bias = torch.zeros(len(child.weight)) if child.bias is None else child.bias
            state |= {f"{len(layers)}.weight": child.weight, f"{len(layers)}.bias": bias}
        layers.append(layer)
    try:
        architecture = Architecture(input_shape=tuple(input_shape), layers=tuple(layers))
        copy = build(architecture)
        copy.load_state_dict(state)
    except (ValidationError, RuntimeError) as error:
        raise InvalidInputError(
            f"The module is no network for observations of shape {tuple(input_shape)}: {_told(error)}."
        ) from None
    return Policy(architecture, copy, provenance, name)


def _from_linear_stack(content: Any, path: Path, size: int) -> Policy:
    if not isinstance(content, Mapping):
        raise NetworkFileError(f"{path} holds no conventional network: a state_dict of Linear layers is needed.")
    if any(getattr(values, "ndim", 0) == 4 for values in content.values()):
        raise NetworkFileError(
            f"{path} holds convolutions, whose strides a state_dict does not say: name its architecture, one of "
            f"{', '.join(ARCHITECTURES)}."
        )
    layered = {key: values for key, values in content.items() if str(key).endswith((".weight", ".bias"))}
    try:
        pairs = linear_stack({**content, **plain_arrays(layered, size, path)}, path)
        return from_linear(pairs, path.stem, imported_from=path.name)
    except InvalidInputError as error:
        raise NetworkFileError(f"{path} is no stack of Linear layers: {error}.") from None

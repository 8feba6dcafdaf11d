"""Agents that Stable-Baselines3 saved: DQN, PPO and A2C with the MlpPolicy, read without Stable-Baselines3.

Such a zip holds ``data`` (JSON, in which objects stand as base64 pickles beside a text of each), ``policy.pth`` (what
torch.save wrote of the policy's state_dict) and optimisers. Read are the state_dict, with ``weights_only=True``, and of
``data`` the plain values and texts; no pickle is ever decoded. The layers follow from the names of the arrays::

    DQN       q_net.q_net.N                                                 ReLU unless `data` says otherwise
    PPO, A2C  mlp_extractor.shared_net.N (before 1.8), mlp_extractor.policy_net.N, action_net      Tanh unless ...

Checked against files of Stable-Baselines3 2.9.2. The statistics of a VecNormalize are in a file of their own, not in
the zip: a policy that was trained with it needs observations that are normalised before they are given.
"""

from __future__ import annotations

import io
import json
import re
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import NetworkFileError
from ..models.conventional import is_sb3, zip_entries
from .architecture import ReLU, Tanh
from .arrays import plain_arrays
from .policy import Policy, from_linear

__all__ = ["is_sb3", "read"]

MAX_DATA_BYTES = 64 << 20
MAX_POLICY_BYTES = 1 << 30
_NEEDED = "DQN, PPO and A2C with the MlpPolicy and discrete actions can be read"


def read(data: bytes, path: Path) -> Policy:
    """The policy in a zip's bytes; `path` names it in errors.

    Raises
    ------
    NetworkFileError
        If the zip is damaged, or its policy is none of those that can be read.
    """
    about = _about(data, path)
    state = _state(data, path)
    prefixes, default = _layers(state, path)
    _check_spaces(about, state, path)
    activation = _activation(about, default, path)
    names = [f"{name}.{part}" for name in prefixes for part in ("weight", "bias")]
    given = {name: state[name] for name in names if name in state}
    arrays = {name: values.numpy() for name, values in plain_arrays(given, len(data), path).items()}
    pairs = [(arrays[f"{name}.weight"].T, arrays.get(f"{name}.bias")) for name in prefixes]
    try:
        policy = from_linear(
            pairs,
            path.stem,
            activation,
            algorithm=_algorithm(about, default),
            imported_from=path.name,
            stable_baselines3=_version(data, path),
        )
    except ValueError as error:
        raise NetworkFileError(f"{path} is damaged: {error}.") from None
    inputs = about.get("observation_space", {}).get("_shape")
    if isinstance(inputs, list) and inputs != [policy.n_inputs]:
        raise NetworkFileError(
            f"{path} observes values of shape {str(inputs)[:100]}, but its policy takes {policy.n_inputs}: {_NEEDED}, "
            "for observations that are flat lists."
        )
    return policy


def _entry(data: bytes, name: str, most: int, path: Path) -> bytes:
    info = zip_entries(data).get(name)
    if info is None:
        raise NetworkFileError(f"{path} has no entry '{name}', which every zip of Stable-Baselines3 has.")
    if info.file_size > most:
        raise NetworkFileError(
            f"{path} says that its entry '{name}' has {info.file_size} bytes; at most {most} are read."
        )
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise NetworkFileError(f"{path} is damaged: its entry '{name}' is compressed as Stable-Baselines3 never does.")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open(info) as entry:
            # Reading without a limit would expand all of an entry that claims to be small.
            return entry.read(info.file_size + 1)
    except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError, OSError, ValueError) as error:
        raise NetworkFileError(f"{path} is damaged: its entry '{name}' cannot be read ({error}).") from None


def _about(data: bytes, path: Path) -> dict[str, Any]:
    """The plain values of `data`, as nested mappings."""
    try:
        about = json.loads(_entry(data, "data", MAX_DATA_BYTES, path))
    except (ValueError, RecursionError):
        about = None
    if not isinstance(about, dict):
        raise NetworkFileError(f"{path} is damaged: its entry 'data' is no JSON document.")
    return {key: value for key, value in about.items() if key not in _MAPPINGS or isinstance(value, dict)}


_MAPPINGS = ("observation_space", "action_space", "policy_kwargs")


def _state(data: bytes, path: Path) -> dict[str, Any]:
    content = _entry(data, "policy.pth", MAX_POLICY_BYTES, path)
    # torch.save stores its arrays as they are; compressed ones could be larger than any memory.
    if sum(entry.file_size for entry in zip_entries(content).values()) > len(content):
        raise NetworkFileError(f"{path} is damaged: its policy.pth is compressed, which torch.save never does.")
    try:
        with warnings.catch_warnings(action="ignore"):  # about old formats, which are read none the less
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception:  # torch raises UnpicklingError, RuntimeError, EOFError, ... for hostile bytes
        state = None
    if not isinstance(state, Mapping) or not state:
        raise NetworkFileError(f"{path} is damaged: its policy.pth is no state_dict that torch can read.")
    return {str(name): values for name, values in state.items()}


def _layers(state: Mapping[str, Any], path: Path) -> tuple[list[str], ReLU | Tanh]:
    """The names of the Linear layers that decide, in order, and the activation that goes with them by default."""
    refusals = {
        r"lstm": "has a recurrent policy",
        r"(^|\.)cnn\.|\.conv": "has a CNN policy",
        r"quantile_net\.": "is a QR-DQN",
        r"^(actor|critic)": "has continuous actions (TD3, DDPG or SAC)",
        r"^log_std$": "has continuous actions",
        r"features_extractor\.": "has a feature extractor of its own",
    }
    for pattern, what in refusals.items():
        if any(re.search(pattern, name) for name in state):
            raise NetworkFileError(f"{path} {what}; {_NEEDED}.")
    if any(name.startswith("q_net.") for name in state):
        return _checked(_numbered(state, "q_net.q_net"), state, path), ReLU()
    hidden = [
        *_numbered(state, "mlp_extractor.shared_net"),
        *_numbered(state, "mlp_extractor.policy_net"),
    ]
    return _checked([*hidden, "action_net"], state, path), Tanh()


def _numbered(state: Mapping[str, Any], prefix: str) -> list[str]:
    """``prefix.N`` in the order of N."""
    numbers = [int(m[1]) for name in state if (m := re.fullmatch(rf"{re.escape(prefix)}\.(\d{{1,6}})\.weight", name))]
    return [f"{prefix}.{number}" for number in sorted(numbers)]


def _checked(names: list[str], state: Mapping[str, Any], path: Path) -> list[str]:
    for name in names:
        weights, bias = state.get(f"{name}.weight"), state.get(f"{name}.bias")
        fits = getattr(weights, "ndim", 0) == 2 and (bias is None or getattr(bias, "ndim", 0) == 1)
        if not fits:
            raise NetworkFileError(f"{path} has no Linear layer '{name}'; {_NEEDED}.")
    if not names:
        raise NetworkFileError(f"{path} holds no layers that can be told; {_NEEDED}.")
    return names


def _check_spaces(about: Mapping[str, Any], state: Mapping[str, Any], path: Path) -> None:
    actions, observed = (about.get(f"{name}_space", {}) for name in ("action", "observation"))
    kind = _class_name(actions.get(":type:"))
    if kind not in (None, "Discrete"):
        raise NetworkFileError(f"{path} chooses its actions from a {kind} space; {_NEEDED}.")
    if str(actions.get("start", "0")) != "0":
        raise NetworkFileError(
            f"{path} counts its actions from {str(actions['start'])[:100]}; actions that begin at 0 are needed."
        )
    kind = _class_name(observed.get(":type:"))
    if kind not in (None, "Box"):
        raise NetworkFileError(f"{path} observes a {kind} space; one of real numbers (Box) is needed.")


def _activation(about: Mapping[str, Any], default: ReLU | Tanh, path: Path) -> ReLU | Tanh:
    options = about.get("policy_kwargs", {})
    extractor = _class_name(options.get("features_extractor_class"))
    if extractor not in (None, "FlattenExtractor"):
        raise NetworkFileError(f"{path} looks at its observations through a {extractor}; {_NEEDED}.")
    stated = options.get("activation_fn")
    if stated is None:
        return default
    name = _class_name(stated)
    if name not in ("ReLU", "Tanh"):
        raise NetworkFileError(
            f"{path} has the activation function {name or str(stated)[:100]}; ReLU or Tanh is needed."
        )
    return ReLU() if name == "ReLU" else Tanh()


def _class_name(text: object) -> str | None:
    """``ReLU`` of ``<class 'torch.nn.modules.activation.ReLU'>``, which is how `data` renders a class."""
    if isinstance(text, Mapping):
        text = text.get(":type:")
    found = re.fullmatch(r"<class '(?:[\w.<>]*\.)?(\w{1,100})'>", text) if isinstance(text, str) else None
    return found[1] if found else None


def _algorithm(about: Mapping[str, Any], default: ReLU | Tanh) -> str:
    if isinstance(default, ReLU):
        return "DQN (Stable-Baselines3)"
    return ("PPO" if "n_epochs" in about else "A2C") + " (Stable-Baselines3)"


def _version(data: bytes, path: Path) -> str:
    info = zip_entries(data).get("_stable_baselines3_version")
    if info is None or info.file_size > 100:
        return "unknown"
    return _entry(data, info.filename, 100, path).decode("utf-8", "replace").strip()

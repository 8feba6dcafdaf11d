"""Arrays out of files that others wrote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import NetworkFileError


def plain_arrays(arrays: Mapping[str, Any], size: int, path: Path) -> dict[str, Tensor]:
    """What a file of `size` bytes holds, as float32; `path` names it in errors.

    Raises
    ------
    NetworkFileError
        If an entry is no plain array of real numbers, the arrays claim more than the file can hold, or a value is NaN,
        infinite or beyond float32.
    """
    claimed = 0
    for name, values in arrays.items():
        dense = isinstance(values, Tensor) and values.layout == torch.strided and values.device.type == "cpu"
        if not dense or not values.is_floating_point():
            raise NetworkFileError(f"{path} holds an entry {name!r:.100} that is no plain array of real numbers.")
        claimed += values.numel() * values.element_size()
    if claimed > size:  # such as one stored number that stands for all numbers of an array
        raise NetworkFileError(f"{path} is damaged: its arrays claim {claimed} bytes, more than the file's {size}.")
    found = {name: values.detach().float() for name, values in arrays.items()}
    for name, values in found.items():
        if not bool(torch.isfinite(values).all()):
            raise NetworkFileError(f"{path} holds values that are NaN or infinite, in {name!r:.100}.")
    return found

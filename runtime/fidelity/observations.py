"""Where the observations of a check come from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...errors import InvalidInputError
from ...models.stimulus import FloatArray, finite


def load_observations(path: str | Path) -> FloatArray:
    """Read observations [n, n_inputs]: a ``.npy``, or a ``.npz`` with ``observations`` or with one array only.

    Raises
    ------
    InvalidInputError
        If the file cannot be read or holds no such array. Nothing in it is ever unpickled.
    """
    path = Path(path)
    try:
        content = np.load(path, allow_pickle=False)
        arrays = {"observations": content} if isinstance(content, np.ndarray) else dict(content)
    except Exception as error:  # NumPy raises a dozen kinds for files that are not its own
        reason = str(error) or type(error).__name__
        if "allow_pickle" in reason:
            reason = "it holds Python objects, or is no NumPy file, and objects are never unpickled"
        raise InvalidInputError(f"Cannot read observations from {path}: {reason}.") from None
    if "observations" not in arrays and len(arrays) != 1:
        names = ", ".join(list(arrays)[:8]) or "none"
        raise InvalidInputError(f"{path} holds the arrays: {names}; one named 'observations' is needed.")
    array = arrays.get("observations", next(iter(arrays.values())))
    return finite(array, "observations")

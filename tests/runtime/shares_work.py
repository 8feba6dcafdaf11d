"""Functions that do shares, for test_shares.py: worker processes and clusters import them."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from spikeloop.deploy.findings import Finding
from spikeloop.errors import PreflightError


def draw(share):
    """Some arrays that depend on the share; prints, as simulators do."""
    print("a word from Python")
    with contextlib.suppress(OSError):
        os.write(1, b"a word from C\n")
    random = np.random.default_rng(share["seed"])
    return {
        "file": random.normal(size=(3, 4)).astype(np.float32),
        "raster": np.asfortranarray(random.integers(0, 2, (5, 6), dtype=np.uint8)),
        "n": np.int64(share["seed"]),
        "names": np.array(["a", "ü"]),
        "empty": np.zeros((0, 2)),
        "is_list": np.array(isinstance(share.get("shape", []), list)),
    }


def logged(share):
    """`draw`, and a line in a file for each time that it is done; `seconds` long."""
    with Path(share["log"]).open("a") as file:
        file.write(f"{share['seed']}\n")
    time.sleep(share.get("seconds", 0.0))
    return draw(share)


def deadly(share):
    """Ends its process as often as `times` says, counted in a file; then `draw`."""
    log = Path(share["log"])
    if share.get("times", 0):
        with log.open("a") as file:
            file.write("x")
        if len(log.read_text()) <= share["times"]:
            if share.get("exit") is not None:
                os._exit(share["exit"])
            os.kill(os.getpid(), signal.SIGKILL)
    return draw(share)


def cut_off(share):
    """Ends its process the first time while the result is on its way: a large one, and the parent does not read."""
    log = Path(share["log"])
    if not log.exists():
        log.touch()
        parent = os.getppid()
        killer = f"import os, time; time.sleep(0.5); os.kill({os.getpid()}, 9); time.sleep(0.1); os.kill({parent}, 18)"
        os.kill(parent, signal.SIGSTOP)
        subprocess.Popen([sys.executable, "-c", killer])
    return {"large": np.arange(1_000_000)}


def failing(share):
    """Raises what the share says, after `seconds`."""
    time.sleep(share.get("seconds", 0.0))
    match share.get("error"):
        case "preflight":
            raise PreflightError(f"share {share['seed']}", [Finding("error", "too many", "use less", 1, needed=5)])
        case "mistake":
            return {"x": np.zeros(2)[share["seed"]]}
        case "odd":
            raise OddError(1, 2)
        case "no array":
            return {"x": [1, 2]}
        case "objects":
            return {"x": np.array([object()])}
    return draw(share)


class OddError(Exception):
    """One that cannot be sent to another process."""

    def __init__(self, one, two):
        super().__init__("odd")

"""Runs unmodified PyNN scripts on a virtual board, each in a process and a folder of its own."""

import json
import os
import subprocess
import sys

HEAD = """
import json, sys, threading, time
import numpy as np
import pyNN.spiNNaker as sim

def result(**values):
    print("RESULT", json.dumps(values))
"""


def prepare(folder, board, text, config=""):
    """Put the script and its spynnaker.cfg into the folder; returns its command line and environment."""
    home = folder / "home"
    home.mkdir(parents=True)
    (home / ".spynnaker.cfg").write_text("[Machine]\n")  # sPyNNaker insists that there is one
    path = board.write_config(folder)
    path.write_text(path.read_text() + config)
    (folder / "script.py").write_text(HEAD + text)
    return [sys.executable, "script.py"], {**os.environ, "HOME": str(home), "MPLBACKEND": "Agg"}


def run(folder, board, text, config="", timeout=200):
    """Run a script to its end; returns what it passed to `result`, with its output as ``log``."""
    command, environment = prepare(folder, board, text, config)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout)
    log = done.stdout + done.stderr
    assert done.returncode == 0, f"{log[-3000:]}\n{[e for e in board.events if e['kind'] in ('error', 'refused')][:5]}"
    values = {}
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            values |= json.loads(line.removeprefix("RESULT "))
    return {**values, "log": log}


def errors(board):
    """What the board has said of cores and commands that failed."""
    return [event for event in board.events if event["kind"] in ("error", "refused")]

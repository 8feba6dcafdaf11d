"""The virtual board: wall time per simulated time, instructions a second, and where the time goes.

    python benchmarks/virtual_board.py

Unmodified sPyNNaker scripts run on a board in this process, as fast as possible; the time is that between the host's
start signal and the last core's "ready", on the wall. The floor is the bare emulator: the same engine in a loop of
arithmetic, and a turn of a core that does nothing. Lock-step is compared with what its messages alone take.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from common import show, verdict
from spikeloop.virtual_board import layout
from spikeloop.virtual_board.geometry import geometry
from spikeloop.virtual_board.host_config import write_config
from spikeloop.virtual_board.machine import Machine
from spikeloop.virtual_board.server import Server, Settings

SMALL = """
import numpy as np, pyNN.spiNNaker as sim
sim.setup(1.0)
rng = np.random.default_rng(1)
times = [sorted(rng.choice({ms}, {ms} // 5, replace=False) + 1) for _ in range(16)]
source = sim.Population(16, sim.SpikeSourceArray(spike_times=times))
target = sim.Population(2, sim.IF_curr_delta())
sim.Projection(source, target, sim.AllToAllConnector(), sim.StaticSynapse(weight=2.0, delay=3))
target.record(["v", "spikes"])
sim.run({ms})
sim.end()
"""

# 16 cores of 64 neurons and two of Poisson sources: 100,000 spikes a second, each to every neuron core
LARGE = """
import pyNN.spiNNaker as sim
sim.setup(1.0)
sim.set_number_of_neurons_per_core(sim.IF_curr_exp, 64)
sim.set_number_of_neurons_per_core(sim.SpikeSourcePoisson, 500)
source = sim.Population(1000, sim.SpikeSourcePoisson(rate=100.0), additional_parameters={{"seed": 1}})
target = sim.Population(1000, sim.IF_curr_exp())
sim.Projection(source, target, sim.FixedProbabilityConnector(0.05), sim.StaticSynapse(weight=0.05, delay=1))
target.record("spikes")
sim.run({ms})
sim.end()
"""

LOCK_STEP = """
import json, pathlib, threading, time
import pyNN.spiNNaker as sim
import spynnaker.pyNN.external_devices as external
from spinnman.model.enums import CPUState
from spynnaker.pyNN.data import SpynnakerDataView as view
sim.setup(1.0)
source = sim.Population(16, sim.SpikeSourceArray(spike_times=[list(range(0, 20000, 10))] * 16))
target = sim.Population(2, sim.IF_curr_delta())
sim.Projection(source, target, sim.AllToAllConnector(), sim.StaticSynapse(weight=2.0, delay=3))
runs = threading.Thread(target=lambda: external.run_forever(sync_time={chunk}))
runs.start()
while not pathlib.Path("go").exists():
    time.sleep(0.05)
states = [CPUState.SYNC0, CPUState.SYNC1]
transceiver, app_id = view.get_transceiver(), view.get_app_id()
chunks, counts = [], []
for number in range(600):
    started = time.perf_counter()
    external.continue_simulation()
    while transceiver.get_core_state_count(app_id, states[number % 2]) < 2:
        pass
    chunks.append(time.perf_counter() - started)
    started = time.perf_counter()
    transceiver.get_core_state_count(app_id, states[0])
    counts.append(time.perf_counter() - started)
external.request_stop()
while runs.is_alive():
    runs.join(0.5)
    if runs.is_alive():
        external.continue_simulation()
print("RESULT", json.dumps([chunks[100:], counts[100:]]))
sim.end()
"""
CONFIG = "enable_advanced_monitor_support = False\nenable_reinjection = False\n"


@dataclass
class Measured:
    """One run of a script."""

    wall_s: float = 0.0
    simulated_s: float = 0.0
    counts: dict[str, float] = field(default_factory=dict)
    output: str = ""


def measure(script: str, *, count_instructions: bool = False) -> Measured:
    """Run a script on a board in this process and time what lies between start and ready."""
    measured, before = Measured(), {}  # type: Measured, dict[str, Any]
    go = threading.Event()

    def listen(event: Any) -> None:
        if event.kind == "signal" and event.details["signal"] == "SYNC0" and not before:
            before.update(server.machine.statistics(), wall=perf_counter())
        elif event.kind == "state" and before and event.details["state"] in ("READY", "SYNC1"):
            now = server.machine.statistics()
            measured.wall_s = perf_counter() - before["wall"]
            measured.simulated_s = (now["board_ms"] - before["board_ms"]) / 1000
            measured.counts = {name: now[name] - before[name] for name in now}
            go.set()

    server = Server(Settings(address="auto", pace=None), listen)
    server.machine.count_instructions = count_instructions
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            path = write_config(folder, next(iter(server.addresses.values())), 3)
            path.write_text(path.read_text().replace("[Machine]\n", "[Machine]\n" + CONFIG))
            (folder / ".spynnaker.cfg").write_text("[Machine]\n")
            (folder / "script.py").write_text(script)
            process = subprocess.Popen(
                [sys.executable, "script.py"], cwd=folder, env={**os.environ, "HOME": name}, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            if "go" in script:
                go.wait(120)
                (folder / "go").touch()
            measured.output, _ = process.communicate(timeout=600)
            if process.returncode:
                raise SystemExit(measured.output[-3000:])
    finally:
        server.stop()
        thread.join()
        server.close()
    return measured


def bare_emulator() -> tuple[float, float]:
    """Nanoseconds for an instruction in a tight loop, and for a turn of a core that wakes itself and sleeps again."""
    loop = [0xE3A00001, 0xE59F1014, 0xE0800001, 0xE2511001, 0x1AFFFFFC, 0xEE070F90, 0xEAFFFFFE, 0, 50_000_000]
    sleep = [0xE3A0041F, 0xE3A01010, 0xE5801018, 0xEE070F90, 0xEAFFFFFC]
    machine = Machine(geometry(3))
    try:
        machine.boot()
        chip = machine.chips[0, 0]

        def run(code: list[int], budget: int) -> tuple[float, int]:
            image = struct.pack("<12I", 2, 0, 48, 128, 4, 0, 0, 0, 0, 0, 0, 0) + struct.pack(f"<{len(code)}I", *code)
            chip.memory.write(layout.APPLICATION_IMAGE, image.ljust(512, b"\0"))
            machine.start(chip, 1, 17, 0)
            before, started = machine.statistics()["slices"], perf_counter()
            machine.advance(budget=budget)
            return perf_counter() - started, int(machine.statistics()["slices"] - before)

        seconds, _ = run(loop, 1)
        turns, number = run(sleep, 200_000)
        return seconds / 150e6 * 1e9, turns / number * 1e9
    finally:
        machine.close()


def main() -> None:
    """Print the tables."""
    per_instruction, per_turn = bare_emulator()
    rows, shares = [], []
    for name, script, ms, counted_ms, bound in (
        ("16 -> 2 IF_curr_delta", SMALL, 5000, 500, 0.3),
        ("1,000 IF_curr_exp, 100,000 spikes/s, 18 cores", LARGE, 1000, 100, 16.0),
    ):
        runs = [measure(script.format(ms=ms)) for _ in range(3)]
        run = sorted(runs, key=lambda one: one.wall_s)[1]
        counted = measure(script.format(ms=counted_ms), count_instructions=True)
        speed = run.wall_s / run.simulated_s
        instructions = counted.counts["instructions"] / counted.simulated_s * run.simulated_s
        turns = run.counts["slices"]
        rows.append(
            [
                name,
                f"{speed:.3f}",
                verdict(speed, bound, at_most=True),
                f"{instructions / run.wall_s / 1e6:.0f} M",
                f"{run.counts['delivered'] / run.simulated_s:,.0f}",
                f"{turns / run.wall_s / 1e3:.0f} k",
            ]
        )
        in_code, in_turns = instructions * per_instruction / 1e9, turns * per_turn / 1e9
        rest = run.wall_s - in_code - in_turns
        shares.append([name, *(f"{100 * part / run.wall_s:.0f} %" for part in (in_code, in_turns, rest))])
    show(
        "The virtual board, as fast as possible (medians of 3 runs)",
        ["network", "wall s / simulated s ", "bound", "instructions/s ", "deliveries / simulated s ", "turns/s "],
        rows,
    )
    show(
        "Where the time goes",
        ["network", "instructions at the bare emulator's speed ", "turns that do nothing ", "registers, memory, rest "],
        shares,
        f"Floor, measured in this run: {per_instruction:.2f} ns an instruction in a loop, {per_turn:.0f} ns a turn.",
    )
    steps = []
    for chunk, bound in ((1, 1.0), (20, 3.0)):
        chunks, counts = json.loads(measure(LOCK_STEP.format(chunk=chunk)).output.split("RESULT ")[1].splitlines()[0])
        ms, floor = 1e3 * float(np.median(chunks)), 2e3 * float(np.median(counts))
        steps.append(
            [f"{chunk} ms", f"{ms:.2f}", verdict(ms, bound, at_most=True), f"{floor:.2f}", f"{ms / floor:.2f}"]
        )
    show(
        "Lock-step: a signal, and asking until all cores wait again (medians of 500)",
        ["chunk", "wall ms ", "bound", "two messages alone, ms ", "ratio "],
        steps,
    )


if __name__ == "__main__":
    main()

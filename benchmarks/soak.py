"""10^5 decisions in one NEST session: correctness, memory, and whether it slows down."""

from __future__ import annotations

from time import perf_counter

import numpy as np
import psutil
from common import machine, measured_networks, observations, show
from spikeloop.runtime import launch

DECISIONS = 100_000


def main() -> None:
    """Print the table."""
    name, network = next(iter(measured_networks().items()))
    states = observations(network, DECISIONS)
    with launch(network) as reference:
        expected = reference.decide(states).action
    process = psutil.Process()
    times = np.empty(DECISIONS)
    wrong = 0
    with launch(network, "nest-exact") as agent:
        memory = []
        for index, state in enumerate(states):
            started = perf_counter()
            action = agent.act(state)
            times[index] = perf_counter() - started
            wrong += action != expected[index]
            if index % 10_000 == 9_999:
                memory.append(process.memory_info().rss)
    tenths = np.median(times.reshape(10, -1), axis=1) * 1e6
    rows = [
        (f"{i * 10_000:,} to {(i + 1) * 10_000:,}", f"{tenths[i]:.0f}", f"{memory[i] / 1e6:.1f}") for i in range(10)
    ]
    show(
        f"10^5 decisions on nest-exact, {name}: {wrong} wrong, memory {(memory[-1] - memory[0]) / 1e6:+.2f} MB, "
        f"last tenth {tenths[-1] / tenths[0]:.2f} x the first",
        ["decisions", "median us ", "RSS MB "],
        rows,
        machine(),
    )


if __name__ == "__main__":
    main()

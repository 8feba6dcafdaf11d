"""SpiNNaker on the virtual board: a decision live, against the thesis' way; the twin; agreement; the sockets.

    python benchmarks/spinnaker.py [--episodes 20] [--only speed|agreement|sockets]

The shipped firmware runs on emulated cores: times are those of this machine, ratios are between ways to use the same
emulated board in the same run. The thesis' way sets currents, runs, reads potentials and resets, for each decision.
"""

from __future__ import annotations

import argparse
import socket
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter

import gymnasium
import numpy as np
from common import interleaved, machine, show, verdict
from spikeloop.deploy.spinnaker.live_link import Core, injection, spikes_in
from spikeloop.models import Dense, Network, load
from spikeloop.runtime import launch
from spikeloop.runtime.fidelity import wilson

VIRTUAL, TWIN = "spinnaker-virtual", "spinnaker-twin"
BOUNDS = {8: 5.0, 16: 9.0}  # driven steps: ms
FASTER, TWIN_US = 30.0, 20.0
AGENTS = {"cartpole-spinnaker": ("CartPole-v1", 500.0), "mountaincar-spinnaker": ("MountainCar-v0", -130.0)}


def driven(network: Network, n: int) -> Network:
    """The network with a window in which the input drives its first layer for n steps, and outputs that fit it."""
    steps = n + len(network.layers) - 1
    last, grid = network.layers[-1], 2.0**-15
    share = min(1.0, 0.9 * network.steps / steps)
    scaled = Dense(np.rint(last.weights * share / grid) * grid, np.rint(last.bias * share / grid) * grid)
    return replace(network, steps=steps, layers=(*network.layers[:-1], scaled))


def timed(decide: Callable[[np.ndarray], object], states: np.ndarray) -> np.ndarray:
    """ms of each decision."""
    times = []
    for state in states:
        started = perf_counter()
        decide(state)
        times.append((perf_counter() - started) * 1e3)
    return np.array(times)


def speed() -> None:
    """Decisions a second, by way."""
    agent = load("cartpole-spinnaker")
    states = np.random.default_rng(0).normal(0.0, 0.3, (600, 4))
    medians, rows = {}, []
    for n, bound in BOUNDS.items():
        for timing in ("lock-step", "free-running"):
            with launch(driven(agent, n), VIRTUAL, settings={"timing": timing}) as live:
                times = timed(live.decide, states if timing == "lock-step" else states[:200])[20:]
            medians[n, timing] = float(np.median(times))
            told = (
                verdict(medians[n, timing], bound, at_most=True) if timing == "lock-step" else "board time = wall time"
            )
            p99 = np.quantile(times, 0.99)
            rows.append([f"circuit, n={n}, {timing}", f"{medians[n, timing]:.2f}", f"{p99:.2f}", "", told])
    with launch(driven(agent, 8), "spinnaker-ifcurdelta") as thesis:
        times = timed(thesis.decide, states[:40])[5:]
    slow = float(np.median(times))
    ratio = slow / medians[8, "lock-step"]
    told = verdict(ratio, FASTER, at_most=False)
    rows.append(["the thesis' way, T=10", f"{slow:.0f}", f"{np.quantile(times, 0.99):.0f}", f"{ratio:.0f}", told])
    show(
        "A decision on the virtual board, batch 1",
        ["way", "median ms ", "99 % under ", "times lock-step, n=8 ", "bound"],
        rows,
        f"{machine()}. n: steps in which the input drives the first layer. The shipped firmware on emulated cores.",
    )
    with launch(agent, TWIN) as twin, launch(load("cartpole"), "reference") as reference:
        found = interleaved(
            {"twin": lambda: twin.decide(states[0]), "reference": lambda: reference.decide(states[0])}, 40
        )
    us = {name: float(np.median(values)) for name, values in found.items()}
    told = verdict(us["twin"], TWIN_US, at_most=True)
    show(
        "A decision in software, batch 1 (medians)",
        ["system", "us ", "ratio ", "bound"],
        [["cartpole-spinnaker on its twin", f"{us['twin']:.1f}", "1", told],
         ["cartpole on the reference", f"{us['reference']:.1f}", f"{us['reference'] / us['twin']:.2f}", ""]],
        "Both 4-16-16-2, 10 steps; Agent.decide().",
    )  # fmt: skip


def agreement(episodes: int) -> None:
    """Every decision of whole episodes on the board and on its twin; every spike in the first thousand."""
    rows = []
    for name, (env_id, least) in AGENTS.items():
        network = load(name)
        for timing in ("lock-step", "free-running"):
            returns, decisions, agreed, compared, same = [], 0, 0, 0, 0
            with (
                gymnasium.make(env_id) as env,
                launch(network, TWIN) as twin,
                launch(network, VIRTUAL, settings={"timing": timing}) as live,
            ):
                for episode in range(episodes):
                    state, _ = env.reset(seed=episode)
                    total, over = 0.0, False
                    while not over:
                        spikes = timing == "lock-step" and compared < 1000
                        given, expected = live.decide(state, spikes=spikes), twin.decide(state, spikes=spikes)
                        agreed += given.action == expected.action
                        decisions += 1
                        if spikes:
                            compared += 1
                            pairs = zip(given.rasters, expected.rasters, strict=True)
                            same += all(np.array_equal(ours, theirs) for ours, theirs in pairs)
                        state, reward, ended, cut, _ = env.step(given.action)
                        total, over = total + float(reward), ended or cut
                    returns.append(total)
            low, high = wilson(agreed, decisions)
            rows.append([
                name, timing, f"{np.mean(returns):.1f} ({min(returns):g} to {max(returns):g})",
                verdict(float(np.mean(returns)), least, at_most=False),
                f"{agreed} of {decisions} [{100 * low:.2f}, {100 * high:.2f}]",
                f"{same} of {compared}" if compared else "",
            ])  # fmt: skip
    show(
        f"The board and its twin, {episodes} episodes",
        ["agent", "timing", "return", "bound", "decisions alike [95 %] ", "all spikes alike "],
        rows,
        "The shipped firmware on emulated cores; free-running at wall-clock pace, with gates.",
    )


def sockets() -> None:
    """A datagram with 16 keys sent, received and read: our codec and sockets against spinnman's."""
    from spinnman.connections.udp_packet_connections import EIEIOConnection
    from spinnman.messages.eieio.data_messages import EIEIODataMessage
    from spinnman.messages.eieio.eieio_type import EIEIOType

    keys = np.arange(16, dtype=np.int64)
    received = bytes((16, 0x38)) + (7).to_bytes(4, "little") + np.arange(16, dtype="<u4").tobytes()
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("127.0.0.1", 0))
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect(listener.getsockname())
    theirs_in = EIEIOConnection(local_host="127.0.0.1")
    theirs_out = EIEIOConnection(remote_host="127.0.0.1", remote_port=theirs_in.local_port)
    back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    back.connect(("127.0.0.1", theirs_in.local_port))

    def ours() -> None:
        sender.send(injection(Core(0, 0, 3), keys))
        listener.recv(2048)
        sender.send(received)
        spikes_in(listener.recv(2048))

    def theirs() -> None:
        message = EIEIODataMessage.create(EIEIOType.KEY_16_BIT)
        for key in keys.tolist():
            message.add_key(key)
        theirs_out.send_eieio_message(message)
        theirs_in.receive()
        back.send(received)
        answer = theirs_in.receive_eieio_message()
        while answer.is_next_element:
            _ = answer.next_element

    found = {
        name: float(np.median(values)) for name, values in interleaved({"ours": ours, "theirs": theirs}, 40).items()
    }
    show(
        "A datagram of 16 keys out, and one of 16 spikes in (medians, loopback)",
        ["sockets", "us ", "ratio "],
        [["deploy/spinnaker/live_link.py", f"{found['ours']:.1f}", "1"],
         ["spinnman's EIEIOConnection", f"{found['theirs']:.1f}", f"{found['theirs'] / found['ours']:.1f}"]],
        f"{machine()}. Encoded, sent, received, decoded.",
    )  # fmt: skip


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--only", choices=("speed", "agreement", "sockets"))
    chosen = parser.parse_args()
    if chosen.only in (None, "speed"):
        speed()
    if chosen.only in (None, "sockets"):
        sockets()
    if chosen.only in (None, "agreement"):
        agreement(chosen.episodes)


if __name__ == "__main__":
    main()

"""What the bridge costs: one decision over ZeroMQ, against a bare DEALER/ROUTER echo plus the decision itself.

Both sides run in processes of their own, as a user has them. The echo sends frames of the size of our request and
gets frames of the size of our answer. The decision itself is what the host says its stages took: it wakes up for each
request, as the echo does, and so takes longer than in a loop of its own, which is shown beside.
"""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import zmq
from common import interleaved, machine, measured_networks, observations, show, verdict
from spikeloop.bridges import wire
from spikeloop.bridges.client import RemoteAgent
from spikeloop.bridges.host_process import HostProcess
from spikeloop.models import Network
from spikeloop.runtime import launch

BOUND = 1.5

ECHO = """
import sys, zmq
socket = zmq.Context().socket(zmq.ROUTER)
print(socket.bind_to_random_port("tcp://127.0.0.1"), flush=True)
answer = bytes(int(sys.argv[1]))
while True:
    sender, request = socket.recv_multipart()
    socket.send_multipart([sender, answer])
"""


def frame_sizes(network) -> tuple[int, int]:
    """Bytes of our request and of our answer."""
    nothing = np.zeros(0, np.uint32)
    request = wire.Inject(
        kind=wire.InputKind.OBSERVATION, want_spikes=False, values=np.zeros(network.n_inputs),
        channels=nothing, spike_steps=nothing,
    )  # fmt: skip
    answer = wire.Readout(
        action=0, output=np.zeros(network.n_outputs), timings=np.zeros(5), late=False, has_spikes=False,
        spike_layers=np.zeros(0, np.uint16), spike_neurons=nothing, spike_steps=nothing,
    )  # fmt: skip
    return len(wire.encode(request, 1)), len(wire.encode(answer, 1))


def measure(name: str, network: Network) -> list[tuple[str, ...]]:
    """The rows of one network."""
    samples = itertools.cycle(observations(network))
    request_size, answer_size = frame_sizes(network)
    command = [sys.executable, "-c", ECHO, str(answer_size)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as echo_process,
        zmq.Context() as context,
        HostProcess(network, "nest-exact") as host,
        RemoteAgent(host.address) as remote,
        launch(network, "nest-exact") as local,
    ):
        socket = context.socket(zmq.DEALER)
        socket.connect(f"tcp://127.0.0.1:{echo_process.stdout.readline().strip()}")
        request = bytes(request_size)

        def echo() -> bytes:
            socket.send(request)
            return socket.recv()

        stages: list[float] = []

        def over_the_bridge() -> None:
            stages.append(remote.decide(next(samples)).timings.total_us)

        times = interleaved(
            {"echo": echo, "in a loop": lambda: local.decide(next(samples)), "bridge": over_the_bridge}, rounds=80
        )
        socket.close(0)
        echo_process.kill()
    rows = []
    for quantile in (50, 99):
        echo_us, loop_us, bridge_us = (np.percentile(times[key], quantile) for key in times)
        decision_us = np.percentile(stages, quantile)
        ratio = bridge_us / (echo_us + decision_us)
        figures = (f"{echo_us:.0f}", f"{decision_us:.0f}", f"{loop_us:.0f}", f"{bridge_us:.0f}", f"{ratio:.2f}")
        rows.append(("" if rows else name, f"p{quantile}", *figures, verdict(ratio, BOUND, at_most=True)))
    return rows


def main() -> None:
    """Print the table."""
    networks = measured_networks()
    request_size, answer_size = frame_sizes(next(iter(networks.values())))
    show(
        f"A decision over the bridge, nest-exact, batch 1 (request {request_size} B, answer {answer_size} B)",
        ["network", "", "bare echo us ", "decision us ", "(in a loop) ", "over the bridge us ", "ratio ", "bound"],
        [row for item in networks.items() for row in measure(*item)],
        f"{machine()}. Ratio: over the bridge / (bare echo + decision).",
    )


if __name__ == "__main__":
    main()

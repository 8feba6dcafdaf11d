"""What one decision costs on the reference, against snnTorch and Norse: same layer sizes, same T, no gradients."""

from __future__ import annotations

import itertools

import numpy as np
from common import interleaved, machine, measured_networks, observations, show, verdict
from spikeloop.deploy.reference import ReferenceSession
from spikeloop.models import Network
from spikeloop.runtime import launch

BOUND = 100.0


def snntorch_network(network: Network):
    """snnTorch: Linear and Leaky(beta=1) in turn, stepped T times."""
    import snntorch
    import torch

    sizes = [network.n_channels, *network.sizes]
    linears = torch.nn.ModuleList([torch.nn.Linear(a, b) for a, b in itertools.pairwise(sizes)])
    neurons = [snntorch.Leaky(beta=1.0, threshold=1.0, reset_mechanism="subtract") for _ in linears]

    def decide(x):
        potentials = [neuron.init_leaky() for neuron in neurons]
        for _ in range(network.steps):
            signal = x
            for index, (linear, neuron) in enumerate(zip(linears, neurons, strict=True)):
                signal, potentials[index] = neuron(linear(signal), potentials[index])
        return int(potentials[-1].argmax())

    return decide


def norse_network(network: Network):
    """Norse: Linear and IAFCell in turn, an LICell at the end, stepped T times."""
    import torch
    from norse.torch import IAFCell, LICell, SequentialState

    pairs = list(itertools.pairwise([network.n_channels, *network.sizes]))
    parts = []
    for index, (n_in, n_out) in enumerate(pairs):
        parts += [torch.nn.Linear(n_in, n_out), IAFCell() if index < len(pairs) - 1 else LICell()]
    model = SequentialState(*parts)

    def decide(x):
        state = None
        for _ in range(network.steps):
            output, state = model(x, state)
        return int(output.argmax())

    return decide


def measure(name: str, network: Network) -> list[tuple[str, ...]]:
    """The rows of one network, batch 1."""
    import torch

    samples = itertools.cycle(observations(network))
    x = torch.zeros(1, network.n_channels)
    norse, snntorch = norse_network(network), snntorch_network(network)
    with torch.no_grad(), launch(network) as agent:
        times = interleaved(
            {
                "Spikeloop, reference": lambda: agent.decide(next(samples)),
                "Norse": lambda: norse(x),
                "snnTorch": lambda: snntorch(x),
            },
            rounds=6,
            block=20,
        )
    ours = np.median(times["Spikeloop, reference"])
    rows = []
    for peer, values in times.items():
        ratio = np.median(values) / ours
        bound = "" if peer.startswith("Spikeloop") else verdict(ratio, BOUND, at_most=False)
        rows.append(("" if rows else name, peer, f"{np.median(values):.0f}", f"{ratio:.0f}", bound))
    return rows


def measure_batches(name: str, network: Network) -> list[tuple[str, ...]]:
    """The rows of one network, batches of 1 to 1000, windows alone."""
    session = ReferenceSession(network)
    rows = []
    for n in (1, 10, 100, 1000):
        stimulus = network.encoder.encode(observations(network)[:n], network.steps)

        def window(stimulus=stimulus):
            session.reset()
            session.inject(stimulus)
            session.run(network.steps)
            return session.read()

        us = np.median(interleaved({"": window}, rounds=1, block=50)[""])
        rows.append(("" if rows else name, str(n), f"{us:.0f}", f"{us / n:.1f}"))
    return rows


def main() -> None:
    """Print the tables."""
    import torch

    torch.set_num_threads(1)
    networks = measured_networks()
    note = f"{machine()}, one thread. Peers: torch.no_grad, their own neuron of the same kind, input constant."
    rows = [row for item in networks.items() for row in measure(*item)]
    show("A decision in software, batch 1 (medians)", ["network", "system", "us ", "ratio ", "bound"], rows, note)
    rows = [row for item in networks.items() for row in measure_batches(*item)]
    show("The reference by batch (medians)", ["network", "batch ", "us ", "us per sample "], rows)


if __name__ == "__main__":
    main()

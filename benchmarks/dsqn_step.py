"""A training step of a DSQN, beside the same step written with snnTorch.

The step is `spikeloop.training.dqn.update` on a batch of 128 transitions: double Q-learning on a 5-17-17-2 network of
integrate-and-fire neurons without leak, reset by subtraction, 20 steps, constant input, potential read-out, Adam, and
gradients held within 1. snnTorch's neuron fires and resets within a step, ours a step later: the work is the same, the
values are not. The unrolled window of `SpikingStack` is what the compiled one replaces.
"""

from __future__ import annotations

import copy
from itertools import pairwise

import numpy as np
import snntorch
import torch
from common import interleaved, machine, show, verdict
from snntorch import surrogate
from spikeloop.training.dqn import update
from spikeloop.training.dsqn import Settings
from spikeloop.training.replay import ReplayMemory
from spikeloop.training.spiking_policy import SpikingPolicy
from torch import nn

STEPS, SIZES = 20, (5, 17, 17, 2)


class SnnTorch(nn.Module):
    """The network as snnTorch's documentation writes one."""

    def __init__(self) -> None:
        super().__init__()
        slope = surrogate.fast_sigmoid(slope=100)
        self.linear = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in pairwise(SIZES))
        self.neurons = nn.ModuleList(snntorch.Leaky(beta=1.0, spike_grad=slope) for _ in SIZES[1:-1])
        self.readout = snntorch.Leaky(beta=1.0, reset_mechanism="none")

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        currents = torch.cat([observations, torch.ones(len(observations), 1)], dim=1)
        potentials = [neuron.init_leaky() for neuron in (*self.neurons, self.readout)]
        for _ in range(STEPS):
            spikes = currents
            for layer, neuron in enumerate(self.neurons):
                spikes, potentials[layer] = neuron(self.linear[layer](spikes), potentials[layer])
            _, potentials[-1] = self.readout(self.linear[-1](spikes), potentials[-1])
        return potentials[-1]


class Unrolled(SpikingPolicy):
    """Ours, without the compiled window."""

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        currents = torch.cat([observations, torch.ones(len(observations), 1)], dim=1)
        *_, (_, potentials) = self.stack.unroll(currents)
        return potentials[-1]


def main() -> None:
    """Measure, and print the table."""
    torch.set_num_threads(1)
    torch.manual_seed(1)
    settings, rng = Settings(), np.random.default_rng(1)
    memory = ReplayMemory(1000, 4, np.float32)
    for _ in range(1000):
        memory.push(rng.normal(size=4), int(rng.integers(2)), 1.0, rng.normal(size=4), bool(rng.random() < 0.1))

    def step(module: nn.Module):
        target = copy.deepcopy(module)
        optimiser = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=settings.learning_rate)
        return lambda: update(module, target, optimiser, memory.sample(rng, settings.batch_size), settings)

    times = interleaved(
        {
            "snnTorch": step(SnnTorch()),
            "spikeloop, unrolled in torch": step(Unrolled(settings, 4, 2)),
            "spikeloop": step(SpikingPolicy(settings, 4, 2)),
        },
        rounds=10,
        block=10,
    )
    peer = float(np.median(times["snnTorch"]))
    rows = [
        (
            name,
            f"{np.median(values) / 1e3:.2f}",
            f"{peer / np.median(values):.1f}",
            verdict(peer / np.median(values), 1.0, at_most=False) if name == "spikeloop" else "",
        )
        for name, values in times.items()
    ]
    show(
        "A DSQN training step: batch 128, 5-17-17-2, T=20",
        ["system", "ms, median ", "snnTorch's time / its own ", "bound"],
        rows,
        f"{machine()}. snnTorch {snntorch.__version__}, torch {torch.__version__}, one thread.",
    )


if __name__ == "__main__":
    main()

"""What one decision costs on NEST: against agents that rebuild the kernel, and against NEST's own Run.

The peers do what an agent without our session must do on NEST 3, where ResetNetwork is gone: reset the kernel, create,
connect, set the input, simulate, read. One does it as the thesis' agent does (current generators, one Connect per
synapse with its weight read from a torch tensor, a multimeter per output, 0.1 ms), one as tersely as PyNEST allows
(whole layers, 1 ms). The floor is ``nest.Run(T)`` on our own deployed network and nothing else.
"""

from __future__ import annotations

import itertools
import os

import numpy as np
from common import interleaved, machine, measured_networks, observations, show, verdict
from spikeloop.models import Network
from spikeloop.runtime import launch

REBUILD_BOUNDS = {20: 60.0, 100: 40.0}
FLOOR_BOUNDS = {20: 4.0, 100: 2.0}


def thesis_way(network: Network, observation: np.ndarray, weights: list) -> int:
    """One decision, everything one by one, created first and set afterwards."""
    import nest

    nest.ResetKernel()
    nest.verbosity = nest.VerbosityLevel.ERROR
    neuron = {"V_th": 1.0, "t_ref": 0.0, "V_min": -1e300, "C_m": 1.0, "V_reset": 0.0, "tau_m": 1e10, "E_L": 0.0}
    generators = nest.Create("dc_generator", network.n_channels)
    layers = [nest.Create("iaf_psc_delta", layer.n_out) for layer in network.layers]
    for nodes in layers:
        nodes.set({**neuron, "V_m": 0.0, "I_e": 0.0, "V_th": 1e300 if nodes is layers[-1] else 1.0})
    for layer, nodes in zip(network.layers, layers, strict=True):
        if layer.bias.any():  # the thesis' DSQN has none
            for index in range(layer.n_out):
                nodes[index].set({"I_e": float(layer.bias[index])})
    for tensor, (before, after) in zip(weights, itertools.pairwise([generators, *layers]), strict=True):
        for i in range(len(before)):
            for j in range(len(after)):
                nest.Connect(before[i], after[j], syn_spec={"weight": tensor[i][j].detach().item()})
    multimeters = []
    for index in range(network.n_outputs):
        multimeters.append(nest.Create("multimeter"))
        multimeters[-1].set({"record_from": ["V_m"]})
        nest.Connect(multimeters[-1], layers[-1][index])
    for index, value in enumerate(network.encoder.channels(observation[None])[0]):
        generators[index].set({"amplitude": float(value)})
    nest.Simulate(float(network.steps))
    return int(np.argmax([multimeter.get("events")["V_m"][-1] for multimeter in multimeters]))


def tersely(network: Network, observation: np.ndarray) -> int:
    """One decision, whole layers at once, with the exact recipe."""
    import nest

    nest.ResetKernel()
    nest.verbosity = nest.VerbosityLevel.ERROR
    nest.resolution = 1.0
    parameters = {"C_m": 1.0, "E_L": 0.0, "V_m": 0.0, "V_th": 1.0, "t_ref": 0.0, "tau_m": 2.0**53}
    layers = [nest.Create("eprop_iaf", layer.n_out, parameters) for layer in network.layers]
    layers[-1].set(V_th=1e300)
    for layer, nodes in zip(network.layers[1:], layers[1:], strict=True):
        nodes.set(I_e=layer.bias.tolist())
    for layer, (before, after) in zip(network.layers[1:], itertools.pairwise(layers), strict=True):
        nest.Connect(before, after, "all_to_all", {"weight": layer.weights.T, "delay": 2.0})
    channels = network.encoder.channels(observation[None])[0]
    layers[0].set(I_e=(channels @ network.layers[0].weights + network.layers[0].bias).tolist())
    nest.Simulate(float(network.steps))
    return int(np.argmax(layers[-1].get("V_m")))


def measure(name: str, network: Network) -> list[tuple[str, ...]]:
    """The rows of one network."""
    import nest
    import torch

    tensors = [torch.tensor(layer.weights, dtype=torch.float32) for layer in network.layers]
    steps, states = network.steps, observations(network)
    samples = itertools.cycle(states)
    with launch(network) as reference:
        expected = reference.decide(states[:200]).action

    def agreement(decide) -> str:
        return (
            f"{100 * np.mean([decide(state) == action for state, action in zip(states, expected, strict=False)]):.1f}"
        )

    peers = {
        "kernel rebuilt, as the thesis' agent": lambda state: thesis_way(network, state, tensors),
        "kernel rebuilt, as tersely as possible": lambda state: tersely(network, state),
    }
    slow = interleaved({key: lambda peer=peer: peer(next(samples)) for key, peer in peers.items()}, rounds=4, block=25)
    agreements = {key: agreement(peer) for key, peer in peers.items()}
    nest.ResetKernel()
    with launch(network, "nest-exact") as agent:
        ours_agree = agreement(agent.act)
        # The Runs in between move the kernel's clock; with a constant input the session does not look at it.
        times = interleaved(
            {"ours": lambda: agent.decide(next(samples)), "floor": lambda: nest.Run(float(steps))}, rounds=80
        )
    ours, floor = np.median(times["ours"]), np.median(times["floor"])
    rows = []
    for key, values in slow.items():
        ratio = np.median(values) / ours
        bound = verdict(ratio, REBUILD_BOUNDS[steps], at_most=False) if "thesis" in key else ""
        rows.append(("", key, f"{np.median(values):.0f}", f"{ratio:.0f}", bound, agreements[key]))
    rows.append(("", "Spikeloop, nest-exact", f"{ours:.0f}", "1", "", ours_agree))
    bound = verdict(ours / floor, FLOOR_BOUNDS[steps], at_most=True)
    rows.append(("", "floor: nest.Run(T), same network", f"{floor:.0f}", f"1/{ours / floor:.2f}", bound, ""))
    rows[0] = (name, *rows[0][1:])
    return rows


def main() -> None:
    """Print the table."""
    os.environ["PYNEST_QUIET"] = "1"
    rows = [row for name, network in measured_networks().items() for row in measure(name, network)]
    show(
        "A decision on NEST, batch 1 (medians)",
        ["network", "system", "us ", "ratio ", "bound", "agreement % "],
        rows,
        f"{machine()}. A decision is Agent.decide(): check, encode, open the window, run, read, decode.",
    )


if __name__ == "__main__":
    main()

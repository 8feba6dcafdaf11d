"""A circuit's machine, tick by tick, from nothing but its wiring: the neurons' update as the firmware documents it."""

from dataclasses import dataclass

import numpy as np
from spikeloop.deploy.spinnaker.circuit import Circuit, circuit_of
from spikeloop.deploy.spinnaker.wiring import INPUT, keys_of, wiring
from spikeloop.hardware_profiles import load_profile
from spikeloop.models import Dense, Encoder, Network, Neuron

ONE = 1 << 15
RING_MAX = (1 << 16) - 1
RECEPTORS = ("excitatory", "inhibitory")
LAYOUTS = {2: (3, 7), 3: (4, 9, 8), 4: (3, 7, 6, 5), 5: (2, 6, 5, 6, 5)}


def network(seed=0, hidden=(4, 16, 16), actions=2, steps=10, bits=6, shifts=(4, 0), ties=False):
    """A random network that the circuit takes; with `ties`, outputs that are often equal."""
    rng = np.random.default_rng(seed)
    sizes = (*hidden, actions)
    grids = [2.0 ** (shifts[0] - 15)] * (len(sizes) - 2) + [2.0 ** (shifts[1] - 15)]
    layers = []
    for index, grid in enumerate(grids):
        n_in, n_out = sizes[index], sizes[index + 1]
        if index == 0:
            weights = rng.normal(0.0, 2.5 / 2**bits, (n_in, n_out))
            bias = rng.normal(0.1, 0.2, n_out)
        elif index < len(grids) - 1:
            weights, bias = rng.normal(0.1, 1.0 / np.sqrt(n_in), (n_in, n_out)), rng.normal(0.05, 0.1, n_out)
        else:
            weights = rng.normal(0.0, 1.0, (n_in, n_out))
            if ties:
                weights = np.sign(weights)
            weights *= 0.2 / (steps * np.abs(weights).sum(axis=0).max())
            bias = np.zeros(n_out) if ties else rng.normal(0.0, 0.02 / steps, n_out)
        layers.append(Dense(np.rint(weights / grid) * grid, np.rint(bias / grid) * grid))
    encoder = Encoder(bits=bits, resolution=(0.1,) * sizes[0])
    return Network(tuple(layers), steps, Neuron(reset="zero", compare=">="), encoder, name=f"random {seed}")


def profile_for(network, shifts=(4, 0), **settings):
    """The twin's profile, with the number formats of the network."""
    given = {"input_bits": network.encoder.bits, "hidden_shift": shifts[0], "output_shift": shifts[1]}
    return load_profile("spinnaker-twin", given | settings)


def wired(network, shifts=(4, 0), gate_steps=1, neurons_per_core=8):
    """The wiring of a network."""
    circuit: Circuit = circuit_of(network, profile_for(network, shifts))
    return wiring(circuit, neurons_per_core=neurons_per_core, gate_steps=gate_steps)


def random_codes(circuit, n, seed=0):
    """Inputs [n, n_inputs], the extreme ones among them."""
    most = 1 << (circuit.bits - 1)
    codes = np.random.default_rng(seed).integers(-most, most, (n, circuit.network.n_channels))
    codes[: min(n, 4)] = np.array([[0], [-most], [most - 1], [-1]])[: min(n, 4)]
    return codes


@dataclass
class Ran:
    """What happened: `spikes[group]` [samples, ticks, neurons], and whether anything was left after each tick."""

    spikes: dict
    idle: np.ndarray

    def last_busy(self):
        """The last tick after which anything was left, per sample; -1: never."""
        busy = ~self.idle
        return np.where(busy.any(axis=1), busy.shape[1] - 1 - busy[:, ::-1].argmax(axis=1), -1)


class Board:
    """All neurons of one wiring, for many samples at once."""

    def __init__(self, wiring):
        self.wiring = wiring
        self.keys = keys_of(wiring.circuit)
        names = [INPUT, *(group.name for group in wiring.groups)]
        sizes = [self.keys.size, *(group.size for group in wiring.groups)]
        edges = np.cumsum([0, *sizes]).tolist()
        self._of = {name: slice(a, b) for name, a, b in zip(names, edges[:-1], edges[1:], strict=True)}
        self._n = edges[-1]
        shifts = [
            np.full(size, shift) for size, shift in zip(sizes, [0, *(g.shift for g in wiring.groups)], strict=True)
        ]
        self._shift = np.concatenate(shifts)
        parts = []
        for wire in wiring.wires:
            synapses = wire.synapses
            source = synapses["source"] + self._of[wire.source].start
            target = synapses["target"] + self._of[wire.target].start
            receptor = np.full(len(synapses), RECEPTORS.index(wire.receptor))
            parts.append(np.stack([source, target, receptor, synapses["weight"], synapses["delay"]], axis=1))
        self._synapses = np.concatenate(parts)
        self._synapses = self._synapses[np.argsort(self._synapses[:, 0], kind="stable")]
        self._rows = np.searchsorted(self._synapses[:, 0], np.arange(self._n + 1))
        self._slots = int(self._synapses[:, 4].max()) + 2

    def run(self, injected, lose=None, one=ONE, floor=0):
        """Run for as many ticks as `injected` [samples, ticks, keys] has; its numbers say how often a key is sent.

        `lose(tick, shape)` says which neurons' spikes get lost; `one` and `floor` are the neuron's, in s16.15.
        """
        floor = floor * ONE
        samples, ticks, _ = injected.shape
        v = np.zeros((samples, self._n), dtype=np.int64)
        rings = np.zeros((samples, self._slots, 2, self._n), dtype=np.int64)
        raster = np.zeros((samples, ticks, self._n), dtype=np.uint8)
        idle = np.zeros((samples, ticks), dtype=bool)
        for tick in range(ticks):
            ring = rings[:, tick % self._slots]
            excitation, inhibition = (np.minimum(ring[:, i], RING_MAX) << self._shift for i in (0, 1))
            v = np.maximum(v + excitation - inhibition, floor)
            fired = v >= one
            v[fired] = 0
            ring[:] = 0
            raster[:, tick] = fired
            sent = fired if lose is None else fired & ~lose(tick, fired.shape)
            self._deliver(rings, sent.astype(np.int64), tick)
            self._deliver(rings, injected[:, tick], tick + 1)
            idle[:, tick] = ~(v.any(axis=1) | rings.any(axis=(1, 2, 3)))
        return Ran({name: raster[:, :, of] for name, of in self._of.items()}, idle)

    def _deliver(self, rings, counts, tick):
        sample, source = np.nonzero(counts)
        lengths = self._rows[source + 1] - self._rows[source]
        firsts = np.repeat(np.cumsum(lengths) - lengths, lengths)
        at = np.repeat(self._rows[source], lengths) + np.arange(lengths.sum()) - firsts
        _, target, receptor, weight, delay = self._synapses[at].T
        times = np.repeat(counts[sample, source], lengths)
        np.add.at(rings, (np.repeat(sample, lengths), (tick + delay) % self._slots, receptor, target), weight * times)

    def schedule(self, samples, ticks):
        """Nothing sent yet."""
        return np.zeros((samples, ticks, self.keys.size), dtype=np.int64)

    def send(self, schedule, sample, codes, tag, ticks):
        """Add the keys of an observation, each in its tick of `ticks` (one for all, or one for each)."""
        np.add.at(schedule, (sample, ticks, self.keys.of(codes, tag)), 1)

    def answers(self, ran):
        """All winners' spikes of each sample, in their order: (tick, action, tag)."""
        winners = slice(self.wiring.first_winner, self.wiring.first_test)
        found = [[] for _ in range(len(ran.idle))]
        for sample, tick, neuron in zip(*np.nonzero(ran.spikes["decision"][:, :, winners]), strict=True):
            found[sample].append((int(tick), *self.wiring.answer(self.wiring.first_winner + int(neuron))))
        return found

"""The decision circuit's synapses: every one of them, before any machine is asked.

Time r counts ticks from the one before an observation enters: its spikes, sent in tick 0, act in tick 1 + delay. All
layers share one clock: a layer's step t is the tick ``r = lead + 2 + t``, where `lead` is the gates' latency. With T
steps:

    r = 2 .. 1 + lead   the gates: the door in the first of these ticks, in the last all gates whose keys have come
    r = lead + 2 + t    bias and input of step t; comparators start with 0.5 in step 0 and get another in step T - 1
    r = lead + T + 2    the winner's spike; comparators are flushed
    r = lead + T + 3    the winners are flushed; the live gatherer sends the winner's spike to the host

Nothing latches the input: each of its keys has one delayed synapse for each step to each neuron. So the ring buffers
hold the window, and an idle machine computes zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .circuit import RING_MAX, TAGS, Circuit, Ints

INPUT, GATES, DECISION = "input", "gates", "decision"
GATE_SHIFT = 4
# A gate's threshold, and what a key gives it: little, so that many copies of a key do no more than one.
GATE_ONE, GATE_KEY = 1 << (15 - GATE_SHIFT), 1 << (9 - GATE_SHIFT)
# Ticks by which a key may come before `go`: the cores of the gates need not begin their ticks together.
GATE_EARLY = 1
# A synaptic row holds at most 256 synapses; what has more is spread over several projections.
ROW_MAX = 255
MAX_DELAY = 144  # in steps, without delay extensions

# Neurons that show whether the machine computes as is presumed: whether each must fire, and what it gets: after what
# delay, how many thresholds, and how many units of a weight in addition. The last input takes away what is left.
SELF_TEST: tuple[tuple[bool, tuple[tuple[int, int, int], ...]], ...] = (
    (True, ((1, 1, 0),)),  # the threshold itself fires
    (False, ((1, 1, -1), (2, 0, -RING_MAX))),  # a unit less does not
    (True, ((1, 0, -RING_MAX), (2, 1, 0))),  # there is a floor at 0
    (False, ((1, 1, -1), (2, 0, -RING_MAX), (3, 1, -1), (4, 0, -RING_MAX))),  # a flush leaves nothing
)
SELF_TEST_TICKS = 5

SYNAPSE = np.dtype([("source", "i8"), ("target", "i8"), ("weight", "i8"), ("delay", "i8")])


def layer_name(index: int) -> str:
    """The population that is a layer but the last."""
    return f"layer {index}"


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """A population: its name, its number of neurons, the ring-buffer shift, and how many neurons a core may have."""

    name: str
    size: int
    shift: int
    per_core: int


@dataclass(frozen=True, slots=True, eq=False)
class Wire:
    """Synapses of one receptor between two populations, none of whose rows is too long.

    Attributes
    ----------
    synapses : array of `SYNAPSE`
        Sorted by source and target, as sPyNNaker's list connector needs them; weights in units of the target, above 0.
    """

    source: str
    target: str
    receptor: str
    synapses: NDArray[np.void]


@dataclass(frozen=True, eq=False)
class Keys:
    """The numbers of the input's neurons, each of which is sent as a spike's key.

    Attributes
    ----------
    n_inputs, bits : int
        Bit k of input d is ``d * bits + k``.
    """

    n_inputs: int
    bits: int

    @property
    def go(self) -> int:
        """Sent with every observation: biases, starts and flushes."""
        return self.n_inputs * self.bits

    def tag(self, number: int) -> int:
        """One of them is sent with every observation, and comes back with its answer."""
        return self.go + 1 + number % TAGS

    @property
    def test(self) -> int:
        """Sent alone, for the self-test."""
        return self.go + 1 + TAGS

    @property
    def size(self) -> int:
        """How many there are."""
        return self.test + 1

    @cached_property
    def _bits(self) -> Ints:
        return np.arange(self.n_inputs * self.bits, dtype=np.int64)

    def of(self, codes: Ints, tag: int) -> Ints:
        """The keys for inputs [n_inputs] as whole numbers in two's complement, in the order to send them in.

        `go` is first, because gates wait from then on; the tag is before the bits, because then bits that are taken for
        another observation's never come without a tag that is not.
        """
        set_ = (codes[:, None] >> np.arange(self.bits)) & 1
        return np.concatenate([[self.go, self.tag(tag)], self._bits[set_.ravel() == 1]])


def keys_of(circuit: Circuit) -> Keys:
    """Of a circuit's input."""
    return Keys(circuit.network.n_channels, circuit.bits)


@dataclass(frozen=True, eq=False)
class Wiring:
    """All populations and synapses of one circuit.

    Attributes
    ----------
    lead : int
        Ticks that the gates take.
    """

    circuit: Circuit
    groups: tuple[Group, ...]
    wires: tuple[Wire, ...]
    lead: int

    @property
    def winner_tick(self) -> int:
        """In which r the winner fires."""
        return self.lead + self.circuit.steps + 2

    @property
    def idle_tick(self) -> int:
        """After which r nothing is left of an observation."""
        return max(self.winner_tick + 2, self.open_tick + 1)

    @property
    def open_tick(self) -> int:
        """From which tick on, after that in which `go` came, another observation is let in."""
        return shut_for(self.lead - 1, self.circuit.steps) + 1

    @property
    def first_winner(self) -> int:
        """The decision population's first neuron that is a winner; those before compare."""
        return len(self.circuit.pairs)

    @property
    def first_test(self) -> int:
        """The decision population's first neuron of the self-test; those before are winners."""
        return self.first_winner + self.circuit.n_actions * TAGS

    def answer(self, neuron: int) -> tuple[int, int] | None:
        """Action and tag of a winner; None for a neuron that is none."""
        if not self.first_winner <= neuron < self.first_test:
            return None
        return divmod(neuron - self.first_winner, TAGS)

    @property
    def synapses(self) -> int:
        """How many there are."""
        return sum(len(wire.synapses) for wire in self.wires)


def wiring(circuit: Circuit, *, neurons_per_core: int, gate_steps: int) -> Wiring:
    """Wire a circuit.

    Parameters
    ----------
    circuit : Circuit
    neurons_per_core : int
    gate_steps : int
        For how many ticks the spikes of an observation are waited for; at least 1.
    """
    keys = keys_of(circuit)
    sizes = [layer.n_out for layer in circuit.network.layers[:-1]]
    decision = len(circuit.pairs) + circuit.n_actions * TAGS + len(SELF_TEST)
    groups = [Group(GATES, keys.size + 1, GATE_SHIFT, 2 * neurons_per_core)]
    groups += [Group(layer_name(i), size, circuit.shifts[i], neurons_per_core) for i, size in enumerate(sizes)]
    groups.append(Group(DECISION, decision, circuit.shifts[-1], 2 * neurons_per_core))
    found = _Synapses()
    _wire_gates(found, keys, gate_steps, circuit.steps)
    _wire_first_layer(found, circuit, keys)
    for index in range(len(sizes)):
        name = layer_name(index)
        active = circuit.active(index)
        found.add(GATES, name, [keys.go], _row(circuit.biases[index]), range(1, 1 + active))
        # More than it can hold; once more in case an observation came twice.
        flush = np.full((1, sizes[index]), -RING_MAX)
        found.add(GATES, name, [keys.go], flush, [1 + active, 2 + active])
        found.add(GATES, name, [keys.size], flush, [gate_steps])  # by the door, before the first step
        if index:
            found.add(layer_name(index - 1), name, range(sizes[index - 1]), circuit.weights[index], [1])
    _wire_decision(found, circuit, keys, decision)
    for number, (_, inputs) in enumerate(SELF_TEST):
        neuron = decision - len(SELF_TEST) + number
        for delay, thresholds, units in inputs:
            weight = max(-RING_MAX, thresholds * circuit.threshold(circuit.depth - 1) + units)
            found.add(INPUT, DECISION, [keys.test], _only(decision, neuron, weight), [delay])
    return Wiring(circuit, tuple(groups), found.wires(), gate_steps + 1)


def shut_for(gate_steps: int, steps: int) -> int:
    """Ticks for which the door stays shut once it has let an observation in."""
    return 2 + max(steps, 2 * (gate_steps + GATE_EARLY))


def _wire_gates(found: _Synapses, keys: Keys, gate_steps: int, steps: int) -> None:
    """One gate for each key, which lets it pass when the wait is over, and before them a door, which lets one `go` in.

    What a key gives to its gate is taken away again after the wait, so that nothing stays of an observation whose `go`
    found the door shut. The door opens when step 0 of the next observation finds nothing left of this one, and no key
    is left to be taken away that was not there any more. It also flushes the layers beforehand: packets may get lost.
    """
    door, size = keys.size, keys.size + 1
    for key in (key for key in range(keys.test) if key != keys.go):
        found.add(INPUT, GATES, [key], _only(size, key, GATE_KEY), [1])
        found.add(INPUT, GATES, [key], _only(size, key, -GATE_KEY), [2 + gate_steps + GATE_EARLY])
    found.add(INPUT, GATES, [keys.go], _only(size, door, GATE_ONE), [1])
    found.add(GATES, GATES, [door], _only(size, door, -RING_MAX), range(1, 1 + shut_for(gate_steps, steps)))
    wait = np.full((1, size), GATE_ONE - GATE_KEY)
    wait[0, keys.go], wait[0, keys.test :] = GATE_ONE, 0
    found.add(GATES, GATES, [door], wait, [gate_steps])
    found.add(GATES, GATES, [door], np.where(wait, -RING_MAX, 0), [1 + gate_steps])  # what did not fire


def _wire_first_layer(found: _Synapses, circuit: Circuit, keys: Keys) -> None:
    """Each bit, with its weight, in each step."""
    powers = np.int64(1) << np.arange(circuit.bits)
    powers[-1] *= -1  # two's complement
    weights = (circuit.weights[0][:, None, :] * powers[None, :, None]).reshape(keys.go, -1)
    found.add(GATES, layer_name(0), range(keys.go), weights, range(1, 1 + circuit.drives))


def _wire_decision(found: _Synapses, circuit: Circuit, keys: Keys, size: int) -> None:
    """Comparators and winners."""
    n_pairs, n_actions, steps = len(circuit.pairs), circuit.n_actions, circuit.steps
    winners = slice(n_pairs, n_pairs + n_actions * TAGS)
    one = circuit.threshold(circuit.depth - 1)
    weights, bias = circuit.differences
    hidden = len(weights)

    def comparators(values: Ints) -> Ints:
        full = np.zeros((len(values), size), dtype=np.int64)
        full[:, :n_pairs] = values
        return full

    found.add(layer_name(circuit.depth - 2), DECISION, range(hidden), comparators(weights), [1])
    found.add(GATES, DECISION, [keys.go], comparators(_row(bias)), range(1, 1 + steps))
    half = comparators(np.full((1, n_pairs), one // 2))
    found.add(GATES, DECISION, [keys.go], half, [1, steps])
    # A winner needs every comparison in which its action comes first, and none in which it comes second.
    vote = one >> 5
    votes = np.zeros((n_pairs, size), dtype=np.int64)
    for number, (first, second) in enumerate(circuit.pairs):
        votes[number, n_pairs + first * TAGS : n_pairs + (first + 1) * TAGS] = vote
        votes[number, n_pairs + second * TAGS : n_pairs + (second + 1) * TAGS] = -vote
    found.add(DECISION, DECISION, range(n_pairs), votes, [1])
    for tag in range(TAGS):
        primes = np.zeros((1, size), dtype=np.int64)
        needed = np.arange(n_actions - 1, -1, -1)
        primes[0, winners] = -RING_MAX  # two tags: two observations are mixed up, and none is answered
        primes[0, winners][tag::TAGS] = one - vote * needed
        found.add(GATES, DECISION, [keys.tag(tag)], primes, [1 + steps])
    ends = comparators(np.full((1, n_pairs), -RING_MAX))
    found.add(GATES, DECISION, [keys.go], ends, [1 + steps, 2 + steps])
    ends = np.zeros((1, size), dtype=np.int64)
    ends[0, winners] = -RING_MAX
    found.add(GATES, DECISION, [keys.go], ends, [2 + steps, 3 + steps])


class _Synapses:
    """Collects synapses, projection by projection."""

    def __init__(self) -> None:
        self._parts: dict[tuple[str, str, str], list[NDArray[np.void]]] = {}

    def add(self, source: str, target: str, sources: object, weights: Ints, delays: object) -> None:
        """Connect `sources` (rows of `weights` [sources, targets]) with each of the delays; zeros are left out."""
        rows = np.asarray(sources, dtype=np.int64)
        for receptor, values in (("excitatory", weights), ("inhibitory", -weights)):
            of_row, to = np.nonzero(values > 0)
            for delay in delays:  # type: ignore[attr-defined]
                part = np.empty(len(to), dtype=SYNAPSE)
                part["source"], part["target"] = rows[of_row], to
                part["weight"], part["delay"] = values[of_row, to], delay
                if len(part):
                    self._parts.setdefault((source, target, receptor), []).append(part)

    def wires(self) -> tuple[Wire, ...]:
        """Sorted, with equal synapses added up, and rows that would be too long spread over several projections."""
        found = []
        for (source, target, receptor), parts in self._parts.items():
            synapses = _merged(np.concatenate(parts))
            # The number of a synapse within its row: rows are those of one source here, on one core at most.
            starts = np.flatnonzero(np.diff(synapses["source"], prepend=-1))
            within = np.arange(len(synapses)) - np.repeat(starts, np.diff([*starts, len(synapses)]))
            share = within // ROW_MAX
            found += [Wire(source, target, receptor, synapses[share == number]) for number in range(share.max() + 1)]
        return tuple(found)


def _merged(synapses: NDArray[np.void]) -> NDArray[np.void]:
    """Sorted by source, target and delay; what is between the same neurons at the same time is one synapse."""
    order = np.lexsort([synapses[name] for name in ("delay", "target", "source")])
    synapses = synapses[order]
    same = np.ones(len(synapses), dtype=bool)
    for name in ("source", "target", "delay"):
        same[1:] &= synapses[name][1:] == synapses[name][:-1]
    same[0] = False
    first = np.flatnonzero(~same)
    merged = synapses[first]
    merged["weight"] = np.minimum(np.add.reduceat(synapses["weight"], first), RING_MAX)
    return merged


def _row(values: Ints) -> Ints:
    return values.reshape(1, -1)


def _only(size: int, index: int, value: int) -> Ints:
    row = np.zeros((1, size), dtype=np.int64)
    row[0, index] = value
    return row

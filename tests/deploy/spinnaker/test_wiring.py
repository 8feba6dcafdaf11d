"""The decision circuit's wiring, run tick by tick by a model that knows nothing else."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spikeloop.deploy.backend import Recording
from spikeloop.deploy.mapping import plan
from spikeloop.deploy.spinnaker.circuit import TAGS, circuit_of
from spikeloop.deploy.spinnaker.circuit_twin import CircuitTwinSession
from spikeloop.deploy.spinnaker.wiring import (
    DECISION,
    GATES,
    INPUT,
    MAX_DELAY,
    ROW_MAX,
    SELF_TEST,
    SELF_TEST_TICKS,
    Keys,
    keys_of,
    layer_name,
)
from spikeloop.models import Stimulus
from spikeloop.tests.deploy.spinnaker import circuit_model as model

SHIFTS = [(4, 0), (3, 1), (5, 2)]
SIZES = [(4, 12, 12), 3, 10]  # values of an observation and hidden layers, actions, steps


def twin(network, codes, shifts=(4, 0)):
    session = CircuitTwinSession(plan(network, model.profile_for(network, shifts)))
    session.reset()
    session.inject(Stimulus(codes.astype(float)), Recording(spikes=True, potentials=True))
    session.run(network.steps)
    return session.read()


class Case:
    """A circuit, observations, and what its twin says of them."""

    def __init__(self, gate_steps=1, n=40, **options):
        self.network = model.network(**({"hidden": SIZES[0], "actions": SIZES[1], "steps": SIZES[2]} | options))
        self.shifts = options.get("shifts", (4, 0))
        self.wired = model.wired(self.network, self.shifts, gate_steps)
        self.board = model.Board(self.wired)
        self.codes = model.random_codes(self.wired.circuit, n, seed=1)
        self.readout = twin(self.network, self.codes, self.shifts)
        self.actions = self.readout.potentials.argmax(axis=1).tolist()
        self.n, self.gate_steps = n, gate_steps

    def schedule(self, ticks=None):
        return self.board.schedule(self.n, ticks or 2 * self.wired.idle_tick + self.wired.open_tick + 20)

    def send(self, schedule, tick=0, tag=1, rotate=0, spread=None):
        """Send observation i + rotate to sample i; `spread` gives the ticks of its keys after `tick`."""
        for i in range(self.n):
            codes = self.codes[(i + rotate) % self.n]
            ticks = tick if spread is None else tick + spread(len(self.board.keys.of(codes, tag)))
            self.board.send(schedule, i, codes, tag, ticks)

    def answer(self, i, tag=1, rotate=0, tick=0):
        return (tick + self.wired.winner_tick, self.actions[(i + rotate) % self.n], tag)

    def run(self, schedule):
        ran = self.board.run(schedule)
        return ran, self.board.answers(ran)

    def in_order(self, rng):
        """Each key no earlier than the one before, all within the gates' wait."""

        def spread(n):
            ticks = np.sort(rng.integers(0, self.gate_steps + 1, n))
            return ticks - ticks[0]

        return spread


# --- one observation at a time -----------------------------------------------------------------------------------


@pytest.mark.parametrize("gate_steps", [1, 5, 15])
@pytest.mark.parametrize("shifts", SHIFTS)
def test_the_answer_and_every_spike_are_the_twins(gate_steps, shifts):
    rates = []
    for depth, actions, ties in product(model.LAYOUTS, (2, 3, 5, 18), (False, True)):
        case = Case(
            gate_steps,
            n=24,
            seed=depth + actions,
            hidden=model.LAYOUTS[depth],
            actions=actions,
            bits=5 if ties else 8,
            steps=depth + 2 * ties + 5,
            shifts=shifts,
            ties=ties,
        )
        schedule = case.schedule(case.wired.idle_tick + 4)
        for i in range(case.n):
            case.board.send(schedule, i, case.codes[i], i, 0)
        ran, answers = case.run(schedule)
        assert answers == [[case.answer(i, i % TAGS)] for i in range(case.n)]
        first = case.wired.lead + 1  # the circuit fires at the end of a step, the Network at the start of the next
        for index, raster in enumerate(case.readout.rasters):
            given = ran.spikes[layer_name(index)]
            np.testing.assert_array_equal(given[:, first : first + case.network.steps], raster)
            assert given.sum() == raster.sum()
        assert ran.last_busy().max() < case.wired.idle_tick
        rates.append(case.readout.rasters[0].mean())
    assert 0.02 < np.mean(rates) < 0.8


def test_of_equal_outputs_the_first_wins():
    equal = 0
    for seed, actions in product(range(4), (2, 4, 18)):
        case = Case(n=60, seed=seed, hidden=(2, 4), actions=actions, bits=4, steps=6, ties=True)
        outputs = case.readout.traces[-1][:, -1]
        tied = (outputs == outputs.max(axis=1, keepdims=True)).sum(axis=1) > 1
        schedule = case.schedule()
        case.send(schedule)
        answers = case.run(schedule)[1]
        assert [answers[i] for i in np.flatnonzero(tied)] == [
            [(case.wired.winner_tick, int(outputs[i].argmax()), 1)] for i in np.flatnonzero(tied)
        ]
        equal += int(tied.sum())
    assert equal > 50


@settings(max_examples=20)
@given(
    seed=st.integers(0, 10_000),
    depth=st.sampled_from(list(model.LAYOUTS)),
    actions=st.integers(2, 6),
    steps=st.integers(5, 30),
    bits=st.integers(2, 12),
    shifts=st.sampled_from(SHIFTS),
    gate_steps=st.integers(1, 15),
)
def test_any_circuit(seed, depth, actions, steps, bits, shifts, gate_steps):
    case = Case(
        gate_steps,
        n=5,
        seed=seed,
        hidden=model.LAYOUTS[depth],
        actions=actions,
        steps=steps,
        bits=bits,
        shifts=shifts,
    )
    schedule = case.schedule(case.wired.idle_tick + 2)
    case.send(schedule)
    ran, answers = case.run(schedule)
    assert answers == [[case.answer(i)] for i in range(case.n)]
    assert ran.last_busy().max() < case.wired.idle_tick


def test_decisions_follow_each_other_in_lock_step():
    case = Case(seed=3)
    schedule = case.schedule()
    case.send(schedule)
    case.send(schedule, tick=case.wired.idle_tick, tag=2, rotate=1)
    answers = case.run(schedule)[1]
    assert answers == [[case.answer(i), case.answer(i, 2, 1, case.wired.idle_tick)] for i in range(case.n)]


# --- observations that get mixed up ------------------------------------------------------------------------------


def test_nothing_is_left_of_observations_on_top_of_each_other():
    case = Case(seed=4)
    rng = np.random.default_rng(0)
    for copies in (2, 5):
        schedule = case.schedule(2 * case.wired.idle_tick + 14)
        for _ in range(copies):
            case.send(schedule, tick=int(rng.integers(0, 12)), tag=int(rng.integers(TAGS)), rotate=int(rng.integers(9)))
        last = 12 + case.wired.idle_tick
        case.send(schedule, tick=last, tag=3)
        ran, answers = case.run(schedule)
        assert ran.idle[:, last - 1].all()
        assert [found[-1] for found in answers] == [case.answer(i, 3, 0, last) for i in range(case.n)]


@pytest.mark.parametrize("gate_steps", [1, 5])
def test_two_observations_in_one_tick_are_not_answered(gate_steps):
    case = Case(gate_steps, seed=5)
    schedule = case.schedule()
    case.send(schedule, tag=1)
    case.send(schedule, tag=2, rotate=1)
    ran, answers = case.run(schedule)
    assert answers == [[] for _ in range(case.n)]
    assert ran.idle[:, case.wired.idle_tick :].all()


@pytest.mark.parametrize("gate_steps", [1, 3, 5, 15])
def test_gates_wait_for_keys_in_any_order(gate_steps):
    case = Case(gate_steps, seed=6)
    rng = np.random.default_rng(1)

    def spread(n):
        ticks = rng.integers(0, gate_steps + 2, n)
        ticks[0] = 1  # go
        return ticks

    schedule = case.schedule()
    case.send(schedule, spread=spread)
    ran, answers = case.run(schedule)
    assert answers == [[case.answer(i, tick=1)] for i in range(case.n)]
    assert ran.idle[:, case.wired.idle_tick + 1 :].all()


@pytest.mark.parametrize("gate_steps", [1, 3, 12])
@pytest.mark.parametrize("rotate", [0, 1], ids=["a copy", "another observation"])
def test_a_second_datagram_at_any_moment_never_changes_an_answer(gate_steps, rotate):
    case = Case(gate_steps, n=12, seed=7)
    rng = np.random.default_rng(2)
    answered = []
    for offset in range(case.wired.open_tick + gate_steps + 4):
        schedule = case.schedule()
        case.send(schedule, spread=case.in_order(rng))
        case.send(schedule, offset, tag=1 + rotate, rotate=rotate, spread=case.in_order(rng))
        ran, answers = case.run(schedule)
        for i, found in enumerate(answers):
            right = {case.answer(i)[1:], case.answer(i, 1 + rotate, rotate)[1:]}
            assert {answer[1:] for answer in found} <= right
            assert rotate or found[:1] == [case.answer(i)]
        assert ran.idle[:, -1].all()
        answered.append([len(found) for found in answers])
    assert np.max(answered[: case.wired.open_tick]) == 1 or gate_steps > 1
    assert np.min(answered[-1]) == 2


@pytest.mark.parametrize("gate_steps", [1, 5, 10, 15])
def test_gates_open_at_the_tick_that_is_said(gate_steps):
    case = Case(gate_steps, n=12, seed=8)
    opens = case.wired.open_tick
    assert opens <= case.wired.winner_tick + 2 or gate_steps > case.network.steps
    for offset in range(gate_steps + 1, opens + 3):
        schedule = case.schedule()
        case.send(schedule)
        case.send(schedule, offset, tag=2, rotate=1)
        second = [] if offset < opens else [offset]
        expected = [[case.answer(i), *(case.answer(i, 2, 1, tick) for tick in second)] for i in range(case.n)]
        assert case.run(schedule)[1] == expected


@pytest.mark.parametrize("gate_steps", [1, 5])
@pytest.mark.parametrize("copies", [2, 3, 20])
def test_copies_in_one_tick_are_one(gate_steps, copies):
    case = Case(gate_steps, seed=9)
    schedule = case.schedule()
    case.send(schedule)
    ran, answers = case.run(copies * schedule)
    assert answers == [[case.answer(i)] for i in range(case.n)]
    assert ran.idle[:, case.wired.idle_tick :].all()


@pytest.mark.parametrize("gate_steps", [1, 5])
def test_nothing_is_left_of_a_part_of_an_observation(gate_steps):
    case = Case(gate_steps, seed=10)
    rng = np.random.default_rng(3)
    keys = case.board.keys
    for lost in ("go", "tag", "some"):
        schedule = case.schedule()
        case.send(schedule)
        if lost == "some":
            schedule *= rng.random(schedule.shape) < 0.5
        else:
            schedule[:, :, keys.go if lost == "go" else keys.tag(1)] = 0
        again = case.wired.idle_tick + 1
        case.send(schedule, again, tag=2)
        ran, answers = case.run(schedule)
        assert ran.idle[:, case.wired.idle_tick : again].all()
        assert [found[-1] for found in answers] == [case.answer(i, 2, 0, again) for i in range(case.n)]
        assert lost == "some" or all(len(found) == 1 for found in answers)


@pytest.mark.parametrize("share", [0.02, 0.2])
def test_spikes_that_get_lost_inside_bear_on_one_decision_only(share):
    case = Case(3, seed=11)
    schedule = case.schedule()
    case.send(schedule)
    again = max(case.wired.idle_tick, case.wired.open_tick)
    case.send(schedule, again, tag=2)
    rng = np.random.default_rng(4)
    ran = case.board.run(schedule, lose=lambda tick, shape: (rng.random(shape) < share) & (tick < again))
    after = [[found for found in answers if found[0] > again] for answers in case.board.answers(ran)]
    assert after == [[case.answer(i, 2, 0, again)] for i in range(case.n)]
    assert not ran.idle[:, again - 1].all(), "nothing was left, so that nothing was shown"


# --- self-test, keys, synapses -----------------------------------------------------------------------------------


@pytest.mark.parametrize("gate_steps", [1, 5])
@pytest.mark.parametrize("shifts", SHIFTS)
def test_the_self_test_fires_as_it_says(gate_steps, shifts):
    case = Case(gate_steps, n=3, shifts=shifts)
    schedule = case.schedule()
    schedule[:, 0, case.board.keys.test] = 1
    schedule[:, SELF_TEST_TICKS + 1, case.board.keys.test] = 1
    ran, answers = case.run(schedule)
    counts = ran.spikes[DECISION].sum(axis=1)
    expected = [2 * fires for fires, _ in SELF_TEST]
    np.testing.assert_array_equal(counts[:, case.wired.first_test :], [expected] * 3)
    assert not counts[:, : case.wired.first_test].any()
    assert answers == [[]] * 3
    assert ran.idle[:, SELF_TEST_TICKS].all()


@pytest.mark.parametrize(
    ("change", "fires"),
    [
        ({"one": model.ONE + 1}, {2}),
        ({"one": model.ONE - 1}, {0, 1, 2, 3}),
        ({"floor": -1}, {0}),
    ],
    ids=["a higher threshold", "a lower threshold", "no floor"],
)
def test_the_self_test_notices_another_neuron(change, fires):
    case = Case(n=1)
    schedule = case.schedule()
    schedule[:, 0, case.board.keys.test] = 1
    ran = case.board.run(schedule, **change)
    fired = set(np.flatnonzero(ran.spikes[DECISION][0].any(axis=0)[case.wired.first_test :]).tolist())
    assert fired != {number for number, (fires, _) in enumerate(SELF_TEST) if fires}
    assert fired <= fires | {0}


@given(st.data())
def test_keys_are_the_bits_of_twos_complement(data):
    bits, n = data.draw(st.integers(2, 16)), data.draw(st.integers(1, 8))
    most = 1 << (bits - 1)
    codes = np.array(data.draw(st.lists(st.integers(-most, most - 1), min_size=n, max_size=n)))
    tag = data.draw(st.integers(0, 1000))
    keys = Keys(n, bits)
    sent = keys.of(codes, tag).tolist()
    assert sent[:2] == [keys.go, keys.tag(tag)]
    assert len(set(sent)) == len(sent)
    words = [format(int(code) % (1 << bits), f"0{bits}b")[::-1] for code in codes]
    assert sent[2:] == [d * bits + k for d, word in enumerate(words) for k, bit in enumerate(word) if bit == "1"]
    assert len({keys.go, keys.test, *map(keys.tag, range(TAGS))} | set(range(n * bits))) == keys.size


@pytest.mark.parametrize("gate_steps", [1, 15])
@pytest.mark.parametrize("depth", model.LAYOUTS)
def test_every_synapse_is_one_that_the_machine_can_hold(gate_steps, depth):
    network = model.network(depth, (*model.LAYOUTS[depth][:-1], 40), 18, steps=20)
    wired = model.wired(network, gate_steps=gate_steps)
    sizes = {INPUT: keys_of(wired.circuit).size} | {group.name: group.size for group in wired.groups}
    assert GATES in sizes
    assert wired.first_test == sizes[DECISION] - len(SELF_TEST)
    ends = {}
    for wire in wired.wires:
        synapses = wire.synapses
        assert len(synapses)
        order = np.lexsort([synapses[name] for name in ("delay", "target", "source")])
        np.testing.assert_array_equal(order, np.arange(len(synapses)))
        assert np.bincount(synapses["source"]).max() <= ROW_MAX
        assert synapses["weight"].min() >= 1
        assert synapses["weight"].max() <= 0xFFFF
        assert synapses["delay"].min() >= 1
        assert synapses["delay"].max() <= MAX_DELAY
        assert synapses["source"].max() < sizes[wire.source]
        assert synapses["target"].max() < sizes[wire.target]
        ends.setdefault((wire.source, wire.target, wire.receptor), []).append(synapses)
    assert any(len(parts) > 1 for parts in ends.values()), "no row was long enough to be spread"
    for parts in ends.values():
        together = np.concatenate(parts)[["source", "target", "delay"]]
        assert len(np.unique(together)) == len(together)
    assert wired.synapses == sum(len(wire.synapses) for wire in wired.wires)


def test_weights_of_the_first_layer_are_the_networks():
    case = Case(seed=12, bits=6)
    circuit = circuit_of(case.network, model.profile_for(case.network))
    found = np.zeros((circuit.network.n_channels * 6, 12), dtype=int)
    for wire in (w for w in case.wired.wires if (w.source, w.target) == (GATES, layer_name(0))):
        kept = wire.synapses[(wire.synapses["source"] < len(found)) & (wire.synapses["delay"] == 1)]
        found[kept["source"], kept["target"]] += kept["weight"] * (1 if wire.receptor == "excitatory" else -1)
    values = [1, 2, 4, 8, 16, -32]
    np.testing.assert_array_equal(found, np.kron(circuit.weights[0], np.array(values)[:, None]))


def test_neurons_that_do_not_answer():
    wired = Case(n=1).wired
    assert [wired.answer(neuron) for neuron in (0, wired.first_winner - 1, wired.first_test)] == [None] * 3
    assert wired.answer(wired.first_winner) == (0, 0)
    assert wired.answer(wired.first_test - 1) == (2, TAGS - 1)

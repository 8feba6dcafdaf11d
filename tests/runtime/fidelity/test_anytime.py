"""Decisions before the window's end: what they are, when they are settled, and windows of other lengths."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spikeloop.deploy.backend import Recording
from spikeloop.deploy.conformance import example
from spikeloop.deploy.reference import ReferenceSession
from spikeloop.errors import InvalidInputError
from spikeloop.models import Conv2d, Decoder, Dense, Encoder, Network, Neuron
from spikeloop.runtime import launch
from spikeloop.runtime.fidelity import anytime as module
from spikeloop.runtime.fidelity import wilson
from spikeloop.runtime.fidelity.anytime import actions_by_step, anytime, settled_by, shortest_for, sweep
from spikeloop.runtime.fidelity.report import Anytime, Record

STATES = np.random.default_rng(0).normal(size=(60, 3))
DECODERS = ("potential", "spike_count", "first_spike")


def recorded(network, states):
    """What the reference does with observations."""
    session = ReferenceSession(network)
    session.reset()
    session.inject(network.encoder.encode(states, network.steps), Recording(spikes=True, potentials=True))
    session.run(network.steps)
    readout = session.read()
    outputs = network.decoder.output(readout.potentials, readout.output_raster)
    return Record(outputs.argmax(axis=1), outputs, readout.rasters, np.ones(len(states)), readout.traces)


# --- actions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("encoder", [Encoder(), Encoder("equidistant", two_neurons=True)])
def test_the_action_after_some_steps_is_that_of_so_short_a_window(kind, encoder):
    """Input spikes that come evenly spaced do not depend on the window's length either."""
    network = example(1, decoder=Decoder(kind), encoder=encoder)
    actions = actions_by_step(network, recorded(network, STATES))
    for steps in range(1, network.steps + 1):
        with launch(replace(network, steps=steps)) as agent:
            assert np.array_equal(actions[:, steps - 1], agent.act(STATES)), steps
    assert len(set(actions.ravel().tolist())) >= 2


def test_shares():
    network = example(3)
    record = recorded(network, STATES)
    actions = actions_by_step(network, record)
    found = anytime(network, record, settled=True)
    assert found.steps == tuple(range(1, 21))
    assert found.agreement == tuple((actions == record.actions[:, None]).mean(axis=0))
    same_from = [[(row[t:] == row[-1]).all() for t in range(20)] for row in actions]
    assert found.unchanged == tuple(np.mean(same_from, axis=0))
    assert found.agreement != found.unchanged
    assert found.settled == tuple(settled_by(network, record, actions).mean(axis=0))
    assert (found.agreement[-1], found.unchanged[-1], found.settled[-1]) == (1.0, 1.0, 1.0)
    assert anytime(network, record).settled == ()


def test_the_last_action_is_the_one_that_was_taken():
    """A target may be read later than its last step's potentials."""
    network = example(0)
    record = recorded(network, STATES)
    other = replace(record, actions=(record.actions + 1) % 3)
    assert np.array_equal(actions_by_step(network, other)[:, -1], other.actions)
    assert anytime(network, other).agreement[-1] == 1.0


def test_records_that_do_not_fit():
    network = example(0)
    record = recorded(network, STATES)
    with pytest.raises(InvalidInputError, match="without potentials"):
        anytime(network, replace(record, traces=None))
    with pytest.raises(InvalidInputError, match=r"\(60, 20, 3\); network 'example 0' has \(60, 30, 3\)"):
        anytime(replace(network, steps=30), record)
    firing = replace(network, decoder=Decoder("spike_count"))
    with pytest.raises(InvalidInputError, match=r"\(60, 20, 5\)"):
        anytime(firing, record)  # whose last raster is the hidden layer's
    assert anytime(firing, replace(recorded(firing, STATES), traces=None)).agreement[-1] == 1.0


# --- settled ----------------------------------------------------------------------------------------------------------

neurons = st.builds(
    Neuron,
    reset=st.sampled_from(["subtract", "zero"]),
    membrane_decay=st.sampled_from([0.0, 0.3, 0.9, 1.0]),
    synapse_decay=st.sampled_from([0.0, 0.4, 0.9]),
    compare=st.sampled_from([">", ">="]),
)


@st.composite
def networks(draw, kind="potential"):
    """Small networks 3-4-n, with a delay, of weights that differ much or are round numbers that make ties."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    outputs = draw(st.integers(1, 4))
    scale, grid = draw(st.sampled_from([0.2, 1.0, 3.0])), draw(st.sampled_from([0.0, 0.5]))

    def values(*shape):
        plain = rng.normal(0.0, scale, shape)
        return np.rint(plain / grid) * grid if grid else plain

    hidden = Dense(values(3, 4), rng.normal(0.2, 0.3, 4))
    last = Dense(values(4, outputs), values(outputs), draw(st.integers(1, 4)))
    return Network((hidden, last), draw(st.integers(1, 14)), draw(neurons), decoder=Decoder(kind))


def outputs_from(network, spikes):
    """The last layer's potentials at the window's end, for hidden spikes [steps, hidden]: the definition, in a loop."""
    layer, neuron = network.layers[-1], network.neuron
    potential, synaptic = np.zeros(layer.n_out), np.zeros(layer.n_out)
    for step in range(network.steps):
        at = step - layer.delay + 1
        entering = layer.bias + (spikes[at] @ layer.weights if at >= 0 else 0.0)
        potential = neuron.membrane_decay * potential + synaptic
        synaptic = neuron.synapse_decay * synaptic + entering
    return potential


@given(networks(), st.integers(0, 1000))
def test_what_is_settled_cannot_be_changed_and_what_is_not_can(network, seed):
    """From each step on, whatever the hidden neurons do: at random, and what is best for each of the other outputs."""
    rng = np.random.default_rng(seed)
    record = recorded(network, rng.normal(size=(6, 3)))
    actions = actions_by_step(network, record)
    settled = settled_by(network, record, actions)
    weights = network.layers[-1].weights
    assert settled[:, -1].all()
    for i, row in enumerate(settled):
        for t in range(1, network.steps):
            leader = actions[i, t - 1]
            # Which decision it is that was settled: the one that led when it was.
            decided = actions[i, row.argmax()]
            futures = [rng.random((network.steps - t, 4)) < rate for rate in (0.0, 0.3, 1.0)]
            others = [b for b in range(network.n_outputs) if b != (decided if row[t - 1] else leader)]
            against = decided if row[t - 1] else leader
            best = [np.tile(weights[:, b] > weights[:, against], (network.steps - t, 1)) for b in others]
            gaps = []
            for future in futures + best:
                potentials = outputs_from(network, np.vstack([record.rasters[0][i, :t], future]))
                if row[t - 1]:
                    assert potentials.argmax() == decided
                gaps.append(potentials[against] - np.delete(potentials, against).max(initial=-np.inf))
            if not row[t - 1]:
                assert min(gaps) <= 1e-9, "nothing can change it, but it does not count as settled"


@pytest.mark.parametrize("kind", DECODERS)
@given(data=st.data())
def test_once_settled_the_decision_stays(kind, data):
    network = data.draw(networks(kind))
    record = recorded(network, np.random.default_rng(data.draw(st.integers(0, 1000))).normal(size=(20, 3)))
    actions = actions_by_step(network, record)
    settled = settled_by(network, record, actions)
    assert (settled[:, 1:] >= settled[:, :-1]).all()
    assert np.array_equal(actions[np.arange(20), settled.argmax(axis=1)], record.actions)


@given(networks("spike_count"), st.integers(0, 1000))
def test_spike_counts_that_are_settled_cannot_be_caught_up(network, seed):
    """Even if every other output fires as often as it can and the leader never again."""
    record = recorded(network, np.random.default_rng(seed).normal(size=(8, 3)))
    actions = actions_by_step(network, record)
    settled = settled_by(network, record, actions)
    for i, t in zip(*np.nonzero(settled), strict=True):
        decided = actions[i, settled[i].argmax()]
        fired = record.rasters[-1][i].copy()
        for step in range(t + 1, network.steps):
            pause = network.neuron.reset == "zero" and fired[step - 1] > 0
            fired[step] = np.where(pause, 0, 1)
            fired[step, decided] = 0
        assert fired.sum(axis=0).argmax() == decided


def test_settled_spikes_by_hand():
    def found(kind, reset, *trains):
        raster = np.array(trains, dtype=np.uint8).T[None]
        network = replace(example(0, steps=raster.shape[1], neuron=Neuron(reset=reset)), decoder=Decoder(kind))
        outputs = network.decoder.output(np.zeros((1, 3)), raster)
        record = Record(outputs.argmax(axis=1), outputs, (raster,), np.ones(1))
        return settled_by(network, record, actions_by_step(network, record))[0].tolist()

    one, two, none = [0, 1, 0, 1, 0, 0], [0, 1, 1, 1, 0, 0], [0] * 6
    assert found("first_spike", "subtract", none, one, none) == [False, True, True, True, True, True]
    assert found("first_spike", "subtract", none, none, none) == [False] * 5 + [True]
    # Three spikes ahead of two more steps; of equal counts the first output wins, so that it needs one fewer.
    assert found("spike_count", "subtract", none, two, none) == [False] * 3 + [True] * 3
    assert found("spike_count", "subtract", none, one, none) == [False] * 4 + [True] * 2
    assert found("spike_count", "subtract", one, none, none) == [False] * 3 + [True] * 3
    # One that is set to zero fires in every other step at most: two steps leave room for one spike.
    assert found("spike_count", "zero", none, one, none) == [False] * 3 + [True] * 3


def test_settled_early_and_late():
    """An output far ahead is settled at once, one that any spike can overtake never before the end."""
    far = Network((Dense(np.ones((3, 2))), Dense(np.full((2, 2), 1.0), np.array([0.0, 5.0]))), 10)
    record = recorded(far, np.abs(STATES))
    assert anytime(far, record, settled=True).settled[0] == 0.0  # before any input has arrived, the first leads
    assert anytime(far, record, settled=True).settled[1:] == (1.0,) * 9
    near = Network((Dense(np.ones((3, 2))), Dense(np.array([[0.0, 100.0], [100.0, 0.0]]), np.array([0.0, 1.0]))), 10)
    # What a hidden neuron fires in the last step joins the potential only after the window.
    assert anytime(near, recorded(near, np.zeros((5, 3))), settled=True).settled == (0.0,) * 8 + (1.0,) * 2


def test_a_tie_that_could_come_is_not_settled():
    """A bias puts the second output 4 ahead; the hidden neuron can bring the first one 1 in each of 8 steps."""
    network = Network((Dense(np.ones((3, 1))), Dense(np.array([[1.0, 0.0]]), np.array([0.0, 0.5]))), 9)
    found = anytime(network, recorded(network, np.zeros((1, 3))), settled=True)
    assert found.settled == (0.0,) * 4 + (1.0,) * 5


def test_convolutions_and_single_layers():
    conv = Conv2d(np.random.default_rng(3).normal(size=(2, 1, 1, 2)), input_shape=(1, 1, 4))
    hidden = Dense(np.random.default_rng(1).normal(size=(3, 4)))
    sparse = Network((hidden, conv), 12)
    dense = Network((hidden, Dense(conv.connections.dense(), conv.neuron_bias)), 12)
    found = [anytime(network, recorded(network, STATES), settled=True) for network in (sparse, dense)]
    assert found[0] == found[1]
    assert 0 < found[0].settled[8] < 1
    single = Network((Dense(np.random.default_rng(1).normal(size=(3, 2))),), 6)
    assert anytime(single, recorded(single, STATES), settled=True).settled == (0.0,) * 5 + (1.0,)


def test_chunks_change_nothing(monkeypatch):
    network = example(2)
    record = recorded(network, STATES)
    whole = anytime(network, record, settled=True)
    assert 0 < whole.settled[15] < 1
    for size in (1, 700):
        monkeypatch.setattr(module, "CHUNK", size)
        assert anytime(network, record, settled=True) == whole


# --- windows of other lengths -----------------------------------------------------------------------------------------


def test_the_shortest_window_from_which_on_the_agreement_stays():
    found = Anytime((1, 2, 3, 4, 5), (0.2, 0.9, 0.7, 0.9, 1.0), (0.2,) * 5, ())
    assert [shortest_for(found, share) for share in (0.0, 0.2, 0.7, 0.8, 0.9, 0.95, 1.0)] == [1, 1, 2, 4, 4, 5, 5]
    assert shortest_for(replace(found, agreement=(0.2, 0.9, 0.7, 0.9, 0.95)), 1.0) == 5
    for share in (-0.1, 99.5, np.nan):
        with pytest.raises(InvalidInputError, match=r"must be in \[0, 1\]"):
            shortest_for(found, share)


def test_sweep():
    network = example(4)
    states = STATES[:25]
    with launch(network) as agent:
        expected = agent.act(states)
    points = sweep(network, "nest-iaf_psc_delta", states, [5, 20], settings={"t_ref": 0.5}, expected=expected)
    assert [point.steps for point in points] == [5, 20]
    assert points[1].reference.agreed == 25
    by_step = anytime(network, recorded(network, states)).agreement
    assert points[0].reference.share == by_step[4] < 1
    assert points[0].reference.interval == wilson(points[0].reference.agreed, 25)
    for point in points:
        other = replace(network, steps=point.steps)
        with launch(other, "nest-iaf_psc_delta", settings={"t_ref": 0.5}) as agent:
            actions = [agent.act(state) for state in states]
        assert point.target.agreed == int((np.array(actions) == expected).sum())
        assert point.ms_per_decision > 0
    assert points[1].target.agreed < 25


def test_sweep_of_random_spikes_uses_the_seed():
    network = example(7, encoder=Encoder("poisson", two_neurons=True))
    with launch(network, seed=7) as agent:
        expected = agent.act(STATES)
    (same,) = sweep(network, "nest-exact", STATES, [20], seed=7, expected=expected)
    assert (same.reference.share, same.target.share) == (1.0, 1.0)
    (other,) = sweep(network, "reference", STATES, [20], seed=8, expected=expected)
    assert other.reference.share < 1
    assert other.reference == other.target


@pytest.mark.parametrize("steps", [[], [0], [5, 5], [9, 5], [100_001], [2.5], ["5"]])
def test_lengths_that_are_none(steps):
    with pytest.raises(InvalidInputError, match=r"length"):
        sweep(example(0), "reference", STATES, steps, expected=np.zeros(60, int))


def test_decisions_of_other_states():
    with pytest.raises(InvalidInputError, match="59 decisions were given"):
        sweep(example(0), "reference", STATES, [5], expected=np.zeros(59, int))

"""The circuit's integers, what the preflight says of a network, and what the plan says of a machine."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spikeloop.deploy.mapping import plan, preflight
from spikeloop.deploy.spinnaker import circuit_plan
from spikeloop.deploy.spinnaker.circuit import ONE, RING_MAX, circuit_of, off_grid, ranges_of, unit
from spikeloop.deploy.spinnaker.wiring import DECISION, GATES, INPUT, MAX_DELAY, SELF_TEST, keys_of
from spikeloop.errors import PreflightError
from spikeloop.hardware_profiles import load_profile
from spikeloop.models import Conv2d, Decoder, Dense, Encoder, Network
from spikeloop.tests.deploy.spinnaker import circuit_model as model

TWIN = load_profile("spinnaker-twin")
FREE = {"timing": "free-running"}


def findings(network, profile=TWIN, severity="error"):
    return [str(f) for f in preflight(network, profile) if f.severity == severity]


# --- integers ----------------------------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 1000),
    depth=st.sampled_from(list(model.LAYOUTS)),
    actions=st.integers(2, 6),
    bits=st.integers(2, 12),
    shifts=st.tuples(st.integers(3, 6), st.integers(0, 2)),
)
def test_a_network_on_the_grid_loses_nothing(seed, depth, actions, bits, shifts):
    network = model.network(seed, model.LAYOUTS[depth], actions, bits=bits, shifts=shifts)
    circuit = circuit_of(network, model.profile_for(network, shifts))
    assert circuit.depth == depth
    for index, layer in enumerate(network.layers):
        grid = unit(circuit.shifts[index])
        np.testing.assert_array_equal(circuit.weights[index] * grid, layer.weights)
        np.testing.assert_array_equal(circuit.biases[index] * grid, layer.bias)
        assert circuit.threshold(index) * grid == 1.0
        assert off_grid(layer.weights, circuit.shifts[index]) == 0
        assert off_grid(layer.weights + grid / 3, circuit.shifts[index]) == layer.weights.size
    weights, bias = circuit.differences
    for number, (first, second) in enumerate(circuit.pairs):
        assert first < second
        np.testing.assert_array_equal(
            weights[:, number], circuit.weights[-1][:, first] - circuit.weights[-1][:, second]
        )
        assert bias[number] == circuit.biases[-1][first] - circuit.biases[-1][second]
    assert len(circuit.pairs) == actions * (actions - 1) // 2


@given(seed=st.integers(0, 1000), bits=st.integers(2, 5))
def test_ranges_are_the_worst_of_all_inputs_and_spikes(seed, bits):
    network = model.network(seed, (2, 3, 3), 3, steps=6, bits=bits)
    circuit = circuit_of(network, model.profile_for(network))
    ranges = ranges_of(circuit)
    most = 1 << (bits - 1)
    values = np.array([-most, *(1 << k for k in range(bits - 1))])  # of each bit, the highest first
    subsets = np.array([[(n >> k) & 1 for k in range(2 * bits)] for n in range(1 << 2 * bits)])
    terms = np.concatenate([values[:, None] * circuit.weights[0][d] for d in (0, 1)])
    excitation = subsets @ np.maximum(terms, 0) + np.maximum(circuit.biases[0], 0)
    inhibition = subsets @ np.maximum(-terms, 0) + np.maximum(-circuit.biases[0], 0)
    np.testing.assert_array_equal(ranges.excitation[0], excitation.max(axis=0))
    np.testing.assert_array_equal(ranges.inhibition[0], inhibition.max(axis=0))
    spikes = np.array([[(n >> k) & 1 for k in range(3)] for n in range(8)])
    both = spikes @ np.maximum(circuit.weights[1], 0) + np.maximum(circuit.biases[1], 0)
    np.testing.assert_array_equal(ranges.excitation[1], both.max(axis=0))
    # The last layer's spikes come in `active` steps, its biases in all.
    weights, bias = circuit.differences
    moved = circuit.active(1) * (spikes @ weights)
    assert (ranges.highest >= moved.max(axis=0) + bias * circuit.steps).all()
    assert (ranges.lowest <= moved.min(axis=0) + bias * circuit.steps).all()
    assert (ranges.highest == moved.max(axis=0) + np.maximum(bias, 0) * circuit.steps).all()
    assert circuit.drives == 4


# --- what is refused ---------------------------------------------------------------------------------------------


def test_a_network_of_the_circuits_kind_passes():
    assert findings(model.network(), TWIN) == []
    assert findings(model.network(), load_profile("spinnaker-live")) == []


GOOD = model.network()


def changed(**values):
    return replace(GOOD, **values)


def layer(index, values):
    return changed(layers=tuple(values if i == index else each for i, each in enumerate(GOOD.layers)))


def heavier(index, factor):
    return layer(index, Dense(GOOD.layers[index].weights * factor, GOOD.layers[index].bias))


CONVOLUTION = Conv2d(np.full((4, 1, 2, 2), 0.5), input_shape=(1, 3, 3))

REFUSED = {
    "not quantised": (changed(encoder=Encoder()), "encoder ('current') does not quantise its inputs"),
    "spiking input": (changed(encoder=Encoder("poisson")), "encoder ('poisson') does not quantise"),
    "decoder": (changed(decoder=Decoder("spike_count")), "Its decoder is 'spike_count'; a decision circuit compares"),
    "threshold": (changed(neuron=replace(GOOD.neuron, threshold=2.0)), "threshold=2.0; the circuit's have 1.0"),
    "reset": (changed(neuron=replace(GOOD.neuron, reset="subtract")), "reset=subtract; the circuit's have zero"),
    "leak": (changed(neuron=replace(GOOD.neuron, membrane_decay=0.9)), "membrane_decay=0.9; the circuit's have 1.0"),
    "synapse": (changed(neuron=replace(GOOD.neuron, synapse_decay=0.5)), "synapse_decay=0.5; the circuit's have 0.0"),
    "compare": (changed(neuron=replace(GOOD.neuron, compare=">")), "compare=>; the circuit's have >="),
    "delay": (
        layer(1, Dense(GOOD.layers[1].weights, GOOD.layers[1].bias, 2)),
        "16 x 16, delay 2: a decision circuit has dense layers of delay 1",
    ),
    "convolution": (
        Network((CONVOLUTION, Dense(np.zeros((16, 2)))), 10, GOOD.neuron, Encoder(bits=2, resolution=(1.0,) * 9)),
        "a decision circuit has dense layers of delay 1",
    ),
    "no hidden layer": (changed(layers=(Dense(np.full((4, 2), 0.125)),)), "It has no hidden layer"),
    "too deep": (changed(steps=2), "too deep for its window: 3 layers in 2 steps"),
    "too long": (changed(steps=142), "Its window of 142 steps is too long: delays hold the input, and are at most 144"),
    "one action": (layer(2, Dense(np.zeros((16, 1)))), "It has 1 actions"),
    "too many actions": (layer(2, Dense(np.zeros((16, 19)))), "It has 19 actions"),
    "too wide": (
        changed(layers=(Dense(np.zeros((21, 16))), *GOOD.layers[1:]), encoder=Encoder(bits=6, resolution=(1.0,) * 21)),
        "It is too wide: 21 inputs of 6 bits are 126 keys, and an observation has to fit into one datagram of 124",
    ),
    "weights off the grid": (heavier(1, 0.3), "weights are no multiples of 2^-11"),
    "biases off the grid": (
        layer(2, Dense(GOOD.layers[2].weights, np.array([1e-5, 0.0]))),
        "1 of 2 biases are no multiples of 2^-15",
    ),
    "excitation": (heavier(1, 64), "Its excitation can reach"),
    "inhibition": (heavier(0, -1024), "Its inhibition can reach"),
    "outputs": (heavier(2, 64), "Its difference between outputs 0 and 1 can reach"),
}


@pytest.mark.parametrize(("network", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused(network, message):
    found = findings(network)
    assert any(message in text for text in found), found
    with pytest.raises(PreflightError):
        plan(network, TWIN)
    for finding in preflight(network, TWIN):
        assert finding.advice
        assert "\n" not in str(finding)


def test_a_profile_without_a_machine_is_refused():
    profile = load_profile("spinnaker-twin").model_copy(update={"machine": None})
    assert any("has no table [machine]" in text for text in findings(GOOD, profile))


def test_what_just_fits_passes():
    assert findings(changed(steps=141, layers=(*GOOD.layers[:2], Dense(np.zeros((16, 2)))))) == []
    eighteen = layer(2, Dense(np.zeros((16, 18))))
    assert findings(eighteen) == []
    # A comparator starts from half of its threshold: it fires at the upper end, and stops at the lower.
    steps = changed(steps=8)
    weights = np.zeros((16, 2))
    weights[0] = [0.5, 0.0]
    spikes = circuit_of(steps, TWIN).active(1)
    for sign, most in ((1, ONE // 2 - 1), (-1, ONE // 2)):
        bias = np.array([sign * (most // 8) / ONE, 0.0])
        rest = most - 8 * (most // 8)
        weights[0, 0] = sign * (rest // spikes) / ONE
        fits = Network((*GOOD.layers[:2], Dense(weights, bias)), 8, GOOD.neuron, GOOD.encoder)
        assert findings(fits) == []
        more = Network(
            (*GOOD.layers[:2], Dense(weights, bias + np.array([sign / ONE, 0.0]))), 8, GOOD.neuron, GOOD.encoder
        )
        assert any("difference between outputs 0 and 1" in text for text in findings(more))


@pytest.mark.parametrize("sign", [1, -1])
def test_the_most_that_comes_together_in_a_tick(sign):
    threshold = ONE >> 4
    most = RING_MAX - threshold
    weights = np.zeros((16, 16))
    weights[:, 3] = sign * (most // 16)
    bias = np.zeros(16)
    bias[3] = sign * (most - 16 * (most // 16))
    fits = layer(1, Dense(weights * unit(4), bias * unit(4)))
    assert findings(fits) == []
    bias[3] += sign
    (text,) = findings(layer(1, Dense(weights * unit(4), bias * unit(4))))
    assert ("excitation" if sign > 0 else "inhibition") in text
    assert "layer 1" in text
    assert "neuron 3" in text


def test_gates_that_stay_shut_too_long_are_said():
    network = model.network(steps=6)
    profile = model.profile_for(network, **FREE)
    assert not [text for text in findings(network, profile, "warning") if "gate_steps" in text]
    late = model.profile_for(network, gate_steps=12, **FREE)
    (text,) = [text for text in findings(network, late, "warning") if "gate_steps" in text]
    assert "gate_steps=12 is long for a window of 6 steps" in text
    assert not [t for t in findings(network, model.profile_for(network, gate_steps=12), "warning") if "gate_steps" in t]


# --- what is planned ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("free", [False, True], ids=["lock-step", "free-running"])
def test_a_plan_is_the_wiring(free):
    network = model.network(actions=5)
    profile = model.profile_for(network, circuits=3, **(FREE if free else {}))
    deployment = plan(network, profile)
    wired = circuit_plan.wiring_for(deployment)
    assert wired.lead == (6 if free else 2)
    sizes = {p.name: p.size for p in deployment.populations}
    expected = {"layer 0": 16, "layer 1": 16, DECISION: 10 + 5 * 4 + len(SELF_TEST)}
    keys = keys_of(wired.circuit).size
    assert sizes == {INPUT: keys, GATES: keys + 1, **expected}
    assert deployment.synapses == wired.synapses
    assert f"gates that wait {'5 ticks' if free else '1 tick'} for it" in deployment.recipe
    assert not deployment.exact
    # Every projection's weights, summed with their signs, are the wires'.
    for projection in deployment.projections:
        wires = [w for w in wired.wires if (w.source, w.target) == (projection.source, projection.target)]
        grid = unit(next(g.shift for g in wired.groups if g.name == projection.target))
        total = sum(int(w.synapses["weight"].sum()) * (1 if w.receptor == "excitatory" else -1) for w in wires)
        assert projection.weights.values.sum() == pytest.approx(total * grid, rel=1e-12)
        assert projection.delay_ms == min(w.synapses["delay"].min() for w in wires)
        assert projection.last_delay_ms == max(w.synapses["delay"].max() for w in wires)
    takes = deployment.takes
    assert takes["copies"] == 3
    assert takes["cores"] == 3 * (1 + sum(-(-g.size // g.per_core) for g in wired.groups)) + 1
    assert takes["delay slots"] == max(p.last_delay_ms for p in deployment.projections) <= MAX_DELAY
    assert f"{wired.winner_tick} ticks to the winner's spike" in takes["latency"]
    assert "layer 0" in takes["range used"]
    assert deployment.use.ms == wired.idle_tick
    assert deployment.as_dict()["takes"] == dict(takes)


def test_a_slower_machine_takes_longer():
    network = model.network()
    one, ten = (plan(network, model.profile_for(network, time_scale_factor=factor)) for factor in (1, 10))
    assert (one.window.step_ms, ten.window.step_ms) == (1.0, 10.0)
    assert ten.use.ms == 10 * one.use.ms


def test_the_busiest_core_has_more_to_do_the_more_neurons_it_has():
    network = model.network(hidden=(4, 64, 64))
    circuit = circuit_of(network, model.profile_for(network))
    found = [
        circuit_plan.busiest(circuit_plan.wiring(circuit, neurons_per_core=n, gate_steps=1))[1] for n in range(1, 65)
    ]
    assert found == sorted(found)
    assert found[0] < found[-1]


def test_a_tick_that_takes_too_long_is_said():
    network = model.network(hidden=(4, 64, 64), steps=40)
    profile = model.profile_for(network, neurons_per_core=64)
    (text,) = findings(network, profile, "warning")
    assert "instructions in its busiest tick; 200,000 cycles are what a board's core has then" in text
    factor = int(text.split("time_scale_factor of ")[1].split(".")[0])
    assert findings(network, model.profile_for(network, neurons_per_core=64, time_scale_factor=factor), "warning") == []
    assert findings(network, model.profile_for(network, neurons_per_core=64, time_scale_factor=factor - 1), "warning")


def test_another_mapping_is_none_of_spinnakers():
    profile = load_profile("nest-exact").model_copy(update={"target": "spinnaker-twin"})
    (text,) = findings(GOOD, profile)
    assert "Mapping 'exact' is none of SpiNNaker's" in text
    assert "'decision_circuit' or 'pynn'" in text

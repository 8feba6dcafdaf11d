"""Slowdown and copies: what a plan makes of them, and what they are for."""

import numpy as np
import pytest
from spikeloop.deploy.mapping import plan, preflight
from spikeloop.deploy.reference import ReferenceSession
from spikeloop.deploy.spinnaker.neuron_mapping import FirstLayer
from spikeloop.deploy.spinnaker.neuron_scaling import Readings, scaled_layers, staggered, starts
from spikeloop.deploy.spinnaker.neuron_twin import NeuronTwinSession
from spikeloop.hardware_profiles import load_profile
from spikeloop.models import Decoder, Dense, Encoder, Network, Neuron, Stimulus


def profile(name="spinnaker-ifcurdelta", **values):
    return load_profile(name, {"target": "spinnaker-twin", **values})


def outputs(network, given, currents):
    session = NeuronTwinSession(plan(network, given))
    session.reset()
    session.inject(Stimulus(currents))
    session.run(network.steps)
    return session.read().potentials


def rates(steps=2000):
    """A network with two hidden layers and activations between 0 and 1, as conversion makes them."""
    rng = np.random.default_rng(1)
    layers = [Dense(rng.uniform(-0.6, 1.0, shape) / shape[0], rng.uniform(0.0, 0.1, shape[1])) for shape in
              [(4, 10), (10, 10), (10, 3)]]  # fmt: skip
    return Network(tuple(layers), steps), rng.uniform(0.0, 1.0, (40, 4))


def test_weights_biases_and_currents(make_network):
    network = make_network((3, 4, 5, 2))
    first, second, last = scaled_layers(network, profile(slowdown=4.0))
    given = network.layers
    np.testing.assert_allclose(first.weights, given[0].weights / 4)
    np.testing.assert_allclose(first.bias, given[0].bias / 4)
    np.testing.assert_allclose(second.weights, given[1].weights / 4)
    np.testing.assert_allclose(second.bias, given[1].bias / 16)
    np.testing.assert_allclose(last.weights, given[2].weights)
    np.testing.assert_allclose(last.bias, given[2].bias / 16)
    deployment = plan(network, profile(slowdown=4.0))
    currents = np.ones((1, 3))
    expected = (currents @ given[0].weights + given[0].bias) / 4
    np.testing.assert_allclose(FirstLayer(deployment).offsets(currents), expected)


def test_copies_add_up_to_their_neuron(make_network):
    network = make_network((3, 4, 5, 2))
    plain, copied = scaled_layers(network, profile()), scaled_layers(network, profile(copies=6))
    assert [layer.weights.shape for layer in copied] == [(3, 24), (24, 30), (30, 2)]
    assert plan(network, profile(copies=6)).neurons == 4 * 6 + 5 * 6 + 2
    np.testing.assert_allclose(copied[2].weights.reshape(5, 6, 2).sum(axis=1), plain[2].weights)
    per_threshold = (1.0 / copied[0].weights.reshape(3, 4, 6)).mean(axis=2)
    np.testing.assert_allclose(1.0 / per_threshold, plain[0].weights)
    assert np.ptp(copied[0].gains[:6]) > 0.1


def test_copies_start_apart(make_network):
    network = make_network((3, 4, 2), neuron=Neuron(threshold=2.0))
    first = starts(network, profile(copies=8), 0).reshape(4, 8)
    np.testing.assert_allclose(np.sort(first[2]), 2.0 * staggered(8))
    assert not starts(network, profile(copies=8), 1).any()
    assert not starts(network, profile(), 0).any()


def test_outputs_are_in_the_units_of_the_network():
    """A slow network in a long window comes to the same outputs as the reference, up to what resets lose."""
    network, currents = rates()
    reference = ReferenceSession(network)
    reference.reset()
    reference.inject(Stimulus(currents))
    reference.run(network.steps)
    expected = reference.read().potentials
    found = outputs(network, profile(slowdown=4.0, copies=8, tau_m=8192.0819), currents)
    slope, offset = np.polyfit(expected.ravel(), found.ravel(), 1)
    assert 0.85 < slope < 1.0, "the leak takes a tenth"
    assert abs(offset) < 0.02 * np.ptp(expected)


def test_resets_cost_less_the_slower_and_the_more_copies():
    network, currents = rates(1600)
    value = currents
    for layer in network.layers[:-1]:
        value = np.maximum(value @ layer.weights + layer.bias, 0.0)
    value = value @ network.layers[-1].weights + network.layers[-1].bias
    off = []
    for values in ({}, {"slowdown": 4.0}, {"slowdown": 4.0, "copies": 16}):
        found = outputs(network, profile(tau_m=8192.0819, **values), currents).ravel()
        slope, offset = np.polyfit(value.ravel(), found, 1)
        off.append(float(np.std(found - slope * value.ravel() - offset) / np.std(found)))
    assert off[0] > 1.5 * off[1] > 3.0 * off[2], "0.082, 0.036, 0.014 when this was written"


def test_steps_of_several_ticks_are_a_longer_window(make_network):
    network, currents = rates(100)
    given = {"slowdown": 2.0, "copies": 4, "tau_m": 1024.0}
    short = outputs(network, profile(step_ms=4.0, **given), currents)
    np.testing.assert_array_equal(short, outputs(rates(400)[0], profile(**given), currents))
    spikes = make_network((3, 4, 2), encoder=Encoder("equidistant"))
    said = " ".join(str(f) for f in preflight(spikes, profile(step_ms=4.0)))
    assert "A step lasts 4 ticks" in said
    assert "A step lasts" not in " ".join(str(f) for f in preflight(network, profile(step_ms=4.0)))


def test_spikes_of_copies_are_counted_together():
    network = Network((Dense(np.eye(2)), Dense(np.eye(2))), 3)
    seen = Readings(network, profile(copies=3))
    counts = np.array([[[1, 2, 3, 200, 200, 0]]], dtype=np.uint8)
    np.testing.assert_array_equal(seen.raster(0, counts), [[[6, 255]]])
    np.testing.assert_allclose(seen.traces(0, counts.astype(float)), [[[2.0, 400 / 3]]])


def test_outputs_that_count_spikes_have_no_copies(make_network):
    network = make_network((3, 4, 2), decoder=Decoder("spike_count"))
    layers = scaled_layers(network, profile(copies=3, slowdown=2.0))
    assert [layer.copies for layer in layers] == [3, 1]
    np.testing.assert_allclose(layers[1].bias, network.layers[1].bias / 4)


def test_the_profile_for_converted_networks(golden, thesis):
    """It decides as the conventional network far more often than under the thesis' settings, in four times the time."""
    from spikeloop.models import load

    network = load(thesis / "CartPole-PolicyGradient/converted/model.pt", steps=100)
    origin = load(thesis / "CartPole-PolicyGradient/trained/model.pt", steps=1)
    case = next(path for path in golden if path.stem == "CartPole-PolicyGradient_converted_T100")
    states = np.load(case)["observations"][:200].astype(float)
    value = states
    for layer in origin.layers[:-1]:
        value = np.maximum(value @ layer.weights + layer.bias, 0.0)
    wanted = (value @ origin.layers[-1].weights + origin.layers[-1].bias).argmax(axis=1)
    as_the_thesis = np.mean(outputs(network, profile(), states).argmax(axis=1) == wanted)
    converted = np.mean(outputs(network, profile("spinnaker-converted"), states).argmax(axis=1) == wanted)
    assert converted > 0.94 > 0.9 > as_the_thesis


@pytest.mark.parametrize("name", ["spinnaker-converted", "spinnaker-ifcurdelta"])
def test_the_thesis_conversions_are_not_warned_of_overflow(name, thesis):
    from spikeloop.models import load

    for folder in ("CartPole-A/DQN-Converted", "CartPole-A/Classifier-Converted", "CartPole-PolicyGradient/converted"):
        network = load(thesis / folder / "model.pt", steps=100)
        assert "can overflow" not in " ".join(str(f) for f in preflight(network, profile(name)))

"""Single changes: side by side they do what each does to the whole network."""

import numpy as np
import pytest
from spikeloop.deploy.conformance import example
from spikeloop.deploy.departures.adoption import departed
from spikeloop.deploy.mapping import plan
from spikeloop.hardware_profiles import load_profile
from spikeloop.models import Conv2d, Dense, Network, Neuron
from spikeloop.models.stimulus import Stimulus
from spikeloop.runtime.fidelity.changes import Change, applied, planned, simulate
from spikeloop.runtime.fidelity.probe import explaining, outcomes_of_variants


def target(network, profile):
    deployment = plan(network, load_profile(profile))
    return departed(deployment, [departure.kind for departure in deployment.profile.departures])


def convolutional():
    rng = np.random.default_rng(2)
    layers = (
        Conv2d(rng.normal(0.2, 0.5, (2, 1, 3, 3)), rng.normal(0.1, 0.1, 2), input_shape=(1, 5, 5)),
        Conv2d(rng.normal(0.2, 0.5, (2, 2, 2, 2)), rng.normal(0.1, 0.1, 2), input_shape=(2, 3, 3)),
        Dense(rng.normal(0.0, 0.5, (8, 2))),
    )
    return Network(layers, 12)


CASES = {
    "subtraction": (example(0), "nest-exact"),
    "reset to zero": (example(0, neuron=Neuron(reset="zero")), "nest-exact"),
    "leak": (example(0, neuron=Neuron(membrane_decay=0.9)), "nest-exact"),
    "short time step": (example(0), "nest-iaf_psc_delta"),
    "fixed point": (example(0), "spinnaker-ifcurdelta"),
    "sparse": (convolutional(), "nest-exact"),
}


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("name", CASES)
def test_variants_do_what_their_changes_do(name, layer):
    network, profile = CASES[name]
    dynamics = target(network, profile)
    stimulus = Stimulus(np.random.default_rng(1).normal(0.0, 1.0, (40, network.n_channels)))
    plain = simulate(dynamics, stimulus, network.steps)
    neuron, source = 1, 1
    if name == "sparse" and layer < 2:
        neuron = 4
        source = int(np.flatnonzero(network.layers[layer].connections.dense()[:, neuron])[1])
    changes = [
        Change("weight", layer, neuron, source, 0.3),
        Change("bias", layer, neuron, None, -0.2),
        Change("threshold", layer, neuron, None, 0.15),
    ]
    if layer and name != "sparse":
        changes.append(Change("delay", layer, neuron, source, 1.0))
    rasters, outputs = outcomes_of_variants(dynamics, stimulus, network.steps, changes)
    differing = 0
    for i, change in enumerate(changes):
        whole = simulate(applied(dynamics, change), stimulus, network.steps)
        if layer < 2:
            assert np.array_equal(rasters[:, :, i], whole.rasters[layer][:, :, neuron])
            differing += not np.array_equal(rasters[:, :, i], plain.rasters[layer][:, :, neuron])
        else:
            assert rasters is None
            assert np.allclose(outputs[:, i], whole.outputs[:, neuron], rtol=0.0, atol=1e-9)
            differing += not np.allclose(outputs[:, i], plain.outputs[:, neuron])
    # A threshold that is never reached does not show, nor a delay unless the last spike comes with the last step.
    assert differing >= (len(changes) - 1 if layer < 2 else 2)


@pytest.mark.parametrize("profile", ["nest-exact", "nest-iaf_psc_delta"])
@pytest.mark.parametrize(("layer", "neuron", "source"), [(0, 3, 6), (1, 1, 4)])
def test_the_weight_of_a_sparse_layer_is_found(profile, layer, neuron, source):
    network = convolutional()
    dynamics = target(network, profile)
    stimulus = Stimulus(np.random.default_rng(1).normal(0.0, 1.0, (300, network.n_channels)))
    change = Change("weight", layer, neuron, source, 0.1)
    assert planned(dynamics, change) == network.layers[layer].connections.dense()[source, neuron] != 0
    trains = [
        simulate(one, stimulus, network.steps).rasters[layer][:, :, neuron]
        for one in (applied(dynamics, change), dynamics)
    ]
    best, *others = explaining(dynamics, stimulus, layer, neuron, *trains)
    assert (best.wrong, best.change.kind, best.change.source) == (0, "weight", source)
    assert best.low <= 0.1 <= best.high
    assert best.high - best.low < 0.01
    assert all(other.wrong for other in others if other.change.source != source)


def test_silent_neurons_are_not_suspected():
    """Of a neuron that never fired, no weight can be known."""
    rng = np.random.default_rng(0)
    weights = rng.normal(0.0, 0.8, (6, 3))
    bias = np.array([0.2, 0.3, -50.0, 0.1, -50.0, 0.25])
    network = Network((Dense(rng.normal(0.0, 0.5, (3, 6)), bias), Dense(weights), Dense(rng.normal(size=(3, 2)))), 20)
    dynamics = target(network, "nest-exact")
    stimulus = Stimulus(rng.normal(0.0, 1.0, (200, 3)))
    expected = simulate(dynamics, stimulus, 20)
    neuron = int(expected.rasters[1].sum(axis=(0, 1)).argmax())
    change = Change("weight", 1, neuron, 5, 0.05)
    given = simulate(applied(dynamics, change), stimulus, 20)
    found = explaining(dynamics, stimulus, 1, neuron, *(one.rasters[1][:, :, neuron] for one in (given, expected)))
    assert found[0].change.source == 5
    assert not {candidate.change.source for candidate in found} & {2, 4}

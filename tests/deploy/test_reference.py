"""The reference against golden files, a plain NumPy loop, and itself in other batches."""

import itertools

import numpy as np
import pytest
from spikeloop.deploy.backend import Recording
from spikeloop.deploy.conformance import example
from spikeloop.deploy.reference import ReferenceSession
from spikeloop.models import Decoder, Dense, Encoder, Network, Neuron, Stimulus


def window(network, stimulus, recording=Recording(spikes=True, potentials=True)):  # noqa: B008
    session = ReferenceSession(network)
    session.reset()
    session.inject(stimulus, recording)
    session.run(network.steps)
    return session.read()


def plain(network, stimulus):
    """models/network.py's update, word for word, one sample at a time."""
    neuron, layers = network.neuron, network.layers
    potentials, rasters = [], []
    for i in range(len(stimulus)):
        mem = [np.zeros(layer.n_out) for layer in layers]
        syn = [np.zeros(layer.n_out) for layer in layers]
        fired = [np.zeros((network.steps, layer.n_out), dtype=np.uint8) for layer in layers]
        for t in range(network.steps):
            for index, layer in enumerate(layers):
                fires = index < len(layers) - 1 or network.output_fires
                over = mem[index] > neuron.threshold if neuron.compare == ">" else mem[index] >= neuron.threshold
                fired[index][t] = over & fires
                if index == 0:
                    h = stimulus.currents[i] @ layer.weights + layer.bias
                    if stimulus.spikes is not None:
                        h = h + stimulus.spikes[i, t] @ layer.weights
                else:
                    back = t - (layer.delay - 1)
                    h = layer.bias + (fired[index - 1][back] @ layer.weights if back >= 0 else 0.0)
                moved = neuron.membrane_decay * mem[index] + syn[index]
                if neuron.reset == "zero":
                    mem[index] = np.where(fired[index][t], 0.0, moved)
                else:
                    mem[index] = moved - fired[index][t] * neuron.subtracted
                syn[index] = neuron.synapse_decay * syn[index] + h
        potentials.append(mem[-1])
        rasters.append(fired)
    return np.array(potentials), [np.array(layer) for layer in zip(*rasters, strict=True)]


DYNAMICS = [
    Neuron(threshold, reset, amount, beta, alpha, compare)
    for threshold, (reset, amount), beta, alpha, compare in itertools.product(
        [1.0, 0.7], [("subtract", None), ("subtract", 0.9), ("zero", None)], [1.0, 0.9], [0.0, 0.5], [">", ">="]
    )
]


@pytest.mark.parametrize("neuron", DYNAMICS, ids=str)
@pytest.mark.parametrize("encoder", ["current", "equidistant"])
def test_equals_the_update_in_plain_numpy(neuron, encoder):
    base = example(3, neuron=neuron, encoder=Encoder(encoder, two_neurons=True), decoder=Decoder("spike_count"))
    layers = [Dense(layer.weights, layer.bias, 1 if i == 0 else i + 1) for i, layer in enumerate(base.layers)]
    network = Network(tuple(layers), base.steps, neuron, base.encoder, base.decoder)
    observations = np.random.default_rng(1).normal(size=(5, 3))
    stimulus = network.encoder.encode(observations, network.steps)
    readout = window(network, stimulus)
    potentials, rasters = plain(network, stimulus)
    assert np.abs(readout.potentials - potentials).max() < 1e-12
    assert sum(int(raster.sum()) for raster in rasters) > 0
    for given, expected in zip(readout.rasters, rasters, strict=True):
        assert np.array_equal(given, expected)


def test_golden_files(golden_case):
    network, case = golden_case
    readout = window(network, network.encoder.encode(network.observations(case["observations"]), network.steps))
    assert np.array_equal(readout.potentials.argmax(axis=1), case["potentials"].argmax(axis=1))
    assert np.abs(readout.potentials - case["potentials"]).max() <= 1e-12
    for layer, raster in enumerate(readout.rasters):
        assert np.array_equal(raster.sum(axis=1), case[f"spike_counts_{layer}"])


def test_a_sample_does_not_depend_on_its_batch():
    network = example(5)
    observations = np.random.default_rng(0).normal(size=(37, 3))
    together = window(network, Stimulus(observations)).potentials
    alone = np.concatenate([window(network, Stimulus(one[None])).potentials for one in observations])
    assert np.array_equal(together, alone)


def test_traces_end_where_the_potentials_are():
    network = example(6)
    readout = window(network, Stimulus(np.random.default_rng(0).normal(size=(4, 3))))
    assert [trace.shape for trace in readout.traces] == [(4, 20, 6), (4, 20, 5), (4, 20, 3)]
    assert np.array_equal(readout.traces[-1][:, -1], readout.potentials)


def test_nothing_is_recorded_unless_asked_for():
    readout = window(example(6), Stimulus(np.ones((1, 3))), Recording())
    assert readout.rasters is None
    assert readout.traces is None
    assert readout.output_raster is None


def test_every_golden_file_is_used(golden_names):
    present, used = golden_names
    assert present == used

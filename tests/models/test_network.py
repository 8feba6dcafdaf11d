"""Networks: what is refused, and what the content hash stands for."""

from dataclasses import replace

import numpy as np
import pytest
from spikeloop.errors import InvalidInputError
from spikeloop.models import Conv2d, Decoder, Dense, Encoder, Network, Neuron, Stimulus
from spikeloop.models.network import MAX_DELAY, MAX_STEPS

NAN, INF = float("nan"), float("inf")


def fixed_network(**changes):
    """A network whose every number is written here; its hash must never change."""
    first = Dense(np.arange(-6, 6).reshape(4, 3) / 8, np.array([0.0, 0.25, -0.5]))
    second = Dense(np.arange(6).reshape(3, 2) / 4 - 0.5, np.array([0.125, 0.0]), delay=2)
    return replace(Network((first, second), steps=7), **changes)


FIXED_HASH = "ab6e5c94ece8b53e042f93e4d65d9976aa8cf4c61df44c7b6932ab7b56fb3a3d"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 0}, "threshold is 0"),
        ({"threshold": -1.0}, "above 0"),
        ({"threshold": NAN}, "threshold is nan"),
        ({"threshold": INF}, "threshold is inf"),
        ({"threshold": "high"}, "threshold is 'high'; it must be a number"),
        ({"threshold": None}, "threshold is None"),
        ({"reset": "never"}, "reset is 'never'; it must be 'subtract' or 'zero'"),
        ({"membrane_decay": 1.01}, r"membrane_decay is 1.01; it must be in \[0, 1\]"),
        ({"membrane_decay": -0.1}, "membrane_decay"),
        ({"membrane_decay": NAN}, "membrane_decay"),
        ({"synapse_decay": 1.0}, r"synapse_decay is 1.0; it must be in \[0, 1\)"),
        ({"compare": "<"}, "compare is '<'"),
        ({"reset": "zero", "reset_amount": 1.0}, "'subtract' where a reset_amount is given"),
        ({"reset_amount": 0}, "reset_amount is 0"),
        ({"reset_amount": INF}, "reset_amount is inf"),
    ],
)
def test_a_neuron_outside_of_its_range_is_refused(options, message):
    with pytest.raises(InvalidInputError, match=message):
        Neuron(**options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1.0, NAN]],), "1 of 2 values of the weights are NaN or infinite"),
        (([[1.0], [-INF]],), "1 of 2 values"),
        (([1.0, 2.0],), r"shape \(2,\) were given; a dense layer needs \[n_in, n_out\]"),
        ((np.zeros((0, 3)),), r"\(0, 3\)"),
        ((np.zeros((2, 2, 2)),), r"\(2, 2, 2\)"),
        (([["a"]],), "weights cannot be read as numbers"),
        (([[1.0], [2.0, 3.0]],), "weights cannot be read as numbers"),
        (([[10**400]],), "weights cannot be read as numbers"),
        ((np.eye(2), [0.0, 0.0, 0.0]), r"bias of shape \(3,\) was given; these weights need \(2,\)"),
        ((np.eye(2), [0.0, NAN]), "values of the bias"),
        ((np.eye(2), None, 0), "delay is 0"),
        ((np.eye(2), None, MAX_DELAY + 1), f"from 1 to {MAX_DELAY}"),
        ((np.eye(2), None, 1.5), "delay is 1.5; it must be a whole number"),
    ],
)
def test_a_layer_of_unusable_arrays_is_refused(arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        Dense(*arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": ()}, "at least one layer"),
        ({"layers": (Dense(np.eye(2)), Dense(np.eye(3)))}, "Layer 0 has 2 neurons, but layer 1 expects 3 inputs"),
        ({"layers": (Dense(np.eye(2), delay=2),)}, "first layer's delay must be 1"),
        ({"layers": (np.eye(2),)}, "Layer 0 is of type ndarray"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": MAX_STEPS + 1}, f"steps is {MAX_STEPS + 1}; it must be a whole number from 1 to {MAX_STEPS}"),
        ({"steps": 10.0}, "steps is 10.0"),
        ({"steps": "10"}, "steps is '10'"),
        ({"encoder": Encoder(two_neurons=True, constant_one=True)}, "first layer has 4 inputs"),
        ({"encoder": Encoder(constant_one=True), "layers": (Dense(np.ones((1, 2))),)}, "first layer has 1 inputs"),
    ],
)
def test_a_network_that_does_not_fit_together_is_refused(changes, message):
    with pytest.raises(InvalidInputError, match=message):
        fixed_network(**changes)


def test_a_network_keeps_its_own_arrays_and_they_cannot_be_changed():
    weights, bias = np.eye(2), np.zeros(2)
    network = Network((Dense(weights, bias),), steps=1)
    before = network.layers[0].weights.copy()
    weights += 1.0
    np.testing.assert_array_equal(network.layers[0].weights, before)
    for array in (network.layers[0].weights, network.layers[0].bias):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0
    with pytest.raises(TypeError, match="does not support item assignment"):
        network.provenance["seed"] = 1


def test_the_shape_is_told():
    network = fixed_network(encoder=Encoder(constant_one=True))
    assert (network.n_channels, network.n_inputs, network.n_outputs) == (4, 3, 2)
    assert network.sizes == (3, 2)
    assert network.spiking_sizes == (3,)
    assert fixed_network(decoder=Decoder("spike_count")).spiking_sizes == (3, 2)
    assert network.layers[1].delay == 2
    assert "4-3-2, 7 steps" in repr(network)


# --- content hash ------------------------------------------------------------------------------------------------


def test_the_hash_of_a_fixed_network_never_changes():
    assert fixed_network().content_hash == FIXED_HASH


FIRST, SECOND = fixed_network().layers


def changed_layer(index, **changes):
    layers = [FIRST, SECOND]
    layers[index] = replace(layers[index], **changes)
    return {"layers": tuple(layers)}


DECISION_BEARING = {
    "the last bit of one weight": changed_layer(0, weights=FIRST.weights + np.eye(4, 3) * 2.0**-53),
    "a bias": changed_layer(0, bias=FIRST.bias + np.array([0.0, 0.0, 1.0])),
    "a bias of the last layer": changed_layer(1, bias=[0.0, 0.0]),
    "delay": changed_layer(1, delay=1),
    "steps": {"steps": 8},
    "threshold": {"neuron": Neuron(threshold=0.5)},
    "reset": {"neuron": Neuron(reset="zero")},
    "reset amount": {"neuron": Neuron(reset_amount=0.5)},
    "membrane decay": {"neuron": Neuron(membrane_decay=0.9)},
    "synapse decay": {"neuron": Neuron(synapse_decay=0.9)},
    "compare": {"neuron": Neuron(compare=">=")},
    "poisson": {"encoder": Encoder("poisson")},
    "equidistant": {"encoder": Encoder("equidistant")},
    "two neurons": {"encoder": Encoder(two_neurons=True)},
    "constant one": {"encoder": Encoder(constant_one=True)},
    "gain": {"encoder": Encoder(gain=2.0)},
    "spike count": {"decoder": Decoder("spike_count")},
    "first spike": {"decoder": Decoder("first_spike")},
}


def test_everything_that_bears_on_a_decision_changes_the_hash():
    hashes = {name: fixed_network(**changes).content_hash for name, changes in DECISION_BEARING.items()}
    hashes["unchanged"] = fixed_network().content_hash
    assert len(set(hashes.values())) == len(hashes), hashes


def test_the_geometry_of_a_convolution_is_part_of_the_hash():
    weights = np.arange(16.0).reshape(4, 1, 2, 2)
    base = {"input_shape": (2, 4, 4), "stride": (1, 1), "padding": (0, 0), "groups": 2}
    geometries = [
        {},
        {"input_shape": (2, 3, 4)},
        {"input_shape": (2, 4, 3)},
        {"stride": (2, 1)},
        {"stride": (1, 2)},
        {"padding": (1, 0)},
        {"padding": (0, 1)},
        {"input_shape": (1, 4, 4), "groups": 1},
    ]
    hashes = {Network((Conv2d(weights, **{**base, **changes}),), steps=1).content_hash for changes in geometries}
    assert len(hashes) == len(geometries)
    same = Conv2d(weights, np.zeros(4), input_shape=[2, 4, np.int64(4)], groups=np.int64(2))
    assert Network((same,), steps=1).content_hash in hashes


def test_convolutions_add_up():
    layer = Conv2d(np.ones((1, 1, 1, 1)), input_shape=(1, 3000, 3000))
    assert Network((layer,), steps=1).n_outputs == 9_000_000
    with pytest.raises(InvalidInputError, match="The convolutions have 18000000 neurons together"):
        Network((layer, layer), steps=1)
    layer = Conv2d(np.ones((1, 1, 5, 5)), input_shape=(1, 1500, 1500), padding=2)
    with pytest.raises(InvalidInputError, match="synapses together; at most 67108864"):
        Network((layer, layer), steps=1)


def test_weights_of_other_shapes_with_the_same_bytes_hash_differently():
    def flat(shape):
        return Network((Dense(np.zeros(shape)),), steps=1).content_hash

    assert flat((2, 6)) != flat((6, 2))


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "another"},
        {"provenance": {"seed": 3}},
        {"neuron": Neuron(reset_amount=1.0)},
        {"neuron": Neuron(threshold=1, membrane_decay=1, synapse_decay=0)},
        {"neuron": Neuron(threshold=np.float32(1.0), reset_amount=np.int64(1))},
        {"encoder": Encoder(gain=1, two_neurons=0, constant_one=np.bool_(False))},
        {"steps": np.int64(7)},
        {"layers": [FIRST, SECOND]},
    ],
)
def test_names_and_ways_of_writing_a_number_do_not_change_the_hash(changes):
    assert fixed_network(**changes).content_hash == fixed_network().content_hash


# --- what goes in ------------------------------------------------------------------------------------------------


def test_observations_come_singly_or_in_batches():
    network = fixed_network()
    np.testing.assert_array_equal(network.observations([1, 2, 3, 4]), [[1.0, 2.0, 3.0, 4.0]])
    assert network.observations(np.zeros((5, 4), np.float32)).dtype == np.float64


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0, 2.0, 3.0], r"shape \(3,\) was given; network 'unnamed' needs \(4,\) or \[n, 4\]"),
        (np.zeros((4, 5)), r"shape \(4, 5\)"),
        (np.zeros((1, 1, 4)), r"shape \(1, 1, 4\)"),
        (np.zeros((0, 4)), "at least one is needed"),
        (1.0, r"shape \(\)"),
        ([0.0, NAN, 0.0, INF], "2 of 4 values of the observation are NaN or infinite"),
        ([0.0, "x", 0.0, 0.0], "cannot be read as numbers"),
        ([0.0, 1j, 0.0, 0.0], "they are complex"),
        ([[0.0], [0.0, 0.0]], "cannot be read as numbers"),
        (None, "NaN"),
    ],
)
def test_unusable_observations_are_refused(values, message):
    with pytest.raises(InvalidInputError, match=message):
        fixed_network().observations(values)


def test_a_stimulus_that_fits_is_taken_as_it_is():
    stimulus = Stimulus.from_events([0, 3], [0, 6], n_channels=4, window=7)
    assert fixed_network().stimulus(stimulus) is stimulus


@pytest.mark.parametrize(
    ("stimulus", "message"),
    [
        (Stimulus(np.zeros((1, 5))), r"currents \(1, 5\)"),
        (Stimulus(np.zeros(4)), r"currents \(4,\)"),
        (Stimulus(np.zeros((1, 4)), np.zeros((1, 6, 4), np.uint8)), r"spikes \(1, 6, 4\)"),
        (Stimulus(np.zeros((2, 4)), np.zeros((1, 7, 4), np.uint8)), r"\[n, 7, 4\]"),
        (Stimulus(np.zeros((1, 4)), np.zeros((1, 7, 4))), "float64 were given; counts as uint8"),
        (Stimulus(np.full((1, 4), NAN)), "4 of 4 values of the currents"),
    ],
)
def test_a_stimulus_that_does_not_fit_is_refused(stimulus, message):
    with pytest.raises(InvalidInputError, match=message):
        fixed_network().stimulus(stimulus)

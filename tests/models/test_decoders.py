"""Decoders: from potentials and spikes to the values that decide."""

import numpy as np
import pytest
from spikeloop.errors import InvalidInputError
from spikeloop.models import Decoder
from spikeloop.runtime import launch

RASTER = np.zeros((2, 5, 3), np.uint8)
RASTER[0, [1, 3, 4], 0] = 1
RASTER[0, 1, 1] = 2
RASTER[1, 4, 2] = 1


def test_potentials_are_the_output_as_they_are():
    potentials = np.array([[0.5, -1.0]])
    assert Decoder().output(potentials, None) is potentials


def test_spikes_are_counted():
    output = Decoder("spike_count").output(np.zeros((2, 3)), RASTER)
    assert output.dtype == np.float64
    np.testing.assert_array_equal(output, [[3, 2, 0], [0, 0, 1]])


def test_the_first_spike_says_how_many_steps_were_left_and_never_says_zero():
    output = Decoder("first_spike").output(np.zeros((2, 3)), RASTER)
    assert output.dtype == np.float64
    np.testing.assert_array_equal(output, [[4, 4, 0], [0, 0, 1]])


def test_more_than_255_spikes_are_counted():
    raster = np.full((1, 2, 1), 200, np.uint8)
    assert Decoder("spike_count").output(np.zeros((1, 1)), raster) == 400.0


@pytest.mark.parametrize("decoder", ["potential", "spike_count", "first_spike"])
def test_of_equal_outputs_the_first_is_the_action(make_network, decoder):
    network = make_network((2, 3, 4), scale=0.0, decoder=Decoder(decoder))
    biased = network.layers[1].bias * 0.0 + [0.0, 2.0, 2.0, 2.0]
    layers = (network.layers[0], type(network.layers[1])(network.layers[1].weights, biased))
    network = type(network)(layers, 10, decoder=Decoder(decoder))
    with launch(network) as agent:
        decision = agent.decide([0.0, 0.0])
        assert decision.output[1] == decision.output[2] == decision.output[3] > decision.output[0]
        assert decision.action == 1


def test_an_unknown_decoder_is_refused():
    with pytest.raises(InvalidInputError, match="kind 'vote' was given; it must be one of potential"):
        Decoder("vote")

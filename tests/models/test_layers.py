"""Convolutions: against PyTorch's, what is refused, and what the layer says of itself."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spikeloop.errors import InvalidInputError
from spikeloop.models import Conv2d, Dense
from spikeloop.models.layers import MAX_NEURONS, MAX_SYNAPSES, most_input, weights_of


@st.composite
def convolutions(draw):
    """Small ones of every geometry: kernels that reach over the rim, or are skipped over by the stride."""
    groups = draw(st.integers(1, 3))
    c_group, out_group = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    padding = draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    sides = [draw(st.integers(max(1, extent - 2 * rim), 7)) for extent, rim in zip(kernel, padding, strict=True)]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    options = {
        "input_shape": (c_group * groups, *sides),
        "stride": draw(st.tuples(st.integers(1, 4), st.integers(1, 4))),
        "padding": padding,
        "groups": groups,
    }
    weights = rng.normal(size=(out_group * groups, c_group, *kernel))
    try:
        return Conv2d(weights, rng.normal(size=len(weights)), **options)
    except InvalidInputError as error:  # nothing but padding is left of some
        assert "no synapses" in str(error)  # noqa: PT017
        return Conv2d(weights, rng.normal(size=len(weights)), **{**options, "stride": (1, 1)})


@given(convolutions())
def test_it_is_the_convolution_of_torch(layer):
    torch = pytest.importorskip("torch", reason="the convolution is compared with PyTorch's")
    images = np.random.default_rng(0).normal(size=(2, *layer.input_shape))
    theirs = torch.nn.functional.conv2d(
        *(torch.from_numpy(np.array(array)) for array in (images, layer.weights, layer.bias)),
        stride=layer.stride,
        padding=layer.padding,
        groups=layer.groups,
    )
    assert layer.output_shape == tuple(theirs.shape[1:])
    ours = images.reshape(2, -1) @ layer.connections.dense() + layer.neuron_bias
    np.testing.assert_allclose(ours, theirs.numpy().reshape(2, -1), rtol=0, atol=1e-12)


@given(convolutions())
def test_each_synapse_is_there_once_and_in_order(layer):
    sparse = layer.connections
    assert layer.connections is sparse  # made once
    assert sparse.size == layer.synapses == sparse.starts[-1] == len(sparse.rows)
    assert (layer.n_in, layer.n_out) == (len(sparse.starts) - 1, sparse.n_out)
    places = sparse.rows.astype(np.int64) * layer.n_out + sparse.columns
    assert (np.diff(places) > 0).all()
    assert sparse.columns.min() >= 0
    assert sparse.columns.max() < layer.n_out
    np.testing.assert_array_equal((sparse * -2.0).dense(), -2.0 * sparse.dense())
    np.testing.assert_allclose(most_input(sparse), np.abs(sparse.dense()).sum(axis=0), rtol=1e-12)
    assert weights_of(sparse) is sparse.values


def test_what_dense_connections_can_add_up_to():
    weights = np.array([[1.0, -2.0], [-3.0, 0.5]])
    np.testing.assert_array_equal(most_input(Dense(weights).connections), [4.0, 2.5])
    np.testing.assert_array_equal(weights_of(Dense(weights).connections), weights)


def test_average_pooling_is_a_convolution():
    pooling = Conv2d(np.full((2, 1, 2, 2), 0.25), input_shape=(2, 4, 6), stride=2, groups=2)
    image = np.arange(48.0)
    means = image.reshape(2, 2, 2, 3, 2).mean(axis=(2, 4))
    np.testing.assert_array_equal(image @ pooling.connections.dense(), means.ravel())
    assert pooling.synapses == 48


def test_the_arrays_cannot_be_changed():
    layer = Conv2d(np.ones((1, 1, 2, 2)), input_shape=(1, 3, 3))
    sparse = layer.connections
    for array in (layer.weights, layer.bias, sparse.starts, sparse.columns, sparse.values):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_a_layer_is_told_in_words():
    first = Conv2d(np.zeros((32, 4, 8, 8)), input_shape=(4, 84, 84), stride=4)
    assert first.form == "conv2d 32x8x8 stride 4, 4x84x84 -> 32x20x20"
    assert repr(first) == "<Conv2d 32x8x8 stride 4, 4x84x84 -> 32x20x20, delay 1>"
    assert first.synapses == 32 * 20 * 20 * 4 * 8 * 8
    other = Conv2d(np.zeros((2, 1, 3, 2)), input_shape=(2, 5, 4), stride=(1, 2), padding=(1, 0), groups=2, delay=3)
    assert other.form == "conv2d 2x3x2 stride 1x2 padding 1x0 groups 2, 2x5x4 -> 2x5x2"
    assert other.delay == 3
    assert Dense(np.zeros((3, 2))).form == "3 x 2"


KERNEL = np.ones((2, 3, 2, 2))


@pytest.mark.parametrize(
    ("weights", "options", "message"),
    [
        (np.ones((2, 3, 2)), {}, r"shape \(2, 3, 2\) were given; a convolution needs \[c_out, c_in / groups, height"),
        (np.ones((2, 0, 2, 2)), {}, r"shape \(2, 0, 2, 2\)"),
        (np.full((1, 3, 1, 1), np.nan), {}, "3 of 3 values of the weights are NaN or infinite"),
        (KERNEL, {"bias": [0.0]}, r"bias of shape \(1,\) was given; these weights need \(2,\)"),
        (KERNEL, {"input_shape": (3, 5)}, r"input_shape is \(3, 5\); 3 whole numbers are needed"),
        (KERNEL, {"input_shape": 5}, "input_shape is 5; 3 whole numbers"),
        (KERNEL, {"input_shape": (3, 5, 0)}, "input_shape is 0; it must be a whole number from 1"),
        (KERNEL, {"input_shape": (3, 5, 5.0)}, "input_shape is 5.0; it must be a whole number"),
        (KERNEL, {"input_shape": (4, 5, 5)}, "input of 4 channels was given; .* in 1 group need 3"),
        (KERNEL, {"input_shape": (4, 5, 5), "groups": 2}, "in 2 groups need 6"),
        (KERNEL, {"groups": 3}, "Weights for 2 channels cannot be parted into 3 groups"),
        (KERNEL, {"groups": 0}, "groups is 0"),
        (KERNEL, {"stride": 0}, "stride is 0"),
        (KERNEL, {"stride": (1, 2, 3)}, r"stride is \(1, 2, 3\); 2 whole numbers"),
        (KERNEL, {"stride": "2"}, "stride is '2'"),
        (KERNEL, {"padding": -1}, "padding is -1"),
        (KERNEL, {"delay": 0}, "delay is 0"),
        (KERNEL, {"input_shape": (3, 1, 5)}, "kernel 2 high was given for an input 1 high with a padding of 0"),
        (KERNEL, {"input_shape": (3, 5, 1)}, "kernel 2 wide"),
        (np.ones((1, 1, 1, 1)), {"input_shape": (1, 1, 1), "padding": 1, "stride": 3}, "nothing but padding"),
        (np.ones((1, 1, 1, 1)), {"input_shape": (1, 5000, 5000)}, f"has 25000000 inputs; at most {MAX_NEURONS}"),
        (np.ones((9, 1, 1, 1)), {"input_shape": (1, 2000, 1000)}, "has 18000000 neurons"),
        (np.ones((1, 1, 9, 9)), {"input_shape": (1, 1000, 1000)}, f"has 79709184 synapses; at most {MAX_SYNAPSES}"),
        (np.ones((1, 1, 1, 1)), {"input_shape": (1, 5, 5), "padding": MAX_NEURONS}, "neurons; at most"),
    ],
)
def test_a_convolution_that_cannot_be_is_refused(weights, options, message):
    with pytest.raises(InvalidInputError, match=message):
        Conv2d(weights, **{"input_shape": (3, 5, 5), **options})

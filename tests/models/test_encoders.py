"""Encoders: from observations to currents and spikes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spikeloop.errors import InvalidInputError
from spikeloop.models import Encoder


def encode(encoder, *observations, steps=10, **options):
    return encoder.encode(np.atleast_2d(np.array(observations, dtype=float)), steps, **options)


def test_current_holds_the_values_whatever_the_gain():
    stimulus = encode(Encoder(gain=3.0), [0.5, -2.0])
    np.testing.assert_array_equal(stimulus.currents, [[0.5, -2.0]])
    assert stimulus.spikes is None


def test_two_neurons_split_the_sign_all_positive_parts_first():
    np.testing.assert_array_equal(encode(Encoder(two_neurons=True), [0.5, -2.0]).currents, [[0.5, 0.0, 0.0, 2.0]])


def test_the_constant_channel_is_the_last():
    np.testing.assert_array_equal(
        encode(Encoder(two_neurons=True, constant_one=True), [0.5, -2.0], [0.0, 1.0]).currents,
        [[0.5, 0.0, 0.0, 2.0, 1.0], [0.0, 1.0, 0.0, 0.0, 1.0]],
    )


@pytest.mark.parametrize("kind", ["poisson", "equidistant"])
def test_spikes_carry_no_sign_without_two_neurons(kind):
    plain = encode(Encoder(kind), [-1.0, 1.0], steps=50)
    np.testing.assert_array_equal(plain.spikes.sum(axis=1), [[0, 50]])
    np.testing.assert_array_equal(plain.currents, [[0.0, 0.0]])
    both = encode(Encoder(kind, two_neurons=True), [-1.0, 1.0], steps=50)
    np.testing.assert_array_equal(both.spikes.sum(axis=1), [[0, 50, 50, 0]])


@pytest.mark.parametrize("kind", ["poisson", "equidistant"])
def test_rates_stop_at_one_spike_a_step_and_the_constant_channel_ignores_the_gain(kind):
    spikes = encode(Encoder(kind, constant_one=True, gain=0.25), [100.0], steps=40).spikes
    assert spikes.dtype == np.uint8
    np.testing.assert_array_equal(spikes.sum(axis=1), [[40, 40]])
    weak = encode(Encoder(kind, constant_one=True, gain=1e-9), [1.0], steps=40).spikes
    np.testing.assert_array_equal(weak.sum(axis=1), [[0, 40]])


@given(
    rates=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=6),
    steps=st.integers(1, 300),
)
def test_equidistant_spikes_are_counted_and_spaced_by_their_rate(rates, steps):
    spikes = encode(Encoder("equidistant"), rates, steps=steps).spikes
    for channel, rate in enumerate(rates):
        times = np.flatnonzero(spikes[0, :, channel])
        assert len(times) == math.floor(steps * rate)
        if len(times) > 1:
            assert np.ptp(np.diff(times)) <= 1  # as even as whole steps allow


def test_equidistant_spikes_by_hand():
    spikes = encode(Encoder("equidistant", gain=0.5), [0.5, 1.0, 2.0], steps=8).spikes
    np.testing.assert_array_equal(spikes[0].T, [[0, 0, 0, 1] * 2, [0, 1] * 4, [1] * 8])


def test_poisson_spikes_come_at_their_rate_and_independently():
    rates = [0.1, 0.5, 0.9]
    spikes = encode(Encoder("poisson"), *[rates] * 400, steps=100, seed=5).spikes
    n = 400 * 100
    for channel, rate in enumerate(rates):
        mean = spikes[:, :, channel].mean()
        assert abs(mean - rate) < 5 * math.sqrt(rate * (1 - rate) / n)
    # Neighbouring steps, samples and channels: correlations of independent draws are within 5 / sqrt(n).
    draws = spikes.astype(float) - spikes.mean(axis=(0, 1))
    draws /= draws.std(axis=(0, 1))
    for one, other in [
        (draws[:, :-1], draws[:, 1:]),
        (draws[:-1], draws[1:]),
        (draws[..., :-1], draws[..., 1:]),
    ]:
        assert abs((one * other).mean()) < 5 / math.sqrt(one.size)


@given(seed=st.integers(0, 2**63), first=st.integers(0, 10_000), size=st.integers(1, 5))
def test_a_poisson_sample_depends_on_seed_and_index_alone(seed, first, size):
    encoder = Encoder("poisson")
    batch = encode(encoder, *[[0.5] * 8] * size, seed=seed, first=first).spikes
    for index in range(size):
        alone = encode(encoder, [0.5] * 8, seed=seed, first=first + index).spikes
        np.testing.assert_array_equal(batch[index], alone[0])


def test_other_seeds_and_indices_draw_other_spikes():
    encoder = Encoder("poisson")
    draws = {
        encode(encoder, [0.5] * 8, steps=50, seed=seed, first=first).spikes.tobytes()
        for seed in range(4)
        for first in range(4)
    }
    assert len(draws) == 16


def test_an_empty_batch_is_an_empty_batch():
    assert Encoder("poisson").encode(np.zeros((0, 3)), 5).spikes.shape == (0, 5, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "rate"}, "kind 'rate' was given; it must be one of current, poisson, equidistant"),
        ({"gain": 0.0}, "gain of 0.0"),
        ({"gain": float("nan")}, "gain of nan"),
        ({"gain": "much"}, "gain is 'much'; it must be a number"),
    ],
)
def test_an_encoder_that_cannot_be_is_refused(options, message):
    with pytest.raises(InvalidInputError, match=message):
        Encoder(**options)


def test_only_poisson_is_random():
    assert [kind for kind in ("current", "poisson", "equidistant") if Encoder(kind).random] == ["poisson"]


# --- quantised ---------------------------------------------------------------------------------------------------


@given(
    bits=st.integers(2, 16),
    values=st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(1e-3, 1e3)), min_size=1, max_size=6),
    n=st.integers(1, 4),
)
def test_quantised_channels_are_rounded_and_clipped_whole_numbers(bits, values, n):
    encoder = Encoder(bits=bits, resolution=tuple(resolution for _, resolution in values))
    observations = np.array([[value for value, _ in values]] * n)
    before = observations.copy()
    channels = encoder.channels(observations)
    np.testing.assert_array_equal(observations, before)
    least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    expected = [min(max(round(value / resolution), least), most) for value, resolution in values]
    assert channels.dtype == np.float64
    np.testing.assert_array_equal(channels, [expected] * n)
    assert encoder.n_inputs(len(values)) == len(values)


def test_quantised_channels_by_hand():
    encoder = Encoder(bits=3, resolution=(0.5, 2.0))
    stimulus = encode(encoder, [0.74, 3.0], [-9.0, -1.1], [1.25, 100.0])
    np.testing.assert_array_equal(stimulus.currents, [[1, 2], [-4, -1], [2, 3]])  # ties go to the even number
    assert stimulus.spikes is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 6}, "need both bits and resolution"),
        ({"resolution": (1.0,)}, "need both bits and resolution"),
        ({"bits": 1, "resolution": (1.0,)}, "bits is 1; it must be a whole number from 2 to 16"),
        ({"bits": 17, "resolution": (1.0,)}, "bits is 17"),
        ({"bits": 2.5, "resolution": (1.0,)}, "bits is 2.5"),
        ({"bits": 6, "resolution": (1.0, 0.0)}, "resolution of 0.0 was given; it must be above 0"),
        ({"bits": 6, "resolution": (float("inf"),)}, "must be above 0"),
        ({"bits": 6, "resolution": ("fine",)}, "resolution is 'fine'; it must be a number"),
        ({"bits": 6, "resolution": (1.0,), "kind": "poisson"}, "they need kind 'current'"),
        ({"bits": 6, "resolution": (1.0,), "two_neurons": True}, "no two_neurons"),
        ({"bits": 6, "resolution": (1.0,), "constant_one": True}, "no constant_one"),
    ],
)
def test_a_quantisation_that_cannot_be_is_refused(options, message):
    with pytest.raises(InvalidInputError, match=message):
        Encoder(**options)


def test_a_resolution_for_each_value():
    with pytest.raises(InvalidInputError, match="has 3 inputs; the encoder has resolutions for 2"):
        Encoder(bits=6, resolution=(1.0, 2.0)).n_inputs(3)


def test_quantisation_is_among_the_facts_only_where_there_is_one():
    assert {"bits", "resolution"} & Encoder().facts.keys() == set()
    facts = Encoder(bits=np.int64(6), resolution=[1, 2]).facts
    assert (facts["bits"], facts["resolution"]) == (6, (1.0, 2.0))
    assert hash(Encoder(bits=np.int64(6), resolution=[1, 2])) == hash(Encoder(bits=6, resolution=(1.0, 2.0)))

"""nest-exact keeps its promise: the decisions, spikes and potentials of the reference."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from spikeloop.models import Decoder, Dense, Encoder, Network, Neuron
from spikeloop.runtime import launch


def test_golden_files(golden_case):
    network, case = golden_case
    with launch(network, "nest-exact") as agent:
        recorded = agent.decide(case["observations"], spikes=True)
        unrecorded = agent.decide(case["observations"])
    for decision in (recorded, unrecorded):
        assert np.array_equal(decision.action, case["potentials"].argmax(axis=1))
        assert np.abs(decision.output - case["potentials"]).max() <= 1e-9
    for layer, counts in enumerate(recorded.spike_counts):
        assert np.array_equal(counts, case[f"spike_counts_{layer}"])


@st.composite
def networks(draw, *, lattice):
    """Random networks of every dynamics that has an exact recipe.

    On the `lattice`, weights, inputs and thresholds are multiples of 1/4, so that potentials hit the threshold exactly
    and `compare` matters; off it they are arbitrary.
    """
    reset = draw(st.sampled_from(["subtract", "zero"]))
    alpha = 0.0 if lattice or reset == "subtract" else draw(st.sampled_from([0.0, 0.3, 0.9]))
    thresholds = [1.0, 0.75, 2.0] if lattice else [1.0, 0.7, 2.0]
    neuron = Neuron(
        threshold=draw(st.sampled_from(thresholds)),
        reset=reset,
        reset_amount=draw(st.sampled_from([None, 1.0, 0.75 if lattice else 0.6])) if reset == "subtract" else None,
        membrane_decay=draw(st.sampled_from([1.0, 0.5] if lattice else [1.0, 0.99, 0.9, 0.5])),
        synapse_decay=alpha,
        compare=draw(st.sampled_from([">", ">="])),
    )
    encoder = Encoder(
        draw(st.sampled_from(["current", "poisson", "equidistant"])),
        two_neurons=draw(st.booleans()),
        constant_one=draw(st.booleans()),
        gain=0.7,
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sizes = [
        2 * (1 + encoder.two_neurons) + encoder.constant_one,
        *draw(st.lists(st.integers(1, 8), min_size=1, max_size=3)),
        3,
    ]
    layers = []
    for index, (n_in, n_out) in enumerate(pairwise(sizes)):
        weights, bias = rng.normal(0, 3 / np.sqrt(n_in), (n_in, n_out)), rng.normal(0, 0.3, n_out)
        if lattice:
            weights, bias = np.round(weights * 4) / 4, np.round(bias * 4) / 4
        layers.append(Dense(weights, bias, 1 if index == 0 else draw(st.integers(1, 3))))
    decoder = Decoder(draw(st.sampled_from(["potential", "spike_count", "first_spike"])))
    observations = rng.normal(0, 1, (6, 2))
    return (
        Network(tuple(layers), draw(st.integers(5, 25)), neuron, encoder, decoder),
        np.round(observations * 2) / 2 if lattice else observations,
    )


@pytest.mark.parametrize("lattice", [False, True], ids=["arbitrary", "ties at the threshold"])
def test_random_networks(lattice):
    fired = []

    @settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
    @given(networks(lattice=lattice))
    def check(case):
        network, observations = case
        with launch(network, "reference", seed=5) as agent:
            expected = agent.decide(observations, spikes=True)
        assume(np.abs(expected.output).max() < 1e6)
        with launch(network, "nest-exact", seed=5) as agent:
            decision = agent.decide(observations, spikes=True)
            agent.reset()
            unrecorded = agent.decide(observations)
        for given_, wanted in zip(decision.rasters, expected.rasters, strict=True):
            assert np.array_equal(given_, wanted)
        assert np.abs(decision.output - expected.output).max() <= 1e-9
        assert np.abs(unrecorded.output - expected.output).max() <= 1e-9
        assert np.array_equal(unrecorded.action, expected.action)
        fired.append(sum(int(raster.sum()) for raster in expected.rasters))

    check()
    assert np.mean(np.array(fired) > 0) > 0.5  # the examples do fire


def test_a_wide_network():
    rng = np.random.default_rng(0)
    sizes = [8, 300, 200, 6]
    layers = tuple(Dense(rng.normal(0, 1.5 / np.sqrt(a), (a, b)), rng.normal(0, 0.1, b)) for a, b in pairwise(sizes))
    network = Network(layers, 20)
    observations = rng.normal(size=(5, 8))
    with launch(network) as agent:
        expected = agent.decide(observations, spikes=True)
    with launch(network, "nest-exact") as agent:
        decision = agent.decide(observations, spikes=True)
    assert all(np.array_equal(a, b) for a, b in zip(decision.rasters, expected.rasters, strict=True))
    assert np.abs(decision.output - expected.output).max() <= 1e-9


def test_many_decisions_none_wrong_and_no_memory():
    """10^5 decisions in one session: every one right, and memory stays where it is."""
    psutil = pytest.importorskip("psutil", reason="memory is read through psutil")
    rng = np.random.default_rng(0)
    sizes = [4, 16, 16, 2]
    layers = tuple(Dense(rng.normal(0, 1.5 / np.sqrt(a), (a, b)), rng.normal(0, 0.1, b)) for a, b in pairwise(sizes))
    network = Network(layers, 20)
    observations = rng.normal(size=(100_000, 4))
    with launch(network) as agent:
        expected = agent.decide(observations).action
    process = psutil.Process()
    wrong = 0
    with launch(network, "nest-exact") as agent:
        for index, observation in enumerate(observations):
            # Recorded ones in between: recorders are what grows.
            wrong += agent.decide(observation, spikes=index % 50 == 0).action != expected[index]
            if index == 5_000:
                before = process.memory_info().rss
        growth = process.memory_info().rss - before
    assert wrong == 0
    assert growth < 5e6

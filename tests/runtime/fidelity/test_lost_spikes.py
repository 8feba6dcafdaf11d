"""Spikes lost at random: the simulation of synapses that lose them, and estimates from it."""

from dataclasses import replace

import numpy as np
import pytest
from spikeloop.deploy.conformance import example
from spikeloop.deploy.departures.adoption import departed
from spikeloop.deploy.mapping import plan
from spikeloop.hardware_profiles import load_profile
from spikeloop.models import Conv2d, Dense, Network
from spikeloop.models.stimulus import Stimulus
from spikeloop.runtime.fidelity.changes import simulate
from spikeloop.runtime.fidelity.lost_spikes import explained_by_one, in_ticks, share_lost

SMALLEST = 1e-300  # a loss that never happens, simulated as one that might


def target(network, profile):
    deployment = plan(network, load_profile(profile))
    return departed(deployment, [departure.kind for departure in deployment.profile.departures])


def stimulus(network, n):
    return Stimulus(np.random.default_rng(1).normal(0.0, 1.0, (n, network.n_channels)))


def convolutional():
    rng = np.random.default_rng(2)
    layers = (
        Conv2d(rng.normal(0.2, 0.5, (2, 1, 3, 3)), rng.normal(0.1, 0.1, 2), input_shape=(1, 5, 5)),
        Conv2d(rng.normal(0.2, 0.5, (2, 2, 2, 2)), rng.normal(0.1, 0.1, 2), input_shape=(2, 3, 3)),
        Dense(rng.normal(0.0, 0.5, (8, 2))),
    )
    return Network(layers, 12)


@pytest.mark.parametrize(
    ("network", "profile"),
    [
        (example(0), "nest-exact"),
        (example(0), "nest-iaf_psc_delta"),
        (convolutional(), "nest-exact"),
        (example(0), "spinnaker-ifcurdelta"),
    ],
    ids=["dense", "short time step", "sparse", "by receptor"],
)
def test_synapses_that_lose_nothing_and_everything(network, profile):
    dynamics, currents = target(network, profile), stimulus(network, 30)
    plain = simulate(dynamics, currents, network.steps)
    lossless = simulate(replace(dynamics, loss_per_synapse=SMALLEST), currents, network.steps)
    assert plain.rasters[1].any()
    for a, b in zip(plain.rasters, lossless.rasters, strict=True):
        assert np.array_equal(a, b)
    assert np.allclose(plain.outputs, lossless.outputs, rtol=0.0, atol=1e-12)
    packets, synapses = (
        simulate(replace(dynamics, **{name: 1.0}), currents, network.steps) for name in ("loss", "loss_per_synapse")
    )
    assert np.array_equal(packets.outputs, synapses.outputs)
    assert not np.array_equal(packets.outputs, plain.outputs)


def test_the_share_that_synapses_lose():
    """One neuron that fires in every step, onto many that only add up."""
    network = Network((Dense(np.array([[2.0]])), Dense(np.ones((1, 400)))), 50)
    dynamics = replace(target(network, "nest-exact"), loss_per_synapse=0.2)
    outcome = simulate(dynamics, Stimulus(np.ones((20, 1))), 50, seed=3)
    arrived = (
        outcome.outputs / simulate(replace(dynamics, loss_per_synapse=0.0), Stimulus(np.ones((20, 1))), 50).outputs
    )
    assert arrived.mean() == pytest.approx(0.8, abs=0.005)
    assert len(np.unique(arrived[0])) > 5, "each synapse loses its own"
    again = simulate(dynamics, Stimulus(np.ones((20, 1))), 50, seed=3)
    assert np.array_equal(again.outputs, outcome.outputs)


def test_steps_of_one_tick_show_when_neurons_fired():
    network = example(0)
    dynamics, currents = target(network, "nest-iaf_psc_delta"), stimulus(network, 20)
    spikes = np.zeros((20, network.steps, 3), dtype=np.uint8)
    spikes[:, 3] = 1
    currents = replace(currents, spikes=spikes)
    plain = simulate(dynamics, currents, network.steps)
    ticked, inputs = in_ticks(dynamics, currents)
    per_step = dynamics.ticks_per_step
    fine = simulate(ticked, inputs, network.steps * per_step)
    for steps, ticks in zip(plain.rasters, fine.rasters, strict=True):
        assert ticks.max() == 1
        assert np.array_equal(ticks.reshape(20, network.steps, per_step, -1).sum(axis=2), steps)
    assert np.array_equal(plain.outputs, fine.outputs)


@pytest.mark.parametrize("profile", ["nest-exact", "nest-iaf_psc_delta"])
@pytest.mark.parametrize("name", ["loss", "loss_per_synapse"])
def test_the_share_is_found_and_one_spike_less_explains_it(profile, name):
    network = example(0)
    dynamics, currents = target(network, profile), stimulus(network, 500)
    expected = simulate(dynamics, currents, network.steps)
    given = simulate(replace(dynamics, **{name: 0.02}), currents, network.steps, seed=11)
    explained, looked_at = explained_by_one(dynamics, currents, given, expected, 1)
    assert looked_at == 40
    assert explained >= 36
    best = share_lost(dynamics, currents, given, expected, 1, seed=0)[0]
    assert best.per_synapse == (name == "loss_per_synapse")
    assert best.share == pytest.approx(0.02, rel=0.3)
    assert best.low < best.share < best.high


def test_a_raised_threshold_is_no_loss():
    """Both make for missing spikes; but what is lost also inhibits."""
    network = example(0)
    dynamics, currents = target(network, "nest-exact"), stimulus(network, 500)
    layer = dynamics.layers[1]
    raised = dynamics.with_layer(1, replace(layer, threshold=layer.threshold + 0.05))
    expected, given = (simulate(one, currents, network.steps) for one in (dynamics, raised))
    assert share_lost(dynamics, currents, given, expected, 1, seed=0) == ()

"""The twin of the mapping "pynn" on SpiNNaker against the fixed-point model of the firmware: equal to the bit."""

import numpy as np
import pytest
from spikeloop.deploy.backend import Recording
from spikeloop.deploy.spinnaker import firmware_math, neurons
from spikeloop.deploy.spinnaker.neuron_mapping import SHIFTS, FirstLayer, whole_weights
from spikeloop.deploy.spinnaker.neuron_scaling import starts
from spikeloop.deploy.spinnaker.neuron_twin import NeuronTwinSession, accums
from spikeloop.errors import InvalidInputError, SessionStateError
from spikeloop.hardware_profiles import load_profile
from spikeloop.models import Decoder, Dense, Encoder, Network, Neuron, Stimulus
from spikeloop.tests.virtual_board import fixed_point as fp

BOTH = Recording(spikes=True, potentials=True)


def leaky(**values):
    return load_profile("spinnaker-ifcurdelta", values)


def truncated(**values):
    return load_profile("spinnaker-ifcurdelta", {"model": "IFTruncDelta", **values})


def window(session, stimulus, steps, recording=BOTH):
    session.reset()
    session.inject(stimulus, recording)
    session.run(steps)
    return session.read()


def simulated(deployment, offsets, spikes, ticks):
    """v before each tick and spikes, of every layer, by the model of the virtual board's tests."""
    projections = []
    resolution = deployment.window.resolution_ms
    per_step = round(deployment.window.step_ms / resolution)
    populations = [fp.SpikeSource([np.repeat(np.arange(len(c)) * per_step, c) for c in np.asarray(spikes).T])]
    for index in range(len(deployment.network.layers)):
        population = deployment.population(f"layer {index}")
        given = dict(population.parameters)
        shifts = given.pop(SHIFTS)
        current = offsets if index == 0 else population.constant_input
        at = starts(deployment.network, deployment.profile, index)
        made = fp.Population(
            population.model, population.size, shifts=shifts, dt_ms=resolution, v=at, i_offset=current, **given
        )
        projection = deployment.projections[index]
        weights = whole_weights(projection.weights, shifts).astype(np.int64)
        for receptor, sign in (("excitatory", 1), ("inhibitory", -1)):
            pre, post = np.nonzero(sign * weights > 0)
            delays = np.full(len(pre), round(projection.delay_ms / resolution))
            values = np.abs(weights[pre, post])
            projections.append(fp.Projection(populations[-1], made, pre, post, values, delays, receptor))
        populations.append(made)
    return fp.simulate(populations, projections, ticks + 1)[1:]


def assert_as_modelled(network, profile, stimulus):
    """Returns the share of ticks in which a neuron fires: a silent network proves nothing."""
    deployment = neurons.plan(network, profile)
    given = window(NeuronTwinSession(deployment), stimulus, network.steps)
    per_step = round(deployment.window.step_ms / deployment.window.resolution_ms)
    ticks = network.steps * per_step
    firing = [p.fires for p in deployment.populations if p.role == "neurons"]
    parameters = profile.neuron.parameters
    slowed = 1.0 if network.output_fires else parameters["slowdown"] ** (len(network.layers) - 1)
    for i in range(len(stimulus)):
        offsets = FirstLayer(deployment).offsets(stimulus.currents[i : i + 1])[0]
        spikes = np.zeros((0, network.n_channels), int) if stimulus.spikes is None else stimulus.spikes[i]
        expected = simulated(deployment, offsets, spikes, ticks)
        for layer, recording in enumerate(expected):
            v = recording.v[per_step::per_step].reshape(network.steps, network.sizes[layer], -1).mean(axis=2)
            v = v * slowed if layer == len(expected) - 1 else v
            np.testing.assert_array_equal(given.traces[layer][i] * fp.ONE, v)
            if firing[layer]:
                counts = recording.spikes[:ticks].reshape(network.steps, per_step, network.sizes[layer], -1)
                np.testing.assert_array_equal(given.rasters[layer][i], np.minimum(counts.sum(axis=(1, 3)), 255))
        np.testing.assert_array_equal(given.potentials[i] * fp.ONE, expected[-1].v[ticks] * slowed)
    return float(np.mean([raster.mean() for raster in given.rasters]))


SETTINGS = {
    "table B.6": {},
    "hardly any leak": {"tau_m": 1024.0},
    "hidden layers that overflow": {"tau_m": 8192.0},
    "much leak": {"tau_m": 2.5},
    "refractory": {"tau_refrac": 2.3},
    "other potentials": {"v_rest": -0.4, "v_reset": -0.7, "v_thresh": 1.3, "cm": 0.7, "tau_m": 7.0},
    "other grid": {"step_ms": 2.0, "resolution_ms": 0.5, "delay_ms": 1.5},
    "tenths": {"resolution_ms": 0.1},
    "outputs that fire": {"v_thresh_output": 3.0},
    "slowed down": {"slowdown": 2.0, "step_ms": 3.0, "tau_m": 1024.0},
    "copies": {"copies": 4, "v_thresh": 0.9, "v_reset": -0.1},
    "for converted networks": {"slowdown": 4.0, "copies": 8, "step_ms": 4.0, "tau_m": 4096.041},
}


@pytest.mark.parametrize("values", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("encoder", [Encoder(), Encoder("equidistant", two_neurons=True)], ids=lambda e: e.kind)
def test_every_bit_and_every_spike(values, encoder, make_network):
    network = make_network((3, 9, 8, 3), steps=24, scale=1.1, encoder=encoder, neuron=Neuron(threshold=0.8))
    stimulus = encoder.encode(np.random.default_rng(2).normal(0.0, 1.0, (6, 3)), network.steps)
    assert assert_as_modelled(network, leaky(**values), stimulus) > 0.02


@pytest.mark.parametrize("scale", [0.5, 30.0, 800.0], ids=["small", "shifted", "coarse"])
def test_weights_of_any_size(scale, make_network):
    network = make_network((3, 9, 8, 3), steps=20, scale=scale, neuron=Neuron(threshold=2 * scale))
    profile = leaky(tau_m=5.0, v_thresh_output=10.0)
    assert assert_as_modelled(network, profile, Stimulus(np.random.default_rng(3).normal(size=(5, 3)))) > 0.02


def test_delays_and_counts(make_network):
    network = make_network((3, 8, 7, 2), steps=20, scale=1.2, delays=[1, 4, 6])
    rng = np.random.default_rng(4)
    spikes = rng.integers(0, 4, (5, 20, 3)) * (rng.random((5, 20, 3)) < 0.3)
    stimulus = Stimulus(rng.normal(size=(5, 3)), spikes.astype(np.uint8))
    assert assert_as_modelled(network, leaky(), stimulus) > 0.02


def test_ring_buffers_saturate(make_network):
    network = make_network((2, 6, 2), steps=6, scale=1.0)
    stimulus = Stimulus(np.zeros((1, 2)), np.full((1, 6, 2), 255, dtype=np.uint8))
    deployment = neurons.plan(network, leaky())
    expected = simulated(deployment, np.zeros(6), stimulus.spikes[0], 6)
    assert expected[0].saturated > 0
    assert assert_as_modelled(network, leaky(), stimulus) > 0.02


def test_random_networks(make_network):
    rng = np.random.default_rng(5)
    for seed in range(25):
        sizes = (3, *rng.integers(1, 12, rng.integers(1, 4)).tolist(), 2)
        network = make_network(sizes, steps=int(rng.integers(1, 30)), seed=seed, scale=float(rng.uniform(0.3, 3.0)))
        values = {"tau_m": float(rng.choice([1.0, 20.0, 100.0, 1024.0])), "tau_refrac": float(rng.choice([0.0, 1.0]))}
        assert_as_modelled(network, leaky(**values), Stimulus(rng.normal(size=(3, 3))))


def test_parameters_are_computed_as_by_the_firmware():
    rng = np.random.default_rng(6)
    for x in [*rng.integers(-400_000, 400_000, 3000).tolist(), *range(-40, 41), -32768, 32768]:
        assert firmware_math.exponential(x) == fp.exp_accum(x)
    for x, y in rng.integers(-(2**31), 2**31, (2000, 2)).tolist():
        assert firmware_math.divided(x, y or 1) == fp.divide(x, y or 1)
    ties = (np.arange(2000) + 0.5) / fp.ONE
    values = np.concatenate([rng.normal(0.0, 100.0, 2000), ties, 1e4 + ties, -ties])
    np.testing.assert_array_equal(accums(values), [fp.accum_of(v) for v in values])


def test_a_truncating_neuron_does_not_leak_nor_fall_below_its_reset(make_network):
    network = make_network((3, 8, 2), steps=30, scale=1.0)
    stimulus = Stimulus(np.random.default_rng(7).normal(size=(20, 3)))
    deployment = neurons.plan(network, truncated())
    result = window(NeuronTwinSession(deployment), stimulus, 30)
    assert result.traces[0].min() == 0.0
    assert result.traces[-1].min() < 0.0, "the output layer is no truncating one"
    # In plain arithmetic: the current, rounded, in every step; nothing else moves a first-layer neuron.
    currents = np.rint(FirstLayer(deployment).offsets(stimulus.currents) * fp.ONE).astype(int)
    v = np.zeros_like(currents)
    for t in range(30):
        v = np.maximum(v + currents, 0)
        fired = v >= fp.ONE
        v[fired] = 0
        np.testing.assert_array_equal(result.rasters[0][:, t], fired)
        np.testing.assert_array_equal(result.traces[0][:, t] * fp.ONE, v)


def test_a_sample_does_not_depend_on_its_batch_nor_on_the_parts_of_a_run(make_network):
    network = make_network((3, 9, 3), steps=20, scale=1.2, decoder=Decoder("spike_count"))
    stimulus = Stimulus(np.random.default_rng(8).normal(size=(7, 3)))
    session = NeuronTwinSession(neurons.plan(network, leaky()))
    together = window(session, stimulus, 20)
    for i in range(7):
        session.reset()
        session.inject(stimulus.sample(i), BOTH)
        for part in (1, 7, 12):
            session.run(part)
        alone = session.read()
        np.testing.assert_array_equal(alone.potentials[0], together.potentials[i])
        np.testing.assert_array_equal(alone.output_raster[0], together.output_raster[i])
        np.testing.assert_array_equal(alone.traces[0][0], together.traces[0][i])


def test_currents_that_would_overflow_are_refused(make_network):
    network = make_network((2, 4, 2), steps=5, scale=1.0)
    session = NeuronTwinSession(neurons.plan(network, leaky()))
    session.reset()
    with pytest.raises(InvalidInputError, match="set a smaller tau_m"):
        session.inject(Stimulus(np.full((1, 2), 1e4)))


def test_the_session_is_used_in_order(make_network):
    network = make_network((2, 4, 2), steps=5)
    session = NeuronTwinSession(neurons.plan(network, leaky()))
    with pytest.raises(SessionStateError, match="reset and inject first"):
        session.run(1)
    with pytest.raises(SessionStateError, match="inject and run first"):
        session.read()
    session.reset()
    session.inject(Stimulus(np.zeros((1, 2))))
    with pytest.raises(SessionStateError, match="reset first"):
        session.inject(Stimulus(np.zeros((1, 2))))
    session.close()
    with pytest.raises(SessionStateError, match="closed"):
        session.reset()


def test_thresholds_compare_as_the_firmware_does():
    """A potential that equals the threshold fires, whatever the network says."""
    network = Network((Dense(np.array([[0.25]])), Dense(np.array([[1.0]]))), 10)
    result = window(NeuronTwinSession(neurons.plan(network, truncated())), Stimulus(np.ones((1, 1))), 10)
    np.testing.assert_array_equal(np.flatnonzero(result.rasters[0][0, :, 0]), [3, 7])

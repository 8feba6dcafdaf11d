"""The twin of NEST's point neurons: NEST's own spikes and potentials, whatever the profile's settings."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spikeloop.deploy.backend import Recording
from spikeloop.deploy.conformance import check_backend, example
from spikeloop.deploy.mapping import plan
from spikeloop.deploy.nest import NestBackend, NestSession
from spikeloop.deploy.point_neuron import PointNeuronSession, is_known
from spikeloop.hardware_profiles import load_profile
from spikeloop.hardware_profiles.profile import Profile
from spikeloop.models import Decoder, Dense, Encoder, Network, Neuron, Stimulus

BOTH = Recording(spikes=True, potentials=True)


def subtracting(**values):
    """A profile on eprop_iaf, as in docs/profiles.md."""
    data = load_profile("nest-iaf_psc_delta").model_dump()
    parameters = {"C_m": 1.0, "tau_m": 1e10, "E_L": 0.0, "t_ref": 0.0, "V_th": 1.0}
    data["neuron"] = {"model": "eprop_iaf", "reset": "subtract", "parameters": parameters}
    return Profile.model_validate(data).with_settings(values)


def resetting(**values):
    return load_profile("nest-iaf_psc_delta", values)


def window(session, stimulus, steps, recording=Recording(spikes=True)):  # noqa: B008  # frozen
    session.reset()
    session.inject(stimulus, recording)
    session.run(steps)
    return session.read()


def assert_as_on_nest(network, profile, stimulus):
    """Returns the spikes of a neuron and tick, on average: a silent network proves nothing."""
    pytest.importorskip("nest", reason="nest-simulator is not installed")
    deployment = plan(network, profile)
    ours = window(PointNeuronSession(deployment), stimulus, network.steps)
    session = NestSession(deployment)
    try:
        for i in range(len(stimulus)):
            theirs = window(session, stimulus.sample(i), network.steps)
            for mine, other in zip(ours.rasters, theirs.rasters, strict=True):
                np.testing.assert_array_equal(mine[i], other[0])
            np.testing.assert_allclose(ours.potentials[i], theirs.potentials[0], rtol=1e-9, atol=1e-12)
            if network.output_fires:
                np.testing.assert_array_equal(ours.output_raster[i], theirs.output_raster[0])
    finally:
        session.close()
    return float(np.mean([raster.mean() for raster in ours.rasters])) if ours.rasters else 0.0


SETTINGS = {
    "as it is": {},
    "one tick a step": {"resolution_ms": 1.0},
    "refractory": {"t_ref": 0.3},
    "refractory for steps, leaky": {"t_ref": 2.0, "tau_m": 10.0},
    "input at once": {"input_delay_ms": 0.0, "delay_ms": 0.1},
    "other delays": {"input_delay_ms": 2.3, "delay_ms": 1.7, "tau_m": 3.0},
    "other units": {"E_L": 0.2, "C_m": 0.5, "V_th": 1.3, "tau_m": 5.0},
    "other grid": {"step_ms": 2.0, "resolution_ms": 0.25},
}


@pytest.mark.parametrize("values", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("profile", [resetting, subtracting])
def test_every_setting(profile, values):
    observations = np.random.default_rng(0).normal(size=(10, 3))
    for encoder, decoder in (
        (Encoder(), Decoder()),
        (Encoder("equidistant", two_neurons=True), Decoder("spike_count")),
    ):
        network = example(3, encoder=encoder, decoder=decoder, neuron=Neuron(threshold=0.8))
        stimulus = encoder.encode(observations, network.steps)
        assert assert_as_on_nest(network, profile(**values), stimulus) > 0.02


def test_the_reset_potential_is_the_profiles():
    stimulus = Stimulus(np.random.default_rng(1).normal(size=(10, 3)))
    network = example(4)
    assert assert_as_on_nest(network, resetting(V_reset=-0.7), stimulus) > 0.02
    with_reset, without = (
        window(PointNeuronSession(plan(network, resetting(V_reset=value))), stimulus, 20) for value in (-0.7, 0.0)
    )
    assert (with_reset.rasters[0] != without.rasters[0]).any()


@pytest.mark.parametrize("profile", [resetting, subtracting])
def test_delays_of_the_networks_own(profile, make_network):
    """Windows follow each other: a silence shorter than the longest delay would let spikes of one into the next."""
    network = make_network((3, 8, 7, 2), steps=12, scale=1.5, delays=[1, 4, 6])
    stimulus = Stimulus(np.random.default_rng(6).normal(size=(10, 3)))
    assert assert_as_on_nest(network, profile(), stimulus) > 0.02


@pytest.mark.parametrize("profile", [resetting, subtracting])
def test_potentials_that_equal_the_threshold(profile):
    """Weights and currents on a grid, so that sums hit the threshold in exact arithmetic: both sides round alike."""
    rng = np.random.default_rng(2)

    def draw(*shape):
        return np.round(rng.normal(0.1, 0.6, shape) / 0.25) * 0.25

    layers = (Dense(draw(3, 8), draw(8)), Dense(draw(8, 7), draw(7)), Dense(draw(7, 2), draw(2)))
    network = Network(layers, 20, Neuron(reset="zero"))
    for values in ({}, {"resolution_ms": 1.0, "tau_m": 2.0**53}):
        assert assert_as_on_nest(network, profile(**values), Stimulus(draw(15, 3))) > 0.02


def test_golden_networks(golden_case):
    network, case = golden_case
    stimulus = network.encoder.encode(case["observations"][:5], network.steps)
    assert assert_as_on_nest(network, resetting(), stimulus) > 0.01


@st.composite
def cases(draw):
    ticks = st.integers(1, 25)
    resolution = draw(st.sampled_from([0.05, 0.1, 0.125, 0.5, 1.0]))
    values = {
        "resolution_ms": resolution,
        "step_ms": resolution * draw(st.integers(1, 12)),
        "delay_ms": resolution * draw(ticks),
        "input_delay_ms": resolution * draw(st.integers(0, 25)),
        "t_ref": resolution * draw(st.integers(0, 8)),
        "tau_m": draw(st.sampled_from([0.7, 3.0, 20.0, 1e10])),
        "C_m": draw(st.sampled_from([0.3, 1.0, 2.5])),
        "E_L": draw(st.sampled_from([0.0, -0.4])),
        "V_th": draw(st.sampled_from([1.0, 0.6])),
    }
    profile = draw(st.sampled_from([resetting, subtracting]))
    sizes = draw(st.lists(st.integers(1, 7), min_size=2, max_size=4))
    encoder = draw(st.sampled_from([Encoder(), Encoder("poisson", two_neurons=True, constant_one=True)]))
    decoder = draw(st.sampled_from([Decoder(), Decoder("spike_count")]))
    delays = [1] + [draw(st.integers(1, 3)) for _ in sizes[2:]]
    return profile(**values), sizes, delays, encoder, decoder, draw(st.integers(0, 10**6))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(cases())
def test_random_networks_and_settings(make_network, case):
    profile, sizes, delays, encoder, decoder, seed = case
    network = make_network(sizes, steps=12, seed=seed, scale=1.5, delays=delays, encoder=encoder, decoder=decoder)
    observations = np.random.default_rng(seed).normal(size=(4, sizes[0]))
    assert_as_on_nest(network, profile, encoder.encode(observations, network.steps))


def test_the_inputs_delay_and_the_latch():
    """One neuron that never fires, one tick a step: bias from the first tick, input from the one after its delay."""
    network = Network((Dense(np.array([[2.0]]), np.array([1.0])),), 8)
    one = Stimulus(np.array([[1.0]]))
    for delay, expected in ((0.0, [3, 6, 9, 12, 15, 18, 21, 24]), (3.0, [1, 2, 3, 4, 7, 10, 13, 16])):
        profile = resetting(resolution_ms=1.0, input_delay_ms=delay, tau_m=2.0**53)
        read = window(PointNeuronSession(plan(network, profile)), one, 8, BOTH)
        np.testing.assert_allclose(read.traces[0][0, :, 0], expected, rtol=1e-12)
        np.testing.assert_allclose(read.potentials[0], expected[-1:], rtol=1e-12)


def test_a_spike_arrives_after_the_delay_and_the_input_of_refractory_ticks_is_lost():
    chain = Network((Dense(np.array([[0.5]])), Dense(np.array([[1.0]])), Dense(np.array([[1.0]]))), 12)
    values = {"resolution_ms": 1.0, "input_delay_ms": 0.0, "delay_ms": 2.0, "tau_m": 2.0**53, "t_ref": 2.0}
    read = window(PointNeuronSession(plan(chain, resetting(**values))), Stimulus(np.array([[1.0]])), 12, BOTH)
    # 0.5 a tick: at 1 in the second; then two ticks lost, and two more to fire again.
    assert np.flatnonzero(read.rasters[0][0, :, 0]).tolist() == [1, 5, 9]
    assert np.flatnonzero(read.rasters[1][0, :, 0]).tolist() == [3, 7, 11]
    np.testing.assert_allclose(read.traces[2][0, :, 0], [0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2], rtol=1e-12)


def test_a_sample_does_not_depend_on_its_batch_nor_on_how_the_window_is_run():
    deployment = plan(example(6), resetting())
    stimulus = Stimulus(np.random.default_rng(5).normal(size=(7, 3)))
    session = PointNeuronSession(deployment)
    together = window(session, stimulus, 20, BOTH)
    for i in (0, 6):
        session.reset()
        session.inject(stimulus.sample(i), BOTH)
        for part in (1, 7, 12):
            session.run(part)
        alone = session.read()
        np.testing.assert_array_equal(alone.potentials[0], together.potentials[i])
        for one, all_ in zip((*alone.rasters, *alone.traces), (*together.rasters, *together.traces), strict=True):
            np.testing.assert_array_equal(one[0], all_[i])
    np.testing.assert_array_equal(together.traces[-1][:, -1], together.potentials)


class TwinBackend(NestBackend):
    cannot = ()

    def open(self, deployment, seed):
        return self.twin(deployment)


def test_it_is_a_session_as_any_other():
    assert not [o for o in check_backend(TwinBackend, "nest-iaf_psc_delta") if o.status == "failed"]


def test_what_is_not_known():
    assert is_known(resetting())
    assert is_known(subtracting())
    assert not is_known(load_profile("nest-pp_psc_delta"))
    assert not is_known(load_profile("nest-exact"))
    for change in ({"V_min": -1.0}, {"t_ref": None}):
        data = resetting().model_dump()
        parameters = data["neuron"]["parameters"] | change
        data["neuron"]["parameters"] = {name: value for name, value in parameters.items() if value is not None}
        assert not is_known(Profile.model_validate(data))

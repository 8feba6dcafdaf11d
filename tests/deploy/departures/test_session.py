"""The simulation with all departures is the target's twin, to the bit; with none it is the reference."""

import contextlib
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from spikeloop.deploy.backend import Recording, backend
from spikeloop.deploy.departures.adoption import departed
from spikeloop.deploy.departures.session import DepartedSession
from spikeloop.deploy.mapping import plan
from spikeloop.deploy.point_neuron import PointNeuronSession
from spikeloop.deploy.reference import ReferenceSession
from spikeloop.deploy.spinnaker.circuit_twin import CircuitTwinSession
from spikeloop.deploy.spinnaker.neuron_twin import NeuronTwinSession
from spikeloop.errors import InvalidInputError, PreflightError
from spikeloop.hardware_profiles import load_profile
from spikeloop.hardware_profiles.profile import DepartureKind
from spikeloop.models import Decoder, Dense, Encoder, Network, Neuron, Stimulus
from spikeloop.tests.deploy.departures import cases
from spikeloop.tests.deploy.spinnaker import circuit_model

KINDS = get_args(DepartureKind)
SPIKES, BOTH = Recording(spikes=True), Recording(spikes=True, potentials=True)
some_kinds = st.lists(st.sampled_from(KINDS), unique=True)


def window(session, stimulus, steps, recording=BOTH, parts=None):
    session.reset()
    session.inject(stimulus, recording)
    for part in parts or [steps]:
        session.run(part)
    return session.read()


def encoded(network, n=3):
    observations = np.random.default_rng(7).normal(size=(n, network.n_inputs))
    return network.encoder.encode(observations, network.steps)


def planned(network, profile):
    """A deployment, of settings that the preflight lets pass."""
    try:
        return plan(network, profile)
    except PreflightError:
        assume(False)


def assert_equal(given, expected, potentials=np.testing.assert_array_equal):
    potentials(given.potentials, expected.potentials)
    for ours, theirs in zip(given.rasters, expected.rasters, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(given.traces or (), expected.traces or (), strict=True):
        potentials(ours, theirs)
    if expected.output_raster is not None:
        np.testing.assert_array_equal(given.output_raster, expected.output_raster)


def assert_close(given, expected):
    assert_equal(given, expected, lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9))


def assert_as_twin(deployment, twin, stimulus):
    given, expected = (
        window(session, stimulus, deployment.network.steps)
        for session in (DepartedSession(departed(deployment, KINDS)), twin)
    )
    assert_equal(given, expected)
    return sum(int(raster.sum()) for raster in given.rasters)


# --- all departures: the target ---------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(cases.networks(), cases.nest_profiles())
def test_with_all_it_is_nests_point_neurons(network, profile):
    deployment = planned(network, profile)
    assert_as_twin(deployment, PointNeuronSession(deployment), encoded(network))


@settings(max_examples=60)
@given(cases.networks(), cases.spinnaker_profiles())
def test_with_all_it_is_spinnakers_neurons(network, profile):
    deployment = planned(network, profile)
    try:
        assert_as_twin(deployment, NeuronTwinSession(deployment), encoded(network))
    except InvalidInputError:  # currents that the twin refuses
        assume(False)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from(sorted(circuit_model.LAYOUTS.values())), st.booleans())
def test_with_all_it_is_the_decision_circuit(seed, hidden, ties):
    network = circuit_model.network(seed, hidden, actions=3, ties=ties)
    profile = circuit_model.profile_for(network)
    deployment = planned(network, profile)
    codes = np.random.default_rng(seed).integers(-32, 32, (5, network.n_channels)).astype(float)
    assert_as_twin(deployment, CircuitTwinSession(deployment), Stimulus(codes))


@pytest.mark.parametrize("name", ["nest-iaf_psc_delta", "spinnaker-ifcurdelta", "spinnaker-converted"])
def test_golden_networks_on_their_targets(golden_case, name):
    network, case = golden_case
    deployment = plan(network, load_profile(name))
    twin = (PointNeuronSession if name.startswith("nest") else NeuronTwinSession)(deployment)
    assert assert_as_twin(deployment, twin, network.encoder.encode(case["observations"][:4], network.steps)) > 10


NEURONS = {
    "subtract": Neuron(),
    "zero": Neuron(threshold=0.8, reset="zero", compare=">="),
    "leaky": Neuron(reset="zero", membrane_decay=0.9, synapse_decay=0.6),
}
ON_NEST = {
    "as it is": (cases.resetting, {}),
    "coarse, refractory, other units": (
        cases.resetting,
        {"resolution_ms": 0.5, "t_ref": 1.0, "tau_m": 5.0, "C_m": 0.3, "E_L": -0.4, "V_th": 0.6, "V_reset": -0.7},
    ),
    "input at once": (cases.resetting, {"input_delay_ms": 0.0, "delay_ms": 0.5}),
    "subtracting": (cases.subtracting, {"t_ref": 0.3, "tau_m": 20.0}),
    "pynn": (lambda given: load_profile("pynn-nest", given), {}),
    "pynn, other units": (
        lambda given: load_profile("pynn-nest", given),
        {"resolution_ms": 0.5, "tau_m": 7.0, "v_rest": -0.4, "v_reset": -0.6, "v_thresh_output": 3.0, "copies": 3},
    ),
}


@pytest.mark.parametrize(("profile", "values"), ON_NEST.values(), ids=ON_NEST)
@pytest.mark.parametrize("neuron", NEURONS.values(), ids=NEURONS)
def test_with_all_it_is_nest_itself(profile, values, neuron):
    pytest.importorskip("nest", reason="nest-simulator is not installed")
    profile = profile(values)
    if profile.mapping == "pynn":
        pytest.importorskip("spynnaker", reason="PyNN comes with sPyNNaker, which is not installed")
    encoder = Encoder("poisson", two_neurons=True)
    made = [
        cases.network_of(1, [3, 6, 5, 2], neuron, Encoder(), Decoder("spike_count"), [1, 3, 2], 15),
        cases.network_of(2, [3, 6, 2], neuron, encoder, Decoder(), [1, 1], 15),
    ]
    if profile.mapping == "point_neuron":
        made += [cases.convolutional(3, neuron, Encoder(), Decoder("first_spike"))]
        made += [cases.convolutional(4, neuron, Encoder("equidistant"), Decoder())]
    spikes = 0
    for network in made:
        deployment = plan(network, profile)
        stimulus = encoded(network)
        ours = DepartedSession(departed(deployment, KINDS))
        with contextlib.closing(backend(profile.target).open(deployment, 0)) as session:
            for i in range(len(stimulus)):
                expected = window(session, stimulus.sample(i), network.steps, SPIKES)
                assert_close(window(ours, stimulus.sample(i), network.steps, SPIKES), expected)
                spikes += sum(int(raster.sum()) for raster in expected.rasters)
    assert spikes > 50


# --- no departures: the reference -------------------------------------------------------------------------------------


# Sums of dyadic numbers are exact: no order of additions matters.
exact_neurons = st.builds(
    Neuron,
    threshold=st.sampled_from([1.0, 0.5]),
    reset=st.sampled_from(["subtract", "zero"]),
    compare=st.sampled_from([">", ">="]),
)
profiles = st.one_of(
    cases.nest_profiles(),
    cases.pynn_settings([0.1, 0.5, 1.0, 2.0]).map(lambda values: load_profile("pynn-nest", values)),
    cases.pynn_settings([1.0, 2.0]).map(lambda values: load_profile("spinnaker-converted", values)),
    st.just(load_profile("nest-pp_psc_delta")),
)


@settings(max_examples=60)
@given(cases.networks(exact_neurons, on_grid=True), profiles)
def test_with_none_it_is_the_reference_to_the_bit(network, profile):
    if profile.mapping == "point_neuron" and "c_1" in profile.neuron.parameters:
        assume(network.neuron.threshold == 1.0)
    deployment = planned(network, profile)
    stimulus = encoded(network)
    stimulus = Stimulus(np.round(stimulus.currents * 4) / 4, stimulus.spikes)
    given, expected = (
        window(session, stimulus, network.steps)
        for session in (DepartedSession(departed(deployment, ())), ReferenceSession(network))
    )
    assert_equal(given, expected)


@settings(max_examples=60)
@given(cases.networks(), profiles)
def test_with_none_it_is_the_reference_up_to_rounding(network, profile):
    """Leaks, synaptic currents and any weights: the same terms, added in another order."""
    if profile.stochastic:
        assume(network.neuron.threshold == 1.0)
    deployment = planned(network, profile)
    given, expected = (
        window(session, encoded(network), network.steps)
        for session in (DepartedSession(departed(deployment, ())), ReferenceSession(network))
    )
    assert_close(given, expected)


@settings(max_examples=25)
@given(cases.networks(st.just(Neuron())), cases.pynn_settings([1.0]))
def test_a_truncating_model_without_departures_spikes_as_the_reference(network, values):
    """Its potentials are in units of its threshold, which v_thresh states: here a power of two, to round alike."""
    deployment = planned(network, cases.truncated(values | {"v_thresh": 0.5}))
    given, expected = (
        window(session, encoded(network), network.steps)
        for session in (DepartedSession(departed(deployment, ())), ReferenceSession(network))
    )
    for ours, theirs in zip(given.rasters, expected.rasters, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", ["nest-iaf_psc_delta", "nest-pp_psc_delta", "pynn-nest", "spinnaker-converted"])
def test_golden_networks_without_departures(golden_case, name):
    network, case = golden_case
    deployment = plan(network, load_profile(name))
    stimulus = network.encoder.encode(case["observations"][:20], network.steps)
    given, expected = (
        window(session, stimulus, network.steps)
        for session in (DepartedSession(departed(deployment, ())), ReferenceSession(network))
    )
    assert_close(given, expected)


@pytest.mark.parametrize("neuron", NEURONS.values(), ids=NEURONS)
@pytest.mark.parametrize("kind", ["current", "equidistant"])
def test_convolutions_without_departures(neuron, kind):
    network = cases.convolutional(5, neuron, Encoder(kind), Decoder("spike_count"))
    deployment = plan(network, cases.resetting())
    given, expected = (
        window(session, encoded(network), network.steps)
        for session in (DepartedSession(departed(deployment, ())), ReferenceSession(network))
    )
    assert expected.rasters[0].sum() > 20
    assert_close(given, expected)


def test_circuits_without_departures():
    network = circuit_model.network(1, (4, 9, 8), actions=3)
    deployment = plan(network, circuit_model.profile_for(network))
    stimulus = Stimulus(np.random.default_rng(1).integers(-32, 32, (20, 4)).astype(float))
    given, expected = (
        window(session, stimulus, network.steps)
        for session in (DepartedSession(departed(deployment, ())), ReferenceSession(network))
    )
    assert expected.rasters[0].sum() > 100
    assert_equal(given, expected)


# --- any departures ---------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(cases.networks(), st.one_of(cases.nest_profiles(), cases.spinnaker_profiles()), some_kinds, st.data())
def test_a_window_in_parts_is_the_window(network, profile, kinds, data):
    deployment = planned(network, profile)
    session = DepartedSession(departed(deployment, kinds))
    stimulus = encoded(network)
    whole = window(session, stimulus, network.steps)
    cuts = sorted(data.draw(st.sets(st.integers(1, network.steps))) | {network.steps})
    parts = np.diff([0, *cuts]).tolist()
    assert_equal(window(session, stimulus, network.steps, parts=parts), whole)
    alone = window(session, stimulus.sample(2), network.steps)
    np.testing.assert_array_equal(alone.potentials[0], whole.potentials[2])
    np.testing.assert_array_equal(whole.traces[-1][:, -1], whole.potentials)


@settings(max_examples=30)
@given(st.integers(0, 10**6), some_kinds, st.lists(st.integers(1, 4), min_size=1, max_size=8))
def test_a_circuits_window_in_parts_is_the_window(seed, kinds, parts):
    network = circuit_model.network(seed, (3, 7, 6), steps=sum(parts) + 2)
    dynamics = departed(plan(network, circuit_model.profile_for(network)), kinds)
    stimulus = Stimulus(np.random.default_rng(seed).integers(-32, 32, (4, 3)).astype(float))
    session = DepartedSession(dynamics)
    whole = window(session, stimulus, network.steps)
    assert_equal(window(session, stimulus, network.steps, parts=[*parts, 2]), whole)


def test_random_dynamics_depend_on_the_seed_alone():
    network = cases.network_of(0, [3, 6, 2], Neuron(), Encoder(), Decoder(), [1, 1], 20)
    # With the profile's own c_1, chance decides only where potential and threshold are equal.
    dynamics = departed(plan(network, load_profile("nest-pp_psc_delta", {"c_1": 0.0, "c_2": 300.0})), KINDS)
    assert dynamics.random
    stimulus = encoded(network, 40)
    first, again = (window(DepartedSession(dynamics, 5), stimulus, 20) for _ in range(2))
    assert_equal(first, again)
    other = window(DepartedSession(dynamics, 6), stimulus, 20)
    assert (other.rasters[0] != first.rasters[0]).any()


def test_a_single_departure_is_a_single_departure():
    """Worked out by hand: a neuron with a current of 0.75 a step and a threshold of 1, for eight steps."""
    network = Network((Dense(np.array([[0.75]])), Dense(np.array([[1.0]]))), 8)
    deployment = plan(network, cases.resetting({"resolution_ms": 1.0}))
    one = Stimulus(np.ones((1, 1)))

    def spikes(*kinds):
        return np.flatnonzero(window(DepartedSession(departed(deployment, kinds)), one, 8).rasters[0][0, :, 0]).tolist()

    # Potentials after each update: 0, 0.75, 1.5, 1.25, 1 (which is not above the threshold), 1.75, 1.5, 1.25.
    assert spikes() == [3, 4, 6, 7]
    # What is left over the threshold is lost: 0, 0.75, 1.5, 0.75, 1.5, ...
    assert spikes("reset") == [3, 5, 7]
    # Tested after the update, at and above: 0, 0.75, 1.5 (0.5 is left), 1.25 (0.25), 1 (0), 0.75, 1.5 (0.5), 1.25.
    assert spikes("order") == [2, 3, 4, 6, 7]
    # One millisecond from the generator, and one more until it is latched: two steps without input; 0, 0, 0.75, 1.5.
    assert spikes("delay") == [4, 5, 7]
    # Three departures that make a plain integrate-and-fire neuron of it.
    assert spikes("delay", "order", "reset") == [3, 5, 7]


def test_a_circuits_lost_packets_take_bits_of_the_input_and_the_comparators_word():
    network = circuit_model.network(0, (4, 9, 8), actions=3)
    stimulus = encoded(network, 60)
    lossless = window(twin_of_circuit(network, 0.0), stimulus, network.steps).potentials.argmax(axis=1)
    shares = [
        np.mean(window(twin_of_circuit(network, loss), stimulus, network.steps).potentials.argmax(axis=1) != lossless)
        for loss in (0.0, 0.02, 0.2)
    ]
    assert shares[0] == 0 < shares[2]
    assert shares[1] < shares[2]
    # Where every bit is lost, nothing comes in.
    everything = replace(departed(circuit(network, 0.5), KINDS), loss=0.0, input_loss=1.0)
    silent = window(DepartedSession(everything), stimulus, network.steps)
    nothing = window(
        DepartedSession(replace(everything, input_loss=0.0)), Stimulus(stimulus.currents * 0), network.steps
    )
    assert (silent.potentials == nothing.potentials).all()
    for ours, theirs in zip(silent.rasters, nothing.rasters, strict=True):
        assert (ours == theirs).all()


def circuit(network, loss):
    return plan(network, load_profile("spinnaker-virtual", {"drop_packets": loss}))


def twin_of_circuit(network, loss):
    return DepartedSession(departed(circuit(network, loss), KINDS), seed=3)

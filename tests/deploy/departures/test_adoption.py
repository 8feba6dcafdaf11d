"""Which departures a deployment has, and what each of them changes."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from spikeloop.deploy.conformance import example
from spikeloop.deploy.departures.adoption import departed, effective, signature
from spikeloop.deploy.departures.dynamics import NEVER
from spikeloop.deploy.mapping import plan
from spikeloop.errors import PreflightError
from spikeloop.hardware_profiles import load_profile, profiles
from spikeloop.hardware_profiles.profile import DepartureKind
from spikeloop.models import Decoder, Encoder, Network, Neuron
from spikeloop.tests.deploy.departures import cases
from spikeloop.tests.deploy.spinnaker import circuit_model

KINDS = get_args(DepartureKind)
APPROXIMATE = [name for name in profiles() if not load_profile(name).exact]
CIRCUITS = [name for name in APPROXIMATE if load_profile(name).circuit is not None]
FREE = [name for name in APPROXIMATE if name not in CIRCUITS]
# Networks that differ from every neuron of a target in some way.
VARIED = [
    Neuron(),
    Neuron(threshold=1.0, compare=">="),
    Neuron(reset="zero"),
    Neuron(reset="zero", membrane_decay=0.9, synapse_decay=0.5),
    Neuron(reset_amount=0.5),
]


def declared(profile):
    return {departure.kind for departure in profile.departures}


@settings(max_examples=40)
@given(cases.networks(), st.sampled_from(FREE))
def test_profiles_declare_all_their_departures(network, name):
    profile = load_profile(name)
    try:
        deployment = plan(network, profile)
    except PreflightError:  # pp_psc_delta with another threshold
        assume(False)
    assert set(effective(deployment)) <= declared(profile)


@pytest.mark.parametrize("name", CIRCUITS)
@pytest.mark.parametrize("seed", range(4))
def test_circuits_declare_all_their_departures(name, seed):
    profile = load_profile(name)
    network = circuit_model.network(seed, (4, 9, 8), actions=3)
    for lossy in ({}, {"drop_packets": 0.1}):
        assert set(effective(plan(network, profile.with_settings(lossy)))) <= declared(profile)


def test_golden_networks_have_no_undeclared_departures(golden_case):
    network, _ = golden_case
    for name in FREE:
        profile = load_profile(name)
        assert set(effective(plan(network, profile))) <= declared(profile)


@pytest.mark.parametrize("name", FREE)
def test_no_departure_is_declared_for_nothing(name):
    profile = load_profile(name)
    networks = [replace(example(i), neuron=neuron) for i, neuron in enumerate(VARIED)]
    found = {kind for network in networks for kind in effective(plan(network, profile))}
    assert found == declared(profile)


@pytest.mark.parametrize("name", CIRCUITS)
def test_no_departure_of_a_circuit_is_declared_for_nothing(name):
    profile = load_profile(name, {"drop_packets": 0.1})
    network = circuit_model.network(0, (4, 9, 8), actions=3)
    # Weights off the grid are refused, so that no network is left which rounding would change; and only a virtual
    # board's routers lose packets when told to.
    without = {"weight precision"} | ({"packet loss"} if profile.target != "spinnaker-virtual" else set())
    assert set(effective(plan(network, profile))) == declared(profile) - without


def test_settings_bring_departures_that_the_profile_does_not_declare():
    for name, values, kind in (
        ("nest-iaf_psc_delta", {"step_ms": 2.0}, "step length"),
        ("nest-iaf_psc_delta", {"V_th": 0.9}, "threshold"),
        ("pynn-nest", {"resolution_ms": 0.5}, "time step"),
        ("spinnaker-ifcurdelta", {"copies": 4}, "rate coding"),
        ("spinnaker-ifcurdelta", {"model": "IFTruncDelta"}, "floor"),
    ):
        assert kind not in declared(load_profile(name))
        assert kind not in effective(plan(example(0), load_profile(name)))
        assert kind in effective(plan(example(0), load_profile(name, values)))


@pytest.mark.parametrize("name", ["reference", "nest-exact"])
def test_exact_profiles_have_none(name):
    deployment = plan(example(0), load_profile(name))
    assert effective(deployment) == ()
    assert signature(departed(deployment, KINDS)) == signature(departed(deployment, ()))


def test_the_order_of_kinds_does_not_matter():
    deployment = plan(example(0), load_profile("spinnaker-converted"))
    for kinds in (KINDS, ("leak", "delay", "state precision", "rate coding")):
        assert signature(departed(deployment, kinds)) == signature(departed(deployment, kinds[::-1]))


def test_signatures_tell_weights_apart():
    deployment = plan(example(0), load_profile("pynn-nest"))
    dynamics = departed(deployment, KINDS)
    first = dynamics.layers[0]
    other = dynamics.with_layer(0, replace(first, weights=first.weights + 1e-12))
    assert signature(other) != signature(dynamics)
    assert signature(dynamics.with_layer(0, replace(first, weights=first.weights.copy()))) == signature(dynamics)


@pytest.mark.parametrize("model", ["IF_curr_delta", "IFTruncDelta"])
def test_copies_and_slowdown_are_rate_coding(model):
    profile = load_profile("spinnaker-ifcurdelta", {"model": model, "copies": 4, "slowdown": 2.0})
    deployment = plan(example(0), profile)
    assert departed(deployment, [kind for kind in KINDS if kind != "rate coding"]).copies == (1, 1, 1)
    with_it = departed(deployment, ["rate coding"])
    assert with_it.copies == (4, 4, 1)
    assert with_it.output_scale == 4.0
    assert [layer.size for layer in with_it.layers] == [24, 20, 3]


def test_potentials_of_a_truncating_model_are_in_units_of_its_threshold():
    network = Network(example(0).layers, 20, Neuron(threshold=0.5))
    deployment = plan(network, load_profile("spinnaker-ifcurdelta", {"model": "IFTruncDelta", "v_thresh": 0.8}))
    plain, reached = departed(deployment, ()), departed(deployment, ("threshold",))
    np.testing.assert_allclose(plain.layers[0].weights, network.layers[0].weights / 0.4)
    np.testing.assert_allclose(plain.layers[0].threshold, 1.25)
    np.testing.assert_allclose(plain.layers[0].taken, 1.25)
    np.testing.assert_allclose(reached.layers[0].threshold, 1.0)
    np.testing.assert_array_equal(plain.layers[-1].weights, network.layers[-1].weights)
    np.testing.assert_array_equal(plain.layers[-1].threshold, NEVER)


def test_the_outputs_of_a_truncating_model_leak_and_have_no_floor():
    profile = load_profile("spinnaker-ifcurdelta", {"model": "IFTruncDelta", "tau_m": 20.0})
    dynamics = departed(plan(example(0), profile), ("leak", "floor", "reset"))
    assert (dynamics.gain, dynamics.decay, dynamics.floor) == (1.0, 1.0, 0.0)
    assert dynamics.layers[0].membrane is None
    outputs = dynamics.layers[-1].membrane
    assert outputs.floor == -np.inf
    assert outputs.decay == pytest.approx(np.exp(-1 / 20))
    counting = plan(example(0, decoder=Decoder("spike_count"), encoder=Encoder("equidistant")), profile)
    assert departed(counting, ("leak", "floor")).layers[-1].membrane is None

"""Which deployments have a twin, and what says that a network was trained under it."""

from dataclasses import replace

import pytest
from spikeloop.deploy import backend as registry
from spikeloop.deploy.conformance import example
from spikeloop.deploy.mapping import plan
from spikeloop.deploy.nest import NestBackend
from spikeloop.deploy.point_neuron import PointNeuronSession
from spikeloop.deploy.reference import ReferenceBackend, ReferenceSession
from spikeloop.deploy.twin import trained_for, training_facts, twin_of
from spikeloop.hardware_profiles import load_profile


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("reference", ReferenceSession),
        ("nest-exact", ReferenceSession),
        ("nest-iaf_psc_delta", PointNeuronSession),
        ("nest-pp_psc_delta", type(None)),
    ],
)
def test_profiles(name, kind):
    assert type(twin_of(plan(example(), load_profile(name)))) is kind


def test_a_backend_without_the_method_has_none(monkeypatch):
    class Foreign(ReferenceBackend):
        pass

    monkeypatch.setattr("spikeloop.deploy.twin.backend", lambda name: Foreign())
    deployment = plan(example(), load_profile("reference"))
    assert isinstance(Foreign(), registry.Backend)
    assert twin_of(replace(deployment, exact=False)) is None
    assert isinstance(NestBackend(), registry.Twinned)


def test_trained_for_a_profile_and_its_settings():
    profile = load_profile("nest-iaf_psc_delta", {"t_ref": 1.0})
    network = replace(example(), provenance={"trained_for": training_facts(profile)})
    assert trained_for(network, profile)
    assert trained_for(network, load_profile("nest-iaf_psc_delta", {"t_ref": "1.0", "max_neurons": 1000}))
    assert not trained_for(network, load_profile("nest-iaf_psc_delta"))
    assert not trained_for(network, profile.model_copy(update={"name": "another"}))
    assert not trained_for(example(), profile)
    assert trained_for(network, profile.model_copy(update={"summary": "in other words"}))
    assert not trained_for(network, profile.model_copy(update={"target": "another"}))
    assert training_facts(load_profile("nest-exact"))["settings"] == {}

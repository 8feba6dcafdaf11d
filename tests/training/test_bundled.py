"""The bundled agents are as good as their headers say. Needs no torch."""

import pytest
from spikeloop.deploy.twin import trained_for
from spikeloop.hardware_profiles import load_profile
from spikeloop.models import bundled, load
from spikeloop.runtime import launch
from spikeloop.training.evaluation import run_episodes

# By name: environment, least mean return, least return, and where it plays.
BARS = {
    "cartpole": ("CartPole-v1", 475.0, 475.0, "reference"),
    "cartpole-spinnaker": ("CartPole-v1", 475.0, 475.0, "spinnaker-twin"),
    "mountaincar": ("MountainCar-v0", -105.0, -130.0, "reference"),
    "mountaincar-spinnaker": ("MountainCar-v0", -105.0, -130.0, "spinnaker-twin"),
}


def test_none_is_left_out():
    assert set(BARS) == set(bundled())


@pytest.mark.parametrize("name", BARS)
def test_header_is_reproduced(name):
    network = load(name)
    stated = network.provenance["evaluation"]
    env, mean, least, where = BARS[name]
    assert trained_for(network, load_profile(where))
    assert network.name == name
    assert (stated["env"], stated["episodes"], stated["first_seed"]) == (env, 100, 10_000)
    assert stated["mean_return"] == pytest.approx(sum(stated["returns"]) / 100)
    assert stated["mean_return"] >= mean
    assert stated["min_return"] == min(stated["returns"]) >= least
    with launch(network, where) as agent:
        ran = run_episodes(env, agent.act, 10, stated["first_seed"])
    assert ran.returns.tolist() == stated["returns"][:10]

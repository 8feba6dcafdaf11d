"""The bundled agents are as good as their headers say. Needs no torch."""

from functools import partial

import pytest
from spikeloop.models import load
from spikeloop.training.evaluation import actions, run_episodes

BARS = {"cartpole": ("CartPole-v1", 475.0, 475.0), "mountaincar": ("MountainCar-v0", -105.0, -130.0)}


@pytest.mark.parametrize("name", BARS)
def test_header_is_reproduced(name):
    network = load(name)
    stated = network.provenance["evaluation"]
    env, mean, least = BARS[name]
    assert network.name == name
    assert (stated["env"], stated["episodes"], stated["first_seed"]) == (env, 100, 10_000)
    assert stated["mean_return"] == pytest.approx(sum(stated["returns"]) / 100)
    assert stated["mean_return"] >= mean
    assert stated["min_return"] == min(stated["returns"]) >= least
    ran = run_episodes(env, partial(actions, network), 10, stated["first_seed"])
    assert ran.returns.tolist() == stated["returns"][:10]

"""Free-running episodes side by side: to the same result as one by one."""

from functools import partial

import numpy as np
import pytest
from spikeloop.bridges import free_runs as module
from spikeloop.bridges.environments import environment_for
from spikeloop.bridges.free_runs import free_runs
from spikeloop.errors import EnvironmentMismatchError
from spikeloop.hardware_profiles import load_profile
from spikeloop.runtime.fidelity.free_running import free_running
from spikeloop.runtime.fidelity.large import Case

NOTHING = np.zeros((0, 4))


@pytest.fixture
def cases(make_network):
    network = make_network(steps=20, seed=8)
    return [Case(network, load_profile(name), NOTHING, seed=3) for name in ("nest-exact", "nest-iaf_psc_delta")]


def test_side_by_side_is_as_one_by_one_and_kept(cases, tmp_path, monkeypatch):
    found = free_runs(cases, "CartPole-v1", 3, jobs=2, folder=tmp_path)
    for case, ours in zip(cases, found, strict=True):
        make = partial(environment_for, "CartPole-v1", case.network)
        assert ours == free_running(make, case.network, case.profile, episodes=3, seed=case.seed)
    exact, coarse = found
    assert exact.target == coarse.reference, "the same network from the same seeds"
    assert exact.first_parting == (None,) * 3
    assert coarse.agreement.share < 1.0, "or they could not be told apart"

    def never(*_, **__):
        raise AssertionError("it was done before")

    monkeypatch.setattr(module, "free_running", never)
    assert free_runs(cases, "CartPole-v1", 3, folder=tmp_path) == found
    with pytest.raises(AssertionError, match="done before"):
        free_runs(cases, "CartPole-v1", 4, folder=tmp_path)


def test_an_environment_that_does_not_fit_is_refused(cases):
    with pytest.raises(EnvironmentMismatchError, match="MountainCar-v0"):
        free_runs(cases, "MountainCar-v0", 1)

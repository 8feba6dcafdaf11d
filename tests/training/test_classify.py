"""Classifiers of a teacher's decisions."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from spikeloop.errors import InvalidInputError  # noqa: E402
from spikeloop.models import load  # noqa: E402
from spikeloop.training import classify  # noqa: E402
from spikeloop.training.evaluation import actions  # noqa: E402
from spikeloop.training.policy import load_policy  # noqa: E402


@pytest.fixture
def states(tmp_path):
    path = tmp_path / "states.npz"
    np.savez(path, observations=np.random.default_rng(0).normal(0.0, 0.2, (2000, 4)))
    return path


@pytest.mark.parametrize("spiking", [False, True], ids=["conventional", "spiking"])
def test_it_learns_the_teachers_decisions(spiking, states, tmp_path):
    settings = classify.Settings(
        teacher="cartpole",
        states=states,
        output=tmp_path / "run",
        spiking=spiking,
        updates=3000,
        learning_rate=0.003,
        log_every=500,
    )
    summary = classify.train(settings)
    unseen = np.random.default_rng(9).normal(0.0, 0.2, (1000, 4))
    teacher = actions(load("cartpole"), unseen)
    if spiking:
        network = load(tmp_path / "run" / "best.spk")
        assert network.sizes == (17, 17, 2)
        learnt = actions(network, unseen)
    else:
        learnt = load_policy(tmp_path / "run" / "best.pt").actions(unseen)
    assert 0.4 < teacher.mean() < 0.6
    assert (learnt == teacher).mean() > 0.93
    assert summary["validation_accuracy"] == pytest.approx((learnt == teacher).mean(), abs=0.05)


def test_what_it_refuses(states, tmp_path):
    def run(*given):
        classify.main(["-o", str(tmp_path / "run"), *given])

    with pytest.raises(InvalidInputError, match="needs --teacher"):
        run("--states", str(states))
    with pytest.raises(InvalidInputError, match="needs --teacher"):
        run("--teacher", "cartpole")
    with pytest.raises(InvalidInputError, match=r"States of shape \(2000, 4\) were given; the policy needs \[n, 2\]"):
        run("--teacher", "mountaincar", "--states", str(states))
    empty = tmp_path / "empty.npz"
    np.savez(empty, observations=np.zeros((0, 4)))
    with pytest.raises(InvalidInputError, match="No states were given"):
        run("--teacher", "cartpole", "--states", str(empty))
    with pytest.raises(InvalidInputError, match=r"threshold is 7\.0; it has no effect without --spiking"):
        run("--teacher", "cartpole", "--states", str(states), "--threshold", "7")
    np.save(tmp_path / "scalar.npy", np.float64(3.0))
    with pytest.raises(InvalidInputError, match="States of shape"):
        run("--teacher", "cartpole", "--states", str(tmp_path / "scalar.npy"))
    assert not (tmp_path / "run").exists()

"""The network that a spiking one came from: it decides as it does itself, one by one and in batches."""

import numpy as np
import pytest
import torch
from spikeloop.bridges.environments import GymnasiumEnvironment
from spikeloop.cli.origin import open_origin
from spikeloop.errors import InvalidInputError, UnknownNameError
from spikeloop.models import Encoder, save
from spikeloop.runtime import launch
from spikeloop.runtime.fidelity.free_running import free_running

STATES = np.random.default_rng(0).normal(size=(50, 4))


@pytest.fixture
def linear(tmp_path):
    torch.manual_seed(1)
    module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    torch.save(module.state_dict(), tmp_path / "linear.pt")
    return str(tmp_path / "linear.pt"), module


def test_a_conventional_network(linear):
    file, module = linear
    with torch.no_grad():
        expected = module(torch.from_numpy(STATES).float()).argmax(dim=1).numpy()
    assert 0 < expected.sum() < 50
    name, origin = open_origin(file, 4, 2)
    assert name == "linear"
    assert np.array_equal(origin.decide(STATES).action, expected)
    assert [origin.decide(state).action for state in STATES] == expected.tolist()
    assert isinstance(origin.decide(STATES[0]).action, int)
    assert origin.decide(STATES).output.shape == (50, 0)
    origin.close()


def test_random_encodings_are_those_of_the_agent(tmp_path, make_network):
    network = make_network(encoder=Encoder("poisson", two_neurons=True), name="poisson")
    save(network, tmp_path / "poisson.spk")
    _, origin = open_origin(str(tmp_path / "poisson.spk"), 4, 2)
    with launch(network) as agent:
        for seed in (3, 4):
            agent.reset(seed=seed)
            origin.reset(seed=seed)
            assert np.array_equal(origin.decide(STATES).action, agent.decide(STATES).action)
            assert [origin.decide(one).action for one in STATES] == [agent.decide(one).action for one in STATES]
    origin.close()


def test_it_looks_on_while_the_target_drives(linear, make_network):
    file, _ = linear
    _, origin = open_origin(file, 4, 2)
    network = make_network(seed=8)
    found = free_running(
        lambda: GymnasiumEnvironment("CartPole-v1", max_episode_steps=30), network, "nest-exact", episodes=2,
        origin=origin,
    )  # fmt: skip
    origin.reset(seed=0)
    assert origin.decide(STATES).action.shape == (50,), "it is still open"
    assert 0 < found.origin.agreed < found.origin.of == found.agreement.of
    origin.close()


def test_refusals(linear):
    file, _ = linear
    with pytest.raises(InvalidInputError, match="reads 4 values and decides between 2 actions, the agent reads 2"):
        open_origin(file, 2, 3)
    with pytest.raises(UnknownNameError, match=r"missing\.pt"):
        open_origin("missing.pt", 4, 2)
    _, origin = open_origin(file, 4, 2)
    with pytest.raises(InvalidInputError, match=r"shape \(3,\) was given"):
        origin.decide(np.zeros(3))
    with pytest.raises(InvalidInputError, match="NaN or infinite"):
        origin.decide(np.full(4, np.nan))
    origin.close()

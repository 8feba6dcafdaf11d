"""Target and reference each driving: where they part, and what it does to the returns."""

import numpy as np
import pytest
from spikeloop.bridges.environments import GymnasiumEnvironment
from spikeloop.deploy.twin import training_facts
from spikeloop.hardware_profiles import load_profile
from spikeloop.runtime import launch, run_episodes
from spikeloop.runtime.decision import Decision, Timings
from spikeloop.runtime.fidelity.free_running import first_parting, free_running
from spikeloop.runtime.fidelity.intervals import interval, wilson

DEPARTING = "nest-iaf_psc_delta"


def make(steps=60):
    return lambda: GymnasiumEnvironment("CartPole-v1", max_episode_steps=steps)


class Listed:
    """Decides as an agent does, and keeps what it decided."""

    def __init__(self, agent):
        self.agent, self.episodes = agent, []

    def reset(self, *, seed=None):
        self.agent.reset(seed=seed)
        self.episodes.append([])

    def decide(self, observation, *, spikes=False):
        decision = self.agent.decide(observation)
        self.episodes[-1].append(int(decision.action))
        return decision


def driven(network, profile, episodes, seed):
    with launch(network, profile) as agent, make()() as environment:
        listed = Listed(agent)
        return listed.episodes, run_episodes(environment, listed, episodes=episodes, seed=seed).returns


def test_an_exact_target_never_parts():
    done = []
    found = free_running(make(), "cartpole", "nest-exact", episodes=2, seed=3, on_progress=done.append)
    assert (found.env, found.episodes, found.seed) == ("CartPole-v1", 2, 3)
    assert (found.agreement.agreed, found.agreement.of, found.agreement.share) == (120, 120, 1.0)
    assert found.first_parting == (None, None)
    assert found.target == found.reference
    assert found.target.each == (60.0, 60.0)
    assert found.origin is None
    assert done == [1, 2, 3, 4]


def test_a_departing_target_parts_where_its_own_actions_say(make_network):
    network = make_network(seed=8)
    found = free_running(make(), network, DEPARTING, episodes=3, seed=3)
    target, returns = driven(network, DEPARTING, 3, 3)
    alone, expected_returns = driven(network, "reference", 3, 3)
    assert found.target.each == tuple(returns)
    assert found.reference.each == tuple(expected_returns)
    assert returns[0] != expected_returns[0]
    assert found.target.interval == interval(np.array(returns))
    assert found.target.mean == np.mean(returns)
    assert [where is None for where in found.first_parting] == [a == b for a, b in zip(target, alone, strict=True)]
    for where, one, other in zip(found.first_parting, target, alone, strict=True):
        assert one[:where] == other[:where]
        assert where is None or one[where] != other[where]
    assert None in found.first_parting
    assert found.first_parting[0] is not None
    agreement = found.agreement
    assert 0 < agreement.agreed < agreement.of == sum(map(len, target))
    assert agreement.interval == wilson(agreement.agreed, agreement.of)


def test_the_origin_looks_on_and_stays_open():
    class Left:
        seeds, closed = [], False

        def reset(self, *, seed=None):
            self.seeds.append(seed)

        def decide(self, observation, *, spikes=False):
            return Decision(np.array([0]), np.zeros((1, 2)), Timings())

        def close(self):
            self.closed = True

    origin = Left()
    found = free_running(make(), "cartpole", "reference", episodes=2, seed=8, origin=origin)
    actions, _ = driven("cartpole", "reference", 2, 8)
    pushed_left = sum(action == 0 for episode in actions for action in episode)
    assert (found.origin.agreed, found.origin.of) == (pushed_left, 120)
    assert (origin.seeds, origin.closed) == ([8, 9], False)


def test_an_agent_trained_for_a_profile_is_compared_with_its_twin(make_network):
    trained = {"trained_for": training_facts(load_profile(DEPARTING, {"t_ref": 0.5}))}
    network = make_network(seed=8, provenance=trained)
    found = free_running(make(), network, DEPARTING, episodes=1, seed=3, settings={"t_ref": 0.5})
    assert (found.agreement.share, found.first_parting) == (1.0, (None,))
    other = free_running(make(), network, DEPARTING, episodes=1, seed=3, settings={"t_ref": 0.5}, against="reference")
    assert other.agreement.share < 1.0
    assert other.target == found.target
    assert found.target.interval is None


@pytest.mark.parametrize(
    ("ours", "theirs", "where"), [([1, 0], [1, 0], None), ([1, 0], [1, 1], 1), ([1], [1, 1], 1), ([0], [1], 0)]
)
def test_first_parting(ours, theirs, where):
    assert first_parting(ours, theirs) == where

"""Where observations come from: files, traces, episodes."""

import numpy as np
import pytest
from spikeloop.bridges.environments import GymnasiumEnvironment
from spikeloop.errors import InvalidInputError, SpikeloopError, TraceError
from spikeloop.models import load
from spikeloop.runtime import Trace, TraceWriter, launch, run_episodes
from spikeloop.runtime.fidelity import observations as module
from spikeloop.runtime.fidelity.observations import evenly_spaced, observations_of


@pytest.fixture(scope="module")
def cartpole():
    return load("cartpole")


@pytest.fixture(scope="module")
def trace(tmp_path_factory, cartpole):
    path = tmp_path_factory.mktemp("trace") / "run.db"
    with (
        launch(cartpole) as agent,
        GymnasiumEnvironment("CartPole-v1", max_episode_steps=25) as environment,
        TraceWriter(path, {}) as writer,
    ):
        run_episodes(environment, agent, episodes=3, seed=4, trace=writer)
    return path


def test_picks_are_evenly_spaced_with_both_ends():
    assert evenly_spaced(5, 9).tolist() == [0, 1, 2, 3, 4]
    assert evenly_spaced(101, 5).tolist() == [0, 25, 50, 75, 100]
    assert evenly_spaced(7, 1).tolist() == [0]
    for n, most in [(8713, 1000), (1001, 1000), (3, 2), (10**6, 7)]:
        picks = evenly_spaced(n, most)
        assert (len(picks), picks[0], picks[-1]) == (most, 0, n - 1)
        assert np.ptp(np.diff(picks)) <= 1


def test_a_file(tmp_path, cartpole):
    values = np.random.default_rng(0).normal(size=(2500, 4))
    np.savez(tmp_path / "states.npz", observations=values, actions=np.zeros(2500))
    found = observations_of(tmp_path / "states.npz", cartpole)
    assert found.source == f"1,000 of 2,500 observations of {tmp_path / 'states.npz'}"
    assert np.array_equal(found.values, values[evenly_spaced(2500, 1000)])
    found = observations_of(str(tmp_path / "states.npz"), cartpole, most=2500)
    assert found.source.startswith("2,500 observations of ")
    np.save(tmp_path / "one.npy", values[0])
    assert observations_of(tmp_path / "one.npy", cartpole).values.tolist() == [values[0].tolist()]


def test_a_trace(trace, cartpole):
    rows = np.array([row.observation for row in Trace(trace).decisions()])
    found = observations_of(trace, cartpole)
    assert np.array_equal(found.values, rows)
    assert found.source == f"75 decisions of 3 episodes in {trace}"
    found = observations_of(trace, cartpole, most=10)
    assert np.array_equal(found.values, rows[evenly_spaced(75, 10)])
    assert found.source == f"10 of 75 decisions of 3 episodes in {trace}"


def make(name):
    return GymnasiumEnvironment(name, max_episode_steps=25)


def test_episodes_are_those_of_the_trained_agent(trace, cartpole):
    rows = np.array([row.observation for row in Trace(trace).decisions()])
    done = []
    found = observations_of("CartPole-v1:3", cartpole, seed=4, make_environment=make, on_progress=done.append)
    assert np.array_equal(found.values, rows)
    assert found.source == "75 decisions of 3 episodes of CartPole-v1, seeds 4 to 6"
    assert done == [1, 2, 3]
    found = observations_of("CartPole-v1:1", cartpole, seed=4, most=7, make_environment=make)
    assert np.array_equal(found.values, rows[:25][evenly_spaced(25, 7)])
    assert found.source == "7 of 25 decisions of 1 episode of CartPole-v1, seed 4"


def test_whoever_is_given_plays_and_both_are_closed(cartpole):
    closed = []

    class Pushes:
        def reset(self, *, seed=None):
            pass

        def decide(self, observation, *, spikes=False):
            with launch(cartpole) as agent:
                decision = agent.decide(observation)
            return type(decision)(0, decision.output, decision.timings)

        def close(self):
            closed.append("player")

    class Closes(GymnasiumEnvironment):
        def close(self):
            closed.append(self.name)
            super().close()

    found = observations_of("CartPole-v1:1", cartpole, make_environment=Closes, player=Pushes)
    assert closed == ["player", "CartPole-v1"]
    assert len(found) < 15
    assert (np.diff(found.values[:, 1]) < 0).all(), "the cart is always pushed to the left"


def test_of_long_episodes_not_all_states_are_held(monkeypatch, cartpole):
    monkeypatch.setattr(module, "MOST_VALUES", 4)
    everything = observations_of("CartPole-v1:3", cartpole, most=10**6, make_environment=make).values
    held = []
    monkeypatch.setattr(
        module._Kept,
        "add",
        lambda kept, state, add=module._Kept.add: (add(kept, state), held.append(len(kept._values))),
    )
    found = observations_of("CartPole-v1:3", cartpole, most=5, make_environment=make)
    assert max(held) <= 10 < len(everything) == len(held)
    where = [int(np.flatnonzero((everything == one).all(axis=1))[0]) for one in found.values]
    assert (where[0], where[-1], len(where)) == (0, len(everything) - 1, 5)
    assert np.ptp(np.diff(where)) <= 16  # two strides
    assert found.source.startswith("5 of 75 decisions")


def test_names_of_environments_may_hold_colons_and_slashes(cartpole):
    names = []

    def refuse(name):
        names.append(name)
        raise SpikeloopError("not here")

    for name in ("module:Env-v0", "spikeloop/Pong-v5", "a:1"):
        with pytest.raises(SpikeloopError, match="not here"):
            observations_of(f"{name}:20", cartpole, make_environment=refuse)
    assert names == ["module:Env-v0", "spikeloop/Pong-v5", "a:1"]


@pytest.mark.parametrize("source", ["missing.npz", "CartPole-v1", ":5", "CartPole-v1:-1", "CartPole-v1:", ""])
def test_what_is_none_of_the_three_is_told_what_they_are(source, cartpole, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(InvalidInputError) as refused:
        observations_of(source, cartpole, make_environment=make)
    if source:  # "" is the current folder to NumPy
        for form in (".npy or .npz", "trace", "ENV:EPISODES such as CartPole-v1:20"):
            assert form in str(refused.value)


def test_refusals(tmp_path, trace, cartpole):
    np.save(tmp_path / "wide.npy", np.zeros((3, 5)))
    np.save(tmp_path / "none.npy", np.zeros((0, 4)))
    with pytest.raises(InvalidInputError, match=r"wide\.npy holds observations of shape \(3, 5\).*needs \[n, 4\]"):
        observations_of(tmp_path / "wide.npy", cartpole)
    with pytest.raises(InvalidInputError, match=r"none\.npy holds no observations"):
        observations_of(tmp_path / "none.npy", cartpole)
    with pytest.raises(InvalidInputError, match=r"run\.db holds observations of shape \(1, 4\).*needs \[n, 2\]"):
        observations_of(trace, load("mountaincar"))
    with TraceWriter(tmp_path / "empty.db", {}):
        pass
    with pytest.raises(InvalidInputError, match="a trace without decisions"):
        observations_of(tmp_path / "empty.db", cartpole)
    (tmp_path / "foreign.db").write_bytes(b"SQLite format 3\x00" + bytes(84))
    with pytest.raises(TraceError):
        observations_of(tmp_path / "foreign.db", cartpole)
    with pytest.raises(InvalidInputError, match="at least 1 episode is needed: CartPole-v1:1"):
        observations_of("CartPole-v1:0", cartpole, make_environment=make)
    with pytest.raises(InvalidInputError, match="make_environment is needed"):
        observations_of("CartPole-v1:1", cartpole)
    with pytest.raises(InvalidInputError, match="most is 0"):
        observations_of(trace, cartpole, most=0)

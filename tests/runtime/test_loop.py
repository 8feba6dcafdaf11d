"""The closed loop, in lock-step and paced, on environments whose every step is known."""

import time
from dataclasses import replace

import numpy as np
import pytest
from spikeloop.bridges.client import RemoteAgent
from spikeloop.bridges.host_process import HostProcess
from spikeloop.deploy.conformance import example
from spikeloop.errors import InvalidInputError
from spikeloop.models import Dense, Encoder
from spikeloop.runtime import MissPolicy, Pace, Trace, TraceWriter, launch, run_episodes
from spikeloop.runtime.decision import Decision, Timings


class Line:
    """Walks a fixed list of observations; ends as told. Counts what it is asked."""

    def __init__(self, length, terminates=True):
        self.length, self.terminates = length, terminates
        self.seeds, self.actions = [], []

    def reset(self, *, seed=None):
        self.seeds.append(seed)
        self._t, self._rng = 0, np.random.default_rng(seed)
        return self._rng.normal(size=3), {}

    def step(self, action):
        self.actions.append(action)
        self._t += 1
        over = self._t == self.length
        return self._rng.normal(size=3), 2.0, over and self.terminates, over and not self.terminates, {}


@pytest.mark.parametrize(("terminates", "outcome"), [(True, "terminated"), (False, "truncated")])
def test_episodes_are_counted_and_seeded(terminates, outcome):
    environment = Line(7, terminates)
    with launch(example(0)) as agent, launch(example(0)) as reference:
        result = run_episodes(environment, agent, episodes=3, seed=10, reference=reference)
    assert environment.seeds == [10, 11, 12]
    assert [e.outcome for e in result.episodes] == [outcome] * 3
    assert result.returns == [14.0] * 3
    assert (result.decisions, result.compared, result.agreed, result.agreement) == (21, 21, 21, 1.0)
    medians = result.stage_medians_us()
    assert medians["wall_us"] >= medians["run_us"] > 0


def test_disagreement_is_counted():
    class Contrary:
        def reset(self, *, seed=None):
            pass

        def decide(self, observation, *, spikes=False):
            with launch(example(0)) as agent:
                action = (agent.act(observation) + 1) % 3
            return Decision(action, np.zeros(3), Timings())

    with launch(example(0)) as reference:
        result = run_episodes(Line(5), Contrary(), episodes=1, reference=reference)
    assert (result.compared, result.agreed, result.agreement) == (5, 0, 0.0)


def test_the_trace_holds_the_run(tmp_path):
    environment = Line(6, terminates=False)
    with launch(example(1)) as agent, TraceWriter(tmp_path / "run.db", {}) as trace:
        run_episodes(environment, agent, episodes=2, seed=3, trace=trace, spikes=True)
    rows = list(Trace(tmp_path / "run.db").decisions())
    assert [row.action for row in rows] == environment.actions
    assert [row.reward for row in rows] == [2.0] * 12
    assert [row.truncated for row in rows] == ([False] * 5 + [True]) * 2
    assert not any(row.terminated for row in rows)
    assert all(row.spike_events is not None for row in rows)
    assert [e["outcome"] for e in Trace(tmp_path / "run.db").episodes()] == ["truncated"] * 2


def test_an_error_leaves_the_finished_decisions_in_the_trace(tmp_path):
    class Breaks(Line):
        def step(self, action):
            if self._t == 3:
                raise RuntimeError("the robot fell over")
            return super().step(action)

    with (
        launch(example(1)) as agent,
        pytest.raises(RuntimeError, match="fell over"),
        TraceWriter(tmp_path / "run.db", {}) as trace,
    ):
        run_episodes(Breaks(10), agent, episodes=1, trace=trace)
    trace = Trace(tmp_path / "run.db")
    assert len(trace) == 4
    assert trace.episodes()[0] | {"seed": 0} == {
        "episode": 0, "seed": 0, "return": 6.0, "length": 3, "outcome": "interrupted",
    }  # fmt: skip


class Slow:
    """A paced decider that answers each request after the next of `delays`, with the action that it was asked for."""

    def __init__(self, delays):
        self._delays = iter(delays)
        self.outstanding, self.asked = False, []

    def reset(self, *, seed=None):
        assert not self.outstanding, "an episode cannot begin while a decision is under way"

    def submit(self, observation, *, spikes=False):
        assert not self.outstanding, "at most one decision is under way"
        self.outstanding, self._due = True, time.perf_counter() + next(self._delays)
        self.asked.append(float(observation[0]))

    def poll(self, timeout_s):
        left = self._due - time.perf_counter()
        time.sleep(max(0.0, min(left, timeout_s)))
        if left > timeout_s:
            return None
        self.outstanding = False
        return Decision(len(self.asked), np.zeros(3), Timings())


def test_a_late_decision_is_missed_and_its_answer_thrown_away():
    pace = Pace(window_s=0.05, slack_s=0.05)
    environment = Line(6)
    # The third takes 2.5 periods: ticks 3, 4 and 5 are missed; the observation of tick 6 is asked for as the 4th.
    decider = Slow([0.0, 0.0, 0.25, 0.0, 0.0, 0.0])
    started = time.perf_counter()
    result = run_episodes(environment, decider, episodes=1, pace=pace)
    assert time.perf_counter() - started >= 6 * pace.period_s
    assert environment.actions[:4] == [1, 2, 2, 2]
    assert result.missed == environment.actions.count(2) - 1
    assert result.missed in (2, 3)  # the answer may come just before or after the tick's submission
    assert environment.actions[-1] == len(decider.asked)
    assert len(result.timings) == 6 - result.missed


def test_random_encodings_stay_in_step_when_decisions_are_missed():
    network = example(0, encoder=Encoder("poisson", two_neurons=True))

    class SometimesLate:
        """The reference, whose every third answer comes a period and a half late."""

        outstanding = False

        def __init__(self, agent):
            self._agent, self._asked = agent, 0

        def reset(self, *, seed=None):
            self._agent.reset(seed=seed)

        def submit(self, observation, *, spikes=False):
            self._asked += 1
            self._decision, self.outstanding = self._agent.decide(observation), True
            self._due = time.perf_counter() + (0.06 if self._asked % 3 == 0 else 0.0)

        def poll(self, timeout_s):
            left = self._due - time.perf_counter()
            time.sleep(max(0.0, min(left, timeout_s)))
            if left > timeout_s:
                return None
            self.outstanding = False
            return self._decision

    with launch(network) as agent, launch(network) as reference:
        result = run_episodes(Line(30), SometimesLate(agent), episodes=1, reference=reference, pace=Pace(0.02, 0.02))
    assert result.missed >= 5
    assert result.compared > 10
    assert result.agreement == 1.0


def test_an_answer_after_the_deadline_is_missed_with_a_real_host():
    network = example(0)
    with (
        HostProcess(network, "reference", pace_scale=1e-6) as host,
        RemoteAgent(host.address) as remote,
    ):
        result = run_episodes(Line(200), remote, episodes=1, pace=Pace(1e-5, 0.0))
    assert result.missed > 0.9 * result.decisions  # 10 us are not enough for anybody


def test_a_decision_late_at_the_end_does_not_reach_the_next_episode():
    environment = Line(3)
    decider = Slow([0.0, 0.0, 0.15, 0.0, 0.0, 0.0])
    result = run_episodes(environment, decider, episodes=2, pace=Pace(0.02, 0.02))
    assert environment.actions == [1, 2, 2, 4, 5, 6]
    assert [episode.missed for episode in result.episodes] == [1, 0]


@pytest.mark.parametrize(("policy", "actions"), [("hold", [0, 0, 0]), ("safe:2", [2, 2, 2])])
def test_before_the_first_decision_the_policy_has_an_action(policy, actions):
    environment = Line(3)
    pace = Pace(0.01, 0.01, MissPolicy.parse(policy))
    result = run_episodes(environment, Slow([10.0]), episodes=1, pace=pace)
    assert environment.actions == actions
    assert (result.missed, result.decisions) == (3, 3)


@pytest.mark.parametrize("text", ["", "safe", "safe:", "safe:-1", "safe:x", "wait"])
def test_bad_miss_policies(text):
    with pytest.raises(InvalidInputError, match="'hold' or 'safe:ACTION'"):
        MissPolicy.parse(text)


def test_a_shadow_is_compared_spike_by_spike(tmp_path):
    """Two networks that act alike: the second fires otherwise, because its hidden weights are smaller."""
    network = example(0)
    first = network.layers[0]
    other = replace(network, layers=(Dense(0.9 * first.weights, first.bias), *network.layers[1:]))
    with launch(network) as agent, launch(other) as shadow, TraceWriter(tmp_path / "run.db", {}) as trace:
        parted = run_episodes(Line(5), agent, episodes=2, reference=shadow, shadow=True, trace=trace)
        same = run_episodes(Line(5), agent, episodes=1, reference=agent, shadow=True)
    assert parted.parted == sum(episode.parted for episode in parted.episodes) > 0
    assert same.parted == 0
    rows = list(Trace(tmp_path / "run.db").decisions())
    assert sum(row.divergence is not None for row in rows) == parted.parted
    place = next(row.divergence for row in rows if row.divergence is not None)
    assert place.fired != place.expected
    assert parted.cpu_us > 0
    assert parted.exchange is None

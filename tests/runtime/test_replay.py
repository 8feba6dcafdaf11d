"""A recorded episode again: the same to the bit, or it is said where and why not."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace as changed
from pathlib import Path

import numpy as np
import pytest
from spikeloop.bridges.environments import GymnasiumEnvironment
from spikeloop.errors import InvalidInputError, TraceError
from spikeloop.hardware_profiles import load_profile
from spikeloop.models import Encoder, bundled, load, save
from spikeloop.runtime import Trace, TraceWriter, launch, run_episodes
from spikeloop.runtime.replay import recorded_network, replay

STEPS = 25


def make(steps=STEPS):
    return GymnasiumEnvironment("CartPole-v1", max_episode_steps=steps)


def record(path, network, profile, *, episodes=2, seed=5, spikes=False, settings=None, **meta):
    """What `spikeloop run --trace` writes."""
    profile = load_profile(profile, settings)
    facts = {
        "agent": network.name,
        "network_hash": network.content_hash,
        "profile": profile.name,
        "environment": "CartPole-v1",
        "seed": seed,
        "mode": "lock-step",
        "settings": profile.model_dump(),
        "versions": {"spikeloop": "0.1.0"},
    }
    facts = {key: value for key, value in {**facts, **meta}.items() if value is not None}
    with (
        make() as environment,
        launch(network, profile, seed=seed) as agent,
        launch(network, "reference", seed=seed) as reference,
        TraceWriter(path, facts) as trace,
    ):
        run_episodes(environment, agent, episodes=episodes, seed=seed, reference=reference, trace=trace, spikes=spikes)
    return path


def change(path, *statements):
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement, *values in statements:
            db.execute(statement, values)


@pytest.fixture(scope="module")
def cartpole():
    return load("cartpole")


@pytest.mark.parametrize("profile", ["reference", "nest-exact", "nest-iaf_psc_delta"])
@pytest.mark.parametrize("spikes", [False, True])
def test_a_deterministic_target_repeats_itself_to_the_bit(tmp_path, cartpole, profile, spikes):
    path = record(tmp_path / "run.db", cartpole, profile, spikes=spikes)
    done = []
    with make(1000) as environment:
        found = replay(path, 1, environment=environment, on_progress=done.append)
    assert (found.network, found.profile, found.recorded_profile) == ("cartpole", profile, profile)
    assert (found.episode, found.seed, found.outcome, found.mode) == (1, 6, "truncated", "lock-step")
    assert (found.decisions, found.compared, found.equal_actions, found.equal_outputs) == (STEPS,) * 4
    assert (found.compared_spikes, found.equal_spikes) == ((STEPS, STEPS) if spikes else (0, 0))
    assert found.max_abs_dv == 0.0
    assert (found.same, found.broken, found.first_difference) == (True, False, None)
    assert (found.doubts, found.notes) == ((), ())
    world = found.environment
    assert (world.name, world.observations, world.equal_observations) == ("CartPole-v1", STEPS, STEPS)
    assert (world.answers, world.equal_answers, world.first_difference) == (STEPS, STEPS, None)
    assert done == list(range(1, STEPS + 1))
    assert json.loads(json.dumps(found.as_dict()))["same"] is True


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("output", np.array([0.25, 1e-300]).tobytes(), "another output"),
        ("action", 3, "action"),
    ],
)
def test_one_record_that_differs_is_found(tmp_path, cartpole, column, value, told):
    path = record(tmp_path / "run.db", cartpole, "nest-exact")
    change(path, (f"UPDATE decisions SET {column} = ? WHERE episode = 1 AND step = 7", value))
    found = replay(path, 1)
    assert (found.same, found.broken) == (False, True)
    assert found.first_difference.step == 7
    assert told in str(found.first_difference)
    assert (found.equal_actions, found.equal_outputs).count(STEPS - 1) == 1
    assert [one.step for one in found.each if not one.same] == [7]
    assert replay(path, 0).same


def test_a_last_bit_that_differs_is_found(tmp_path, cartpole):
    path = record(tmp_path / "run.db", cartpole, "reference")
    output = next(Trace(path).decisions(0)).output
    change(path, ("UPDATE decisions SET output = ? WHERE id = 0", np.nextafter(output, np.inf).tobytes()))
    found = replay(path, 0)
    assert (found.equal_actions, found.equal_outputs, found.broken) == (STEPS, STEPS - 1, True)
    assert 0 < found.max_abs_dv < 1e-12


def test_a_spike_that_differs_is_found(tmp_path, cartpole):
    path = record(tmp_path / "run.db", cartpole, "reference", spikes=True)
    row = list(Trace(path).decisions(1))[3]
    left_out = row.spike_events[1:]
    layer, neuron, step = row.spike_events[0].tolist()
    change(path, ("UPDATE spikes SET events = ? WHERE decision = ?", left_out.tobytes(), STEPS + 3))
    found = replay(path, 1)
    assert (found.equal_outputs, found.equal_spikes, found.broken) == (STEPS, STEPS - 1, True)
    place = found.first_difference.divergence
    assert (place.layer, place.neuron, place.step, place.fired, place.expected) == (layer, neuron, step, 1, 0)
    assert f"step {step}, layer {layer}, neuron {neuron} fired 1 times, not 0" in str(found.first_difference)


def test_an_environment_that_shows_or_answers_otherwise_is_found(tmp_path, cartpole):
    path = record(tmp_path / "run.db", cartpole, "reference")
    change(path, ("UPDATE decisions SET reward = 2.0 WHERE episode = 0 AND step = 4",))
    with make() as environment:
        found = replay(path, 0, environment=environment)
        assert (found.first_difference, found.same, found.broken) == (None, False, True)
        world = found.environment
        assert (world.equal_observations, world.equal_answers, world.first_difference) == (STEPS, STEPS - 1, 4)
        other_seed = replay(path, 1, environment=environment)
        assert other_seed.same
        change(path, ("UPDATE episodes SET seed = 99 WHERE episode = 1",))
        assert replay(path, 1, environment=environment).environment.equal_observations == 0
        # Pushed to one side only, the pole falls before the recorded episode ends.
        change(path, ("UPDATE decisions SET action = 1 WHERE episode = 0",))
        world = replay(path, 0, environment=environment).environment
    assert world.observations == STEPS
    assert world.equal_observations < 10
    assert world.equal_answers < STEPS - 5


def test_another_profile_shows_what_differs_and_breaks_nothing(tmp_path, cartpole):
    path = record(tmp_path / "run.db", cartpole, "nest-exact", spikes=True)
    found = replay(path, 0, profile="nest-iaf_psc_delta")
    assert (found.profile, found.recorded_profile) == ("nest-iaf_psc_delta", "nest-exact")
    assert found.equal_spikes < STEPS
    assert (found.same, found.broken) == (False, False)
    assert found.first_difference.step == 0
    assert found.doubts[0].startswith("this is another profile")


def test_recorded_settings_are_deployed_and_others_are_doubted(tmp_path, cartpole):
    path = record(tmp_path / "run.db", cartpole, "nest-iaf_psc_delta", settings={"t_ref": 0.5})
    assert replay(path, 0).same
    same = replay(path, 0, profile="nest-iaf_psc_delta", settings={"t_ref": "0.5"})
    assert (same.same, same.doubts) == (True, ())
    other = replay(path, 0, settings={"t_ref": 0.0})
    assert (other.same, other.broken) == (False, False)
    assert other.doubts == ("the settings of 'nest-iaf_psc_delta' are not those that were recorded",)
    # What bears on no decision may be another.
    assert replay(path, 0, settings={"max_neurons": 5000}).doubts == ()


def test_where_spikes_are_lost_at_random_nothing_is_promised(tmp_path):
    network = load("cartpole-spinnaker")
    lossy = {"drop_packets": 0.1}  # the twin, which decides here, loses none
    path = record(tmp_path / "run.db", network, "spinnaker-twin", episodes=1, settings=lossy)
    found = replay(path, 0)
    assert (found.same, found.doubts) == (True, ("10 % of the spikes are lost on their way (drop_packets)",))


@pytest.mark.parametrize("spikes", [False, True])
def test_random_numbers_are_drawn_again_from_the_first_episode_on(tmp_path, cartpole, spikes):
    noisy = {"c_1": 0.0, "c_2": 1000.0}  # fires early or late; as the thesis had it, it fires at once
    path = record(tmp_path / "run.db", cartpole, "nest-pp_psc_delta", spikes=spikes, settings=noisy)
    found = replay(path, 1)
    assert (found.equal_outputs, found.same) == (STEPS, True)
    assert "those of the episodes before were drawn again first" in found.doubts[0]
    # Not where others may have been served in between: then nothing is promised, and it does differ.
    change(path, ("INSERT INTO meta VALUES ('host', '\"tcp://elsewhere:5560\"')",))
    found = replay(path, 1)
    assert (found.same, found.broken) == (False, False)
    assert "cannot be drawn again" in found.doubts[0]


@pytest.fixture
def poisson(make_network):
    return make_network(encoder=Encoder("poisson", two_neurons=True), name="poisson")


def test_random_encodings_go_on_from_the_episodes_seed(tmp_path, poisson):
    path = record(tmp_path / "run.db", poisson, "nest-exact", spikes=True, episodes=3)
    for episode in range(3):
        assert replay(path, episode, network=poisson).same
    change(path, ("UPDATE episodes SET seed = 1 WHERE episode = 2",))
    assert replay(path, 2, network=poisson).broken


# What became of each decision of a paced run: it came; it was asked for and came too late; the network was busy.
CAME, LATE, BUSY = "came", "late", "busy"
PACED = [CAME, LATE, BUSY, BUSY, CAME, BUSY, CAME, LATE, CAME]


def paced(path, network, referenced):
    states = np.random.default_rng(2).normal(size=(len(PACED), 4))
    meta = {"agent": network.name, "network_hash": network.content_hash, "profile": "reference", "seed": 3}
    meta |= {"mode": "paced x 1", "settings": load_profile("reference").model_dump()}
    with launch(network, seed=3) as agent, TraceWriter(path, meta) as trace:
        trace.begin_episode(0, 3)
        agent.reset(seed=3)
        for step, (state, what) in enumerate(zip(states, PACED, strict=True)):
            decision = agent.decide(state) if what != BUSY else None
            expected = None if decision is None or not referenced else int(decision.action)
            action = int(decision.action) if what == CAME else 1
            trace.decided(0, step, state, action, decision if what == CAME else None, expected)
        trace.end_episode(0, 9.0, 9, "truncated")
    return path


def test_late_decisions_used_up_an_encoding_and_those_never_asked_for_did_not(tmp_path, poisson):
    found = replay(paced(tmp_path / "run.db", poisson, referenced=True), 0, network=poisson)
    assert (found.decisions, found.missed, found.compared, found.equal_outputs) == (9, 5, 4, 4)
    assert (found.same, found.doubts) == (True, ())
    assert found.notes == ("5 of 9 decisions came too late: their outputs were not recorded",)
    assert [one.action is None for one in found.each] == [what != CAME for what in PACED]


def test_without_a_reference_nobody_knows_which_were_asked_for(tmp_path, poisson, make_network):
    found = replay(paced(tmp_path / "run.db", poisson, referenced=False), 0, network=poisson)
    assert (found.compared, found.equal_outputs, found.same) == (1, 1, True)
    assert "3 decisions after the first that came too late were left out" in found.notes[1]
    assert "was not compared" in str(found.each[4])
    # Encodings that are not random do not depend on it.
    network = make_network(name="steady")
    found = replay(paced(tmp_path / "steady.db", network, referenced=False), 0, network=network)
    assert (found.compared, found.equal_outputs) == (4, 4)


def test_where_every_decision_came_too_late_the_environment_is_left_to_compare(tmp_path, cartpole):
    path = record(tmp_path / "run.db", cartpole, "reference")
    change(path, ("UPDATE decisions SET missed = 1, output = NULL WHERE episode = 0",))
    with make() as environment:
        found = replay(path, 0, environment=environment)
    assert (found.missed, found.compared, found.same) == (STEPS, 0, True)
    assert found.environment.equal_observations == STEPS


def test_a_run_that_was_killed_is_replayed_as_far_as_it_goes(tmp_path, cartpole):
    path = record(tmp_path / "run.db", cartpole, "nest-exact")
    change(
        path,
        ("UPDATE episodes SET outcome = NULL, length = NULL, return = NULL WHERE episode = 1",),
        ("DELETE FROM decisions WHERE episode = 1 AND step > 9",),
        ("UPDATE decisions SET reward = NULL, terminated = NULL, truncated = NULL WHERE episode = 1 AND step = 9",),
    )
    with make() as environment:
        found = replay(path, 1, environment=environment)
    assert (found.decisions, found.equal_outputs, found.outcome, found.same) == (10, 10, None, True)
    assert (found.environment.observations, found.environment.answers) == (10, 9)
    assert found.notes == ("the run was cut off in this episode: it is replayed as far as it goes",)


def test_traces_of_the_first_format_with_departures_in_words(tmp_path, cartpole):
    settings = load_profile("nest-iaf_psc_delta").model_dump()
    settings["departures"] = ["reset to zero: what the potential had above the threshold is lost"]
    for left_out in ("circuit", "machine", "contract", "targets"):
        settings.pop(left_out)
    path = record(tmp_path / "run.db", cartpole, "nest-iaf_psc_delta", settings=None, spikes=True)
    change(
        path,
        ("DROP TABLE divergences",),
        *((f"ALTER TABLE decisions DROP COLUMN {name}",) for name in ("resent", "stale", "late", "cpu_us")),
        ("UPDATE meta SET value = ? WHERE key = 'settings'", json.dumps(settings)),
        ("PRAGMA user_version = 1",),
    )
    found = replay(path, 1)
    assert (found.equal_outputs, found.equal_spikes, found.doubts) == (STEPS, STEPS, ())


def test_the_network_is_the_one_that_ran_or_refused(tmp_path, make_network, monkeypatch):
    network = make_network(name="walker")
    path = record(tmp_path / "run.db", network, "reference", episodes=1)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(InvalidInputError, match=r"no bundled agent and no file walker\.spk"):
        replay(path, 0)
    save(network, tmp_path / "walker.spk")  # beside the trace
    assert replay(path, 0).same
    save(make_network(name="walker", seed=1), Path("walker.spk"))  # in the working folder, which comes first
    with pytest.raises(InvalidInputError, match=r"of hash \w{12}; walker\.spk has hash .* it is another one"):
        replay(path, 0)
    assert replay(path, 0, network=tmp_path / "walker.spk").same
    with pytest.raises(InvalidInputError, match="network 'walker' has hash"):
        recorded_network(Trace(path), changed(network, steps=11))


@pytest.mark.parametrize("name", ["../walker", "/etc/passwd", ""])
def test_a_name_in_a_trace_is_no_path(tmp_path, make_network, name):
    network = make_network(name=name or "unnamed")
    save(network, tmp_path / "walker.spk")
    (tmp_path / "in").mkdir()
    path = record(tmp_path / "in" / "run.db", network, "reference", episodes=1, agent=name)
    with pytest.raises(InvalidInputError, match="no bundled agent and no file"):
        replay(path, 0)


def test_what_the_trace_does_not_say_is_asked_for_or_doubted(tmp_path, cartpole):
    path = record(tmp_path / "drive.db", cartpole, "nest-exact", settings=None)
    change(path, ("DELETE FROM meta WHERE key = 'settings'",))
    found = replay(path, 0)  # as of `spikeloop drive`, which knows its host's profile by name only
    assert (found.same, found.profile) == (True, "nest-exact")
    assert "does not hold the settings of its host" in found.doubts[0]
    change(path, ("DELETE FROM meta WHERE key IN ('profile', 'network_hash')",))
    with pytest.raises(InvalidInputError, match="does not say under which profile"):
        replay(path, 0, network="cartpole")
    found = replay(path, 0, network="cartpole", profile="nest-exact")
    assert (found.same, found.recorded_profile) == (True, "")
    assert "does not say which network" in found.doubts[1]


def test_what_cannot_be_replayed_is_refused(tmp_path, cartpole):
    path = record(tmp_path / "run.db", cartpole, "reference", spikes=True)
    with pytest.raises(InvalidInputError, match=r"Episode 2 was asked for; .* holds episodes 0 to 1"):
        replay(path, 2)
    change(path, ("DELETE FROM decisions WHERE episode = 0",))
    with pytest.raises(InvalidInputError, match="holds no decision: it was cut off before the first"):
        replay(path, 0)
    far = np.array([[0, 10_000, 0]], dtype="<u4").tobytes()
    change(path, ("UPDATE spikes SET events = ? WHERE decision = ?", far, STEPS))
    with pytest.raises(TraceError, match="spikes of neurons that the network does not have"):
        replay(path, 1)
    change(path, ("UPDATE episodes SET seed = NULL WHERE episode = 1",))
    with pytest.raises(TraceError, match="does not say from which seeds"):
        replay(path, 1)
    change(path, ("UPDATE meta SET value = '{\"name\": \"x\"}' WHERE key = 'settings'",))
    with pytest.raises(TraceError, match=r"a profile that this Spikeloop cannot read.*version 0\.1\.0"):
        replay(path, 1)
    with TraceWriter(tmp_path / "empty.db", {}):
        pass
    with pytest.raises(InvalidInputError, match="holds no episode"):
        replay(tmp_path / "empty.db", 0)
    with pytest.raises(TraceError, match="no trace"):
        replay(tmp_path / "missing.db", 0)


def test_every_bundled_cartpole_agent_replays_on_its_twin(tmp_path):
    assert "cartpole-spinnaker" in bundled()
    path = record(tmp_path / "run.db", load("cartpole-spinnaker"), "spinnaker-twin", spikes=True, episodes=1)
    assert replay(path, 0).same

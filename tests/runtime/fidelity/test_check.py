"""check: exact where it must be, and honest, and able to say why, where it is not."""

import json
from dataclasses import replace

import numpy as np
import pytest
from spikeloop.bridges.environments import GymnasiumEnvironment
from spikeloop.deploy.backend import Recording
from spikeloop.deploy.conformance import example
from spikeloop.deploy.mapping import open_session, plan
from spikeloop.deploy.twin import training_facts
from spikeloop.errors import InvalidInputError, PreflightError
from spikeloop.hardware_profiles import load_profile
from spikeloop.models import Conv2d, Decoder, Dense, Encoder, Network, Neuron
from spikeloop.runtime import check, launch, load_observations
from spikeloop.runtime.fidelity.records import record, target_record
from spikeloop.runtime.fidelity.report import Record

STATES = np.random.default_rng(0).normal(size=(60, 3))
TWIN = {"target": "spinnaker-twin"}


def trained(profile, **settings):
    """A network whose provenance says that it was trained for a profile."""
    facts = training_facts(load_profile(profile, settings))
    return replace(example(4, neuron=Neuron(reset="zero")), provenance={"trained_for": facts})


def plain(report):
    """All of a report but the times, which no two runs share."""
    document = report.as_dict()
    del document["ms_per_decision"]
    if document["attribution"]:
        del document["attribution"]["us_per_decision"]
    return json.dumps(document, sort_keys=True)


# --- agreement --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoder", [Encoder(), Encoder("poisson", two_neurons=True)], ids=["current", "poisson"])
@pytest.mark.parametrize("profile", ["reference", "nest-exact"])
def test_exact_profiles_agree_and_have_nothing_to_explain(profile, encoder):
    report = check(example(0, encoder=encoder), profile, STATES, seed=3)
    assert (report.teacher_forced.agreed, report.observations, report.agreement) == (60, 60, 1.0)
    assert report.errors.max <= 1e-9
    assert (report.differing_trains, report.trains) == (0, 60 * 11)
    assert (report.first_disagreement, report.first_divergence, report.margins.flips) == (None, None, 0)
    found = report.attribution
    assert (found.causes, found.together_flips, found.mended_pairs) == ((), 0, ())
    assert (found.unexplained, found.unexplained_flips, found.unexplained_trains) == ((), 0, 0)
    assert (found.stochastic, report.faults) == (False, ())


def test_approximate_profiles_do_not_and_it_is_counted():
    network = example(4)
    report = check(network, "nest-iaf_psc_delta", STATES)
    with launch(network) as agent:
        expected = agent.decide(STATES, spikes=True)
    with launch(network, "nest-iaf_psc_delta") as agent:
        given = agent.decide(STATES, spikes=True)
    flips = np.flatnonzero(given.action != expected.action)
    assert report.teacher_forced.agreed == 60 - len(flips) < 60
    assert report.margins.flips == len(flips)
    assert report.first_disagreement == int(flips[0])
    trains = [(a != b).any(axis=1).sum() for a, b in zip(given.rasters, expected.rasters, strict=True)]
    assert [layer.differing_trains for layer in report.layers] == trains
    assert report.errors.max == np.abs(given.output - expected.output).max()
    low, high = report.teacher_forced.interval
    assert low < report.agreement < high
    # What is declared is all there is to say: NEST does to the bit what its departures do.
    found = report.attribution
    assert (found.unexplained_flips, found.unexplained_trains, report.faults) == (0, 0, ())
    assert found.together_flips == len(flips)
    assert sum(cause.points for cause in found.causes) == pytest.approx(100 * len(flips) / 60, abs=1e-9)


def test_without_explanations():
    report = check(example(4), "nest-iaf_psc_delta", STATES[:20], explain=False)
    assert (report.attribution, report.faults) == (None, ())
    assert report.differing_trains > 0


def test_a_network_trained_for_a_profile_is_compared_with_its_twin():
    network = trained("nest-iaf_psc_delta", t_ref=0.5)
    report = check(network, "nest-iaf_psc_delta", STATES, settings={"t_ref": 0.5})
    assert (report.against, report.agreement, report.differing_trains) == ("twin", 1.0, 0)
    assert report.errors.max <= 1e-9
    assert report.trains == 60 * 11
    assert report.attribution.causes == (), "the twin has them all"
    against = check(network, "nest-iaf_psc_delta", STATES, settings={"t_ref": 0.5}, against="reference")
    assert (against.against, against.as_dict()["against"]) == ("reference", "reference")
    assert against.differing_trains > 0
    assert against.attribution.causes
    # With other settings it is another profile, and for an exact one the reference is the twin.
    assert check(network, "nest-iaf_psc_delta", STATES[:5]).against == "reference"
    assert check(trained("nest-exact"), "nest-exact", STATES[:5]).against == "reference"


def test_the_twin_of_any_profile_that_has_one():
    for profile in ("reference", "nest-exact", "nest-iaf_psc_delta"):
        report = check(example(4), profile, STATES[:20], against="twin")
        assert (report.against, report.agreement, report.differing_trains) == ("twin", 1.0, 0), profile
    with pytest.raises(InvalidInputError, match="No software twin of profile 'nest-pp_psc_delta'"):
        check(example(4), "nest-pp_psc_delta", STATES, against="twin")
    with pytest.raises(InvalidInputError, match="must be 'reference' or 'twin'"):
        check(example(4), "reference", STATES, against="nothing")


def test_random_encoders_send_the_twin_the_same_spikes():
    provenance = trained("nest-iaf_psc_delta").provenance
    network = replace(example(2, encoder=Encoder("poisson", two_neurons=True)), provenance=provenance)
    report = check(network, "nest-iaf_psc_delta", STATES, seed=5)
    assert (report.against, report.agreement, report.differing_trains) == ("twin", 1.0, 0)


def test_random_encoders_on_an_approximate_target():
    network = example(2, encoder=Encoder("poisson", two_neurons=True))
    report = check(network, "nest-iaf_psc_delta", STATES, seed=5)
    assert report.differing_trains > 0
    assert (report.attribution.unexplained_flips, report.attribution.unexplained_trains) == (0, 0)
    assert plain(check(network, "nest-iaf_psc_delta", STATES, seed=6)) != plain(report)


def test_a_target_that_draws_random_numbers():
    noisy = {"c_1": 0.0, "c_2": 1000.0}
    network = example(4)
    report = check(network, "nest-pp_psc_delta", STATES, seed=1, settings=noisy)
    assert report.agreement < 1
    assert (report.attribution.stochastic, report.faults) == (True, ())
    assert "noise" in {cause.kind for cause in report.attribution.causes}
    assert plain(check(network, "nest-pp_psc_delta", STATES, seed=1, settings=noisy)) == plain(report)
    assert plain(check(network, "nest-pp_psc_delta", STATES, seed=2, settings=noisy)) != plain(report)


# --- networks of other kinds ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["spike_count", "first_spike"])
def test_outputs_that_fire(kind):
    network = example(1, decoder=Decoder(kind))
    exact = check(network, "nest-exact", STATES)
    assert (exact.agreement, exact.differing_trains, exact.trains) == (1.0, 0, 60 * 14)
    report = check(network, "nest-iaf_psc_delta", STATES)
    assert len(report.layers) == 3
    assert report.differing_trains > 0
    assert (report.attribution.unexplained_flips, report.attribution.unexplained_trains) == (0, 0)


def test_convolutions():
    rng = np.random.default_rng(0)
    image = Conv2d(rng.normal(0.0, 0.6, (2, 1, 2, 2)), np.full(2, 0.1), input_shape=(1, 4, 4), stride=2)
    network = Network((image, Dense(rng.normal(size=(8, 3)))), 15, name="convolutional")
    states = rng.normal(0.5, 1.0, (30, 16))
    assert check(network, "nest-exact", states).differing_trains == 0
    report = check(network, "nest-iaf_psc_delta", states)
    assert report.differing_trains > 0
    assert (report.attribution.unexplained_flips, report.attribution.unexplained_trains) == (0, 0)


def test_one_output_and_one_observation(make_network):
    report = check(make_network((3, 6, 1)), "nest-iaf_psc_delta", STATES[0])
    assert (report.observations, report.agreement) == (1, 1.0)
    assert report.margins.flips == 0
    assert sum(cause.points for cause in report.attribution.causes) == 0
    single = check(example(4), "nest-exact", STATES[:1])
    assert (single.teacher_forced.of, single.differing_trains) == (1, 0)


# --- the first divergence ---------------------------------------------------------------------------------------------


def test_potentials_around_the_first_divergence_are_read_from_nest():
    network = example(4)
    report = check(network, "nest-iaf_psc_delta", STATES, explain=False)
    found = report.first_divergence
    place = found.place
    assert place.fired != place.expected
    assert found.observation <= report.first_disagreement
    assert found.given_is_simulated is False
    assert len(found.expected_potential) == len(found.given_potential) == network.steps
    # As NEST records them, in a session of our own.
    session = open_session(plan(network, load_profile("nest-iaf_psc_delta")), 0)
    session.reset()
    session.inject(network.encoder.encode(STATES[[found.observation]], network.steps), Recording(True, True))
    session.run(network.steps)
    traces = session.read().traces
    session.close()
    assert found.given_potential == tuple(traces[place.layer][0, :, place.neuron].tolist())
    with launch(network) as agent:
        wanted = agent.decide(STATES[found.observation], spikes=True).rasters
    events = {(layer, neuron, step) for layer, neuron, step, _ in found.expected_spikes}
    assert events == {(i, n, t) for i, raster in enumerate(wanted) for t, n in zip(*np.nonzero(raster), strict=True)}
    assert ((place.layer, place.neuron, place.step) in events) == (place.expected > 0)


@pytest.mark.parametrize(("profile", "settings"), [("spinnaker-ifcurdelta", TWIN), ("pynn-nest", {})])
def test_or_simulated_where_they_cannot_be_read(profile, settings):
    report = check(example(4), profile, STATES, settings=settings)
    found = report.first_divergence
    assert found.given_is_simulated is True
    assert found.given_potential != found.expected_potential
    assert (report.attribution.unexplained_flips, report.attribution.unexplained_trains) == (0, 0)
    assert report.faults == ()


# --- what else may be asked for ---------------------------------------------------------------------------------------


def test_a_record_that_is_there_already():
    network, profile = example(4), load_profile("nest-iaf_psc_delta")
    known = target_record(network, profile, STATES)
    assert plain(check(network, profile, STATES, given=known)) == plain(check(network, profile, STATES))
    with pytest.raises(InvalidInputError, match=r"A record of shapes .*\(59,\).* was given; this network needs"):
        check(network, profile, STATES, given=target_record(network, profile, STATES[:59]))
    silent = replace(known, rasters=known.rasters[:1])
    with pytest.raises(InvalidInputError, match="A record of shapes"):
        check(network, profile, STATES, given=silent)


def test_a_target_that_does_what_nothing_declares():
    network, profile = example(4), load_profile("nest-iaf_psc_delta")
    known = target_record(network, profile, STATES)
    rasters = tuple(raster.copy() for raster in known.rasters)
    rasters[0][7, :, 2] ^= 1
    actions = known.actions.copy()
    actions[[7, 11]] = (actions[[7, 11]] + 1) % 3
    found = check(network, profile, STATES, given=Record(actions, known.outputs, rasters, known.ms)).attribution
    assert (found.unexplained, found.unexplained_flips, found.unexplained_trains) == ((7, 11), 2, 1)


def test_the_conventional_network_is_a_second_column():
    network = example(4)
    with launch(example(9)) as other, launch(network) as reference:
        wanted, expected = other.decide(STATES).action, reference.decide(STATES).action
        report = check(network, "nest-iaf_psc_delta", STATES, origin=("nine", other), explain=False)
        assert other.act(STATES[0]) == wanted[0], "it is left open"
    given = target_record(network, load_profile("nest-iaf_psc_delta"), STATES).actions
    assert report.origin_name == "nine"
    assert report.origin.agreed == (given == wanted).sum()
    assert report.expected_origin.agreed == (expected == wanted).sum()


def test_windows_of_other_lengths():
    network = example(4)
    report = check(network, "nest-iaf_psc_delta", STATES[:20], steps_sweep=(5, 20), explain=False)
    assert [point.steps for point in report.sweep] == [5, 20]
    assert report.sweep[1].reference.share == 1.0
    assert report.sweep[1].target == report.teacher_forced
    with launch(network) as whole, launch(replace(network, steps=5)) as short:
        same = whole.decide(STATES[:20]).action == short.decide(STATES[:20]).action
    assert report.sweep[0].reference.agreed == same.sum()
    assert report.anytime.steps == tuple(range(1, 21))
    assert report.anytime.agreement[-1] == report.anytime.unchanged[-1] == report.anytime.settled[-1] == 1.0
    with pytest.raises(InvalidInputError, match="window's length"):
        check(network, "reference", STATES, steps_sweep=(0,))


def test_free_running(make_network):
    network = make_network(seed=8)
    states = np.random.default_rng(1).normal(0.0, 0.1, (10, 4))
    report = check(
        network,
        "nest-iaf_psc_delta",
        states,
        environment=lambda: GymnasiumEnvironment("CartPole-v1", max_episode_steps=25),
        episodes=2,
        seed=4,
        source="ten states",
    )
    free = report.free_running
    assert (report.source, report.seed, free.seed, free.episodes) == ("ten states", 4, 4, 2)
    assert len(free.target.each) == len(free.reference.each) == len(free.first_parting) == 2
    assert free.agreement.of == sum(free.target.each)


def test_progress_tells_each_stage():
    told = []
    check(example(4), "nest-iaf_psc_delta", STATES[:5], on_progress=lambda *now: told.append(now))
    assert [now for now in told if now[0] == "target"] == [("target", done, 5) for done in range(1, 6)]
    causes = [(done, of) for what, done, of in told if what == "causes"]
    assert causes
    assert all(0 < done <= of for done, of in causes)
    assert causes[-1][0] == causes[-1][1]


def test_a_report_is_json_and_says_how_to_do_it_again():
    report = check(example(4), "nest-iaf_psc_delta", STATES[:9])
    document = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert document["agreement"] == report.agreement
    assert document["provenance"]["profile"]["settings"]["V_th"] == 1.0
    assert document["provenance"]["network"]["hash"] == report.network_hash == example(4).content_hash
    again = check(example(4), "nest-iaf_psc_delta", STATES[:9] + 0.0)
    assert again.provenance["observations"] == report.provenance["observations"]


def test_refusals():
    with pytest.raises(InvalidInputError, match=r"\(60, 2\)"):
        check(example(0), "reference", STATES[:, :2])
    with pytest.raises(InvalidInputError, match="NaN or infinite"):
        check(example(0), "reference", np.where(STATES > 2, np.nan, STATES))
    with pytest.raises(PreflightError):
        check(example(0), "spinnaker-live", STATES)


def test_records_are_what_an_agent_decides():
    network = example(1)
    with launch(network, "nest-iaf_psc_delta") as agent:
        kept = record(agent, STATES[:5])
        each = [agent.decide(state, spikes=True) for state in STATES[:5]]
    assert len(kept) == 5
    assert kept.actions.tolist() == [one.action for one in each]
    assert all((kept.rasters[layer][3] == each[3].rasters[layer]).all() for layer in range(2))
    assert (kept.ms > 0).all()


# --- observations from files ------------------------------------------------------------------------------------------


def test_observations_from_files(tmp_path):
    np.savez(tmp_path / "named.npz", observations=STATES, other=np.ones(2))
    np.savez(tmp_path / "single.npz", STATES)
    np.save(tmp_path / "plain.npy", STATES.astype(np.float32))
    for name in ("named.npz", "single.npz", "plain.npy"):
        assert np.allclose(load_observations(tmp_path / name), STATES, atol=1e-6)


def test_bad_observation_files(tmp_path):
    np.savez(tmp_path / "two.npz", a=STATES, b=STATES)
    np.savez(tmp_path / "empty.npz")
    np.save(tmp_path / "pickle.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "nan.npy", np.array([[np.nan]]))
    (tmp_path / "text.npy").write_text("hello")
    for name, said in [
        ("two.npz", "'observations' is needed"),
        ("empty.npz", "none"),
        ("pickle.npy", "Cannot read"),
        ("nan.npy", "1 of 1"),
        ("text.npy", "Cannot read"),
        ("absent.npy", "No such file"),
    ]:
        with pytest.raises(InvalidInputError, match=said):
            load_observations(tmp_path / name)

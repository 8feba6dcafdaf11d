"""check: exact where it must be, and honest where it is not."""

from dataclasses import replace

import numpy as np
import pytest
from spikeloop.deploy.conformance import example
from spikeloop.deploy.twin import training_facts
from spikeloop.errors import InvalidInputError
from spikeloop.hardware_profiles import load_profile
from spikeloop.models import Encoder, Neuron
from spikeloop.runtime import check, launch, load_observations
from spikeloop.runtime.fidelity import wilson

STATES = np.random.default_rng(0).normal(size=(60, 3))


@pytest.mark.parametrize("encoder", [Encoder(), Encoder("poisson", two_neurons=True)])
def test_exact_profiles_agree(encoder):
    report = check(example(0, encoder=encoder), "nest-exact", STATES, seed=3)
    assert (report.agreed, report.observations, report.agreement) == (60, 60, 1.0)
    assert report.max_abs_dv <= 1e-9
    assert (report.differing_trains, report.trains) == (0, 60 * 11)
    assert report.first_disagreement is None
    assert report.first_divergence is None


def test_approximate_profiles_do_not_and_it_is_counted():
    network = example(4)
    report = check(network, "nest-iaf_psc_delta", STATES)
    with launch(network) as agent:
        expected = agent.decide(STATES).action
    with launch(network, "nest-iaf_psc_delta") as agent:
        given = agent.decide(STATES)
    assert report.agreed == int((given.action == expected).sum()) < 60
    assert report.first_disagreement == int(np.flatnonzero(given.action != expected)[0])
    index, place = report.first_divergence
    assert index <= report.first_disagreement
    assert place.fired != place.expected
    assert report.differing_trains > 0
    low, high = report.interval
    assert low < report.agreement < high


def trained(profile, **settings):
    """A network whose provenance says that it was trained for a profile."""
    facts = training_facts(load_profile(profile, settings))
    return replace(example(4, neuron=Neuron(reset="zero")), provenance={"trained_for": facts})


def test_a_network_trained_for_a_profile_is_compared_with_its_twin():
    network = trained("nest-iaf_psc_delta", t_ref=0.5)
    report = check(network, "nest-iaf_psc_delta", STATES, settings={"t_ref": 0.5})
    assert (report.against, report.agreement, report.differing_trains) == ("twin", 1.0, 0)
    assert report.max_abs_dv <= 1e-9
    assert report.trains == 60 * 11
    against = check(network, "nest-iaf_psc_delta", STATES, settings={"t_ref": 0.5}, against="reference")
    assert (against.against, against.as_dict()["against"]) == ("reference", "reference")
    assert against.differing_trains > 0
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


def test_wilson_interval_against_published_values():
    # Newcombe (1998), table I: 81 of 263 and 15 of 148, Wilson without continuity correction.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


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
    with pytest.raises(InvalidInputError, match=r"\(60, 2\)"):
        check(example(0), "reference", STATES[:, :2])

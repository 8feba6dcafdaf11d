"""What profiles declare, against what NEST does; and that a wrong declaration is found out."""

from itertools import takewhile
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from spikeloop.deploy.backend import Recording
from spikeloop.deploy.departures.conformance import NOTHING_UNDECLARED, check_departures
from spikeloop.deploy.departures.probes import probes_for
from spikeloop.deploy.nest import NestBackend, NestSession
from spikeloop.deploy.reference import ReferenceBackend
from spikeloop.deploy.spinnaker.backend import SpinnakerTwinBackend
from spikeloop.deploy.spinnaker.circuit_twin import CircuitTwinSession
from spikeloop.deploy.spinnaker.pynn_nest import PyNNNestBackend
from spikeloop.errors import TargetError
from spikeloop.hardware_profiles import load_profile
from spikeloop.hardware_profiles.profile import Departure, DepartureKind

ROOT = Path(__file__).parents[3]


def statuses(outcomes):
    return {outcome.check: outcome.status for outcome in outcomes}


def details(outcomes):
    return {outcome.check: outcome.detail for outcome in outcomes}


def kinds_of(profile):
    return [departure.kind for departure in profile.departures]


def without(profile, kind):
    return profile.model_copy(update={"departures": tuple(d for d in profile.departures if d.kind != kind)})


def with_another(profile, kind):
    return profile.model_copy(update={"departures": (*profile.departures, Departure(kind=kind, text="not so"))})


def assert_all_shown(factory, profile, skipped=()):
    outcomes = check_departures(factory, profile)
    assert [outcome.check for outcome in outcomes] == [*kinds_of(load_profile(profile)), NOTHING_UNDECLARED]
    assert {check for check, status in statuses(outcomes).items() if status == "skipped"} == set(skipped)
    assert not [outcome for outcome in outcomes if outcome.status == "failed"]
    assert all(outcome.detail for outcome in outcomes if outcome.status == "skipped")


# --- true declarations ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nest-iaf_psc_delta", "nest-pp_psc_delta", "nest-exact"])
def test_nest(name):
    pytest.importorskip("nest", reason="nest-simulator is not installed")
    assert_all_shown(NestBackend, name)


def test_pynn_on_nest():
    pytest.importorskip("nest", reason="nest-simulator is not installed")
    pytest.importorskip("spynnaker", reason="PyNN comes with sPyNNaker, which is not installed")
    assert_all_shown(PyNNNestBackend, "pynn-nest")


def test_the_reference_departs_from_nothing():
    assert_all_shown(ReferenceBackend, "reference")


@pytest.mark.parametrize("name", ["spinnaker-ifcurdelta", "spinnaker-converted"])
def test_the_firmware_in_this_process(name):
    profile = load_profile(name, {"target": "spinnaker-twin"})
    assert_all_shown(SpinnakerTwinBackend, profile)


def test_the_decision_circuit_in_this_process():
    assert_all_shown(SpinnakerTwinBackend, "spinnaker-twin", skipped=["packet loss"])


def test_the_profile_of_the_docs(tmp_path):
    pytest.importorskip("nest", reason="nest-simulator is not installed")
    _, _, text = (ROOT / "docs" / "profiles.md").read_text(encoding="utf-8").partition("    # mine.toml")
    block = takewhile(lambda line: not line or line.startswith("    "), text.splitlines()[1:])
    path = tmp_path / "mine.toml"
    path.write_text("\n".join(line.removeprefix("    ") for line in block), encoding="utf-8")
    assert_all_shown(NestBackend, load_profile(path))


def test_the_docs_name_every_kind():
    text = (ROOT / "docs" / "profiles.md").read_text(encoding="utf-8")
    _, _, table = text.partition("| kind |")
    listed = [line.split("`")[1] for line in takewhile(lambda line: line.startswith("|"), table.splitlines()[2:])]
    assert listed == list(get_args(DepartureKind))


# --- false ones -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", kinds_of(load_profile("nest-iaf_psc_delta")))
def test_nests_departure_that_is_not_declared_is_found(kind):
    pytest.importorskip("nest", reason="nest-simulator is not installed")
    outcomes = check_departures(NestBackend, without(load_profile("nest-iaf_psc_delta"), kind))
    assert statuses(outcomes)[NOTHING_UNDECLARED] == "failed"
    assert f"with '{kind}' all would be" in details(outcomes)[NOTHING_UNDECLARED]


@pytest.mark.parametrize("name", ["spinnaker-ifcurdelta", "spinnaker-converted", "spinnaker-twin"])
def test_the_firmwares_departure_that_is_not_declared_is_found(name):
    profile = load_profile(name, {"target": "spinnaker-twin"})
    # Rounding that is demanded of the network, and a loss that is not set, have no effect to be found.
    unseen = {"weight precision", "packet loss"} if profile.circuit is not None else set()
    for kind in set(kinds_of(profile)) - unseen:
        outcomes = check_departures(SpinnakerTwinBackend, without(profile, kind))
        assert statuses(outcomes)[NOTHING_UNDECLARED] == "failed", kind
        assert f"with '{kind}' all would be" in details(outcomes)[NOTHING_UNDECLARED]


@pytest.mark.parametrize("kind", ["noise", "threshold", "reset"])
def test_a_random_targets_departure_that_is_not_declared_is_found(kind):
    pytest.importorskip("nest", reason="nest-simulator is not installed")
    outcomes = check_departures(NestBackend, without(load_profile("nest-pp_psc_delta"), kind))
    assert statuses(outcomes)[NOTHING_UNDECLARED] == "failed"


@pytest.mark.parametrize("kind", ["floor", "threshold", "step length", "noise", "weight precision", "packet loss"])
def test_a_departure_that_nest_does_not_have_is_not_shown(kind):
    pytest.importorskip("nest", reason="nest-simulator is not installed")
    outcomes = check_departures(NestBackend, with_another(load_profile("nest-iaf_psc_delta"), kind))
    assert statuses(outcomes)[kind] == "failed"
    assert "no probe shows it" in details(outcomes)[kind]
    assert {status for check, status in statuses(outcomes).items() if check != kind} == {"passed"}


@pytest.mark.parametrize("kind", ["floor", "reset", "window"])
def test_an_exact_profile_cannot_pretend(kind):
    outcomes = check_departures(ReferenceBackend, with_another(load_profile("reference"), kind))
    assert statuses(outcomes) == {kind: "failed", NOTHING_UNDECLARED: "passed"}


def test_a_declaration_of_exactness_on_a_target_that_departs_fails():
    """The profile of point neurons, declaring nothing at all."""
    pytest.importorskip("nest", reason="nest-simulator is not installed")
    silent = load_profile("nest-iaf_psc_delta").model_copy(update={"departures": ()})
    assert statuses(check_departures(NestBackend, silent)) == {NOTHING_UNDECLARED: "failed"}


class _SpikesLate(SpinnakerTwinBackend):
    """Its spikes show, and act, as they should, but are read one step late."""

    def twin(self, deployment):
        class Session(CircuitTwinSession):
            def read(self):
                found = super().read()
                for raster in found.rasters:
                    raster[:] = np.roll(raster, 1, axis=1)
                return found

        return Session(deployment)


def test_a_target_that_does_something_else_passes_nothing_that_its_spikes_show():
    outcomes = check_departures(_SpikesLate, "spinnaker-twin")
    assert statuses(outcomes)[NOTHING_UNDECLARED] == "failed"
    assert statuses(outcomes)["delay"] == "failed"
    assert "not as simulated with it" in details(outcomes)["delay"]


class _Leaky(NestBackend):
    """NEST with another membrane than the profile says."""

    def open(self, deployment, seed):
        session = NestSession(deployment, seed)
        for name, nodes in session._nodes.items():
            if name.startswith("layer"):
                nodes.set(tau_m=50.0)
        return session


def test_settings_that_do_not_reach_the_target_are_found():
    pytest.importorskip("nest", reason="nest-simulator is not installed")
    outcomes = check_departures(_Leaky, "nest-iaf_psc_delta")
    assert statuses(outcomes)[NOTHING_UNDECLARED] == "failed"
    assert statuses(outcomes)["leak"] == "failed"


class _Unloaded(ReferenceBackend):
    def plan(self, network, profile):
        raise AssertionError("nothing was to be planned")


def test_a_profile_that_no_probe_fits_passes_nothing():
    profile = load_profile("nest-iaf_psc_delta")
    outcomes = check_departures(_Unloaded, profile)
    assert set(statuses(outcomes).values()) == {"failed"}
    assert all("the probes cannot be run" in detail for detail in details(outcomes).values())


class _Broken(ReferenceBackend):
    def open(self, deployment, seed):
        raise TargetError("The machine does not answer.")


def test_a_target_that_cannot_be_had_passes_nothing():
    outcomes = check_departures(_Broken, "reference")
    assert statuses(outcomes) == {NOTHING_UNDECLARED: "failed"}
    assert "does not answer" in outcomes[0].detail


def test_a_circuit_that_takes_weights_off_its_grid_is_found():
    class Lax(SpinnakerTwinBackend):
        def preflight(self, network, profile):
            return []

    outcomes = check_departures(Lax, "spinnaker-twin")
    assert statuses(outcomes)["weight precision"] == "failed"


# --- the probes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nest-iaf_psc_delta", "pynn-nest", "spinnaker-converted", "spinnaker-twin"])
def test_chains_do_not_touch_each_other(name):
    for probe in probes_for(load_profile(name)):
        for layer in probe.network.layers:
            np.testing.assert_array_equal(layer.weights, np.diag(np.diag(layer.weights)))


def test_probes_reach_what_they_are_made_for():
    loud, quiet = 0, 0
    for probe in probes_for(load_profile("nest-iaf_psc_delta")):
        session = NestBackend().twin(NestBackend().plan(probe.network, load_profile("nest-iaf_psc_delta")))
        session.reset()
        session.inject(probe.stimulus, Recording(spikes=True))
        session.run(probe.network.steps)
        rasters = session.read().rasters
        loud += int(max(raster.max() for raster in rasters) > 1)
        quiet += int((rasters[0].sum(axis=1) == 0).any())
    assert loud == quiet == 4, "each network has a neuron that fires several times a step, and one that stays silent"

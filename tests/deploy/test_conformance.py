"""The public conformance suite, on every backend of ours."""

import tomllib
from pathlib import Path

import pytest
from spikeloop.deploy.backend import OURS as REGISTERED
from spikeloop.deploy.backend import backend, backends
from spikeloop.deploy.conformance import CHECKS, EXACT_ONLY, check_backend
from spikeloop.deploy.nest import NestBackend
from spikeloop.deploy.reference import ReferenceBackend, ReferenceSession
from spikeloop.deploy.spinnaker.backend import SpinnakerTwinBackend
from spikeloop.deploy.spinnaker.circuit_twin import CircuitTwinSession
from spikeloop.errors import UnknownNameError

OURS = [
    (ReferenceBackend, "reference"),
    (NestBackend, "nest-exact"),
    (NestBackend, "nest-iaf_psc_delta"),
    (NestBackend, "nest-pp_psc_delta"),
    (SpinnakerTwinBackend, "spinnaker-twin"),
]


@pytest.mark.parametrize(("factory", "profile"), OURS, ids=[profile for _, profile in OURS])
def test_backend_conforms(factory, profile):
    outcomes = check_backend(factory, profile)
    assert [o.check for o in outcomes] == list(CHECKS)
    assert not [o for o in outcomes if o.status == "failed"]
    assert all(o.detail for o in outcomes if o.status == "skipped")


def test_exact_profiles_skip_only_what_the_backend_declares():
    skipped = {o.check for o in check_backend(NestBackend, "nest-exact") if o.status == "skipped"}
    assert skipped == {name for name, _ in NestBackend.cannot}


class _Leaky(ReferenceBackend):
    """A backend whose windows are not independent: a spike too many survives a reset."""

    def open(self, deployment, seed):
        class Session(ReferenceSession):
            def inject(self, stimulus, *rest):
                before = self._state.copy()
                super().inject(stimulus, *rest)
                self._state += 0.1 * before[: len(self._state)]

        return Session(deployment.network)


class _Deaf(ReferenceBackend):
    """A backend that drops injected spikes."""

    def open(self, deployment, seed):
        class Session(ReferenceSession):
            def inject(self, stimulus, *rest):
                super().inject(type(stimulus)(stimulus.currents), *rest)

        return Session(deployment.network)


class _Lax(ReferenceBackend):
    """A backend that runs after close."""

    def open(self, deployment, seed):
        class Session(ReferenceSession):
            def close(self):
                pass

        return Session(deployment.network)


class _Remembering(SpinnakerTwinBackend):
    """A backend of decision circuits that go on from where the window before left the potentials."""

    def open(self, deployment, seed):
        class Session(CircuitTwinSession):
            def inject(self, stimulus, *rest):
                before = self._v.copy()
                super().inject(stimulus, *rest)
                self._v += before

        return Session(deployment)


def test_decision_circuits_are_checked_with_networks_that_they_take():
    outcomes = check_backend(SpinnakerTwinBackend, "spinnaker-twin")
    assert {o.check for o in outcomes if o.status == "passed"} == set(CHECKS) - EXACT_ONLY
    found = {o.check: o for o in check_backend(_Remembering, "spinnaker-twin")}["windows are independent"]
    assert (found.status, found.detail[:10]) == ("failed", "potentials")


@pytest.mark.parametrize(
    ("broken", "check"),
    [(_Leaky, "windows are independent"), (_Deaf, "injected spikes"), (_Lax, "order is enforced")],
)
def test_suite_finds_broken_backends(broken, check):
    failed = {o.check for o in check_backend(broken, "reference") if o.status == "failed"}
    assert check in failed


def test_unknown_backend_lists_close_names():
    assert {"reference", "nest"} <= set(backends())
    declared = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert declared["entry-points"]["spikeloop.backends"] == REGISTERED
    with pytest.raises(UnknownNameError, match="Did you mean nest"):
        backend("nset")

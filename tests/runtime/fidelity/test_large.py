"""Large checks: in shares and side by side, to the same result as one by one."""

import time
from dataclasses import replace

import numpy as np
import pytest
from spikeloop.deploy.conformance import example
from spikeloop.errors import InvalidInputError, PreflightError
from spikeloop.hardware_profiles import load_profile
from spikeloop.models import Encoder
from spikeloop.runtime.fidelity import large
from spikeloop.runtime.fidelity.checking import compare
from spikeloop.runtime.fidelity.large import Case, comparisons, target_records
from spikeloop.runtime.fidelity.records import AT_A_TIME, target_record

STATES = np.random.default_rng(0).normal(size=(AT_A_TIME + 40, 3))
NOISY = load_profile("nest-pp_psc_delta", {"c_1": 0.0, "c_2": 1000.0})
CASES = [
    Case(example(4, steps=10), load_profile("nest-iaf_psc_delta"), STATES),
    Case(example(4, steps=10), NOISY, STATES, seed=3),
    Case(example(2, encoder=Encoder("poisson", two_neurons=True)), load_profile("nest-exact"), STATES, seed=5),
]


def alike(ours, theirs):
    assert np.array_equal(ours.actions, theirs.actions)
    assert np.array_equal(ours.outputs, theirs.outputs)
    assert len(ours.rasters) == len(theirs.rasters)
    assert all(np.array_equal(a, b) for a, b in zip(ours.rasters, theirs.rasters, strict=True))
    assert len(ours.ms) == len(theirs)


@pytest.fixture(scope="module")
def serial():
    """What each case's target does, asked once and not in shares."""
    return [target_record(case.network, case.profile, case.states, seed=case.seed) for case in CASES]


def test_side_by_side_is_as_one_by_one(serial):
    told = []
    found = target_records(CASES, jobs=2, on_progress=lambda *now: told.append(now))
    for ours, theirs in zip(found, serial, strict=True):
        alike(ours, theirs)
    assert told[-1] == (6, 6), "two shares of each case"
    # That they are different checks is what makes the comparison worth something.
    assert not np.array_equal(serial[0].actions, serial[1].actions)


def test_shares_draw_random_numbers_of_their_own(serial):
    noisy = serial[1]
    assert not all(np.array_equal(raster[:40], raster[AT_A_TIME : AT_A_TIME + 40]) for raster in noisy.rasters)
    same = target_record(CASES[1].network, NOISY, np.tile(STATES[:1], (AT_A_TIME + 10, 1)), seed=3)
    assert any((raster[:10] != raster[AT_A_TIME:]).any() for raster in same.rasters), "not the same ones again"
    other = target_record(CASES[1].network, NOISY, STATES[:60], seed=4)
    assert any((a[:60] != b).any() for a, b in zip(noisy.rasters, other.rasters, strict=True))


def test_kept_shares_are_not_done_again(serial, tmp_path, monkeypatch):
    target_records(CASES[:2], folder=tmp_path)
    assert len(list(tmp_path.rglob("*.npz"))) == 4

    def never(*_, **__):
        raise AssertionError("it was done before")

    monkeypatch.setattr(large, "target_record", never)
    for ours, theirs in zip(target_records(CASES[:2], folder=tmp_path), serial[:2], strict=True):
        alike(ours, theirs)
    # Another seed is other work.
    with pytest.raises(AssertionError, match="done before"):
        target_records([replace(CASES[0], seed=1)], folder=tmp_path)


def test_what_was_left_is_done(serial, tmp_path, monkeypatch):
    does, count = large.target_record, []

    def dies(*given, **more):
        count.append(1)
        if len(count) == 3:
            raise KeyboardInterrupt
        return does(*given, **more)

    monkeypatch.setattr(large, "target_record", dies)
    with pytest.raises(KeyboardInterrupt):
        target_records(CASES[:2], folder=tmp_path)
    (found, noisy) = target_records(CASES[:2], folder=tmp_path)
    alike(found, serial[0])
    alike(noisy, serial[1])
    assert len(count) == 3 + 2, "two of four had been done"


def test_errors_of_a_share_are_the_callers():
    with pytest.raises(PreflightError):
        target_records([Case(example(0), load_profile("spinnaker-live"), STATES[:3])])
    with pytest.raises(InvalidInputError, match="NaN or infinite"):
        target_records([Case(example(0), load_profile("reference"), np.full((3, 3), np.nan))])


def untimed(report):
    """A report without what took how long."""
    attribution = None if report.attribution is None else replace(report.attribution, us_per_decision=0.0)
    return replace(
        report, attribution=attribution, sweep=tuple(replace(point, ms_per_decision=0.0) for point in report.sweep)
    )


@pytest.mark.parametrize("asked", [{"steps_sweep": (5, 12)}, {"explain": False}], ids=["all", "not explained"])
def test_comparisons_side_by_side_are_as_one_by_one(serial, asked, tmp_path):
    found = comparisons(CASES, serial, **asked, jobs=2, folder=tmp_path)
    for case, given, ours in zip(CASES, serial, found, strict=True):
        theirs = compare(
            case.network, case.profile, case.states, seed=case.seed, source=case.source, given=given, **asked
        )
        assert untimed(ours.report) == untimed(theirs.report)
        assert ours.report.as_dict().keys() == theirs.report.as_dict().keys()
        assert np.array_equal(ours.expected, theirs.expected)
        assert np.array_equal(ours.given, theirs.given)
    again = comparisons(CASES, serial, **asked, folder=tmp_path)
    assert [one.report for one in again] == [one.report for one in found], "what was kept"
    # Something to say of them is what makes the comparison worth something.
    assert found[0].report.first_divergence is not None
    assert (found[0].report.attribution is None) == ("explain" in asked)


def test_a_share_is_the_same_at_another_hour(serial, monkeypatch):
    """Or nothing kept would be found again."""
    now = large._as_text(serial[0])
    monkeypatch.setattr(time, "time", lambda: 1e9)
    assert large._as_text(serial[0]) == now


@pytest.mark.parametrize(
    "changes", [{"report": np.frombuffer(b'{"network": 1}', np.uint8)}, {"more": np.zeros(1)}], ids=["report", "more"]
)
def test_a_kept_share_that_was_changed_is_refused(serial, changes, tmp_path):
    comparisons(CASES[:1], serial[:1], folder=tmp_path)
    (path,) = tmp_path.rglob("*.npz")
    with np.load(path) as arrays:
        content = dict(arrays) | changes
    np.savez(path, **content)
    with pytest.raises(InvalidInputError, match="holds other arrays than a check's: name another folder"):
        comparisons(CASES[:1], serial[:1], folder=tmp_path)


def test_a_record_of_another_network_is_refused(serial):
    with pytest.raises(InvalidInputError, match="record of shapes"):
        comparisons(CASES[:1], [replace(serial[0], outputs=serial[0].outputs[:, :1])])

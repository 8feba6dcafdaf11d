"""Intervals: against tables, and held as often as they say."""

import numpy as np
import pytest
from spikeloop.runtime.fidelity.intervals import interval, student_t


def test_students_t_against_the_tables():
    # Fisher and Yates, Statistical Tables: the two-sided 5 %, 1 % and 0.1 % points.
    for freedom, confidence, point in [
        (1, 0.95, 12.706),
        (2, 0.95, 4.303),
        (3, 0.99, 5.841),
        (4, 0.999, 8.610),
        (9, 0.95, 2.262),
        (30, 0.99, 2.750),
        (120, 0.95, 1.980),
        (100_000, 0.95, 1.960),
    ]:
        assert student_t(confidence, freedom) == pytest.approx(point, abs=6e-4)


def test_the_interval_of_students_own_data():
    # Hours of sleep gained on a soporific (Student, "The probable error of a mean", 1908), the second drug.
    gained = np.array([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])
    assert interval(gained) == pytest.approx((0.8976775, 3.7623225), abs=1e-6)
    assert interval(np.array([500.0])) is None
    assert interval(np.full(100, 500.0)) == (500.0, 500.0)


def test_the_interval_holds_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(1)
    held = [low <= 3.0 <= high for low, high in (interval(rng.normal(3.0, 2.0, 6)) for _ in range(4000))]
    assert abs(np.mean(held) - 0.95) < 0.011  # three standard errors

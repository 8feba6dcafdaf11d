"""Intervals of what is estimated from samples."""

from __future__ import annotations

import math

import numpy as np

from ...models.stimulus import FloatArray


def wilson(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a proportion (95 % unless `z` says otherwise)."""
    p = successes / trials
    centre = p + z * z / (2 * trials)
    half = z * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def interval(values: FloatArray, confidence: float = 0.95) -> tuple[float, float] | None:
    """Student's t interval of the mean of independent values [n]; None of a single one.

    Exact where the values are normally distributed, and close to it for the mean of many others. It knows no limits: of
    returns that cannot exceed 500, its upper end can.
    """
    n = len(values)
    if n < 2:
        return None
    mean = float(np.mean(values))
    half = student_t(confidence, n - 1) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return mean - half, mean + half


def student_t(confidence: float, freedom: int) -> float:
    """The number that the absolute value of Student's t, of so many degrees of freedom, stays below so often.

    References
    ----------
    Abramowitz and Stegun, *Handbook of Mathematical Functions*, 26.7.3 and 26.7.4, inverted by bisection.
    """
    # The series' factors: (j-1)/j for every other j below the degrees of freedom.
    j = np.arange(2 + freedom % 2, freedom, 2, dtype=np.float64)
    factors = (j - 1.0) / j

    def below(angle: float) -> float:
        sine, cosine = math.sin(angle), math.cos(angle)
        series = 1.0 + float(np.cumprod(factors * cosine**2).sum())
        if freedom % 2 == 0:
            return sine * series
        return 2.0 / math.pi * (angle + (sine * cosine * series if freedom > 1 else 0.0))

    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) < confidence else (low, middle)
    return math.tan(low) * math.sqrt(freedom)

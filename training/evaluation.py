"""How good and how sure an agent is in its episodes. Needs no torch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..models.network import Network
from ..models.stimulus import FloatArray
from ..runtime.fidelity import wilson
from .episodes import Episodes, Policy, run_episodes

__all__ = [
    "Episodes",
    "Policy",
    "actions",
    "figures",
    "interval",
    "largest",
    "margins",
    "outputs",
    "run_episodes",
    "summary",
]


def outputs(network: Network, observations: FloatArray, seed: int = 0) -> FloatArray:
    """What the network's decoder compares, on the reference target: [n, n_out] for observations [n, n_inputs]."""
    from ..deploy.reference import ReferenceSession  # the agent's target, of no use to training itself

    session = ReferenceSession(network)
    session.reset()
    session.inject(network.encoder.encode(network.observations(observations), network.steps, seed))
    session.run(network.steps)
    readout = session.read()
    return network.decoder.output(readout.potentials, readout.output_raster)


def actions(network: Network, observations: FloatArray) -> NDArray[np.int64]:
    """What the network does on the reference target: [n] for observations [n, n_inputs]."""
    return largest(outputs(network, observations))


def largest(values: FloatArray) -> NDArray[np.int64]:
    """The index of the largest value, the first of equal ones: [n] for values [n, n_actions]."""
    return np.asarray(values.argmax(axis=1))


def margins(values: FloatArray) -> FloatArray:
    """By how much the largest output exceeds the next: [n] for outputs [n, n_out]."""
    ordered = np.partition(values, -2, axis=1)
    return np.asarray(ordered[:, -1] - ordered[:, -2])


def summary(returns: FloatArray) -> dict[str, float]:
    """Mean, standard deviation (of the population) and least of some returns."""
    return {
        "mean_return": round(float(returns.mean()), 6),
        "std_return": round(float(returns.std()), 6),
        "min_return": float(returns.min()),
    }


def figures(ran: Episodes, compared: bool = False) -> dict[str, Any]:
    """What some episodes came to, as plain values; `compared`: another agent looked on."""
    low, high = interval(ran.returns) or (None, None)
    found: dict[str, Any] = {
        **summary(ran.returns),
        "mean_interval": None if low is None else [low, high],
        "median_return": float(np.median(ran.returns)),
        "max_return": float(ran.returns.max()),
        "mean_length": float(ran.lengths.mean()),
        "decisions": int(ran.lengths.sum()),
        "distinct_episodes": ran.distinct,
    }
    if compared:
        decisions = found["decisions"]
        found |= {
            "agreement": ran.agreed / decisions,
            "agreement_interval": list(wilson(ran.agreed, decisions)),
            "agreed": ran.agreed,
        }
    return found | {"returns": ran.returns.tolist(), "lengths": ran.lengths.tolist()}


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

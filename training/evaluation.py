"""How good and how sure an agent is in its episodes. Needs no torch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..models.network import Network
from ..models.stimulus import FloatArray
from ..runtime.fidelity.intervals import interval, wilson
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

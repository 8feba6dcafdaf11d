"""Episodes, and how good and how sure an agent is in them. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from ..models.network import Network
from ..models.stimulus import FloatArray
from .teachers import Teacher

# Actions [n] for observations [n, n_inputs].
Policy = Callable[[FloatArray], NDArray[np.int64]]


@dataclass(frozen=True, slots=True, eq=False)
class Episodes:
    """What happened in some episodes.

    Attributes
    ----------
    returns : float64 [episodes]
    observations : float64 [states, n_inputs]
        Every state in which an action was chosen.
    """

    returns: FloatArray
    observations: FloatArray


def run_episodes(env_id: str, policy: Policy, episodes: int, first_seed: int) -> Episodes:
    """Run episodes side by side; episode ``i`` is reset with the seed ``first_seed + i``."""
    envs = [gymnasium.make(env_id) for _ in range(episodes)]
    observations = np.array([env.reset(seed=first_seed + i)[0] for i, env in enumerate(envs)], dtype=np.float64)
    returns = np.zeros(episodes)
    running = np.arange(episodes)
    seen = []
    while running.size:
        seen.append(observations[running])
        over = np.zeros(running.size, dtype=bool)
        for k, (i, action) in enumerate(zip(running, policy(seen[-1]), strict=True)):
            observations[i], reward, terminated, truncated, _ = envs[i].step(int(action))
            returns[i] += float(reward)
            over[k] = terminated or truncated
        running = running[~over]
    for env in envs:
        env.close()
    return Episodes(returns, np.concatenate(seen))


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


def evaluate(network: Network, env_id: str, episodes: int, first_seed: int, teacher: Teacher) -> dict[str, Any]:
    """Run the network on the reference target and summarise, as plain values for a header.

    Agreement is the share of the states that the network visited in which the teacher would do the same. The margins
    (5 % quantile and median) are those of the outputs there, in the decoder's units.
    """
    ran = run_episodes(env_id, partial(actions, network), episodes, first_seed)
    values = outputs(network, ran.observations)
    margin = margins(values)
    agrees = largest(values) == teacher.actions(ran.observations)
    return {
        "env": env_id,
        "target": "reference",
        "episodes": episodes,
        "first_seed": first_seed,
        **summary(ran.returns),
        "agreement_with_teacher": round(float(agrees.mean()), 6),
        "margin_p05": round(float(np.quantile(margin, 0.05)), 6),
        "margin_median": round(float(np.median(margin)), 6),
        "returns": ran.returns.tolist(),
    }


def summary(returns: FloatArray) -> dict[str, float]:
    """Mean, standard deviation (of the population) and least of some returns."""
    return {
        "mean_return": round(float(returns.mean()), 6),
        "std_return": round(float(returns.std()), 6),
        "min_return": float(returns.min()),
    }

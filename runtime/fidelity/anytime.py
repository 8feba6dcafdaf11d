"""How early in its window a decision was there, and what windows of other lengths decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import InvalidInputError
from ...hardware_profiles.profile import Profile, Value, load_profile
from ...models.layers import Sparse
from ...models.network import MAX_STEPS, Network
from ...models.stimulus import CountArray, FloatArray, whole
from ..agent import launch
from .comparison import agreement
from .expected import launch_expected
from .report import Against, Anytime, Record, SweepPoint

CHUNK = 1 << 20  # steps of all hidden neurons that are turned into floats at once: 8 MB


def anytime(network: Network, expected: Record, *, settled: bool = False) -> Anytime:
    """How the decision comes about in the course of the window.

    The action after t steps is what the decoder says of the window cut off there; that of the whole window is the one
    that was taken.

    Parameters
    ----------
    network : Network
    expected : Record
        With traces, unless the output layer fires.
    settled : bool
        Also say when the decision was settled (see `settled_by`). Only for records of the reference, whose dynamics
        that takes for granted; without it ``Anytime.settled`` is ().

    Raises
    ------
    InvalidInputError
        If the record has no traces but the potential is read, or is of another window.
    """
    actions = actions_by_step(network, expected)
    same = actions == expected.actions[:, None]
    lasting = np.logical_and.accumulate(same[:, ::-1], axis=1)[:, ::-1]
    return Anytime(
        steps=tuple(range(1, network.steps + 1)),
        agreement=_shares(same),
        unchanged=_shares(lasting),
        settled=_shares(settled_by(network, expected, actions)) if settled else (),
    )


def actions_by_step(network: Network, expected: Record) -> NDArray[np.int64]:
    """The action after 1, 2, ... steps: int64 [n, steps]. The last column is the decision itself."""
    _require_window(network, expected)
    actions = np.empty((len(expected), network.steps), dtype=np.int64)
    if network.decoder.kind == "potential":
        assert expected.traces is not None, "required above"
        actions[:] = expected.traces[-1].argmax(axis=2)
    else:
        fired = expected.rasters[-1]
        if network.decoder.kind == "spike_count":
            actions[:] = np.cumsum(fired, axis=1, dtype=np.int64).argmax(axis=2)
        else:
            # The earliest spike wins as soon as it is there, whenever the window ends; before it, the first of zeros.
            until = np.logical_or.accumulate(fired > 0, axis=1)
            winner = until[np.arange(len(fired)), until.any(axis=2).argmax(axis=1)].argmax(axis=1)
            actions[:] = np.where(until.any(axis=2), winner[:, None], 0)
    actions[:, -1] = expected.actions
    return actions


def settled_by(network: Network, expected: Record, actions: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the decision was settled after 1, 2, ... steps: bool [n, steps].

    It is settled when the action that leads after t steps, or led in an earlier one, is sure to be the whole window's,
    whatever the neurons of the last hidden layer do in the steps that are left. What they did up to then is known,
    spikes that are still on their way through the layer's delay included.

    Potential
        The final potential is linear in the last layer's inputs: input ``h`` of step u counts for ``c[steps - 1 - u]
        * h``, with ``c[k]`` the sum over i < k of ``beta^(k-1-i) alpha^i``. A hidden neuron fires at most once a
        step, so that in each step to come output b gains on output a at most the sum over hidden neurons of
        ``max(0, W[j, b] - W[j, a])``, weighted by its ``c``; a leads for sure if it is further ahead of every other
        output in what is known. The bound is attained: no smaller one holds. Ties within rounding are left open.
        A network of one layer has no hidden neurons that would bound its input, and is settled at the end.
    Spike count
        An output neuron fires at most once a step, and with reset "zero" not in two steps in a row. (A bound on the
        output neurons alone, not on what the hidden ones can make them do: decisions may be settled earlier.)
    First spike
        Settled by the first spike of the output layer: later ones count for less, and of those in the same step the
        lowest neuron's counts.

    Parameters
    ----------
    network : Network
    expected : Record
        Of the reference.
    actions : int64 [n, steps]
        As `actions_by_step` returns them.
    """
    if network.decoder.kind == "potential":
        sure = _sure_by_potential(network, expected, actions)
    elif network.decoder.kind == "spike_count":
        sure = _sure_by_count(network, expected.rasters[-1], actions)
    else:
        sure = np.asarray((expected.rasters[-1] > 0).any(axis=2))
    sure[:, -1] = True
    return np.logical_or.accumulate(sure, axis=1)


def shortest_for(anytime: Anytime, share: float) -> int:
    """The fewest steps from which on the agreement stays at `share` or above; the whole window agrees by definition.

    Raises
    ------
    InvalidInputError
        If `share` is not in [0, 1].
    """
    if not 0 <= share <= 1:
        raise InvalidInputError(f"A share of {share!r} was given; it must be in [0, 1] (99.5 % is 0.995).")
    shortest = anytime.steps[-1]
    for steps, agreed in zip(reversed(anytime.steps), reversed(anytime.agreement), strict=True):
        if agreed < share:
            break
        shortest = steps
    return shortest


def sweep(
    network: Network,
    profile: Profile | str | Path,
    states: FloatArray,
    steps: Sequence[int],
    *,
    seed: int = 0,
    settings: Mapping[str, Value | str] | None = None,
    expected: NDArray[np.int64],
    against: Against = "reference",
) -> tuple[SweepPoint, ...]:
    """Run the same observations through the target and what it is compared with, with windows of other lengths.

    Parameters
    ----------
    network : Network
    profile : Profile, or the name or path of one
    states : float64 [n, n_inputs]
    steps : sequence of int
        The lengths, ascending.
    seed : int
        For random encoders, which draw other spikes for another length, and targets that draw random numbers.
    settings : mapping, optional
        Settings of the profile to override.
    expected : int64 [n]
        The decisions to compare with: those of the network's own window.
    against : "reference" or "twin"
        What the target is compared with.

    Returns
    -------
    tuple of SweepPoint
        One for each length. The time is the target's median, without records of spikes.

    Raises
    ------
    InvalidInputError
        If the lengths are not ascending whole numbers, or `expected` is not as long as `states`.
    PreflightError, TargetError, MissingPackageError
        As `launch` and `Agent.decide` raise them.
    """
    lengths = require_steps(steps)
    states = network.observations(states)
    if len(expected) != len(states):
        raise InvalidInputError(f"{len(expected)} decisions were given to compare those on {len(states)} states with.")
    points = []
    for length in lengths:
        other = replace(network, steps=length)
        with launch_expected(other, load_profile(profile, settings), against, seed=seed) as agent:
            reference = np.asarray(agent.decide(states).action)
        with launch(other, profile, seed=seed, settings=settings) as agent:
            decisions = [agent.decide(state) for state in states]
        points.append(
            SweepPoint(
                steps=length,
                reference=agreement(reference, expected),
                target=agreement(np.array([int(decision.action) for decision in decisions]), expected),
                ms_per_decision=float(np.median([decision.timings.total_us for decision in decisions])) / 1e3,
            )
        )
    return tuple(points)


def require_steps(steps: Sequence[int]) -> tuple[int, ...]:
    """`steps` as ascending window lengths, each at most once.

    Raises
    ------
    InvalidInputError
        If they are not.
    """
    lengths = tuple(whole(length, "A window's length in steps", 1, MAX_STEPS) for length in steps)
    if not lengths or any(a >= b for a, b in pairwise(lengths)):
        given = ", ".join(map(str, lengths)) or "none"
        raise InvalidInputError(f"Window lengths of {given} were given; one or more in ascending order are needed.")
    return lengths


def _sure_by_potential(network: Network, expected: Record, actions: NDArray[np.int64]) -> NDArray[np.bool_]:
    n, steps = actions.shape
    sure = np.zeros((n, steps), dtype=np.bool_)
    if len(network.layers) == 1:
        return sure
    layer = network.layers[-1]
    connections = layer.connections
    weights = connections.dense() if isinstance(connections, Sparse) else connections
    shares = _shares_of_inputs(network)
    # What a hidden spike of each step counts for: it is an input `delay - 1` steps later, or never.
    counts = np.zeros(steps)
    counts[: max(0, steps - layer.delay + 1)] = shares[layer.delay - 1 :]
    to_come = np.append(np.cumsum(counts[::-1])[::-1], 0.0)[1:]
    # What each output can gain on each leader in a step: [leader, other].
    gains = np.array([np.maximum(weights - weights[:, [a]], 0.0).sum(axis=0) for a in range(layer.n_out)])
    by_bias = layer.neuron_bias * shares.sum()
    # Both the simulation and this sum round; a lead within that is none.
    largest = shares.sum() * float((np.abs(weights).sum(axis=0) + np.abs(layer.neuron_bias)).max())
    rounding = 4 * (steps + layer.n_in) * np.finfo(np.float64).eps * largest
    size = max(1, CHUNK // (steps * max(layer.n_in, layer.n_out)))
    for start in range(0, n, size):
        some = slice(start, start + size)
        hidden = expected.rasters[-1][some].reshape(-1, layer.n_in).astype(np.float64)
        inputs = (hidden @ weights).reshape(-1, steps, layer.n_out)
        known = np.cumsum(inputs * counts[:, None], axis=1) + by_bias
        leaders = actions[some]
        ahead = np.take_along_axis(known, leaders[:, :, None], axis=2) - known
        ahead -= to_come[:, None] * gains[leaders]
        np.put_along_axis(ahead, leaders[:, :, None], np.inf, axis=2)
        sure[some] = (ahead > rounding).all(axis=2)
    return sure


def _shares_of_inputs(network: Network) -> FloatArray:
    """What an input of each step adds to the potential at the window's end: float64 [steps]."""
    alpha, beta = network.neuron.synapse_decay, network.neuron.membrane_decay
    potential, synaptic = 0.0, 1.0
    shares = np.empty(network.steps)
    for k in range(network.steps):
        shares[network.steps - 1 - k] = potential
        potential, synaptic = beta * potential + synaptic, alpha * synaptic
    return shares


def _sure_by_count(network: Network, raster: CountArray, actions: NDArray[np.int64]) -> NDArray[np.bool_]:
    counts = np.cumsum(raster, axis=1, dtype=np.int64)
    left = np.arange(network.steps - 1, -1, -1, dtype=np.int64)[None, :, None]
    if network.neuron.reset == "zero":  # not in the step after a spike: the potential is 0 then, below any threshold
        left = (left + (raster == 0)) // 2
    leaders = actions[:, :, None]
    ahead = np.take_along_axis(counts, leaders, axis=2) - counts - left
    # Of equal counts the first wins.
    others = np.arange(raster.shape[2])
    return np.asarray(((ahead > 0) | ((ahead == 0) & (leaders < others)) | (leaders == others)).all(axis=2))


def _require_window(network: Network, expected: Record) -> None:
    if network.decoder.kind == "potential":
        if expected.traces is None:
            raise InvalidInputError(
                "A record without potentials was given; when a decision was there cannot be told without those of the "
                "last layer. Record them."
            )
        shape, what = expected.traces[-1].shape, "potentials"
    else:
        shape, what = expected.rasters[-1].shape, "spikes"
    needed = (len(expected), network.steps, network.n_outputs)
    if shape != needed:
        raise InvalidInputError(
            f"The last layer's {what} have the shape {shape}; network '{network.name}' has {needed}."
        )


def _shares(holds: NDArray[np.bool_]) -> tuple[float, ...]:
    return tuple(holds.mean(axis=0).tolist())

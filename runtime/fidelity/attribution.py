"""Why a target decides otherwise: what each declared departure costs, and what none of them explains.

The simulation adopts sets of the departures, and each set's agreement is a number. A departure's share of the loss is
its Shapley value (L. S. Shapley, A value for n-person games, 1953): what it costs when it joins, averaged over all
orders in which the departures can join. These shares, and no others that treat causes alike, add up to the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from math import factorial
from statistics import median
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from ...deploy.departures.adoption import departed, effective, signature
from ...deploy.departures.session import DepartedSession
from ...deploy.deployment import Deployment
from ...hardware_profiles.profile import DepartureKind
from ...models.stimulus import FloatArray
from ..agent import Agent
from .report import Attribution, Cause, Record

Kinds = frozenset[DepartureKind]

MOST_EXACT = 5  # causes whose subsets are all simulated; of more, orders are drawn
ORDERS = 8  # that are drawn, each with its reverse: the errors of both partly cancel
MOST_LISTED = 1_000
RANDOM: tuple[DepartureKind, ...] = ("noise", "packet loss")
UNDECLARED = "not declared by the profile"
# Compiled code runs outside of Python's lock, so that threads use all cores; a few are enough for milliseconds.
THREADS = 2


def simulate(
    deployment: Deployment, kinds: Collection[DepartureKind], states: FloatArray, *, seed: int = 0, spikes: bool = True
) -> Record:
    """What the deployment's network does with the observations [n, n_inputs] under some departures of its profile."""
    start = perf_counter()
    session = DepartedSession(departed(deployment, kinds), seed)
    decision = Agent(deployment, session, seed).decide(states, spikes=spikes)
    spent = (perf_counter() - start) * 1e3
    return Record(
        actions=np.asarray(decision.action),
        outputs=decision.output,
        rasters=decision.rasters or (),
        ms=np.full(len(states), spent / len(states)),
    )


def attribute(
    deployment: Deployment,
    states: FloatArray,
    expected: NDArray[np.int64],
    given: Record | None = None,
    *,
    baseline: Collection[DepartureKind] = (),
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Attribution:
    """Say what each departure of the deployment's profile costs.

    Parameters
    ----------
    deployment : Deployment
    states : float64 [n, n_inputs]
    expected : int64 [n]
        The actions that the target is compared with.
    given : Record, optional
        What the target did; without it nothing can be unexplained.
    baseline : kinds, optional
        Departures that what the target is compared with has too; they are always adopted.
    seed : int
        Of random encoders, and of departures that are random.
    on_progress : callable, optional
        Called with the number of simulations done, and of those known to be needed.
    """
    declared = {departure.kind: departure.text for departure in deployment.profile.departures}
    found = [kind for kind in effective(deployment) if kind not in baseline]
    game = _Game(deployment, states, expected, frozenset(baseline), seed, on_progress)
    everything = frozenset(kind for kind in found if kind in declared)
    game.prepare([frozenset(), everything])
    game.prepare([frozenset({kind}) for kind in found] + [everything - {kind} for kind in everything])
    players = _players(game, everything)
    shares = _exact_shares(game, players) if len(players) <= MOST_EXACT else _sampled_shares(game, players)
    causes = [
        Cause(
            kind=kind,
            text=declared.get(kind, UNDECLARED),
            alone=game.agreement({kind}),
            alone_flips=game.flips({kind}),
            mended=game.agreement(everything - {kind}),
            mended_flips=game.flips(everything - {kind}),
            points=shares.get(kind, (0.0, 0.0))[0],
            points_error=shares.get(kind, (0.0, 0.0))[1],
        )
        for kind in found
    ]
    causes.sort(key=lambda cause: (-abs(cause.points), cause.kind))
    together = simulate(deployment, everything | frozenset(baseline), states, seed=seed)
    other = np.zeros(0, dtype=np.int64) if given is None else np.flatnonzero(together.actions != given.actions)
    return Attribution(
        causes=tuple(causes),
        together=game.agreement(everything),
        together_flips=game.flips(everything),
        mended_pairs=_pairs(game, everything, causes),
        unexplained=tuple(other[:MOST_LISTED].tolist()),
        unexplained_flips=len(other),
        unexplained_trains=0 if given is None else differing_trains(together, given),
        stochastic=departed(deployment, everything | frozenset(baseline)).random,
        subsets=len(game.us),
        us_per_decision=median(game.us),
    )


def differing_trains(a: Record, b: Record) -> int:
    """Trains that are not the same in both."""
    return sum(int((ours != theirs).any(axis=1).sum()) for ours, theirs in zip(a.rasters, b.rasters, strict=True))


class _Game:
    """Agreement by set of departures, each simulated once."""

    def __init__(
        self,
        deployment: Deployment,
        states: FloatArray,
        expected: NDArray[np.int64],
        baseline: Kinds,
        seed: int,
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        self._deployment, self._states, self._expected = deployment, states, expected
        self._baseline, self._seed, self._on_progress = baseline, seed, on_progress
        self._flips: dict[Kinds, int] = {}
        self._by_dynamics: dict[bytes, int] = {}  # departures that change nothing cost nothing
        self.us: list[float] = []

    def prepare(self, sets: Iterable[Kinds]) -> None:
        """Simulate these sets, side by side."""
        wanted = [kinds for kinds in dict.fromkeys(sets) if kinds not in self._flips]
        marks = {kinds: signature(departed(self._deployment, kinds | self._baseline)) for kinds in wanted}
        new = {mark: kinds for kinds, mark in marks.items() if mark not in self._by_dynamics}
        with ThreadPoolExecutor(THREADS) as pool:
            for mark, flips in zip(new, pool.map(self._simulated, new.values()), strict=True):
                self._by_dynamics[mark] = flips
                if self._on_progress is not None:
                    self._on_progress(len(self._by_dynamics), len(self._by_dynamics))
        for kinds, mark in marks.items():
            self._flips[kinds] = self._by_dynamics[mark]

    def flips(self, kinds: Collection[DepartureKind]) -> int:
        """Observations with another action than expected."""
        chosen = frozenset(kinds)
        if chosen not in self._flips:
            self.prepare([chosen])
        return self._flips[chosen]

    def agreement(self, kinds: Collection[DepartureKind]) -> float:
        """In [0, 1]."""
        return 1.0 - self.flips(kinds) / len(self._expected)

    def points(self, flips: float) -> float:
        """Flips as per cent points."""
        return 100.0 * flips / len(self._expected)

    def _simulated(self, kinds: Kinds) -> int:
        start = perf_counter()
        record = simulate(self._deployment, kinds | self._baseline, self._states, seed=self._seed, spikes=False)
        self.us.append((perf_counter() - start) * 1e6 / len(self._expected))
        return int((record.actions != self._expected).sum())


def _players(game: _Game, everything: Kinds) -> list[DepartureKind]:
    """The departures that share the loss: those that cost or save a flip, alone or after all others.

    The others have a share of 0, which is right only if they do nothing together either.
    """
    idle = frozenset(
        kind
        for kind in everything
        if game.flips({kind}) == game.flips(()) and game.flips(everything - {kind}) == game.flips(everything)
    )
    if game.flips(idle) != game.flips(()) or game.flips(everything - idle) != game.flips(everything):
        idle = frozenset()
    return sorted(everything - idle)


def _exact_shares(game: _Game, players: list[DepartureKind]) -> dict[DepartureKind, tuple[float, float]]:
    """Shapley's values in points, from all subsets."""
    n = len(players)
    game.prepare(frozenset(chosen) for size in range(n + 1) for chosen in combinations(players, size))
    shares = {}
    for kind in players:
        others = [other for other in players if other != kind]
        total = 0.0
        for size in range(n):
            weight = factorial(size) * factorial(n - size - 1) / factorial(n)
            for chosen in combinations(others, size):
                total += weight * (game.flips({*chosen, kind}) - game.flips(chosen))
        shares[kind] = game.points(total), 0.0
    return shares


def _sampled_shares(game: _Game, players: list[DepartureKind]) -> dict[DepartureKind, tuple[float, float]]:
    """The same from orders drawn at random, with standard errors; they still add up to the loss."""
    random = np.random.default_rng(0)
    drawn = [[players[i] for i in random.permutation(len(players))] for _ in range(ORDERS)]
    orders = [order for pair in ((one, one[::-1]) for one in drawn) for order in pair]
    game.prepare(frozenset(order[:size]) for order in orders for size in range(len(order) + 1))
    costs = {
        kind: [game.flips(order[: order.index(kind) + 1]) - game.flips(order[: order.index(kind)]) for order in orders]
        for kind in players
    }
    shares = {}
    for kind, each in costs.items():
        pairs = (np.array(each[::2]) + np.array(each[1::2])) / 2
        error = float(pairs.std(ddof=1) / np.sqrt(len(pairs)))
        shares[kind] = game.points(float(pairs.mean())), game.points(error)
    return shares


def _pairs(game: _Game, everything: Kinds, causes: list[Cause]) -> tuple[tuple[str, str, float], ...]:
    """The two of the costliest departures whose mending, together, regains most; none where one does it as well."""
    costliest = [cause for cause in causes if cause.kind in everything and cause.points > 0][:3]
    if len(costliest) < 2:
        return ()
    pairs = list(combinations(costliest, 2))
    game.prepare(everything - {a.kind, b.kind} for a, b in pairs)
    a, b = max(pairs, key=lambda pair: game.agreement(everything - {pair[0].kind, pair[1].kind}))
    mended = game.agreement(everything - {a.kind, b.kind})
    return ((a.kind, b.kind, mended),) if mended > max(a.mended, b.mended) else ()

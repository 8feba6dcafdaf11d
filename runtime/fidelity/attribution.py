"""Why a target decides otherwise: what each declared departure costs, and what none of them explains.

The simulation adopts sets of the departures, and each set's agreement is a number. A departure's share of the loss is
its Shapley value (L. S. Shapley, A value for n-person games, 1953): what it costs when it joins, averaged over all
orders in which the departures can join. These shares, and no others that treat causes alike, add up to the loss.

Of many causes, orders are drawn; and where all observations would take too long, some of them. A share is a mean over
observations, so that it can be estimated from some of each kind of them: those that all departures together flip, those
that they mend, and the others. What all of them do to an observation is known from its kind, and the shares of the
causes in it add up to just that; hence the estimates, each kind weighted by how many there are of it, still add up to
the loss of all observations (stratified sampling; W. G. Cochran, Sampling techniques, 1977, chapter 5).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from math import factorial
from statistics import median
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...deploy.backend import Recording
from ...deploy.departures.adoption import departed, effective, signature
from ...deploy.departures.session import DepartedSession
from ...deploy.deployment import Deployment
from ...hardware_profiles.profile import DepartureKind
from ...models.stimulus import FloatArray, Stimulus
from .observations import evenly_spaced
from .report import Attribution, Cause, Record

Kinds = frozenset[DepartureKind]

MOST_EXACT = 7  # causes whose subsets are all simulated; of more, orders are drawn
ORDERS = 8  # that are drawn, each with its reverse: the errors of both partly cancel
MOST_UPDATES = 1_500_000_000  # of neurons, in all simulations of one attribution: about 10 s of one core
FIXED_POINT = 3  # updates in fixed point take about three times as long
FEWEST_OBSERVATIONS = 24
MOST_LISTED = 1_000
RANDOM: tuple[DepartureKind, ...] = ("noise", "packet loss")
UNDECLARED = "not declared by the profile"
# Compiled code runs outside of Python's lock, so that threads use all cores; a few are enough for milliseconds.
THREADS = 2


def simulate(
    deployment: Deployment, kinds: Collection[DepartureKind], states: FloatArray, *, seed: int = 0, spikes: bool = True
) -> Record:
    """What the deployment's network does with the observations [n, n_inputs] under some departures of its profile."""
    network = deployment.network
    stimulus = network.encoder.encode(network.observations(states), network.steps, seed, 0)
    return _record(deployment, kinds, stimulus, seed=seed, spikes=spikes)


def _record(
    deployment: Deployment, kinds: Collection[DepartureKind], stimulus: Stimulus, *, seed: int, spikes: bool
) -> Record:
    start = perf_counter()
    session = DepartedSession(departed(deployment, kinds), seed)
    session.inject(stimulus, Recording(spikes=spikes))
    session.run(deployment.network.steps)
    readout = session.read()
    outputs = deployment.network.decoder.output(readout.potentials, readout.output_raster)
    spent = (perf_counter() - start) * 1e3
    return Record(
        actions=outputs.argmax(axis=1),
        outputs=outputs,
        rasters=readout.rasters or (),
        ms=np.full(len(outputs), spent / len(outputs)),
    )


def attribute(
    deployment: Deployment,
    states: FloatArray,
    expected: NDArray[np.int64],
    given: Record | None = None,
    *,
    baseline: Collection[DepartureKind] = (),
    seed: int = 0,
    together: Record | None = None,
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
    together : Record, optional
        What `simulate` does with all departures that the profile declares, if that is known already.
    on_progress : callable, optional
        Called with the number of simulations done, and of those known to be needed.
    """
    declared = {departure.kind: departure.text for departure in deployment.profile.departures}
    found = [kind for kind in effective(deployment) if kind not in baseline]
    everything = frozenset(kind for kind in found if kind in declared)
    if together is None:
        together = simulate(deployment, everything | frozenset(baseline), states, seed=seed)
    game = _Game(deployment, states, expected, frozenset(baseline), seed, on_progress)
    game.know(everything, together)
    game.prepare([frozenset()])
    game.limit(frozenset(found), everything)
    game.prepare([frozenset({kind}) for kind in found] + [everything - {kind} for kind in everything])
    players = _players(game, everything)
    shares = _exact_shares(game, players) if len(players) <= MOST_EXACT else _sampled_shares(game, players)
    causes = [
        Cause(
            kind=kind,
            text=declared.get(kind, UNDECLARED),
            alone=game.agreement({kind}),
            alone_flips=round(game.flips({kind})),
            mended=game.agreement(everything - {kind}),
            mended_flips=round(game.flips(everything - {kind})),
            points=shares.get(kind, (0.0, 0.0))[0],
            points_error=shares.get(kind, (0.0, 0.0))[1],
        )
        for kind in found
    ]
    causes.sort(key=lambda cause: (-cause.points, cause.kind))
    other = np.zeros(0, dtype=np.int64) if given is None else np.flatnonzero(together.actions != given.actions)
    return Attribution(
        causes=tuple(causes),
        together=game.agreement(everything),
        together_flips=round(game.flips(everything)),
        mended_pairs=_pairs(game, everything, causes),
        unexplained=tuple(other[:MOST_LISTED].tolist()),
        unexplained_flips=len(other),
        unexplained_trains=0 if given is None else differing_trains(together, given),
        stochastic=departed(deployment, everything | frozenset(baseline)).random,
        subsets=len(game.us),
        us_per_decision=median(game.us),
        sampled_observations=game.sampled,
    )


def differing_trains(a: Record, b: Record) -> int:
    """Trains that are not the same in both."""
    return sum(int((ours != theirs).any(axis=1).sum()) for ours, theirs in zip(a.rasters, b.rasters, strict=True))


class _Some(NamedTuple):
    """Some observations of one kind, and how many of that kind there are."""

    picks: NDArray[np.int64]
    of: int


class _Game:
    """Which observations each set of departures flips, each set simulated once."""

    def __init__(
        self,
        deployment: Deployment,
        states: FloatArray,
        expected: NDArray[np.int64],
        baseline: Kinds,
        seed: int,
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        self._deployment, self._expected = deployment, expected
        self._baseline, self._seed, self._on_progress = baseline, seed, on_progress
        network = deployment.network
        self._stimulus = network.encoder.encode(states, network.steps, seed, 0)
        self._picked = self._stimulus
        self._kinds = [_Some(np.arange(len(states)), len(states))]
        self._flipped: dict[Kinds, NDArray[np.bool_]] = {}
        self._by_dynamics: dict[bytes, NDArray[np.bool_]] = {}  # departures that change nothing cost nothing
        self.us: list[float] = []

    @property
    def sampled(self) -> int | None:
        """On how many observations sets are simulated; None: on all."""
        n = len(self._picked)
        return None if n == len(self._stimulus) else n

    def know(self, kinds: Kinds, record: Record) -> None:
        """Take the result of one set from what was simulated before, on all observations."""
        mark = signature(departed(self._deployment, kinds | self._baseline))
        self._flipped[kinds] = self._by_dynamics[mark] = record.actions != self._expected
        self.us.append(float(record.ms.mean() * 1e3))

    def limit(self, found: Kinds, everything: Kinds) -> None:
        """Choose on which observations the sets to come are simulated: by the amount of work, never by time."""
        tried = [frozenset({kind}) for kind in found] + [everything - {kind} for kind in everything]
        if not tried:
            return
        updates = sum(map(self._updates, tried))
        more = min(2 ** len(everything), 2 * ORDERS * len(everything))  # sets, as far as is known by now
        affordable = int(MOST_UPDATES // (updates * (1 + more / len(tried))))
        if affordable < len(self._stimulus):
            self._sample(max(FEWEST_OBSERVATIONS, affordable), everything)

    def _updates(self, kinds: Kinds) -> int:
        """Of neurons in one decision."""
        dynamics = departed(self._deployment, kinds | self._baseline)
        neurons = sum(layer.size * (FIXED_POINT if layer.fixed else 1) for layer in dynamics.layers)
        return dynamics.ticks_per_step * dynamics.network.steps * neurons

    def _sample(self, most: int, everything: Kinds) -> None:
        """Go on with some of the observations, of each kind alike."""
        picks: list[NDArray[np.int64]] = []
        kind = 2 * self._flipped[frozenset()] + self._flipped[everything]
        left = sorted((np.flatnonzero(kind == value) for value in np.unique(kind)), key=len)
        self._kinds, taken = [], 0
        for index, members in enumerate(left):
            count = min(len(members), max(1, (most - taken) // (len(left) - index)))
            picks.append(members[evenly_spaced(len(members), count)])
            self._kinds.append(_Some(np.arange(taken, taken + count), len(members)))
            taken += count
        chosen = np.concatenate(picks)
        spikes = self._stimulus.spikes
        self._picked = Stimulus(self._stimulus.currents[chosen], None if spikes is None else spikes[chosen])
        self._expected = self._expected[chosen]
        self._flipped = {kinds: flipped[chosen] for kinds, flipped in self._flipped.items()}
        self._by_dynamics = {mark: flipped[chosen] for mark, flipped in self._by_dynamics.items()}

    def prepare(self, sets: Iterable[Kinds]) -> None:
        """Simulate these sets, side by side."""
        wanted = [kinds for kinds in dict.fromkeys(sets) if kinds not in self._flipped]
        marks = {kinds: signature(departed(self._deployment, kinds | self._baseline)) for kinds in wanted}
        new = {mark: kinds for kinds, mark in marks.items() if mark not in self._by_dynamics}
        needed = len(self._by_dynamics) + len(new)
        with ThreadPoolExecutor(THREADS) as pool:
            for mark, flipped in zip(new, pool.map(self._simulated, new.values()), strict=True):
                self._by_dynamics[mark] = flipped
                if self._on_progress is not None:
                    self._on_progress(len(self._by_dynamics), needed)
        for kinds, mark in marks.items():
            self._flipped[kinds] = self._by_dynamics[mark]

    def flipped(self, kinds: Collection[DepartureKind]) -> NDArray[np.bool_]:
        """Which of the simulated observations have another action than expected."""
        chosen = frozenset(kinds)
        if chosen not in self._flipped:
            self.prepare([chosen])
        return self._flipped[chosen]

    def flips(self, kinds: Collection[DepartureKind]) -> float:
        """How many of all observations have another action than expected; of a sample, an estimate."""
        return self.total(self.flipped(kinds))

    def agreement(self, kinds: Collection[DepartureKind]) -> float:
        """In [0, 1]."""
        return 1.0 - self.flips(kinds) / len(self._stimulus)

    def total(self, values: NDArray[np.float64] | NDArray[np.bool_]) -> float:
        """The sum over all observations, from values [simulated observations]."""
        return sum(some.of / len(some.picks) * float(values[some.picks].sum()) for some in self._kinds)

    def error(self, values: NDArray[np.float64]) -> float:
        """The standard error of `total`, 0 where nothing is sampled."""
        variance = 0.0
        for picks, of in self._kinds:
            if 1 < len(picks) < of:
                variance += of**2 * float(values[picks].var(ddof=1)) / len(picks) * (1.0 - len(picks) / of)
        return float(np.sqrt(variance))

    def points(self, flips: float) -> float:
        """Flips as per cent points."""
        return 100.0 * flips / len(self._stimulus)

    def _simulated(self, kinds: Kinds) -> NDArray[np.bool_]:
        start = perf_counter()
        record = _record(self._deployment, kinds | self._baseline, self._picked, seed=self._seed, spikes=False)
        self.us.append((perf_counter() - start) * 1e6 / len(self._expected))
        flipped: NDArray[np.bool_] = record.actions != self._expected
        return flipped


def _players(game: _Game, everything: Kinds) -> list[DepartureKind]:
    """The departures that share the loss: those that flip or mend a decision, alone or before all others.

    The others have a share of 0, which is right only if they do nothing together either.
    """

    def alike(some: Kinds, others: Kinds) -> bool:
        return np.array_equal(game.flipped(some), game.flipped(others))

    nothing: Kinds = frozenset()
    idle = frozenset(
        kind for kind in everything if alike(frozenset({kind}), nothing) and alike(everything - {kind}, everything)
    )
    if not (alike(idle, nothing) and alike(everything - idle, everything)):
        idle = nothing
    return sorted(everything - idle)


def _exact_shares(game: _Game, players: list[DepartureKind]) -> dict[DepartureKind, tuple[float, float]]:
    """Shapley's values in points, from all subsets, with standard errors."""
    n = len(players)
    game.prepare(frozenset(chosen) for size in range(n + 1) for chosen in combinations(players, size))
    shares = {}
    for kind in players:
        others = [other for other in players if other != kind]
        costs = np.zeros(len(game.flipped(())))
        for size in range(n):
            weight = factorial(size) * factorial(n - size - 1) / factorial(n)
            for chosen in combinations(others, size):
                costs += weight * _cost(game, kind, chosen)
        shares[kind] = game.points(game.total(costs)), game.points(game.error(costs))
    return shares


def _sampled_shares(game: _Game, players: list[DepartureKind]) -> dict[DepartureKind, tuple[float, float]]:
    """The same from orders drawn at random, and their reverses; they still add up to the loss."""
    random = np.random.default_rng(0)
    drawn = [[players[i] for i in random.permutation(len(players))] for _ in range(ORDERS)]
    game.prepare(
        frozenset(order[:size]) for one in drawn for order in (one, one[::-1]) for size in range(len(order) + 1)
    )
    shares = {}
    for kind in players:
        pairs = np.array(
            [sum(_cost(game, kind, order[: order.index(kind)]) for order in (one, one[::-1])) / 2 for one in drawn]
        )
        costs = pairs.mean(axis=0)
        # Both samples' errors, as if each were the only one: at most a little too large.
        of_orders = float(np.std([game.total(pair) for pair in pairs], ddof=1) / np.sqrt(ORDERS))
        shares[kind] = game.points(game.total(costs)), game.points(float(np.hypot(of_orders, game.error(costs))))
    return shares


def _cost(game: _Game, kind: DepartureKind, chosen: Collection[DepartureKind]) -> FloatArray:
    """What a departure does to each observation when it joins some others: 1 flips it, -1 mends it."""
    return game.flipped({*chosen, kind}).astype(np.float64) - game.flipped(chosen)


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

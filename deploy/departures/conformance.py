"""Whether a profile's declaration is true of its target, whole, and without a word too many.

Probe networks run on the real target and in the simulation. A declared departure is shown where the target does what
the simulation does with all that is declared, and something else than the simulation without this one. Nothing is left
undeclared if all probes are as simulated.

On a target that draws random numbers, means over many windows are compared: of the spikes of each neuron in each step,
and of the outputs. They are taken for equal up to SIGMAS standard errors.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ...errors import SpikeloopError
from ...hardware_profiles.profile import DepartureKind, Profile, load_profile
from ...models.network import Dense
from ...models.stimulus import FloatArray, Stimulus
from ..backend import Backend, Readout, Recording, Session
from ..conformance import Outcome
from ..deployment import Deployment
from .adoption import departed, signature
from .probes import Probe, probes_for
from .session import DepartedSession

TOLERANCE = 1e-9  # of a potential, absolute and relative
WINDOWS = 50  # of each stimulus, where the target is random
SIGMAS = 5.0
NOTHING_UNDECLARED = "nothing undeclared"

_KINDS: tuple[DepartureKind, ...] = get_args(DepartureKind)
_Kinds = Collection[DepartureKind]


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """What can be read of n windows: arrays [n, ...]; `hidden` are potentials that the target gives only if it can."""

    spikes: tuple[NDArray[np.uint8], ...]
    outputs: FloatArray
    hidden: tuple[FloatArray, ...]


class _Opened:
    """A probe on its target, and the simulations of it that were asked for."""

    def __init__(self, backend: Backend, probe: Probe, deployment: Deployment, random: bool, traces: bool) -> None:
        self.name = probe.name
        self._deployment, self.random, self._traces = deployment, random, traces
        self._stimulus = _repeated(probe.stimulus, WINDOWS) if random else probe.stimulus
        self._simulated: dict[bytes, _Seen] = {}
        session = backend.open(deployment, 1)
        try:
            self._given = self._run(session, traces, session.max_batch)
        finally:
            session.close()

    def _run(self, session: Session, traces: bool, most: int | None) -> _Seen:
        n, steps = len(self._stimulus), self._deployment.network.steps
        parts = []
        for first in range(0, n, most or n):
            session.reset()
            session.inject(self._stimulus.samples(first, first + (most or n)), Recording(True, traces))
            session.run(steps)
            parts.append(_seen(session.read()))
        return _Seen(
            _joined([part.spikes for part in parts]),
            np.concatenate([part.outputs for part in parts]),
            _joined([part.hidden for part in parts]),
        )

    def signature(self, kinds: _Kinds) -> bytes:
        return signature(departed(self._deployment, kinds))

    def simulated(self, kinds: _Kinds) -> _Seen:
        dynamics = departed(self._deployment, kinds)
        key = signature(dynamics)
        if key not in self._simulated:
            # Other random numbers than the target's, should it draw its own from the same seed.
            self._simulated[key] = self._run(DepartedSession(dynamics, 12345), True, None)
        return self._simulated[key]

    def as_simulated(self, kinds: _Kinds) -> bool:
        return self._same(self._given, self.simulated(kinds), self._traces)

    def differ(self, some: _Kinds, others: _Kinds, traces: bool | None = None) -> bool:
        """Whether two simulations differ in what can be read of the target."""
        return not self._same(self.simulated(some), self.simulated(others), self._traces if traces is None else traces)

    def _same(self, a: _Seen, b: _Seen, traces: bool) -> bool:
        if self.random:
            n = len(self._stimulus) // WINDOWS
            equal = all(_equal_means(x, y, n) for x, y in zip(a.spikes, b.spikes, strict=True))
            return equal and _equal_means(a.outputs, b.outputs, n)
        same = all(np.array_equal(x, y) for x, y in zip(a.spikes, b.spikes, strict=True))
        same = same and np.allclose(a.outputs, b.outputs, rtol=TOLERANCE, atol=TOLERANCE)
        if traces:
            same = same and all(
                np.allclose(x, y, rtol=TOLERANCE, atol=TOLERANCE) for x, y in zip(a.hidden, b.hidden, strict=True)
            )
        return same


def check_departures(factory: Callable[[], Backend], profile: Profile | str) -> list[Outcome]:
    """Compare what a profile declares with what its target does.

    Parameters
    ----------
    factory : callable
        Returns the backend that reaches the target.
    profile : Profile, or the name or path of one

    Returns
    -------
    list of Outcome
        One for each declared kind, and one named "nothing undeclared".

    Examples
    --------
    >>> from spikeloop.deploy.reference import ReferenceBackend
    >>> check_departures(ReferenceBackend, "reference")
    [Outcome(check='nothing undeclared', status='passed', detail='')]
    """
    profile = load_profile(profile)
    backend = factory()
    declared = tuple(departure.kind for departure in profile.departures)
    try:
        opened, refused = _open(backend, profile, declared)
    except SpikeloopError as error:
        opened, refused = [], str(error)
    if not opened:
        detail = f"the probes cannot be run: {refused}"
        return [Outcome(name, "failed", detail) for name in (*declared, NOTHING_UNDECLARED)]
    outcomes = [_outcome(kind, declared, opened, backend, profile) for kind in declared]
    return [*outcomes, _nothing_undeclared(declared, opened)]


def _open(backend: Backend, profile: Profile, declared: _Kinds) -> tuple[list[_Opened], str]:
    traces = "potential traces" not in dict(backend.cannot)
    opened, refused = [], ""
    for probe in probes_for(profile):
        errors = [item for item in backend.preflight(probe.network, profile) if item.severity == "error"]
        if errors:
            refused = str(errors[0])
            continue
        deployment = backend.plan(probe.network, profile)
        random = profile.stochastic or departed(deployment, declared).random
        opened.append(_Opened(backend, probe, deployment, random, traces))
    return opened, refused


def _outcome(
    kind: DepartureKind, declared: tuple[DepartureKind, ...], opened: list[_Opened], backend: Backend, profile: Profile
) -> Outcome:
    others = [other for other in declared if other != kind]
    differing = [one for one in opened if one.differ(declared, others)]
    if any(one.as_simulated(declared) and not one.as_simulated(others) for one in differing):
        return Outcome(kind, "passed")
    if differing:
        return Outcome(kind, "failed", f"not as simulated with it: {_names(differing)}")
    if kind == "packet loss" and profile.machine is not None and not profile.machine.drop_packets:
        return Outcome(kind, "skipped", "drop_packets is 0: no spike is lost")
    if kind == "weight precision" and profile.circuit is not None:
        return _refuses_off_grid(backend, profile)
    if all(one.signature(declared) == one.signature(others) for one in opened):
        return Outcome(kind, "failed", "no probe shows it: the simulations with it and without it are the same")
    if any(one.differ(declared, others, traces=True) for one in opened):
        return Outcome(kind, "skipped", "only potentials of hidden neurons show it, which this target does not give")
    if any(one.random for one in opened):
        return Outcome(kind, "skipped", f"too small to be told from chance in {WINDOWS} windows of each input")
    return Outcome(kind, "failed", "no probe shows it: all spikes and outputs are the same with it and without it")


def _refuses_off_grid(backend: Backend, profile: Profile) -> Outcome:
    """Rounding that is demanded rather than done."""
    network = probes_for(profile)[0].network
    first = network.layers[0]
    assert isinstance(first, Dense), "as all probes are made"
    off = replace(network, layers=(Dense(first.weights * (1.0 + 1e-6), first.bias), *network.layers[1:]))
    if any(finding.severity == "error" for finding in backend.preflight(off, profile)):
        return Outcome("weight precision", "passed")
    return Outcome("weight precision", "failed", "weights off the grid are not refused, and not rounded either")


def _nothing_undeclared(declared: tuple[DepartureKind, ...], opened: list[_Opened]) -> Outcome:
    wrong = [one for one in opened if not one.as_simulated(declared)]
    if not wrong:
        return Outcome(NOTHING_UNDECLARED, "passed")
    detail = f"not as simulated with all that is declared: {_names(wrong)}"
    for kind in _KINDS:
        if kind not in declared and all(one.as_simulated((*declared, kind)) for one in opened):
            detail += f"; with '{kind}' all would be"
    return Outcome(NOTHING_UNDECLARED, "failed", detail)


def _names(opened: list[_Opened]) -> str:
    return ", ".join(one.name for one in opened)


def _seen(read: Readout) -> _Seen:
    assert read.rasters is not None, "spikes were to be recorded, but the read-out has none"
    return _Seen(read.rasters, read.potentials, read.traces or ())


def _joined(parts: list[tuple[NDArray[Any], ...]]) -> tuple[NDArray[Any], ...]:
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))


def _repeated(stimulus: Stimulus, times: int) -> Stimulus:
    spikes = None if stimulus.spikes is None else np.repeat(stimulus.spikes, times, axis=0)
    return Stimulus(np.repeat(stimulus.currents, times, axis=0), spikes)


def _equal_means(a: NDArray[Any], b: NDArray[Any], n: int) -> bool:
    """Of n inputs' windows: whether no mean differs by more than SIGMAS standard errors."""
    x, y = (values.astype(np.float64).reshape(n, -1, *values.shape[1:]) for values in (a, b))
    windows = x.shape[1]
    # Counts that hardly ever vary: a few spikes by chance have the error of a Poisson variable.
    floor = 1.0 / windows if np.issubdtype(a.dtype, np.integer) else 0.0
    error = np.sqrt((x.var(axis=1) + y.var(axis=1) + floor) / windows)
    return bool((np.abs(x.mean(axis=1) - y.mean(axis=1)) <= SIGMAS * error + TOLERANCE).all())

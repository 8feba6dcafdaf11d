"""What sPyNNaker 7.4.1's firmware computes, bit for bit, in NumPy: the yardstick of the virtual board.

Written from the published equations and from the machine code of the shipped ``.aplx`` files, and sharing no code with
the board: where both agree to the last bit, the emulated cores ran the firmware as it is meant to run.

A time step k of a population, in the firmware's order
------------------------------------------------------
1. Slot k of the ring buffers (16 bits, saturating at 65535, one per neuron and receptor) is emptied into the synapses:
   ``value << ring_buffer_shift`` is an s16.15 number. Exponential synapses add it times ``init``, delta synapses as is.
2. v is recorded, so the first sample is the initial value and an input shows one sample after the step it came in.
3. The inputs become a current. Conductances are >> 10 first (the host scales their weights by 1024).
4. The membrane moves; in its refractory period it does not, and the timer counts down instead.
5. ``v >= v_thresh`` fires, in the refractory period too; v and the timer (Izhikevich: v, u and the next step's length)
   are reset, and the spike is recorded with time k * dt.
6. Synapses decay: exponential ones by ``decay``, delta synapses to zero.
7. Spikes of step k with delay d are added to slot k + d. Delay extensions add no latency.

Arithmetic
----------
accum (s16.15, GCC ``_Accum``): every operation wraps at 32 bits; a product drops its low 15 bits, so it rounds towards
minus infinity; a decay by a u0.32 factor drops 32 bits in the same way. Neither rounds to nearest, nor stochastically.
Quotients (parameters only) are unsigned and truncated. Constants are what GCC makes of them: truncated.

Weights are 16 bits without a sign. Rounding differs by where they are made: see :func:`weights_of_host` and
:func:`weights_of_machine`. Weights that do not fit lose their high bits.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Receptor = Literal["excitatory", "inhibitory"]
Value = float | Sequence[float] | npt.NDArray[np.floating]

ONE = 1 << 15
HALF = ONE >> 1
RING_BUFFER_MAX = 0xFFFF
CONDUCTANCE_SCALE = 1024

_IZHIKEVICH_THRESHOLD = 30 * ONE
_IZHIKEVICH_QUADRATIC = 1311  # 0.04 in s16.15, rounded up: sPyNNaker finds it more stable than the nearest value
_IZHIKEVICH_AFTER_SPIKE = 60620  # 1.85, truncated: the step after a spike is longer
_DEFAULTS_LIF = {"v_rest": -65.0, "tau_m": 20.0, "cm": 1.0, "i_offset": 0.0, "v_reset": -65.0, "tau_refrac": 0.1}
_DEFAULTS_LIF |= {"v_thresh": -50.0, "v": -65.0}
_DEFAULTS_IZHIKEVICH = {"a": 0.02, "b": 0.2, "c": -65.0, "d": 2.0, "i_offset": 0.0, "v": -70.0, "u": -14.0}
_DEFAULTS_EXPONENTIAL = {"tau_syn_E": 5.0, "tau_syn_I": 5.0, "isyn_exc": 0.0, "isyn_inh": 0.0}
_DEFAULTS_DELTA = {"isyn_exc": 0.0, "isyn_inh": 0.0}
_REVERSAL = {"e_rev_E": 0.0, "e_rev_I": -70.0}

#: Name: (neuron, synapse, input, the parameters with sPyNNaker's defaults).
MODELS: dict[str, tuple[str, str, str, dict[str, float]]] = {
    "IF_curr_delta": ("lif", "delta", "delta", _DEFAULTS_LIF | _DEFAULTS_DELTA),
    "IF_curr_exp": ("lif", "exponential", "current", _DEFAULTS_LIF | _DEFAULTS_EXPONENTIAL),
    "IF_cond_exp": ("lif", "exponential", "conductance", _DEFAULTS_LIF | _DEFAULTS_EXPONENTIAL | _REVERSAL),
    "Izhikevich": ("izhikevich", "exponential", "current", _DEFAULTS_IZHIKEVICH | _DEFAULTS_EXPONENTIAL),
    "Izhikevich_cond": (
        "izhikevich",
        "exponential",
        "conductance",
        _DEFAULTS_IZHIKEVICH | _DEFAULTS_EXPONENTIAL | _REVERSAL,
    ),
}


# Arithmetic --------------------------------------------------------------------------------------------------------


def wrap(x: Ints) -> Ints:
    """The low 32 bits as a signed number: what a register keeps."""
    return ((x + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


def multiply(x: Ints, y: Ints) -> Ints:
    """accum * accum as GCC compiles it: floor, then wrap."""
    return wrap((x * y) >> 15)


def decay_accum(x: Ints, factor: Ints) -> Ints:
    """accum * u0.32 -> accum: floor, then wrap."""
    return wrap((x * factor) >> 32)


def divide(x: int, y: int) -> int:
    """accum / accum by the firmware's unsigned 64-bit division; the low 32 bits of the quotient."""
    return int(wrap(np.int64((((x << 15) % 2**64) // (y % 2**64)) & 0xFFFFFFFF)))


@cache
def _exponentials() -> tuple[list[int], list[int]]:
    """u0.32: e**k for k in -13..12, and 1 - e**(-k/16) for k in 0..15."""
    with localcontext(prec=60):
        whole = [round(Decimal(k).exp() * 2**32) for k in range(-13, 13)]
        sixteenths = [round((1 - (Decimal(-k) / 16).exp()) * 2**32) for k in range(16)]
    return whole, sixteenths


def _scaled(x: int, fraction: int) -> int:
    """64-bit x times a u0.32 fraction. The firmware rounds up from 0x7FFFFFFF on, one less than a half."""
    low = (x & 0xFFFFFFFF) * fraction
    return (low >> 32) + ((low & 0xFFFFFFFF) >= 0x7FFFFFFF) + (x >> 32) * fraction


@cache
def _exponential(x: int) -> int:
    """e**x in u32.32 for an accum x: tables down to 1/16, then a polynomial."""
    whole, sixteenths = _exponentials()
    integer, fraction = x >> 15, x & (ONE - 1)
    if not fraction:
        return whole[13 + integer]
    fraction = ONE - fraction  # the rest is e**-fraction, from the next integer down
    result = whole[13 + integer + 1]
    result -= _scaled(result, sixteenths[fraction >> 11])
    y = (fraction & 0x7FF) << 17
    # 1 - e**(-y/16) = c0 + y * (c1 - y * c2), every product cut to its high 32 bits
    return result - _scaled(result, 5294 + ((4293434720 - ((2081624032 * y) >> 32)) * y >> 32))


def exp_accum(x: int) -> int:
    """The firmware's e**x as an accum: truncated, 0 below -10.397, the greatest number above 11.09."""
    if x > 363408:
        return 2**31 - 1
    return 0 if x < -340695 else _exponential(x) >> 17


def exp_fraction(x: int) -> int:
    """The firmware's e**x as u0.32. e**0 does not fit: its low 32 bits are 0."""
    if x > 363408:
        return 2**31 - 1
    return 0 if x < -340695 else _exponential(x) & 0xFFFFFFFF


# Conversions -------------------------------------------------------------------------------------------------------


def accum_of(value: float) -> int:
    """A parameter as the host sends it: nearest s16.15 number, ties to even, from the shortest decimal form."""
    number = round(Decimal(str(float(value))) * ONE)
    if not -(2**31) <= number < 2**31:
        raise ValueError(f"{value} does not fit s16.15: it must be in [-65536, 65536)")
    return number


def accums_of(value: Value, n: int) -> Ints:
    """:func:`accum_of` for one value for all, or a value for each of n neurons."""
    values = np.broadcast_to(np.asarray(value, dtype=float), n)
    found, where = np.unique(values, return_inverse=True)
    return np.array([accum_of(v) for v in found], dtype=np.int64)[where]


def source_steps(times_ms: npt.ArrayLike, dt_ms: float = 1.0) -> Ints:
    """The steps in which a SpikeSourceArray sends: whole microseconds, then up to the next step."""
    return np.ceil(np.floor(np.asarray(times_ms, dtype=float) * 1000.0) / round(dt_ms * 1000)).astype(np.int64)


def weight_scale(shift: int, model: str) -> float:
    """Integer weight = weight * scale, so that integer weight << shift is an s16.15 number."""
    return 2.0 ** (15 - shift) * (CONDUCTANCE_SCALE if MODELS[model][2] == "conductance" else 1)


def weights_of_host(weights: npt.ArrayLike, shift: int, model: str) -> Ints:
    """Weights of connectors expanded by the host, e.g. FromListConnector: nearest, ties to even, low 16 bits."""
    scaled = np.asarray(weights, dtype=float) * weight_scale(shift, model)
    return np.rint(np.abs(scaled)).astype(np.int64) & 0xFFFF


def weights_of_machine(weights: npt.ArrayLike, shift: int, model: str) -> Ints:
    """Weights of connectors expanded by the synapse expander: via s16.15; nearest, ties up, low 16 bits.

    Constants go through s16.15 on the host; of random weights the machine makes s16.15 numbers in the first place.
    """
    given = np.asarray(weights, dtype=float)
    bits = np.abs(accums_of(given.ravel(), given.size)).reshape(given.shape)
    scale = CONDUCTANCE_SCALE if MODELS[model][2] == "conductance" else 1
    return ((bits * scale + ((1 << shift) >> 1)) >> shift) & 0xFFFF


# Neurons -----------------------------------------------------------------------------------------------------------


class Population:
    """Neurons of one model.

    Parameters
    ----------
    model
        A key of :data:`MODELS`.
    n
        Number of neurons.
    shifts
        Ring-buffer shifts of both receptors, as sPyNNaker chose them.
    dt_ms
        Time step.
    parameters
        PyNN names; one value, or one per neuron. Initial values are ``v``, ``u``, ``isyn_exc`` and ``isyn_inh``.
    """

    def __init__(
        self, model: str, n: int, *, shifts: Sequence[int] = (0, 0), dt_ms: float = 1.0, **parameters: Value
    ) -> None:
        self.neuron, self.synapse, self.input, defaults = MODELS[model]
        if unknown := parameters.keys() - defaults.keys():
            raise ValueError(f"{model} has no {sorted(unknown)}; it has {sorted(defaults)}")
        self.n = n
        self.shifts = np.array(shifts, dtype=np.int64)[:, None]
        self._dt = accum_of(dt_ms)
        values: Mapping[str, Value] = defaults | parameters
        self._p = {name: accums_of(value, n) for name, value in values.items()}
        if self.neuron == "lif":
            self._resistance = self._per_neuron(divide, "tau_m", "cm")
            self._decay = self._per_neuron(lambda tau: exp_accum(-divide(self._dt, tau)), "tau_m")
            self._refractory_steps = self._per_neuron(lambda time: -(-divide(time, self._dt) >> 15), "tau_refrac")
        if self.synapse == "exponential":
            pairs = [[self._exponential_synapse(int(t)) for t in self._p[name]] for name in ("tau_syn_E", "tau_syn_I")]
            self._synapse_decay, self._synapse_init = np.moveaxis(np.array(pairs, dtype=np.int64), 2, 0)
        self._scale = divide(ONE, self._dt)
        self.reset()

    def _per_neuron(self, function: Callable[..., int], *names: str) -> Ints:
        rows = zip(*(self._p[name].tolist() for name in names), strict=True)
        return np.array([function(*row) for row in rows], dtype=np.int64)

    def _exponential_synapse(self, tau: int) -> tuple[int, int]:
        """Decay per step, and the factor of an input: its mean over a step in which it decays."""
        decay = exp_fraction(-divide(self._dt, tau))
        return decay, ((divide(tau, self._dt) * (0xFFFFFFFF - decay)) >> 15) & 0xFFFFFFFF

    def reset(self) -> None:
        """Back to the initial values."""
        self.v = self._p["v"].copy()
        self.synapses = np.stack([self._p["isyn_exc"], self._p["isyn_inh"]])
        self._refractory = np.zeros(self.n, dtype=np.int64)
        if self.neuron == "izhikevich":
            self.u = self._p["u"].copy()
            self._h = np.full(self.n, self._dt, dtype=np.int64)

    def step(self, ring_buffers: Ints) -> npt.NDArray[np.bool_]:
        """One time step with the ring buffers' values, shape (2, n); returns who fires."""
        arriving = wrap(ring_buffers << self.shifts)
        if self.synapse == "exponential":
            arriving = decay_accum(arriving, self._synapse_init)
        self.synapses = wrap(self.synapses + arriving)

        current = wrap(self._excitation() + self._p["i_offset"])
        fired = self._lif(current) if self.neuron == "lif" else self._izhikevich(current)

        if self.synapse == "exponential":
            self.synapses = decay_accum(self.synapses, self._synapse_decay)
        else:
            self.synapses = np.zeros_like(self.synapses)
        return fired

    def _excitation(self) -> Ints:
        """Excitation minus inhibition, nA."""
        excitatory, inhibitory = self.synapses
        if self.input == "delta":
            return wrap(multiply(excitatory, self._scale) - multiply(inhibitory, self._scale))
        if self.input == "conductance":
            to_excitatory, to_inhibitory = (wrap(self._p[name] - self.v) for name in ("e_rev_E", "e_rev_I"))
            # The sign is inside the product and the difference outside: floor makes it matter
            return wrap(multiply(excitatory >> 10, to_excitatory) - multiply(-(inhibitory >> 10), to_inhibitory))
        return wrap(excitatory - inhibitory)

    def _lif(self, current: Ints) -> npt.NDArray[np.bool_]:
        """Exact solution of tau dv/dt = v_rest - v + R I over a step of constant I."""
        target = wrap(multiply(current, self._resistance) + self._p["v_rest"])
        moved = wrap(target - multiply(wrap(target - self.v), self._decay))
        moves = self._refractory <= 0
        self.v = np.where(moves, moved, self.v)
        self._refractory = np.where(moves, self._refractory, self._refractory - 1)
        fired = self.v >= self._p["v_thresh"]
        self.v = np.where(fired, self._p["v_reset"], self.v)
        self._refractory = np.where(fired, self._refractory_steps, self._refractory)
        return fired

    def _izhikevich(self, current: Ints) -> npt.NDArray[np.bool_]:
        """Midpoint step of dv/dt = 0.04 v^2 + 5 v + 140 - u + I, du/dt = a (b v - u); Hopkins & Furber (2015)."""
        v, u, h, b = self.v, self.u, self._h, self._p["b"]

        def quadratic(x: Ints) -> Ints:
            return multiply(wrap(multiply(x, _IZHIKEVICH_QUADRATIC) + 5 * ONE), x)

        constant = wrap(140 * ONE + current - u)
        middle_v = wrap(v + multiply(multiply(wrap(constant + quadratic(v)), h), HALF))
        ah = multiply(self._p["a"], h)
        half_du = multiply(multiply(wrap(multiply(b, v) - u), ah), HALF)
        self.v = wrap(v + multiply(wrap(constant - half_du + quadratic(middle_v)), h))
        self.u = wrap(u + multiply(wrap(multiply(b, middle_v) - wrap(u + half_du)), ah))
        fired = self.v >= _IZHIKEVICH_THRESHOLD
        self.v = np.where(fired, self._p["c"], self.v)
        self.u = np.where(fired, wrap(self.u + self._p["d"]), self.u)
        # A spike falls on average in the middle of its step: the next one makes up for the rest of it
        after_spike = multiply(np.int64(self._dt), np.int64(_IZHIKEVICH_AFTER_SPIKE))
        self._h = np.where(fired, after_spike, self._dt)
        return fired


class SpikeSource:
    """Neurons that send given spikes: ``steps[i]`` are those of neuron i; a step given twice is sent twice."""

    def __init__(self, steps: Sequence[npt.ArrayLike]) -> None:
        self.n = len(steps)
        self._by_step: dict[int, list[int]] = {}
        for neuron, own in enumerate(steps):
            for step in np.asarray(own, dtype=np.int64):
                self._by_step.setdefault(int(step), []).append(neuron)

    def sends(self, step: int) -> Ints:
        return np.array(self._by_step.get(step, []), dtype=np.int64)


# Networks ----------------------------------------------------------------------------------------------------------


@dataclass
class Projection:
    """Synapses of one receptor: synapse k goes from ``sources[k]`` to ``targets[k]``; weights are the integer ones."""

    pre: Population | SpikeSource
    post: Population
    sources: npt.ArrayLike
    targets: npt.ArrayLike
    weights: npt.ArrayLike
    delays: npt.ArrayLike  # in steps, at least 1
    receptor: Receptor = "excitatory"
    _rows: list[tuple[Ints, Ints, Ints]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        arrays = [np.asarray(x, dtype=np.int64) for x in (self.sources, self.targets, self.weights, self.delays)]
        sources, targets, weights, delays = np.broadcast_arrays(*arrays)
        if sources.size and (weights.min() < 0 or weights.max() > RING_BUFFER_MAX or delays.min() < 1):
            raise ValueError("integer weights must be in 0..65535 and delays at least 1 step; round them beforehand")
        self.max_delay = int(delays.max()) if delays.size else 1
        order = np.argsort(sources, kind="stable")
        cuts = np.searchsorted(sources[order], np.arange(1, self.pre.n))
        self._rows = list(zip(*(np.split(x[order], cuts) for x in (targets, weights, delays)), strict=True))

    def deliver(self, spikes: Ints, step: int, ring_buffers: Ints) -> None:
        """Add the synapses of the neurons in ``spikes`` to ring buffers of shape (slots, 2, n)."""
        inhibitory = int(self.receptor == "inhibitory")
        for neuron in spikes:
            targets, weights, delays = self._rows[neuron]
            np.add.at(ring_buffers, ((step + delays) % len(ring_buffers), inhibitory, targets), weights)


@dataclass(frozen=True)
class Recording:
    """What a population did: v in s16.15 and spikes, both of shape (steps, n); ``saturated`` ring-buffer values.

    ``next_inputs``, shape (2, n), are the ring buffers' values for the step after the last.
    """

    v: npt.NDArray[np.int32]
    spikes: npt.NDArray[np.bool_]
    saturated: int
    next_inputs: Ints


def simulate(
    populations: Sequence[Population | SpikeSource],
    projections: Sequence[Projection],
    steps: int,
    first_inputs: Mapping[Population, Ints] | None = None,
) -> list[Recording | None]:
    """Run from the initial values; one :class:`Recording` per population, None for spike sources.

    ``first_inputs`` are in the ring buffers at the first step already.
    """
    slots = 1 + max((p.max_delay for p in projections), default=1)
    neurons = [p for p in populations if isinstance(p, Population)]
    rings = {p: np.zeros((slots, 2, p.n), dtype=np.int64) for p in neurons}
    v = {p: np.zeros((steps, p.n), dtype=np.int32) for p in neurons}
    raster = {p: np.zeros((steps, p.n), dtype=np.bool_) for p in neurons}
    saturated = dict.fromkeys(neurons, 0)
    for p in neurons:
        p.reset()
    for p, inputs in (first_inputs or {}).items():
        rings[p][0] = inputs
    for step in range(steps):
        spikes = {p: p.sends(step) for p in populations if isinstance(p, SpikeSource)}
        for p in neurons:
            slot = rings[p][step % slots]
            # Weights have no sign, so cutting the sum off is the same as saturating at each addition
            saturated[p] += int((slot > RING_BUFFER_MAX).sum())
            v[p][step] = p.v
            raster[p][step] = p.step(np.minimum(slot, RING_BUFFER_MAX))
            slot[:] = 0
            spikes[p] = np.flatnonzero(raster[p][step])
        for projection in projections:
            projection.deliver(spikes[projection.pre], step, rings[projection.post])
    last = {p: np.minimum(rings[p][steps % slots], RING_BUFFER_MAX) for p in neurons}
    return [
        Recording(v[p], raster[p], saturated[p], last[p]) if isinstance(p, Population) else None for p in populations
    ]

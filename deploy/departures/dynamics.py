"""What is simulated, tick by tick: dynamics between a Network's own and its target's.

All of it is one update. In tick k, of a layer whose spikes come from neurons that fired `delay` ticks before::

    h       = sum of the weights arriving                        # each receptor saturates by itself, if it does
    S      <- synapse_decay*S + gain*I + spike_gain*h
    V      <- decay*V + synapse_gain*S  [ - taken, or from V = reset_to, if it fired in tick k-1 and `late` ]
    V      <- max(floor, V)
    fires at V > threshold (strict), or >=, or at random:   V <- V - taken, or reset_to; refractory

The Network tests a potential before it updates it, which is the same as testing at the end of the tick before: its
spikes are shown one step later (`spike_shift`), act two steps after that test, and it subtracts after the decay (late).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from ...models.layers import Connections
from ...models.network import Network
from ...models.stimulus import FloatArray

NEVER = np.inf
ALWAYS = 1 << 40  # in ticks


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """s16.15 arithmetic of one layer, as `neuron_twin` states it.

    Attributes
    ----------
    resistance, decay, per_ms : int
        In units of 2^-15; what arrives is multiplied by `per_ms`.
    leaky : bool
        V <- target - (target - V)*decay with target = R*I; otherwise V <- V*decay + R*I.
    """

    resistance: int
    decay: int
    per_ms: int
    leaky: bool


@dataclass(frozen=True, slots=True)
class Membrane:
    """What `Dynamics` says of all layers, of one that has other neurons than the rest."""

    gain: float
    decay: float
    spike_gain: float
    reset_to: float
    floor: float


@dataclass(frozen=True, slots=True)
class Noise:
    """Spikes at random, as in pp_psc_delta: rate = c_1*V' + c_2*exp(c_3*V') per second, in a tick at most one.

    V' is the potential above the threshold.
    """

    c_1: float
    c_2: float
    c_3: float


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One layer, of neurons as the target has them.

    Attributes
    ----------
    weights : float64 [pre, n], or Sparse
    bias, threshold, taken, start : float64 [n]
        `threshold`: infinite where the neurons never fire. `taken`: what a reset by subtraction takes, or what a spike
        adds to an adaptive threshold.
    gains : float64 [n]
        What the observation's share of the first layer's input is multiplied by.
    delay : int, in ticks
    until : int
        The tick from which on the layer gets nothing any more, and is set to 0 unless it is the last.
    shifts : (int, int), or None
        Ring-buffer shifts of both receptors, whose sums saturate; None: nothing saturates.
    fixed : FixedPoint, or None
        None: float64.
    zero : float
        The potential that is read as 0.
    membrane : Membrane, or None
        None: as the Dynamics say.
    """

    weights: Connections
    bias: FloatArray
    threshold: FloatArray
    taken: FloatArray
    start: FloatArray
    gains: FloatArray
    delay: int
    until: int = ALWAYS
    shifts: tuple[int, int] | None = None
    fixed: FixedPoint | None = None
    zero: float = 0.0
    membrane: Membrane | None = None

    @property
    def size(self) -> int:
        """Neurons."""
        return len(self.bias)


@dataclass(frozen=True, slots=True)
class Detour:
    """One synapse whose spikes take another time than its layer's."""

    layer: int
    source: int
    neuron: int
    delay: int  # in ticks


@dataclass(frozen=True, slots=True, eq=False)
class Dynamics:
    """Everything that bears on a decision; see the module.

    Attributes
    ----------
    ticks_per_step : int
    input_weights : float64 [n_channels, n], or Sparse
        Of the currents of the observation; those of its spikes are the first layer's.
    bias_at, input_at : int
        The first ticks in which biases, and the observation's currents, act.
    spikes_at : int
        How many ticks after the beginning of a step its input spikes act.
    reset_to : float
        What a reset to zero sets to.
    late : bool
        Whether a reset takes place in the tick after the spike.
    refractory : int, in ticks
    holds : bool
        While refractory the potential stays as it is and input is lost; otherwise the neuron only cannot fire.
    spike_shift : int
        A neuron that fires in step t is shown to fire in step ``t + spike_shift``.
    input_unit : float
        Of the first layer's currents and all biases; 0: not rounded.
    adapts : bool
        In place of a reset, a spike raises the neuron's threshold by what is `taken`; the rise decays by
        `adaptation_decay` a tick.
    input_loss : float
        The probability that a bit of a quantised input is lost on its way.
    loss : float
        The probability that a spike between two layers is lost on its way, for all neurons that it goes to.
    loss_per_synapse : float
        The probability that it is lost on its way to one of them, whatever becomes of the others. `detours` take no
        part in it.
    copies : tuple of int
        How many neurons of the target stand for one of the Network, by layer; `output_scale`: see Readings.
    answers_only : bool
        Outputs are 1 for the chosen action, and 0 for the others.
    """

    network: Network
    layers: tuple[Layer, ...]
    input_weights: Connections
    ticks_per_step: int
    tick_s: float
    bias_at: int
    input_at: int
    spikes_at: int
    gain: float
    decay: float
    spike_gain: float = 1.0
    synapse_decay: float = 0.0
    synapse_gain: float = 1.0
    reset: Literal["subtract", "zero", "none"] = "subtract"
    reset_to: float = 0.0
    late: bool = False
    refractory: int = 0
    holds: bool = False
    strict: bool = False
    floor: float = -np.inf
    spike_shift: int = 0
    input_unit: float = 0.0
    noise: Noise | None = None
    adapts: bool = False
    adaptation_decay: float = 1.0
    input_loss: float = 0.0
    loss: float = 0.0
    loss_per_synapse: float = 0.0
    copies: tuple[int, ...] = ()
    output_scale: float = 1.0
    answers_only: bool = False
    detours: tuple[Detour, ...] = field(default=())

    @property
    def random(self) -> bool:
        """Whether random numbers are drawn."""
        return self.noise is not None or self.loss > 0 or self.loss_per_synapse > 0

    def with_layer(self, index: int, layer: Layer) -> Dynamics:
        """The same with another layer."""
        return replace(self, layers=(*self.layers[:index], layer, *self.layers[index + 1 :]))

"""What a check finds, as frozen values. Nothing is computed here, and all of it goes into JSON.

Shares are in [0, 1], outputs and potentials in the Network's own units, steps are the Network's, counted from 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...models.stimulus import CountArray, FloatArray
from ..decision import Divergence

# What a target can be compared with.
Against = Literal["reference", "twin"]
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """What a target, or a simulation, did with n observations.

    Attributes
    ----------
    actions : int64 [n]
    outputs : float64 [n, n_out]
    rasters : tuple of uint8 [n, steps, neurons], one per spiking layer
    ms : float64 [n]
        Wall time of each decision, spikes recorded; of a batch its share.
    traces : tuple of float64 [n, steps, neurons], one per layer, or None
        Potentials after each step's update, where they were recorded.
    """

    actions: NDArray[np.int64]
    outputs: FloatArray
    rasters: tuple[CountArray, ...]
    ms: FloatArray
    traces: tuple[FloatArray, ...] | None = None

    def __len__(self) -> int:
        return len(self.actions)


@dataclass(frozen=True, slots=True)
class Agreement:
    """A share of equal actions, with its 95 % Wilson interval."""

    agreed: int
    of: int
    share: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts between `edges` (one more of them than counts); the last also has all that is beyond."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OutputErrors:
    """Absolute differences of output values, over all observations and outputs."""

    max: float
    mean: float
    median: float
    p95: float
    histogram: Histogram


@dataclass(frozen=True, slots=True)
class Margins:
    """How far the reference's best output is above its second best, where both agree and where they do not (flips).

    Attributes
    ----------
    flips : int
    narrow : float
        0.05 thresholds; `narrow_flips` have a smaller margin.
    widest : (int, float), or None
        The flip of the widest margin: observation, and margin.
    agreeing, flipped : Histogram
        On the same edges.
    median_agreeing, median_flipped : float or None
        None where there is none of that kind.
    """

    flips: int
    narrow: float
    narrow_flips: int
    widest: tuple[int, float] | None
    median_agreeing: float | None
    median_flipped: float | None
    agreeing: Histogram
    flipped: Histogram


@dataclass(frozen=True, slots=True)
class LayerErrors:
    """How one layer's spikes differ.

    Attributes
    ----------
    trains, differing_trains : int
        A train is one neuron's spikes in one window.
    spikes_expected, spikes_given : int
        In all windows together.
    count_error : float
        Mean absolute difference of a train's number of spikes.
    van_rossum : float
        Mean distance of a train and its expected one: van Rossum (2001), with `tau_steps`; 0 for equal trains, 1 for
        one spike more or less far from any other.
    rate_correlation : float or None
        Pearson's, of the spike counts of all trains; None where one side's do not vary.
    """

    layer: int
    neurons: int
    trains: int
    differing_trains: int
    spikes_expected: int
    spikes_given: int
    count_error: float
    van_rossum: float
    tau_steps: float
    rate_correlation: float | None


@dataclass(frozen=True, slots=True)
class FirstDivergence:
    """The first observation with another spike, where in its window that was, and what was around it.

    Attributes
    ----------
    observation : int
        Its index.
    place : Divergence
    threshold : float
    expected_potential, given_potential : tuple of float, one per step; None where they could not be recorded
        Of the neuron, after each step's update.
    given_is_simulated : bool
        The target's potential is that of the reference with all declared departures, not read from the target.
    expected_spikes, given_spikes : tuple of (layer, neuron, step, count)
        Of the whole window.
    """

    observation: int
    place: Divergence
    threshold: float
    expected_potential: tuple[float, ...] | None
    given_potential: tuple[float, ...] | None
    given_is_simulated: bool
    expected_spikes: tuple[tuple[int, int, int, int], ...]
    given_spikes: tuple[tuple[int, int, int, int], ...]
    layer_sizes: tuple[int, ...]
    steps: int


@dataclass(frozen=True, slots=True)
class Cause:
    """One declared departure, and what it costs.

    Attributes
    ----------
    kind, text : str
        As the profile declares it.
    alone : float
        Agreement of the reference with this departure only, with what the target is compared with.
    alone_flips : int
    mended : float
        Agreement of the reference with all departures but this one.
    mended_flips : int
    points : float
        Its share of the lost agreement, in per cent points: Shapley's value (1953), its mean cost over all orders in
        which the departures can be adopted. The shares of all causes add up to the loss. Negative: it makes up for
        others.
    points_error : float
        Standard error of `points`, where orders or observations were sampled; 0 where all of both were simulated.
    """

    kind: str
    text: str
    alone: float
    alone_flips: int
    mended: float
    mended_flips: int
    points: float
    points_error: float = 0.0


@dataclass(frozen=True, slots=True)
class Attribution:
    """What each declared departure costs, and what none of them explains.

    Attributes
    ----------
    causes : tuple of Cause
        The costliest first; those that make up for others last.
    together : float
        Agreement of the reference with all departures.
    together_flips : int
    mended_pairs : tuple of (kind, kind, float)
        Agreement with all departures but two, for the pair that regains most.
    unexplained : tuple of int
        Observations for which the target takes another action than the reference with all departures (at most 1,000
        listed). On a stochastic target these come by chance too.
    unexplained_flips : int
    unexplained_trains : int
        Spike trains that are not as simulated.
    stochastic : bool
        A departure draws random numbers: figures are of one draw, and single decisions cannot be compared.
    subsets : int
        How many sets of departures were simulated.
    us_per_decision : float
        What the simulation of one took; median over the subsets.
    sampled_observations : int or None
        On how many of the observations the causes' figures are estimated, where all would take too long; the shares
        still add up to the loss of all. None: they are of all observations.
    """

    causes: tuple[Cause, ...]
    together: float
    together_flips: int
    mended_pairs: tuple[tuple[str, str, float], ...]
    unexplained: tuple[int, ...]
    unexplained_flips: int
    unexplained_trains: int
    stochastic: bool
    subsets: int
    us_per_decision: float
    sampled_observations: int | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """What would explain the target's spikes, besides its declared departures.

    Attributes
    ----------
    kind : "weight", "bias", "threshold", "delay", "lost spikes", "undeclared" or "unknown"
    text : str
        One sentence.
    layer, neuron, source : int or None
        `source`: the presynaptic neuron, or the input channel in layer 0, of a weight.
    planned, found : float or None
        As the network has it, and as the target seems to have it; `low` and `high` bound `found`.
    explained_trains, differing_trains : int
        Of the trains that are not as simulated, how many are with this fault.
    """

    kind: str
    text: str
    layer: int | None = None
    neuron: int | None = None
    source: int | None = None
    planned: float | None = None
    found: float | None = None
    low: float | None = None
    high: float | None = None
    explained_trains: int = 0
    differing_trains: int = 0


@dataclass(frozen=True, slots=True)
class Anytime:
    """How early a decision was there, in the simulation that the target is compared with.

    Attributes
    ----------
    steps : tuple of int
        1, 2, ... the window's length.
    agreement : tuple of float
        Share of observations whose action after so many steps is the whole window's.
    unchanged : tuple of float
        Share whose action does not change any more from there on.
    settled : tuple of float
        Share whose margin cannot be closed any more, whatever the hidden neurons do in the steps that are left.
    """

    steps: tuple[int, ...]
    agreement: tuple[float, ...]
    unchanged: tuple[float, ...]
    settled: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """A window of another length: agreement with the whole window's decision of what is compared, and of the target."""

    steps: int
    reference: Agreement
    target: Agreement
    ms_per_decision: float


@dataclass(frozen=True, slots=True)
class Returns:
    """Returns of episodes: mean, 95 % interval by Student's t (None of a single episode), and each of them."""

    mean: float
    interval: Interval | None
    each: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class FreeRunning:
    """Target and reference each driving its own environment, from the same seeds.

    Attributes
    ----------
    agreement : Agreement
        In the states that the target met, its actions and the reference's there.
    origin : Agreement or None
        The same with the conventional network.
    first_parting : tuple of int or None, one per episode
        The decision at which the two episodes' actions first differ; None where they do not.
    """

    env: str
    episodes: int
    seed: int
    agreement: Agreement
    origin: Agreement | None
    target: Returns
    reference: Returns
    first_parting: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class FidelityReport:
    """What `check` found; None: not asked for, or not known for this target.

    Attributes
    ----------
    against : "reference" or "twin"
        What the target was compared with: the network's own dynamics, or the software twin of the profile.
    source : str
        Where the observations came from.
    teacher_forced : Agreement
        On the same observations.
    origin : Agreement or None
        The target with the conventional network `origin_name`; `expected_origin`: what it is compared with.
    first_disagreement : int or None
        The first observation with another action.
    ms_per_decision : float
        Median, on the target, spikes recorded.
    provenance : mapping
        Versions, hashes, settings, and the network's own provenance.
    """

    network: str
    network_hash: str
    profile: str
    target: str
    against: Against
    seed: int
    source: str
    observations: int
    teacher_forced: Agreement
    errors: OutputErrors
    margins: Margins
    layers: tuple[LayerErrors, ...]
    first_disagreement: int | None
    first_divergence: FirstDivergence | None
    ms_per_decision: float
    origin_name: str | None = None
    origin: Agreement | None = None
    expected_origin: Agreement | None = None
    free_running: FreeRunning | None = None
    attribution: Attribution | None = None
    faults: tuple[Fault, ...] = ()
    anytime: Anytime | None = None
    sweep: tuple[SweepPoint, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; the agreement, and how many trains differ, at its top."""
        found = {"agreement": self.agreement, "trains": self.trains, "differing_trains": self.differing_trains}
        return found | asdict(self)

    @property
    def agreement(self) -> float:
        """The share of observations on which both take the same action."""
        return self.teacher_forced.share

    @property
    def trains(self) -> int:
        """Spike trains compared: one per neuron and observation."""
        return sum(layer.trains for layer in self.layers)

    @property
    def differing_trains(self) -> int:
        """Of these, the ones that are not identical."""
        return sum(layer.differing_trains for layer in self.layers)

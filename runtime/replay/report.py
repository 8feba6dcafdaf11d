"""What a replay finds, as frozen values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..decision import Divergence


@dataclass(frozen=True, slots=True)
class ReplayedDecision:
    """One decision, then and now.

    Attributes
    ----------
    step : int
    missed : bool
        It came too late, and was not recorded: `recorded_action` is what stood in for it.
    recorded_action : int
    action : int or None
        What is decided now; None where there is nothing to compare with.
    equal_output, equal_spikes : bool or None
        To the bit; None where there is no record.
    max_abs_dv : float or None
        Largest absolute difference of an output.
    divergence : Divergence or None
        Where its spikes first part: `fired` now, `expected` on record.
    """

    step: int
    missed: bool
    recorded_action: int
    action: int | None = None
    equal_output: bool | None = None
    equal_spikes: bool | None = None
    max_abs_dv: float | None = None
    divergence: Divergence | None = None

    @property
    def same(self) -> bool:
        """Whether all that could be compared is the same."""
        return self.action in (None, self.recorded_action) and False not in (self.equal_output, self.equal_spikes)

    def __str__(self) -> str:
        if self.action is None:
            what = "came too late, and was not recorded" if self.missed else "was not compared"
            return f"decision {self.step} {what}"
        parts = []
        if self.action != self.recorded_action:
            parts.append(f"action {self.action}, not {self.recorded_action}")
        if self.equal_output is False:
            parts.append("another output" + ("" if self.max_abs_dv is None else f" (|dV| {self.max_abs_dv:.3g})"))
        if (place := self.divergence) is not None:
            where = f"step {place.step}, layer {place.layer}, neuron {place.neuron}"
            parts.append(f"other spikes: {where} fired {place.fired} times, not {place.expected}")
        return f"decision {self.step}: {'; '.join(parts) or 'the same'}"


@dataclass(frozen=True, slots=True)
class ReplayedEnvironment:
    """An environment that was run again with the recorded actions.

    Attributes
    ----------
    name : str
    observations, equal_observations : int
        Recorded, and shown again to the bit.
    answers, equal_answers : int
        Recorded rewards, with whether the episode terminated there; and those that are the same again.
    first_difference : int or None
        The first decision for which it shows something else, or which it answers otherwise.
    """

    name: str
    observations: int
    equal_observations: int
    answers: int
    equal_answers: int
    first_difference: int | None


@dataclass(frozen=True, slots=True)
class Replay:
    """What came of a replay.

    Attributes
    ----------
    outcome : str or None
        As recorded; None where the run was cut off.
    mode : str
        "lock-step", or how the run was paced.
    decisions, missed, compared : int
        Recorded; those of them that came too late; and those that could be compared.
    equal_actions, equal_outputs : int
        Of `compared`.
    compared_spikes, equal_spikes : int
        Decisions with recorded spikes, and those of them whose spikes are all the same.
    max_abs_dv : float or None
        Largest absolute difference of an output.
    first_difference : ReplayedDecision or None
    environment : ReplayedEnvironment or None
        None where it was not run again.
    doubts : tuple of str
        Why the decisions need not be the recorded ones to the bit; if there are none, they must be.
    notes : tuple of str
        What could not be compared, and why.
    each : tuple of ReplayedDecision
    """

    trace: str
    episode: int
    seed: int
    outcome: str | None
    network: str
    network_hash: str
    profile: str
    recorded_profile: str
    mode: str
    decisions: int
    missed: int
    compared: int
    equal_actions: int
    equal_outputs: int
    compared_spikes: int
    equal_spikes: int
    max_abs_dv: float | None
    first_difference: ReplayedDecision | None
    environment: ReplayedEnvironment | None
    doubts: tuple[str, ...]
    notes: tuple[str, ...]
    each: tuple[ReplayedDecision, ...]

    @property
    def same(self) -> bool:
        """Whether all that was compared is the same to the bit, of the environment too."""
        shown = self.environment is None or self.environment.first_difference is None
        return self.first_difference is None and shown

    @property
    def broken(self) -> bool:
        """Whether something differs that must not."""
        return not self.doubts and not self.same

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"same": self.same, "broken": self.broken}

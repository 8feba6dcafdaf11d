"""How numbers and findings of checks are put in words, in a terminal and on the page."""

from __future__ import annotations

from collections.abc import Sequence

from ..runtime.decision import Divergence
from ..runtime.fidelity.report import (
    Agreement,
    Anytime,
    Attribution,
    Cause,
    Fault,
    FidelityReport,
    FirstDivergence,
    FreeRunning,
    Interval,
    Returns,
)

# What ran where, for targets whose name could be taken for a machine's.
RAN_AS = {
    "spinnaker-virtual": "the shipped firmware on emulated cores",
    "spinnaker-twin": "a model of the firmware in this process",
}


def per_cent(share: float) -> str:
    """A share in per cent; what is not all is never rounded to all, nor what is not nothing to nothing."""
    for digits in range(1, 7):
        text = f"{100 * share:.{digits}f}"
        if float(text) not in (0.0, 100.0):
            return f"{text} %"
    return f"{100 * share:.1f} %"


def bounds(interval: Interval | None) -> str:
    """A share's interval, in per cent."""
    return "" if interval is None else f"[{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def estimate(agreement: Agreement) -> str:
    """A share with its interval."""
    return f"{per_cent(agreement.share)} {bounds(agreement.interval)}"


def count(value: int) -> str:
    """A whole number with its thousands apart."""
    return f"{value:,}"


def number(value: float) -> str:
    """A measured number, three digits of it, or four where it is a round one."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value != round(value) else f"{value:.0f}"


def points(value: float, sign: str = "") -> str:
    """Per cent points; with "+" as the `sign`, a change of that many."""
    if not value:
        return "0"
    text = f"{value:{sign}.1f}" if abs(value) >= 0.05 else f"{value:{sign}.1g}"
    return text.replace("-", "−")


def returns(value: Returns) -> str:
    """A mean return with its interval."""
    span = "" if value.interval is None else f" [{number(value.interval[0])}, {number(value.interval[1])}]"
    return f"{number(value.mean)}{span}"


def plural(value: int, noun: str) -> str:
    """A counted noun."""
    return f"{count(value)} {noun}" if value == 1 else f"{count(value)} {noun}s"


def other(report: FidelityReport) -> str:
    """What the target is compared with."""
    return "the reference" if report.against == "reference" else "the software twin"


def verdict(report: FidelityReport) -> str:
    """One sentence: does the target decide as it should, and if not, why."""
    whom, total = other(report), report.observations
    agreed = report.teacher_forced.agreed
    if not report.differing_trains and agreed == report.teacher_forced.of:
        return (
            f"The target does what {whom} does, spike for spike: the actions on {plural(total, 'observation')} and "
            f"{plural(report.trains, 'spike train')} are the same."
        )
    if agreed == report.teacher_forced.of:
        return (
            f"The target takes the action of {whom} on all {plural(total, 'observation')}; "
            f"{count(report.differing_trains)} of {plural(report.trains, 'spike train')} differ."
        )
    flips = report.teacher_forced.of - agreed
    start = f"The target takes another action than {whom} on {count(flips)} of {plural(total, 'observation')}"
    return f"{start}{_why(report)}."


def _why(report: FidelityReport) -> str:
    found = report.attribution
    if found is None:
        return ""
    lost = sum(cause.points for cause in found.causes)
    text = ""
    first = _costliest(found)
    if first is not None and lost > 0:
        text += f", most of all for its departure in “{first.kind}” ({_of_all(first.points, lost)})"
    if found.stochastic:
        return text + "; as it draws random numbers, single decisions cannot be compared with a simulation"
    if found.unexplained_flips:
        verb = "is" if found.unexplained_flips == 1 else "are"
        return text + f"; {plural(found.unexplained_flips, 'decision')} {verb} not what its departures explain"
    return text + "; its declared departures explain every decision"


def _of_all(cost: float, lost: float) -> str:
    """How much of a loss one departure costs; more than all of it, where others make up for some."""
    if cost <= lost:
        return f"{cost:.1f} of {lost:.1f} points"
    return f"{cost:.1f} points, of which the others make up for {cost - lost:.1f}"


def _costliest(found: Attribution) -> Cause | None:
    """The departure that costs most, if one costs anything."""
    return found.causes[0] if found.causes and found.causes[0].points > 0 else None


def who_fired(at: Divergence) -> str:
    """What the neuron did that first fired otherwise."""
    if not at.expected:
        return "fired on the target only"
    return "did not fire on the target" if not at.fired else f"fired {at.fired} times on the target, not {at.expected}"


def place(divergence: FirstDivergence) -> str:
    """Where the first other spike was."""
    at = divergence.place
    return (
        f"The first other spike is at observation {count(divergence.observation)}, step {at.step}, layer {at.layer}, "
        f"neuron {at.neuron}, which {who_fired(at)}."
    )


def leading(found: Attribution) -> str:
    """The costliest departure, if one costs anything."""
    first = _costliest(found)
    return "" if first is None else f"{first.kind} {points(-first.points, '+')}"


def unexplained(report: FidelityReport, found: Attribution) -> str:
    """Flips; where single decisions come by chance, points of agreement."""
    if not found.stochastic:
        return count(found.unexplained_flips)
    return f"{points(100 * (found.together - report.agreement))} points"


def settled(found: Anytime) -> str:
    """How early decisions are there."""
    texts = [f"{share:.0%} after {_first_step(found.unchanged, share)}" for share in (0.5, 0.99) if found.unchanged]
    text = f"unchanged from then on: {' and '.join(texts)} of {found.steps[-1]} steps"
    if not found.settled:
        return text
    sure = f"{_first_step(found.settled, 0.5)} and {_first_step(found.settled, 0.99)}"
    return f"{text}; whatever may come: {sure}"


def _first_step(shares: Sequence[float], share: float) -> int:
    return next((step for step, value in enumerate(shares, 1) if value >= share), len(shares))


def fault(found: Fault) -> str:
    """What a fault would explain, and where it is bounded, its value."""
    parts = []
    if found.planned is not None and found.found is not None:
        span = ""
        if found.low is not None and found.high is not None:
            span = f" (between {found.low:.4g} and {found.high:.4g})"
        parts.append(f"planned {found.planned:.4g}, found {found.found:.4g}{span}")
    if found.differing_trains:
        parts.append(
            f"explains {count(found.explained_trains)} of the {count(found.differing_trains)} spike trains that are "
            "not as simulated"
        )
    return "; ".join(parts)


def parting(free: FreeRunning) -> str:
    """Where the two runs of each episode part."""
    parted = sorted(first for first in free.first_parting if first is not None)
    if not parted:
        return "In no episode do the two take different actions."
    middle = parted[len(parted) // 2]
    same = len(free.first_parting) - len(parted)
    rest = f"; in {plural(same, 'episode')} they do not part" if same else ""
    return (
        f"The two runs of an episode first differ at decision {count(parted[0])} at the earliest, "
        f"{count(middle)} in the median{rest}."
    )


def listed(values: Sequence[int], most: int = 12) -> str:
    """Some of the values, and how many more there are."""
    shown = ", ".join(count(value) for value in values[:most])
    left = len(values) - most
    return shown if left <= 0 else f"{shown} and {count(left)} more"

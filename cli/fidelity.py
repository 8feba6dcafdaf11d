"""What a check found, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from ..runtime.fidelity import FidelityReport
from ..runtime.fidelity.report import Agreement, Attribution, FreeRunning
from . import words
from .output import facts, table

MOST_CAUSES = 6


def print_report(report: FidelityReport) -> None:
    """Print all that is known, one name and value a line."""
    rows: list[tuple[str, object]] = [
        ("compared with", words.other(report)),
        ("observations", report.source),
        ("action agreement", f"{_share(report.teacher_forced)}  teacher-forced (95 % Wilson)"),
    ]
    if report.origin is not None and report.expected_origin is not None:
        with_origin = f"{_share(report.origin)}  (what it is compared with: {_share(report.expected_origin)})"
        rows.append((f"with {report.origin_name}", with_origin))
    if report.free_running is not None:
        rows += _free(report.free_running, words.other(report))
    rows.append(("output error", f"at most {report.errors.max:.3g}, median {report.errors.median:.3g}"))
    rows += [
        (
            f"layer {layer.layer}",
            f"{words.count(layer.differing_trains)} of {words.plural(layer.trains, 'spike train')} differ; van Rossum "
            f"{layer.van_rossum:.3g}, counts {layer.count_error:.3g}"
            + ("" if layer.rate_correlation is None else f", rates correlate {layer.rate_correlation:.4f}"),
        )
        for layer in report.layers
    ]
    found = report.first_divergence
    if found is None:
        rows.append(("first divergence", "none: every spike is the same"))
    else:
        at, who = found.place, words.who_fired(found.place)
        where = f"decision {found.observation}, layer {at.layer}, neuron {at.neuron}, step {at.step}: {who}"
        rows.append(("first divergence", where))
    if report.attribution is not None:
        rows += _why(report, report.attribution)
    rows += [("fault", fault.text) for fault in report.faults]
    margins = report.margins
    if margins.flips and margins.widest is not None:
        observation, widest = margins.widest
        rows.append(
            (
                "the flips",
                f"{words.count(margins.narrow_flips)} of {words.count(margins.flips)} have a margin under "
                f"{margins.narrow:g}; the widest is {widest:.3g} at decision {observation}",
            )
        )
    if report.anytime is not None:
        rows.append(("settled", words.settled(report.anytime)))
    rows += [
        (
            f"window of {words.plural(point.steps, 'step')}",
            f"target {_share(point.target)}, reference {_share(point.reference)}, {point.ms_per_decision:.3f} ms",
        )
        for point in report.sweep
    ]
    rows.append(("ms per decision", f"{report.ms_per_decision:.3f} (spikes recorded)"))
    seed = f", seed {report.seed}" if report.seed else ""
    facts(f"{report.network} on {report.profile}, {words.plural(report.observations, 'observation')}{seed}", rows)


def print_summary(reports: Sequence[FidelityReport]) -> None:
    """Print one row for each of several checks."""
    rows = []
    for report in reports:
        free, found = report.free_running, report.attribution
        rows.append(
            [
                report.network,
                report.profile,
                str(report.seed),
                words.count(report.observations),
                _share(report.teacher_forced),
                "" if free is None else words.per_cent(free.agreement.share),
                "" if found is None else words.leading(found),
                "" if found is None else words.unexplained(report, found),
            ]
        )
    columns = ["agent", "profile", "seed ", "decisions ", "agreement ", "free ", "most of it", "unexplained "]
    table(f"{len(reports)} checks", columns, rows)


def _share(agreement: Agreement) -> str:
    return words.estimate(agreement)


def _free(free: FreeRunning, expected: str) -> list[tuple[str, object]]:
    what = (
        f"{words.per_cent(free.agreement.share)}  free-running ({words.plural(free.episodes, 'episode')} of {free.env})"
    )
    return [
        ("", what),
        ("returns", f"target {words.returns(free.target)}, {expected} {words.returns(free.reference)}"),
    ]


def _why(report: FidelityReport, found: Attribution) -> list[tuple[str, object]]:
    """What each departure costs, and what is left."""
    flips = report.teacher_forced.of - report.teacher_forced.agreed
    rows: list[tuple[str, object]] = []
    other = words.other(report)
    costly = [cause for cause in found.causes if cause.alone_flips or abs(cause.points) > 0]
    largest = sorted(costly, key=lambda cause: -abs(cause.points))[:MOST_CAUSES]
    for cause in (cause for cause in costly if cause in largest):
        share, alone = words.points(cause.points), words.points(100 * (cause.alone - 1), "+")
        mended = words.points(100 * (cause.mended - found.together), "+")
        error = f" ± {words.points(cause.points_error)}" if cause.points_error else ""
        costs = f"costs {share:>5}{error} points; mended alone {mended:>6}, alone in {other} {alone:>6}"
        rows.append(("" if rows else "why", f"{cause.kind:<18} {costs}"))
    rows += [
        ("", f"{first} and {second} both mended {words.points(100 * (mended - found.together), '+')}")
        for first, second, mended in found.mended_pairs
    ]
    if found.sampled_observations is not None:
        some = words.plural(found.sampled_observations, "observation")
        rows.append(("", f"estimated from {some}: all of them would take too long"))
    if found.stochastic:
        left = words.unexplained(report, found)
        rows.append(("unexplained", f"{left}; single decisions cannot be explained: the target draws random numbers"))
    elif flips or found.unexplained_flips or found.unexplained_trains:
        rows.append(
            (
                "unexplained",
                f"{words.plural(found.unexplained_flips, 'flip')}, "
                f"{words.plural(found.unexplained_trains, 'spike train')}",
            )
        )
    return rows

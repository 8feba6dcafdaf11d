"""The figures of a report: agreement, causes, distributions, and how early decisions are there."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from ...runtime.fidelity.report import Agreement, Anytime, Attribution, FidelityReport, FreeRunning, Histogram
from .. import words
from ..output import printable
from .svg import EXPECTED, FOURTH, HEIGHT, INK, SOFT, TARGET, THIRD, Drawing, canvas, few_ticks, to_svg


def agreements(report: FidelityReport) -> Drawing:
    """Bars of every agreement that was measured, with intervals."""
    free, origin = report.free_running, report.origin_name or "the conventional network"
    expected = "reference" if report.against == "reference" else "twin"
    found: list[tuple[str, Agreement | None, str]] = [
        ("teacher-forced", report.teacher_forced, TARGET),
        ("free-running", None if free is None else free.agreement, TARGET),
        (f"target, {origin}", report.origin, FOURTH),
        (f"{expected}, {origin}", report.expected_origin, EXPECTED),
        (f"free-running, {origin}", None if free is None else free.origin, FOURTH),
    ]
    rows = [(name, value, colour) for name, value, colour in found if value is not None]
    figure, axes = canvas(min(HEIGHT, max(1.9, 1.1 + 0.5 * len(rows))))
    for row, (_, value, colour) in enumerate(rows):
        share, (low, high) = 100 * value.share, (100 * bound for bound in value.interval)
        axes.barh(row, share, height=0.62, color=colour, alpha=0.55, linewidth=0)
        # The interval of 0 % or 100 % ends there, which rounding may miss.
        whiskers = [[max(0.0, share - low)], [max(0.0, high - share)]]
        axes.errorbar(share, row, xerr=whiskers, color=INK, capsize=3, linewidth=1.3)
        axes.text(102, row, words.per_cent(value.share), va="center", clip_on=False)
    axes.set_yticks(range(len(rows)), [_short(name, 20) for name, _, _ in rows])
    axes.set(xlim=(0, 118), ylim=(len(rows) - 0.5, -0.5), xlabel="equal actions, %", xticks=range(0, 101, 20))
    axes.grid(visible=False, axis="y")
    return Drawing(
        "Action agreement",
        to_svg(figure),
        "Shares of equal actions, with 95 % Wilson intervals.",
        "; ".join(f"{name}: {words.estimate(value)}, {value.agreed} of {value.of}" for name, value, _ in rows),
    )


def episodes(free: FreeRunning, expected: str) -> Drawing:
    """Returns of each episode, of the target and of what it is compared with."""
    figure, axes = canvas()
    index = np.arange(len(free.target.each))
    ours, theirs = np.array(free.target.each), np.array(free.reference.each)
    axes.vlines(index, np.minimum(ours, theirs), np.maximum(ours, theirs), color=SOFT, linewidth=0.8)
    size = 5 if len(index) <= 40 else 3
    axes.plot(index, theirs, "o", color=EXPECTED, markersize=size, label=expected)
    axes.plot(index, ours, "D", color=TARGET, markersize=size - 0.5, label="the target")
    axes.set(xlabel=f"episode (seeds {free.seed} to {free.seed + len(index) - 1})", ylabel="return")
    few_ticks(axes.xaxis)
    axes.margins(y=0.08)
    _legend_above(axes)
    return Drawing(
        "Returns",
        to_svg(figure),
        "Each drives its own environment, from the same seeds. " + words.parting(free),
        f"mean return of the target {words.returns(free.target)}, of {expected} {words.returns(free.reference)}, "
        f"{words.plural(free.episodes, 'episode')} of {free.env}",
    )


def margins(report: FidelityReport) -> Drawing:
    """How clear decisions were, where both agree and where they do not."""
    found = report.margins
    figure, axes = canvas()
    axes.remove()
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1))
    for panel, histogram, name, colour in (
        (above, found.agreeing, "equal actions", EXPECTED),
        (below, found.flipped, "flips", TARGET),
    ):
        _bars(panel, histogram, colour)
        panel.set_title(f"{name}: {words.count(sum(histogram.counts))}", loc="right", fontsize=9.5, color=INK, pad=2)
        if _uniform(histogram.edges):
            panel.axvline(found.narrow, color=SOFT, linestyle=":", linewidth=1.2)
    below.set_xlabel(f"margin of {words.other(report)}")
    figure.supylabel("observations", fontsize=10)
    text = f"{words.count(found.narrow_flips)} of {words.count(found.flips)} flips have a margin under "
    text += f"{words.number(found.narrow)} (dotted)"
    if found.widest is not None:
        text += f"; the widest is {words.number(found.widest[1])}, at observation {words.count(found.widest[0])}"
    medians = [("equal actions", found.median_agreeing), ("flips", found.median_flipped)]
    last = "the last bars hold all larger ones"
    return Drawing(
        "Decision margins",
        to_svg(figure),
        f"Best output minus second best; {last}. {text if found.flips else 'No flips'}.",
        "; ".join([text, *(f"median of {name}: {words.number(v)}" for name, v in medians if v is not None)]),
    )


def output_errors(report: FidelityReport) -> Drawing:
    """The distribution of the outputs' differences."""
    found = report.errors
    figure, axes = canvas()
    _bars(axes, found.histogram, TARGET)
    axes.set(xlabel=f"|output − that of {words.other(report)}|", ylabel="output values")
    values = (
        f"median {words.number(found.median)}, mean {words.number(found.mean)}, 95 % are under "
        f"{words.number(found.p95)}, the largest is {words.number(found.max)}"
    )
    last = " The last bar holds all larger ones." if found.max > found.histogram.edges[-1] else ""
    return Drawing("Output errors", to_svg(figure), f"{values[0].upper()}{values[1:]}.{last}", values)


def causes(report: FidelityReport, found: Attribution) -> Drawing:
    """A waterfall from what no departure would leave to what was measured."""
    lost = [(cause.kind, -cause.points, cause.points_error) for cause in found.causes]
    start = 100 * found.together - sum(change for _, change, _ in lost)
    measured = 100 * report.agreement
    rest = measured - 100 * found.together
    if abs(rest) > 1e-9:
        lost.append(("not explained", rest, 0.0))
    figure, axes = canvas(min(6.0, 1.15 + 0.42 * (len(lost) + 2)))
    at, ends = start, [start, measured]
    for row, (_, change, error) in enumerate(lost, start=1):
        colour = SOFT if row > len(found.causes) else TARGET if change < 0 else THIRD
        axes.barh(row, change, left=at, height=0.62, color=colour, alpha=0.75, linewidth=0)
        axes.plot([at, at], [row - 1, row + 0.31], color=SOFT, linewidth=0.8)
        if error:
            axes.errorbar(at + change, row, xerr=error, color=INK, capsize=3, linewidth=1.2)
        axes.annotate(
            words.points(change, "+"),
            (max(at, at + change) + error, row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            annotation_clip=False,
        )
        at += change
        ends.append(at)
    axes.plot([at, at], [len(lost), len(lost) + 1], color=SOFT, linewidth=0.8)
    for row, value in ((0, start), (len(lost) + 1, measured)):
        axes.plot(value, row, "o", color=INK, markersize=5)
        axes.annotate(f"{value:.1f} %", (value, row), xytext=(6, 0), textcoords="offset points", va="center")
    names = ["no departure", *(name for name, _, _ in lost), "measured"]
    axes.set_yticks(range(len(names)), [_short(name, 20) for name in names])
    span = max(1.0, max(ends) - min(ends))
    axes.set(xlim=(min(ends) - 0.06 * span, max(ends) + 0.24 * span), ylim=(len(names) - 0.5, -0.5))
    axes.set_xlabel("action agreement, %")
    few_ticks(axes.xaxis, 5, whole=False)
    axes.grid(visible=False, axis="y")
    spoken = ", ".join(f"{name} {words.points(change, '+')} points" for name, change, _ in lost)
    return Drawing(
        "What the agreement is lost to",
        to_svg(figure),
        "Shapley's shares, in per cent points: from the network without a departure to what was measured.",
        f"from {start:.1f} % without a departure: {spoken}; measured {measured:.1f} %",
    )


def anytime(report: FidelityReport, found: Anytime | None) -> Drawing:
    """Agreement against steps, with windows of other lengths on top."""
    figure, axes = canvas()
    spoken, notes = [], []
    if found is not None:
        curves = (
            ("as at the end", found.agreement, EXPECTED, "-"),
            ("changes no more", found.unchanged, THIRD, "--"),
            ("cannot change", found.settled, FOURTH, "-."),
        )
        for name, values, colour, dashes in curves:
            if values:
                axes.step(found.steps, 100 * np.array(values), dashes, color=colour, label=name, where="post")
                spoken.append(f"{name}: {_half(found.steps, values)}")
        notes.append(
            f"Of {words.other(report)}: the action after so many steps is the whole window's, changes no more, or no "
            "longer can."
        )
    steps = [point.steps for point in report.sweep]
    for name, each, colour, marker in (
        ("reference", [point.reference for point in report.sweep], EXPECTED, "o"),
        ("target", [point.target for point in report.sweep], TARGET, "D"),
    ):
        if each:
            shares = np.array([100 * value.share for value in each])
            spans = np.array([[100 * bound for bound in value.interval] for value in each]).T
            bars = np.maximum(0, [shares - spans[0], spans[1] - shares])
            label = f"other window, {name}"
            axes.errorbar(
                steps, shares, bars, fmt=marker, color=colour, capsize=3, linewidth=1.2, markersize=4.5, label=label
            )
            spoken += [f"{name}, {t} steps: {words.per_cent(v.share)}" for t, v in zip(steps, each, strict=True)]
    if report.sweep:
        notes.append("Points: agreement of windows of other lengths with the whole window's decision.")
    if len(steps) > 1 and steps[-1] > 20 * steps[0]:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
    else:
        axes.set_xlim(left=0)
        few_ticks(axes.xaxis)
    axes.set(xlabel="steps", ylabel="observations, %", ylim=(0, 104))
    _legend_above(axes)
    return Drawing("How early decisions are there", to_svg(figure), " ".join(notes), "; ".join(spoken))


def _half(steps: Sequence[int], values: Sequence[float]) -> str:
    reached = [f"{limit} % after {_first(steps, values, limit / 100)}" for limit in (50, 90, 99)]
    return f"{', '.join(reached)}, {words.per_cent(values[-1])} at the end"


def _first(steps: Sequence[int], values: Sequence[float], limit: float) -> str:
    return next((f"{step} steps" for step, value in zip(steps, values, strict=True) if value >= limit), "no step")


def _uniform(edges: Sequence[float]) -> bool:
    widths = np.diff(edges)
    return bool(np.allclose(widths, widths[0]))


def _bars(axes: Axes, histogram: Histogram, colour: str) -> None:
    """The counts; on edges that are not evenly spaced every bar gets the same width, and the axis says the edges."""
    edges = np.array(histogram.edges)
    even = _uniform(histogram.edges)
    left = edges[:-1] if even else np.arange(len(edges) - 1.0)
    width = np.diff(edges) if even else np.ones(len(left))
    axes.bar(left, histogram.counts, width, align="edge", color=colour, alpha=0.75, linewidth=0)
    if not even:
        shown = range(0, len(edges), max(1, len(edges) // 5))
        axes.set_xticks(list(shown), [words.number(edges[index]) for index in shown])
    axes.set_ylim(0, 1.08 * max(1, *histogram.counts))
    few_ticks(axes.yaxis, 4)
    axes.grid(visible=False, axis="x")
    axes.margins(x=0)


def _legend_above(axes: Axes) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderpad=0.3)


def _short(text: str, width: int) -> str:
    """At most two lines."""
    lines = textwrap.wrap(printable(text), width) or [""]
    if len(lines) > 2:
        lines = [lines[0], lines[1][: width - 2] + " …"]
    return "\n".join(lines)

"""The figures of a divergence: what all neurons did in that window, and the potential of the first that parted."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

import numpy as np
from matplotlib.axes import Axes

from ...runtime.fidelity.report import FirstDivergence
from .. import words
from .svg import EXPECTED, INK, SOFT, TARGET, Drawing, canvas, few_ticks, to_svg

Events = tuple[tuple[int, int, int, int], ...]
MOST_SPIKES = 6_000  # of a raster, as lines; with more it is drawn as an image, which is smaller
LEAST_SHARE = 0.12  # of a raster's height, for a layer however small
AROUND = 40  # steps before and after the divergence, of a potential trace


def raster(found: FirstDivergence, side: Literal["expected", "given"], title: str) -> Drawing:
    """All spikes of the window, neurons with others than the other side's in colour."""
    events = found.expected_spikes if side == "expected" else found.given_spikes
    colour = EXPECTED if side == "expected" else TARGET
    differing = set(found.expected_spikes) ^ set(found.given_spikes)
    neurons = {(layer, neuron) for layer, neuron, _, _ in differing}
    bottoms, heights = _rows(found.layer_sizes)
    figure, axes = canvas(3.2)
    as_image = len(events) > MOST_SPIKES
    for shown, marked in ((False, SOFT), (True, colour)):
        chosen = [event for event in events if ((event[0], event[1]) in neurons) == shown]
        for thick in (False, True):
            some = [event for event in chosen if (event[3] > 1) == thick]
            _ticks(axes, some, bottoms, heights, marked, (1.0 + 0.4 * shown) * (1 + thick), as_image)
    at = found.place
    axes.axvline(at.step, color=INK, linewidth=0.8, linestyle=":")
    y = bottoms[at.layer] + (at.neuron + 0.5) * heights[at.layer]
    axes.plot(at.step, y, "o", markersize=13, markerfacecolor="none", markeredgecolor=INK, markeredgewidth=1.3)
    for bottom in bottoms[1:]:
        axes.axhline(bottom, color=SOFT, linewidth=0.8)
    middles = [
        bottom + size * height / 2 for bottom, size, height in zip(bottoms, found.layer_sizes, heights, strict=True)
    ]
    names = [f"layer {index}\n({words.count(size)})" for index, size in enumerate(found.layer_sizes)]
    axes.set_yticks(middles, names)
    axes.tick_params(axis="y", length=0)
    axes.set(xlim=(-0.7, found.steps - 0.3), ylim=(0, 1), xlabel="step")
    few_ticks(axes.xaxis)
    axes.grid(visible=False)
    total = sum(spikes for _, _, _, spikes in events)
    text = (
        f"{words.plural(total, 'spike')} of {words.plural(sum(found.layer_sizes), 'neuron')} in "
        f"{words.plural(found.steps, 'step')}"
    )
    several = " Thick: more than one spike in a step." if any(event[3] > 1 for event in events) else ""
    differ = f"{words.plural(len(neurons), 'neuron')} that {'differs' if len(neurons) == 1 else 'differ'}"
    return Drawing(
        title,
        to_svg(figure),
        f"{text}; in colour the {differ}. The ring is the first divergence.{several}",
        f"{text}; {differ}; first divergence at step {at.step}, layer {at.layer}, neuron {at.neuron}",
    )


def potentials(found: FirstDivergence, expected: str) -> Drawing:
    """The potential of the neuron that parted first, around the step at which it did."""
    at = found.place
    figure, axes = canvas(3.2)
    first, last = max(0, at.step - AROUND), min(found.steps, at.step + AROUND + 1)
    steps = np.arange(first, last)
    target = "the target, simulated" if found.given_is_simulated else "the target"
    spoken = [f"threshold {words.number(found.threshold)}"]
    sides = (
        (expected, found.expected_potential, found.expected_spikes, EXPECTED, "o-", "^"),
        (target, found.given_potential, found.given_spikes, TARGET, "D--", "v"),
    )
    height = found.threshold
    for name, values, _, colour, line, _ in sides:
        if values is not None:
            shown = np.array(values[first:last])
            axes.plot(steps[: len(shown)], shown, line, color=colour, markersize=3, label=name)
            height = max(height, float(shown.max()))
            spoken.append(f"{name} at step {at.step}: {words.number(values[at.step])}")
    axes.axhline(found.threshold, color=SOFT, linestyle="--", linewidth=1)
    axes.annotate(
        "threshold",
        (1, found.threshold),
        xycoords=("axes fraction", "data"),
        xytext=(0, 2),
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=9,
        color=SOFT,
    )
    axes.axvline(at.step, color=INK, linestyle=":", linewidth=0.8)
    low = axes.get_ylim()[0]
    room = 0.09 * (height - low)
    for row, (_, _, events, colour, _, marker) in enumerate(sides, start=1):
        fired = [step for layer, neuron, step, _ in events if (layer, neuron) == (at.layer, at.neuron)]
        fired = [step for step in fired if first <= step < last]
        axes.plot(fired, [height + (row + 0.4) * room] * len(fired), marker, color=colour, markersize=5)
    axes.set(xlabel="step", ylabel="potential", xlim=(first - 0.7, last - 0.3), ylim=(low, height + 3.2 * room))
    few_ticks(axes.xaxis)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2)
    note = f"Layer {at.layer}, neuron {at.neuron}, after each step's update; triangles are its spikes."
    if found.given_is_simulated and found.given_potential is not None:
        note += " The target's is that of a simulation with its declared departures."
    return Drawing("Membrane potential", to_svg(figure), note, ", ".join(spoken))


def _rows(sizes: Sequence[int]) -> tuple[list[float], list[float]]:
    """Bottom of each layer, and height of one neuron, in a figure of height 1 with the first layer at the bottom."""
    shares = np.array(sizes, dtype=float) / sum(sizes)
    shares = np.maximum(shares, LEAST_SHARE)
    shares /= shares.sum()
    bottoms = [0.0, *accumulate(shares.tolist())][:-1]
    return bottoms, [share / size for share, size in zip(shares.tolist(), sizes, strict=True)]


def _ticks(
    axes: Axes,
    events: Sequence[tuple[int, int, int, int]],
    bottoms: list[float],
    heights: list[float],
    colour: str,
    width: float,
    as_image: bool,
) -> None:
    """A tick for each spike, as one line with gaps: a path each would make the page ten times as large."""
    if not events:
        return
    layers, neurons, steps, _ = np.array(events).T
    size = np.array(heights)[layers]
    middle = np.array(bottoms)[layers] + (neurons + 0.5) * size
    half = np.maximum(0.4 * size, 0.003)
    gap = np.full(len(steps), np.nan)
    axes.plot(
        np.column_stack([steps, steps, gap]).ravel(),
        np.column_stack([middle - half, middle + half, gap]).ravel(),
        color=colour,
        linewidth=width,
        rasterized=as_image,
    )

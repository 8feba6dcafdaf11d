"""Figures as SVG that belongs to a page: its colours and letters, no identifier twice, nothing from elsewhere."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

WIDTH, HEIGHT = 4.7, 3.0  # inches; a column of the page is about as wide, so letters keep their size

# What the page's style sheet has under the same names, for light and dark. Okabe and Ito's colours, which the colour
# blind can tell apart.
INK, SOFT, GRID = "#1c1c1b", "#6b6b69", "#d9d9d6"
EXPECTED, TARGET, THIRD, FOURTH = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
_VARIABLES = {
    INK: "--ink",
    SOFT: "--soft",
    GRID: "--grid",
    EXPECTED: "--expected",
    TARGET: "--target",
    THIRD: "--third",
    FOURTH: "--fourth",
}

_TAG = re.compile("<[^>]*>")  # names of the user's stand between tags, not in them

_STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": SOFT,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 10,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.borderaxespad": 0.2,
    "legend.borderpad": 0.0,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "legend.handlelength": 1.5,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",  # the page's letters, which can be searched and read aloud, at a tenth of the size
    "svg.hashsalt": "spikeloop",
    "text.color": INK,
    "text.parse_math": False,  # names may hold dollar signs
    "xtick.color": SOFT,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 9.5,
    "ytick.color": SOFT,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 9.5,
}


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure on the page: its SVG, what stands above and below it, and its numbers in words."""

    title: str
    svg: str
    caption: str
    words: str


@contextlib.contextmanager
def style() -> Iterator[None]:
    """The house's settings, whatever the user's are; figures are made and written inside."""
    with matplotlib.style.context(["default", _STYLE]), warnings.catch_warnings():
        # Letters that Matplotlib's own font has not are drawn by the browser.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def canvas(height: float = HEIGHT) -> tuple[Figure, Axes]:
    """An empty figure and its axes."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def few_ticks(axis: Axis, most: int = 7, whole: bool = True) -> None:
    """Ticks at round numbers, by default whole ones: of steps, episodes, counts."""
    axis.set_major_locator(MaxNLocator(most, integer=whole, steps=[1, 2, 5, 10]))


def to_svg(figure: Figure) -> str:
    """The figure as an element for HTML; identifiers in it are those of the file alone (see `unique`)."""
    buffer = io.StringIO()
    none = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", dpi=200, transparent=True, metadata=none)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)  # would hold for the whole page
    # Outside of text elements, which hold no newlines, white space says nothing.
    text = re.sub(r"\s*\n\s*", " ", text).replace("> <", "><")
    head, body = text.split(">", 1)
    box = re.search(r'viewBox="([^"]*)"', head)
    assert box is not None, "Matplotlib writes one"
    wanted = set(re.findall(r'(?:url\(|href=")#([\w.-]+)', " ".join(_TAG.findall(body))))

    def ours(found: re.Match[str]) -> str:
        tag = re.sub(r"font-family: [^;\"]*;? ?", "", found[0]).replace("xlink:href", "href")
        tag = re.sub(r' id="([^"]*)"', lambda name: name[0] if name[1] in wanted else "", tag)
        return re.sub(r"#[0-9a-f]{6}\b(?=[;\"])", _variable, tag)

    body = _TAG.sub(ours, body).replace("<defs></defs>", "")
    return f'<svg viewBox="{box[1]}" role="img" aria-label="">{body}'


def unique(svg: str, prefix: str, words: str) -> str:
    """The element with identifiers that are its own on the page, and `words`, escaped already, as its text."""
    svg = _TAG.sub(lambda tag: re.sub(r'( id="|url\(#| href="#)', rf"\g<1>{prefix}-", tag[0]), svg)
    return svg.replace('aria-label=""', f'aria-label="{words}"', 1)


def _variable(found: re.Match[str]) -> str:
    name = _VARIABLES.get(found[0])
    return found[0] if name is None else f"var({name})"

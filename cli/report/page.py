"""Writes reports as one HTML file: no script, no network, nothing beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ... import __version__
from ...errors import InvalidInputError, MissingPackageError
from ...runtime.fidelity.report import FidelityReport
from .. import words
from ..output import printable, unfolded

_PACKAGES = {"jinja2": "Jinja2", "markupsafe": "Jinja2", "matplotlib": "Matplotlib"}
try:
    import jinja2
    from markupsafe import Markup, escape

    from . import figures, spikes
    from .svg import Drawing, style, unique
except ModuleNotFoundError as error:
    _package = _PACKAGES.get((error.name or "").split(".")[0])
    if _package is None:
        raise
    raise MissingPackageError.needs("The HTML report", _package, "report") from None

LONGEST_VALUE = 400  # characters of one provenance entry


@dataclass(frozen=True, slots=True)
class _Section:
    """A report, and what is drawn of it."""

    report: FidelityReport
    anchor: str
    decisions: tuple[Drawing, ...]
    causes: Drawing | None
    divergence: tuple[Drawing, ...]
    provenance: list[tuple[str, object]]


def write_page(reports: Sequence[FidelityReport], path: Path) -> None:
    """Write what checks found as one HTML file; an existing file is replaced in one step, never left half written.

    The same reports make the same bytes.

    Parameters
    ----------
    reports : sequence of FidelityReport
        At least one.
    path : Path

    Raises
    ------
    InvalidInputError
        If there is no report, or the file cannot be written.
    """
    if not reports:
        raise InvalidInputError("No report was given; a page needs at least one.")
    partial = path.parent / f"{path.name}.partial"
    try:
        if path.is_dir():
            raise InvalidInputError(f"Cannot write {path}: it is a folder. Name a file in it.")
        if not path.parent.is_dir():
            raise InvalidInputError(f"Cannot write {path}: the folder {path.parent} does not exist. Make it first.")
        partial.write_bytes(to_html(reports).encode("utf-8"))
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise InvalidInputError(f"Cannot write {path}: {error.strerror or error}.") from None


def to_html(reports: Sequence[FidelityReport]) -> str:
    """The page's text."""
    with style():
        sections = [_section(report, f"report-{index}") for index, report in enumerate(reports, start=1)]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.globals |= {"drawn": _Drawn(), "version": __version__, "words": words}
    return environment.get_template("page.html.j2").render(sections=sections) + "\n"


class _Drawn:
    """Puts a drawing on the page, under identifiers that no other has."""

    def __init__(self) -> None:
        self._number = 0

    def __call__(self, drawing: Drawing) -> Markup:
        self._number += 1
        return Markup(unique(drawing.svg, f"f{self._number}", str(escape(printable(drawing.words)))))


def _shown(value: Any) -> Any:
    """Text that says what it says: names in files may hold control characters, or turn the direction of writing."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _section(report: FidelityReport, anchor: str) -> _Section:
    decisions = [figures.agreements(report)]
    free, first = report.free_running, report.first_divergence
    if free is not None and free.target.each and len(free.target.each) == len(free.reference.each):
        decisions.append(figures.episodes(free, words.other(report)))
    decisions.append(figures.margins(report))
    if report.errors.max > 0:
        decisions.append(figures.output_errors(report))
    if report.anytime is not None or report.sweep:
        decisions.append(figures.anytime(report, report.anytime))
    divergence = []
    if first is not None:
        whom = words.other(report)
        divergence = [
            spikes.raster(first, "expected", f"Spikes of {whom}"),
            spikes.raster(first, "given", "Spikes of the target"),
        ]
        if first.expected_potential is not None or first.given_potential is not None:
            divergence.append(spikes.potentials(first, whom))
    found = report.attribution
    return _Section(
        report,
        anchor,
        tuple(decisions),
        figures.causes(report, found) if found is not None and found.causes else None,
        tuple(divergence),
        unfolded(_plain(report.provenance), LONGEST_VALUE),
    )


def _plain(values: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key): _plain(value) if isinstance(value, Mapping) else value for key, value in values.items()}

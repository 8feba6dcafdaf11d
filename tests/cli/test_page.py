"""The HTML page of a check: whole, closed, safe, and the same each time."""

import builtins
import dataclasses
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from spikeloop.cli.report import write_page
from spikeloop.errors import InvalidInputError, MissingPackageError
from spikeloop.runtime.decision import Divergence
from spikeloop.runtime.fidelity.intervals import wilson
from spikeloop.runtime.fidelity.report import (
    Agreement,
    Anytime,
    Attribution,
    Cause,
    Fault,
    FidelityReport,
    FirstDivergence,
    FreeRunning,
    Histogram,
    LayerErrors,
    Margins,
    OutputErrors,
    Returns,
    SweepPoint,
)

VOID = {"meta", "br", "hr", "img", "link", "input"}
HOSTILE = '<script>alert("$x$ & \'y\'")</script> {{ 7 * 7 }} \x1b[31m\u202e url(#a) href="#b" id="c" #0072b2;\n日本'
BINS = tuple(i / 10 for i in range(11))


def agreement(agreed, of=1000):
    return Agreement(agreed, of, agreed / of, wilson(agreed, of))


def plain(**changes):
    """A report with nothing that can be left out."""
    report = FidelityReport(
        network="cartpole",
        network_hash="5f" * 32,
        profile="nest-iaf_psc_delta",
        target="nest",
        against="reference",
        seed=0,
        source="1,000 observations from states.npz",
        observations=1000,
        teacher_forced=agreement(730),
        errors=OutputErrors(2.5, 0.31, 0.22, 0.9, Histogram(BINS, (90, 60, 40, 20, 9, 5, 3, 2, 1, 1))),
        margins=Margins(
            270,
            0.05,
            212,
            (511, 0.31),
            0.4,
            0.02,
            Histogram(BINS, (100, 90, 80, 70, 90, 80, 70, 60, 50, 40)),
            Histogram(BINS, (212, 40, 15, 3, 0, 0, 0, 0, 0, 0)),
        ),
        layers=(LayerErrors(0, 16, 16000, 4211, 61000, 58211, 0.41, 0.6, 4.0, 0.93),),
        first_disagreement=3,
        first_divergence=None,
        ms_per_decision=1.74,
    )
    return dataclasses.replace(report, **changes)


def divergence(**changes):
    found = FirstDivergence(
        observation=3,
        place=Divergence(1, 1, 4, 1, 0),
        threshold=1.0,
        expected_potential=tuple(0.1 * step for step in range(8)),
        given_potential=tuple(0.12 * step for step in range(8)),
        given_is_simulated=True,
        expected_spikes=((0, 0, 1, 1), (0, 2, 3, 1), (1, 1, 6, 1)),
        given_spikes=((0, 0, 1, 1), (0, 2, 3, 1), (1, 1, 4, 1), (1, 1, 6, 2)),
        layer_sizes=(16, 2),
        steps=8,
    )
    return dataclasses.replace(found, **changes)


CAUSES = (
    Cause("time step", "0.1 ms: a neuron can fire ten times in one step", 0.882, 118, 0.91, 90, 15.8, 0.4),
    Cause("reset", "to zero: what was above is lost", 0.916, 84, 0.85, 150, 11.7),
    Cause("leak", "1e10 ms", 1.0, 0, 0.729, 271, -0.1),
)
ATTRIBUTION = Attribution(CAUSES, 0.726, 274, (("time step", "reset", 0.999),), (17, 203), 2, 11, False, 8, 7.9)
FREE = FreeRunning(
    "CartPole-v1",
    3,
    5,
    agreement(687),
    agreement(650),
    Returns(181.3, (120.1, 242.5), (150.0, 210.0, 184.0)),
    Returns(433.0, (300.2, 565.8), (420.0, 379.0, 500.0)),
    (12, 4, None),
)
FAULT = Fault("weight", "The weight from 3 to 1 is another.", 1, 1, 3, 0.25, 0.375, 0.36, 0.39, 9, 11)
ANYTIME = Anytime((1, 2, 3, 4), (0.3, 0.6, 0.9, 1.0), (0.2, 0.5, 0.9, 1.0), (0.0, 0.1, 0.4, 1.0))
SWEEP = (SweepPoint(2, agreement(610), agreement(550), 0.2), SweepPoint(100, agreement(990), agreement(800), 7.0))


def full(**changes):
    """A report with everything."""
    return plain(
        first_divergence=divergence(),
        origin_name="dqn.pt",
        origin=agreement(700),
        expected_origin=agreement(930),
        free_running=FREE,
        attribution=ATTRIBUTION,
        faults=(FAULT,),
        anytime=ANYTIME,
        sweep=SWEEP,
        provenance={"versions": {"numpy": "2.4.0"}, "steps": 8},
        **changes,
    )


class Page(HTMLParser):
    """A page's elements; fails where tags do not nest."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.words, self.headings = [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "style":
            return
        self.words.append(data)
        if self.open and self.open[-1] in ("h3", "h4"):
            self.headings.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def values(self, name, tag=None):
        return [value for at, key, value in self.attributes if key == name and tag in (None, at)]


@pytest.fixture
def page(tmp_path):
    def make(*reports):
        write_page(reports, tmp_path / "report.html")
        return Page((tmp_path / "report.html").read_text(encoding="utf-8"))

    return make


def test_everything_is_on_the_page(page):
    found = page(full())
    assert found.headings == [
        "Decisions",
        "Action agreement",
        "Returns",
        "Decision margins",
        "Output errors",
        "How early decisions are there",
        "Windows of other lengths",
        "Why",
        "What the agreement is lost to",
        "Declared departures, and the agreement with them",
        "What would explain the rest",
        "First divergence",
        "Spikes of the reference",
        "Spikes of the target",
        "Membrane potential",
        "Layers",
    ]
    for words in (
        "another action than the reference on 270 of 1,000 observations, most of all for its departure in “time step” "
        "(15.8 of 27.4 points); 2 decisions are not what its departures explain.",
        "73.0 % [70.2, 75.7]",
        "68.7 %",
        "181 [120, 242]",
        "reset to zero: what was above is lost",
        "With all but two, time step and reset, the agreement is 99.9 %",
        "2 decisions and 11 spike trains (observations 17, 203).",
        "planned 0.25, found 0.375 (between 0.36 and 0.39); explains 9 of the 11 spike trains",
        "at observation 3, step 4, layer 1, neuron 1, which fired on the target only.",
        "first differ at decision 4 at the earliest, 12 in the median; in 1 episode they do not part",
        "212 of 270 flips have a margin under 0.05 (dotted); the widest is 0.31, at observation 511",
        "versions.numpy 2.4.0",
    ):
        assert words in found.text, words


def test_a_departure_that_costs_more_than_is_lost(page):
    causes = (Cause("delay", "1 ms", 0.86, 140, 0.973, 27, 6.5), Cause("time step", "0.1 ms", 1.0, 0, 0.8, 200, -6.2))
    attribution = dataclasses.replace(ATTRIBUTION, causes=causes, unexplained_flips=0)
    found = page(plain(attribution=attribution)).text
    assert "most of all for its departure in “delay” (6.5 points, of which the others make up for 6.2)" in found


def test_what_is_not_known_leaves_no_hole(page):
    found = page(plain())
    assert found.headings == ["Decisions", "Action agreement", "Decision margins", "Output errors", "Layers"]
    assert "None" not in found.text
    assert "free-running" not in found.text
    assert "unexplained" not in found.text
    same = plain(
        teacher_forced=agreement(1000),
        errors=OutputErrors(0.0, 0.0, 0.0, 0.0, Histogram(BINS, (2000, *[0] * 9))),
        margins=Margins(0, 0.05, 0, None, 0.4, None, Histogram(BINS, (100,) * 10), Histogram(BINS, (0,) * 10)),
        layers=(LayerErrors(0, 16, 16000, 0, 61000, 61000, 0.0, 0.0, 4.0, None),),
        first_disagreement=None,
    )
    found = page(same)
    assert found.headings == ["Decisions", "Action agreement", "Decision margins", "Layers"]
    assert "spike for spike" in found.text
    assert "All output values are equal." in found.text
    assert "No flips." in found.text
    assert page(dataclasses.replace(same, layers=())).headings == ["Decisions", "Action agreement", "Decision margins"]


PARTS = {
    "no potentials": {"first_divergence": divergence(expected_potential=None, given_potential=None)},
    "one potential": {"first_divergence": divergence(given_potential=None)},
    "a silent window": {"first_divergence": divergence(expected_spikes=(), given_spikes=((1, 1, 4, 1),))},
    "many spikes": {
        "first_divergence": divergence(
            given_spikes=tuple((0, n, t, 1) for n in range(900) for t in range(8)), layer_sizes=(900, 2)
        )
    },
    "no bound": {"anytime": dataclasses.replace(ANYTIME, settled=())},
    "sweep only": {"sweep": SWEEP[:1]},
    "one episode": {
        "free_running": dataclasses.replace(
            FREE,
            episodes=1,
            origin=None,
            target=Returns(9.0, None, (9.0,)),
            reference=Returns(9.0, None, (9.0,)),
            first_parting=(None,),
        )
    },
    "chance": {"attribution": dataclasses.replace(ATTRIBUTION, stochastic=True, mended_pairs=())},
    "no cause": {"attribution": dataclasses.replace(ATTRIBUTION, causes=(), mended_pairs=())},
    "explained": {
        "attribution": dataclasses.replace(ATTRIBUTION, unexplained=(), unexplained_flips=0, unexplained_trains=0)
    },
    "fault only": {"faults": (Fault("unknown", "Nothing that was tried explains the spikes."),)},
    "twin": {"against": "twin", "first_divergence": divergence()},
    "uneven bins": {
        "errors": OutputErrors(2.5, 0.3, 0.2, 0.9, Histogram((0, 1e-6, 1e-5, 1e-4, 1e-3, 10), (5, 4, 3, 2, 1)))
    },
}


@pytest.mark.parametrize("part", PARTS)
def test_every_part_stands_alone(page, part):
    found = page(plain(**PARTS[part]))
    assert "None" not in found.text
    assert "nan" not in found.text.split()
    assert all(found.values("aria-label", "svg"))
    if part == "twin":
        assert "Spikes of the software twin" in found.headings
    if part == "many spikes":
        assert any(value.startswith("data:image/png;base64,") for value in found.values("href", "image"))
    if part == "explained":
        assert "gives every decision and every spike train" in found.text
    if part == "chance":
        assert "of one draw" in found.text


def test_the_shares_drawn_add_up_to_what_was_lost(page):
    found = page(full())
    label = next(value for value in found.values("aria-label", "svg") if "without a departure" in value)
    start, *changes, measured = [float(x.replace("−", "-")) for x in re.findall(r"[+−]?\d+\.\d(?= points| %)", label)]
    assert len(changes) == len(CAUSES) + 1  # and what is not explained
    assert start == 100.0
    assert measured == 73.0
    assert start + sum(changes) == pytest.approx(measured, abs=0.05 * (len(changes) + 1))


def test_figures_say_their_numbers(page):
    found = page(full())
    assert found.values("role", "svg") == ["img"] * 9
    labels = found.values("aria-label", "svg")
    assert labels[0].startswith("teacher-forced: 73.0 % [70.2, 75.7], 730 of 1000; free-running: 68.7 %")
    assert "reference, 2 steps: 61.0 %" in labels[4]
    assert "first divergence at step 4, layer 1, neuron 1" in labels[6]
    assert "threshold 1" in labels[8]


def test_nothing_is_fetched_and_nothing_is_run(page, tmp_path):
    found = page(full(), plain())
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|//[a-z]|@import", text)
    assert not {"script", "link", "iframe", "img", "object"} & set(found.tags)
    assert found.tags.count("style") == 1  # those of figures would hold for the whole page
    assert all(value.startswith("#") for value in found.values("href"))


def test_identifiers_are_unique_and_what_refers_to_them_finds_them(page, tmp_path):
    found = page(full(), full(), plain())
    ids = found.values("id")
    assert len(ids) == len(set(ids))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    wanted = {value[1:] for value in found.values("href")} | set(re.findall(r"url\(#([^)]*)\)", text))
    assert len(wanted) > 20
    assert wanted <= set(ids)
    assert text.count("<section ") == 3


def test_names_are_text_whatever_is_in_them(page, tmp_path):
    hostile = full(
        network=HOSTILE,
        network_hash=HOSTILE,
        profile=HOSTILE,
        target=HOSTILE,
        source=HOSTILE,
    )
    causes = tuple(dataclasses.replace(cause, kind=HOSTILE, text=HOSTILE) for cause in CAUSES)
    hostile = dataclasses.replace(
        hostile,
        origin_name=HOSTILE,
        attribution=dataclasses.replace(ATTRIBUTION, causes=causes, mended_pairs=((HOSTILE, HOSTILE, 0.9),)),
        faults=(dataclasses.replace(FAULT, text=HOSTILE),),
        free_running=dataclasses.replace(FREE, env=HOSTILE),
        provenance={HOSTILE: {HOSTILE: HOSTILE, "\ud800": [HOSTILE]}},
    )
    found = page(hostile)
    assert "script" not in found.tags
    assert found.tags == page(dataclasses.replace(hostile, network="n", profile="p", source="s")).tags
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "{{ 7 * 7 }}" in found.text
    assert 'url(#a) href="#b" id="c" #0072b2;' in found.text


def test_the_same_reports_make_the_same_bytes(tmp_path):
    for name in ("a.html", "b.html"):
        write_page([full(), plain()], tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_the_users_plotting_habits_do_not_matter(tmp_path):
    import matplotlib

    write_page([full()], tmp_path / "a.html")
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.facecolor": "red"}):
        write_page([full()], tmp_path / "b.html")
        assert matplotlib.rcParams["font.size"] == 30
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_emulated_cores_are_called_that(page):
    found = page(full(target="spinnaker-virtual", profile="spinnaker-live"))
    assert "The target ran as the shipped firmware on emulated cores." in found.text
    assert "hardware" not in found.text.lower()


def test_files_that_cannot_be_written_are_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="is a folder"):
        write_page([plain()], tmp_path)
    with pytest.raises(InvalidInputError, match="does not exist"):
        write_page([plain()], tmp_path / "nowhere" / "report.html")
    with pytest.raises(InvalidInputError, match="at least one"):
        write_page([], tmp_path / "report.html")
    with pytest.raises(InvalidInputError, match="Cannot write"):
        write_page([plain()], tmp_path / ("n" * 250))
    assert not list(tmp_path.iterdir())


def test_an_older_page_is_replaced_and_nothing_else_is_left(tmp_path):
    (tmp_path / "report.html").write_text("old", encoding="utf-8")
    write_page([plain()], tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize(("module", "package"), [("jinja2", "Jinja2"), ("matplotlib", "Matplotlib")])
def test_what_is_missing_is_named(monkeypatch, module, package):
    real = builtins.__import__

    def without(name, *rest):
        if name.split(".")[0] == module:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest)

    for name in [name for name in sys.modules if name.startswith("spikeloop.cli.report")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingPackageError, match=rf'{package}.*pip install "spikeloop\[report\]"'):
        real("spikeloop.cli.report")


def test_templates_lie_beside_the_code():
    import spikeloop.cli.report as package

    names = {path.name for path in Path(package.__file__).parent.iterdir()}
    assert {"page.html.j2", "page.css"} <= names

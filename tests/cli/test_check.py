"""check as its users call it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from spikeloop.models import Encoder, load, save
from spikeloop.runtime import check, launch
from spikeloop.runtime.fidelity import attribution, checking, large

SMALL = ("check", "small.spk", "--on", "nest-iaf_psc_delta", "--observations", "states.npy")


@pytest.fixture(scope="module")
def conventional(files):
    """A conventional network of the same shape as small.spk, and its actions on the states."""
    torch.manual_seed(1)
    module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    torch.save(module.state_dict(), files / "conventional.pt")
    with torch.no_grad():
        return module(torch.from_numpy(np.load(files / "states.npy")).float()).argmax(dim=1).numpy()


def plain(document):
    """All of a report but the times, which no two runs share."""
    document = dict(document)
    del document["ms_per_decision"]
    if document["attribution"]:
        document["attribution"] = {**document["attribution"], "us_per_decision": None}
    return document


# --- what it finds ----------------------------------------------------------------------------------------------------


def test_an_exact_profile(spikeloop):
    words = ("check", "small.spk", "--on", "nest-exact", "--observations", "states.npz", "--require", "100")
    result = spikeloop(*words, "--json")
    document = result.document
    assert result.code == 0
    assert (document["observations"], document["teacher_forced"]["agreed"], document["agreement"]) == (12, 12, 1.0)
    assert document["errors"]["max"] <= 1e-9
    assert document["differing_trains"] == 0
    assert document["first_disagreement"] is None


def test_the_document_is_what_the_library_finds(spikeloop, files):
    document = spikeloop(*SMALL, "--steps-sweep", "5,20", "--seed", "3", "--json").document
    found = check(
        files / "small.spk", "nest-iaf_psc_delta", np.load(files / "states.npy"), steps_sweep=(5, 20), seed=3,
        source="12 observations of states.npy",
    )  # fmt: skip
    ours, theirs = plain(document), plain(json.loads(json.dumps(found.as_dict())))
    for point in [*ours["sweep"], *theirs["sweep"]]:
        del point["ms_per_decision"]
    assert ours == theirs
    assert [point["steps"] for point in document["sweep"]] == [5, 20]


def test_a_terminal_is_told_the_same(in_process, files):
    shown = in_process(*SMALL)
    report = check(files / "small.spk", "nest-iaf_psc_delta", np.load(files / "states.npy"))
    assert shown.code == 0
    assert f"action agreement  {100 * report.agreement:.1f} %" in shown.out
    place = report.first_divergence.place
    where = f"decision {report.first_divergence.observation}, layer {place.layer}, neuron {place.neuron}"
    assert where in shown.out
    assert "fired on the target only" in shown.out
    assert f"why               {report.attribution.causes[0].kind}" in shown.out
    assert "0 flips, 0 spike trains" in shown.out
    assert "why" not in in_process(*SMALL, "--no-explain").out.split()


def test_estimates_are_said_to_be_estimates(in_process, files, monkeypatch):
    np.save(files / "many.npy", np.random.default_rng(1).normal(size=(200, 4)))
    words = (*SMALL[:-1], "many.npy")
    exact = in_process(*words).out
    assert "estimated" not in exact
    assert "±" not in exact
    monkeypatch.setattr(attribution, "MOST_UPDATES", 1)
    monkeypatch.setattr(attribution, "FEWEST_OBSERVATIONS", 60)
    shown = in_process(*words).out
    assert "estimated from 60 observations" in shown
    assert "± " in shown


def test_an_agent_that_was_trained_for_the_profile(in_process):
    words = ("check", "distilled.spk", "--on", "nest-iaf_psc_delta", "--observations", "states.npy", "--require", "100")
    shown = in_process(*words)
    assert shown.code == 0
    assert "compared with     the software twin" in shown.out
    assert "none: every spike is the same" in shown.out
    assert "compared with     the reference" in in_process(*words[:-2], "--against", "reference").out


def test_a_bar_that_is_not_met(spikeloop):
    # A threshold that is never reached: no hidden neuron fires, and the actions are the output biases'.
    result = spikeloop(*SMALL, "--set", "V_th=1e6", "--require", "100", "--json")
    assert result.code == 1
    share = 100 * result.document["agreement"]
    assert share < 100
    assert result.err.splitlines()[-1] == (
        f"small on nest-iaf_psc_delta: agreement is {share:.2f} %, required are 100 %: {100 - share:.2f} points too "
        "little"
    )


def test_a_bar_that_is_met(in_process):
    assert in_process(*SMALL, "--require", "50").code == 0
    both = in_process(*SMALL, "--on", "nest-exact", "--require", "99")
    assert both.code == 1
    assert "small on nest-iaf_psc_delta: agreement is" in both.err
    assert "small on nest-exact" not in both.err


def test_the_conventional_network_beside_it(spikeloop, in_process, files, conventional):
    document = spikeloop(*SMALL, "--against", "conventional.pt", "--against", "reference", "--json").document
    assert (document["origin_name"], document["against"]) == ("conventional", "reference")
    with launch(files / "small.spk") as agent:
        own = agent.decide(np.load(files / "states.npy")).action
    assert document["expected_origin"]["agreed"] == int((own == conventional).sum())
    assert 0 < document["origin"]["agreed"] < 12
    assert "with conventional" in in_process(*SMALL, "--against", "conventional.pt").out


def test_several_agents_profiles_and_seeds(spikeloop):
    words = ("check", "small.spk", "distilled.spk", "--on", "nest-exact", "--on", "nest-iaf_psc_delta")
    result = spikeloop(*words, "--seeds", "1,2", "--observations", "states.npy", "--no-explain", "--json")
    assert result.code == 0, result.err
    reports = result.document["reports"]
    found = [(report["network"], report["profile"], report["seed"]) for report in reports]
    profiles = ("nest-exact", "nest-iaf_psc_delta")
    assert found == [(a, p, seed) for a in ("small", "distilled") for p in profiles for seed in (1, 2)]
    assert [report["against"] for report in reports[-4:]] == ["reference"] * 2 + ["twin"] * 2


def test_several_in_a_terminal(in_process, files):
    shown = in_process(*SMALL, "--on", "nest-exact", "--report", "two.html")
    assert shown.code == 0
    assert "2 checks" in shown.out
    assert shown.out.splitlines()[-1] == "two.html: the report"
    text = (files / "two.html").read_text(encoding="utf-8")
    assert "nest-exact" in text
    assert "nest-iaf_psc_delta" in text
    same = in_process(*SMALL, "--on", "nest-iaf_psc_delta", "--no-explain")
    assert same.out.count("teacher-forced") == 1, "asked for twice, done once"


def test_episodes_are_observations_and_played_free(spikeloop):
    words = ("check", "small.spk", "--on", "nest-iaf_psc_delta", "--observations", "CartPole-v1:2", "--seed", "5")
    document = spikeloop(*words, "--most", "9", "--json").document
    free = document["free_running"]
    assert (document["observations"], free["env"], free["episodes"], free["seed"]) == (9, "CartPole-v1", 2, 5)
    assert len(free["target"]["each"]) == 2
    assert document["source"].startswith("9 of ")


def test_a_trace_holds_observations(spikeloop, in_process):
    run = ("run", "small.spk", "--on", "reference", "--env", "CartPole-v1", "--episodes", "2", "--in-process")
    ran = spikeloop(*run, "--trace", "checked.db", "--json")
    assert ran.code == 0, ran.err
    shown = in_process("check", "small.spk", "--on", "nest-exact", "--observations", "checked.db")
    assert "of 2 episodes in checked.db" in shown.out
    assert "100.0 %" in shown.out


def test_side_by_side_and_gone_on_with(spikeloop, files):
    small = load(files / "small.spk")
    save(replace(small, encoder=Encoder("poisson"), name="poisson"), files / "poisson-4.spk")
    words = ("check", "small.spk", "poisson-4.spk", "--on", "nest-iaf_psc_delta", "--observations", "states.npy")
    words = (*words, "--json")
    serial = spikeloop(*words).document["reports"]
    first = spikeloop(*words, "--jobs", "2", "--keep", "kept")
    assert first.code == 0, first.err
    assert [plain(report) for report in first.document["reports"]] == [plain(report) for report in serial]
    kept = {path: path.stat().st_mtime_ns for path in sorted((files / "kept").rglob("*.npz"))}
    assert len(kept) == 4, "of each, what the target did, and what can be said of it"
    again = spikeloop(*words, "--keep", "kept")
    # Its times too: nothing was asked of a target again.
    of_times = [[report["ms_per_decision"] for report in one.document["reports"]] for one in (first, again)]
    assert of_times[0] == of_times[1]
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert [plain(report) for report in again.document["reports"]] == [plain(report) for report in serial]


def test_episodes_side_by_side(spikeloop):
    words = ("check", "small.spk", "--on", "nest-iaf_psc_delta", "--observations", "CartPole-v1:2", "--json")
    serial, shared = (spikeloop(*words, *more).document for more in ((), ("--jobs", "2")))
    assert plain(shared) == plain(serial)
    assert shared["free_running"]["episodes"] == 2


# --- what it refuses --------------------------------------------------------------------------------------------------

STATES = "check small.spk --on reference --observations states.npy"
REFUSED = {
    "missing agent": ("check no.spk --on reference --observations states.npy", "'no.spk'"),
    "missing profile": ("check small.spk --on nowhere --observations states.npy", "'nowhere'"),
    "missing observations": (
        "check small.spk --on reference --observations no.npz",
        "'no.npz' was given for observations, and there is no such file",
    ),
    "another agent's observations": (
        "check small.spk car.spk --on reference --observations states.npy",
        "shape (12, 4); network 'car' needs [n, 2]",
    ),
    "no episodes": ("check small.spk --on reference --observations CartPole-v1:0", "at least 1 episode is needed"),
    "no such environment": ("check small.spk --on reference --observations Nope-v1:1", "'Nope-v1'"),
    "a page nowhere": (STATES + " --report nowhere/page.html", "a file in a folder that exists is needed"),
    "a page that is a folder": (STATES + " --report folder", "a file in a folder that exists is needed"),
    "the same seed twice": (STATES + " --seeds 1,1", "--seeds 1,1 was given; different whole numbers"),
    "negative seeds": (STATES + " --seeds 1,-2", "different whole numbers"),
    "words for seeds": (STATES + " --seeds one", "different whole numbers"),
    "no window": (STATES + " --steps-sweep 0,5", "it must be a whole number from 1 to 100000"),
    "an endless window": (STATES + " --steps-sweep 1000000", "it must be a whole number from 1 to 100000"),
    "halves of steps": (STATES + " --steps-sweep 1.5", "different whole numbers"),
    "no jobs": (STATES + " --jobs 0", "Invalid value for '--jobs'"),
    "no observations at most": (STATES + " --most 0", "Invalid value for '--most'"),
    "a bar of nan": (STATES + " --require nan", "Invalid value for '--require'"),
    "both baselines": (STATES + " --against reference --against twin", "--against was given 'reference' and 'twin'"),
    "several origins": (STATES + " --against a.pt --against b.pt", "--against was given several files"),
    "no such origin": (STATES + " --against a.pt", "it must be 'reference' or 'twin', or the network that the agent"),
    "an origin of another shape": (STATES + " --against car.spk", "reads 2 values and decides between 3 actions"),
    "a file to keep in": (STATES + " --keep states.npy", "Cannot make the folder states.npy"),
    "a cluster that is none": (STATES + " --cluster nonsense", "nonsense"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name, in_process):
    words, said = REFUSED[name]
    assert said in in_process(*words.split()).refused()


@pytest.mark.parametrize(
    "option", ["--observations", "--against", "--keep", "--cluster", "--seeds", "--steps-sweep", "--report"]
)
def test_an_empty_text_is_no_choice(option, in_process, files):
    """As a script gives it, whose variable is not set. Path("") would be the folder that it is called in."""
    before = sorted(files.iterdir())
    words = [word for word in STATES.split() if option != "--observations" or word not in (option, "states.npy")]
    assert option in in_process(*words, option, "").refused()
    assert sorted(files.iterdir()) == before


def test_an_origin_is_refused_before_anything_is_begun(in_process, monkeypatch):
    def never(*_, **__):
        raise AssertionError("begun")

    monkeypatch.setattr(large, "target_records", never)
    monkeypatch.setattr(checking, "compare", never)
    assert "'reference' or 'twin'" in in_process(*STATES.split(), "--jobs", "2", "--against", "a.pt").refused()

"""spikeloop replay: the same episode again."""

import sqlite3
from contextlib import closing

import pytest
from spikeloop.runtime import Trace


@pytest.fixture(scope="module")
def recorded():
    """The traces of this module, written once."""
    return set()


@pytest.fixture
def trace(spikeloop, files, recorded):
    """A trace of two episodes over the bridge."""
    if not recorded:
        words = "run cartpole --on nest-exact --env CartPole-v1 --episodes 2 --max-steps 30 --seed 7 --spikes"
        assert spikeloop(*words.split(), "--trace", "replayed.db").code == 0
        recorded.add("replayed.db")
    return "replayed.db"


def test_over_the_bridge_and_back_to_the_bit(spikeloop, trace):
    result = spikeloop("replay", trace, "--episode", "1", "--json")
    assert result.code == 0
    found = result.document
    assert (found["network"], found["profile"], found["seed"]) == ("cartpole", "nest-exact", 8)
    assert (found["decisions"], found["equal_outputs"], found["equal_spikes"]) == (30, 30, 30)
    assert found["environment"]["equal_observations"] == found["environment"]["equal_answers"] == 30
    assert (found["same"], found["broken"], found["doubts"], found["other_versions"]) == (True, False, [], {})
    assert "each" not in found


def test_decisions_one_by_one(spikeloop, in_process, trace):
    result = in_process("replay", trace, "--decisions", "--env", "none")
    assert result.code == 0
    rows = [line.split("│")[1:5] for line in result.out.splitlines() if line.startswith("│")]
    actions = [row.action for row in Trace(trace).decisions(0)]
    assert [[cell.strip() for cell in row] for row in rows] == [
        [str(step), str(action), str(action), "same"] for step, action in enumerate(actions)
    ]
    assert "not run again" in result.out
    each = spikeloop("replay", trace, "--decisions", "--env", "none", "--json").document["each"]
    assert [one["action"] for one in each] == actions


def test_in_words(in_process, trace):
    result = in_process("replay", trace, "--episode", "1")
    assert result.code == 0
    assert "30 from seed 8, truncated" in result.out
    assert "30 of 30 observations, to the bit; 30 of 30 answers" in result.out
    assert result.out.splitlines()[-1].split(maxsplit=1) == ["so", "the closed loop is the same to the bit"]


def test_another_profile_ends_well_and_says_what_differs(in_process, trace):
    result = in_process("replay", trace, "--on", "nest-iaf_psc_delta")
    assert result.code == 0
    assert "this is another profile: 'nest-exact' was recorded, 'nest-iaf_psc_delta' decides now" in result.out
    assert "first difference             decision 0: another output" in result.out
    assert result.out.splitlines()[-1].endswith("it is not the same")


@pytest.mark.parametrize(
    ("statement", "where"),
    [
        ("UPDATE decisions SET action = 1 - action WHERE step = 12", "decision 12: action"),
        ("UPDATE decisions SET reward = 3 WHERE step = 12", "at decision 12"),
    ],
)
def test_what_should_be_the_same_and_is_not_ends_with_1(in_process, files, trace, tmp_path, statement, where):
    (tmp_path / "changed.db").write_bytes((files / trace).read_bytes())
    with closing(sqlite3.connect(tmp_path / "changed.db", isolation_level=None)) as db:
        db.execute(statement)
        db.execute("UPDATE meta SET value = '{\"numpy\": \"0.9\"}' WHERE key = 'versions'")
    result = in_process("replay", str(tmp_path / "changed.db"))
    assert result.code == 1
    assert where in result.out
    assert "numpy 0.9, now" in result.out
    assert "it is not the same, and should be" in result.out
    assert result.err.splitlines()[-1] == "the episode was not replayed to the bit"


def test_refusals(in_process, files, trace, tmp_path):
    assert "holds episodes 0 to 1" in in_process("replay", trace, "--episode", "9").refused()
    assert "there is no trace" in in_process("replay", "missing.db").refused(1).lower()
    assert "no SQLite file" in in_process("replay", "small.spk").refused(1)
    assert "is another one" in in_process("replay", trace, "--agent", "small.spk").refused()
    assert "--set" in in_process("replay", trace, "--set", "nonsense").refused()
    assert "Acrobot-v1" in in_process("replay", trace, "--env", "Acrobot-v1").refused()


def test_an_environment_that_cannot_be_made_is_done_without(in_process, files, trace, tmp_path):
    (tmp_path / "gone.db").write_bytes((files / trace).read_bytes())
    with closing(sqlite3.connect(tmp_path / "gone.db", isolation_level=None)) as db:
        db.execute("UPDATE meta SET value = '\"Gone-v0\"' WHERE key = 'environment'")
    result = in_process("replay", str(tmp_path / "gone.db"))
    assert result.code == 0
    assert "not run again: Gymnasium cannot make environment 'Gone-v0'" in result.out
    assert "every decision that was compared is the same to the bit" in result.out
    assert in_process("replay", str(tmp_path / "gone.db"), "--env", "CartPole-v1").code == 0

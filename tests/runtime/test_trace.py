"""The trace: what is written is read, and a killed writer loses nothing finished."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import numpy as np
import pytest
from spikeloop.deploy.backend import Exchange
from spikeloop.deploy.conformance import example
from spikeloop.errors import InvalidInputError, TraceError
from spikeloop.runtime import Trace, TraceWriter, launch
from spikeloop.runtime.decision import Decision, Divergence, Timings, first_divergence


def write(path, decisions=3, spikes=True):
    made = []
    with launch(example(0)) as agent, TraceWriter(path, {"seed": 4, "agent": "example"}) as trace:
        trace.begin_episode(0, 4)
        for step in range(decisions):
            observation = np.array([0.5 * step, 1.0, -1.0])
            decision = agent.decide(observation, spikes=spikes)
            trace.decided(0, step, observation, decision.action, decision, reference_action=1, wall_us=12.5)
            trace.answered(1.0, step == decisions - 1, False)
            made.append((observation, decision))
        trace.end_episode(0, float(decisions), decisions, "terminated")
    return made


def test_round_trip(tmp_path):
    made = write(tmp_path / "run.db")
    trace = Trace(tmp_path / "run.db")
    assert trace.meta == {"format": 2, "seed": 4, "agent": "example"}
    assert trace.episodes() == [{"episode": 0, "seed": 4, "return": 3.0, "length": 3, "outcome": "terminated"}]
    assert len(trace) == 3
    rows = list(trace.decisions(0))
    for step, (row, (observation, decision)) in enumerate(zip(rows, made, strict=True)):
        assert (row.episode, row.step, row.action, row.reference_action) == (0, step, decision.action, 1)
        assert np.array_equal(row.observation, observation)
        assert np.array_equal(row.output, decision.output)
        assert row.timings == decision.timings
        assert (row.missed, row.wall_us, row.reward) == (False, 12.5, 1.0)
        assert (row.terminated, row.truncated) == (step == 2, False)
        counts = [np.zeros_like(raster) for raster in decision.rasters]
        for layer, neuron, at in row.spike_events:
            counts[layer][at, neuron] += 1
        assert all(np.array_equal(a, b) for a, b in zip(counts, decision.rasters, strict=True))
    assert len(rows[0].spike_events) > 0


def test_spikes_only_when_given(tmp_path):
    write(tmp_path / "run.db", spikes=False)
    assert all(row.spike_events is None for row in Trace(tmp_path / "run.db").decisions())


def test_a_missed_decision_has_no_output(tmp_path):
    with TraceWriter(tmp_path / "run.db", {}) as trace:
        trace.begin_episode(0, None)
        trace.decided(0, 0, [1.0], 2, None)
    (row,) = Trace(tmp_path / "run.db").decisions()
    assert row.missed
    assert row.output is None
    assert row.reward is None
    assert row.terminated is None


def test_what_the_machine_s_network_did_and_where_the_spikes_part(tmp_path):
    exchange, place = Exchange(resent=2, stale=1, late=3), Divergence(1, 4, 7, fired=0, expected=1)
    decision = Decision(1, np.zeros(2), Timings(), exchange=exchange, cpu_us=17.5)
    with TraceWriter(tmp_path / "run.db", {}) as trace:
        trace.begin_episode(0, None)
        trace.decided(0, 0, [1.0], 1, decision, reference_action=1, divergence=place)
        trace.decided(0, 1, [1.0], 1, Decision(1, np.zeros(2), Timings()))
    first, second = Trace(tmp_path / "run.db").decisions()
    assert (first.exchange, first.cpu_us, first.divergence) == (exchange, 17.5, place)
    assert (second.exchange, second.cpu_us, second.divergence) == (None, 0.0, None)


def test_a_trace_of_the_first_format_is_still_read(tmp_path):
    made = write(tmp_path / "run.db")
    with closing(sqlite3.connect(tmp_path / "run.db", isolation_level=None)) as db:
        db.execute("DROP TABLE divergences")
        for column in ("resent", "stale", "late", "cpu_us"):
            db.execute(f"ALTER TABLE decisions DROP COLUMN {column}")
        db.execute("PRAGMA user_version = 1")
    rows = list(Trace(tmp_path / "run.db").decisions())
    assert [row.action for row in rows] == [decision.action for _, decision in made]
    assert [(row.exchange, row.cpu_us, row.divergence) for row in rows] == [(None, None, None)] * 3


def test_the_first_divergence_is_the_earliest_step_then_the_first_layer():
    rasters = [np.zeros((4, 3), np.uint8), np.zeros((4, 2), np.uint8)]
    others = [raster.copy() for raster in rasters]
    assert first_divergence(tuple(rasters), tuple(others)) is None
    others[0][3, 0] = 1
    others[1][2, 1] = 1
    rasters[1][2, 0] = 1
    found = first_divergence(tuple(rasters), tuple(others))
    assert found == Divergence(layer=1, neuron=0, step=2, fired=1, expected=0)
    assert str(found) == "step 2, layer 1, neuron 0: fired on the target only"


def test_the_last_answer_is_written_at_close(tmp_path):
    with TraceWriter(tmp_path / "run.db", {}) as trace:
        trace.begin_episode(0, None)
        trace.decided(0, 0, [1.0], 2, None)
        trace.answered(0.5, False, True)
    (row,) = Trace(tmp_path / "run.db").decisions()
    assert (row.reward, row.terminated, row.truncated) == (0.5, False, True)


def test_a_trace_is_never_overwritten(tmp_path):
    write(tmp_path / "run.db")
    with pytest.raises(InvalidInputError, match="never overwritten"):
        TraceWriter(tmp_path / "run.db", {})
    assert len(Trace(tmp_path / "run.db")) == 3


def test_unwritable_and_unreadable_files(tmp_path):
    with pytest.raises(TraceError, match="Cannot write"):
        TraceWriter(tmp_path / "no" / "run.db", {})
    with pytest.raises(TraceError, match="There is no trace"):
        Trace(tmp_path / "run.db")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(TraceError, match="no SQLite file"):
        Trace(tmp_path / "text")
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE t (x)").connection.close()
    with pytest.raises(TraceError, match="no trace"):
        Trace(tmp_path / "other.db")
    write(tmp_path / "newer.db")
    db = sqlite3.connect(tmp_path / "newer.db")
    db.execute("PRAGMA user_version = 9")
    db.close()
    with pytest.raises(TraceError, match=r"format 9.*pip install -U"):
        Trace(tmp_path / "newer.db")
    write(tmp_path / "cut.db")
    content = (tmp_path / "cut.db").read_bytes()
    (tmp_path / "cut.db").write_bytes(content[: len(content) // 2])
    with pytest.raises(TraceError, match="Cannot read"):
        list(Trace(tmp_path / "cut.db").decisions())


def test_damaged_meta_is_said_to_be(tmp_path):
    write(tmp_path / "run.db")
    with sqlite3.connect(tmp_path / "run.db") as db:
        db.execute("UPDATE meta SET value = 'no json' WHERE key = 'seed'")
    db.close()
    with pytest.raises(TraceError, match="no JSON"):
        _ = Trace(tmp_path / "run.db").meta


def test_an_interrupt_within_a_transaction_loses_nothing_written(tmp_path):
    class Interrupting:
        output, timings, exchange, cpu_us = np.zeros(2), Timings(), None, 0.0

        @property
        def rasters(self):
            raise KeyboardInterrupt

    with TraceWriter(tmp_path / "run.db", {}) as trace:
        trace.begin_episode(0, None)
        trace.decided(0, 0, [1.0], 1, None)
        trace.answered(1.0, False, False)
        with pytest.raises(KeyboardInterrupt):
            trace.decided(0, 1, [1.0], 1, Interrupting())
        trace.end_episode(0, 1.0, 1, "interrupted")
    (row,) = Trace(tmp_path / "run.db").decisions()
    assert row.reward == 1.0
    assert Trace(tmp_path / "run.db").episodes()[0]["outcome"] == "interrupted"


WRITER = """
import sys, numpy as np
from spikeloop.runtime import TraceWriter
trace = TraceWriter(sys.argv[1], {"seed": 1})
trace.begin_episode(0, 1)
for step in range(10**6):
    trace.decided(0, step, np.array([step, 1.0]), step % 2, None)
    print(step, flush=True)          # only now is the decision finished
    trace.answered(1.0, False, False)
"""


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.3])
def test_kill_9_leaves_every_finished_decision(tmp_path, after_s):
    path = tmp_path / "run.db"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        time.sleep(after_s)
        os.kill(process.pid, signal.SIGKILL)
        finished = 1 + len(process.stdout.read().splitlines())
    rows = list(Trace(path).decisions())
    assert finished <= len(rows) <= finished + 1
    assert [row.step for row in rows] == list(range(len(rows)))
    assert all(row.reward == 1.0 for row in rows[:-2])
    assert Trace(path).episodes()[0]["outcome"] is None


def test_a_trace_can_be_read_while_it_is_written(tmp_path):
    with TraceWriter(tmp_path / "run.db", {}) as trace:
        trace.begin_episode(0, None)
        for step in range(5):
            trace.decided(0, step, [1.0], 0, None)
            assert len(Trace(tmp_path / "run.db")) == step + 1

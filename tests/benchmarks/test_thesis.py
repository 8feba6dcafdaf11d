"""The comparison with the thesis: its rows are all there, and the simulation of departures finds what NEST does."""

import importlib
import re
from pathlib import Path

import numpy as np
import pytest
from spikeloop.hardware_profiles import load_profile, profiles
from spikeloop.runtime import launch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ENVIRONMENTS = ("CartPole-v1", "MountainCar-v0")


@pytest.fixture
def module(monkeypatch):
    """A module of the folder benchmarks/thesis, by name."""
    pytest.importorskip("torch", reason="the thesis' files are torch files")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return lambda name: importlib.import_module(f"thesis.{name}")


def test_every_row_can_be_run(module):
    tables, networks = module("tables").TABLES, module("networks")
    assert {name: len(rows) for name, rows in tables.items()} == {"4.12": 26, "4.13": 6, "4.14": 13}
    for rows in tables.values():
        assert len({(row.env, row.neuron, row.network, row.steps) for row in rows}) == len(rows)
        for row in rows:
            assert all(source.env == row.env for source in networks.sources(row.env, row.network))
            assert (row.share is None) == (row.neuron == "software")
    deployed = {row.neuron for name in ("4.12", "4.13") for row in tables[name]} - {"software"}
    assert {f"nest-{neuron}" for neuron in deployed} <= set(profiles())


def test_the_ablation_has_every_row(module):
    assert list(module("ablation").CONFIGURATIONS) == list(module("tables").ABLATION)


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_the_simulation_finds_the_ablation_within_two_points(module, thesis, env):
    ablation, source = module("ablation"), module("networks").SOURCES[env, "DSQN"]
    states, which = ablation.states_of(source, module("running").Effort())
    if not which.startswith("1000"):
        pytest.skip("the replay memory that these figures were measured in is not among the data")
    network = source.network(20)
    expected = launch(network, "reference").decide(states).action
    for name, configuration in ablation.CONFIGURATIONS.items():
        share = 100 * np.mean(configuration.simulated(network, states) == expected)
        assert share == pytest.approx(module("tables").ABLATION[name][ENVIRONMENTS.index(env)], abs=2.0), name


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_the_ablation_is_the_same_on_nest_and_simulated(module, thesis, env):
    pytest.importorskip("nest", reason="nest-simulator is not installed")
    ablation, source = module("ablation"), module("networks").SOURCES[env, "DSQN"]
    network, states = source.network(20), source.golden()[:60]
    expected = launch(network, "reference").decide(states).action
    losses = set()
    for name, configuration in ablation.CONFIGURATIONS.items():
        actual = ablation.on_nest(ablation.deployed(name, network), states)
        np.testing.assert_array_equal(configuration.simulated(network, states), actual, err_msg=name)
        losses.add(int((actual != expected).sum()))
    assert len(losses) > 3, "configurations that lose alike prove little"


def test_causes_add_up_to_what_is_lost(module, thesis):
    running, source = module("running"), module("networks").SOURCES["CartPole-v1", "DSQN"]
    network, states = source.network(20), source.golden()[:200]
    with launch(network, "reference") as reference, launch(network, "nest-iaf_psc_delta") as agent:
        expected, given = reference.decide(states).action, running.record(agent, states)
    cell = running.causes(network, load_profile("nest-iaf_psc_delta"), states, given)
    *words, unexplained = cell.split(", ")
    points = [float(re.fullmatch(r".+ ([+-][\d.]+)", word)[1]) for word in words]
    lost = 100 * np.mean(given.actions != expected)
    assert lost > 10
    assert sum(points) == pytest.approx(lost, abs=0.05 * (len(points) + 2))
    assert unexplained == "unexplained 0"


def test_a_quick_run_fills_every_row(module, thesis, capsys):
    pytest.importorskip("nest", reason="nest-simulator is not installed")
    rows = module("nest").table("4.13", module("running").Effort.quick())
    assert len(rows) == len(module("tables").TABLE_4_13) + 3  # MountainCar's two networks
    assert all(row["return"] for row in rows)
    assert all(row["causes"] and row["exact: own %"] == "100.0" for row in rows if row["neuron"] != "software")
    assert "table 4.13" in capsys.readouterr().err

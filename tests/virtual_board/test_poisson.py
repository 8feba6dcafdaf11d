"""Spike sources that draw at random: the firmware's own generator, judged by its statistics."""

import numpy as np
import pytest
from spikeloop.tests.virtual_board import pynn
from spikeloop.virtual_board import VirtualBoard

SCRIPT = """
sim.setup(1.0)
sources = {rate: sim.Population(200, sim.SpikeSourcePoisson(rate=rate)) for rate in (8.0, 50.0)}
for source in sources.values():
    source.record("spikes")
sim.run(4000)
for rate, source in sources.items():
    trains = source.get_data().segments[-1].spiketrains
    result(**{str(int(rate)): [train.magnitude.tolist() for train in trains]})
sim.end()
"""
SECONDS = 4


@pytest.fixture(scope="module")
def trains(tmp_path_factory):
    with VirtualBoard(version=3, pace=None) as board:
        return pynn.run(tmp_path_factory.mktemp("poisson"), board, SCRIPT)


@pytest.mark.parametrize("rate", [8, 50])
def test_counts_and_intervals_are_those_of_a_poisson_process(trains, rate):
    counts = np.array([len(train) for train in trains[str(rate)]])
    expected = rate * SECONDS
    assert abs(counts.mean() - expected) < 5 * np.sqrt(expected / counts.size)  # five standard errors
    assert 0.6 < counts.var() / expected < 1.5
    intervals = np.concatenate([np.diff(train) for train in trains[str(rate)]])
    assert 0.85 < intervals.std() / intervals.mean() < 1.1
    pairs = np.corrcoef([np.histogram(train, 40, (0, 1000 * SECONDS))[0] for train in trains[str(rate)][:50]])
    assert abs(pairs[np.triu_indices(50, 1)].mean()) < 0.02  # sources do not go together

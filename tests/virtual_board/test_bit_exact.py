"""Unmodified sPyNNaker on the virtual board against the fixed-point model: v to the last bit, and every spike.

A network of every neuron model runs, is reset, and runs again. sPyNNaker 7.4.1's firmware does not repeat itself:

* Neuron cores mark spikes with a colour, the low 4 bits of the step, so that late ones can be told. Their counter goes
  on after a reset while the receivers' starts from 0. Unless the steps before were a multiple of 16, spikes look late
  by ``-steps % 16``: synapses with such a delay or a shorter one are skipped, longer delays are shortened by it, and
  those that go through a delay extension are lengthened by it. Spike source arrays have no such counter.
* Delay extensions keep the spikes of the last steps before the reset and send them in the run after it.
* Where neurons and synapses have cores of their own, the neurons' first step takes the inputs that the synapses handed
  over for the step after the last one.

The model makes the same mistakes here, on purpose, in :meth:`Comparison.after_reset`.
"""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
from spikeloop.tests.virtual_board import fixed_point as fp
from spikeloop.tests.virtual_board import random_network
from spikeloop.virtual_board import VirtualBoard
from spikeloop.virtual_board.host_config import spynnaker_config

POPULATIONS = ("delta", "exp", "cond", "izhikevich", "izhikevich_cond", "saturating")
RING_BUFFER_SLOTS = {"exp": 32}  # 2 ** 14 over receptors and neurons, to powers of two; 130 neurons leave so few


class Comparison:
    """A network, what sPyNNaker read back, and what the fixed-point model makes of the same synapses."""

    def __init__(self, spec, split, read):
        self.spec, self.read = spec, read
        self.populations = {"source": fp.SpikeSource([fp.source_steps(t, spec.dt_ms) for t in spec.source_times])}
        for name, p in spec.populations.items():
            shifts = read[f"{name}/shifts"].tolist()
            self.populations[name] = fp.Population(p.model, p.n, dt_ms=spec.dt_ms, shifts=shifts, **p.parameters)
        first = self.simulate([self.project(index) for index in range(len(spec.projections))])
        handed_over = {self.populations[name]: first[name].next_inputs for name in spec.populations} if split else {}
        self.expected = [first, self.simulate(self.after_reset(first), handed_over)]

    def simulate(self, projections, first_inputs=None):
        leftovers = [p.pre for p in projections if p.pre not in self.populations.values()]
        everyone = [*self.populations.values(), *leftovers]
        results = fp.simulate(everyone, projections, self.spec.steps, first_inputs)
        return dict(zip(self.populations, results, strict=False))

    def project(self, index, pre=None, only=None, later=0):
        """A projection of the model, from another source or with some of the synapses or other delays if so asked."""
        p = self.spec.projections[index]
        arrays = np.array(self.synapses(index))
        sources, targets, weights, delays = arrays if only is None else arrays[:, only]
        pre = pre or self.populations[p.pre]
        return fp.Projection(pre, self.populations[p.post], sources, targets, weights, delays + later, p.receptor)

    def after_reset(self, first):
        late = -self.spec.steps % 16
        projections = []
        for index, p in enumerate(self.spec.projections):
            delays = self.synapses(index)[3]
            stage = RING_BUFFER_SLOTS.get(p.post, random_network.LONGEST_DELAY)
            extended = delays > stage
            colour = 0 if p.pre == "source" else late
            projections += [
                self.project(index, only=~extended & (delays > colour), later=-colour),
                self.project(index, only=extended, later=colour),
            ]
            if extended.any():
                projections.append(self.project(index, pre=self.leftovers(p.pre, first, stage), only=extended))
        return projections

    def leftovers(self, name, first, stage):
        """The spikes of the last steps that a delay extension of ``stage`` steps takes for those of the next run."""
        counters = 2 * stage  # a power of two above the stage's length
        kept = self.spec.steps - stage
        if name == "source":
            trains = [fp.source_steps(times, self.spec.dt_ms) for times in self.spec.source_times]
        else:
            trains = [np.flatnonzero(neuron) for neuron in first[name].spikes.T]
        return fp.SpikeSource([train[train >= kept] % counters for train in trains])

    def shift(self, projection):
        return int(self.read[f"{projection.post}/shifts"][int(projection.receptor == "inhibitory")])

    def synapses(self, index):
        """Sources, targets, integer weights and delays in steps, as read back from the board, sorted."""
        projection = self.spec.projections[index]
        read = self.read[f"projection{index}"]
        read = read[np.lexsort((read[:, 1], read[:, 0]))]
        scale = fp.weight_scale(self.shift(projection), self.spec.populations[projection.post].model)
        weights, delays = read[:, 2] * scale, read[:, 3] / self.spec.dt_ms
        np.testing.assert_array_equal(weights, np.rint(weights))
        return *read[:, :2].T.astype(int), np.rint(weights).astype(int), np.rint(delays).astype(int)


@pytest.fixture(scope="module")
def board():
    for package in ("spynnaker", "unicorn"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    with VirtualBoard(version=3, pace=None) as board:
        yield board


# In which configuration: sPyNNaker's own, or without the monitors that make loading and reading fast on hardware
PLAIN = "[Machine]\nenable_advanced_monitor_support = False\nenable_reinjection = False\n"
CASES = {
    "1 ms": (1.0, 5008, "combined", PLAIN),
    "0.1 ms, split cores": (0.1, 500, "split", PLAIN),
    "odd reset": (1.0, 500, "combined", "[Machine]\n"),
}


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES)
def compared(request, board, tmp_path_factory):
    dt_ms, steps, cores, config = request.param
    folder = tmp_path_factory.mktemp("board")
    # sPyNNaker wants its settings in a home directory, even where a file beside the script has them all
    (folder / ".spynnaker.cfg").write_text(spynnaker_config(board.address, 3).replace("[Machine]\n", config))
    command = [sys.executable, random_network.__file__, str(dt_ms), str(steps), cores, "read.npz"]
    environment = os.environ | {"HOME": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    with np.load(folder / "read.npz") as read:
        return Comparison(random_network.make(dt_ms, steps), cores == "split", dict(read))


def test_synapses_are_rounded_as_expected(compared):
    for index, p in enumerate(compared.spec.projections):
        model, shift = compared.spec.populations[p.post].model, compared.shift(p)
        sources, targets, weights, delays = compared.synapses(index)
        if p.synapses is None:
            assert set(weights) == {int(fp.weights_of_machine(p.weight, shift, model))}
            assert delays.min() >= 1
            assert delays.max() <= random_network.LONGEST_DELAY
        else:
            given = p.synapses[np.lexsort((p.synapses[:, 1], p.synapses[:, 0]))]
            np.testing.assert_array_equal(np.column_stack([sources, targets]), given[:, :2])
            np.testing.assert_array_equal(weights, fp.weights_of_host(given[:, 2], shift, model))
            np.testing.assert_array_equal(delays, np.rint(given[:, 3] / compared.spec.dt_ms))


@pytest.mark.parametrize("population", POPULATIONS)
def test_the_network_is_alive(compared, population):
    result = compared.expected[0][population]
    assert result.spikes.sum() > result.spikes.shape[1]
    assert np.ptp(result.v) > 10 * fp.ONE
    assert population != "saturating" or result.saturated


@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize("run", [0, 1], ids=["first run", "after reset, in two parts"])
def test_every_bit_and_every_spike(compared, run, population):
    expected = compared.expected[run][population]
    v = compared.read[f"run{run}/{population}/v"] * fp.ONE
    np.testing.assert_array_equal(v, np.rint(v))
    steps, neurons = np.nonzero(v != expected.v)
    assert not steps.size, f"{steps.size} of {v.size} samples differ, first neuron {neurons[0]} in step {steps[0]}"
    spikes = compared.read[f"run{run}/{population}/spikes"]
    np.testing.assert_array_equal(spikes[np.lexsort(spikes.T[::-1])], np.argwhere(expected.spikes))

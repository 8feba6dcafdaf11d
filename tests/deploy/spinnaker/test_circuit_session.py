"""Decision circuits on a machine: equal to their twin in every decision and every spike, whatever the network loses."""

import dataclasses
import importlib

import numpy as np
import pytest

pytest.importorskip("spynnaker", reason="sPyNNaker is not installed: pip install 'spikeloop[spinnaker]'")

from spikeloop.deploy import Recording, plan
from spikeloop.deploy.spinnaker import loading
from spikeloop.deploy.spinnaker.circuit_session import CircuitSession
from spikeloop.deploy.spinnaker.wiring import DECISION
from spikeloop.errors import InvalidInputError, SessionStateError, TargetError
from spikeloop.hardware_profiles import load_profile
from spikeloop.models.stimulus import Stimulus
from spikeloop.runtime import launch


def observations(network, n, seed=1):
    """From inside and far outside of the inputs' range."""
    return (
        np.random.default_rng(seed).normal(0.0, 1.2, (n, network.n_inputs)) * np.r_[np.ones(n - 2), 1e9, 0.0][:, None]
    )


def differing(agent, network, states, *, spikes):
    """The observations on which the machine is not as its twin: in its action, or in any spike."""
    expected = launch(network, "spinnaker-twin").decide(states, spikes=True)
    found = []
    for index, state in enumerate(states):
        decision = agent.decide(state, spikes=spikes)
        same = decision.action == expected.action[index]
        if spikes:
            pairs = zip(decision.rasters, expected.rasters, strict=True)
            same &= all(np.array_equal(ours, theirs[index]) for ours, theirs in pairs)
        if not same:
            found.append(index)
    assert len(set(expected.action.tolist())) > 1
    assert all(raster.any() for raster in expected.rasters)
    return found


def test_every_decision_and_every_spike_in_lock_step(spinnaker, make_circuit):
    profile, settings = spinnaker
    network = make_circuit(seed=1)
    with launch(network, profile, settings=settings) as agent:
        assert differing(agent, network, observations(network, 60), spikes=False) == []
        assert differing(agent, network, observations(network, 60, seed=2), spikes=True) == []
        assert agent.decide(observations(network, 3)[0]).exchange.resent == 0


def test_every_decision_and_every_spike_at_wall_clock_pace(spinnaker, make_circuit):
    profile, settings = spinnaker
    network = make_circuit((3, 12, 5), steps=7, bits=5, seed=2)
    with launch(network, profile, settings=settings | {"timing": "free-running"}) as agent:
        assert differing(agent, network, observations(network, 40), spikes=False) == []
        assert differing(agent, network, observations(network, 20, seed=2), spikes=True) == []


def test_circuits_side_by_side_decide_apart(spinnaker, make_circuit):
    profile, settings = spinnaker
    network = make_circuit((3, 9, 7, 6, 4), steps=9, seed=3)  # deeper, of odd sizes, and three copies for seven samples
    states = observations(network, 42)
    expected = launch(network, "spinnaker-twin").decide(states, spikes=True)
    with launch(network, profile, settings=settings | {"circuits": 3}) as agent:
        for start in range(0, 42, 7):
            given = agent.decide(states[start : start + 7], spikes=True)
            assert np.array_equal(given.action, expected.action[start : start + 7])
            for ours, theirs in zip(given.rasters, expected.rasters, strict=True):
                assert np.array_equal(ours, theirs[start : start + 7])


@pytest.mark.parametrize("timing", ["lock-step", "free-running"])
def test_lost_and_late_datagrams_cost_time_and_nothing_else(make_circuit, timing):
    network = make_circuit((4, 8, 3), steps=8, seed=4)
    states = observations(network, 120)
    expected = launch(network, "spinnaker-twin").decide(states)
    with launch(network, "spinnaker-virtual", settings={"timing": timing, "resends": 10}) as agent:
        agent._session._machine.board.change_network(0.04, 5.0)
        decisions = [agent.decide(state) for state in states]
        lost = agent._session._machine.board.statistics()["datagrams_lost_sent"]
    assert [decision.action for decision in decisions] == expected.action.tolist()
    assert 1 <= sum(decision.exchange.resent for decision in decisions) <= 40
    assert lost > 0


def test_an_answer_that_comes_twice_is_thrown_away_once(make_circuit):
    """The host is impatient, and asks again while the answer is on its way."""
    network = make_circuit((4, 8, 2), steps=20, seed=4)
    impatient = {"timing": "free-running", "answer_ms": 1.0, "resends": 20}
    states = observations(network, 25)
    expected = launch(network, "spinnaker-twin").decide(states)
    with launch(network, "spinnaker-virtual", settings=impatient) as agent:
        agent._session._machine.board.change_network(0.0, 12.0)
        decisions = [agent.decide(state) for state in states]
    assert [decision.action for decision in decisions] == expected.action.tolist()
    for count in ("resent", "late", "stale"):
        assert sum(getattr(decision.exchange, count) for decision in decisions) > 5, count


def test_a_session_that_has_lost_its_machine_says_so(make_circuit):
    network = make_circuit((2, 6, 2), steps=5)
    with launch(network, "spinnaker-virtual") as agent:
        agent.decide([0.0, 0.0])
        agent._session._machine.board._process.kill()
        with pytest.raises(TargetError) as caught:
            agent.decide([0.0, 0.0], spikes=True)  # which would load anew
        assert not isinstance(caught.value, SessionStateError)
        with pytest.raises(SessionStateError, match="has lost its machine; launch the agent again"):
            agent.decide([0.0, 0.0])


def test_sessions_keep_their_order(spinnaker, make_circuit):
    profile, settings = spinnaker
    network = make_circuit((2, 6, 2), steps=5)
    deployment = plan(network, load_profile(profile, settings))
    twin = launch(network, "spinnaker-twin")
    session = CircuitSession(deployment)
    try:
        stimulus = network.encoder.encode(observations(network, 3)[:1], 5)
        for wrong in (session.read, lambda: session.run(5)):
            with pytest.raises(SessionStateError, match="out of order"):
                wrong()
        session.inject(stimulus)  # a window that is never run
        session.reset()
        session.inject(stimulus)
        session.run(2)
        with pytest.raises(SessionStateError, match="run the whole window first"):
            session.read()
        session.run(3)
        assert session.read().potentials.argmax() == twin.decide_stimulus(stimulus).action
        session.reset()
        with pytest.raises(TargetError, match="no potentials"):
            session.inject(stimulus, Recording(potentials=True))
        with pytest.raises(SessionStateError, match="2 were injected together"):
            session.inject(Stimulus(np.zeros((2, 2))))
        with pytest.raises(SessionStateError, match="whole numbers"):
            session.inject(Stimulus(np.full((1, 2), 0.5)))
    finally:
        session.close()
    session.close()
    with pytest.raises(SessionStateError, match="closed"):
        session.reset()


def refused(network, **settings):
    deployment = plan(network, load_profile("spinnaker-virtual", settings))
    with pytest.raises(TargetError) as caught:
        CircuitSession(deployment).close()
    return str(caught.value)


def test_one_wrong_synapse_is_found_and_named(make_circuit, monkeypatch):
    load = loading.LoadedCircuit._projection

    def tampered(self, sim, wire):
        if (wire.source, wire.receptor) == ("layer 0", "excitatory"):
            synapses = wire.synapses.copy()
            synapses["weight"][1] += 1
            wire = dataclasses.replace(wire, synapses=synapses)
        return load(self, sim, wire)

    monkeypatch.setattr(loading.LoadedCircuit, "_projection", tampered)
    message = refused(make_circuit((2, 6, 2), steps=5))
    assert "other synapses than planned (1 are missing or different, 1 not planned)" in message
    assert "of 'layer 0' to neuron" in message


def test_a_weight_that_changes_on_the_machine_is_found(make_circuit, monkeypatch):
    read_back = loading.LoadedCircuit.read_back

    def corrupted(self):
        helpers = importlib.import_module("spinn_front_end_common.utilities.helpful_functions")
        (vertex,) = self.populations["layer 0"]._vertex.machine_vertices
        at = self._view.get_placement_of_vertex(vertex)
        address = helpers.locate_memory_region_for_placement(at, vertex._synapse_regions.synaptic_matrix)
        transceiver = self._view.get_transceiver()
        words = np.frombuffer(bytes(transceiver.read_memory(at.x, at.y, address, 4096)), "<u4")
        place = int(np.flatnonzero(words >> 16)[40])  # the weight is the upper half of a synapse's word
        transceiver.write_memory(at.x, at.y, address + 4 * place, int(words[place] + (1 << 16)))
        return read_back(self)

    monkeypatch.setattr(loading.LoadedCircuit, "read_back", corrupted)
    message = refused(make_circuit((2, 6, 2), steps=5))
    assert "other synapses than planned (1 are missing or different, 1 not planned)" in message
    assert "of 'layer 0' (" in message


def test_another_shift_is_found(make_circuit, monkeypatch):
    network = make_circuit((2, 6, 2), steps=5)
    wired = loading.LoadedCircuit.__init__

    def shifted(self, machine, wiring, number):
        groups = tuple(dataclasses.replace(group, shift=group.shift + 1) for group in wiring.groups)
        wired(self, machine, dataclasses.replace(wiring, groups=groups), number)
        self.wired, self._shifts = wiring, {group.name: group.shift for group in wiring.groups}

    monkeypatch.setattr(loading.LoadedCircuit, "__init__", shifted)
    assert "other ring-buffer shifts than planned: 'gates' has (5, 5), not (4, 4)" in refused(network)


def test_the_self_test_finds_another_threshold(make_circuit, monkeypatch):
    load = loading.LoadedCircuit._projection

    def tampered(self, sim, wire):  # as if the threshold were lower by one unit
        if wire.target == wire.source or (wire.source, wire.target) != ("input", DECISION):
            return load(self, sim, wire)
        synapses = wire.synapses.copy()
        synapses["weight"][synapses["weight"] == (1 << 15) - 1] += 1
        return load(self, sim, dataclasses.replace(wire, synapses=synapses))

    monkeypatch.setattr(loading.LoadedCircuit, "_projection", tampered)
    message = refused(make_circuit((2, 6, 2), steps=5), read_back=False)
    assert "of the test neurons [0, 1, 2, 3] fired, not [0, 2]" in message


def test_observations_are_checked_before_anything_is_sent(make_circuit):
    network = make_circuit((2, 6, 2), steps=5)
    with launch(network, "spinnaker-virtual") as agent, pytest.raises(InvalidInputError, match="NaN"):
        agent.decide([np.nan, 0.0])

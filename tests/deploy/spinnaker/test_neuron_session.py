"""The mapping "pynn" on emulated cores that run the shipped firmware, against its twin: to the bit."""

import numpy as np
import pytest
from spikeloop.deploy.backend import Recording
from spikeloop.deploy.spinnaker import neuron_session, neurons
from spikeloop.deploy.spinnaker.neuron_session import NeuronSession
from spikeloop.deploy.spinnaker.neuron_twin import NeuronTwinSession
from spikeloop.errors import InvalidInputError, SessionStateError, TargetError
from spikeloop.hardware_profiles import load_profile
from spikeloop.models import Decoder, Encoder, Stimulus

pytest.importorskip("spynnaker", reason="sPyNNaker is not installed")
pytest.importorskip("unicorn", reason="unicorn, the virtual board's emulator, is not installed")

SPIKES, BOTH = Recording(spikes=True), Recording(spikes=True, potentials=True)


def assert_same(board, twin, stimulus, parts, recording=SPIKES):
    """Returns how many spikes there were."""
    read = []
    for session in (board, twin):
        session.reset()
        session.inject(stimulus, recording)
        for part in parts:
            session.run(part)
        read.append(session.read())
    given, expected = read
    np.testing.assert_array_equal(given.potentials, expected.potentials)
    for name in ("rasters", "traces"):
        ours, theirs = getattr(given, name), getattr(expected, name)
        assert (ours is None) == (theirs is None)
        for a, b in zip(ours or (), theirs or (), strict=True):
            np.testing.assert_array_equal(a, b)
    if expected.output_raster is not None:
        np.testing.assert_array_equal(given.output_raster, expected.output_raster)
    return sum(int(raster.sum()) for raster in given.rasters or ())


@pytest.fixture
def opened(spinnaker, make_network):
    target, where = spinnaker
    sessions = []

    def open_both(sizes, settings=None, **options):
        profile = load_profile("spinnaker-ifcurdelta", {"target": target, **where, **(settings or {})})
        deployment = neurons.plan(make_network(sizes, **options), profile)
        sessions.append(NeuronSession(deployment))
        return sessions[-1], NeuronTwinSession(deployment)

    yield open_both
    for session in sessions:
        session.close()


def test_decisions_one_after_another(opened):
    """A window of 13 ticks, and parts of one: no run is a multiple of 16 by itself."""
    board, twin = opened((3, 9, 8, 3), steps=13, scale=1.2)
    observations = np.random.default_rng(0).normal(0.0, 1.5, (6, 1, 3))
    spikes = [
        assert_same(board, twin, Stimulus(observation), parts, recording)
        for observation, parts, recording in zip(
            observations,
            ([13], [13], [5, 8], [16], [1], [13, 20]),
            [Recording(), SPIKES, BOTH, BOTH, SPIKES, SPIKES],
            strict=True,
        )
    ]
    assert min(spikes[1:4]) > 5


def test_what_is_left_in_the_middle_leaves_nothing_behind(opened):
    board, twin = opened((3, 9, 8, 3), steps=13, scale=1.2, delays=[1, 3, 5])
    quiet, loud = Stimulus(np.full((1, 3), 0.3)), Stimulus(np.full((1, 3), 20.0))
    assert_same(board, twin, quiet, [13])
    board.reset()
    board.inject(loud)
    board.run(3)  # every hidden neuron fires in the last tick
    assert_same(board, twin, quiet, [13])
    board.reset()
    board.inject(loud)  # never run
    assert assert_same(board, twin, quiet, [13]) > 0


def test_spikes_go_in_through_a_source(opened):
    settings = {"model": "IFTruncDelta"}
    board, twin = opened((3, 9, 3), settings, steps=20, scale=1.2, encoder=Encoder("equidistant"))
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 3, (3, 1, 20, 3)) * (rng.random((3, 1, 20, 3)) < 0.4)
    total = 0
    for spikes in (counts[0], None, counts[1], counts[2]):
        stimulus = Stimulus(np.zeros((1, 3)), None if spikes is None else spikes.astype(np.uint8))
        total += assert_same(board, twin, stimulus, [20])
    assert total > 10


def test_spikes_where_none_were_planned_and_a_layer_that_counts_them(opened):
    settings = {"step_ms": 4.0, "resolution_ms": 2.0, "delay_ms": 2.0, "tau_m": 20.0}
    board, twin = opened((3, 9, 3), settings, steps=9, scale=1.2, decoder=Decoder("spike_count"))
    currents = np.random.default_rng(2).normal(0.0, 1.5, (1, 3))
    assert assert_same(board, twin, Stimulus(currents), [9]) > 0
    spikes = np.ones((1, 9, 3), dtype=np.uint8)
    assert assert_same(board, twin, Stimulus(currents, spikes), [9]) > 0
    assert assert_same(board, twin, Stimulus(currents), [9]) > 0


def test_a_network_slowed_down_with_copies(opened):
    """Start potentials are as planned in every window, and copies count together."""
    settings = {"slowdown": 3.0, "copies": 5, "step_ms": 4.0, "tau_m": 4096.041}
    board, twin = opened((3, 9, 8, 3), settings, steps=9, scale=1.2)
    observations = np.random.default_rng(3).normal(0.0, 1.5, (3, 1, 3))
    assert min(assert_same(board, twin, Stimulus(o), [2, 7], BOTH) for o in observations) > 50
    assert max(int(raster.max()) for raster in board.read().rasters) > 1


def test_synapses_are_read_back(make_network, monkeypatch):
    whole = neuron_session._connected

    def lossy(sim, populations, projection, receptor):
        full = neuron_session._synapses
        with monkeypatch.context() as patch:
            patch.setattr(neuron_session, "_synapses", lambda *given: full(*given)[:-1])
            return whole(sim, populations, projection, receptor)

    monkeypatch.setattr(neuron_session, "_connected", lossy)
    deployment = neurons.plan(make_network((3, 5, 2)), load_profile("spinnaker-ifcurdelta"))
    with pytest.raises(TargetError, match="synapses from layer 0 to layer 1, the machine holds"):
        NeuronSession(deployment)


def test_wrong_use(opened):
    board, _ = opened((3, 5, 2), steps=5)
    with pytest.raises(SessionStateError, match="reset and inject first"):
        board.run(1)
    board.reset()
    with pytest.raises(SessionStateError, match="one sample at a time; 2"):
        board.inject(Stimulus(np.zeros((2, 3))))
    with pytest.raises(InvalidInputError, match="without overflow"):
        board.inject(Stimulus(np.full((1, 3), 1e5)))
    board.inject(Stimulus(np.zeros((1, 3))))
    with pytest.raises(SessionStateError, match="0 steps"):
        board.run(0)
    board.close()
    board.close()
    with pytest.raises(SessionStateError, match="closed"):
        board.reset()

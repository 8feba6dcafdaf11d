"""PyNN on NEST: the same decisions as NEST without PyNN, window after window."""

import contextlib
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("nest", reason="nest-simulator is not installed")
pytest.importorskip("spynnaker", reason="PyNN comes with sPyNNaker, which is not installed")

from spikeloop.deploy import nest_kernel
from spikeloop.deploy.backend import Recording
from spikeloop.deploy.conformance import CHECKS, check_backend, example
from spikeloop.deploy.mapping import plan
from spikeloop.deploy.nest import NestBackend
from spikeloop.deploy.point_neuron import PointNeuronSession
from spikeloop.deploy.spinnaker.neuron_mapping import FirstLayer
from spikeloop.deploy.spinnaker.neuron_twin import NeuronTwinSession
from spikeloop.deploy.spinnaker.pynn_nest import PyNNNestBackend, PyNNNestSession
from spikeloop.errors import PreflightError, SessionStateError, TargetError
from spikeloop.hardware_profiles import load_profile
from spikeloop.models import Decoder, Dense, Encoder, Network, Neuron, Stimulus

SPIKES = Recording(spikes=True)


@pytest.fixture(autouse=True)
def free_kernel():
    yield
    assert nest_kernel._holder is None, "a test left NEST's kernel taken"


def read(session, stimulus, steps, recording=SPIKES):
    session.reset()
    session.inject(stimulus, recording)
    session.run(steps)
    return session.read()


def without_pynn(network, settings):
    """A twin of NEST's neurons with the same parameters."""
    names = {"tau_m": "tau_m", "v_reset": "V_reset", "v_thresh": "V_th", "v_rest": "E_L", "tau_refrac": "t_ref"}
    own = {names.get(name, name): value for name, value in settings.items()}
    given = {"resolution_ms": 1.0, "input_delay_ms": 0.0, "tau_m": 100.0} | own
    return PointNeuronSession(plan(network, load_profile("nest-iaf_psc_delta", given)))


def assert_as_without_pynn(network, stimulus, **settings):
    twin = without_pynn(network, settings)
    with contextlib.closing(PyNNNestSession(plan(network, load_profile("pynn-nest", settings)))) as session:
        spikes = 0
        for i in range(len(stimulus)):
            given = read(session, stimulus.sample(i), network.steps)
            expected = read(twin, stimulus.sample(i), network.steps)
            np.testing.assert_allclose(given.potentials, expected.potentials, rtol=1e-9, atol=1e-9)
            for ours, theirs in zip(given.rasters, expected.rasters, strict=True):
                np.testing.assert_array_equal(ours, theirs)
                spikes += int(ours.sum())
        assert spikes > 20


def test_conformance():
    outcomes = check_backend(PyNNNestBackend, "pynn-nest")
    assert [o.check for o in outcomes] == list(CHECKS)
    assert not [o for o in outcomes if o.status == "failed"]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"tau_m": 7.0, "v_reset": -0.3, "v_thresh": 1.2},
        {"tau_refrac": 2.0},
        {"resolution_ms": 0.1},
        {"step_ms": 2.0, "resolution_ms": 0.5, "delay_ms": 1.5},
    ],
)
def test_as_nest_without_pynn(settings):
    stimulus = Stimulus(np.random.default_rng(0).normal(size=(8, 3)))
    assert_as_without_pynn(example(1), stimulus, **settings)
    assert_as_without_pynn(example(2, decoder=Decoder("spike_count")), stimulus, **settings)


def test_delays_of_the_networks_own(make_network):
    network = make_network((3, 8, 7, 2), steps=15, scale=1.3, delays=[1, 4, 6])
    assert_as_without_pynn(network, Stimulus(np.random.default_rng(1).normal(size=(8, 3))))


def test_spikes_arrive_as_on_spinnaker():
    """The twin of SpiNNaker's fixed point, with weights that keep potentials away from the threshold."""
    rng = np.random.default_rng(2)
    layers = (Dense(rng.integers(-2, 5, (3, 8)) / 4), Dense(rng.integers(-2, 5, (8, 2)) / 4))
    network = Network(layers, 20, Neuron(threshold=1.1), Encoder("equidistant"))
    counts = (rng.random((6, 20, 3)) < 0.4).astype(np.uint8)
    stimuli = [Stimulus(np.zeros((1, 3)), counts[i : i + 1]) for i in range(6)]
    stimuli.append(Stimulus(np.zeros((1, 3))))
    settings = {"tau_m": 512.0}  # where both weigh a spike alike
    twin = NeuronTwinSession(plan(network, load_profile("spinnaker-ifcurdelta", settings)))
    with contextlib.closing(PyNNNestSession(plan(network, load_profile("pynn-nest", settings)))) as session:
        for stimulus in stimuli:
            given, expected = (read(s, stimulus, 20) for s in (session, twin))
            np.testing.assert_array_equal(given.rasters[0], expected.rasters[0])
            np.testing.assert_allclose(given.potentials, expected.potentials, atol=0.03)
            assert given.rasters[0].any() == (stimulus.spikes is not None)


def test_copies_and_slowdown_as_on_spinnaker(make_network):
    """Rates of the same neurons without rounding: no spike is the same for sure, sums of many are."""
    network = make_network((3, 8, 6, 2), steps=400, scale=0.6)
    settings = {"tau_m": 512.0, "slowdown": 3.0, "copies": 6}
    stimulus = Stimulus(np.random.default_rng(3).normal(size=(1, 3)))
    twin = NeuronTwinSession(plan(network, load_profile("spinnaker-ifcurdelta", settings)))
    with contextlib.closing(PyNNNestSession(plan(network, load_profile("pynn-nest", settings)))) as session:
        for _ in range(2):  # the second window starts from the same potentials
            given, expected = (read(s, stimulus, 400) for s in (session, twin))
            np.testing.assert_allclose(given.potentials, expected.potentials, rtol=0.03)
            for ours, theirs in zip(given.rasters, expected.rasters, strict=True):
                assert ours.shape == theirs.shape
                np.testing.assert_allclose(ours.sum(axis=1), theirs.sum(axis=1), rtol=0.03, atol=6)
            assert expected.rasters[1].sum() > 100


def test_currents_reach_neurons_as_on_spinnaker(make_network):
    network = make_network((3, 8, 2), steps=20, scale=1.0)
    deployment = plan(network, load_profile("pynn-nest"))
    expected = network.layers[0].bias + 2.0 * network.layers[0].weights.sum(axis=0)
    np.testing.assert_allclose(FirstLayer(deployment).offsets(np.full((1, 3), 2.0))[0], expected)


def test_one_kernel_a_process():
    deployment = plan(example(0), load_profile("pynn-nest"))
    with contextlib.closing(PyNNNestSession(deployment)):
        for backend, profile in ((PyNNNestBackend(), "pynn-nest"), (NestBackend(), "nest-exact")):
            with pytest.raises(TargetError, match="already runs another agent"):
                backend.open(plan(example(0), load_profile(profile)), 0)
    session = NestBackend().open(plan(example(0), load_profile("nest-exact")), 0)
    session.close()


def test_wrong_use():
    session = PyNNNestSession(plan(example(0), load_profile("pynn-nest")))
    with contextlib.closing(session):
        session.reset()
        with pytest.raises(TargetError, match="no potential traces"):
            session.inject(Stimulus(np.zeros((1, 3))), Recording(potentials=True))
        with pytest.raises(SessionStateError, match="one sample at a time; 2"):
            session.inject(Stimulus(np.zeros((2, 3))))
        session.inject(Stimulus(np.zeros((1, 3))))
        with pytest.raises(SessionStateError, match="0 steps"):
            session.run(0)
        session.reset()
        with pytest.raises(SessionStateError, match="reset and inject first"):
            session.run(1)


@pytest.mark.parametrize(
    ("settings", "needle"),
    [
        ({"model": "IFTruncDelta"}, "It must be IF_curr_delta"),
        ({"v_reset": 1.5}, "which NEST refuses"),
        ({"tau_refrac": 0.5}, "no multiple of 1.0 ms"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, needle):
    with pytest.raises(PreflightError, match=needle):
        plan(example(0), load_profile("pynn-nest", settings))


def test_nothing_is_printed():
    code = (
        "from spikeloop.deploy.conformance import example; from spikeloop.deploy.mapping import plan, open_session;"
        "from spikeloop.hardware_profiles import load_profile;"
        "open_session(plan(example(0), load_profile('pynn-nest'))).close()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert not done.stderr
    assert not done.stdout.strip()

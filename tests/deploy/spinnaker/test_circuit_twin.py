"""The circuit's twin: a network computed in plain arithmetic, and the rules of a session."""

import numpy as np
import pytest
import spikeloop
from hypothesis import given, settings
from hypothesis import strategies as st
from spikeloop.deploy.backend import Recording
from spikeloop.deploy.mapping import plan
from spikeloop.deploy.spinnaker.circuit_twin import CircuitTwinSession, codes_of
from spikeloop.deploy.twin import twin_of
from spikeloop.errors import SessionStateError
from spikeloop.hardware_profiles import load_profile
from spikeloop.models import Stimulus, load
from spikeloop.tests.deploy.spinnaker import circuit_model as model

BOTH = Recording(spikes=True, potentials=True)


def opened(network):
    return CircuitTwinSession(plan(network, model.profile_for(network)))


def window(session, codes, steps, recording=BOTH, parts=None):
    session.reset()
    session.inject(Stimulus(np.asarray(codes, dtype=float)), recording)
    for part in parts or [steps]:
        session.run(part)
    return session.read()


def by_hand(network, codes):
    """Outputs, rasters and traces of one observation, in float64: all values are multiples of powers of two."""
    depth, steps = len(network.layers), network.steps
    drives = steps - depth + 1
    v = [np.zeros(n) for n in network.sizes]
    fired = [np.zeros(n) for n in network.sizes]
    rasters = [np.zeros((steps, n)) for n in network.sizes]
    traces = [np.zeros((steps, n)) for n in network.sizes]
    for t in range(steps):
        before = [codes, *[f.copy() for f in fired]]
        for index, layer in enumerate(network.layers):
            rasters[index][t] = fired[index]
            if t >= drives + index:
                v[index][:], fired[index][:] = 0.0, 0.0
                continue
            given = before[index] @ layer.weights + layer.bias
            if index == depth - 1:
                v[index] += given
            else:
                v[index] = np.maximum(v[index] + given, 0.0)
                fired[index] = (v[index] >= 1.0).astype(float)
                v[index][fired[index] > 0] = 0.0
        for index in range(depth):
            traces[index][t] = v[index]
    return v[-1], rasters[:-1], traces


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    depth=st.sampled_from(list(model.LAYOUTS)),
    actions=st.integers(2, 6),
    steps=st.integers(5, 30),
    bits=st.integers(2, 12),
)
def test_every_potential_and_every_spike(seed, depth, actions, steps, bits):
    network = model.network(seed, model.LAYOUTS[depth], actions, steps=steps, bits=bits)
    session = opened(network)
    codes = model.random_codes(session_circuit(network), 3, seed)
    readout = window(session, codes, steps)
    for i in range(3):
        outputs, rasters, traces = by_hand(network, codes[i])
        np.testing.assert_array_equal(readout.traces[-1][i, -1], outputs)
        np.testing.assert_array_equal(readout.potentials[i], np.arange(actions) == outputs.argmax())
        for given_, expected in zip(readout.rasters, rasters, strict=True):
            np.testing.assert_array_equal(given_[i], expected)
        for given_, expected in zip(readout.traces, traces, strict=True):
            np.testing.assert_array_equal(given_[i], expected)


def session_circuit(network):
    return model.wired(network).circuit


@given(data=st.data(), parts=st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_in_parts_at_once_and_one_by_one(data, parts):
    steps = max(5, sum(parts))
    parts = [*parts, steps - sum(parts)] if sum(parts) < steps else parts
    network = model.network(data.draw(st.integers(0, 100)), (3, 7, 6), 4, steps=steps)
    session = opened(network)
    codes = model.random_codes(session_circuit(network), 6)
    at_once = window(session, codes, steps)
    in_parts = window(session, codes, steps, parts=parts)
    plain = window(session, codes, steps, Recording())
    np.testing.assert_array_equal(in_parts.potentials, at_once.potentials)
    np.testing.assert_array_equal(plain.potentials, at_once.potentials)
    assert plain.rasters is None
    assert plain.traces is None
    for name in ("rasters", "traces"):
        for a, b in zip(getattr(in_parts, name), getattr(at_once, name), strict=True):
            np.testing.assert_array_equal(a, b)
    for i in range(len(codes)):
        alone = window(session, codes[i : i + 1], steps)
        np.testing.assert_array_equal(alone.potentials[0], at_once.potentials[i])
        for a, b in zip((*alone.rasters, *alone.traces), (*at_once.rasters, *at_once.traces), strict=True):
            np.testing.assert_array_equal(a[0], b[i])


def test_recordings_do_not_change_afterwards():
    network = model.network()
    session = opened(network)
    codes = model.random_codes(session_circuit(network), 4)
    first = window(session, codes, network.steps)
    kept = [array.copy() for array in (first.potentials, *first.rasters, *first.traces)]
    window(session, -codes[::-1] - 1, network.steps)
    for array, before in zip((first.potentials, *first.rasters, *first.traces), kept, strict=True):
        np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize("profile", ["spinnaker-live", "spinnaker", "spinnaker-virtual", "spinnaker-twin"])
def test_every_profile_of_the_contract_has_this_twin(profile):
    session = twin_of(plan(model.network(), load_profile(profile)))
    assert type(session) is CircuitTwinSession


@pytest.mark.parametrize("name", ["cartpole-spinnaker", "mountaincar-spinnaker"])
def test_the_bundled_agents_decide(name):
    network = load(name)
    observations = np.random.default_rng(0).normal(size=(200, network.n_inputs)) * np.array(network.encoder.resolution)
    observations *= 2 ** (network.encoder.bits - 3)
    with spikeloop.launch(name, "spinnaker-twin") as agent:
        together = agent.decide(observations, spikes=True)
        assert [agent.act(observation) for observation in observations] == together.action.tolist()
    assert len(set(together.action.tolist())) > 1
    assert all(0.001 < raster.mean() < 0.9 for raster in together.rasters)


@pytest.mark.parametrize(
    "stimulus",
    [Stimulus(np.array([[0.5, 0, 0, 0]])), Stimulus(np.zeros((1, 4)), np.zeros((1, 10, 4), dtype=np.uint8))],
    ids=["fractions", "spikes"],
)
def test_only_what_a_quantising_encoder_makes_is_taken(stimulus):
    with pytest.raises(SessionStateError, match="whole numbers, and no spikes"):
        codes_of(stimulus)
    session = opened(model.network())
    with pytest.raises(SessionStateError, match="quantising encoder"):
        session.inject(stimulus)


def test_the_session_is_used_in_order():
    network = model.network()
    session = opened(network)
    stimulus = Stimulus(np.zeros((1, 4)))
    for verb in (lambda: session.run(1), session.read):
        with pytest.raises(SessionStateError, match="inject"):
            verb()
    session.reset()
    session.inject(stimulus)
    with pytest.raises(SessionStateError, match="reset first"):
        session.inject(stimulus)
    session.close()
    session.close()
    for verb in (session.reset, lambda: session.inject(stimulus), lambda: session.run(1), session.read):
        with pytest.raises(SessionStateError, match="closed"):
            verb()

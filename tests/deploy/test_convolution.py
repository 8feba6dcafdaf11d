"""Convolutional networks on the targets: as the same networks with each convolution written out as a matrix."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from spikeloop.deploy.backend import Recording
from spikeloop.deploy.conformance import CHECKS, check_backend
from spikeloop.deploy.mapping import open_session, plan, preflight
from spikeloop.deploy.reference import ReferenceBackend, ReferenceSession
from spikeloop.deploy.twin import twin_of
from spikeloop.hardware_profiles import load_profile
from spikeloop.models import Conv2d, Decoder, Dense, Encoder, Network, Neuron, Stimulus
from spikeloop.models.layers import Sparse
from spikeloop.runtime import launch

DYNAMICS = {
    "subtract": Neuron(),
    "subtract more, leaky": Neuron(0.7, "subtract", 0.9, 0.9),
    "zero": Neuron(reset="zero", compare=">="),
    "zero, leaky": Neuron(0.4, "zero", None, 0.5),
    "synaptic currents": Neuron(reset="zero", membrane_decay=0.9, synapse_decay=0.3),
}


def network(seed=0, *, neuron=None, encoder=None, decoder=None, delays=(1, 1, 1), steps=20):
    """A convolution of images 2x6x5, an average pooling that reaches over the rim, a dense layer."""
    rng = np.random.default_rng(seed)
    options = {"input_shape": (2, 6, 5), "stride": (2, 1), "padding": (1, 0)}
    layers = (
        Conv2d(rng.normal(0.0, 0.7, (4, 2, 3, 2)), rng.normal(0.2, 0.2, 4), **options),
        Conv2d(
            np.full((4, 1, 2, 2), 0.25),
            rng.normal(0.2, 0.1, 4),
            input_shape=(4, 3, 4),
            padding=(0, 1),
            groups=4,
            delay=delays[1],
        ),
        Dense(rng.normal(0.0, 0.7, (40, 3)), rng.normal(0.0, 0.2, 3), delays[2]),
    )
    return Network(layers, steps, neuron or Neuron(), encoder or Encoder(), decoder or Decoder())


def written_out(convolutional):
    """The same network of dense layers alone."""
    return replace(
        convolutional,
        layers=tuple(
            Dense(layer.connections.dense(), layer.neuron_bias, layer.delay) if isinstance(layer, Conv2d) else layer
            for layer in convolutional.layers
        ),
    )


def window(session, stimulus, steps, recording=Recording(spikes=True)):  # noqa: B008
    session.reset()
    session.inject(stimulus, recording)
    session.run(steps)
    return session.read()


def stimulus(seed=1, n=4):
    return Stimulus(np.random.default_rng(seed).normal(0.0, 1.0, (n, 60)))


# --- the reference -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.parametrize("decays", [(1.0, 0.0), (0.9, 0.0), (0.9, 0.5)], ids=str)
@pytest.mark.parametrize("delays", [(1, 1, 1), (1, 3, 2)], ids=str)
@pytest.mark.parametrize("encoder", ["current", "equidistant"])
def test_the_reference_adds_in_the_same_order(reset, decays, delays, encoder):
    convolutional = network(
        neuron=Neuron(1.0, reset, None, *decays),
        encoder=Encoder(encoder),
        decoder=Decoder("spike_count"),
        delays=delays,
    )
    given_ = convolutional.encoder.encode(stimulus(n=7).currents, convolutional.steps)
    recording = Recording(spikes=True, potentials=True)
    ours, theirs = (
        window(ReferenceSession(each), given_, each.steps, recording)
        for each in (convolutional, written_out(convolutional))
    )
    assert np.array_equal(ours.potentials, theirs.potentials)
    for name in ("rasters", "traces"):
        for a, b in zip(getattr(ours, name), getattr(theirs, name), strict=True):
            assert np.array_equal(a, b)
    assert all(raster.any() for raster in ours.rasters)
    alone = window(ReferenceSession(convolutional), given_.sample(6), convolutional.steps, recording)
    assert np.array_equal(alone.potentials[0], ours.potentials[6])


# --- NEST --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoder", ["current", "equidistant"])
@pytest.mark.parametrize("neuron", DYNAMICS.values(), ids=DYNAMICS)
def test_nest_exact_keeps_its_promise(neuron, encoder):
    pytest.importorskip("nest", reason="nest-simulator is not installed")
    convolutional = network(
        3, neuron=neuron, encoder=Encoder(encoder), delays=(1, 3, 2), decoder=Decoder("spike_count")
    )
    observations = np.random.default_rng(2).normal(0.0, 1.0, (3, 60))
    with launch(convolutional, "reference", seed=5) as agent:
        expected = agent.decide(observations, spikes=True)
    with launch(convolutional, "nest-exact", seed=5) as agent:
        decision = agent.decide(observations, spikes=True)
    for ours, theirs in zip(decision.rasters, expected.rasters, strict=True):
        assert theirs.any()
        assert np.array_equal(ours, theirs)
    assert np.abs(decision.output - expected.output).max() <= 1e-9


def test_nest_exact_on_random_geometries():
    pytest.importorskip("nest", reason="nest-simulator is not installed")
    fired = []

    @settings(max_examples=30, deadline=None, derandomize=True)
    @given(
        st.sampled_from(sorted(DYNAMICS)),
        st.tuples(st.integers(1, 3), st.integers(1, 3)),
        st.tuples(st.integers(1, 3), st.integers(1, 3)),
        st.tuples(st.integers(0, 2), st.integers(0, 2)),
        st.sampled_from([1, 2]),
        st.integers(0, 2**32 - 1),
    )
    def check(dynamics, kernel, stride, padding, groups, seed):
        rng = np.random.default_rng(seed)
        first = Conv2d(
            rng.normal(0.0, 0.8, (4, 2 // groups, *kernel)),
            rng.normal(0.2, 0.2, 4),
            input_shape=(2, 5, 6),
            stride=stride,
            padding=padding,
            groups=groups,
        )
        second = Conv2d(rng.normal(0.0, 0.8, (3, 4, 1, 1)), rng.normal(0.2, 0.2, 3), input_shape=first.output_shape)
        convolutional = Network((first, second), 12, DYNAMICS[dynamics])
        observations = rng.normal(0.0, 1.0, (2, 60))
        with launch(convolutional) as agent:
            expected = agent.decide(observations, spikes=True)
        assume(np.abs(expected.output).max() < 1e6)
        with launch(convolutional, "nest-exact") as agent:
            decision = agent.decide(observations, spikes=True)
        assert np.array_equal(decision.rasters[0], expected.rasters[0])
        assert np.abs(decision.output - expected.output).max() <= 1e-9
        fired.append(expected.rasters[0].any())

    check()
    assert np.mean(fired) > 0.8


@pytest.mark.parametrize("settings", [{}, {"input_delay_ms": 0.0}], ids=["input through generators", "input as I_e"])
def test_the_approximate_profile_runs_convolutions_as_matrices(settings):
    pytest.importorskip("nest", reason="nest-simulator is not installed")
    convolutional = network(4)
    profile = load_profile("nest-iaf_psc_delta", settings)
    deployment = plan(convolutional, profile)
    assert twin_of(deployment) is None
    if not settings:  # a generator for each neuron takes fewer connections than one for each pixel
        assert deployment.population("currents").size == deployment.population("layer 0").size
    results = []
    for each in (convolutional, written_out(convolutional)):
        session = open_session(plan(each, profile), seed=1)
        try:
            results.append([window(session, stimulus().sample(i), each.steps) for i in range(4)])
        finally:
            session.close()
    for ours, theirs in zip(*results, strict=True):
        assert np.abs(ours.potentials - theirs.potentials).max() <= 1e-9
        for a, b in zip(ours.rasters, theirs.rasters, strict=True):
            assert b.any()
            assert np.array_equal(a, b)


def test_input_spikes_of_one_window_are_gone_in_the_next():
    pytest.importorskip("nest", reason="nest-simulator is not installed")
    convolutional = network(5)
    rng = np.random.default_rng(0)
    loud = Stimulus(np.zeros((1, 60)), rng.integers(0, 3, (1, 20, 60), dtype=np.uint8))
    few = np.zeros((1, 20, 60), dtype=np.uint8)
    few[0, 3, 7] = 5
    reference = ReferenceSession(convolutional)
    session = open_session(plan(convolutional, load_profile("nest-exact")))
    try:
        for given_ in (loud, stimulus().sample(0), loud, Stimulus(np.zeros((1, 60)), few), stimulus().sample(1)):
            expected, ours = window(reference, given_, 20), window(session, given_, 20)
            assert np.abs(ours.potentials - expected.potentials).max() <= 1e-9
            assert all(np.array_equal(a, b) for a, b in zip(ours.rasters, expected.rasters, strict=True))
    finally:
        session.close()


# --- what is said beforehand -------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["reference", "nest-exact"])
def test_the_plan_counts_and_names_convolutions(profile):
    convolutional = network()
    deployment = plan(convolutional, load_profile(profile))
    last = deployment.projections[-3:]
    assert [isinstance(p.weights, Sparse) for p in last] == [True, True, False]
    assert [p.synapses for p in last] == [layer.synapses for layer in convolutional.layers]
    assert [p.form for p in last] == [layer.form for layer in convolutional.layers]
    assert deployment.as_dict()["projections"][-2] == {
        "source": "layer 0",
        "target": "layer 1",
        "form": "conv2d 4x2x2 stride 1 padding 0x1 groups 4, 4x3x4 -> 4x2x5",
        "synapses": 4 * (2 * 2) * (2 * 4),
        "delay_ms": 1.0 if profile == "reference" else 2.0,
        "last_delay_ms": None,
        "receptor": 0,
        "weight_min": 0.25,
        "weight_max": 0.25,
    }
    for layer, population in zip(convolutional.layers, deployment.populations[1:], strict=True):
        assert np.array_equal(population.constant_input, layer.neuron_bias)


def test_limits_count_the_synapses_not_the_kernels():
    convolutional = network()
    needed = sum(layer.synapses for layer in convolutional.layers)
    fits = load_profile("reference", {"max_synapses": needed})
    assert not preflight(convolutional, fits)
    (finding,) = preflight(convolutional, load_profile("reference", {"max_synapses": needed - 1}))
    assert (finding.severity, finding.needed) == ("error", needed)


def test_weights_are_summed_by_neuron():
    """2^29 four times over is too much for a neuron in the middle, twice at the rim is not."""
    kernel, shape = np.full((1, 1, 2, 2), 2.0**28.5), (1, 1, 3)
    rim = Network((Conv2d(kernel, input_shape=shape, padding=(1, 0)),), 5)
    assert {f.severity for f in preflight(rim, load_profile("nest-exact"))} == {"warning"}
    inside = Network((Conv2d(kernel, input_shape=(1, 2, 3)),), 5)
    (finding,) = preflight(inside, load_profile("nest-exact"))
    assert finding.severity == "error"
    assert finding.needed == pytest.approx(2.0**30.5)


def test_the_suite_has_a_convolution_and_finds_a_backend_that_mistakes_one():
    class Mirrored(ReferenceBackend):
        """A backend whose convolutions are those of mathematics, with the kernel turned round."""

        def open(self, deployment, seed):
            layers = tuple(
                replace(layer, weights=layer.weights[:, :, ::-1, ::-1]) if isinstance(layer, Conv2d) else layer
                for layer in deployment.network.layers
            )
            return ReferenceSession(replace(deployment.network, layers=layers))

    assert "convolution" in CHECKS
    assert [o.check for o in check_backend(Mirrored, "reference") if o.status == "failed"] == ["convolution"]


def test_an_atari_network_is_built_within_seconds_and_decides_exactly():
    """Mnih et al. (2015): 4x84x84, three convolutions, 512, 4; 9 million synapses."""
    pytest.importorskip("nest", reason="nest-simulator is not installed")
    rng = np.random.default_rng(0)
    shape, layers = (4, 84, 84), []
    for channels, side, stride, gain in ((32, 8, 4, 0.3), (64, 4, 2, 3.0), (64, 3, 1, 3.0)):
        weights = rng.normal(0.0, gain / np.sqrt(shape[0] * side**2), (channels, shape[0], side, side))
        layers.append(Conv2d(weights, input_shape=shape, stride=stride))
        shape = layers[-1].output_shape
    for n_in, n_out, gain in ((3136, 512, 3.0), (512, 4, 1.0)):
        layers.append(Dense(rng.normal(0.0, gain / np.sqrt(n_in), (n_in, n_out))))
    atari = Network(tuple(layers), 16)
    assert atari.sizes == (12_800, 5_184, 3_136, 512, 4)
    image = rng.random(28_224) * (rng.random(28_224) < 0.5)
    with launch(atari) as agent:
        expected = agent.decide(image, spikes=True)
    assert sum(layer.synapses for layer in layers) == 9_345_024
    with launch(atari, "nest-exact") as agent:
        decision = agent.decide(image, spikes=True)
    for ours, theirs in zip(decision.rasters, expected.rasters, strict=True):
        assert theirs.any()
        assert np.array_equal(ours, theirs)
    assert np.abs(decision.output - expected.output).max() <= 1e-9

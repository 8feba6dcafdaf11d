"""The torch stack is the Network's dynamics, and what it exports is what was trained."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from spikeloop.deploy.backend import Recording  # noqa: E402
from spikeloop.deploy.reference import ReferenceSession  # noqa: E402
from spikeloop.errors import InvalidInputError  # noqa: E402
from spikeloop.models import Decoder, Dense, Encoder, Network, Neuron, Stimulus, load  # noqa: E402
from spikeloop.training.spiking import SpikingStack, fold_standardisation  # noqa: E402
from spikeloop.training.surrogate import KINDS, Spike  # noqa: E402

STEPS = 40
SIZES = (5, 12, 9, 3)
NEURONS = [
    Neuron(threshold=threshold, reset=reset, membrane_decay=beta, synapse_decay=alpha)
    for reset, beta, alpha, threshold in product(("subtract", "zero"), (1.0, 0.9), (0.0, 0.5), (1.0, 0.7))
]


def random_network(neuron, *, delays=(1, 1, 1), decoder=Decoder(), grid=0.0):  # noqa: B008  # frozen
    """With `grid`, weights and biases are its multiples, so that potentials can equal the threshold."""
    rng = np.random.default_rng(7)

    def draw(*shape):
        values = rng.normal(0.1, 0.5, shape)
        return np.round(values / grid) * grid if grid else values

    layers = [
        Dense(draw(n_in, n_out), draw(n_out), delay)
        for n_in, n_out, delay in zip(SIZES, SIZES[1:], delays, strict=False)
    ]
    return Network(tuple(layers), STEPS, neuron, decoder=decoder)


def both(network, spikes=False, grid=0.0):
    """(rasters, traces) of the reference, and of the stack, for the same stimulus."""
    rng = np.random.default_rng(8)
    currents = rng.normal(size=(20, SIZES[0]))
    if grid:
        currents = np.round(currents / grid) * grid
    events = rng.integers(0, 3, (20, STEPS, SIZES[0]), dtype=np.uint8) if spikes else None
    session = ReferenceSession(network)
    session.reset()
    session.inject(Stimulus(currents, events), Recording(spikes=True, potentials=True))
    session.run(STEPS)
    expected = session.read()
    with torch.no_grad():
        record = SpikingStack.from_network(network).record(
            torch.from_numpy(currents), None if events is None else torch.from_numpy(events.astype(float))
        )
    return (expected.rasters, expected.traces), (
        tuple(raster.numpy() for raster in record.rasters),
        tuple(trace.numpy() for trace in record.traces),
    )


def assert_same(expected, actual):
    for rasters in zip(*(run[0] for run in (expected, actual)), strict=True):
        assert 0.02 < rasters[0].mean() < 0.98, "a raster without contrast proves nothing"
        np.testing.assert_array_equal(*rasters)
    for traces in zip(*(run[1] for run in (expected, actual)), strict=True):
        np.testing.assert_allclose(*traces, rtol=0, atol=1e-12)


@pytest.mark.parametrize("neuron", NEURONS, ids=str)
def test_stack_equals_reference(neuron):
    assert_same(*both(random_network(neuron)))


def test_stack_equals_reference_with_reset_amount_delays_and_a_firing_output():
    neuron = Neuron(threshold=0.8, reset_amount=0.5, membrane_decay=0.95, synapse_decay=0.2)
    assert_same(*both(random_network(neuron, delays=(1, 3, 2), decoder=Decoder("spike_count"))))


def test_stack_equals_reference_with_input_spikes():
    assert_same(*both(random_network(Neuron(membrane_decay=0.5)), spikes=True))


def test_potential_equal_to_the_threshold():
    rasters = {}
    for compare in (">", ">="):
        expected, actual = both(random_network(Neuron(compare=compare), grid=0.25), grid=0.5)
        assert_same(expected, actual)
        rasters[compare] = actual[0][0]
    assert (rasters[">"] != rasters[">="]).any()


def test_surrogate_derivative():
    distance = torch.tensor([-1.0, -0.1, 0.0, 0.1, 2.0], dtype=torch.float64, requires_grad=True)
    spikes = Spike.apply(distance, "superspike", 10.0, ">")
    spikes.sum().backward()
    assert spikes.tolist() == [0, 0, 0, 1, 1]
    np.testing.assert_allclose(distance.grad, [1 / 121, 1 / 4, 1.0, 1 / 4, 1 / 441])


def test_gradient_reaches_every_parameter():
    stack = SpikingStack(SIZES, STEPS, Neuron(), generator=torch.Generator().manual_seed(1))
    stack(torch.ones(4, SIZES[0], dtype=torch.float64)).square().sum().backward()
    for parameter in stack.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


def test_gradient_does_not_pass_through_the_reset():
    stack = SpikingStack((1, 1), 6, Neuron(), decoder=Decoder("spike_count"))
    with torch.no_grad():
        stack.weights[0].fill_(0.9)
    currents = torch.ones(1, 1, dtype=torch.float64)
    assert stack.record(currents).rasters[0].sum() > 1
    stack(currents).sum().backward()
    assert stack.biases[0].grad.item() == 5.0  # its input of every step but the last, and nothing by way of spikes


def test_network_survives_the_way_there_and_back():
    network = random_network(Neuron(membrane_decay=0.9), delays=(1, 2, 1), decoder=Decoder("spike_count"))
    assert SpikingStack.from_network(network).to_network().content_hash == network.content_hash


def test_export_does_not_share_memory_with_training():
    stack = SpikingStack(SIZES, STEPS, Neuron())
    network = stack.to_network()
    before = network.layers[0].weights.copy()
    with torch.no_grad():
        stack.weights[0].add_(1.0)
    np.testing.assert_array_equal(network.layers[0].weights, before)


def test_a_stack_needs_a_layer():
    with pytest.raises(InvalidInputError, match="channels and a layer"):
        SpikingStack((4,), 10, Neuron())


def test_folding_the_standardisation():
    network = random_network(Neuron())
    rng = np.random.default_rng(9)
    mean, deviation = rng.normal(size=SIZES[0]), rng.uniform(0.1, 2.0, SIZES[0])
    raw = rng.normal(size=(200, SIZES[0])) * deviation + mean
    folded = SpikingStack.from_network(fold_standardisation(network, mean, deviation))
    with torch.no_grad():
        expected = SpikingStack.from_network(network)(torch.from_numpy((raw - mean) / deviation))
        actual = folded(torch.from_numpy(raw))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-10)


def test_folding_needs_constant_currents():
    network = replace(random_network(Neuron()), encoder=Encoder("poisson"))
    with pytest.raises(InvalidInputError, match="constant currents"):
        fold_standardisation(network, np.zeros(5), np.ones(5))


@pytest.mark.parametrize("name", ["cartpole", "mountaincar"])
def test_bundled_agent_acts_the_same_in_torch(name):
    network = load(name)
    spread = {"cartpole": [1.0, 1.0, 0.1, 1.0], "mountaincar": [0.6, 0.04]}[name]
    observations = np.random.default_rng(10).normal(size=(5000, network.n_inputs)) * spread
    session = ReferenceSession(network)
    session.reset()
    session.inject(Stimulus(observations))
    session.run(network.steps)
    expected = session.read().potentials
    with torch.no_grad():
        actual = SpikingStack.from_network(network)(torch.from_numpy(observations)).numpy()
    np.testing.assert_array_equal(actual.argmax(axis=1), expected.argmax(axis=1))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("surrogate", KINDS)
@pytest.mark.parametrize("sizes", [(3, 2), (4, 6, 3), (2, 5, 4, 3)])
@pytest.mark.parametrize(
    "neuron",
    [Neuron(), Neuron(reset="zero", membrane_decay=0.9, synapse_decay=0.3, threshold=0.7, compare=">=")],
    ids=["subtract", "zero, leaky"],
)
def test_the_compiled_window_has_the_potentials_and_the_gradient_of_the_unrolled_one(surrogate, sizes, neuron):
    generator = torch.Generator().manual_seed(len(sizes))
    delays = [1, 3, 2][: len(sizes) - 1]
    options = {"surrogate": surrogate, "surrogate_scale": 3.0, "delays": delays, "generator": generator}
    stack = SpikingStack(sizes, 9, neuron, **options)
    currents = torch.randn(7, sizes[0], generator=generator, dtype=torch.float64).requires_grad_()
    weighting = torch.randn(7, sizes[-1], generator=generator, dtype=torch.float64)

    def gradients(potentials):
        return torch.autograd.grad((potentials * weighting).sum(), [currents, *stack.parameters()])

    fast, slow = stack(currents), list(stack.unroll(currents))[-1][1][-1]
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-13)
    for one, other in zip(gradients(fast), gradients(slow), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)
        assert len(sizes) == 2 or one.abs().max() > 0

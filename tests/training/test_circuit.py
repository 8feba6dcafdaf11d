"""The student for decision circuits computes what the circuit does, and whatever it exports is one."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from spikeloop.deploy.backend import Recording  # noqa: E402
from spikeloop.deploy.mapping import plan, preflight  # noqa: E402
from spikeloop.deploy.spinnaker.circuit import circuit_of, ranges_of, unit  # noqa: E402
from spikeloop.deploy.twin import trained_for, training_facts, twin_of  # noqa: E402
from spikeloop.errors import InvalidInputError, PreflightError, TargetError  # noqa: E402
from spikeloop.hardware_profiles import load_profile  # noqa: E402
from spikeloop.runtime import check  # noqa: E402
from spikeloop.training import distil  # noqa: E402
from spikeloop.training.circuit import CircuitStudent  # noqa: E402
from spikeloop.training.circuit_layer import fire  # noqa: E402
from spikeloop.training.student import NeuronSettings, StudentSettings  # noqa: E402
from spikeloop.training.surrogate import Spike  # noqa: E402
from spikeloop.training.targets import student_for  # noqa: E402

LIVE = load_profile("spinnaker-live")
SCALE = 10.0
SIZES = [(4, 16, 16, 2), (2, 9, 3), (3, 8, 7, 6, 4)]
PROFILES = {
    "spinnaker-live": LIVE,
    "coarse inputs, fine weights": load_profile("spinnaker-live", {"input_bits": 3, "hidden_shift": 2}),
    "fine inputs, coarse weights": load_profile(
        "spinnaker-live", {"input_bits": 9, "hidden_shift": 6, "output_shift": 3}
    ),
}


def student(sizes=SIZES[0], profile=LIVE, steps=10, seed=3, size=1.0):
    """A student in the middle of its training, with weights `size` times as large as the first ones."""
    found = student_for(
        profile, StudentSettings(sizes, steps, surrogate_scale=SCALE), torch.Generator().manual_seed(seed)
    )
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for weights, bias in zip(found.weights, found.biases, strict=True):
            weights.mul_(size)
            bias.copy_(torch.from_numpy(size * rng.normal(0.1, 0.2, bias.shape)))
    found.standardise(observations(sizes[0], seed=seed) * 0.7)
    return found


def observations(n_inputs, n=200, seed=5):
    rng = np.random.default_rng(seed)
    return rng.normal(rng.normal(size=n_inputs), rng.uniform(0.02, 3.0, n_inputs), (n, n_inputs))


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("size", [1.0, 30.0])
def test_forward_is_the_twin_of_the_exported_network(profile, sizes, size):
    found, states = student(sizes, profile, size=size), observations(sizes[0])
    network = found.to_network()
    session = twin_of(plan(network, profile))
    session.reset()
    session.inject(network.encoder.encode(states, network.steps), Recording(spikes=True, potentials=True))
    session.run(network.steps)
    readout = session.read()
    with torch.no_grad():
        given = found(torch.from_numpy(states)).numpy()
        spikes = found.spikes(torch.from_numpy(states))
        _, scale = found.held()
    grid = unit(profile.circuit.output_shift)
    compared = readout.traces[-1][:, -1]
    np.testing.assert_array_equal(np.rint(given * scale / grid), compared / grid)
    np.testing.assert_allclose(given * scale, compared, rtol=1e-12, atol=0)
    np.testing.assert_array_equal(given.argmax(axis=1), readout.potentials.argmax(axis=1))
    for layer, raster in zip(spikes, readout.rasters, strict=True):
        # The circuit fires at the end of a step: in the next one, as the Network counts.
        expected = np.zeros_like(raster)
        expected[:, 1 : len(layer) + 1] = layer.numpy().transpose(1, 0, 2)
        np.testing.assert_array_equal(raster, expected)
    assert all(0.02 < layer.mean() < 0.98 for layer in spikes)
    assert len(np.unique(compared)) > 10


def unrolled(drive, arrivals, steps):
    """`fire`, by torch's own gradients."""
    v, spikes = torch.zeros_like(drive), []
    for k in range(steps):
        h = drive if arrivals is None or k == 0 else drive + arrivals[k - 1]
        v = torch.relu(v + h)
        fired = Spike.apply(v - 1.0, "superspike", SCALE, ">=")
        v = v * (1.0 - fired.detach())
        spikes.append(fired)
    return torch.stack(spikes)


@pytest.mark.parametrize("arriving", [False, True])
def test_a_layers_gradient_is_that_of_the_unrolled_one(arriving):
    generator = torch.Generator().manual_seed(1)
    steps, n, neurons = 9, 30, 7
    drive = 0.4 * torch.randn(n, neurons, generator=generator, dtype=torch.float64)
    arrivals = 0.5 * torch.randn(steps - 1, n, neurons, generator=generator, dtype=torch.float64) if arriving else None
    weight = torch.randn(steps, n, neurons, generator=generator, dtype=torch.float64)
    gradients = []
    for function in (lambda d, a: fire(d, a, steps, SCALE), lambda d, a: unrolled(d, a, steps)):
        leaves = [each.clone().requires_grad_() for each in (drive, arrivals) if each is not None]
        spikes = function(leaves[0], leaves[1] if arriving else None)
        (spikes * weight).sum().backward()
        gradients.append((spikes.detach(), [leaf.grad for leaf in leaves]))
    (spikes, found), (expected_spikes, expected) = gradients
    assert torch.equal(spikes, expected_spikes)
    assert 0.05 < spikes.mean() < 0.6
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)
        assert 0.02 < (other == 0.0).double().mean() < 0.9  # the floor has cut some, and not all


def test_a_students_gradient_is_that_of_the_unrolled_network():
    found, states = student(size=1.5), observations(4)
    weight = torch.from_numpy(np.random.default_rng(1).normal(size=(len(states), 2)))
    (found(torch.from_numpy(states)) * weight).sum().backward()
    given = [parameter.grad.clone() for parameter in found.parameters()]
    found.zero_grad()
    (w0, b0), (w1, b1), (w2, b2) = found.folded()
    spikes = unrolled(torch.from_numpy(found.encoder.channels(states)) @ w0 + b0, None, 8)
    spikes = unrolled(b1.expand(len(states), -1), spikes @ w1, 9)
    ((spikes.sum(dim=0) @ w2 + 10 * b2) * weight / found.held()[1]).sum().backward()
    for parameter, gradient in zip(found.parameters(), given, strict=True):
        assert gradient.abs().sum() > 0
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
@pytest.mark.parametrize("sizes", [*SIZES, (20, 64, 6), (4, 16, 16, 18)])
def test_whatever_it_exports_is_a_circuit(profile, sizes):
    if sizes[0] * profile.circuit.input_bits > 124:
        profile = profile.with_settings({"input_bits": 6})
    rng = np.random.default_rng(2)
    for attempt in range(12):
        found = student(sizes, profile, seed=attempt)
        with torch.no_grad():
            for parameter in found.parameters():
                wild = rng.normal(rng.normal(), 1.0, parameter.shape) * 10.0 ** rng.uniform(-9, 15)
                wild[rng.random(parameter.shape) < rng.choice([0.0, 0.5, 1.0])] = 0.0
                parameter.copy_(torch.from_numpy(wild))
        assert not [finding for finding in preflight(found.to_network(), profile) if finding.severity == "error"]


def test_the_outputs_use_their_range_and_hidden_neurons_keep_within_theirs():
    profile = LIVE
    for size in (0.01, 1.0, 100.0):
        ranges = ranges_of(circuit_of(student(size=size).to_network(), profile))
        assert 0.99 * 16383 <= max(ranges.highest.max(), -ranges.lowest.min()) <= 16383
    most = 65535 - 2048
    largest = max(int(sums.max()) for sums in (*ranges.excitation, *ranges.inhibition))
    assert 0.9 * most < largest <= most


def test_the_penalty_leads_back_into_the_range():
    assert student().penalty() == 0.0
    found = student(size=50.0)
    assert found.penalty() > 1.0
    optimiser = torch.optim.SGD(found.parameters(), lr=1.0)
    for _ in range(3000):
        penalty = found.penalty()
        optimiser.zero_grad()
        penalty.backward()
        optimiser.step()
    assert found.penalty() < 0.05
    assert len(preflight(found.to_network(), LIVE)) == 0


def test_codes_cover_what_is_seen_but_for_outliers():
    found = student()
    states = observations(4, n=20_000) * [1.0, 1e-4, 10.0, 1.0]
    found.standardise(states)
    codes = found.encoder.channels(states)
    assert codes.min() == -32
    assert codes.max() == 31
    assert (np.abs(codes) >= 31).mean(axis=0) == pytest.approx(0.002, abs=0.002)
    states[0, 3] = 1e6
    before = found.encoder.resolution
    found.standardise(states)
    assert found.encoder.resolution == pytest.approx(before, rel=0.05)


def test_what_cannot_be_trained_for():
    def settings(**options):
        return StudentSettings((4, 16, 2), options.pop("steps", 10), NeuronSettings(**options))

    for asked, said in (
        ({"reset": "subtract"}, "reset=subtract was given; profile 'spinnaker-live' has reset=zero"),
        ({"threshold": 0.5}, "threshold=0.5 was given"),
        ({"membrane_decay": 0.9}, "membrane_decay=0.9 was given"),
        ({"synapse_decay": 0.1}, "synapse_decay=0.1 was given"),
    ):
        with pytest.raises(InvalidInputError, match=said):
            student_for(LIVE, settings(**asked), torch.Generator())
    with pytest.raises(PreflightError, match="too long"):
        student_for(LIVE, settings(steps=1000), torch.Generator())
    with pytest.raises(PreflightError, match="no hidden layer"):
        student_for(LIVE, StudentSettings((4, 2), 10), torch.Generator())
    found = student()
    with torch.no_grad():
        found.weights[1][0, 0] = torch.nan
    with pytest.raises(TargetError, match="diverged"):
        found.to_network()


def test_a_short_distillation_plays():
    settings = distil.Settings(
        for_="spinnaker-live",
        set_=("target=spinnaker-twin",),
        rounds=2,
        episodes=4,
        updates=150,
        validation_episodes=4,
        evaluation_episodes=5,
    )
    lines = []
    network = distil.train(settings, lines.append)
    facts = network.provenance
    assert facts["evaluation"]["mean_return"] > 300
    assert facts["evaluation"]["target"] == "twin of spinnaker-live"
    assert not any("margin" in line for line in lines)
    assert not any("margin" in name for name in facts["evaluation"])
    assert "verification" not in facts
    assert facts["hyperparameters"]["range_weight"] == 1.0
    assert facts["trained_for"] == training_facts(LIVE)
    assert facts["trained_for"]["settings"] == {"input_bits": 6, "hidden_shift": 4, "output_shift": 0}
    for name in ("spinnaker", "spinnaker-virtual", "spinnaker-twin", "spinnaker-live"):
        assert trained_for(network, load_profile(name))
    assert not trained_for(network, load_profile("spinnaker-live", {"input_bits": 7}))
    report = check(network, "spinnaker-twin", observations(4, n=50))
    assert (report.against, report.agreement, report.differing_trains) == ("twin", 1.0, 0)


def test_the_student_is_the_profiles():
    assert isinstance(student(profile=load_profile("spinnaker")), CircuitStudent)
    assert (
        student().to_network().content_hash == student(profile=load_profile("spinnaker-twin")).to_network().content_hash
    )

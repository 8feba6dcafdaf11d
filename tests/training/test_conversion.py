"""Conversion: the thesis' files, any depth, convolutions, and what is refused."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="conversion needs torch")

from spikeloop.errors import InvalidInputError  # noqa: E402
from spikeloop.models import Encoder, load  # noqa: E402
from spikeloop.models.torch_files import import_torch  # noqa: E402
from spikeloop.training.architecture import Architecture, AvgPool2d, Conv2d, Flatten, Linear, ReLU, Scale, Tanh  # noqa: E402
from spikeloop.training.conversion import agreement, convert, inexpressible  # noqa: E402
from spikeloop.training.evaluation import outputs  # noqa: E402
from spikeloop.training.policy import Policy, build, load_policy, mlp  # noqa: E402


def policy_of(architecture, seed=1):
    torch.manual_seed(seed)
    return Policy(architecture, build(architecture))


def states_of(folder):
    return np.load(folder / "memory_inputs.npz")["arr_0"]


@pytest.fixture(scope="module")
def cartpole(thesis):
    """The thesis' CartPole networks with the states that the DQN visited."""
    folder = thesis / "CartPole-A"
    return {
        "dqn": load_policy(folder / "DQN/trained/model.pt"),
        "classifier": load_policy(folder / "Classifier/trained/model.pt"),
        "states": states_of(folder / "DQN/trained"),
    }


# --- the thesis' files ------------------------------------------------------------------------------------------------


def test_the_thesis_converted_policy_gradient_network_is_reproduced(thesis):
    folder = thesis / "CartPole-PolicyGradient"
    ours = convert(load_policy(folder / "trained/model.pt"), steps=100, states=states_of(folder / "trained"))
    theirs = import_torch(folder / "converted/model.pt", steps=100)
    for one, other in zip(ours.layers, theirs.layers, strict=True):
        np.testing.assert_allclose(one.weights, other.weights, rtol=0, atol=1e-6)
        np.testing.assert_allclose(one.bias, other.bias, rtol=0, atol=1e-6)
    assert ours.neuron == theirs.neuron


def test_the_thesis_converted_dqn_differs_by_one_factor_a_layer(thesis, cartpole):
    ours = convert(cartpole["dqn"], steps=100, states=cartpole["states"])
    theirs = import_torch(thesis / "CartPole-A/DQN-Converted/model.pt", steps=100)
    for one, other in zip(ours.layers, theirs.layers, strict=True):
        weights, bias = one.weights / other.weights, one.bias / other.bias
        np.testing.assert_allclose(weights, weights.mean(), rtol=1e-5)
        np.testing.assert_allclose(bias, bias.mean(), rtol=1e-5)
        assert 0.9 < weights.mean() < 1.1


@pytest.mark.parametrize(("steps", "share"), [(100, 95.6), (500, 99.5)])
def test_the_thesis_classifier_converts_as_well_as_the_thesis_says(cartpole, steps, share):
    network = convert(cartpole["classifier"], steps=steps, states=cartpole["states"])
    first = cartpole["states"][:500].astype(float)  # in all 20,000 it is 94.8 % and 99.1 %
    assert 100 * agreement(cartpole["classifier"], network, first) == pytest.approx(share, abs=0.4)


# --- any network ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["robust", "data"])
@pytest.mark.parametrize(("depth", "seed"), [(1, 1), (2, 2), (3, 1), (5, 4)])  # whose decisions differ between states
def test_action_agreement_tends_to_one(depth, seed, method):
    policy = policy_of(mlp(4, (16,) * (depth - 1), 3), seed)
    for module in policy.module:
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            torch.nn.init.zeros_(module.bias)
    states = np.random.default_rng(depth).normal(size=(400, 4))
    assert np.bincount(policy.actions(states)).max() < 300
    shares = [
        agreement(policy, convert(policy, steps=steps, method=method, states=states), states)
        for steps in (50, 500, 5000)
    ]
    assert shares == sorted(shares)
    assert shares[0] < 0.99 or depth == 1
    assert shares[2] > 0.99


@pytest.mark.parametrize("method", ["robust", "data", "model"])
@pytest.mark.parametrize("name", ["classifier", "policy gradient"])
def test_agreement_with_the_thesis_networks_tends_to_one(thesis, cartpole, name, method):
    folder = thesis / "CartPole-PolicyGradient/trained"
    policy, states = cartpole["classifier"], cartpole["states"]
    if name != "classifier":
        policy, states = load_policy(folder / "model.pt"), states_of(folder)
    some = states[::40].astype(float)
    shares = [
        agreement(policy, convert(policy, steps=steps, method=method, states=states), some) for steps in (50, 500, 5000)
    ]
    assert shares[0] < shares[1] < shares[2]
    # By weights alone, activations are bounded for observations in [0, 1], which these are not.
    assert shares[2] > (0.98 if method == "model" else 0.99)


def test_outputs_are_the_scaled_values_within_one_over_t():
    policy = policy_of(mlp(3, (10, 10), 2), seed=3)
    states = np.random.default_rng(3).uniform(-1.0, 1.0, (200, 3))
    wanted = policy.values(states)
    errors = []
    for steps in (100, 1000, 10_000):
        network = convert(policy, steps=steps, method="data", states=states)
        found = outputs(network, states) / steps * network.provenance["conversion"]["scales"][-1]
        errors.append(np.abs(found - wanted).max())
    assert errors[1] < errors[0] / 5
    assert errors[2] < errors[1] / 5


IMAGES = Architecture(
    input_shape=(2, 9, 8),
    layers=(
        Scale(factor=1 / 255),
        Conv2d(channels=4, kernel=3, stride=1, padding=1),
        ReLU(),
        AvgPool2d(kernel=2, stride=2),
        Conv2d(channels=5, kernel=2, stride=2),
        ReLU(),
        Flatten(),
        Linear(outputs=12),
        ReLU(),
        Linear(outputs=3),
    ),
)


@pytest.mark.parametrize("method", ["data", "robust"])
def test_convolution_pooling_and_flatten_convert(method):
    policy = policy_of(IMAGES)
    states = np.random.default_rng(0).integers(0, 256, (60, 144)).astype(float)
    shares = []
    for steps in (20, 200, 3000):
        network = convert(policy, steps=steps, method=method, percentile=1.0, states=states)
        shares.append(agreement(policy, network, states))
    assert [layer.form.split(",")[0] for layer in network.layers] == [
        "conv2d 4x3x3 stride 1 padding 1",
        "conv2d 4x2x2 stride 2 groups 4",
        "conv2d 5x2x2 stride 2",
        "20 x 12",
        "12 x 3",
    ]
    assert shares[2] > 0.98
    found = outputs(network, states) / 3000 * network.provenance["conversion"]["scales"][-1]
    np.testing.assert_allclose(found, policy.values(states), atol=0.05 * np.abs(policy.values(states)).max())


def test_two_linear_layers_without_a_relu_are_one():
    architecture = Architecture(
        input_shape=(3,), layers=(Linear(outputs=5), Linear(outputs=4), ReLU(), Linear(outputs=2))
    )
    policy = policy_of(architecture)
    states = np.random.default_rng(1).uniform(-1.0, 1.0, (100, 3))
    network = convert(policy, steps=5000, method="data", states=states)
    assert network.sizes == (4, 2)
    assert agreement(policy, network, states) > 0.98


def test_spiking_encoders_are_fed_by_gain_and_sign():
    policy = policy_of(mlp(3, (8,), 2), seed=5)
    states = np.random.default_rng(2).uniform(-0.4, 0.4, (100, 3))
    encoder = Encoder("equidistant", two_neurons=True, gain=2.0)
    network = convert(policy, steps=4000, method="data", states=states, encoder=encoder)
    assert network.n_channels == 6
    assert agreement(policy, network, states) > 0.97
    assert inexpressible(encoder, states) == 0.0
    assert inexpressible(Encoder("poisson"), states) == pytest.approx((states < 0).mean())


def test_provenance_tells_how(cartpole):
    network = convert(cartpole["dqn"], steps=100, states=cartpole["states"], percentile=0.95, max_states=500)
    told = network.provenance
    assert told["conversion"]["method"] == "robust"
    assert told["conversion"]["percentile"] == 0.95
    assert told["conversion"]["states"] == 500
    assert len(told["conversion"]["scales"]) == 3
    assert len(told["policy"]["sha256"]) == 64
    assert {"torch", "spikeloop"} <= set(told["versions"])


# --- refusals ---------------------------------------------------------------------------------------------------------

STATES = np.zeros((3, 3)) + 0.5


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            (Linear(outputs=4), Tanh(), Linear(outputs=2)),
            r"Layer 1 \(tanh\) cannot be converted: rates cannot be negative",
        ),
        ((Linear(outputs=4), ReLU(), Linear(outputs=2), ReLU()), r"Layer 3 \(relu\) cannot be converted as the last"),
        ((ReLU(), Linear(outputs=2)), r"Layer 0 \(relu\) cannot be converted"),
    ],
)
def test_layers_that_cannot_be_converted_are_named(layers, message):
    with pytest.raises(InvalidInputError, match=message):
        convert(policy_of(Architecture(input_shape=(3,), layers=layers)), steps=10, states=STATES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"percentile": 0.0}, "percentile of 0.0 was given; it must be above 0 and at most 1"),
        ({"percentile": 1.01}, "percentile of 1.01"),
        ({"percentile": float("nan")}, "percentile of nan"),
        ({"method": "softest"}, "Method 'softest' was given"),
        ({"states": None}, "Method 'robust' needs states"),
        ({"states": np.zeros((0, 3))}, "No states were given"),
        ({"states": np.zeros((5, 4))}, r"States of shape \(5, 4\) were given; the policy needs \[n, 3\]"),
        ({"states": np.full((5, 3), np.nan)}, "NaN or infinite"),
        ({"steps": 0}, "steps is 0"),
        ({"max_states": 0}, "max_states is 0"),
        ({"encoder": Encoder(constant_one=True)}, "constant_one cannot be used"),
    ],
)
def test_arguments_that_cannot_be(options, message):
    given = {"steps": 10, "states": STATES} | options
    with pytest.raises(InvalidInputError, match=message):
        convert(policy_of(mlp(3, (4,), 2)), **given)


def test_a_layer_that_is_never_active_is_named():
    policy = policy_of(mlp(3, (4,), 2))
    with torch.no_grad():
        policy.module[0].weight.fill_(-1.0)
        policy.module[0].bias.fill_(-1.0)
    with pytest.raises(InvalidInputError, match=r"Layer 0 \(linear\) cannot be normalised"):
        convert(policy, steps=10, states=STATES)


def test_a_converted_network_is_written_and_read(tmp_path):
    from spikeloop.models import save

    policy = policy_of(IMAGES)
    network = convert(policy, steps=50, method="model")
    save(network, tmp_path / "c.spk")
    assert load(tmp_path / "c.spk").content_hash == network.content_hash

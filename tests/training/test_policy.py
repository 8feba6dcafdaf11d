"""Conventional networks: what they compute, and what they cannot be."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from spikeloop.errors import InvalidInputError  # noqa: E402
from spikeloop.tests.training.policies import ARCHITECTURES, agree, observations, policy_of  # noqa: E402
from spikeloop.training.policy import (  # noqa: E402
    Architecture,
    AvgPool2d,
    Conv2d,
    Flatten,
    Linear,
    Policy,
    ReLU,
    Scale,
    Tanh,
    build,
    from_linear,
    from_module,
    mnih,
    patel,
)
from torch import nn  # noqa: E402

torch.set_num_threads(1)


# --- what it computes -----------------------------------------------------------------------------------------------


def test_activations_of_each_layer_as_computed_by_hand():
    architecture = Architecture(
        input_shape=(1, 2, 2),
        layers=(
            Scale(factor=2.0),
            Conv2d(channels=1, kernel=1),
            ReLU(),
            AvgPool2d(kernel=2, stride=2),
            Flatten(),
            Linear(outputs=2),
            Tanh(),
        ),
    )
    module = build(architecture)
    state = {"1.weight": [[[[1.0]]]], "1.bias": [-3.0], "5.weight": [[1.0], [-1.0]], "5.bias": [0.5, 0.5]}
    module.load_state_dict({name: torch.tensor(values) for name, values in state.items()})
    policy = Policy(architecture, module)
    found = policy.activations(np.array([[1.0, 2.0, 3.0, 4.0]]))
    expected = [
        [[[[2.0, 4.0], [6.0, 8.0]]]],
        [[[[-1.0, 1.0], [3.0, 5.0]]]],
        [[[[0.0, 1.0], [3.0, 5.0]]]],
        [[[[2.25]]]],
        [[2.25]],
        [[2.75, -1.75]],
        np.tanh([[2.75, -1.75]]),
    ]
    assert [array.dtype for array in found] == [np.float64] * 7
    for array, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(array, wanted, rtol=1e-6)
    assert policy.actions(np.array([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 0.0]])).tolist() == [0, 0]


def test_a_convolution_with_stride_and_padding_as_computed_by_hand():
    architecture = Architecture(
        input_shape=(1, 2, 2), layers=(Conv2d(channels=1, kernel=2, stride=2, padding=1), Flatten(), Linear(outputs=1))
    )
    assert architecture.shapes() == ((1, 2, 2), (1, 2, 2), (4,), (1,))
    module = build(architecture)
    kernel = torch.tensor([[[[1.0, 10.0], [100.0, 1000.0]]]])
    module.load_state_dict(module.state_dict() | {"0.weight": kernel, "0.bias": torch.zeros(1)})
    first = Policy(architecture, module).activations(np.array([[1.0, 2.0, 3.0, 4.0]]))[0]
    assert first.tolist() == [[[[1000.0, 200.0], [30.0, 4.0]]]]


def test_equal_values_choose_the_first_action():
    policy = from_linear([(np.zeros((2, 3)), np.array([0.0, 1.0, 1.0]))])
    assert policy.actions(np.zeros((4, 2))).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("activation", [None, ReLU(), Tanh()])
def test_linear_layers_with_an_activation_between_them(activation):
    rng = np.random.default_rng(0)
    first, second, bias = rng.normal(size=(4, 8)), rng.normal(size=(8, 3)), rng.normal(size=3)
    policy = from_linear([(first, None), (second, bias)], "agent", activation, algorithm="DQN")
    states = observations(policy)
    hidden = np.tanh(states @ first) if isinstance(activation, Tanh) else np.maximum(states @ first, 0.0)
    np.testing.assert_allclose(policy.values(states), hidden @ second + bias, atol=1e-4)
    assert (policy.n_inputs, policy.n_actions, dict(policy.provenance)) == (4, 3, {"algorithm": "DQN"})
    assert policy.description == "conventional network 'agent', 4-8-3, trained by DQN"


@pytest.mark.parametrize("architecture", [mnih(6), patel(4)], ids=["mnih", "patel"])
def test_published_architectures_have_their_published_sizes(architecture):
    sizes = {"mnih": (28224, 6, 1_687_206), "patel": (6400, 4, 6_405_004)}  # of parameters: summed by hand
    with torch.device("meta"):
        module = build(architecture)
    policy = Policy(architecture, module)
    found = (policy.n_inputs, policy.n_actions, sum(array.numel() for array in module.parameters()))
    assert found == sizes["mnih" if len(architecture.input_shape) == 3 else "patel"]


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(np.zeros((3, 5)), id="width"),
        pytest.param(np.zeros(4), id="no batch"),
        pytest.param(np.full((1, 4), np.nan), id="NaN"),
    ],
)
def test_observations_that_do_not_fit_are_refused(given):
    with pytest.raises(InvalidInputError):
        policy_of(ARCHITECTURES["relu"]).values(given)


def test_observations_may_be_a_view_that_cannot_be_written():
    policy = policy_of(ARCHITECTURES["relu"])
    states = observations(policy)
    expected = policy.values(states)
    frozen = states.copy()
    frozen.setflags(write=False)
    np.testing.assert_array_equal(policy.values(frozen), expected)
    np.testing.assert_array_equal(policy.values(states[::-1]), expected[::-1])
    assert policy.values(states[:0]).shape == (0, 2)


# --- architectures that cannot be -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "layers", "told"),
    [
        ((1, 4, 4), (Conv2d(channels=1, kernel=5), Flatten(), Linear(outputs=1)), "too large"),
        ((16,), (Conv2d(channels=1, kernel=1), Linear(outputs=1)), "needs \\[channels"),
        ((1, 4, 4), (Linear(outputs=1),), "flatten first"),
        ((1, 4, 4), (Conv2d(channels=1, kernel=1),), "each action"),
        ((4,), (ReLU(),), "no Linear"),
    ],
)
def test_layers_that_do_not_fit_are_refused(shape, layers, told):
    with pytest.raises(InvalidInputError, match=told):
        build(Architecture(input_shape=shape, layers=layers))


@pytest.mark.parametrize("shape", [(0,), (-1, -4, -4), (4, 0)])
def test_the_shape_of_an_observation_is_positive(shape):
    with pytest.raises(ValueError, match="input_shape"):
        Architecture(input_shape=shape, layers=(Flatten(), Linear(outputs=1)))


@pytest.mark.parametrize(
    "pairs",
    [
        pytest.param([], id="none"),
        pytest.param([(np.zeros((4, 3)), None), (np.zeros((2, 2)), None)], id="chain"),
        pytest.param([(np.zeros((4, 3)), np.zeros(1))], id="bias that would be repeated"),
        pytest.param([(np.zeros((4, 3)), np.zeros(2))], id="bias"),
        pytest.param([(np.zeros((4, 0)), None)], id="no neurons"),
        pytest.param([(np.zeros((0, 4)), None)], id="no inputs"),
        pytest.param([(np.zeros(4), None)], id="flat weights"),
    ],
)
def test_linear_layers_that_do_not_fit_are_refused(pairs):
    with pytest.raises(InvalidInputError):
        from_linear(pairs)


# --- torch modules --------------------------------------------------------------------------------------------------


def test_a_torch_sequential_becomes_the_same_policy():
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.ReLU(), nn.AvgPool2d(2))
    module = nn.Sequential(trunk, nn.Flatten(), nn.Dropout(0.5), nn.Linear(12, 5, bias=False), nn.Tanh())
    module.append(nn.Linear(5, 3)).eval()
    policy = from_module(module, (2, 9, 9), "agent", seed=1)
    kinds = [layer.kind for layer in policy.architecture.layers]
    assert kinds == ["conv2d", "relu", "avg_pool2d", "flatten", "linear", "tanh", "linear"]
    agree(module, policy, (2, 9, 9))
    with torch.no_grad():
        module[-1].weight.zero_()
    assert policy.module[-1].weight.abs().sum() > 0  # a copy


def test_one_module_used_twice_is_two_layers():
    torch.manual_seed(0)
    same, again = nn.ReLU(), nn.Linear(4, 4)
    module = nn.Sequential(nn.Linear(4, 4), same, again, same, again)
    policy = from_module(module, (4,))
    assert [layer.kind for layer in policy.architecture.layers] == ["linear", "relu", "linear", "relu", "linear"]
    agree(module, policy, (4,))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(1, 1, 3, padding="same"),
        nn.Conv2d(1, 1, (3, 2)),
        nn.Conv2d(1, 1, 3, dilation=2),
        nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(1, 1, 1001),
        nn.Conv2d(2, 2, 3, groups=2),
        nn.AvgPool2d(2, ceil_mode=True),
        nn.AvgPool2d(2, padding=1),
        nn.AvgPool2d(2, divisor_override=3),
        nn.MaxPool2d(2),
        nn.Sigmoid(),
        nn.Flatten(0),
    ],
    ids=str,
)
def test_a_torch_layer_without_counterpart_is_refused_by_name(layer):
    module = nn.Sequential(nn.ReLU(), layer, nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(InvalidInputError, match=f"Layer '1' \\({type(layer).__name__}\\)"):
        from_module(module, (1, 4, 4))


def test_a_torch_module_that_is_no_network_is_refused():
    for module, shape in ((nn.Sequential(), (4,)), (nn.Sequential(nn.Linear(4, 2)), (5,))):
        with pytest.raises(InvalidInputError):
            from_module(module, shape)

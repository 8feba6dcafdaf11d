"""Conventional networks that several tests use."""

import numpy as np
import torch
from spikeloop.training.policy import (
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
    mlp,
)

CONV = Architecture(
    input_shape=(2, 9, 9),
    layers=(
        Scale(factor=1.0 / 255.0),
        Conv2d(channels=3, kernel=3, stride=2, padding=1),
        ReLU(),
        AvgPool2d(kernel=2, stride=2),
        Conv2d(channels=4, kernel=2),
        Tanh(),
        Flatten(),
        Linear(outputs=3),
    ),
)
ARCHITECTURES = {"relu": mlp(4, [8, 6], 2), "tanh": mlp(4, [8], 3, Tanh()), "linear": mlp(5, [], 2), "conv": CONV}


def policy_of(architecture, seed=0, /, **provenance):
    torch.manual_seed(seed)
    return Policy(architecture, build(architecture), provenance, "somebody")


def observations(policy, n=50, seed=1):
    return np.random.default_rng(seed).normal(0.0, 2.0, (n, policy.n_inputs))


def agree(module, policy, shape):
    states = torch.randn((20, *shape), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = module(states).double().numpy()
    np.testing.assert_allclose(policy.values(states.flatten(1).double().numpy()), expected, atol=1e-6)

"""Random networks that a decision circuit takes."""

from itertools import pairwise

import numpy as np
import pytest
from spikeloop.models import Dense, Encoder, Network, Neuron


@pytest.fixture(scope="session")
def make_circuit():
    """A factory of networks with weights on the grid of `spinnaker-live`, and every worst case in range."""

    def make(sizes=(4, 16, 16, 2), *, steps=10, bits=6, seed=0, shifts=(4, 0)):
        rng = np.random.default_rng(seed)
        layers = []
        for index, (n_in, n_out) in enumerate(pairwise(sizes)):
            last = index == len(sizes) - 2
            grid = 2.0 ** (shifts[last] - 15)
            if last:
                spikes = steps - (len(sizes) - 1) + index
                weights = rng.normal(0.0, 1.0, (n_in, n_out))
                differences = max(np.abs(weights[:, [i]] - weights).sum(axis=0).max() for i in range(n_out))
                # Room is left for rounding.
                weights *= (2.0 ** (shifts[1] - 1) - 2 * n_in * steps * grid) / (spikes * differences) * 0.98
                bias = np.zeros(n_out)
            elif index == 0:
                weights = rng.normal(0.0, 0.12 * 2.0**-bits * 16, (n_in, n_out))
                bias = rng.normal(0.1, 0.2, n_out)
            else:
                weights = rng.normal(0.1, 1.0 / np.sqrt(n_in), (n_in, n_out))
                bias = rng.normal(0.05, 0.1, n_out)
            layers.append(Dense(np.rint(weights / grid) * grid, np.rint(bias / grid) * grid))
        encoder = Encoder(bits=bits, resolution=(0.1 * 64 / 2**bits,) * sizes[0])
        return Network(tuple(layers), steps, Neuron(reset="zero", compare=">="), encoder, name=f"circuit {seed}")

    return make

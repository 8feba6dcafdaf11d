"""What tests of every folder share: the data beside the repository, and small random networks."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from spikeloop.models import Dense, Encoder, Network

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"

# Time limits of single examples fail on a busy machine; pytest-timeout watches over whole tests.
settings.register_profile("spikeloop", deadline=None)
settings.load_profile("spikeloop")


def pytest_addoption(parser):
    group = parser.getgroup("spikeloop")
    group.addoption("--spinnaker", metavar="HOST", help="run the tests of SpiNNaker machines on this board as well")
    group.addoption("--spinnaker-version", type=int, default=5, help="the version of that board: 3 or 5")


@pytest.fixture(scope="module", params=["virtual", "board"])
def spinnaker(request):
    """A profile of a SpiNNaker machine, and the settings that lead to it: a virtual board, and then a real one."""
    if request.param == "virtual":
        return "spinnaker-virtual", {}
    host = request.config.getoption("--spinnaker")
    if host is None:
        pytest.skip("no SpiNNaker board was named: pytest --spinnaker HOST [--spinnaker-version 3]")
    return "spinnaker", {"machine_name": host, "version": request.config.getoption("--spinnaker-version")}


def _data(name):
    if not (DATA / name).is_dir():
        pytest.skip(f"this data does not come with the repository; it is not at {DATA / name}")
    return DATA / name


@pytest.fixture(scope="session")
def thesis():
    """The folder of the thesis' networks."""
    return _data("thesis")


@pytest.fixture(scope="session")
def golden():
    """The golden files, sorted by name."""
    return sorted(_data("golden").glob("*.npz"))


@pytest.fixture(scope="session")
def make_network():
    """A factory of small random networks; the same arguments make the same network.

    ``sizes`` are the values of an observation and the neurons of each layer; any other option is the Network's.
    """

    def make(sizes=(4, 8, 2), *, steps=10, seed=0, scale=0.8, delays=None, encoder=None, **options):
        encoder = encoder or Encoder()
        channels = sizes[0] * (1 + encoder.two_neurons) + encoder.constant_one
        fan = [channels, *sizes[1:]]
        delays = delays or [1] * (len(fan) - 1)
        rng = np.random.default_rng(seed)
        layers = [
            Dense(rng.normal(0.0, scale, (n_in, n_out)), rng.normal(0.0, 0.1, n_out), delay)
            for (n_in, n_out), delay in zip(pairwise(fan), delays, strict=True)
        ]
        return Network(tuple(layers), steps, encoder=encoder, **options)

    return make

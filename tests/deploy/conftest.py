"""The golden files: float64 outputs of the software dynamics, with the network that each belongs to."""

from pathlib import Path

import numpy as np
import pytest
from spikeloop.models import Neuron, load

DATA = Path(__file__).parents[2].parent / "shared" / "data"
NETWORKS = {
    "CartPole-A_Classifier-Converted_T100": "CartPole-A/Classifier-Converted/model.pt",
    "CartPole-A_DQN-Converted_T100": "CartPole-A/DQN-Converted/model.pt",
    "CartPole-A_DQN-Converted_T100_zero": "CartPole-A/DQN-Converted/model.pt",
    "CartPole-A_DQN-Converted_T500": "CartPole-A/DQN-Converted/model.pt",
    "CartPole-A_SNN-Classifier_T20": "CartPole-A/SNN-Classifier/trained/model.pt",
    "CartPole-E_DSQN_T20": "CartPole-E(SNN)/trained/model.pt",
    "CartPole-PolicyGradient_converted_T100": "CartPole-PolicyGradient/converted/model.pt",
    "MountainCar-E_DSQN_T20": "MountainCar-E(SNN)/trained/model.pt",
}


def golden(name):
    """The network and the arrays of one golden file."""
    pytest.importorskip("torch", reason="the thesis' files are torch files")
    if not DATA.is_dir():
        pytest.skip(f"the thesis' networks and the golden files are not at {DATA}")
    case = dict(np.load(DATA / "golden" / f"{name}.npz"))
    network = load(
        DATA / "thesis" / NETWORKS[name],
        steps=int(case["steps"]),
        constant_one=bool(case["constant_one_input"]),
        neuron=Neuron(reset="zero" if case["reset"] == "zero" else "subtract"),
    )
    return network, case


@pytest.fixture(params=NETWORKS)
def golden_case(request):
    return golden(request.param)


@pytest.fixture
def golden_names():
    """The golden files that are there, and those that tests use."""
    if not DATA.is_dir():
        pytest.skip(f"the golden files are not at {DATA}")
    return {path.stem for path in (DATA / "golden").glob("*.npz")}, set(NETWORKS)

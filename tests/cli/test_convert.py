"""spikeloop convert, as a user starts it."""

import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="conversion needs torch")

from spikeloop.models import load  # noqa: E402
from spikeloop.training.architecture import Architecture, Linear, ReLU, Tanh  # noqa: E402
from spikeloop.training.policy import Policy, build, mlp  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def _policies(files):
    torch.manual_seed(1)
    architecture = mlp(4, (8,), 2)
    Policy(architecture, build(architecture), {"algorithm": "chance"}).save(files / "policy.pt")
    torch.save(build(architecture).state_dict(), files / "bare.pt")
    tanh = Architecture(input_shape=(4,), layers=(Linear(outputs=3), Tanh(), Linear(outputs=2)))
    Policy(tanh, build(tanh)).save(files / "tanh.pt")
    relu = Architecture(input_shape=(4,), layers=(Linear(outputs=3), ReLU()))
    Policy(relu, build(relu)).save(files / "relu.pt")
    rng = np.random.default_rng(0)
    np.savez(files / "seen.npz", observations=rng.normal(size=(300, 4)), actions=np.zeros(300))
    np.savez(files / "none.npz", observations=np.zeros((0, 4)))
    np.savez(files / "wide.npz", observations=np.zeros((3, 5)))


def test_a_policy_becomes_an_agent_that_runs(spikeloop, files):
    words = ["convert", "policy.pt", "--normalise", "robust", "--percentile", 1, "--states", "seen.npz", "--steps", 800]
    result = spikeloop(*words, "-o", "made.spk", "--json")
    assert result.code == 0, result
    assert result.document["agreement"] > 0.95
    assert result.document["states"] == 300
    network = load(files / "made.spk")
    assert network.name == "made"
    assert network.content_hash == result.document["network_hash"]
    told = spikeloop("run", "made.spk", "--on", "nest-exact", "--env", "CartPole-v1", "--episodes", 1, "--json")
    assert told.document["agreement"] == 1.0
    assert "made.spk exists" in spikeloop(*words, "-o", "made.spk").refused()
    assert spikeloop(*words, "-o", "made.spk", "--force").code == 0


def test_by_weights_alone_and_with_spikes(spikeloop, files):
    words = ["convert", "bare.pt", "--normalise", "model", "--steps", 50, "--encoder", "poisson", "--two-neurons"]
    result = spikeloop(*words, "--decoder", "spike_count", "-o", "poisson-made.spk")
    assert result.code == 0, result
    assert "not measured: no states were given" in result.out
    network = load(files / "poisson-made.spk")
    assert (network.encoder.kind, network.n_channels, network.decoder.kind) == ("poisson", 8, "spike_count")


def test_who_runs_a_conventional_network_learns_of_convert(in_process):
    message = in_process("run", "policy.pt", "--on", "reference", "--env", "CartPole-v1").refused()
    assert "spikeloop convert policy.pt" in message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("policy.pt --steps 10 -o x.spk", "needs states"),
        ("policy.pt --steps 10 --states none.npz -o x.spk", "No states were given"),
        ("policy.pt --steps 10 --states wide.npz -o x.spk", "the policy needs [n, 4]"),
        ("policy.pt --steps 10 --states seen.npz --percentile 0 -o x.spk", "percentile of 0"),
        ("policy.pt --steps 10 --normalise data --percentile 0.5 --states seen.npz -o x.spk", "'data' has none"),
        ("policy.pt --steps 10 --states seen.npz --max-states 0 -o x.spk", "--max-states"),
        ("policy.pt --steps 10 --states seen.npz -o nowhere/x.spk", "its folder does not exist"),
        ("policy.pt --steps 0 --states seen.npz -o x.spk", "--steps"),
        ("tanh.pt --steps 10 --states seen.npz -o x.spk", "Layer 1 (tanh) cannot be converted"),
        ("relu.pt --steps 10 --states seen.npz -o x.spk", "Layer 1 (relu) cannot be converted as the last one"),
        ("small.spk --steps 10 --states seen.npz -o x.spk", "small.spk"),
        ("missing.pt --steps 10 --states seen.npz -o x.spk", "missing.pt"),
        ("bare.pt --steps 10 --states seen.npz --architecture lenet -o x.spk", "There is no architecture 'lenet'"),
    ],
)
def test_refusals(in_process, files, words, message):
    assert message in in_process("convert", *words.split()).refused()
    assert not (files / "x.spk").exists()


def test_values_that_an_encoder_cuts_off_are_told(in_process, files):
    words = ["convert", "policy.pt", "--steps", "20", "--states", "seen.npz", "--encoder", "poisson", "-o", "cut.spk"]
    seen = np.load(files / "seen.npz")["observations"]
    told = in_process(*words)
    assert f"{np.mean((seen < 0) | (seen > 1)):.1%} of the states' values are cut off" in told.err
    assert "--two-neurons and --gain" in told.err
    told = in_process(*words, "--two-neurons", "--gain", "0.1", "--force")
    assert "cut off" not in told.err


def test_without_torch_the_extra_is_named(in_process, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith("spikeloop.training")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("spikeloop.training", raising=False)
    words = ["convert", "policy.pt", "--normalise", "model", "--steps", "10", "-o", "x.spk"]
    assert 'pip install "spikeloop[training]"' in in_process(*words).refused()

"""A short imitation run learns, repeats, and says where its network came from."""

import json
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from spikeloop.errors import InvalidInputError, UnknownNameError  # noqa: E402
from spikeloop.models import Neuron, load  # noqa: E402
from spikeloop.training import imitation  # noqa: E402
from spikeloop.training.evaluation import actions, run_episodes  # noqa: E402
from spikeloop.training.imitation import Settings, train  # noqa: E402
from spikeloop.training.spiking import SpikingStack  # noqa: E402
from spikeloop.training.teachers import teacher_for  # noqa: E402

SHORT = {"rounds": 2, "episodes": 4, "updates": 150, "validation_episodes": 4, "evaluation_episodes": 5}


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_agreement_on_unseen_states_rises():
    teacher = teacher_for("CartPole-v1")
    states = run_episodes("CartPole-v1", teacher.actions, 5, 77).observations
    untrained = SpikingStack((4, 16, 16, 2), 10, Neuron(), generator=torch.Generator().manual_seed(1)).to_network()
    lines = []
    trained = train(Settings(**SHORT), lines.append)
    agreement = [float(np.mean(actions(net, states) == teacher.actions(states))) for net in (untrained, trained)]
    assert agreement[0] < 0.7
    assert agreement[1] > 0.93
    assert trained.provenance["evaluation"]["mean_return"] > 300
    assert [line.split(":")[0] for line in lines] == ["round 0", "round 1"]


def test_same_seed_same_network_and_another_seed_another():
    tiny = SHORT | {"updates": 10, "episodes": 1, "reset": "zero", "membrane_decay": 0.9, "synapse_decay": 0.2}
    first, again, other = (train(Settings(seed=seed, **tiny)) for seed in (3, 3, 4))
    assert first.content_hash == again.content_hash != other.content_hash
    assert first.neuron == Neuron(reset="zero", membrane_decay=0.9, synapse_decay=0.2)


def test_command_line_writes_a_network_file(tmp_path, monkeypatch, capsys):
    path = tmp_path / "mine.spk"
    given = "imitation --seed 5 --hidden 6 7 --steps 4 --rounds 1 --episodes 1 --updates 5"
    given += f" --validation-episodes 2 --evaluation-episodes 3 --evaluation-seed 70 -o {path}"
    monkeypatch.setattr(sys, "argv", given.split())
    deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        imitation.main()
    finally:
        torch.use_deterministic_algorithms(deterministic)
    network = load(path)
    assert (network.name, network.steps, network.sizes) == ("mine", 4, (6, 7, 2))
    facts = json.loads(json.dumps(dict(network.provenance)))
    assert facts["seed"] == 5
    assert facts["hyperparameters"]["hidden"] == [6, 7]
    assert "output" not in facts["hyperparameters"]
    assert set(facts["versions"]) == {"spikeloop", "torch", "numpy", "gymnasium", "python"}
    assert facts["teacher"]["mean_return"] == 500.0
    assert facts["evaluation"]["first_seed"] == 70
    assert len(facts["evaluation"]["returns"]) == 3
    assert "wrote" in capsys.readouterr().out


@pytest.mark.parametrize("output", ["", "-o missing/folder/agent.spk"])
def test_unusable_output_is_refused_before_training(output, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["imitation", *output.split()])
    with pytest.raises(InvalidInputError, match="a folder that exists"):
        imitation.main()


def test_settings_that_cannot_be():
    with pytest.raises(InvalidInputError, match="rounds is 0"):
        Settings(rounds=0)
    with pytest.raises(UnknownNameError, match="teacher"):
        train(Settings(env="Acrobot-v1"))

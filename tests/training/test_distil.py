"""A short distillation learns, repeats, decides on its target as in training, and says where its network came from."""

import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from spikeloop.deploy.twin import trained_for, training_facts  # noqa: E402
from spikeloop.errors import (  # noqa: E402
    EnvironmentMismatchError,
    InvalidInputError,
    MissingPackageError,
    NetworkFileError,
    PreflightError,
    TargetError,
    UnknownNameError,
)
from spikeloop.hardware_profiles import load_profile  # noqa: E402
from spikeloop.models import Dense, Network, Neuron, load  # noqa: E402
from spikeloop.runtime import check, launch  # noqa: E402
from spikeloop.training import distil  # noqa: E402
from spikeloop.training.distil import Settings, train  # noqa: E402
from spikeloop.training.evaluation import actions, run_episodes  # noqa: E402
from spikeloop.training.policy import from_linear  # noqa: E402
from spikeloop.training.spiking import SpikingStack  # noqa: E402
from spikeloop.training.storage import keep  # noqa: E402
from spikeloop.training.student import Student  # noqa: E402
from spikeloop.training.teachers import teacher_for  # noqa: E402

SHORT = {"rounds": 2, "episodes": 4, "updates": 150, "validation_episodes": 4, "evaluation_episodes": 5}
TINY = {"rounds": 1, "episodes": 1, "updates": 5, "validation_episodes": 2, "evaluation_episodes": 3}
WORDS = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in TINY.items())


@pytest.fixture(autouse=True)
def torch_as_it_was():
    # The number of threads that `train` sets is never set back: NEST, in the same process, would crash.
    deterministic = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(deterministic)


def linear_teacher(n_inputs=4, n_actions=2):
    """A conventional network that pushes as CartPole's computed teacher does."""
    weights = np.zeros((n_inputs, n_actions))
    weights[:4, 1] = -teacher_for("CartPole-v1").gain[:n_inputs]
    return from_linear([(weights, None)], "linear")


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
    assert trained.provenance["evaluation"]["target"] == "reference"
    assert "verification" not in trained.provenance
    assert [line.split(":")[0] for line in lines] == ["round 0", "round 1", "teacher", "student, as reference"]


def test_a_student_for_nest_decides_there_as_in_training():
    pytest.importorskip("nest", reason="nest-simulator is not installed")
    lines = []
    settings = Settings(for_="nest-iaf_psc_delta", set_=("resolution_ms=0.5",), steps=12, **SHORT)
    network = train(settings, lines.append)
    facts = network.provenance
    profile = settings.profile()
    assert facts["trained_for"] == training_facts(profile)
    assert facts["trained_for"]["settings"]["resolution_ms"] == 0.5
    assert facts["evaluation"]["target"] == "twin of nest-iaf_psc_delta"
    assert facts["evaluation"]["mean_return"] > 300
    assert facts["verification"]["agreement_with_twin"] == 1.0
    assert facts["verification"]["states"] == 1000
    assert facts["verification"]["max_abs_dv"] <= 1e-9
    # The evaluation's first episodes, played on NEST.
    assert facts["verification"]["mean_return"] == np.mean(facts["evaluation"]["returns"])
    assert "nest-simulator" in facts["versions"]
    assert lines[-1].startswith("nest-iaf_psc_delta itself: return")
    assert network.neuron == Neuron(reset="zero", compare=">=")
    states = run_episodes("CartPole-v1", teacher_for("CartPole-v1").actions, 1, 7).observations[:100]
    report = check(network, profile, states)
    assert (report.against, report.agreement, report.differing_trains) == ("twin", 1.0, 0)
    assert check(network, profile, states, against="reference").differing_trains > 0


def test_same_seed_same_network_and_another_seed_another():
    options = TINY | {"rounds": 2, "updates": 10, "reset": "zero", "membrane_decay": 0.9, "synapse_decay": 0.2}
    first, again, other = (train(Settings(seed=seed, **options)) for seed in (3, 3, 4))
    assert first.content_hash == again.content_hash != other.content_hash
    assert first.neuron == Neuron(reset="zero", membrane_decay=0.9, synapse_decay=0.2)
    assert {name: first.provenance["hyperparameters"][name] for name in ("reset", "membrane_decay")} == {
        "reset": "zero",
        "membrane_decay": 0.9,
    }


def test_a_trained_network_teaches(tmp_path):
    policy = linear_teacher()
    policy.save(tmp_path / "policy.pt")
    folder = tmp_path / "run"
    folder.mkdir()
    policy.save(folder / "last.pt")
    by_file, by_folder = (train(Settings(teacher=str(path), **TINY)) for path in (tmp_path / "policy.pt", folder))
    computed = train(Settings(**TINY))
    # It says the same as the computed teacher, so the student is the same.
    assert by_file.content_hash == by_folder.content_hash == computed.content_hash
    facts = by_folder.provenance["teacher"]
    assert facts["source"] == str(folder / "last.pt")
    assert "conventional network 'linear', 4-2" in facts["description"]
    assert facts["mean_return"] == 500.0
    spiking = train(Settings(teacher="cartpole", **TINY)).provenance["teacher"]
    assert spiking["description"].startswith("spiking network 'cartpole' on the reference")
    assert len(spiking["sha256"]) == 64


def test_the_penalty_is_part_of_what_is_minimised(monkeypatch):
    plain = train(Settings(**TINY))
    monkeypatch.setattr(Student, "penalty", lambda self: 100.0 * self.weights[1].abs().sum())
    held = train(Settings(**TINY))
    assert np.abs(held.layers[1].weights).sum() < np.abs(plain.layers[1].weights).sum()


def test_command_line_writes_a_network_file(tmp_path, capsys):
    path = tmp_path / "mine.spk"
    words = f"--seed 5 --hidden 6 7 --steps 4 --evaluation-seed 70 {WORDS} -o {path}"
    summary = distil.main(words.split())
    network = load(path)
    assert (network.name, network.steps, network.sizes) == ("mine", 4, (6, 7, 2))
    facts = json.loads(json.dumps(dict(network.provenance)))
    assert facts["seed"] == 5
    assert facts["script"] == "spikeloop.training.distil"
    assert trained_for(network, load_profile("reference"))
    assert facts["hyperparameters"]["hidden"] == [6, 7]
    assert not {"output", "force", "for_", "verify"} & set(facts["hyperparameters"])
    assert {"spikeloop", "torch", "numpy", "gymnasium", "python"} <= set(facts["versions"])
    assert facts["teacher"]["mean_return"] == 500.0
    assert facts["evaluation"]["first_seed"] == 70
    assert len(facts["evaluation"]["returns"]) == 3
    assert f"wrote {path}" in capsys.readouterr().out
    assert summary["network_hash"] == network.content_hash
    assert summary["evaluation"]["mean_return"] == facts["evaluation"]["mean_return"]
    json.dumps(summary)

    with pytest.raises(InvalidInputError, match=r"mine\.spk exists: give another name, or --force"):
        distil.main(words.split())
    distil.main([*words.split(), "--force", "--seed", "6"])
    assert load(path).provenance["seed"] == 6
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("output", ["", "-o missing/folder/agent.spk", "-o ."])
def test_unusable_output_is_refused_before_training(output, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInputError, match="a folder that exists"):
        distil.main(output.split())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused_before_training(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(InvalidInputError, match=r"Cannot write .*Permission denied"):
        distil.main(["-o", str(tmp_path / "locked" / "agent.spk")])


def test_a_name_that_cannot_be_is_refused_before_training(tmp_path):
    with pytest.raises(InvalidInputError, match=r"Cannot write .*File name too long"):
        distil.main(["-o", str(tmp_path / ("a" * 250 + ".spk"))])


def test_a_failed_save_does_not_lose_the_student(tmp_path, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    network = load("cartpole")
    with pytest.raises(TargetError, match=r"The trained network is kept at .*/agent\.spk") as caught:
        keep(network, tmp_path / "folder that has gone" / "agent.spk")
    assert caught.value.exit_code == 1
    kept = Path(str(caught.value).rpartition(" kept at ")[2].removesuffix("."))
    assert load(kept).content_hash == network.content_hash
    assert kept.is_relative_to(temporary)


def test_a_target_that_is_not_there(monkeypatch):
    def absent(*_, **__):
        raise MissingPackageError.needs("Running on NEST", "nest-simulator", "nest")

    monkeypatch.setattr("spikeloop.training.verification.launch", absent)
    lines = []
    facts = train(Settings(for_="nest-exact", **TINY), lines.append).provenance
    assert "verification" not in facts
    assert lines[0].startswith("the result will not be verified on nest-exact: Running on NEST needs")
    assert "verification" not in train(Settings(for_="nest-exact", verify=False, **TINY)).provenance
    with pytest.raises(MissingPackageError):
        train(Settings(for_="nest-exact", verify=True, **TINY))


def test_the_reference_can_be_verified_too():
    facts = train(Settings(verify=True, **TINY)).provenance["verification"]
    assert (facts["target"], facts["agreement_with_twin"], facts["max_abs_dv"]) == ("reference", 1.0, 0.0)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"rounds": 0}, InvalidInputError, "rounds is 0"),
        ({"env": "Acrobot-v1"}, UnknownNameError, "no computed teacher .* 'Acrobot-v1'.*--teacher FILE"),
        ({"env": "Acrobot-v11"}, EnvironmentMismatchError, "Gymnasium cannot make environment 'Acrobot-v11'"),
        ({"env": "Pendulum-v1"}, EnvironmentMismatchError, "needs a Discrete one"),
        ({"env": "MountainCar-v0", "teacher": "cartpole"}, EnvironmentMismatchError, "takes 4 values and chooses from"),
        ({"teacher": "cartpool"}, UnknownNameError, "Did you mean cartpole"),
        ({"for_": "nest-exakt"}, UnknownNameError, "Did you mean nest-exact"),
        ({"set_": ("t_ref=1",)}, UnknownNameError, "no setting 't_ref'"),
        ({"for_": "nest-pp_psc_delta"}, InvalidInputError, "No dynamics to train under are known"),
        ({"for_": "nest-exact", "synapse_decay": 0.5}, PreflightError, "No exact recipe is known"),
        ({"for_": "nest-iaf_psc_delta", "reset": "subtract"}, InvalidInputError, "has reset=zero"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(options, error, said):
    with pytest.raises(error, match=said) as caught:
        train(Settings(**options))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_files_that_cannot_teach(tmp_path):
    linear_teacher(5, 2).save(tmp_path / "other.pt")
    with pytest.raises(EnvironmentMismatchError, match=r"other\.pt takes 5 values and chooses from 2 actions"):
        train(Settings(teacher=str(tmp_path / "other.pt")))
    (tmp_path / "run").mkdir()
    with pytest.raises(NetworkFileError, match=r"is a folder with none of best\.spk, best\.pt"):
        train(Settings(teacher=str(tmp_path / "run")))


class Left:
    description = "pushes left"

    def actions(self, observations):
        return np.zeros(len(observations), dtype=np.int64)


def test_figures_for_a_header():
    def told(action):
        network = Network((Dense(np.zeros((4, 2)), np.eye(2)[action]),), 8)
        with launch(network) as agent:
            return distil.evaluated(agent, "CartPole-v1", 4, 60, Left())

    figures = told(0)
    assert figures["agreement_with_teacher"] == 1.0
    assert figures["margin_median"] == 7.0  # 8 steps of bias 1, the first of which only fills the synapse
    assert figures["mean_return"] == np.mean(figures["returns"])
    assert figures["min_return"] == min(figures["returns"])
    assert told(1)["agreement_with_teacher"] == 0.0

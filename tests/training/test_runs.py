"""A run's folder: a run that is killed goes on to the same end, and nothing that is there is lost."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from spikeloop.errors import InvalidInputError, NetworkFileError, TargetError  # noqa: E402
from spikeloop.models import load  # noqa: E402
from spikeloop.training import classify, dqn, dsqn, reinforce, runs  # noqa: E402
from spikeloop.training.policy import load_policy  # noqa: E402

ALGORITHMS = {
    "dqn": "--episodes 120 --hidden 8 --batch-size 16 --memory-size 500 --average-over 10",
    "dsqn": "--episodes 40 --hidden 6 --steps 5 --batch-size 16 --memory-size 500 --average-over 10",
    "reinforce": "--episodes 300 --hidden 8 --average-over 10 --episodes-per-update 3",
    "classify": "--updates 1500 --log-every 20 --spiking --steps 5 --hidden 6 --teacher cartpole",
}


@pytest.fixture
def states(tmp_path):
    path = tmp_path / "states.npz"
    np.savez(path, observations=np.random.default_rng(0).normal(0.0, 0.2, (400, 4)))
    return path


def closed(path):
    """What a file holds, with the file closed."""
    with np.load(path) as content:
        return dict(content)


def command(algorithm, folder, states, *more):
    given = ALGORITHMS[algorithm].split() + (["--states", str(states)] if algorithm == "classify" else [])
    return [*given, "--seed", "3", "-o", str(folder), *more]


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return [{name: row[name] for name in row if name != "seconds"} for row in csv.DictReader(file)]


def models(folder):
    found = {}
    for path in sorted(folder.glob("*.spk")):
        found[path.name] = load(path).content_hash
    for path in sorted(folder.glob("*.pt")):
        if path.name != "checkpoint.pt":
            policy = load_policy(path)
            found[path.name] = [array.numpy().tobytes() for array in policy.module.state_dict().values()]
    return found


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_run_that_is_killed_twice_ends_as_an_unbroken_one(algorithm, tmp_path, states):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    module = {"dqn": dqn, "dsqn": dsqn, "reinforce": reinforce, "classify": classify}[algorithm]
    module.main(command(algorithm, whole, states))
    code = "import sys, spikeloop.training.runs as runs; runs.CHECKPOINT_SECONDS = 0.2\n"
    code += f"from spikeloop.training import {algorithm}\n{algorithm}.main(sys.argv[1:])"
    counted = [0]
    for more in ([], ["--resume"]):
        process = subprocess.Popen([sys.executable, "-c", code, *command(algorithm, broken, states, *more)])
        wanted = counted[-1] + len(rows(whole)) // 4
        while process.poll() is None:
            if (broken / "metrics.csv").exists() and len(rows(broken)) > wanted:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
            time.sleep(0.001)
        assert process.returncode == -signal.SIGKILL, "it was to be killed on its way"
        counted.append(len(rows(broken)))
    assert 0 < counted[1] < counted[2] < len(rows(whole))
    module.main(["--resume", "-o", str(broken)])

    assert rows(broken) == rows(whole)
    assert models(broken) == models(whole)
    kind = "spk" if algorithm in ("dsqn", "classify") else "pt"
    assert set(models(whole)) == {f"best.{kind}", f"last.{kind}"}
    facts = [json.loads((folder / "run.json").read_text()) for folder in (whole, broken)]
    for told in facts:
        assert told["summary"].pop("seconds") > 0
    assert facts[0] == facts[1]
    if algorithm != "classify":
        one, other = (closed(folder / "replay.npz") for folder in (whole, broken))
        assert all(np.array_equal(one[name], other[name]) for name in ("observations", "actions"))
        assert len(one["observations"]) == len(one["actions"]) > 100
    assert (whole / "learning_curve.png").read_bytes()[:4] == b"\x89PNG"


def test_what_is_written_into_a_result(tmp_path):
    dqn.main(["--episodes", "12", "--average-over", "5", "--hidden", "4", "-o", str(tmp_path / "run")])
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    told = dict(load_policy(tmp_path / "run" / "best.pt").provenance)
    assert told["algorithm"] == facts["algorithm"] == "dqn"
    assert told["seed"] == 1
    assert told["hyperparameters"]["hidden"] == [4]
    assert told["hyperparameters"]["env"] == "CartPole-v1"
    assert told["hyperparameters"]["max_steps"] == 200, "the environment's preset"
    assert set(told["versions"]) >= {"spikeloop", "torch", "numpy", "gymnasium", "python"}
    best = max(rows(tmp_path / "run")[4:], key=lambda row: float(row["average"]))
    assert told["kept"] == {"episode": int(best["episode"]), "average": float(best["average"])}
    assert facts["summary"]["best_at_episode"] == int(best["episode"])


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(InvalidInputError, match=r"exists and is not empty.*--resume"):
        dqn.main(["--episodes", "1", "-o", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
    file = tmp_path / "precious"
    with pytest.raises(InvalidInputError, match="Cannot make the folder"):
        dqn.main(["--episodes", "1", "-o", str(file)])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--seed", "2"], "has seed=1; it cannot go on with 2"),
        (["--learning-rate", "0.1"], "has learning_rate=0.001; it cannot go on with 0.1"),
        (["-o", "nowhere"], "There is no run to go on with in nowhere"),
    ],
)
def test_what_a_run_cannot_go_on_with(given, message, tmp_path):
    folder = tmp_path / "run"
    dqn.main(["--episodes", "3", "-o", str(folder)])
    with pytest.raises(InvalidInputError, match=message):
        dqn.main(["--resume", "-o", str(folder), *given])
    with pytest.raises(InvalidInputError, match="holds a run of 'dqn', not of 'reinforce'"):
        reinforce.main(["--resume", "-o", str(folder)])


@pytest.mark.parametrize("module", [dqn, reinforce])
def test_a_run_can_be_made_longer_but_not_shorter(module, tmp_path):
    more = ["--average-over", "5", *(["--episodes-per-update", "4"] if module is reinforce else [])]
    module.main(["--episodes", "20", "-o", str(tmp_path / "long"), *more])
    module.main(["--episodes", "10", "-o", str(tmp_path / "short"), *more])
    with pytest.raises(InvalidInputError, match="has episodes=10; it cannot go on with 9; it can only be raised"):
        module.main(["--episodes", "9", "--resume", "-o", str(tmp_path / "short")])
    module.main(["--episodes", "20", "--resume", "-o", str(tmp_path / "short")])
    assert rows(tmp_path / "short") == rows(tmp_path / "long")
    assert models(tmp_path / "short") == models(tmp_path / "long")


def test_a_run_made_longer_and_interrupted_goes_on_to_its_new_end(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    dqn.main(["--episodes", "4", "-o", str(folder)])
    monkeypatch.setattr(runs.Run, "due", lambda run: len(run.rows) == 6)
    monkeypatch.setattr(runs, "draw", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        dqn.main(["--episodes", "9", "--resume", "-o", str(folder)])
    monkeypatch.undo()
    facts = json.loads((folder / "run.json").read_text())
    assert facts["hyperparameters"]["episodes"] == 9
    assert "summary" not in facts
    assert dqn.main(["--resume", "-o", str(folder)])["episodes"] == 9


def test_from_python_a_run_goes_on_with_its_own_settings_alone(tmp_path):
    folder = tmp_path / "run"
    dqn.train(dqn.Settings(output=folder, episodes=3))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InvalidInputError, match=r"has discount=0\.99; it cannot go on with 0\.5"):
        dqn.train(dqn.Settings(output=folder, episodes=3, discount=0.5, resume=True))
    with pytest.raises(InvalidInputError, match="holds a run of 'dqn', not of 'reinforce'"):
        reinforce.train(reinforce.Settings(output=folder, resume=True))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "metrics.csv").write_text("mine")
    with pytest.raises(InvalidInputError, match="There is no run to go on with"):
        dqn.train(dqn.Settings(output=tmp_path / "other", resume=True))
    assert (tmp_path / "other" / "metrics.csv").read_text() == "mine"


@pytest.mark.parametrize(
    "change", [{"rng": "{}"}, {"rng": "no"}, {"memory": {}}, {"policy": 3}, {"steps": "x"}, {"policy": None}]
)
def test_a_checkpoint_that_does_not_fit_is_one_clear_error(change, tmp_path):
    folder = tmp_path / "run"
    dqn.train(dqn.Settings(output=folder, episodes=2))
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    torch.save(state | change, folder / "checkpoint.pt")
    with pytest.raises(NetworkFileError, match=r"cannot go on: its checkpoint\.pt does not fit it"):
        dqn.train(dqn.Settings(output=folder, episodes=4, resume=True))


def test_a_classifier_goes_on_with_its_own_states_alone(tmp_path, states):
    folder = tmp_path / "run"
    settings = classify.Settings(teacher="cartpole", states=states, output=folder, updates=40, log_every=20)
    classify.train(settings)
    np.savez(states, observations=np.ones((10, 4)))
    with pytest.raises(InvalidInputError, match="had another teacher, or other states"):
        classify.main(["--resume", "-o", str(folder)])


def test_another_version_of_a_package_is_told(tmp_path):
    folder = tmp_path / "run"
    dqn.train(dqn.Settings(output=folder, episodes=2))
    facts = json.loads((folder / "run.json").read_text())
    facts["versions"]["numpy"] = "1.0"
    (folder / "run.json").write_text(json.dumps(facts))
    with pytest.warns(UserWarning, match=r"was made with numpy 1\.0, now"):
        dqn.main(["--resume", "-o", str(folder)])


def test_a_diverged_run_ends_and_keeps_its_best_model(tmp_path):
    folder = tmp_path / "run"
    wild = {"learning_rate": 1e6, "clip": 0.0, "batch_size": 4, "average_over": 2, "input_scale": 1e6}
    with pytest.raises(TargetError, match="Training has diverged: the loss is"):
        dqn.train(dqn.Settings(output=folder, episodes=50, max_steps=20, optimiser="rmsprop", **wild))
    for path in folder.glob("best.pt"):
        load_policy(path)  # which refuses NaN


def test_a_damaged_run_is_refused(tmp_path):
    folder = tmp_path / "run"
    dqn.main(["--episodes", "3", "-o", str(folder)])
    (folder / "metrics.csv").write_text("episode\n1\n")
    with pytest.raises(NetworkFileError, match="cannot go on"):
        dqn.main(["--resume", "-o", str(folder)])
    (folder / "checkpoint.pt").write_bytes(b"nothing")
    with pytest.raises(NetworkFileError, match=r"cannot go on: .*checkpoint\.pt is damaged"):
        dqn.main(["--resume", "-o", str(folder)])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this machine has no /dev/full, a disk that is always full")
def test_a_disk_that_fills_ends_a_run_and_keeps_what_was_there(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    dqn.main(["--episodes", "3", "-o", str(folder)])
    before = (folder / "last.pt").read_bytes()
    (folder / "last.pt.partial").symlink_to("/dev/full")
    with pytest.raises(TargetError, match=r"Cannot write .*last\.pt: .*(No space|kept)"):
        dqn.main(["--episodes", "5", "--resume", "-o", str(folder)])
    assert (folder / "last.pt").read_bytes() == before
    dqn.main(["--episodes", "5", "--resume", "-o", str(folder)])
    assert len(rows(folder)) == 5


def test_an_interrupted_run_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(runs.Run, "due", lambda run: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        dqn.main(["--episodes", "3", "-o", str(tmp_path / "run")])
    assert f"--resume -o {tmp_path / 'run'} goes on" in capsys.readouterr().err.replace("\n", "")

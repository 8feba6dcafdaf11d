"""spikeloop train: algorithms with their own options, as a user starts them."""

import json
import signal
import subprocess
import sys
import time

import pytest

torch = pytest.importorskip("torch", reason="training needs torch")


def test_the_algorithms_are_listed(spikeloop):
    result = spikeloop("train", "--help")
    assert result.code == 0
    for name in ("dqn", "dsqn", "reinforce", "classify", "distil"):
        assert name in result.out


def test_options_and_their_presets_are_listed(in_process):
    plain, car = in_process("train", "dqn", "--help"), in_process("train", "dqn", "--help", "--env", "MountainCar-v0")
    assert plain.code == car.code == 0
    assert "--learning-rate FLOAT" in plain.out
    assert "[16 16]" in plain.out
    assert "[64 64]" in car.out
    assert "[mountain-car]" in car.out


def test_from_training_to_a_run(spikeloop, files):
    """Train, convert, run: what comes out of one command goes into the next."""
    result = spikeloop("train", "dqn", "--episodes", 40, "--average-over", 20, "-o", "runs/dqn", "--json", timeout=120)
    assert result.code == 0, result
    assert result.document["episodes"] == 40
    summary = json.loads((files / "runs/dqn/run.json").read_text())["summary"]
    assert result.document == {"folder": "runs/dqn", **summary}
    words = ["convert", "runs/dqn", "--states", "runs/dqn/replay.npz", "--steps", 50, "-o", "dqn.spk"]
    assert spikeloop(*words).code == 0
    told = spikeloop("run", "dqn.spk", "--on", "reference", "--env", "CartPole-v1", "--episodes", 2, "--json")
    assert told.document["agreement"] == 1.0


def test_a_spiking_classifier_from_a_bundled_agent(spikeloop, files):
    result = spikeloop("evaluate", "cartpole", "--env", "CartPole-v1", "--episodes", 2, "--save-states", "s.npz")
    assert result.code == 0, result
    options = ["--spiking", "--updates", 300, "--log-every", 100, "-o", "clf"]
    result = spikeloop("train", "classify", "--teacher", "cartpole", "--states", "s.npz", *options)
    assert result.code == 0, result
    assert "classify: done" in result.out
    assert "CartPole" not in result.err
    assert spikeloop("inspect", "clf/best.spk").code == 0


def test_interrupted_it_says_how_to_go_on(start, spikeloop, files):
    process = start("train", "dqn", "-o", "run", "--episodes", 2000, "--average-over", 2000)
    while not (files / "run/metrics.csv").exists() or len((files / "run/metrics.csv").read_text().splitlines()) < 5:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 130
    assert "--resume -o run goes on" in process.stderr.read()
    assert "it can only be raised" in spikeloop("train", "dqn", "-o", "run", "--resume", "--episodes", 8).refused()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("dqn --env Pendulum-v1 -o new", "needs a Discrete one"),
        ("dqn --env Nothing-v0 -o new", "Gymnasium cannot make environment 'Nothing-v0'"),
        ("dqn --episodes many -o new", "invalid int value: 'many'"),
        ("dqn --speed 3 -o new", "unrecognized arguments: --speed 3"),
        ("dsqn --surrogate steep -o new", "invalid choice: 'steep'"),
        ("reinforce -o folder", "exists and is not empty"),
        ("classify --teacher cartpole --states missing.npz -o new", "missing.npz"),
        ("classify --teacher nobody --states states.npz -o new", "nobody"),
        ("dqn --resume -o new", "There is no run to go on with in new"),
        ("juggle", "No such command 'juggle'"),
    ],
)
def test_refusals(in_process, files, words, message):
    (files / "folder").mkdir(exist_ok=True)
    (files / "folder" / "thing").write_text("")
    assert message in in_process("train", *words.split()).refused()
    assert not (files / "new").exists()


def test_without_torch_it_says_what_to_install(files):
    code = "import sys; sys.modules['torch'] = None; sys.argv = ['spikeloop', 'train', 'dqn']\n"
    code += "from spikeloop.cli.main import main; main()"
    result = subprocess.run([sys.executable, "-c", code], cwd=files, capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    assert 'pip install "spikeloop[training]"' in result.stderr

"""spikeloop evaluate: what it measures, what it writes, what it refuses; and Breakout through every command."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from spikeloop.deploy.twin import training_facts
from spikeloop.hardware_profiles import load_profile
from spikeloop.models import Dense, Network, load, save

CARTPOLE = ("--env", "CartPole-v1")


@pytest.fixture(scope="module", autouse=True)
def _more_files(files):
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    torch.save(module.state_dict(), files / "linear.pt")
    weights = [0.5 * torch.ones(4, 3, dtype=torch.float64), torch.ones(3, 2, dtype=torch.float64)]
    torch.save((weights, [None, None]), files / "tuple.pt")
    rng = np.random.default_rng(0)
    # Always fires, and so loses its five balls soon.
    fires = Network(
        (Dense(rng.normal(0, 1e-3, (6400, 8))), Dense(rng.normal(size=(8, 4)), [0.0, 1e3, 0.0, 0.0])), 10, name="fires"
    )
    save(fires, files / "fires.spk")


def test_what_is_measured(spikeloop, in_process):
    words = ("evaluate", "cartpole", *CARTPOLE, "--episodes", 5, "--seed", 10_000, "--max-steps", 60)
    told = spikeloop(*words, "--compare", "random", "--json").document
    (result,) = told["results"]
    assert result["returns"] == [60.0] * 5
    assert result["mean_interval"] == [60.0, 60.0]
    assert (result["decisions"], result["distinct_episodes"]) == (300, 5)
    low, high = result["agreement_interval"]
    assert low < 0.5 < high
    assert told["compared_with"]["kind"] == "random"
    assert (told["profile"], told["steps"], told["first_seed"]) == ("reference", 10, 10_000)
    shown = in_process(*map(str, words), "--compare", "random")
    assert "60.00  (95 %, Student's t: 60.00 to 60.00)" in shown.out
    assert f"{result['agreed']} of 300; 95 %, Wilson: {100 * low:.2f} to {100 * high:.2f}" in shown.out
    assert shown.err == ""


def test_a_robustness_curve_is_one_command(spikeloop, in_process):
    words = ("evaluate", "cartpole", *CARTPOLE, "--episodes", "6", "--noise", "0,1,20", "--max-steps", "200")
    told = spikeloop(*words, "--json").document
    means = [result["mean_return"] for result in told["results"]]
    assert [result["noise"] for result in told["results"]] == [0.0, 1.0, 20.0]
    assert means[0] == 200.0
    assert means[2] < 100.0
    assert len(told["noise_unit"]) == 4
    rows = [line for line in in_process(*words).out.splitlines() if line.startswith("│")]
    for row, result in zip(rows, told["results"], strict=True):
        shown = [cell.strip() for cell in row.strip("│").split("│")]
        assert shown[:3] == [
            f"{result[name]:{form}}" for name, form in (("noise", "g"), ("mean_return", ".2f"), ("std_return", ".2f"))
        ]


def test_noise_in_the_observations_own_units_and_measured_elsewhere(spikeloop, files):
    words = ("evaluate", "cartpole", *CARTPOLE, "--episodes", 3, "--max-steps", 100, "--json")
    absolute = spikeloop(*words, "--noise", "0.25", "--noise-absolute").document
    assert absolute["noise_unit"] == 1.0
    states = np.random.default_rng(0).choice([-1.0, 1.0], size=(4000, 4))
    states -= states.mean(axis=0)
    np.save(files / "unit.npy", states / states.std(axis=0))
    measured = spikeloop(*words, "--noise", "0.25", "--noise-states", "unit.npy").document
    np.testing.assert_allclose(measured["noise_unit"], 1.0)
    assert measured["results"][0]["returns"] == absolute["results"][0]["returns"]


def test_hidden_values(in_process, files):
    words = ("evaluate", "cartpole", *CARTPOLE, "--episodes", "3", "--occlude", "2,3", "--occlude", "0")
    assert in_process(*words, "--save-states", "hidden.npz").code == 0
    with np.load(files / "hidden.npz") as kept:
        assert not kept["observations"][:, [0, 2, 3]].any()
        assert kept["observations"][:, 1].all()


def test_states_are_kept_for_check(in_process, files):
    words = ("evaluate", "small.spk", *CARTPOLE, "--episodes", "4", "--save-states", "kept.npz")
    shown = in_process(*words)
    assert shown.code == 0
    with np.load(files / "kept.npz") as kept:
        observations, actions = kept["observations"], kept["actions"]
    assert (observations.dtype, observations.shape) == (np.float32, (len(actions), 4))
    assert f"kept.npz: {len(actions)} states" in shown.out
    checked = in_process("check", "small.spk", "--on", "reference", "--observations", "kept.npz")
    assert f"{len(actions)} observations" in checked.out
    before = (files / "kept.npz").read_bytes()
    assert "kept.npz exists: give another name, or --force" in in_process(*words).refused(2)
    assert (files / "kept.npz").read_bytes() == before
    assert in_process(*words, "--force").code == 0


def test_a_target_plays_as_the_reference_does(in_process):
    words = ("evaluate", "small.spk", *CARTPOLE, "--episodes", "3", "--encoder", "poisson", "--two-neurons")
    there, here = (in_process(*words, "--on", profile) for profile in ("nest-exact", "reference"))
    assert there.code == 0
    assert there.out == here.out


def test_conventional_networks_and_the_thesis_files(in_process):
    result = in_process("evaluate", "linear.pt", *CARTPOLE, "--episodes", "2", "--compare", "linear.pt")
    assert "agreement with linear   100.00 %" in result.out
    assert "mean return" in in_process("evaluate", "tuple.pt", *CARTPOLE, "--episodes", "2", "--steps", "7").out


def test_episodes_that_repeat_are_told(in_process):
    words = ("evaluate", "fires.spk", "--env", "spikeloop/BreakoutPatel-v0", "--episodes", 3, "--max-steps", 8)
    result = in_process(*map(str, words))
    assert result.code == 0
    assert result.err.startswith("warning: only 1 of 3 episodes differ")


def test_without_torch_a_spiking_network_is_evaluated(files):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from spikeloop.cli.main import main\n"
        "sys.argv = ['spikeloop', 'evaluate', 'small.spk', '--env', 'CartPole-v1', '--episodes', '1']\n"
        "main()\n"
    )
    (files / "without_torch.py").write_text(code, encoding="utf-8")
    result = subprocess.run([sys.executable, "without_torch.py"], cwd=files, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
    assert "mean return" in result.stdout


def test_interrupted_it_prints_nothing_half(start):
    process = start("evaluate", "cartpole", *CARTPOLE, "--episodes", 3000, "--save-states", "never.npz", "--json")
    time.sleep(2.5)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert json.loads(out)["error"]["exit_code"] == 130


CASES = {
    "continuous": ("cartpole --env Pendulum-v1", "has the action space Box"),
    "another shape": ("car.spk --env CartPole-v1", "'CartPole-v1' has 2 actions, the network decides between 3"),
    "other inputs": ("car.spk --env Acrobot-v1", "observes 6 values (shape (6,)), the network reads 2"),
    "conventional, other inputs": ("linear.pt --env LunarLander-v99", "Gymnasium cannot make environment"),
    "compared with another shape": ("cartpole --env CartPole-v1 --compare car.spk", "the network decides between 3"),
    "no such file": ("nothing.pt --env CartPole-v1", "no file or bundled agent 'nothing.pt'"),
    "not what it claims": ("foreign.spk --env CartPole-v1", "foreign.spk is no Spikeloop network file"),
    "truncated": ("truncated.spk --env CartPole-v1", "damaged or truncated"),
    "a folder": ("folder --env CartPole-v1", "folder is a folder with none of best.spk"),
    "no episodes": ("cartpole --env CartPole-v1 --episodes 0", "Invalid value for '--episodes'"),
    "no steps": ("cartpole --env CartPole-v1 --max-steps 0", "Invalid value for '--max-steps'"),
    "epsilon": ("cartpole --env CartPole-v1 --epsilon 1.5", "Invalid value for '--epsilon'"),
    "noise nan": ("cartpole --env CartPole-v1 --noise nan", "--noise nan was given; it must be a finite number"),
    "noise below 0": ("cartpole --env CartPole-v1 --noise 0.1,-1", "--noise -1 was given"),
    "noise is a word": ("cartpole --env CartPole-v1 --noise much", "numbers with commas between them are needed"),
    "noise twice told": (
        "cartpole --env CartPole-v1 --noise 1 --noise-absolute --noise-states states.npy",
        "with --noise-absolute it has no use",
    ),
    "noise of other states": (
        "cartpole --env CartPole-v1 --noise 1 --noise-states wide.npy",
        "of shape (3, 5); environment 'CartPole-v1' needs [n, 4]",
    ),
    "hidden outside": ("cartpole --env CartPole-v1 --occlude 4", "the observation has the values 0 to 3"),
    "hidden is a word": ("cartpole --env CartPole-v1 --occlude x", "whole numbers with commas"),
    "hidden outside of an image": (
        "fires.spk --env spikeloop/BreakoutPatel-v0 --occlude 70,0,20,10",
        "must lie within the image, which is 80 pixels wide and 80 high",
    ),
    "unknown encoder": ("cartpole --env CartPole-v1 --encoder morse", "'morse' was given"),
    "unknown decoder": ("cartpole --env CartPole-v1 --decoder loudest", "'loudest' was given"),
    "gain of currents": ("cartpole --env CartPole-v1 --gain 2", "constant currents have none"),
    "steps of a conventional one": ("linear.pt --env CartPole-v1 --steps 5", "--steps is for a spiking network"),
    "no steps of a torch file": ("tuple.pt --env CartPole-v1", "give --steps N"),
    "no such architecture": ("linear.pt --env CartPole-v1 --architecture mnhi", "Did you mean mnih"),
    "no such profile": ("cartpole --env CartPole-v1 --on nest-exat", "Did you mean nest-exact"),
    "states nowhere": ("cartpole --env CartPole-v1 --save-states no/where.npz", "a file in a folder that exists"),
    "states of two": ("cartpole --env CartPole-v1 --noise 0,1 --save-states two.npz", "the states of one --noise"),
    "unknown game": ("cartpole --env spikeloop/Breakout-v0", "cannot make environment 'spikeloop/Breakout-v0'"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_gets_one_line(in_process, case):
    words, message = CASES[case]
    result = in_process("evaluate", *words.split())
    assert message in result.refused(2)
    assert result.out == ""


def test_breakout_runs_over_the_bridge(spikeloop):
    words = ("--env", "spikeloop/BreakoutPatel-v0", "--episodes", 1, "--seed", 1, "--json")
    told = spikeloop("run", "fires.spk", "--on", "nest-exact", *words).document
    assert told["agreement"] == 1.0
    assert told["episodes"][0]["outcome"] == "terminated"
    assert told["decisions"] > 50


def test_breakout_is_driven_against_a_host(spikeloop, start):
    host = start("serve", "fires.spk", "--on", "reference", "--bind", "tcp://127.0.0.1:*", "--json")
    address = json.loads(host.stdout.readline())["address"]
    words = ("drive", "--connect", address, "--env", "spikeloop/BreakoutPatel-v0", "--episodes", 1, "--json")
    assert spikeloop(*words, "--reference", "fires.spk").document["agreement"] == 1.0


def test_noise_in_the_units_of_observations_that_do_not_differ_is_refused(in_process, files):
    np.savez(files / "same.npz", observations=np.ones((5, 4)))
    words = ["evaluate", "cartpole", "--env", "CartPole-v1", "--noise", "0.1", "--noise-states", "same.npz"]
    assert "5 observations that do not differ" in in_process(*words).refused()


def test_a_network_trained_for_another_target_is_told_of(in_process, files):
    facts = training_facts(load_profile("nest-iaf_psc_delta"))
    save(replace(load("cartpole"), provenance={"trained_for": facts}), files / "elsewhere.spk")
    words = ["evaluate", "elsewhere.spk", "--env", "CartPole-v1", "--episodes", "1"]
    assert "trained under the dynamics of 'nest-iaf_psc_delta'" in in_process(*words).err
    assert "trained under" not in in_process(*words, "--on", "nest-iaf_psc_delta", "--max-steps", "5").err
    assert "trained under" not in in_process(*[*words[:1], "cartpole", *words[2:]]).err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this machine has no /dev/full, a disk that is always full")
def test_states_that_cannot_be_kept_lose_no_results(spikeloop, files):
    (files / "full.npz.partial").symlink_to("/dev/full")
    words = ["evaluate", "cartpole", "--env", "CartPole-v1", "--episodes", 1, "--max-steps", 600, "--save-states"]
    told = spikeloop(*words, "full.npz", "--json")
    assert told.code == 1
    assert told.document["results"][0]["mean_return"] == 500.0
    assert "Cannot write full.npz" in told.document["states"]
    (files / "full.npz.partial").symlink_to("/dev/full")
    told = spikeloop(*words, "full.npz")
    assert "500" in told.out
    assert "Cannot write full.npz" in told.err

"""What each command prints, for people and with --json."""

import json

import numpy as np
import pytest
from spikeloop import __version__
from spikeloop.cli.main import app
from spikeloop.hardware_profiles import profiles
from spikeloop.models import bundled, load
from typer.testing import CliRunner

COMMANDS = ["agents", "profiles", "inspect", "import", "plan", "run", "serve", "drive", "check"]


def test_the_help_page_lists_every_command(spikeloop):
    result = spikeloop("--help")
    assert result.code == 0
    assert all(f" {command} " in result.out for command in COMMANDS)
    assert spikeloop("-h").out == spikeloop().out == result.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_page(command):
    result = CliRunner().invoke(app, [command, "--help"], prog_name="spikeloop", env={"COLUMNS": "100"})
    assert result.exit_code == 0
    assert f"Usage: spikeloop {command}" in result.output
    assert "--json" in result.output
    assert "until-stdin-closes" not in result.output


def test_the_version(spikeloop):
    result = spikeloop("--version")
    assert (result.code, result.out) == (0, f"spikeloop {__version__}\n")


def test_agents(spikeloop):
    document = spikeloop("agents", "--json").document
    assert {agent["name"] for agent in document} == set(bundled())
    assert {agent["hash"] for agent in document} == {load(name).content_hash for name in bundled()}
    result = spikeloop("agents")
    assert result.code == 0
    assert all(agent["hash"][:12] in result.out for agent in document)


def test_profiles(spikeloop):
    document = spikeloop("profiles", "--json").document
    assert [profile["name"] for profile in document] == list(profiles())
    one = spikeloop("profiles", "nest-iaf_psc_delta", "--json").document
    assert one in document
    assert one["time"]["resolution_ms"] == 0.1
    assert "resolution_ms" in spikeloop("profiles", "nest-iaf_psc_delta").out


def test_inspect_a_network(spikeloop, files):
    network = load(files / "poisson.spk")
    document = spikeloop("inspect", "poisson.spk", "--json").document
    assert document["hash"] == network.content_hash
    assert (document["n_inputs"], document["n_channels"], document["sizes"]) == (2, 4, [6, 3])
    assert document["encoder"] == {"kind": "poisson", "two_neurons": True, "constant_one": False, "gain": 1.0}
    text = spikeloop("inspect", "poisson.spk").out
    assert "2-6-3" in text
    assert "poisson, two_neurons" in text
    assert network.content_hash in text


def test_inspect_shows_where_an_agent_comes_from_in_lines_that_can_be_read(in_process):
    evaluation = load("cartpole").provenance["evaluation"]
    result = in_process("inspect", "cartpole")
    assert result.code == 0
    shown = dict(line.split(maxsplit=1) for line in result.out.splitlines() if line.startswith("  evaluation."))
    assert shown["evaluation.env"] == "CartPole-v1"
    assert shown["evaluation.mean_return"] == str(evaluation["mean_return"])
    assert shown["evaluation.returns"].endswith(" ...")
    assert max(len(line) for line in result.out.splitlines()) < 220


def test_import(spikeloop, files):
    torch = pytest.importorskip("torch", reason="importing needs torch")
    torch.save(([torch.eye(5)[:, :3], torch.ones(3, 2)], [None, None]), files / "dsqn.pt")
    words = "import dsqn.pt --kind dsqn --steps 20 --constant-one --reset zero --threshold 0.5 --name mine -o mine.spk"
    document = spikeloop(*words.split(), "--json").document
    network = load(files / "mine.spk")
    assert document["file"] == "mine.spk"
    assert document["hash"] == network.content_hash
    assert (network.name, network.steps, network.n_inputs, network.sizes) == ("mine", 20, 4, (3, 2))
    assert (network.neuron.reset, network.neuron.threshold, network.encoder.constant_one) == ("zero", 0.5, True)
    np.testing.assert_array_equal(network.layers[0].weights, np.eye(5)[:, :3])


def test_convolutions_are_told_in_words_and_counted(spikeloop):
    form = "conv2d 2x2x2 stride 2, 1x4x4 -> 2x2x2"
    document = spikeloop("inspect", "convolutional.spk", "--json").document
    assert (document["n_channels"], document["sizes"], document["layers"]) == (16, [8, 3], [form, "8 x 3"])
    assert form in spikeloop("inspect", "convolutional.spk").out
    document = spikeloop("plan", "convolutional.spk", "--on", "nest-exact", "--json").document
    assert [(p["form"], p["synapses"]) for p in document["projections"]] == [(form, 32), ("8 x 3", 24)]
    for profile, one_to_one in (("reference", False), ("nest-exact", False), ("nest-iaf_psc_delta", True)):
        text = spikeloop("plan", "convolutional.spk", "--on", profile).out
        assert form in text
        assert ("one to one" in text) is one_to_one


@pytest.mark.parametrize("profile", ["reference", "nest-exact", "nest-iaf_psc_delta", "nest-pp_psc_delta"])
def test_plan_with_json(spikeloop, profile):
    document = spikeloop("plan", "small.spk", "--on", profile, "--json").document
    assert document["profile"] == profile
    assert document["neurons"] == 10
    assert document["exact"] is (profile in ("reference", "nest-exact"))
    names = {population["name"] for population in document["populations"]}
    assert {projection["source"] for projection in document["projections"]} <= names


def test_the_plan_of_a_decision_circuit_says_what_it_takes(spikeloop):
    words = ("plan", "cartpole-spinnaker", "--on", "spinnaker-twin")
    document = spikeloop(*words, "--json").document
    assert (document["target"], document["exact"], document["findings"]) == ("spinnaker-twin", False, [])
    assert {"cores", "latency", "delay slots", "range used", "busiest tick", "copies"} <= document["takes"].keys()
    assert document["takes"]["delay slots"] == max(p["last_delay_ms"] for p in document["projections"])
    assert document["neurons"] == sum(p["size"] for p in document["populations"] if p["role"] == "neurons")
    energy = document["energy_per_decision"]
    assert 0 < energy["joules"] < 1
    text = spikeloop(*words, "--set", "timing=free-running").out
    assert "gates" in text
    assert "latency" in text


def test_plan_shows_what_was_set(spikeloop):
    result = spikeloop("plan", "small.spk", "--on", "nest-iaf_psc_delta", "--set", "t_ref=3", "--set", "V_th=2.5")
    assert result.code == 0
    assert "t_ref=3" in result.out
    assert "V_th=2.5" in result.out
    assert "warning: The network was trained with reset=subtract" in result.out


def test_what_an_environment_prints_does_not_spoil_the_document(spikeloop, files):
    (files / "chatty.py").write_text(
        "import os, sys, warnings\n"
        "print('hello from the pygame community')\n"
        "os.write(1, b'and from C\\n')\n"
        "warnings.warn('old\\nstyle')\n",
        encoding="utf-8",
    )
    words = ("run", "small.spk", "--on", "reference", "--env", "chatty:CartPole-v1", "--episodes", "1", "--in-process")
    result = spikeloop(*words, "--json", PYTHONPATH=str(files))
    assert result.code == 0
    assert result.document["decisions"] > 0
    assert "hello from the pygame community\n" in result.err
    assert "and from C\n" in result.err
    assert "warning: old style\n" in result.err
    json.loads(result.out)


def test_an_environment_that_fails_ends_the_run_and_the_trace_is_kept(spikeloop, files):
    (files / "breaking.py").write_text(
        "import gymnasium\n"
        "from gymnasium.envs.classic_control import CartPoleEnv\n"
        "class Breaking(CartPoleEnv):\n"
        "    steps = 0\n"
        "    def step(self, action):\n"
        "        self.steps += 1\n"
        "        if self.steps == 4:\n"
        "            raise ZeroDivisionError('the pole\\nbroke')\n"
        "        return super().step(action)\n"
        "gymnasium.register('Breaking-v0', entry_point=Breaking)\n",
        encoding="utf-8",
    )
    words = ("run", "small.spk", "--on", "reference", "--env", "breaking:Breaking-v0", "--trace", "breaking.db")
    result = spikeloop(*words, "--in-process", PYTHONPATH=str(files))
    assert "failed in step(): ZeroDivisionError: the pole broke." in result.refused(1)
    document = spikeloop("inspect", "breaking.db", "--json").document
    assert document["decisions"] == 4
    assert document["episodes"] == [{"episode": 0, "seed": 0, "return": 3.0, "length": 3, "outcome": "interrupted"}]

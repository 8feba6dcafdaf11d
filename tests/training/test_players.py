"""Who plays: what a source is taken for, and that a spiking network plays as its agent does."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from spikeloop.bridges.environments import GymnasiumEnvironment
from spikeloop.errors import InvalidInputError, NetworkFileError, UnknownNameError
from spikeloop.models import Decoder, Encoder, load, save
from spikeloop.runtime import launch
from spikeloop.runtime.loop import run_episodes
from spikeloop.training.episodes import Moment, play
from spikeloop.training.players import Encoding, open_player


def moment(n=6, seed=0):
    return Moment(np.random.default_rng(seed).normal(size=(n, 4)), np.arange(n), np.zeros(n, dtype=np.int64))


@pytest.fixture
def network(make_network):
    return make_network((4, 12, 2), name="small")


@pytest.fixture
def spk(tmp_path, network):
    save(network, tmp_path / "small.spk")
    return str(tmp_path / "small.spk")


@pytest.fixture
def tuple_file(tmp_path, network):
    """As the thesis keeps spiking networks: (weights, biases)."""
    weights = [torch.from_numpy(layer.weights.copy()) for layer in network.layers]
    biases = [torch.from_numpy(layer.bias.copy()) for layer in network.layers]
    torch.save((weights, biases), tmp_path / "tuple.pt")
    return str(tmp_path / "tuple.pt")


@pytest.fixture
def linear_file(tmp_path):
    torch.manual_seed(1)
    module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    torch.save(module.state_dict(), tmp_path / "linear.pt")
    return str(tmp_path / "linear.pt"), module


@pytest.mark.parametrize("kind", ["current", "poisson", "equidistant"])
@pytest.mark.parametrize("side_by_side", [None, 1])
def test_a_spiking_network_plays_as_its_agent_does_in_the_loop(spk, network, kind, side_by_side):
    fed = Encoding(encoder=kind, two_neurons=True, gain=None if kind == "current" else 2.0, steps=15)
    with open_player(spk, 2, encoding=fed) as player:
        ran = play("CartPole-v1", player.decide, 4, 30, side_by_side=side_by_side)
    env = GymnasiumEnvironment("CartPole-v1", n_inputs=4, n_actions=2)
    with env, launch(fed.applied(network)) as agent:
        expected = run_episodes(env, agent, episodes=4, seed=30)
    assert ran.returns.tolist() == expected.returns


def test_a_negative_part_of_its_own_changes_nothing_for_currents(spk):
    with open_player(spk, 2) as plain, open_player(spk, 2, encoding=Encoding(two_neurons=True)) as doubled:
        assert plain.decide(moment(50)).tolist() == doubled.decide(moment(50)).tolist()
        assert doubled.facts["encoder"]["two_neurons"]


def test_what_is_given_takes_the_place_of_the_networks_own(network):
    fed = Encoding("equidistant", True, 0.5, "spike_count", 33).applied(network)
    assert fed.encoder == Encoder("equidistant", True, False, 0.5)
    assert (fed.decoder, fed.steps, fed.n_inputs, fed.n_channels) == (Decoder("spike_count"), 33, 4, 8)
    np.testing.assert_array_equal(fed.layers[0].weights[4:], -network.layers[0].weights)
    assert Encoding(two_neurons=True).applied(fed).layers == fed.layers
    assert Encoding().applied(network).content_hash == network.content_hash


def test_the_constant_channel_has_no_negative(make_network):
    network = make_network((3, 5, 2), encoder=Encoder(constant_one=True))
    fed = Encoding("poisson", True).applied(network)
    weights = network.layers[0].weights
    np.testing.assert_array_equal(fed.layers[0].weights, np.concatenate([weights[:3], -weights[:3], weights[3:]]))


def test_a_torch_file_of_a_spiking_network(tuple_file, network):
    with open_player(tuple_file, 2, encoding=Encoding(steps=10)) as player, launch(network) as agent:
        assert player.facts["network_hash"] == network.content_hash
        assert player.decide(moment()).tolist() == agent.act(moment().observations).tolist()
    with open_player(tuple_file, 2, encoding=Encoding(steps=10), constant_one=True) as player:
        assert player.n_inputs == 3
    with open_player(tuple_file, 2, encoding=Encoding("poisson", True, steps=10)) as player:
        assert player.n_inputs == 4


def test_a_conventional_network(linear_file):
    path, module = linear_file
    with open_player(path, 2) as player:
        expected = module(torch.from_numpy(moment(40).observations).float()).argmax(1)
        assert player.decide(moment(40)).tolist() == expected.tolist()
        assert (player.n_inputs, player.n_actions, player.facts["kind"]) == (4, 2, "conventional")


def test_a_bundled_agent_and_a_target():
    with open_player("cartpole", 2, profile="nest-exact") as player, open_player("cartpole", 2) as reference:
        assert (player.facts["profile"], player.side_by_side, reference.side_by_side) == ("nest-exact", 1, None)
        assert player.decide(moment()).tolist() == reference.decide(moment()).tolist()


def test_chance():
    with open_player("random", 3) as player:
        drawn = player.decide(moment(3000))
        assert (np.bincount(drawn) > 900).all()
        assert drawn.tolist() == player.decide(moment(3000)).tolist()


def test_a_training_runs_folder_stands_for_its_best(tmp_path, linear_file, network):
    folder = tmp_path / "run"
    folder.mkdir()
    with pytest.raises(NetworkFileError, match=r"a folder with none of best.spk, best.pt, last.spk, last.pt"):
        open_player(str(folder), 2).__enter__()
    for name, hidden in (("last.spk", 3), ("best.spk", 4)):
        save(replace(network, steps=hidden), folder / name)
        with open_player(str(folder), 2) as player:
            assert player.facts["steps"] == hidden
    for path in folder.iterdir():
        path.unlink()
    for name in ("last.pt", "best.pt"):
        torch.save(linear_file[1].state_dict(), folder / name)
        with open_player(str(folder), 2) as player:
            assert player.facts["file"] == str(folder / name)


@pytest.mark.parametrize(
    ("source", "options", "kind", "message"),
    [
        (
            "linear",
            {"encoding": Encoding(steps=5)},
            InvalidInputError,
            "--steps is for a spiking network; '.*conventio",
        ),
        ("linear", {"profile": "nest-exact"}, InvalidInputError, "--on is for a spiking network"),
        ("linear", {"constant_one": True}, InvalidInputError, "--constant-one is for a torch file of a spiking"),
        ("spk", {"constant_one": True}, InvalidInputError, "is a network file: leave it out"),
        ("spk", {"architecture": "mnih"}, InvalidInputError, "--architecture is for a conventional network's"),
        ("spk", {"encoding": Encoding(gain=2.0)}, InvalidInputError, "constant currents have none"),
        ("spk", {"encoding": Encoding("morse")}, InvalidInputError, "'morse' was given; it must be one of current"),
        ("spk", {"encoding": Encoding(decoder="loudest")}, InvalidInputError, "'loudest' was given"),
        ("spk", {"encoding": Encoding(steps=0)}, InvalidInputError, "steps is 0"),
        ("tuple", {}, InvalidInputError, "give --steps N"),
        ("random", {"encoding": Encoding(two_neurons=True)}, InvalidInputError, "--two-neurons is for a spiking"),
        ("nothing.spk", {}, UnknownNameError, "no file or bundled agent 'nothing.spk'"),
        ("hello.spk", {}, NetworkFileError, "no Spikeloop network file"),
        ("hello.pt", {}, NetworkFileError, "damaged, truncated"),
    ],
)
def test_what_does_not_go(tmp_path, spk, tuple_file, linear_file, source, options, kind, message):
    (tmp_path / "hello.spk").write_text("hello\n")
    (tmp_path / "hello.pt").write_bytes(b"PK\x03\x04hello")
    names = {"linear": linear_file[0], "spk": spk, "tuple": tuple_file}
    known = names.get(source) or (str(tmp_path / source) if source.startswith("hello") else source)
    with pytest.raises(kind, match=message):
        open_player(known, 2, **options).__enter__()


def test_an_encoder_that_cannot_fill_the_channels(tmp_path, make_network):
    save(make_network((2, 3), encoder=Encoder(two_neurons=True)), tmp_path / "odd.spk")
    network = load(tmp_path / "odd.spk")
    weights = torch.from_numpy(network.layers[0].weights[:1].copy())
    torch.save(([weights], [None]), tmp_path / "one.pt")
    with pytest.raises(NetworkFileError, match=r"has 1 inputs, which an encoder with .* cannot fill"):
        open_player(str(tmp_path / "one.pt"), 3, encoding=Encoding(steps=5), constant_one=True).__enter__()

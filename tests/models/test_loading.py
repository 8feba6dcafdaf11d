"""One way in: bundled agents by name, files by path."""

import pytest
from spikeloop.errors import InvalidInputError, NetworkFileError, UnknownNameError
from spikeloop.models import bundled, load, save


def test_a_network_file_is_loaded_by_path_or_text(make_network, tmp_path):
    path = tmp_path / "agent.spk"
    save(make_network(name="mine"), path)
    assert load(path).name == load(str(path)).name == "mine"


def test_the_bundled_agents_load_by_name_and_are_what_the_readme_says():
    agents = bundled()
    assert set(agents) == {"cartpole", "cartpole-spinnaker", "mountaincar", "mountaincar-spinnaker"}
    for name in agents:
        network = load(name)
        assert network.name == name
        assert network.steps <= 20
        sizes = (4, 2) if name.startswith("cartpole") else (2, 3)
        assert (network.n_inputs, network.n_outputs) == sizes


def test_an_unknown_name_lists_the_closest_ones(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UnknownNameError, match=r"no file or bundled agent 'cartpol'\. Did you mean cartpole or cartpole-spinnaker"
    ):
        load("cartpol")
    with pytest.raises(
        UnknownNameError, match=r"no file or bundled agent 'agent\.spk'\. Known: cartpole, cartpole-spinnaker, mount"
    ):
        load("agent.spk")
    with pytest.raises(KeyError):
        load("cartpol")


@pytest.mark.parametrize("name", ["", "a" * 5000, "nul\0byte", "no/such/agent.spk"])
def test_names_that_no_file_can_have_are_unknown(name):
    with pytest.raises(UnknownNameError, match="no file or bundled agent"):
        load(name)


def test_what_is_no_regular_file_is_not_read(tmp_path):
    with pytest.raises(NetworkFileError, match="no regular file"):
        load(tmp_path)
    with pytest.raises(NetworkFileError, match="no regular file"):
        load("/dev/zero")  # which never ends


def test_a_file_far_too_large_is_not_read(tmp_path):
    path = tmp_path / "agent.spk"
    with path.open("wb") as file:
        file.truncate(3 << 30)  # sparse: takes no space
    with pytest.raises(NetworkFileError, match="has 3221225472 bytes; at most"):
        load(path)


def test_a_network_file_takes_no_import_options(make_network, tmp_path):
    save(make_network(), tmp_path / "agent.spk")
    with pytest.raises(InvalidInputError, match="takes no import options; given: steps"):
        load(tmp_path / "agent.spk", steps=5)

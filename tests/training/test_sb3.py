"""Agents of Stable-Baselines3: they decide as they did there; what cannot be read is refused; nothing is unpickled."""

import base64
import io
import json
import os
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from spikeloop.errors import NetworkFileError  # noqa: E402
from spikeloop.training import sb3  # noqa: E402
from spikeloop.training.policy import load_policy  # noqa: E402

torch.set_num_threads(1)
DATA = Path(__file__).parent / "data"


def arrays(path):
    """What a file holds, with the file closed."""
    with np.load(path) as content:
        return dict(content)


AGENTS = {  # sizes of the layers, the activation function between them, and the algorithm
    "dqn": ((4, 16, 16, 2), "relu", "DQN"),
    "ppo_relu": ((4, 16, 16, 2), "relu", "PPO"),
    "ppo_tanh": ((4, 16, 2), "tanh", "PPO"),
    "a2c_relu": ((4, 16, 8, 2), "relu", "A2C"),
}


def entries_of(name):
    with zipfile.ZipFile(DATA / f"{name}.zip") as archive:
        return {entry: archive.read(entry) for entry in archive.namelist()}


def state_of(name):
    return torch.load(io.BytesIO(entries_of(name)["policy.pth"]), weights_only=True)


def about(name):
    return json.loads(entries_of(name)["data"])


def saved(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def zipped(entries, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def write(tmp_path):
    """Writes an agent with another `state`, other `data` (values, or bytes), other entries, or `without` some."""

    def make(name="ppo_relu", *, state=None, data=None, without=(), **others):
        entries = entries_of(name)
        if state is not None:
            entries["policy.pth"] = saved(state)
        if data is not None:
            entries["data"] = data if isinstance(data, bytes) else json.dumps(about(name) | data).encode()
        entries |= {key.replace("policy_pth", "policy.pth"): value for key, value in others.items()}
        path = tmp_path / "agent.zip"
        path.write_bytes(zipped({key: value for key, value in entries.items() if key not in without}))
        return path

    return make


def refusal(path):
    """What `load_policy` says, in one line."""
    with pytest.raises(NetworkFileError) as caught:
        load_policy(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 500
    return message


# --- what can be read -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", AGENTS)
def test_an_agent_decides_as_stable_baselines3_says(name):
    policy = load_policy(DATA / f"{name}.zip")
    expected = arrays(DATA / f"{name}.npz")
    assert set(expected["actions"].tolist()) == {0, 1}
    np.testing.assert_array_equal(policy.actions(expected["observations"]), expected["actions"])
    # Logits are told there less their logarithmic sum, so that only their differences can be compared.
    found = np.diff(policy.values(expected["observations"]))
    np.testing.assert_allclose(found, np.diff(expected["values"]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", AGENTS)
def test_an_agent_tells_its_layers_and_where_it_comes_from(name):
    sizes, activation, algorithm = AGENTS[name]
    policy = load_policy(DATA / f"{name}.zip")
    layers = policy.architecture.layers
    assert (policy.n_inputs, *(layer.outputs for layer in layers[::2])) == sizes
    assert [layer.kind for layer in layers[1::2]] == [activation] * (len(sizes) - 2)
    assert policy.provenance == {
        "algorithm": f"{algorithm} (Stable-Baselines3)",
        "imported_from": f"{name}.zip",
        "stable_baselines3": "2.9.2",
    }
    assert (policy.name, policy.n_actions, len(policy.sha256)) == (name, 2, 64)


@pytest.mark.parametrize(
    ("name", "options", "activation"),
    [
        ("ppo_relu", {}, "tanh"),
        ("a2c_relu", {}, "tanh"),
        ("dqn", {}, "relu"),
        ("ppo_relu", {"activation_fn": "<class 'torch.nn.modules.activation.Tanh'>"}, "tanh"),
        ("ppo_tanh", {"activation_fn": {":type:": "<class 'torch.nn.modules.activation.ReLU'>"}}, "relu"),
        ("dqn", {"activation_fn": "<class 'torch.nn.modules.activation.Tanh'>"}, "tanh"),
    ],
)
def test_the_activation_function_is_the_one_stated_else_the_algorithms(name, options, activation, write):
    policy = load_policy(write(name, data={"policy_kwargs": options}))
    assert {layer.kind for layer in policy.architecture.layers[1::2]} == {activation}


def test_layers_that_policy_and_values_share_come_first(write):
    """As Stable-Baselines3 before 1.8 made them."""
    state = {
        name.replace("policy_net.0", "shared_net.0").replace("policy_net.2", "policy_net.0"): values
        for name, values in state_of("ppo_relu").items()
    }
    expected = arrays(DATA / "ppo_relu.npz")
    policy = load_policy(write(state=state))
    assert len(policy.architecture.layers) == 5
    np.testing.assert_array_equal(policy.actions(expected["observations"]), expected["actions"])


def test_layers_are_in_the_order_of_their_numbers(write):
    eye, state = torch.eye(4), state_of("ppo_relu")
    others = {name: values for name, values in state.items() if not name.startswith("mlp_extractor.policy_net")}
    hidden = {}
    for number in (10, 8, 6, 4, 2, 0):  # 10 is the last, though its text sorts before 2
        hidden[f"mlp_extractor.policy_net.{number}.weight"] = eye * (number + 1)
        hidden[f"mlp_extractor.policy_net.{number}.bias"] = torch.zeros(4)
    others |= {"action_net.weight": torch.ones(2, 4), "action_net.bias": torch.zeros(2)}
    policy = load_policy(write(state=others | hidden))
    first = [child.weight[0, 0].item() for child in policy.module if isinstance(child, torch.nn.Linear)]
    assert first == [1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 1.0]


def test_an_agent_without_hidden_layers_is_read(write):
    state = {"action_net.weight": torch.ones(2, 4), "action_net.bias": torch.tensor([1.0, 0.0])}
    assert load_policy(write(state=state)).values(np.full((1, 4), 2.0)).tolist() == [[9.0, 8.0]]


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_read(kind, write):
    state = {name: values.to(kind) for name, values in state_of("dqn").items()}
    found = load_policy(write("dqn", state=state)).module.state_dict()["0.weight"]
    assert torch.equal(found, state["q_net.q_net.0.weight"].float())


def test_a_zip_that_was_compressed_again_is_read(tmp_path):
    (tmp_path / "dqn.zip").write_bytes(zipped(entries_of("dqn"), zipfile.ZIP_DEFLATED))
    assert load_policy(tmp_path / "dqn.zip").n_actions == 2


def test_a_zip_without_its_version_is_read(write):
    path = write(without=["_stable_baselines3_version"])
    assert load_policy(path).provenance["stable_baselines3"] == "unknown"


# --- agents that cannot be read -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "told"),
    [
        ("features_extractor.cnn.0.weight", "CNN policy"),
        ("q_net.features_extractor.cnn.0.weight", "CNN policy"),
        ("log_std", "continuous actions"),
        ("actor.latent_pi.0.weight", "continuous actions"),
        ("lstm_actor.weight_ih_l0", "recurrent"),
        ("quantile_net.quantile_net.0.weight", "QR-DQN"),
        ("features_extractor.linear.0.weight", "feature extractor"),
    ],
)
def test_policies_of_another_kind_are_refused_by_their_arrays(array, told, write):
    message = refusal(write(state=state_of("ppo_relu") | {array: torch.zeros(3)}))
    assert told in message
    assert "DQN, PPO and A2C with the MlpPolicy" in message


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"action_space": {":type:": "<class 'gymnasium.spaces.box.Box'>"}}, "Box space"),
        ({"action_space": {":type:": "<class 'gymnasium.spaces.multi_discrete.MultiDiscrete'>"}}, "MultiDiscrete"),
        ({"action_space": {":type:": "<class 'gymnasium.spaces.discrete.Discrete'>", "start": "1"}}, "begin at 0"),
        ({"observation_space": {":type:": "<class 'gymnasium.spaces.dict.Dict'>"}}, "Dict"),
        ({"observation_space": {":type:": "<class 'gymnasium.spaces.box.Box'>", "_shape": [84, 84, 4]}}, "84"),
        ({"observation_space": {":type:": "<class 'gymnasium.spaces.box.Box'>", "_shape": [4] * 9999}}, "flat"),
        ({"policy_kwargs": {"activation_fn": "<class 'torch.nn.modules.activation.ELU'>"}}, "ELU"),
        ({"policy_kwargs": {"activation_fn": {":serialized:": "A" * 9999}}}, "ReLU or Tanh"),
        ({"policy_kwargs": {"features_extractor_class": "<class '__main__.Mine'>"}}, "Mine"),
    ],
)
def test_agents_that_state_something_else_are_refused(data, told, write):
    assert told in refusal(write(data=data))


@pytest.mark.parametrize(
    "changes",
    [
        {"mlp_extractor.policy_net.2.weight": torch.zeros(16, 15)},
        {"mlp_extractor.policy_net.2.weight": torch.zeros(16)},
        {"mlp_extractor.policy_net.2.weight": torch.zeros(16, 16, 1)},
        {"mlp_extractor.policy_net.2.bias": torch.zeros(15)},
        {"mlp_extractor.policy_net.2.bias": torch.zeros(1)},
        {"mlp_extractor.policy_net.2.bias": torch.zeros(16, 1)},
        {"mlp_extractor.policy_net.2.bias": 5},
        {"mlp_extractor.policy_net.0.weight": torch.zeros(16, 5)},
        {"mlp_extractor.policy_net.0.weight": torch.zeros(16, 0)},
        {"action_net.weight": torch.zeros(0, 16), "action_net.bias": torch.zeros(0)},
        {"action_net.weight": torch.zeros(2, 16, dtype=torch.int64)},
        {"action_net.weight": torch.zeros(2, 16, dtype=torch.complex64)},
        {"action_net.weight": torch.zeros(2, 16, device="meta")},
        {"action_net.weight": torch.zeros(1).expand(10**6, 16), "action_net.bias": torch.zeros(1).expand(10**6)},
        {"action_net.weight": torch.zeros(1).expand(10**9, 16), "action_net.bias": torch.zeros(1).expand(10**9)},
        {"action_net.weight": "text"},
    ],
    ids=lambda changes: " ".join(
        f"{key} {getattr(v, 'dtype', '')} {getattr(v, 'shape', v)}" for key, v in changes.items()
    ),
)
def test_arrays_of_the_wrong_shape_or_kind_are_refused(changes, write):
    refusal(write(state=state_of("ppo_relu") | changes))


@pytest.mark.parametrize(
    "state", [{}, {"value_net.weight": torch.zeros(1, 4)}, [torch.zeros(2, 4)], torch.zeros(2, 4), 5]
)
def test_a_policy_without_layers_is_refused(state, write):
    refusal(write(state=state))
    refusal(write("dqn", state={"q_net.other.weight": torch.zeros(2, 4)}))


@pytest.mark.parametrize("part", ["weight", "bias"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_values_that_are_not_finite_are_refused(value, part, write):
    state = state_of("dqn")
    wrong = state[f"q_net.q_net.2.{part}"].double()
    wrong.view(-1)[3] = value
    assert "NaN or infinite" in refusal(write("dqn", state=state | {f"q_net.q_net.2.{part}": wrong}))


# --- zips that are damaged or hostile -------------------------------------------------------------------------------


def test_a_zip_of_something_else_is_refused(tmp_path):
    path = tmp_path / "photos.zip"
    path.write_bytes(zipped({"a.txt": b"hello"}))
    assert "Stable-Baselines3" in refusal(path)


def test_a_zip_without_data_is_refused(write):
    assert "no entry 'data'" in refusal(write(without=["data"]))


@pytest.mark.parametrize("data", [b"", b"no JSON", b"\xff\xfe\x00", b"[1]", b"5", b"[" * 200_000, b'{"a":' * 200_000])
def test_data_that_is_no_json_document_is_refused(data, write):
    assert "no JSON document" in refusal(write(data=data))


@pytest.mark.parametrize("key", ["observation_space", "action_space", "policy_kwargs"])
@pytest.mark.parametrize("value", [None, 5, "text", [1], {"_shape": 5, ":type:": 5, "activation_fn": None}])
def test_data_that_says_nothing_of_use_is_passed_over(key, value, write):
    assert load_policy(write(data={key: value})).n_actions == 2


@pytest.mark.parametrize("key", ["start", "activation_fn"])
@pytest.mark.parametrize("value", [5, "text", [1], {"a": "b" * 9999}])
def test_data_of_another_type_is_refused(key, value, write):
    refusal(write(data={{"start": "action_space", "activation_fn": "policy_kwargs"}[key]: {key: value}}))


@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04", b"\x80\x02", zipped({"a": b"b"})])
def test_a_policy_that_torch_cannot_read_is_refused(content, write):
    assert "policy.pth" in refusal(write(policy_pth=content))


def test_every_truncation_is_refused(tmp_path):
    data, path = (DATA / "dqn.zip").read_bytes(), tmp_path / "dqn.zip"
    for length in [*range(0, len(data), 53), len(data) - 1]:
        path.write_bytes(data[:length])
        refusal(path)


def test_changed_bytes_never_end_in_an_error_that_is_not_ours(tmp_path):
    data, path, rng = (DATA / "ppo_tanh.zip").read_bytes(), tmp_path / "ppo.zip", np.random.default_rng(0)
    refused = 0
    directory = struct.unpack("<I", data[-6:-2])[0]
    for index in range(400):
        changed = bytearray(data)
        # Half of them where the zip lists its entries: elsewhere its checksums find every change.
        for place in rng.integers(directory if index % 2 else 0, len(data), 2):
            changed[place] = rng.integers(256)
        path.write_bytes(changed)
        try:
            assert np.isfinite(load_policy(path).values(np.zeros((1, 4)))).all()
        except NetworkFileError:
            refused += 1
    assert refused > 100


def peak(call):
    """The most memory (bytes) that Python held while `call` ran."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["data", "policy.pth"])
def test_an_entry_that_claims_too_much_is_refused_unread(name, monkeypatch, tmp_path):
    monkeypatch.setattr(sb3, "MAX_DATA_BYTES", 1 << 20)
    monkeypatch.setattr(sb3, "MAX_POLICY_BYTES", 1 << 20)
    (tmp_path / "bomb.zip").write_bytes(zipped(entries_of("dqn") | {name: b" " * (64 << 20)}, zipfile.ZIP_DEFLATED))
    told = []
    assert peak(lambda: told.append(refusal(tmp_path / "bomb.zip"))) < 8 << 20
    assert f"'{name}' has {64 << 20} bytes; at most" in told[0]


@pytest.mark.parametrize("name", ["data", "policy.pth"])
@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_entry_that_expands_to_more_than_it_claims_takes_no_memory(name, method, tmp_path):
    true, claimed = struct.pack("<I", 64 << 20), struct.pack("<I", 1000)
    bomb = zipped(entries_of("dqn") | {name: b" " * (64 << 20)}, method)
    assert bomb.count(true) == 2  # in front of the entry, and in the directory
    (tmp_path / "bomb.zip").write_bytes(bomb.replace(true, claimed))
    told = []
    assert peak(lambda: told.append(refusal(tmp_path / "bomb.zip"))) < 8 << 20
    assert "damaged" in told[0]


def test_a_compressed_policy_is_refused(write):
    plain = saved({"action_net.weight": torch.zeros(1000, 4000)})
    with zipfile.ZipFile(io.BytesIO(plain)) as archive:
        small = zipped({name: archive.read(name) for name in archive.namelist()}, zipfile.ZIP_DEFLATED)
    assert len(small) < len(plain) / 100
    told = []
    assert peak(lambda: told.append(refusal(write(policy_pth=small)))) < 8 << 20
    assert "compressed" in told[0]


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_nothing_is_unpickled(write, tmp_path):
    trace = tmp_path / "trace"
    evil = Evil(trace)
    pickle.loads(pickle.dumps(evil))
    assert trace.exists()  # as it would, were it run
    trace.rmdir()

    coded = {":serialized:": base64.b64encode(pickle.dumps(evil)).decode()}
    data = {key: value | coded for key, value in about("ppo_relu").items() if isinstance(value, dict)}
    data["policy_kwargs"]["activation_fn"] = {":type:": "<class 'torch.nn.modules.activation.ReLU'>"} | coded
    others = {"policy.optimizer.pth": saved(evil), "pytorch_variables.pth": pickle.dumps(evil)}
    expected = arrays(DATA / "ppo_relu.npz")
    policy = load_policy(write(data=data, **others))
    np.testing.assert_array_equal(policy.actions(expected["observations"]), expected["actions"])
    assert not trace.exists()

    state = state_of("ppo_relu")
    for content in (evil, state | {"evil": evil}, state | {"action_net.bias": evil}):
        for new in (True, False):
            refusal(write(policy_pth=saved(content, _use_new_zipfile_serialization=new)))
    refusal(write(policy_pth=pickle.dumps(evil)))
    refusal(write(data=pickle.dumps(evil)))
    assert not trace.exists()

"""Files of conventional networks: ours and other people's, damaged ones and hostile ones."""

import io
import json
import os
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from spikeloop.errors import InvalidInputError, NetworkFileError, UnknownNameError  # noqa: E402
from spikeloop.tests.training.policies import ARCHITECTURES, agree, observations, policy_of  # noqa: E402
from spikeloop.training.policy import FORMAT, build, load_policy, mlp  # noqa: E402
from torch import nn  # noqa: E402

torch.set_num_threads(1)
LITTLE = 100 << 20  # bytes; each file of the tests that measure memory claims at least 256 MiB


def content_of(like=ARCHITECTURES["relu"], **changes):
    """What a file of ours holds, with some of it changed; None leaves it out."""
    module = build(like)
    content = {
        "format": FORMAT,
        "version": 1,
        "name": "somebody",
        "architecture": like.model_dump_json(),
        "provenance": json.dumps({"seed": 1}),
        "state_dict": module.state_dict(),
    } | changes
    return {key: value for key, value in content.items() if value is not None}


def saved(folder, content):
    path = folder / "model.pt"
    torch.save(content, path)
    return path


def refusal(path, *arguments):
    """What `load_policy` says, in one line."""
    with pytest.raises(NetworkFileError) as caught:
        load_policy(path, *arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


def peak_memory(call):
    """How much more memory (bytes) this process held while `call` ran than before."""

    def told(name):
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.split(f"{name}:")[1].split()[0])

    Path("/proc/self/clear_refs").write_text("5")  # forgets the highest so far
    before = told("VmRSS")
    call()
    return told("VmHWM") - before


def expanded(*shape):
    """An array that claims a shape, of one number in memory."""
    return torch.zeros(1).expand(*shape)


# --- our file -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_policy_that_is_saved_is_the_same_when_loaded(name, tmp_path):
    provenance = {"algorithm": "DQN", "seed": 3, "environment": {"id": "CartPole-v1"}, "returns": [1.5, 2.0]}
    policy = policy_of(ARCHITECTURES[name], **provenance)
    policy.save(tmp_path / "model.pt")
    loaded = load_policy(tmp_path / "model.pt")
    assert loaded.architecture == policy.architecture
    assert (loaded.name, dict(loaded.provenance)) == ("somebody", provenance)
    states = observations(policy)
    for found, expected in zip(loaded.activations(states), policy.activations(states), strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(loaded.actions(states), policy.actions(states))
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_a_file_is_told_by_its_bytes(tmp_path):
    for seed, name in ((0, "a.pt"), (0, "b.pt"), (1, "c.pt")):
        policy_of(ARCHITECTURES["relu"], seed).save(tmp_path / name)
    first, second, third = (load_policy(tmp_path / name).sha256 for name in ("a.pt", "b.pt", "c.pt"))
    assert first == second != third
    assert len(first) == 64


def test_a_run_folder_stands_for_its_best_policy_else_its_last(tmp_path):
    policy_of(ARCHITECTURES["relu"], 0, which="last").save(tmp_path / "last.pt")
    assert load_policy(tmp_path).provenance["which"] == "last"
    policy_of(ARCHITECTURES["relu"], 0, which="best").save(tmp_path / "best.pt")
    assert load_policy(tmp_path).provenance["which"] == "best"
    (tmp_path / "empty").mkdir()
    assert "best.pt" in refusal(tmp_path / "empty")


def test_every_truncation_is_refused(tmp_path):
    path = saved(tmp_path, content_of())
    data = path.read_bytes()
    for length in [*range(0, 64, 7), *range(64, len(data), 97), len(data) - 1]:
        path.write_bytes(data[:length])
        refusal(path)


def test_changed_bytes_never_end_in_an_error_that_is_not_ours(tmp_path):
    path = saved(tmp_path, content_of())
    data, rng = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        changed = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            changed[place] = rng.integers(256)
        path.write_bytes(changed)
        try:
            assert np.isfinite(load_policy(path).values(np.zeros((1, 4)))).all()
        except NetworkFileError:
            refused += 1
    assert refused > 0


@pytest.mark.parametrize("key", ["version", "name", "architecture", "provenance", "state_dict"])
def test_a_file_that_lacks_something_is_refused(key, tmp_path):
    assert "damaged" in refusal(saved(tmp_path, content_of(**{key: None})))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"version": 2}, "pip install -U spikeloop"),
        ({"version": torch.zeros(3)}, "damaged"),
        ({"provenance": "[" * 100_000}, "damaged"),
        ({"provenance": "[1]"}, "damaged"),
        ({"provenance": "no JSON"}, "damaged"),
        ({"architecture": "[" * 100_000}, "damaged"),
        ({"architecture": '{"input_shape": [4], "layers": []}'}, "damaged"),
        ({"architecture": '{"input_shape": [4], "layers": [{"kind": "relu"}]}', "state_dict": {}}, "damaged"),
        ({"architecture": '{"input_shape": [4], "layers": [{"kind": "lstm"}]}'}, "damaged"),
        ({"architecture": 5}, "damaged"),
        ({"architecture": mlp(4, [8, 7], 2).model_dump_json()}, "damaged"),
        ({"state_dict": {}}, "damaged"),
        ({"state_dict": [1, 2]}, "damaged"),
        ({"state_dict": {"0.weight": 1.0}}, "no plain array"),
        ({"state_dict": {"0.weight": torch.zeros(8, 4, dtype=torch.complex64)}}, "no plain array"),
        ({"state_dict": {"0.weight": torch.zeros(8, 4, dtype=torch.int64)}}, "no plain array"),
        ({"state_dict": {"0.weight": torch.zeros(8, 4, device="meta")}}, "no plain array"),
    ],
)
def test_a_file_that_holds_something_else_is_refused(changes, told, tmp_path):
    assert told in refusal(saved(tmp_path, content_of(**changes)))


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16, torch.float8_e4m3fn])
def test_values_that_are_not_finite_are_refused(kind, tmp_path):
    content = content_of()
    for value in (float("nan"), 1e300) if kind == torch.float64 else (float("nan"),):
        state = {name: array.clone() for name, array in content["state_dict"].items()}
        wrong = state["2.weight"].to(torch.float64)
        wrong[0, 0] = value
        for path, arguments in (
            (saved(tmp_path, content | {"state_dict": state | {"2.weight": wrong.to(kind)}}), ()),
            (saved(tmp_path, state | {"2.weight": wrong.to(kind)}), ()),
            (saved(tmp_path, state | {"2.weight": wrong.to(kind)}), (ARCHITECTURES["relu"],)),
        ):
            assert "NaN or infinite" in refusal(path, *arguments)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_read(kind, tmp_path):
    content = content_of()
    state = {name: array.to(kind) for name, array in content["state_dict"].items()}
    path = saved(tmp_path, content | {"state_dict": state})
    found = load_policy(path).module.state_dict()
    assert all(torch.equal(found[name], array.float()) for name, array in state.items())


def test_a_huge_architecture_takes_no_memory(tmp_path):
    huge = mlp(20_000, [30_000, 30_000], 2).model_dump_json()
    path = saved(tmp_path, content_of() | {"architecture": huge})
    assert peak_memory(lambda: refusal(path)) < LITTLE
    beyond = mlp(10**6, [10**6], 10**6).model_dump_json().replace("[1000000]", "[1000000, 1000000, 1000000]")
    refusal(saved(tmp_path, content_of() | {"architecture": beyond}))


@pytest.mark.parametrize("how", ["ours", "state_dict", "with architecture"])
@pytest.mark.parametrize("side", [30_000, 10**6])
def test_arrays_that_claim_more_than_the_file_holds_take_no_memory(how, side, tmp_path):
    architecture = mlp(side, [], side)
    with torch.device("meta"):
        content = content_of(architecture, state_dict={})
    state = {"0.weight": expanded(side, side), "0.bias": torch.zeros(side)}
    path = saved(tmp_path, content | {"state_dict": state} if how == "ours" else state)
    arguments = (architecture,) if how == "with architecture" else ()
    told = []
    assert peak_memory(lambda: told.append(refusal(path, *arguments))) < LITTLE
    assert "more than" in told[0]


def test_a_compressed_file_is_refused_before_it_is_expanded(tmp_path):
    path = saved(tmp_path, {"0.weight": torch.zeros(2, 32 << 20)})
    small = tmp_path / "small.pt"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(small, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target:
        for entry in source.infolist():
            with source.open(entry) as given, target.open(entry.filename, "w") as taken:
                while part := given.read(1 << 24):
                    taken.write(part)
    path.unlink()
    told = []
    assert peak_memory(lambda: told.append(refusal(small))) < LITTLE
    assert "compressed" in told[0]


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_is_never_run(tmp_path):
    evil = Evil(tmp_path / "trace")
    torch.load(saved(tmp_path, {"a": evil}), weights_only=False)
    assert (tmp_path / "trace").exists()  # as it would, were it run
    (tmp_path / "trace").rmdir()
    for content in (evil, {"0.weight": evil}, content_of(provenance=evil), content_of(architecture=evil)):
        for zipped in (True, False):
            torch.save(content, tmp_path / "model.pt", _use_new_zipfile_serialization=zipped)
            assert "mkdir, which is never done" in refusal(tmp_path / "model.pt")
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("name", ["missing.pt", "x" * 5000, "nul\0byte"])
def test_a_file_that_cannot_be_read_is_refused(name, tmp_path):
    with pytest.raises(NetworkFileError, match="Cannot read"):
        load_policy(tmp_path / name)


# --- state_dicts ----------------------------------------------------------------------------------------------------


def test_the_thesis_dqn_decides_as_its_memory_says(thesis):
    folder = thesis / "CartPole-A" / "DQN" / "trained"
    policy = load_policy(folder / "model.pt")
    states, expected = (np.load(folder / f"memory_{name}.npz")["arr_0"] for name in ("inputs", "outputs"))
    assert (states.shape, expected.shape) == ((20000, 4), (20000, 2))
    np.testing.assert_array_equal(policy.actions(states), expected.argmax(axis=1))
    assert set(expected.argmax(axis=1)) == {0, 1}
    assert policy.provenance == {"imported_from": "model.pt"}


@pytest.mark.parametrize("bias", [True, False])
def test_a_state_dict_of_linear_layers_has_relu_between_them(bias, tmp_path):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 8, bias), nn.ReLU(), nn.Linear(8, 3, bias))
    agree(module, load_policy(saved(tmp_path, module.state_dict())), (4,))


@pytest.mark.parametrize(
    "state",
    [
        {"0.weight": torch.zeros(8, 4), "2.weight": torch.zeros(2, 7)},
        {"0.weight": torch.zeros(8, 4), "0.bias": torch.zeros(7)},
        {"0.weight": torch.zeros(8, 4), "0.bias": torch.zeros(1)},
        {"0.weight": torch.zeros(8, 4), "0.bias": torch.zeros(8, 1)},
        {"0.weight": torch.zeros(0, 4)},
        {"0.weight": torch.zeros(4, 0)},
        {"0.weight": torch.zeros(4)},
        {"0.weight": torch.zeros(4, 4).to_sparse()},
        {"0.weight": torch.zeros(4, 4, device="meta")},
        {"0.weight": torch.zeros(4, 4), "0.running_mean": torch.zeros(4)},
        {"0.weight": "text"},
        {"0.bias": torch.zeros(4)},
        {},
        [torch.zeros(4, 4)],
        torch.zeros(4, 4),
        5,
    ],
    ids=lambda state: str(state)[:60].replace("\n", " "),
)
def test_a_state_dict_of_anything_else_is_refused(state, tmp_path):
    with warnings.catch_warnings(action="ignore"):  # torch's, on how it stores sparse arrays
        path = saved(tmp_path, state)
    refusal(path)
    refusal(path, mlp(3, [], 4))
    refusal(path, "mnih")


@pytest.mark.parametrize("kind", ["sparse", "meta", "integers"])
def test_arrays_of_another_kind_are_refused_for_an_architecture_too(kind, tmp_path):
    array = torch.zeros(4, 4)
    wrong = {"sparse": array.to_sparse(), "meta": array.to("meta"), "integers": array.long()}[kind]
    path = saved(tmp_path, {"a.weight": wrong, "a.bias": torch.zeros(4)})
    assert "no plain array" in refusal(path, mlp(4, [], 4))


def test_a_state_dict_of_convolutions_needs_its_architecture(tmp_path):
    torch.manual_seed(0)
    trunk = [nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU()]
    module = nn.Sequential(*trunk, nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, 6))
    path = saved(tmp_path, {f"network.{name}": array for name, array in module.state_dict().items()})
    message = refusal(path)
    assert "mnih" in message
    assert "architecture" in message
    policy = load_policy(path, "mnih")
    assert (policy.n_inputs, policy.n_actions, policy.name) == (4 * 84 * 84, 6, "model")
    pixels = torch.randint(0, 256, (3, 4, 84, 84), generator=torch.Generator().manual_seed(0)).float()
    with torch.no_grad():
        expected = module(pixels / 255.0).numpy()
    np.testing.assert_allclose(policy.values(pixels.flatten(1).numpy()), expected, atol=1e-5)
    assert "(3, 3)" not in refusal(path, "patel")
    with pytest.raises(UnknownNameError, match="Did you mean mnih"):
        load_policy(path, "minh")


@pytest.mark.parametrize("outputs", [0, 10**6 + 1])
def test_a_named_architecture_with_an_impossible_number_of_actions_is_refused(outputs, tmp_path):
    refusal(saved(tmp_path, {"a.weight": expanded(outputs, 3)}), "patel")


def test_an_architecture_is_given_only_where_the_file_says_none(tmp_path):
    path = saved(tmp_path, content_of())
    with pytest.raises(InvalidInputError, match="its own architecture"):
        load_policy(path, ARCHITECTURES["relu"])


def test_a_zip_of_anything_else_is_told(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", struct.pack("<I", 1))
    (tmp_path / "model.pt").write_bytes(buffer.getvalue())
    assert "policy.pth" in refusal(tmp_path / "model.pt")

"""Importers: the thesis' files, stacks of Linear layers, and files that must not be believed."""

import hashlib
import io
import os
import pickle
import sys
import zipfile

import numpy as np
import pytest
from spikeloop.errors import InvalidInputError, MissingPackageError, NetworkFileError
from spikeloop.models import Decoder, Encoder, Neuron, load, save
from spikeloop.models.torch_files import import_torch
from spikeloop.runtime import launch

torch = pytest.importorskip("torch", reason="these files are read with torch")

DSQN = "CartPole-E(SNN)/trained/model.pt"
CONVERTED = "CartPole-A/DQN-Converted/model.pt"
MLP = "CartPole-A/DQN/trained/model.pt"
THESIS = {
    "CartPole-A/Classifier-Converted/model.pt": ("dsqn", (4, 16, 16, 2)),
    "CartPole-A/Classifier/trained/model.pt": ("mlp", (4, 16, 16, 2)),
    CONVERTED: ("dsqn", (4, 16, 16, 2)),
    "CartPole-A/DQN/initial/model.pt": ("mlp", (4, 16, 16, 2)),
    MLP: ("mlp", (4, 16, 16, 2)),
    "CartPole-A/SNN-Classifier/initial/model.pt": ("dsqn", (5, 17, 17, 2)),
    "CartPole-A/SNN-Classifier/trained/model.pt": ("dsqn", (5, 17, 17, 2)),
    "CartPole-E(SNN)/initial/model.pt": ("dsqn", (5, 17, 17, 2)),
    DSQN: ("dsqn", (5, 17, 17, 2)),
    "CartPole-PolicyGradient/converted/model.pt": ("dsqn", (4, 16, 16, 2)),
    "CartPole-PolicyGradient/initial/model.pt": ("mlp", (4, 16, 16, 2)),
    "CartPole-PolicyGradient/trained/model.pt": ("mlp", (4, 16, 16, 2)),
    "MountainCar-E(SNN)/best/model.pt": ("dsqn", (3, 65, 65, 3)),
    "MountainCar-E(SNN)/initial/model.pt": ("dsqn", (3, 65, 65, 3)),
    "MountainCar-E(SNN)/trained/model.pt": ("dsqn", (3, 65, 65, 3)),
}


def saved(path, content, **options):
    torch.save(content, path, **options)
    return path


def test_every_file_of_the_thesis_is_tested(thesis):
    assert {str(path.relative_to(thesis)) for path in thesis.rglob("model.pt")} == set(THESIS)


@pytest.mark.parametrize("name", THESIS)
def test_the_files_of_the_thesis_are_imported_as_they_are(thesis, name):
    kind, sizes = THESIS[name]
    network = load(thesis / name, steps=20)
    assert (network.n_channels, *network.sizes) == sizes
    assert network.provenance["kind"] == kind
    content = torch.load(thesis / name, weights_only=True)
    if kind == "mlp":
        tensors = list(content.values())
        expected = [(weights.T, bias) for weights, bias in zip(tensors[::2], tensors[1::2], strict=True)]
    else:
        expected = list(zip(*content, strict=True))
    for layer, (weights, bias) in zip(network.layers, expected, strict=True):
        np.testing.assert_array_equal(layer.weights, weights.detach().numpy())
        np.testing.assert_array_equal(layer.bias, np.zeros(layer.n_out) if bias is None else bias.detach().numpy())


def test_the_constant_input_is_no_observation(thesis):
    network = load(thesis / DSQN, steps=20, constant_one=True)
    assert (network.n_inputs, network.n_channels) == (4, 5)
    assert network.encoder == Encoder(constant_one=True)


def test_options_become_the_network(thesis):
    neuron, decoder = Neuron(threshold=0.5, reset="zero"), Decoder("spike_count")
    network = load(thesis / CONVERTED, steps=33, neuron=neuron, decoder=decoder, name="dqn", kind="converted")
    assert (network.steps, network.neuron, network.decoder, network.name) == (33, neuron, decoder, "dqn")
    assert network.provenance["kind"] == "converted"
    assert load(thesis / CONVERTED, steps=33).name == "model"


def test_provenance_says_which_file_it_was(tmp_path):
    path = saved(tmp_path / "mine.pt", [torch.ones(2, 3)])
    provenance = load(path, steps=1).provenance
    assert provenance["imported_from"] == "mine.pt"
    assert provenance["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


# --- structures --------------------------------------------------------------------------------------------------

W1, W2, W3 = (torch.randn(shape, generator=torch.Generator().manual_seed(5)) for shape in [(4, 8), (8, 8), (8, 2)])
B1, B2, B3 = torch.ones(8), torch.full((8,), 2.0), torch.full((2,), 3.0)


def weights_of(network):
    return [layer.weights for layer in network.layers]


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("content", "biases"),
    [
        ([W1, W2, W3], [0.0, 0.0, 0.0]),
        ((W1, W2, W3), [0.0, 0.0, 0.0]),
        (([W1, W2, W3], [B1, B2, B3]), [1.0, 2.0, 3.0]),
        (([W1, W2, W3], [B1, None, B3]), [1.0, 0.0, 3.0]),
        (([W1, W2, W3], []), [0.0, 0.0, 0.0]),
        ([[W1, W2, W3], [B1, B2, B3]], [1.0, 2.0, 3.0]),
        ([torch.nn.Parameter(W1), W2.double(), W3], [0.0, 0.0, 0.0]),
    ],
)
def test_lists_and_tuples_of_weights(tmp_path, content, biases, legacy):
    path = saved(tmp_path / "model.pt", content, _use_new_zipfile_serialization=not legacy)
    network = load(path, steps=5)
    for ours, theirs in zip(weights_of(network), (W1, W2, W3), strict=True):
        np.testing.assert_array_equal(ours, theirs.numpy())
    for layer, bias in zip(network.layers, biases, strict=True):
        np.testing.assert_array_equal(layer.bias, np.full(layer.n_out, bias))


def stack(names, *, biases=True):
    state = {}
    for name, weights, bias in zip(names, (W1, W2, W3), (B1, B2, B3), strict=True):
        state[f"{name}.weight"] = weights.T.contiguous()
        if biases:
            state[f"{name}.bias"] = bias
    return state


@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize(
    "names",
    [
        ["layers.0", "layers.1", "layers.2"],
        ["l1", "l2", "l3"],
        ["fc1", "fc2", "out"],
        ["net.0", "net.2", "net.4"],
        ["features.0.1", "features.0.3", "head.0"],
        ["encoder", "body", "actor"],
        ["0", "2", "10"],
    ],
)
def test_stacks_of_linear_layers_are_in_their_order(tmp_path, names, biases):
    network = load(saved(tmp_path / "model.pt", stack(names, biases=biases)), steps=5)
    for ours, theirs in zip(weights_of(network), (W1, W2, W3), strict=True):
        np.testing.assert_array_equal(ours, theirs.numpy())
    expected = [1.0, 2.0, 3.0] if biases else [0.0, 0.0, 0.0]
    assert [layer.bias[0] for layer in network.layers] == expected


def test_numbers_say_the_order_where_names_differ_in_nothing_else(tmp_path):
    state = stack(["layers.2", "layers.9", "layers.10"])
    shuffled = {key: state[key] for key in sorted(state)}  # as text, 10 comes before 2
    assert next(iter(shuffled)).startswith("layers.10")
    network = load(saved(tmp_path / "model.pt", shuffled), steps=5)
    np.testing.assert_array_equal(network.layers[2].weights, W3.numpy())


def test_a_real_nested_module_decides_as_its_weights_say(tmp_path):
    model = torch.nn.Sequential(
        torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 6)), torch.nn.Linear(6, 2)
    )
    network = load(saved(tmp_path / "model.pt", model.state_dict()), steps=5, kind="mlp")
    assert network.sizes == (8, 6, 2)
    x = np.random.default_rng(0).normal(size=4)
    by_hand = x
    for layer in network.layers:
        by_hand = by_hand @ layer.weights + layer.bias
    linear = torch.nn.Sequential(model[0][0], model[0][2], model[1])
    np.testing.assert_allclose(by_hand, linear(torch.tensor(x).float()).detach().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"conv1.weight": torch.zeros(3, 3, 5, 5)}, r"Layer 'conv1' .* shape \(3, 3, 5, 5\); only Linear layers"),
        ({"l1.weight": torch.zeros(2, 3), "n1.running_mean": torch.zeros(2)}, r"no Linear layer \(n1.running_mean\)"),
        ({"model": {"l1.weight": torch.zeros(2, 3)}, "epoch": 3}, r"no Linear layer \(epoch, model\)"),
        ({"l1.bias": torch.zeros(2)}, r"no Linear layer \(l1.bias\)"),
        ({}, "holds no layers"),
        ({1: torch.zeros(2)}, r"no Linear layer \(1\)"),
        ({"l.weight": "text"}, r"Layer 'l' .* shape \(\)"),
        ([], "an object of type list"),
        ([torch.zeros(2)], "an object of type list"),
        (([W1, W2], [B1]), "2 weight matrices and 1 biases"),
        (([W1, W3], [B1, B1]), r"bias of shape \(8,\) was given; these weights need \(2,\)"),
        (([W1], ["b"]), "an entry .* that is no plain array"),
        (7, "an object of type int"),
        (None, "an object of type NoneType"),
        (torch.zeros(2, 2), "an object of type Tensor"),
        ([W1, W1], "Layer 0 has 8 neurons, but layer 1 expects 4"),
        ([W1 * float("nan")], "32 of 32 values of the weights are NaN or infinite"),
        ([torch.zeros(2, 2, dtype=torch.complex64)], r"\(torch.complex64\) that is no plain array"),
        ([torch.zeros(2, 2, device="meta")], "no plain array"),
        ([torch.zeros(0, 2)], r"shape \(0, 2\)"),
    ],
)
def test_what_is_no_stack_of_layers_is_refused(tmp_path, content, message):
    path = saved(tmp_path / "model.pt", content)
    with pytest.raises(NetworkFileError, match=message) as caught:
        load(path, steps=5)
    assert str(path) in str(caught.value)


def test_sparse_arrays_are_refused(tmp_path):
    path = saved(tmp_path / "model.pt", [torch.eye(3).to_sparse()])
    with pytest.raises(NetworkFileError, match="no plain array"):
        load(path, steps=5)


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("mlp", [W1], "holds a list or tuple of weights, which is not of kind 'mlp'"),
        ("dsqn", {"l.weight": W1}, "holds a state_dict, which is not of kind 'dsqn'"),
        ("converted", {"l.weight": W1}, "holds a state_dict, which is not of kind 'converted'"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, kind, content, message):
    with pytest.raises(NetworkFileError, match=message):
        load(saved(tmp_path / "model.pt", content), steps=5, kind=kind)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "does not say how many steps a decision takes: .*spikeloop import FILE --steps N"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": 5, "kind": "cnn"}, "Kind 'cnn' was given; it must be one of auto, dsqn, converted, mlp"),
        ({"steps": 5, "constant_one": True, "encoder": Encoder()}, "an encoder that has none"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, options, message):
    path = saved(tmp_path / "model.pt", [W1])
    with pytest.raises((InvalidInputError, NetworkFileError), match=message) as caught:
        load(path, **options)
    assert caught.value.exit_code == 2


# --- two neurons per input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("constant_one", [False, True])
def test_two_neurons_extend_the_weights_and_decide_alike(thesis, constant_one):
    name = DSQN if constant_one else CONVERTED
    plain = load(thesis / name, steps=20, constant_one=constant_one)
    double = load(thesis / name, steps=20, encoder=Encoder(two_neurons=True, constant_one=constant_one))
    assert double.n_inputs == plain.n_inputs == 4
    assert double.n_channels == 8 + constant_one
    np.testing.assert_array_equal(double.layers[0].weights[4:8], -plain.layers[0].weights[:4])
    if constant_one:
        np.testing.assert_array_equal(double.layers[0].weights[-1], plain.layers[0].weights[-1])
    observations = np.random.default_rng(3).normal(0.0, 1.0, (200, 4))
    with launch(plain) as one, launch(double) as other:
        expected, found = one.decide(observations, spikes=True), other.decide(observations, spikes=True)
    np.testing.assert_array_equal(found.action, expected.action)
    np.testing.assert_allclose(found.output, expected.output, atol=1e-9)
    for ours, theirs in zip(found.rasters, expected.rasters, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert len(set(expected.action.tolist())) == 2  # or agreement would say little


# --- files that must not be believed -----------------------------------------------------------------------------


class Touches:
    """Unpickled, it runs a shell command."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("where", ["alone", "in a list", "in a state_dict"])
@pytest.mark.parametrize("form", ["zip", "legacy", 0, 1, 2, 3, 4, 5])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path, form, where):
    marker, path = tmp_path / "it-ran", tmp_path / "model.pt"
    payload = Touches(marker)
    content = {"alone": payload, "in a list": [W1, payload], "in a state_dict": {"l1.weight": payload}}[where]
    if form in ("zip", "legacy"):
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
        pickle.loads(pickle.dumps(payload))
    else:
        path.write_bytes(pickle.dumps(content, protocol=form))
        pickle.loads(path.read_bytes())
    assert marker.exists(), "the payload works where it is believed"
    marker.unlink()
    for read in (lambda: load(path, steps=5), lambda: import_torch(path, steps=5)):
        with pytest.raises(NetworkFileError):
            read()
    assert not marker.exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_a_refused_pickle_says_what_it_would_have_called(tmp_path, legacy):
    path = saved(tmp_path / "model.pt", [Touches("/nowhere")], _use_new_zipfile_serialization=not legacy)
    with pytest.raises(NetworkFileError, match=r"would call (posix|nt)\.system, which is never done. Save the weights"):
        load(path, steps=5)
    whole = saved(tmp_path / "whole.pt", torch.nn.Linear(2, 2), _use_new_zipfile_serialization=not legacy)
    with pytest.raises(NetworkFileError, match=r"would call torch\.nn\.modules\.linear\.Linear"):
        load(whole, steps=5)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_truncated_file_is_refused(tmp_path, legacy):
    buffer = io.BytesIO()
    torch.save([W1, W3], buffer, _use_new_zipfile_serialization=not legacy)
    data, path = buffer.getvalue(), tmp_path / "model.pt"
    for length in [1, 2, 3, 5, *range(8, len(data), 97), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(NetworkFileError):
            load(path, steps=5)


def test_a_damaged_file_is_refused_or_read(tmp_path):
    buffer = io.BytesIO()
    torch.save([W1, W3], buffer)
    path, rng = tmp_path / "model.pt", np.random.default_rng(1)
    refused = 0
    for _ in range(150):
        data = bytearray(buffer.getvalue())
        for position in rng.integers(0, len(data), 8):
            data[position] = rng.integers(256)
        path.write_bytes(data)
        try:
            load(path, steps=5)
        except NetworkFileError:
            refused += 1
    assert refused > 50


def test_files_that_are_no_torch_files_are_refused(make_network, tmp_path):
    path = tmp_path / "model.pt"
    for data in (b"", b"hello", b"\x00" * 100):
        path.write_bytes(data)
        with pytest.raises(NetworkFileError, match=r"nothing that torch\.save wrote"):
            import_torch(path, steps=5)
    save(make_network(), path)
    with pytest.raises(NetworkFileError, match="network file already"):
        import_torch(path, steps=5)
    with pytest.raises(NetworkFileError, match=r"Cannot read .*No such file"):
        import_torch(tmp_path / "nothing.pt", steps=5)
    with pytest.raises(NetworkFileError, match="no regular file"):
        import_torch(tmp_path, steps=5)


def test_without_torch_the_error_names_the_package(tmp_path, monkeypatch):
    path = saved(tmp_path / "model.pt", [W1])
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingPackageError, match=r'not installed: pip install "spikeloop\[torch\]"'):
        load(path, steps=5)


def test_a_small_file_cannot_claim_much_memory(tmp_path):
    expanded = {"0.weight": torch.zeros(1).expand(20_000, 20_000), "0.bias": torch.zeros(20_000)}
    torch.save(expanded, tmp_path / "expanded.pt")
    with pytest.raises(NetworkFileError, match=r"arrays claim 16000\d+ bytes, more than the file's"):
        import_torch(tmp_path / "expanded.pt", steps=10)
    torch.save({"0.weight": torch.zeros(2, 500)}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, zipfile.ZipFile(tmp_path / "squeezed.pt", "w") as squeezed:
        for entry in plain.infolist():
            squeezed.writestr(entry.filename, plain.read(entry), zipfile.ZIP_DEFLATED)
    assert import_torch(tmp_path / "plain.pt", steps=10).sizes == (2,)
    with pytest.raises(NetworkFileError, match=r"it is compressed, which torch\.save never does"):
        import_torch(tmp_path / "squeezed.pt", steps=10)

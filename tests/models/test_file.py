"""The network file: round trips, golden bytes, and everything that must be refused."""

import json
import multiprocessing
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors
from spikeloop.errors import InvalidInputError, NetworkFileError
from spikeloop.models import Conv2d, Decoder, Dense, Encoder, Network, Neuron, load, save
from spikeloop.models.file import from_bytes, is_network_file, to_bytes

GOLDEN = Path(__file__).parent / "data" / "golden.spk"


def golden_network():
    first = Dense(np.arange(-6, 6).reshape(4, 3) / 8, np.array([0.0, 0.25, -0.5]))
    second = Dense(np.arange(6).reshape(3, 2) / 4 - 0.5, np.array([0.125, 0.0]), delay=2)
    return Network(
        (first, second),
        steps=7,
        neuron=Neuron(0.75, "subtract", 0.5, 0.9, 0.25, ">="),
        encoder=Encoder("poisson", constant_one=True, gain=0.5),
        decoder=Decoder("first_spike"),
        name="golden",
        provenance={"seed": 3, "evaluation": {"mean_return": 12.5}, "notes": ["é", None, True]},
    )


DATA = to_bytes(golden_network())


def convolutional_network():
    first = Conv2d(np.arange(12).reshape(3, 2, 2, 1) / 8 - 0.5, [0.0, 0.25, -0.5], input_shape=(2, 4, 3), stride=(2, 1))
    pooling = Conv2d(np.full((3, 1, 2, 2), 0.25), input_shape=(3, 2, 3), padding=(0, 1), groups=3, delay=2)
    return Network((first, pooling, Dense(np.arange(24).reshape(12, 2) / 16)), steps=7, name="convolutional")


CONVOLUTIONAL = to_bytes(convolutional_network())


def rebuilt(header=None, tensors=None, data=DATA):
    """A file with another header or other tensors; `header` may be a dict of changes or text."""
    fields = header_fields(data)
    arrays = {**load_tensors(data), **(tensors or {})}
    arrays = {name: array for name, array in arrays.items() if array is not None}
    if isinstance(header, dict):
        fields |= header
    text = header if isinstance(header, str) else json.dumps(fields)
    return save_tensors(arrays, {"spikeloop": text})


def header_fields(data=DATA):
    length = int.from_bytes(data[:8], "little")
    return json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["spikeloop"])


# --- round trips -------------------------------------------------------------------------------------------------

finite_numbers = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | finite_numbers | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def networks(draw):
    encoder = Encoder(
        draw(st.sampled_from(["current", "poisson", "equidistant"])),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.floats(1e-300, 1e300)),
    )
    sizes = draw(st.lists(st.integers(1, 4), min_size=2, max_size=4))
    sizes[0] = sizes[0] * (1 + encoder.two_neurons) + encoder.constant_one
    layers = []
    for index, (n_in, n_out) in enumerate(pairwise(sizes)):
        values = draw(st.lists(finite_numbers, min_size=(n_in + 1) * n_out, max_size=(n_in + 1) * n_out))
        array = np.array(values).reshape(n_in + 1, n_out)
        layers.append(Dense(array[1:], array[0], draw(st.integers(1, 1000)) if index else 1))
    reset = draw(st.sampled_from(["subtract", "zero"]))
    neuron = Neuron(
        threshold=draw(st.floats(1e-300, 1e300)),
        reset=reset,
        reset_amount=draw(st.none() | st.floats(1e-300, 1e300)) if reset == "subtract" else None,
        membrane_decay=draw(st.floats(0.0, 1.0)),
        synapse_decay=draw(st.floats(0.0, 1.0, exclude_max=True)),
        compare=draw(st.sampled_from([">", ">="])),
    )
    return Network(
        tuple(layers),
        steps=draw(st.integers(1, 100_000)),
        neuron=neuron,
        encoder=encoder,
        decoder=Decoder(draw(st.sampled_from(["potential", "spike_count", "first_spike"]))),
        name=draw(st.text(max_size=20)),
        provenance=draw(st.dictionaries(st.text(max_size=8), json_values, max_size=3)),
    )


@given(networks())
def test_what_is_written_is_read(network):
    read = from_bytes(to_bytes(network))
    assert read.content_hash == network.content_hash
    assert (read.neuron, read.encoder, read.decoder) == (network.neuron, network.encoder, network.decoder)
    assert (read.name, read.steps, dict(read.provenance)) == (network.name, network.steps, dict(network.provenance))
    for ours, theirs in zip(network.layers, read.layers, strict=True):
        assert ours.weights.tobytes() == theirs.weights.tobytes()
        assert ours.bias.tobytes() == theirs.bias.tobytes()
        assert ours.delay == theirs.delay


def test_numbers_written_as_integers_are_read_back(make_network, tmp_path):
    network = make_network(neuron=Neuron(threshold=1, membrane_decay=1, reset_amount=2), encoder=Encoder(gain=3))
    save(network, tmp_path / "agent.spk")
    assert load(tmp_path / "agent.spk").content_hash == network.content_hash


def test_a_header_of_any_length_is_known_as_ours(make_network, tmp_path):
    # The file's first bytes are the header's length; some lengths look like the beginning of a torch file.
    beginnings = set()
    for padding in range(256):
        save(make_network((1, 1), name="x" * padding), tmp_path / "agent.spk")
        beginnings.add((tmp_path / "agent.spk").read_bytes()[:1])
        assert load(tmp_path / "agent.spk").name == "x" * padding
    assert b"\x80" in beginnings


def test_the_golden_file_is_read_and_written_the_same():
    network = load(GOLDEN)
    assert network.content_hash == "c78b3651f0b68099770b2ab822e09003cfc5e8a88877f7914c939cda5963cbcb"
    assert network.content_hash == golden_network().content_hash
    assert (network.name, network.steps, network.decoder.kind) == ("golden", 7, "first_spike")
    assert dict(network.provenance) == dict(golden_network().provenance)
    assert to_bytes(network) == GOLDEN.read_bytes()
    assert to_bytes(golden_network()) == GOLDEN.read_bytes()


@st.composite
def convolutional_networks(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape, layers = (draw(st.integers(1, 2)), draw(st.integers(4, 6)), draw(st.integers(4, 6))), []
    for index in range(draw(st.integers(1, 2))):
        groups = shape[0] if draw(st.booleans()) else 1
        weights = rng.normal(size=(2 * groups, shape[0] // groups, draw(st.integers(1, 3)), draw(st.integers(1, 3))))
        layer = Conv2d(
            weights,
            rng.normal(size=len(weights)),
            input_shape=shape,
            stride=draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
            padding=draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
            groups=groups,
            delay=draw(st.integers(1, 1000)) if index else 1,
        )
        layers.append(layer)
        shape = layer.output_shape
    if draw(st.booleans()):
        layers.append(Dense(rng.normal(size=(layers[-1].n_out, 2))))
    return Network(tuple(layers), draw(st.integers(1, 50)))


@given(convolutional_networks())
def test_convolutions_that_are_written_are_read(network):
    data = to_bytes(network)
    read = from_bytes(data)
    assert header_fields(data)["version"] == 2
    assert read.content_hash == network.content_hash
    assert to_bytes(read) == data
    for ours, theirs in zip(network.layers, read.layers, strict=True):
        assert ours.signature == theirs.signature
        assert ours.weights.tobytes() == theirs.weights.tobytes()
        assert ours.bias.tobytes() == theirs.bias.tobytes()
        assert type(ours) is type(theirs)


def test_dense_networks_stay_in_the_first_version():
    assert header_fields()["version"] == 1
    # The same in a newer version is read too.
    for version in (2, 3):
        assert from_bytes(rebuilt({"version": version})).content_hash == golden_network().content_hash


def test_quantised_inputs_are_written_in_the_third_version():
    network = golden_network()
    resolution = (0.1,) * network.n_channels
    quantised = Network(network.layers, network.steps, encoder=Encoder(bits=6, resolution=resolution))
    data = to_bytes(quantised)
    assert header_fields(data)["version"] == 3
    read = from_bytes(data)
    assert (read.encoder.bits, read.encoder.resolution) == (6, resolution)
    assert read.content_hash == quantised.content_hash
    assert to_bytes(read) == data
    coarser = Network(network.layers, network.steps, encoder=Encoder(bits=5, resolution=resolution))
    assert coarser.content_hash != quantised.content_hash
    # Files of earlier versions say nothing of it.
    assert {"bits", "resolution"} & header_fields(to_bytes(network))["encoder"].keys() == set()


# --- what is refused ---------------------------------------------------------------------------------------------


def refused(data, message):
    with pytest.raises(NetworkFileError, match=message) as caught:
        from_bytes(data, "agent.spk")
    assert "agent.spk" in str(caught.value)
    assert caught.value.exit_code == 2


def test_every_truncation_is_refused():
    for length in range(len(DATA)):
        with pytest.raises(NetworkFileError):
            from_bytes(DATA[:length])
    refused(DATA[:-1], "damaged or truncated")
    refused(DATA[:200], "is truncated: its header needs")


def test_trailing_bytes_are_refused():
    refused(DATA + b"\0", "damaged")


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"\0" * 64, bytes(range(256)), b"\x10\0\0\0\0\0\0\0{" + b"\0" * 15, b"{" * 64]
)
def test_files_of_others_are_refused(data):
    with pytest.raises(NetworkFileError):
        from_bytes(data)


def test_a_safetensors_file_of_others_is_refused():
    refused(save_tensors({"x": np.zeros(3)}), "no Spikeloop network file")
    refused(save_tensors({"x": np.zeros(3)}, {"spikeloop": "[]"}), "no Spikeloop network file")
    refused(save_tensors({"x": np.zeros(3)}, {"spikeloop": "{"}), "no Spikeloop network file")
    refused(save_tensors({"x": np.zeros(3)}, {"spikeloop": '{"version": 1}'}), "a header that is not valid: format")


def test_a_newer_version_says_what_to_do():
    refused(rebuilt({"version": 4}), "format version 4; this Spikeloop reads up to 3: pip install -U spikeloop")
    # Whatever else a newer header holds, its version decides.
    refused(rebuilt({"version": 7, "layers": "new", "extra": 1}), "pip install -U spikeloop")


@pytest.mark.parametrize("length", [len(DATA), 2**31, 2**62, 2**63, 2**64 - 1])
def test_a_header_that_claims_to_be_huge_is_refused(length):
    refused(length.to_bytes(8, "little") + DATA[8:], "is truncated: its header needs")


def test_a_deeply_nested_header_is_refused():
    refused(rebuilt('{"version":1,"provenance":' + "[" * 100_000 + "]" * 100_000 + "}"), "no Spikeloop|not valid")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "format"),
        ({"version": "1"}, "version"),
        ({"version": 0}, "version"),
        ({"steps": 0}, "steps"),
        ({"steps": 10**9}, "steps"),
        ({"steps": 7.5}, "steps"),
        ({"steps": "7"}, "steps"),
        ({"surprise": 1}, "surprise"),
        ({"layers": []}, "layers"),
        ({"layers": [{"kind": "conv", "delay": 1}] * 2}, "layers.0: Input tag 'conv' found using 'kind'"),
        ({"layers": [{"kind": "dense", "delay": 0}] * 2}, "layers.0.delay"),
        ({"layers": [{"kind": "dense", "delay": 1}] * 5000}, "layers"),
        ({"content_hash": "0"}, "content_hash"),
        ({"neuron": {**header_fields()["neuron"], "threshold": None}}, "neuron.threshold"),
        ({"neuron": {**header_fields()["neuron"], "threshold": float("nan")}}, "neuron.threshold"),
        ({"neuron": {**header_fields()["neuron"], "reset": "sometimes"}}, "neuron.reset"),
        ({"encoder": {"kind": "current"}}, "encoder.two_neurons"),
        ({"decoder": {"kind": "vote"}}, "decoder.kind"),
        ({"provenance": []}, "provenance"),
        ({"name": None}, "name"),
    ],
)
def test_a_header_that_is_not_valid_names_the_field(changes, message):
    refused(rebuilt(changes), f"header that is not valid: {message}")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"neuron": {**header_fields()["neuron"], "threshold": -1.0}}, "threshold is -1.0"),
        ({"neuron": {**header_fields()["neuron"], "membrane_decay": 2.0}}, "membrane_decay"),
        ({"encoder": {**header_fields()["encoder"], "two_neurons": True}}, "first layer has 4 inputs"),
        ({"layers": [{"kind": "dense", "delay": 2}] * 2}, "first layer's delay"),
    ],
)
def test_a_header_of_a_network_that_cannot_be_is_refused(changes, message):
    refused(rebuilt(changes), f"holds no usable network: .*{message}")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"1.bias": None}, r"it holds the arrays \['0.bias', '0.weights', '1.weights'\]"),
        ({"2.weights": np.zeros((2, 2))}, "2.weights"),
        ({"0.weights": np.full((4, 3), np.nan)}, "12 of 12 values of the weights are NaN or infinite"),
        ({"0.bias": np.array([0.0, np.inf, 0.0])}, "1 of 3 values of the bias"),
        ({"0.weights": np.zeros((4, 3), np.int64)}, "an array is of type int64; float64 is needed"),
        ({"0.weights": np.zeros((4, 3), np.float16)}, "type float16"),
        ({"0.weights": np.zeros((4, 3), np.bool_)}, "type bool"),
        ({"0.weights": np.zeros(12)}, r"shape \(12,\)"),
        ({"0.weights": np.zeros((4, 4))}, r"bias of shape \(3,\)"),
        ({"0.weights": np.zeros((0, 3))}, r"shape \(0, 3\)"),
        ({"1.weights": np.zeros((5, 2))}, "Layer 0 has 3 neurons, but layer 1 expects 5"),
    ],
)
def test_arrays_that_do_not_belong_are_refused(tensors, message):
    refused(rebuilt(tensors=tensors), message)


HUGE = 2**24
CONV = header_fields(CONVOLUTIONAL)["layers"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_shape": [2, 4]}, "header that is not valid: layers.0.input_shape"),
        ({"input_shape": [2, 4, 3, 1]}, "header that is not valid: layers.0.input_shape"),
        ({"input_shape": [2, 4, "3"]}, "header that is not valid: layers.0.input_shape.2"),
        ({"input_shape": [2, 4, 0]}, "header that is not valid: layers.0.input_shape.2"),
        ({"input_shape": [2, 4, HUGE + 1]}, "header that is not valid: layers.0.input_shape.2"),
        ({"stride": [0, 1]}, "header that is not valid: layers.0.stride.0"),
        ({"stride": [10**30, 1]}, "header that is not valid: layers.0.stride.0"),
        ({"stride": 1}, "header that is not valid: layers.0.stride"),
        ({"padding": [-1, 0]}, "header that is not valid: layers.0.padding.0"),
        ({"groups": 0}, "header that is not valid: layers.0.groups"),
        ({"groups": 1.5}, "header that is not valid: layers.0.groups"),
        ({"delay": 10**6}, "header that is not valid: layers.0.delay"),
        ({"dilation": 2}, "header that is not valid: layers.0.dilation"),
        ({"kind": "conv3d"}, "header that is not valid: layers.0"),
        ({"input_shape": [2, HUGE, HUGE]}, "no usable network: .* has 562949953421312 inputs; at most 16777216"),
        ({"input_shape": [HUGE, HUGE, HUGE]}, "no usable network: An input of 16777216 channels"),
        ({"padding": [HUGE, HUGE]}, "no usable network: .* neurons; at most 16777216"),
        ({"input_shape": [2, 4, 8_000_000 // 4]}, "no usable network: Layer 0 has 12000000 neurons"),
        ({"input_shape": [2, 1, 3]}, "no usable network: A kernel 2 high"),
        ({"groups": HUGE}, "no usable network: Weights for 3 channels"),
        ({"groups": 3}, "no usable network: An input of 2 channels"),
        ({"stride": [1, 1]}, "no usable network: Layer 0 has 27 neurons, but layer 1 expects 18"),
    ],
)
def test_a_hostile_geometry_is_refused_before_memory_is_taken(change, message):
    data = rebuilt({"layers": [{**CONV[0], **change}, *CONV[1:]]}, data=CONVOLUTIONAL)
    tracemalloc.start()
    try:
        refused(data, message)
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


def test_convolutions_of_small_kernels_and_many_layers_are_refused_before_memory_is_taken():
    side = 4000
    header = {"layers": [{**CONV[1], "input_shape": [1, side, side], "padding": [0, 0], "groups": 1, "delay": 1}] * 9}
    tensors = {f"{i}.weights": np.ones((1, 1, 1, 1)) for i in range(9)} | {f"{i}.bias": np.zeros(1) for i in range(9)}
    refused(
        rebuilt(header, tensors, CONVOLUTIONAL), "The convolutions have 144000000 neurons together; at most 16777216"
    )


def test_the_first_version_has_no_convolutions():
    refused(rebuilt({"version": 1}, data=CONVOLUTIONAL), "layers.0: version 1 has dense layers only")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"0.weights": np.zeros((12, 1))}, r"shape \(12, 1\) were given; a convolution needs"),
        ({"2.weights": np.zeros((3, 1, 2, 2))}, r"shape \(3, 1, 2, 2\) were given; a dense layer needs"),
        ({"0.bias": np.zeros(18)}, r"bias of shape \(18,\) was given; these weights need \(3,\)"),
        ({"0.weights": np.zeros((3, 2, 2, 1))}, "its content hash is"),
    ],
)
def test_arrays_that_are_no_kernels_are_refused(tensors, message):
    refused(rebuilt(tensors=tensors, data=CONVOLUTIONAL), message)


@pytest.mark.parametrize("change", [{"stride": [2, 2]}, {"padding": [1, 1]}, {"delay": 3}])
def test_a_geometry_that_was_tampered_with_no_longer_has_its_hash(change):
    network = Network(convolutional_network().layers[:2], steps=7)
    layers = header_fields(to_bytes(network))["layers"]
    layers[1] |= change
    refused(rebuilt({"layers": layers}, data=to_bytes(network)), "its content hash is")


@pytest.mark.parametrize(
    "tampered",
    [
        rebuilt(tensors={"0.weights": golden_network().layers[0].weights + np.eye(4, 3) * 2.0**-50}),
        rebuilt(tensors={"1.bias": np.array([0.125, 0.5])}),
        rebuilt({"steps": 8}),
        rebuilt({"content_hash": "0" * 64}),
        rebuilt({"decoder": {"kind": "potential"}}),
    ],
)
def test_what_was_tampered_with_no_longer_has_its_hash(tampered):
    refused(tampered, "is damaged: its content hash is [0-9a-f]{12}, its header says [0-9a-f]{12}")


def test_rebuilding_without_changes_is_no_tampering():
    assert from_bytes(rebuilt()).content_hash == golden_network().content_hash


# --- fuzz --------------------------------------------------------------------------------------------------------


def survives(data):
    """Whether `data` is read, in which case it decides as the golden network; anything but a refusal is an error."""
    try:
        network = from_bytes(data)
    except NetworkFileError:
        return False
    assert network.content_hash == golden_network().content_hash
    return True


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(data):
    assert not survives(data)


@given(st.binary(max_size=200))
def test_random_bytes_behind_a_plausible_beginning_are_refused(tail):
    assert not survives((len(tail) + 1).to_bytes(8, "little") + b"{" + tail)


@settings(max_examples=400)
@given(
    st.lists(st.tuples(st.integers(0, len(DATA) - 1), st.integers(0, 255), st.integers(0, 3)), min_size=1, max_size=4)
)
def test_changed_removed_and_added_bytes_never_change_a_decision(edits):
    data = bytearray(DATA)
    for position, value, kind in edits:
        position %= len(data)
        if kind <= 1:
            data[position] = value
        elif kind == 2:
            del data[position]
        else:
            data.insert(position, value)
    survives(bytes(data))


@given(st.sampled_from(sorted(header_fields())), json_values, st.booleans())
def test_other_json_in_the_header_never_changes_a_decision(key, value, nested):
    fields = header_fields()
    if nested and isinstance(fields[key], dict) and fields[key]:
        inner = sorted(fields[key])[0]
        value = {**fields[key], inner: value}
    survives(rebuilt({key: value}))


@given(json_values)
def test_any_other_json_as_a_header_is_refused(value):
    assert not survives(rebuilt(json.dumps(value)))


# --- saving ------------------------------------------------------------------------------------------------------


def test_an_existing_file_is_replaced_as_a_whole(make_network, tmp_path):
    path = tmp_path / "agent.spk"
    save(make_network(seed=1), path)
    save(make_network(seed=2), path)
    assert load(path).content_hash == make_network(seed=2).content_hash
    assert [entry.name for entry in tmp_path.iterdir()] == ["agent.spk"]


def test_a_write_that_fails_leaves_the_old_file(make_network, tmp_path):
    path = tmp_path / "agent.spk"
    save(make_network(), path)
    before = path.read_bytes()
    process = multiprocessing.get_context("spawn").Process(target=_save_with_a_full_disk, args=(path,))
    process.start()
    process.join(60)
    assert process.exitcode == 7
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["agent.spk"]


def _save_with_a_full_disk(path):
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))  # the file has more than 1000 bytes
    try:
        save(golden_network(), path)
    except NetworkFileError as error:
        raise SystemExit(7 if "File too large" in str(error) else 8) from None


@pytest.mark.parametrize("name", ["no/such/folder/agent.spk", ".", "/", "a" * 300 + ".spk"])
def test_places_that_cannot_be_written_are_named(make_network, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NetworkFileError, match="Cannot write"):
        save(make_network(), name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [{"provenance": {"array": np.zeros(2)}}, {"name": "\ud800"}, {"name": 5}])
def test_what_json_cannot_hold_is_refused_before_anything_is_written(make_network, tmp_path, options):
    with pytest.raises(InvalidInputError, match="do not go into JSON"):
        save(make_network(**options), tmp_path / "agent.spk")
    assert list(tmp_path.iterdir()) == []


def test_the_beginning_tells_ours_from_others():
    assert is_network_file(DATA)
    assert not any(is_network_file(data) for data in (b"", b"PK\x03\x04" + b"\0" * 20, b"\x80\x02" + b"}" * 20))

"""The mapping "pynn": what is planned, and what is said beforehand."""

import numpy as np
import pytest
from spikeloop.deploy.mapping import plan, preflight
from spikeloop.deploy.spinnaker import neurons
from spikeloop.deploy.spinnaker.neuron_mapping import RING_MAX, SHIFTS, expected_sums, shifts_of, unit, whole_weights
from spikeloop.errors import PreflightError
from spikeloop.hardware_profiles import load_profile
from spikeloop.models import Conv2d, Decoder, Dense, Encoder, Network, Neuron


def profile(**values):
    return load_profile("spinnaker-ifcurdelta", values)


def dense(weights, bias=None, delay=1):
    return Dense(np.asarray(weights, dtype=float), None if bias is None else np.asarray(bias, dtype=float), delay)


def errors(network, given):
    return [str(f) for f in neurons.preflight(network, given) if f.severity == "error"]


def test_the_thesis_values(make_network):
    deployment = plan(make_network((4, 16, 16, 2)), profile())
    hidden, output = (dict(deployment.population(name).parameters) for name in ("layer 0", "layer 2"))
    assert hidden.pop(SHIFTS)
    assert output.pop(SHIFTS)
    common = {"cm": 1.0, "v_reset": 0.0, "v_rest": 0.0, "tau_m": 100.0, "tau_refrac": 0.0}
    assert hidden == common | {"v_thresh": 1.0}
    assert output == common | {"v_thresh": 10000.0}
    assert {p.model for p in deployment.populations} == {"SpikeSourceArray", "IF_curr_delta"}
    assert (deployment.neurons, deployment.synapses) == (34, 4 * 16 + 16 * 16 + 16 * 2)


def test_weights_are_whole_and_no_ring_buffer_saturates():
    rng = np.random.default_rng(0)
    for scale in (1e-3, 0.1, 1.0, 7.0, 300.0):
        weights = rng.normal(0.0, scale, (40, 30))
        shifts = shifts_of(weights)
        whole = whole_weights(weights, shifts)
        for shift, part, exact in zip(
            shifts,
            (np.maximum(whole, 0), np.maximum(-whole, 0)),
            (np.maximum(weights, 0), np.maximum(-weights, 0)),
            strict=True,
        ):
            assert part.sum(axis=0).max() <= RING_MAX
            assert np.abs(part * unit(shift) - exact).max() <= unit(shift) / 2
            assert shift == 0 or np.rint(exact / unit(shift - 1)).sum(axis=0).max() > RING_MAX, "a finer one would do"


def test_shifts_are_what_spynnaker_makes_of_the_expected_sums():
    """Its rule: the power of two above the sum."""
    for shift in range(16):
        (most,) = expected_sums([shift])
        power = int(np.ceil(max(0.0, np.log2(most))))
        assert power + (2**power <= most) == shift


def test_a_plan_holds_the_rounded_weights(make_network):
    network = make_network((3, 8, 2))
    deployment = neurons.plan(network, profile())
    for projection, layer in zip(deployment.projections, network.layers, strict=True):
        shifts = deployment.population(projection.target).parameters[SHIFTS]
        assert 0 < np.abs(projection.weights - layer.weights).max() <= unit(max(shifts)) / 2


def test_truncating_neurons_get_weights_by_their_fixed_threshold(make_network):
    network = make_network((3, 8, 2), neuron=Neuron(threshold=4.0))
    deployment = neurons.plan(network, profile(model="IFTruncDelta"))
    first, last = (deployment.population(f"layer {i}") for i in (0, 1))
    assert (first.model, last.model) == ("IFTruncDelta", "IF_curr_delta")
    assert first.parameters["v_thresh"] == 0.0
    np.testing.assert_allclose(first.constant_input, network.layers[0].bias / 4)
    np.testing.assert_allclose(deployment.projections[0].weights, network.layers[0].weights / 4, atol=2e-5)
    np.testing.assert_allclose(deployment.projections[1].weights, network.layers[1].weights, atol=2e-4)
    counting = make_network((3, 8, 2), decoder=Decoder("spike_count"))
    assert neurons.plan(counting, profile(model="IFTruncDelta")).population("layer 1").model == "IFTruncDelta"


@pytest.mark.parametrize("name", ["spinnaker-ifcurdelta", "pynn-nest"])
@pytest.mark.parametrize("kind", ["subtract", "zero", "leaky", "synaptic", "poisson", "count"])
def test_networks_of_any_kind_are_taken_and_departures_said(name, kind, make_network):
    options = {
        "subtract": {},
        "zero": {"neuron": Neuron(reset="zero")},
        "leaky": {"neuron": Neuron(membrane_decay=0.9, threshold=0.5)},
        "synaptic": {"neuron": Neuron(reset="zero", synapse_decay=0.5)},
        "poisson": {"encoder": Encoder("poisson", two_neurons=True)},
        "count": {"decoder": Decoder("spike_count")},
    }[kind]
    found = preflight(make_network((3, 8, 2), **options), load_profile(name))
    assert not [f for f in found if f.severity == "error"]
    said = " ".join(str(f) for f in found)
    assert ("reset=subtract" in said) == (kind not in ("zero", "synaptic"))
    assert ("synapse_decay=0.5" in said) == (kind == "synaptic")
    assert "membrane_decay" in said


def test_a_network_that_fits_is_told_nothing():
    neuron = Neuron(reset="zero", membrane_decay=round(float(np.exp(-0.01)), 6))
    network = Network((dense(np.eye(2) * 0.3), dense(np.eye(2))), 10, neuron)
    assert neurons.preflight(network, profile()) == []
    assert neurons.preflight(Network(network.layers, 10, Neuron(reset="zero")), profile(model="IFTruncDelta")) == []


@pytest.mark.parametrize(
    ("settings", "needle"),
    [
        ({"model": "iaf_psc_delta"}, "names the model 'iaf_psc_delta'. It must be IF_curr_delta or IFTruncDelta"),
        ({"reset": "subtract"}, "sets the potential to v_reset"),
        ({"tau_m": 0.0}, "tau_m=0.0. Give a number above 0"),
        ({"tau_refrac": -1.0}, "tau_refrac=-1.0. Give a number at least 0"),
        ({"v_rest": 7e4}, "v_rest=70000.0"),
        ({"input_delay_ms": 1.0}, "i_offset acts at once"),
        ({"delay_ms": 40.0}, "take 40 ticks to arrive; at most 31"),
        ({"resolution_ms": 0.5}, "spikes in flight survive sPyNNaker's reset"),
        (
            {"resolution_ms": 1.0625, "delay_ms": 1.0625, "step_ms": 1.0625},
            "no whole number of microseconds",
        ),
        ({"v_thresh": 1e-6}, "threshold is 1e-06"),
        ({"v_thresh_output": 65535.0, "v_thresh": 2.0}, None),
        (
            {"model": "IFTruncDelta", "resolution_ms": 2.0, "delay_ms": 2.0, "step_ms": 2.0},
            "threshold is the time step",
        ),
        ({"model": "IFTruncDelta", "v_reset": 1.5}, "v_reset=1.5 is not below"),
        ({"slowdown": 0.5}, "slowdown=0.5. Give a number at least 1"),
        ({"copies": 1.5}, "copies=1.5. Give a whole number from 1 to 256"),
        ({"copies": 300}, "copies=300. Give a whole number from 1 to 256"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, needle, make_network):
    found = errors(make_network((3, 8, 2)), profile(**settings))
    assert (needle is None and not found) or needle in found[0]


def test_a_parameter_that_is_missing_or_unknown_is_named(make_network):
    data = profile().model_dump()
    del data["neuron"]["parameters"]["cm"]
    data["neuron"]["parameters"]["c_m"] = 1.0
    found = errors(make_network((3, 8, 2)), type(profile()).model_validate(data))
    assert any("has no cm" in text for text in found)
    assert any("has the parameter c_m" in text for text in found)


def test_convolutions_are_refused():
    layers = (Conv2d(np.ones((1, 1, 2, 2)), input_shape=(1, 3, 3)), dense(np.ones((4, 2))))
    for name in ("spinnaker-ifcurdelta", "pynn-nest"):
        with pytest.raises(PreflightError, match="only dense ones"):
            plan(Network(layers, 10), load_profile(name))


def test_numbers_that_do_not_fit():
    huge = Network((dense(np.full((2, 2), 4e4)), dense(np.eye(2))), 10)
    assert "add up to 8e+04" in errors(huge, profile())[0]
    high = Network((dense(np.eye(2)), dense(np.eye(2))), 10, Neuron(threshold=10.0))
    assert "output layer's threshold is 1e+05" in errors(high, profile())[0]


def warnings(network, given):
    return " ".join(str(f) for f in neurons.preflight(network, given) if f.severity == "warning")


def test_overflow_is_foretold_and_happens():
    """Table B.6's remark: tau_m must not be too large."""
    network = Network((dense(np.eye(2) * 0.3), dense(np.full((2, 2), 2.0))), 20)
    assert "can overflow" not in warnings(network, profile())
    assert "can overflow" in warnings(network, profile(tau_m=1e4))


def test_outputs_that_can_fire_are_foretold():
    network = Network((dense(np.eye(2)), dense(np.full((2, 2), 2.0))), 20)
    assert "outputs that reach 30 fire" in warnings(network, profile(v_thresh_output=30.0))
    assert "outputs that reach" not in warnings(network, profile())


def test_coarse_weights_are_foretold():
    network = Network((dense([[1e4, -1.0], [0.4, 0.3]]), dense(np.eye(2))), 20)
    assert "rounded to multiples of 0.25" in warnings(network, profile())


def test_the_profiles_describe_the_same_neurons():
    on_board, on_nest = profile(), load_profile("pynn-nest")
    assert (on_board.neuron, on_board.time) == (on_nest.neuron, on_nest.time)

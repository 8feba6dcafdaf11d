"""Students: their forward pass is what the exported network does on its profile's twin."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from spikeloop.deploy.backend import Recording  # noqa: E402
from spikeloop.deploy.mapping import plan  # noqa: E402
from spikeloop.deploy.twin import twin_of  # noqa: E402
from spikeloop.errors import InvalidInputError, PreflightError  # noqa: E402
from spikeloop.hardware_profiles import load_profile  # noqa: E402
from spikeloop.hardware_profiles.profile import Profile  # noqa: E402
from spikeloop.models import Neuron, Stimulus  # noqa: E402
from spikeloop.training.student import NeuronSettings, StudentSettings  # noqa: E402
from spikeloop.training.targets import PointNeuronStudent, student_for  # noqa: E402

SIZES, STEPS = (4, 9, 8, 3), 15


def subtracting():
    data = load_profile("nest-iaf_psc_delta").model_dump()
    parameters = {"C_m": 0.7, "tau_m": 8.0, "E_L": 0.1, "t_ref": 0.2, "V_th": 1.1}
    data["neuron"] = {"model": "eprop_iaf", "reset": "subtract", "parameters": parameters}
    return Profile.model_validate(data)


def student(profile, neuron=NeuronSettings(), sizes=SIZES, kind=None):  # noqa: B008  # frozen
    """A student in the middle of its training."""
    generator = torch.Generator().manual_seed(3)
    found = student_for(profile, StudentSettings(sizes, STEPS, neuron), generator)
    if kind is not None:
        found.__class__ = kind
    rng = np.random.default_rng(4)
    with torch.no_grad():
        for bias in found.biases:
            bias.copy_(torch.from_numpy(rng.normal(0.1, 0.2, bias.shape)))
    found.standardise(rng.normal(rng.normal(size=sizes[0]), rng.uniform(0.3, 2.0, sizes[0]), (200, sizes[0])))
    return found


def observations(n=40):
    return np.random.default_rng(5).normal(size=(n, SIZES[0]))


PROFILES = {
    "reference": load_profile("reference"),
    "nest-exact": load_profile("nest-exact"),
    "nest-iaf_psc_delta": load_profile("nest-iaf_psc_delta"),
    "delays": load_profile(
        "nest-iaf_psc_delta", {"delay_ms": 2.3, "input_delay_ms": 3.1, "t_ref": 0.4, "tau_m": 6.0, "E_L": -0.2}
    ),
    "longer than the window": load_profile("nest-iaf_psc_delta", {"delay_ms": 20.0, "input_delay_ms": 20.0}),
    "eprop_iaf": subtracting(),
}


@pytest.mark.parametrize("sizes", [SIZES, (4, 3)])
@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_forward_is_the_twin_of_the_exported_network(profile, sizes):
    found = student(profile, NeuronSettings(threshold=0.9), sizes)
    deployment = plan(found.to_network(), profile)
    assert not [finding for finding in deployment.findings if finding.severity == "warning"]
    session = twin_of(deployment)
    session.reset()
    session.inject(Stimulus(observations()), Recording(spikes=True))
    session.run(STEPS)
    expected = session.read()
    with torch.no_grad():
        given = found(torch.from_numpy(observations()))
    np.testing.assert_allclose(given, expected.potentials, rtol=0, atol=1e-10)
    assert np.ptp(expected.potentials) > 1e-3
    if isinstance(found, PointNeuronStudent):
        with torch.no_grad():
            ticks = found.spikes(torch.from_numpy(observations()))
        for layer, raster in zip(ticks, expected.rasters, strict=True):
            per_step = layer.reshape(STEPS, -1, *layer.shape[1:]).sum(dim=1).transpose(0, 1)
            np.testing.assert_array_equal(per_step, raster)


@pytest.mark.parametrize("name", ["nest-exact", "nest-iaf_psc_delta", "eprop_iaf"])
def test_the_gradient_reaches_every_parameter(name):
    found = student(PROFILES[name])
    found(torch.from_numpy(observations())).square().sum().backward()
    for parameter in found.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


def test_the_gradient_of_a_layer_that_does_not_fire_is_exact():
    """Without hidden layers nothing is replaced by a surrogate."""
    found = student(PROFILES["delays"], sizes=(4, 3))
    x = torch.from_numpy(observations(6))
    weights, bias = (parameter.detach().clone() for parameter in found.parameters())

    def outputs(weights, bias):
        with torch.no_grad():
            for parameter, value in zip(found.parameters(), (weights, bias), strict=True):
                parameter.copy_(value)
            return found(x).sum().item()

    found(x).sum().backward()
    small = 1e-4
    for j, gradient in enumerate(found.biases[0].grad):
        moved = bias.clone()
        moved[j] += small
        assert (outputs(weights, moved) - outputs(weights, bias)) / small == pytest.approx(gradient.item(), rel=1e-6)
    for at in ((0, 0), (3, 2)):
        moved = weights.clone()
        moved[at] += small
        rise = (outputs(moved, bias) - outputs(weights, bias)) / small
        assert rise == pytest.approx(found.weights[0].grad[at].item(), rel=1e-6)


class Coarse(PointNeuronStudent):
    """A student for a target that holds weights as multiples of 1/16, none above 1."""

    def quantise(self, values):
        return values + (torch.round(values * 16) / 16 - values).detach()

    def penalty(self):
        return sum((weights.abs() - 1).clamp(min=0).sum() for weights in self.weights)


def test_quantised_weights_are_trained_through_and_exported():
    profile = PROFILES["nest-iaf_psc_delta"]
    found, fine = student(profile, kind=Coarse), student(profile)
    network = found.to_network()
    for layer in network.layers:
        for values in (layer.weights, layer.bias):
            np.testing.assert_array_equal(values * 16, np.round(values * 16))
    x = torch.from_numpy(observations())
    session = twin_of(plan(network, profile))
    session.reset()
    session.inject(Stimulus(observations()))
    session.run(STEPS)
    np.testing.assert_allclose(found(x).detach(), session.read().potentials, rtol=0, atol=1e-10)
    assert (found(x) - fine(x)).abs().max() > 1e-3
    found(x).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in found.parameters())
    assert fine.penalty() == 0
    assert found.penalty() > 0


def test_the_neuron_is_the_profiles():
    profile = load_profile("nest-iaf_psc_delta", {"tau_m": 10.0})
    neuron = student(profile, NeuronSettings(threshold=1.5, reset="zero", synapse_decay=0.0)).to_network().neuron
    assert neuron == Neuron(threshold=1.5, reset="zero", membrane_decay=0.904837, compare=">=")
    for asked, said in (
        (NeuronSettings(reset="subtract"), "reset=subtract was given; profile 'nest-iaf_psc_delta' has reset=zero"),
        (NeuronSettings(membrane_decay=0.5), "membrane_decay=0.5 was given"),
        (NeuronSettings(synapse_decay=0.1), "synapse_decay=0.1 was given"),
    ):
        with pytest.raises(InvalidInputError, match=said):
            student(profile, asked)
    asked = NeuronSettings(0.7, "zero", 0.9, 0.2)
    assert student(load_profile("nest-exact"), asked).to_network().neuron == Neuron(0.7, "zero", None, 0.9, 0.2)


def test_what_cannot_be_trained_for():
    with pytest.raises(PreflightError, match="No exact recipe is known"):
        student(load_profile("nest-exact"), NeuronSettings(synapse_decay=0.5))
    with pytest.raises(PreflightError, match="The profile has tau_m=0"):
        student(load_profile("nest-iaf_psc_delta", {"tau_m": 0.0}))
    with pytest.raises(InvalidInputError, match="No dynamics to train under are known for profile 'nest-pp_psc_delta'"):
        student(load_profile("nest-pp_psc_delta"))

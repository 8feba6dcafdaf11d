"""Faults planted in a real NEST target, one by one, and what the diagnosis says of them."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from spikeloop.deploy import nest as nest_backend
from spikeloop.deploy.conformance import example
from spikeloop.deploy.departures.adoption import departed
from spikeloop.deploy.departures.session import DepartedSession
from spikeloop.deploy.mapping import plan
from spikeloop.hardware_profiles import load_profile
from spikeloop.models import Decoder, Encoder, Neuron, load
from spikeloop.runtime.agent import Agent
from spikeloop.runtime.fidelity.changes import Change, applied
from spikeloop.runtime.fidelity.diagnosis import diagnose
from spikeloop.runtime.fidelity.report import Record

pytest.importorskip("nest", reason="nest-simulator is not installed")

PROFILES = ("nest-exact", "nest-iaf_psc_delta")
N = 500


def observations(network, n=N):
    scales = [1.0, 0.8, 0.1, 0.8] if network.n_inputs == 4 else 1.0
    return np.random.default_rng(0).normal(0.0, 1.0, (n, network.n_inputs)) * scales


def recorded(agent, states):
    with agent:
        decision = agent.decide(states, spikes=True)
    return Record(decision.action, decision.output, decision.rasters, np.zeros(len(states)))


class Case:
    """A network under a profile, and its simulation with all declared departures."""

    def __init__(self, network, profile):
        self.network = network
        self.deployment = plan(network, load_profile(profile))
        declared = [departure.kind for departure in self.deployment.profile.departures]
        self.dynamics = departed(self.deployment, declared)
        self.states = observations(network)
        self.expected = self.simulated(self.dynamics)
        self.tick_ms = self.deployment.window.resolution_ms

    def simulated(self, dynamics, seed=0):
        return recorded(Agent(self.deployment, DepartedSession(dynamics, seed), 0), self.states)

    def on_nest(self, deployment=None, change=None):
        """What NEST does with a changed deployment, or after `change` was called with its session's populations."""
        # Longer delays than planned must not reach into the next window.
        deployment = deployment or self.deployment
        window = replace(deployment.window, silence_ms=deployment.window.silence_ms + 2.0)
        session = nest_backend.NestBackend().open(replace(deployment, window=window), 0)
        if change is not None:
            change(session._nodes)
        return recorded(Agent(deployment, session, 0), self.states)

    def diagnose(self, given, deployment=None, dynamics=None, expected=None):
        return diagnose(
            deployment or self.deployment,
            dynamics or self.dynamics,
            self.states,
            given,
            expected or self.expected,
        )

    def with_projection(self, layer, change):
        """The deployment with `change` applied to all that comes into a layer."""
        target = f"layer {layer}"
        projections = (change(p) if p.target == target else p for p in self.deployment.projections)
        return replace(self.deployment, projections=tuple(projections))

    def busiest(self, layer):
        """The neuron of a layer that fires in most windows, but not in all steps."""
        return int(self.expected.rasters[layer].any(axis=1).sum(axis=0).argmax())

    def strongest(self, layer, neuron):
        """The neuron of the layer below that gives most to it."""
        counts = self.expected.rasters[layer - 1].sum(axis=(0, 1))
        return int(np.abs(self.network.layers[layer].weights[:, neuron] * counts).argmax())


@pytest.fixture(scope="module", params=PROFILES)
def case(request):
    return Case(example(0), request.param)


@pytest.fixture(scope="module", params=PROFILES)
def cartpole(request):
    return Case(load("cartpole"), request.param)


@contextmanager
def connections(connect):
    """Sessions opened within make their connections by `connect`, which may leave one to the function it is given."""
    plain = nest_backend.connect
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nest_backend, "connect", lambda *given: connect(plain, *given))
        yield


def only(faults):
    assert len(faults) == 1, [fault.text for fault in faults]
    return faults[0]


def assert_explains_all(fault, given, expected):
    differing = sum(int((a != b).any(axis=1).sum()) for a, b in zip(given.rasters, expected.rasters, strict=True))
    assert fault.explained_trains == fault.differing_trains == differing


def test_a_target_without_fault_has_none(case):
    assert case.diagnose(case.on_nest()) == ()


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_one_weight_changed(case, layer):
    factor = 1.1 if layer == 0 else 1.01
    neuron = 1 if layer == 2 else 0
    source = 1 if layer == 0 else 3

    def change(projection):
        weights = projection.weights.copy()
        weights[source, neuron] *= factor
        return replace(projection, weights=weights)

    network = case.network
    if layer == 0 and case.tick_ms == 1.0:
        # The recipe gives the first layer its input as constant currents, which are no projection's.
        weights = network.layers[0].weights.copy()
        weights[source, neuron] *= factor
        other = replace(network, layers=(replace(network.layers[0], weights=weights), *network.layers[1:]))
        given = case.on_nest(replace(plan(other, case.deployment.profile), network=other))
    else:
        given = case.on_nest(case.with_projection(layer, change))
    fault = only(case.diagnose(given))
    assert (fault.kind, fault.layer, fault.neuron, fault.source) == ("weight", layer, neuron, source)
    planned = network.layers[layer].weights[source, neuron]
    assert fault.planned == pytest.approx(planned)
    assert fault.found == pytest.approx(planned * factor, rel=2e-3)
    assert fault.low - 1e-8 <= planned * factor <= fault.high + 1e-8
    whence = f"input {source}" if layer == 0 else f"neuron {source} of layer {layer - 1}"
    assert fault.text.startswith(f"the weight from {whence} to neuron {neuron} of layer {layer} is ")
    assert "would explain as much" not in fault.text
    assert_explains_all(fault, given, case.expected)


@pytest.mark.parametrize("layer", [1, 2])
def test_one_projection_takes_a_tick_longer(cartpole, layer):
    tick = cartpole.tick_ms
    given = cartpole.on_nest(cartpole.with_projection(layer, lambda p: replace(p, delay_ms=p.delay_ms + tick)))
    fault = only(cartpole.diagnose(given))
    assert fault.text == f"spikes into layer {layer} take one tick ({tick:g} ms) longer than planned"
    assert fault.found == fault.planned + 1
    assert_explains_all(fault, given, cartpole.expected)


@pytest.mark.parametrize("layer", [1, 2])
def test_one_synapse_takes_a_tick_less(cartpole, layer):
    tick = cartpole.tick_ms
    neuron = cartpole.busiest(layer) if layer == 1 else 0
    source = cartpole.strongest(layer, neuron)

    def connect(plain, nest, sender, target, projection):
        if projection.target != f"layer {layer}" or not np.any(projection.weights):
            return plain(nest, sender, target, projection)
        delays = np.full(projection.weights.T.shape, projection.delay_ms)
        delays[neuron, source] -= tick
        return nest.Connect(sender, target, "all_to_all", {"weight": projection.weights.T, "delay": delays})

    # NEST fixes the range of delays beforehand, from what the projections say: one of zeros widens it.
    def silent(projection):
        return replace(projection, weights=projection.weights * 0.0, delay_ms=projection.delay_ms - tick)

    projections = cartpole.deployment.projections
    more = silent(next(p for p in projections if p.target == f"layer {layer}"))
    with connections(connect):
        given = cartpole.on_nest(replace(cartpole.deployment, projections=(*projections, more)))
    fault = only(cartpole.diagnose(given))
    assert (fault.kind, fault.layer, fault.neuron, fault.source) == ("delay", layer, neuron, source)
    assert fault.text.endswith(f"take one tick ({tick:g} ms) less than planned")
    assert_explains_all(fault, given, cartpole.expected)


@pytest.mark.parametrize("layer", [0, 1])
def test_one_threshold_off_by_a_hundredth(case, layer):
    def change(nodes):
        node = nodes[f"layer {layer}"][0]
        node.V_th = node.V_th + 0.01

    given = case.on_nest(change=change)
    fault = only(case.diagnose(given))
    assert (fault.kind, fault.layer, fault.neuron) == ("threshold", layer, 0)
    assert fault.found == pytest.approx(1.01, abs=1e-3)
    assert fault.low - 1e-6 <= 1.01 <= fault.high + 1e-6
    assert_explains_all(fault, given, case.expected)


def test_all_thresholds_of_a_layer_off(case):
    def change(nodes):
        nodes["layer 1"].V_th = np.asarray(nodes["layer 1"].V_th) + 0.05

    fault = only(case.diagnose(case.on_nest(change=change)))
    assert fault.text.startswith("the threshold of all neurons in layer 1 is 1.0")
    assert fault.neuron is None
    assert fault.found == pytest.approx(1.05, abs=1e-3)


@pytest.mark.parametrize(("layer", "neuron"), [(0, 2), (1, 4), (2, 1)])
def test_one_bias_dropped(cartpole, layer, neuron):
    bias = cartpole.network.layers[layer].neuron_bias[neuron]
    populations = list(cartpole.deployment.populations)
    at = next(i for i, population in enumerate(populations) if population.name == f"layer {layer}")
    constant = populations[at].constant_input.copy()
    constant[neuron] -= bias
    populations[at] = replace(populations[at], constant_input=constant)
    given = cartpole.on_nest(replace(cartpole.deployment, populations=tuple(populations)))
    fault = only(cartpole.diagnose(given))
    assert fault.text == f"the bias of neuron {neuron} in layer {layer} is missing: 0 instead of {bias:.5g}"
    assert_explains_all(fault, given, cartpole.expected)


def test_one_spike_in_a_hundred_lost(cartpole):
    def connect(plain, nest, sender, target, projection):
        if not projection.source.startswith("layer"):
            return plain(nest, sender, target, projection)
        synapse = {"synapse_model": "bernoulli_synapse", "p_transmit": 0.99}
        synapse |= {"weight": projection.weights.T, "delay": projection.delay_ms}
        return nest.Connect(sender, target, "all_to_all", synapse)

    with connections(connect):
        given = cartpole.on_nest()
    fault = only(cartpole.diagnose(given))
    assert fault.kind == "lost spikes"
    assert fault.found == pytest.approx(0.01, rel=0.35)
    assert fault.low < fault.found < fault.high
    assert "% of spikes are lost" in fault.text
    assert "each synapse for itself" in fault.text


# --- what would take another target to plant: the simulation stands for it -------------------------------------------


def test_packets_lost_are_told_from_synapses_that_lose_them(cartpole):
    given = cartpole.simulated(replace(cartpole.dynamics, loss=0.01), seed=5)
    fault = only(cartpole.diagnose(given))
    assert fault.kind == "lost spikes"
    assert fault.text.startswith("about ")
    assert fault.low <= 0.01 <= fault.high
    assert "each for all neurons that it goes to: " in fault.text
    assert "each synapse for itself" not in fault.text


def test_two_faults_in_two_layers(case):
    changes = (Change("threshold", 0, 2, None, 0.02), Change("weight", 1, 3, 1, 0.1))
    dynamics = case.dynamics
    for change in changes:
        dynamics = applied(dynamics, change)
    first, second = case.diagnose(case.simulated(dynamics))
    assert (first.kind, first.layer, first.neuron) == ("threshold", 0, 2)
    assert first.found == pytest.approx(1.02, abs=1e-3)
    assert (second.kind, second.layer, second.neuron, second.source) == ("weight", 1, 3, 1)
    assert second.found - second.planned == pytest.approx(0.1, rel=0.02)
    assert first.explained_trains + second.explained_trains == first.differing_trains


def test_what_nothing_explains_is_called_unknown(case):
    rng = np.random.default_rng(0)
    rasters = tuple(
        np.where(rng.random(raster.shape) < 0.01, 1 - np.minimum(raster, 1), raster) for raster in case.expected.rasters
    )
    given = replace(case.expected, rasters=rasters)
    fault = only(case.diagnose(given))
    assert fault.kind == "unknown"
    assert f"{fault.differing_trains} of {11 * N} spike trains are not as simulated, from layer 0 on" in fault.text


def test_an_undeclared_departure(case):
    if case.tick_ms == 1.0:
        pytest.skip("this profile departs by nothing")
    profile = case.deployment.profile
    kept = tuple(departure for departure in profile.departures if departure.kind != "reset")
    assert len(kept) == len(profile.departures) - 1
    deployment = replace(case.deployment, profile=profile.model_copy(update={"departures": kept}))
    dynamics = departed(deployment, [departure.kind for departure in kept])
    expected = case.simulated(dynamics)
    fault = only(case.diagnose(case.expected, deployment, dynamics, expected))
    assert fault.kind == "undeclared"
    assert fault.text == "the profile also departs by 'reset', which it does not declare"


@pytest.mark.parametrize(
    "options",
    [
        {"neuron": Neuron(reset="zero")},
        {"neuron": Neuron(membrane_decay=0.9)},
        {"neuron": Neuron(reset="zero", synapse_decay=0.5, membrane_decay=0.8)},
        {"decoder": Decoder("spike_count")},
        {"encoder": Encoder("poisson")},
    ],
    ids=["reset to zero", "leak", "synaptic currents", "spike counts", "random spikes"],
)
@pytest.mark.parametrize(
    "change",
    [Change("weight", 0, 1, 2, 0.05), Change("bias", 0, 2, None, -0.05), Change("weight", 2, 2, 3, 0.05)],
    ids=["weight", "bias", "output weight"],
)
def test_other_dynamics(options, change):
    case = Case(example(1, **options), "nest-exact")
    fault = only(case.diagnose(case.simulated(applied(case.dynamics, change))))
    assert (fault.kind, fault.layer, fault.neuron, fault.source) == (
        change.kind, change.layer, change.neuron, change.source,
    )  # fmt: skip
    assert fault.found - fault.planned == pytest.approx(change.by, rel=0.1)

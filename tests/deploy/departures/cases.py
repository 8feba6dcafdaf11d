"""Random networks and settings, for the simulation that adopts departures."""

from itertools import pairwise

import numpy as np
from hypothesis import strategies as st
from spikeloop.hardware_profiles import load_profile
from spikeloop.hardware_profiles.profile import Profile
from spikeloop.models import Conv2d, Decoder, Dense, Encoder, Network, Neuron


def subtracting(settings=None):
    """A profile on eprop_iaf, as in docs/profiles.md."""
    data = load_profile("nest-iaf_psc_delta").model_dump()
    parameters = {"C_m": 1.0, "tau_m": 1e10, "E_L": 0.0, "t_ref": 0.0, "V_th": 1.0}
    data["neuron"] = {"model": "eprop_iaf", "reset": "subtract", "parameters": parameters}
    return Profile.model_validate(data).with_settings(settings or {})


def resetting(settings=None):
    return load_profile("nest-iaf_psc_delta", settings)


def truncated(settings=None):
    return load_profile("spinnaker-ifcurdelta", {"model": "IFTruncDelta", **(settings or {})})


def network_of(seed, sizes, neuron, encoder, decoder, delays, steps, on_grid=False):
    """The layers' sizes without the first: that is the encoder's. On the grid, all sums are exact in float64."""
    rng = np.random.default_rng(seed)

    def drawn(mean, deviation, shape):
        values = rng.normal(mean, deviation, shape)
        return np.round(values * 4) / 4 if on_grid else values

    fan = [sizes[0] * (1 + encoder.two_neurons) + encoder.constant_one, *sizes[1:]]
    layers = tuple(
        Dense(drawn(0.0, 1.3, pair), drawn(0.1, 0.2, pair[1]), delay)
        for pair, delay in zip(pairwise(fan), delays, strict=True)
    )
    return Network(layers, steps, neuron, encoder, decoder, name=f"random {seed}")


def convolutional(seed, neuron, encoder, decoder, delays=(1, 2, 1), steps=12):
    rng = np.random.default_rng(seed)
    layers = (
        Conv2d(rng.normal(0.0, 0.7, (3, 2, 3, 2)), rng.normal(0.1, 0.2, 3), input_shape=(2, 5, 4), stride=(2, 1)),
        Conv2d(np.full((3, 1, 2, 2), 0.25), input_shape=(3, 2, 3), padding=(0, 1), groups=3, delay=delays[1]),
        Dense(rng.normal(0.0, 0.8, (12, 3)), rng.normal(0.1, 0.2, 3), delays[2]),
    )
    return Network(layers, steps, neuron, encoder, decoder, name=f"convolutional {seed}")


neurons = st.builds(
    Neuron,
    threshold=st.sampled_from([1.0, 0.8, 2.0]),
    reset=st.sampled_from(["subtract", "zero"]),
    membrane_decay=st.sampled_from([1.0, 0.9, 0.5, 0.0]),
    synapse_decay=st.sampled_from([0.0, 0.0, 0.6]),
    compare=st.sampled_from([">", ">="]),
)
encoders = st.builds(
    Encoder,
    kind=st.sampled_from(["current", "poisson", "equidistant"]),
    two_neurons=st.booleans(),
    constant_one=st.booleans(),
)
decoders = st.builds(Decoder, st.sampled_from(["potential", "spike_count", "first_spike"]))


@st.composite
def networks(draw, neuron=neurons, on_grid=False):
    """Dense networks of one to three layers."""
    sizes = draw(st.lists(st.integers(1, 7), min_size=2, max_size=4))
    delays = [1, *(draw(st.integers(1, 4)) for _ in sizes[2:])]
    seed, steps = draw(st.integers(0, 10**6)), draw(st.integers(1, 20))
    return network_of(seed, sizes, draw(neuron), draw(encoders), draw(decoders), delays, steps, on_grid)


@st.composite
def times(draw, resolutions):
    resolution = draw(st.sampled_from(resolutions))
    return {
        "resolution_ms": resolution,
        "step_ms": resolution * draw(st.integers(1, 10)),
        "delay_ms": resolution * draw(st.integers(1, 12)),
    }


@st.composite
def nest_profiles(draw):
    """iaf_psc_delta or eprop_iaf, with any settings."""
    values = draw(times([0.1, 0.125, 0.5, 1.0, 2.0]))
    resolution = values["resolution_ms"]
    values |= {
        "input_delay_ms": resolution * draw(st.integers(0, 13)),
        "t_ref": resolution * draw(st.integers(0, 6)),
        "tau_m": draw(st.sampled_from([0.7, 5.0, 1e10])),
        "C_m": draw(st.sampled_from([0.3, 1.0, 2.5])),
        "E_L": draw(st.sampled_from([0.0, -0.4, 0.2])),
        "V_th": draw(st.sampled_from([1.0, 0.6, 1.3])),
    }
    if draw(st.booleans()):
        return subtracting(values)
    return resetting(values | {"V_reset": draw(st.sampled_from([0.0, -0.7]))})


@st.composite
def pynn_settings(draw, resolutions):
    values = draw(times(resolutions))
    return values | {
        "tau_m": draw(st.sampled_from([5.0, 100.0, 1024.0])),
        "cm": draw(st.sampled_from([0.7, 1.0])),
        "v_rest": draw(st.sampled_from([0.0, -0.4])),
        "v_reset": draw(st.sampled_from([0.0, -0.7])),
        "v_thresh": draw(st.sampled_from([1.0, 0.9, 1.3])),
        "v_thresh_output": draw(st.sampled_from([10000.0, 3.0])),
        "tau_refrac": values["resolution_ms"] * draw(st.integers(0, 2)),
        "slowdown": draw(st.sampled_from([1.0, 2.0, 8.0])),
        "copies": draw(st.sampled_from([1, 4])),
    }


@st.composite
def spinnaker_profiles(draw):
    """IF_curr_delta or IFTruncDelta on SpiNNaker, with any settings."""
    if draw(st.booleans()):
        return truncated(draw(pynn_settings([1.0])))
    name = draw(st.sampled_from(["spinnaker-ifcurdelta", "spinnaker-converted"]))
    return load_profile(name, draw(pynn_settings([1.0, 2.0, 3.0])))

"""The fixed-point model by itself: its arithmetic, its conversions, and its dynamics against the plain equations."""

import importlib.metadata
import math
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spikeloop.tests.virtual_board import fixed_point as fp
from spikeloop.tests.virtual_board.fixed_point import ONE, Population, Projection, SpikeSource

accums = st.integers(-(2**31), 2**31 - 1)
fractions = st.integers(0, 2**32 - 1)


def wrapped(x):
    return (x + 2**31) % 2**32 - 2**31


# Arithmetic


@pytest.mark.parametrize(
    ("x", "y", "product"),
    [
        (1, 1, 0),
        (-1, 1, -1),  # towards minus infinity, not towards zero
        (-1, ONE, -1),
        (3, ONE // 2, 1),
        (-3, ONE // 2, -2),
        (300 * ONE, 300 * ONE, (90000 - 131072) * ONE),  # wraps, does not saturate
        (-(2**31), -(2**31), 0),
        (2**31 - 1, 2**31 - 1, -(2**17)),
    ],
)
def test_products(x, y, product):
    assert fp.multiply(np.int64(x), np.int64(y)) == product


@given(accums, accums)
def test_products_are_floor_then_wrap(x, y):
    assert fp.multiply(np.int64(x), np.int64(y)) == wrapped(math.floor(Fraction(x * y, ONE)))


@given(accums, fractions)
def test_decays_are_floor(x, factor):
    assert fp.decay_accum(np.int64(x), np.int64(factor)) == math.floor(Fraction(x * factor, 2**32))


@given(st.integers(0, 2**31 - 1), st.integers(1, 2**31 - 1))
def test_quotients_are_truncated(x, y):
    assert fp.divide(x, y) == wrapped(math.floor(Fraction(x * ONE, y)) % 2**32)


def test_a_negative_dividend_is_read_as_a_huge_one():
    assert fp.divide(-ONE, ONE) == -ONE  # 2**64 - 2**30 over 2**15 keeps the low bits
    assert fp.divide(-ONE, 3 * ONE) != -ONE // 3


@given(st.integers(-340695, 0))
def test_exponentials_are_close_and_rounded_down(x):
    exact = math.exp(x / ONE)
    assert -1.1 / ONE < fp.exp_accum(x) / ONE - exact < 2e-6
    if x:
        assert fp.exp_fraction(x) / 2**32 == pytest.approx(exact, abs=2e-6)


def test_exponentials_at_their_limits():
    inputs = (-340696, 0, ONE, 363408, 363409)
    assert [fp.exp_accum(x) for x in inputs] == [0, ONE, 89072, 2147433656, 2**31 - 1]
    assert [fp.exp_fraction(x) for x in (-340696, -1, 0)] == [0, 4294830979, 0]


@pytest.fixture(scope="module")
def firmware():
    """A function that calls a routine of the shipped IF_curr_exp.aplx with four words and returns r0."""
    reason = "needs unicorn and sPyNNaker"
    unicorn = pytest.importorskip("unicorn", reason=reason)
    arm = pytest.importorskip("unicorn.arm_const", reason=reason)
    try:
        found = importlib.metadata.distribution("sPyNNaker")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(reason)
    if not found.version.endswith("7.4.1"):
        pytest.skip("the routines' addresses are those of sPyNNaker 7.4.1")
    image = Path(found.locate_file("spynnaker/pyNN/model_binaries/IF_curr_exp.aplx")).read_bytes()
    (size,) = struct.unpack_from("<I", image, 12)
    core = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_ARM)
    core.mem_map(0, 0x10000)
    core.mem_write(0, image[0x40 : 0x40 + size])
    core.mem_map(0x400000, 0x10000)
    stop, words = 0xFF00, [arm.UC_ARM_REG_R0, arm.UC_ARM_REG_R1, arm.UC_ARM_REG_R2, arm.UC_ARM_REG_R3]

    def call(address, *arguments):
        for register, value in zip(words, arguments, strict=False):
            core.reg_write(register, value & 0xFFFFFFFF)
        core.reg_write(arm.UC_ARM_REG_SP, 0x40F000)
        core.reg_write(arm.UC_ARM_REG_LR, stop)
        core.emu_start(address, stop)
        return core.reg_read(arm.UC_ARM_REG_R0)

    return call


def test_exponentials_are_the_firmware_s(firmware):
    inputs = [*range(-340700, 363412, 211), *range(-70000, 2, 97), -340696, -340695, 363408, 363409, -1, 0, 1]
    for x in inputs:
        assert firmware(0x4DD8, x) == fp.exp_accum(x), x
        assert firmware(0x4E1C, x) == fp.exp_fraction(x), x


def test_quotients_are_the_firmware_s(firmware):
    rng = np.random.default_rng(1)
    for x, y in (rng.integers(-(2**31), 2**31, (2000, 2)) >> rng.integers(0, 31, (2000, 2))).tolist():
        if y:
            dividend = x << 15
            assert firmware(0x650, dividend, dividend >> 32, y, y >> 32) == fp.divide(x, y) & 0xFFFFFFFF, (x, y)


# Conversions


@pytest.mark.parametrize(
    ("value", "number"),
    [(0.1, 3277), (0.5 / ONE, 0), (1.5 / ONE, 2), (-0.5 / ONE, 0), (-65.0, -65 * ONE), (65535.99999, 2**31 - 1)],
)
def test_parameters_are_rounded_to_nearest_even(value, number):
    if number == 2**31 - 1:
        value = (2**31 - 1) / ONE
    assert fp.accum_of(value) == number


@pytest.mark.parametrize("value", [65536.0, -65536.1])
def test_parameters_out_of_range_are_refused(value):
    with pytest.raises(ValueError, match="does not fit"):
        fp.accum_of(value)


def test_unknown_parameters_are_refused():
    with pytest.raises(ValueError, match="tau_syn_E"):
        Population("IF_curr_delta", 1, tau_syn_E=5.0)


def test_weights_of_host_and_machine_differ_in_ties():
    ties = np.array([0.5, 1.5, 2.5, -2.5]) / 16  # shift 11: one unit is 1/16
    assert fp.weights_of_host(ties, 11, "IF_curr_exp").tolist() == [0, 2, 2, 2]
    assert fp.weights_of_machine(ties, 11, "IF_curr_exp").tolist() == [1, 2, 3, 3]


def test_weights_of_the_machine_pass_through_s1615():
    weight = 0.4 / ONE
    assert fp.weights_of_host(weight, 0, "IF_cond_exp") == 410  # 0.4 * 1024 = 409.6
    assert fp.weights_of_machine(weight, 0, "IF_cond_exp") == 0


def test_weights_that_do_not_fit_lose_their_high_bits():
    assert fp.weights_of_host(2.0 + 1 / ONE, 0, "IF_curr_exp") == 1
    assert fp.weights_of_machine(2.0 + 1 / ONE, 0, "IF_curr_exp") == 1


def test_times_of_sources_are_rounded_up_to_a_step():
    assert fp.source_steps([0.0, 0.9, 1.0, 1.0004, 1.002]).tolist() == [0, 1, 1, 1, 2]
    assert fp.source_steps([0.3, 0.35], dt_ms=0.1).tolist() == [3, 4]


# Time


def jump(step, **options):
    """The first sample at which an IF_curr_delta neuron notices one spike sent in ``step``."""
    population, source = Population("IF_curr_delta", 1, shifts=(3, 3)), SpikeSource([[step]])
    projection = Projection(source, population, [0], [0], [2000], **options)
    v = fp.simulate([population, source], [projection], 80)[0].v[:, 0]
    return int(np.flatnonzero(v != v[0])[0]), int(v[v != v[0]][0]) - int(v[0])


@pytest.mark.parametrize("delay", [1, 2, 16, 40])
def test_a_spike_shows_one_sample_after_it_came_in(delay):
    first, change = jump(5, delays=[delay])
    assert first == 5 + delay + 1
    assert change > 0


def test_inhibition_moves_v_down():
    assert jump(5, delays=[3], receptor="inhibitory")[1] < 0


def test_ring_buffers_saturate_and_a_spike_sent_twice_counts_twice():
    def peak(times, weight):
        population, source = Population("IF_curr_delta", 1, v_thresh=100.0), SpikeSource([times])
        result = fp.simulate([population, source], [Projection(source, population, [0], [0], [weight], [1])], 4)[0]
        return int(result.v.max()), result.saturated

    assert peak([0, 0], 20000) == peak([0], 40000)
    assert peak([0, 0], 40000) == (peak([0], 65535)[0], 1)


def test_populations_are_recurrent_and_reset():
    population = Population("IF_curr_delta", 2, shifts=(5, 5), v=[-65.0, -40.0])
    ring = [Projection(population, population, [0, 1], [1, 0], [40000, 40000], [3, 4])]
    first, second = (fp.simulate([population], ring, 30)[0] for _ in range(2))
    assert np.argwhere(first.spikes).tolist()[:4] == [[0, 1], [4, 0], [7, 1], [11, 0]]
    np.testing.assert_array_equal(first.v, second.v)


@pytest.mark.parametrize(("tau_refrac", "pause"), [(0.0, 0), (0.1, 1), (1.0, 1), (2.0, 2), (2.5, 3)])
def test_refractory_period_in_whole_steps(tau_refrac, pause):
    population = Population("IF_curr_exp", 1, i_offset=100.0, tau_refrac=tau_refrac, v_reset=-65.0)
    spikes = np.flatnonzero(fp.simulate([population], [], 30)[0].spikes)
    assert set(np.diff(spikes)) == {1 + pause}


def test_threshold_is_reached_when_equal():
    still = {"v_rest": -50.0, "v": -50.0, "v_reset": -60.0}
    assert fp.simulate([Population("IF_curr_exp", 1, v_thresh=-50.0, **still)], [], 1)[0].spikes[0, 0]
    assert not fp.simulate([Population("IF_curr_exp", 1, v_thresh=-49.99, **still)], [], 1)[0].spikes[0, 0]


# Dynamics against floating point


def arrivals(model, weight, steps=60, **parameters):
    """v in mV of a neuron that gets one excitatory spike in step 1 and one inhibitory spike in step 20."""
    population, source = Population(model, 1, shifts=(4, 4), **parameters), SpikeSource([[0], [19]])
    units = fp.weights_of_host(weight, 4, model)
    both = [Projection(source, population, [i], [0], units, [1], r) for i, r in enumerate(("excitatory", "inhibitory"))]
    return fp.simulate([population, source], both, steps)[0].v[:, 0] / ONE


@pytest.mark.parametrize("model", ["IF_curr_exp", "IF_cond_exp", "IF_curr_delta"])
def test_membranes_solve_their_equation(model):
    weight, tau, tau_syn, steps = {"IF_cond_exp": 0.02}.get(model, 2.0), 20.0, 5.0, 60
    v, synapses, expected = -65.0, np.zeros(2), []
    mean = 1.0 if model == "IF_curr_delta" else (1 - math.exp(-1 / tau_syn)) * tau_syn
    for step in range(steps):
        expected.append(v)
        synapses += weight * mean * np.array([step == 1, step == 20])
        pull = np.array([0.0 - v, v + 70.0]) if model == "IF_cond_exp" else np.ones(2)
        current = synapses @ (pull * [1, -1])
        target = -65.0 + tau * current
        v = target + (v - target) * math.exp(-1 / tau)
        synapses *= 0 if model == "IF_curr_delta" else math.exp(-1 / tau_syn)
    assert max(expected) > -63.1
    np.testing.assert_allclose(arrivals(model, weight, steps), expected, atol=0.02)


@pytest.mark.parametrize("model", ["Izhikevich", "Izhikevich_cond"])
def test_izhikevich_neurons_solve_their_equation(model):
    weight = {"Izhikevich_cond": 0.03}.get(model, 2.0)
    v, u, synapses, expected = -70.0, -14.0, np.zeros(2), []

    def slope(v, u, current):
        return np.array([0.04 * v * v + 5 * v + 140 - u + current, 0.02 * (0.2 * v - u)])

    for step in range(40):
        expected.append(v)
        synapses += weight * (1 - math.exp(-0.2)) * 5 * np.array([step == 1, step == 20])
        pull = np.array([0.0 - v, v + 70.0]) if model == "Izhikevich_cond" else np.ones(2)
        current = synapses @ (pull * [1, -1])
        middle = np.array([v, u]) + slope(v, u, current) / 2
        v, u = np.array([v, u]) + slope(*middle, current)
        synapses *= math.exp(-0.2)
    np.testing.assert_allclose(arrivals(model, weight, 40), expected, atol=0.4)


def test_an_izhikevich_neuron_makes_up_for_its_spike_in_the_next_step():
    population = Population("Izhikevich", 1, i_offset=12.0)
    population_v = fp.simulate([population], [], 200)[0]
    fired = np.flatnonzero(population_v.spikes)
    assert len(fired) > 3
    assert set(population_v.v[fired + 1, 0]) == {-65 * ONE}
    assert population._h[0] in (ONE, 60620)

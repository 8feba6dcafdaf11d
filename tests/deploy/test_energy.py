"""Energy estimates: against sPyNNaker's own report, against published totals, and what is refused."""

import math
from dataclasses import replace

import pytest
from spikeloop.deploy import energy
from spikeloop.deploy.energy import Energy, SpinnakerUse, estimate_cpu, estimate_spinnaker
from spikeloop.errors import InvalidInputError

ONE_SECOND = SpinnakerUse(chips=1, cores=6, ms=1000, packets=5e6)


@pytest.mark.parametrize("version", [3, 5])
def test_without_synaptic_events_it_is_what_spynnakers_report_says(version):
    pytest.importorskip("spinn_machine", reason="the figures are compared with those of SpiNNMachine")
    from spinn_machine.version import version_3, version_5

    kind = {3: version_3.Version3, 5: version_5.Version5}[version]
    machine = object.__new__(kind)  # its constructor wants sPyNNaker's configuration, its formulas do not
    active, packets = {(0, 0): (6.0, 6)}, {(0, 0): {"Local_Multicast_Packets": 5e6}}
    theirs = kind.get_active_energy(machine, 1.0, 0, 1, 1, active, packets)
    assert estimate_spinnaker(replace(ONE_SECOND, version=version)).joules == pytest.approx(theirs, rel=1e-12)
    share = kind.get_active_energy(machine, 1.0, 0, 0, 1, active, packets)  # no board: the chip alone
    parts = estimate_spinnaker(ONE_SECOND).parts
    assert parts["idle chips"] + parts["cores"] + parts["packets"] == pytest.approx(share, rel=1e-12)


def test_a_chip_with_all_cores_awake_stays_below_the_published_watt():
    """Painkras et al. 2013: 1 W at most; Stromatias et al., IJCNN 2013: less than 1 W in the largest simulations."""
    parts = estimate_spinnaker(SpinnakerUse(chips=48, cores=48 * 18, ms=1000)).parts
    assert 0.9 < (parts["idle chips"] + parts["cores"]) / 48 < 1.0


def test_the_estimate_is_above_what_was_measured_of_a_loaded_board():
    """SNABSuite, spinnaker_energy.json: with 16,065 (63 x 255) silent neurons a board of version 3 drew 4.11 W."""
    joules = estimate_spinnaker(SpinnakerUse(chips=4, cores=16_065 // 255, ms=1000, version=3)).joules
    assert 4.11 < joules < 1.5 * 4.11


def test_waiting_costs_the_idle_board_and_no_core():
    runs, waits = (estimate_spinnaker(replace(ONE_SECOND, waiting_ms=ms)) for ms in (0, 1000))
    assert waits.joules - runs.joules == pytest.approx(energy.BOARDS[5][1])
    assert all(waits.parts[name] == runs.parts[name] for name in ("cores", "packets", "synaptic events"))


def test_synaptic_events_and_boards_add_up():
    def joules(**changes):
        return estimate_spinnaker(replace(ONE_SECOND, **changes)).joules

    assert joules(synaptic_events=2e6) - joules() == pytest.approx(2e6 * energy.SYNAPTIC_EVENT_J)
    assert joules(chips=48) == pytest.approx(joules())  # the same board
    assert joules(chips=49) - joules() == pytest.approx(energy.BOARDS[5][1])


def test_cpu_time_times_power():
    assert estimate_cpu(0.5).joules == 0.5 * energy.CPU_CORE_W
    assert str(estimate_cpu(1e-4)) == "1.2 mJ (estimate; CPU time x 12 W per core, Lannelongue et al. 2021)"
    assert str(estimate_cpu(2.0, watts_per_core=7.5)) == "15 J (estimate; CPU time x 7.5 W per core, as given)"


TEXTS = {0.0: "0 J", 0.26842: "270 mJ", 9.996e-4: "1.0 mJ", 9.96e-6: "10 uJ", 4.2e-12: "4.2 pJ", 61_000: "61 kJ"}


@pytest.mark.parametrize(("joules", "text"), TEXTS.items())
def test_text_has_two_digits_and_a_unit(joules, text):
    assert str(Energy({"all": joules}, "a source")) == f"{text} (estimate; a source)"


def test_per_decision():
    total = estimate_spinnaker(ONE_SECOND)
    assert total.per(50).joules == pytest.approx(total.joules / 50)
    assert total.per(50).as_dict()["parts_joules"].keys() == total.parts.keys()
    with pytest.raises(InvalidInputError, match="0 decisions"):
        total.per(0)


@pytest.mark.parametrize("key", ["ms", "waiting_ms", "packets", "synaptic_events"])
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_times_and_counts_are_checked(key, value):
    with pytest.raises(InvalidInputError, match=f"^{key}="):
        replace(ONE_SECOND, **{key: value})


@pytest.mark.parametrize("wrong", [{"chips": 0}, {"cores": 19}, {"version": 4}, {"chips": 5, "version": 3}])
def test_what_no_machine_has_is_refused(wrong):
    with pytest.raises(InvalidInputError, match=f"^{next(iter(wrong))}="):
        replace(ONE_SECOND, **wrong)


@pytest.mark.parametrize("arguments", [(-1.0,), (math.nan,), (1.0, -12.0), (1.0, math.inf)])
def test_cpu_time_and_power_are_checked(arguments):
    with pytest.raises(InvalidInputError, match="finite"):
        estimate_cpu(*arguments)

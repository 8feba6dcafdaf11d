"""What the SpiNNaker profiles declare, on emulated cores that run the shipped firmware."""

import pytest
from spikeloop.deploy.departures.conformance import NOTHING_UNDECLARED, check_departures
from spikeloop.deploy.spinnaker.backend import SpinnakerBackend
from spikeloop.hardware_profiles import load_profile

pytest.importorskip("spynnaker", reason="sPyNNaker is not installed")
pytest.importorskip("unicorn", reason="unicorn, the virtual board's emulator, is not installed")


@pytest.mark.parametrize(
    ("name", "skipped"),
    [
        ("spinnaker-ifcurdelta", set()),
        # The board sends no potentials, which alone show when within a tick the reset takes place.
        ("spinnaker-live", {"order", "packet loss"}),
    ],
)
def test_a_machine_departs_as_declared(spinnaker, name, skipped):
    target, where = spinnaker
    profile = load_profile(name, {"target": target, **where})
    outcomes = check_departures(SpinnakerBackend, profile)
    assert [o.check for o in outcomes] == [*(d.kind for d in profile.departures), NOTHING_UNDECLARED]
    assert not [o for o in outcomes if o.status == "failed"]
    assert {o.check for o in outcomes if o.status == "skipped"} == skipped

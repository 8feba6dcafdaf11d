"""How a check's findings are put in words."""

import pytest
from spikeloop.cli import words
from spikeloop.runtime.fidelity.report import Attribution, Cause


def attribution(**points):
    causes = tuple(Cause(kind.replace("_", " "), "", 1.0, 0, 1.0, 0, value) for kind, value in points.items())
    return Attribution(causes, 0.9, 10, (), (), 0, 0, False, 4, 10.0)


@pytest.mark.parametrize(
    ("points", "says"),
    [
        ({"reset": 3.2, "delay": 1.5, "time_step": -6.7}, "reset −3.2"),  # the largest share is of one that helps
        ({"delay": 1.5}, "delay −1.5"),
        ({"reset": 0.0, "time_step": -6.7}, ""),
        ({}, ""),
    ],
)
def test_the_costliest_departure(points, says):
    assert words.leading(attribution(**points)) == says

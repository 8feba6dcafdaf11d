"""A dataclass as a command line."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from spikeloop.errors import InvalidInputError
from spikeloop.training.arguments import parse


@dataclass(frozen=True)
class Settings:
    """Do a thing.

    Parameters
    ----------
    speed, weight : float
        Of the thing, at most 100 %.
    kind : "hot" or "cold"
        Which.
    """

    kind: Literal["hot", "cold"]
    speed: float = 1.5
    weight: float = 2.0
    sizes: tuple[int, ...] = (16, 16)
    loud: bool = False
    output: Path | None = None


def test_defaults_stand():
    assert parse(Settings, "thing", ["--kind", "hot"]) == Settings("hot")


def test_every_kind_of_value():
    given = ["--kind", "cold", "--speed", "3", "--sizes", "4", "5", "6", "--loud", "-o", "a/b.spk"]
    assert parse(Settings, "thing", given) == Settings("cold", 3.0, 2.0, (4, 5, 6), True, Path("a/b.spk"))


def test_several_values_can_be_given_one_by_one():
    assert parse(Settings, "thing", ["--kind", "hot", "--sizes", "4", "--sizes", "5", "6"]).sizes == (4, 5, 6)


@pytest.mark.parametrize("given", ["", "--kind warm", "--kind hot --speed fast", "--kind hot --unknown 1"])
def test_refused(given):
    with pytest.raises(InvalidInputError, match="thing --help says how"):
        parse(Settings, "thing", given.split())


def test_help_is_the_docstring(capsys):
    with pytest.raises(SystemExit):
        parse(Settings, "thing", ["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "Do a thing." in text
    assert "--speed FLOAT Of the thing, at most 100 %. [1.5]" in text
    assert "--weight FLOAT Of the thing, at most 100 %. [2.0]" in text
    assert "--sizes INT [INT ...] [16 16]" in text

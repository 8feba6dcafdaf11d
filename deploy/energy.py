"""What a decision costs in energy: estimates from published figures, never measurements.

SpiNNaker is estimated from above: every core counts as awake for the whole of the run, as sPyNNaker's own report does
where no core watches the others. What a synaptic event makes its core do is then in two parts, ``cores`` and
``synaptic events``. The board stands for a real one, whatever runs the firmware.

Sources
-------
.. [1] SpiNNMachine 7.4.1, spinn_machine/version/version_spin1.py, version_3.py and version_5.py: the constants of
   sPyNNaker's energy report, each with its origin: [2]_, [3]_, or a power meter at a boxed board.
.. [2] Stromatias, Patterson, Furber: Optimising the overall power usage on the SpiNNaker neuromimetic platform.
   IJCNN 2014.
.. [3] Painkras et al.: SpiNNaker: A 1-W 18-Core System-on-Chip for Massively-Parallel Neural Network Simulation.
   IEEE Journal of Solid-State Circuits 48(8), 2013.
.. [4] SNABSuite (github.com/hbp-unibi/SNABSuite, commit ca36ee06), config_energy/spinnaker_energy.json and
   spinnaker_energy_spinn5.json; the method: Ostrau et al., Frontiers in Neuroscience 16:873935, 2022.
.. [5] Lannelongue, Grealey, Inouye: Green Algorithms: Quantifying the Carbon Footprint of Computation. Advanced
   Science, 2021, 2100707; the figures are in the authors' green-algorithms-tool, data/latest/TDP_cpu.csv.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

from ..errors import InvalidInputError

CHIP_IDLE_W = 0.35  # [1] after [2]: 16.82 W for the 48 chips of an idle board, their SDRAM included
CORE_AWAKE_W = (
    0.034  # [1]: 59.38 W with 806 cores active, 31.88 W with all idle, at a boxed board; on top of the idle chip
)
PACKET_J = 40 * 25e-12  # [1] after [3]: 25 pJ per bit, 40 bits in a multicast packet without payload
SYNAPTIC_EVENT_J = 9.6e-9  # [4], SpiNN3, Transmission_random: 9.59 nJ, std 0.27; on SpiNN5 7.55 nJ, std 1.29
CORES_PER_CHIP = 18  # [3], the monitor included
BOARDS = {  # version: chips, W of the idle board, boards in the largest machine
    3: (4, 3.56, 1),  # [1]: measured for an hour
    5: (48, 26.84, 1200),  # [1] after [2]; a box with its power supply would add 5.04 W
}
CPU_CORE_W = 12.0  # [5], row "Any": thermal design power per core; the table's rows lie between 3.8 and 23.8 W


@dataclass(frozen=True, slots=True)
class Energy:
    """An estimate: its parts in joules, by name, and where the figures come from."""

    parts: Mapping[str, float]
    source: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", MappingProxyType(dict(self.parts)))

    @property
    def joules(self) -> float:
        """The sum of the parts."""
        return math.fsum(self.parts.values())

    def per(self, decisions: int) -> Energy:
        """This energy shared out equally among `decisions`, at least one."""
        if decisions < 1:
            raise InvalidInputError(f"{decisions} decisions were given; it takes at least 1 to share an energy among.")
        return Energy({name: joules / decisions for name, joules in self.parts.items()}, self.source)

    def as_dict(self) -> dict[str, Any]:
        """The estimate as plain values, for JSON."""
        return {"estimate": True, "joules": self.joules, "parts_joules": dict(self.parts), "source": self.source}

    def __str__(self) -> str:
        return f"{_with_unit(self.joules)} (estimate; {self.source})"


@dataclass(frozen=True, slots=True)
class SpinnakerUse:
    """What a run, or one decision, takes of a SpiNNaker machine.

    Attributes
    ----------
    chips, cores : int
    ms : float
        Wall time in which the cores run: time steps x length of a step x time_scale_factor.
    packets, synaptic_events : float
        Multicast packets sent, and synapses that these reach, or what is expected of either.
    waiting_ms : float
        Wall time in which the machine is held but stands still, as between two decisions in lock-step.
    version : 3 or 5
        Of the boards.

    Raises
    ------
    InvalidInputError
        If a count or a time is negative or not finite, or no machine has so many chips or cores.
    """

    chips: int
    cores: int
    ms: float
    packets: float = 0
    synaptic_events: float = 0
    waiting_ms: float = 0.0
    version: int = 5

    def __post_init__(self) -> None:
        for field in fields(self):
            _checked(field.name, getattr(self, field.name))
        if self.version not in BOARDS:
            raise InvalidInputError(f"version={self.version} was given; the figures are for boards of version 3 and 5.")
        chips_of_board, _, boards = BOARDS[self.version]
        for name, least, most in (("chips", 1, chips_of_board * boards), ("cores", 0, CORES_PER_CHIP * self.chips)):
            if not least <= (given := getattr(self, name)) <= most:
                raise InvalidInputError(f"{name}={given} was given; there can be {least} to {most} here.")


def estimate_spinnaker(use: SpinnakerUse) -> Energy:
    """Estimate the energy of `use` from above: whole boards, every core awake for all of `use.ms`."""
    running_s, held_s = use.ms / 1e3, (use.ms + use.waiting_ms) / 1e3
    chips_of_board, board_w, _ = BOARDS[use.version]
    boards = math.ceil(use.chips / chips_of_board)
    chips_w = use.chips * CHIP_IDLE_W
    parts = {
        "idle chips": chips_w * held_s,
        "rest of the board": (boards * board_w - chips_w) * held_s,
        "cores": use.cores * CORE_AWAKE_W * running_s,
        "packets": use.packets * PACKET_J,
        "synaptic events": use.synaptic_events * SYNAPTIC_EVENT_J,
    }
    return Energy(parts, "SpiNNMachine 7.4.1 and SNABSuite, cores counted as always awake")


def estimate_cpu(cpu_s: float, watts_per_core: float | None = None) -> Energy:
    """Estimate the energy of `cpu_s` seconds of `time.process_time`: the processor, not the rest of the computer."""
    watts = CPU_CORE_W if watts_per_core is None else _checked("watts_per_core", watts_per_core)
    origin = "Lannelongue et al. 2021" if watts_per_core is None else "as given"
    return Energy({"cpu": _checked("cpu_s", cpu_s) * watts}, f"CPU time x {watts:g} W per core, {origin}")


def _checked(name: str, value: float) -> float:
    if not (math.isfinite(value) and value >= 0):
        raise InvalidInputError(f"{name}={value} was given; it must be a finite number, 0 or more.")
    return value


def _with_unit(joules: float) -> str:
    rounded = float(f"{joules:.1e}")  # before the unit is chosen: 0.9996 mJ is 1.0 mJ, not 1000 uJ
    units = {"kJ": 1e3, "J": 1.0, "mJ": 1e-3, "uJ": 1e-6, "nJ": 1e-9, "pJ": 1e-12}
    unit = next((unit for unit, size in units.items() if rounded >= size), "J")
    value = rounded / units[unit]
    return f"{value:.1f} {unit}" if 0 < value < 9.95 else f"{value:.0f} {unit}"

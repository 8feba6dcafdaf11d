"""What is broken on the board, on purpose: so that users can see what their scripts and the host tools do about it."""

from __future__ import annotations

from dataclasses import dataclass, fields

from .errors import BoardSettingError
from .geometry import Coordinates, Geometry
from .layout import N_CORES


@dataclass(frozen=True)
class Faults:
    """Faults of a board. All chance is drawn from ``seed``.

    Attributes
    ----------
    drop_packets : share of multicast packets (spikes) that a router drops each time one passes it
    dead_cores : (x, y, physical core); the chip's other cores are numbered as if it were not there
    dead_chips : (x, y)
    dead_links : (x, y, link), cut in both directions
    udp_loss : share of UDP packets that are lost, in each direction
    udp_delay_ms : how late every UDP packet comes, in each direction (wall time)
    seed : of the random numbers
    """

    drop_packets: float = 0.0
    dead_cores: tuple[tuple[int, int, int], ...] = ()
    dead_chips: tuple[Coordinates, ...] = ()
    dead_links: tuple[tuple[int, int, int], ...] = ()
    udp_loss: float = 0.0
    udp_delay_ms: float = 0.0
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("drop_packets", "udp_loss"):
            rate = getattr(self, name)
            if not 0 <= rate < 1:
                raise BoardSettingError(f"{name} is {rate}; it is a share: at least 0 and less than 1")
        if not 0 <= self.udp_delay_ms <= 10_000:
            raise BoardSettingError(f"udp_delay_ms is {self.udp_delay_ms}; it is between 0 and 10,000")

    def cores_by_chip(self, geometry: Geometry) -> dict[Coordinates, set[int]]:
        """The dead physical cores of each chip."""
        dead: dict[Coordinates, set[int]] = {}
        for x, y, core in self.dead_cores:
            if (x, y) not in geometry.ethernet_of:
                raise BoardSettingError(f"core {x},{y},{core} cannot be dead: there is no chip {x},{y}")
            if not 1 <= core < N_CORES:
                raise BoardSettingError(f"core {x},{y},{core} cannot be dead: name one of 1 to {N_CORES - 1} (0 runs "
                                        "the monitor)")  # fmt: skip
            dead.setdefault((x, y), set()).add(core)
        return dead

    def __str__(self) -> str:
        set_here = [field for field in fields(self) if getattr(self, field.name) != field.default]
        return ", ".join(f"{field.name} {getattr(self, field.name)}" for field in set_here) or "none"

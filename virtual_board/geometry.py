"""Which chips a board has, how they are linked, and how messages find the way between them.

A chip's six links point east, north-east, north, west, south-west and south. Version 3 is the 2 x 2 board; version 5
the hexagon of 48 chips; a machine of several version-5 boards is made of triads, each 12 x 12 chips wide and closed
into a torus, as SpiNNaker machines are wired (SpiNNMachine, ``version_5.py``).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import cached_property

from .errors import BoardSettingError
from .layout import N_LINKS, P2P_NONE, P2P_SELF

Coordinates = tuple[int, int]
STEPS: tuple[Coordinates, ...] = ((1, 0), (1, 1), (0, 1), (-1, 0), (-1, -1), (0, -1))
VERSIONS = (3, 5)
_TRIAD = ((0, 0), (4, 8), (8, 4))  # where the Ethernet chips of the three boards of a triad are
_ROWS = {y: (max(0, y - 3), min(7, y + 4)) for y in range(8)}  # the hexagon: first and last x of each row
_HEXAGON = tuple((x, y) for y, (first, last) in _ROWS.items() for x in range(first, last + 1))
_VERSION_3_LINKS = {(0, 0): (0, 1, 2, 5), (0, 1): (0, 1, 2, 5), (1, 0): (2, 3, 4, 5), (1, 1): (2, 3, 4, 5)}


@dataclass(frozen=True)
class Geometry:
    """The chips of a machine and their links.

    Attributes
    ----------
    version : 3 or 5
    width, height : in chips
    ethernet_of : for each chip, the chip by which its board is connected
    neighbours : for each chip, what its six links lead to (None where there is nothing)
    """

    version: int
    width: int
    height: int
    ethernet_of: dict[Coordinates, Coordinates]
    neighbours: dict[Coordinates, tuple[Coordinates | None, ...]] = field(repr=False)

    @cached_property
    def chips(self) -> list[Coordinates]:
        """All chips, the root first."""
        return sorted(self.ethernet_of)

    @cached_property
    def ethernet_chips(self) -> list[Coordinates]:
        """The chips with a network connection, the root first."""
        return sorted(set(self.ethernet_of.values()))

    def without(self, dead_chips: set[Coordinates], dead_links: set[tuple[int, int, int]]) -> Geometry:
        """The same machine where these chips are missing, and these links (x, y, link) are cut in both directions."""
        for x, y in dead_chips | {(x, y) for x, y, _ in dead_links}:
            if (x, y) not in self.ethernet_of:
                raise BoardSettingError(f"there is no chip {x},{y} on this board; it has {_range(self)}")
        for chip in dead_chips:
            if chip in self.ethernet_chips:
                raise BoardSettingError(
                    f"chip {chip[0]},{chip[1]} cannot be dead: the board is connected by it; choose another chip"
                )
        cut = set()
        for x, y, link in dead_links:
            if not 0 <= link < N_LINKS:
                raise BoardSettingError(f"link {link} of chip {x},{y} was named; links are 0 to {N_LINKS - 1}")
            other = self.neighbours[x, y][link]
            if other is None:
                raise BoardSettingError(f"chip {x},{y} has no link {link} on a version {self.version} board")
            cut |= {(x, y, link), (*other, (link + 3) % N_LINKS)}
        return Geometry(
            self.version,
            self.width,
            self.height,
            {chip: root for chip, root in self.ethernet_of.items() if chip not in dead_chips},
            {
                chip: tuple(
                    None if other is None or other in dead_chips or (*chip, link) in cut else other
                    for link, other in enumerate(others)
                )
                for chip, others in self.neighbours.items()
                if chip not in dead_chips
            },
        )

    def routes_from(self, start: Coordinates) -> dict[Coordinates, int]:
        """For each chip that can be reached, the link to leave ``start`` by (`P2P_SELF` for itself)."""
        routes = {start: P2P_SELF}
        waiting = deque([start])
        while waiting:
            here = waiting.popleft()
            for link, there in enumerate(self.neighbours[here]):
                if there is not None and there not in routes:
                    routes[there] = link if here == start else routes[here]
                    waiting.append(there)
        return routes


def _range(geometry: Geometry) -> str:
    return f"{len(geometry.ethernet_of)} chips from 0,0 to {geometry.width - 1},{geometry.height - 1}"


def _version_3() -> Geometry:
    neighbours = {}
    for (x, y), links in _VERSION_3_LINKS.items():
        at = [((x + STEPS[link][0]) % 2, (y + STEPS[link][1]) % 2) if link in links else None for link in range(6)]
        neighbours[x, y] = tuple(at)
    return Geometry(3, 2, 2, dict.fromkeys(_VERSION_3_LINKS, (0, 0)), neighbours)


def _version_5(boards: int) -> Geometry:
    if boards == 1:
        width = height = 8
        roots = [(0, 0)]
    else:
        if boards % 3:
            raise BoardSettingError(f"{boards} boards were asked for; machines are built of 1 board or of 3, 6, 9, ...")
        triads = boards // 3
        width, height = 12 * triads, 12
        roots = [(12 * triad + x, y) for triad in range(triads) for x, y in _TRIAD]
    ethernet_of = {}
    for root in roots:
        for x, y in _HEXAGON:
            ethernet_of[
                (root[0] + x) % (width if boards > 1 else 99), (root[1] + y) % (height if boards > 1 else 99)
            ] = root
    neighbours = {}
    for x, y in ethernet_of:
        others = []
        for dx, dy in STEPS:
            there = (x + dx, y + dy) if boards == 1 else ((x + dx) % width, (y + dy) % height)
            others.append(there if there in ethernet_of else None)
        neighbours[x, y] = tuple(others)
    return Geometry(5, width, height, ethernet_of, neighbours)


def geometry(version: int = 3, boards: int = 1) -> Geometry:
    """The machine of this version and number of boards.

    Raises
    ------
    BoardSettingError
        There is no such machine.
    """
    if version not in VERSIONS:
        raise BoardSettingError(f"version {version} was asked for; boards are of version 3 (4 chips) or 5 (48 chips)")
    if boards < 1 or (version == 3 and boards != 1) or boards > 18:
        raise BoardSettingError(f"{boards} boards of version {version} were asked for; version 3 stands alone, "
                                "version 5 comes as 1, 3, 6, ... 18 boards")  # fmt: skip
    return _version_3() if version == 3 else _version_5(boards)


def p2p_words(geometry: Geometry, start: Coordinates) -> list[tuple[int, int]]:
    """The words (index, value) of a chip's point-to-point table that are not empty: eight entries of 3 bits each."""
    words: dict[int, int] = {}
    empty = sum(P2P_NONE << 3 * i for i in range(8))
    for (x, y), link in geometry.routes_from(start).items():
        entry = x << 8 | y
        word = words.get(entry >> 3, empty)
        shift = 3 * (entry & 7)
        words[entry >> 3] = word & ~(7 << shift) | link << shift
    return sorted(words.items())

"""Boards against what SpiNNMachine, the host tools' own package, says of them; routes by following them."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spikeloop.virtual_board import BoardSettingError
from spikeloop.virtual_board.geometry import STEPS, geometry, p2p_words
from spikeloop.virtual_board.layout import P2P_NONE, P2P_SELF
from spinn_machine.config_setup import unittest_setup
from spinn_machine.virtual_machine import virtual_machine
from spinn_utilities.config_holder import set_config
from spinnman.model.p2p_table import P2PTable

MACHINES = [(3, 1), (5, 1), (5, 3), (5, 6)]
GEOMETRIES = {machine: geometry(*machine) for machine in MACHINES}
EMPTY_WORD = sum(P2P_NONE << 3 * i for i in range(8))


@pytest.fixture(params=MACHINES, ids=lambda machine: f"version {machine[0]}, boards {machine[1]}")
def board(request):
    return GEOMETRIES[request.param]


@pytest.fixture
def host(board):
    """The machine that SpiNNMachine makes of these dimensions."""
    unittest_setup()
    set_config("Machine", "version", str(board.version))
    return virtual_machine(board.width, board.height)


def table_of(board, start):
    """The point-to-point table of a chip, read as spinnman does."""
    words = dict(p2p_words(board, start))
    columns = [
        (struct.pack("<32I", *(words.get(32 * x + i, EMPTY_WORD) for i in range(32))), 0) for x in range(board.width)
    ]
    return P2PTable(board.width, board.height, columns)


def follow(board, start, end):
    """Go from chip to chip as each one's table says; returns the number of steps."""
    here = start
    for steps in range(board.width + board.height):
        if here == end:
            return steps
        here = board.neighbours[here][board.routes_from(here)[end]]
    raise AssertionError(f"the tables lead from {start} to {end} in circles")


def test_chips_are_those_of_the_host_tools(board, host):
    assert board.chips == sorted(host.chip_coordinates)
    assert board.chips[0] == (0, 0)
    assert len(board.chips) == {3: 4, 5: 48}[board.version] * len(board.ethernet_chips)


def test_links_are_those_of_the_host_tools(board, host):
    for chip in host.chips:
        expected = {link.source_link_id: (link.destination_x, link.destination_y) for link in chip.router.links}
        ours = {link: other for link, other in enumerate(board.neighbours[chip.x, chip.y]) if other is not None}
        assert ours == expected, (chip.x, chip.y)


def test_ethernet_chips_are_those_of_the_host_tools(board, host):
    assert board.ethernet_chips == sorted((chip.x, chip.y) for chip in host.ethernet_connected_chips)
    for chip in host.chips:
        assert board.ethernet_of[chip.x, chip.y] == (chip.nearest_ethernet_x, chip.nearest_ethernet_y)


def test_links_of_a_version_3_board():
    board = GEOMETRIES[3, 1]
    links = {at: tuple(link for link in range(6) if others[link]) for at, others in board.neighbours.items()}
    assert links == {(0, 0): (0, 1, 2, 5), (0, 1): (0, 1, 2, 5), (1, 0): (2, 3, 4, 5), (1, 1): (2, 3, 4, 5)}
    assert board.neighbours[0, 0][2] == board.neighbours[0, 0][5] == (0, 1)  # up and down are both the other one
    assert board.neighbours[0, 1][1] == (1, 0)


def test_every_link_leads_back(board):
    for at, others in board.neighbours.items():
        for link, other in enumerate(others):
            assert other is None or board.neighbours[other][(link + 3) % 6] == at


def test_a_triad_is_a_torus():
    board = GEOMETRIES[5, 3]
    assert (board.width, board.height) == (12, 12)
    assert board.ethernet_chips == [(0, 0), (4, 8), (8, 4)]
    assert all(None not in others for others in board.neighbours.values())
    assert board.neighbours[11, 11][1] == (0, 0)
    assert GEOMETRIES[5, 6].width == 24


def test_tables_name_every_chip(board):
    for start in (board.chips[0], board.chips[-1], board.ethernet_chips[-1]):
        table = table_of(board, start)
        assert sorted(table.iterchips()) == board.chips
        assert table.get_route(*start).value == P2P_SELF
        routes = board.routes_from(start)
        assert all(table.get_route(*chip).value == routes[chip] for chip in board.chips)


def test_tables_lead_everywhere_by_a_shortest_way(board):
    start = board.chips[0]
    for end in board.chips:
        dx, dy = end
        straight = max(dx, dy) if board.width > 12 or len(board.ethernet_chips) == 1 else 12
        assert follow(board, start, end) <= straight
        assert (follow(board, end, start) == 0) == (start == end)


def test_without_a_chip():
    board = GEOMETRIES[5, 1].without({(3, 3), (7, 7)}, set())
    assert len(board.chips) == 46
    assert not {(3, 3), (7, 7)} & set(board.chips)
    assert not any({(3, 3), (7, 7)} & set(others) for others in board.neighbours.values())
    assert sorted(table_of(board, (0, 0)).iterchips()) == board.chips
    assert all(follow(board, (0, 0), end) <= 12 for end in board.chips)


def test_without_a_link():
    board = GEOMETRIES[3, 1].without(set(), {(0, 0, 0)})
    assert board.neighbours[0, 0][0] is None
    assert board.neighbours[1, 0][3] is None
    assert board.neighbours[0, 1][0] == (1, 1)
    assert GEOMETRIES[3, 1].neighbours[0, 0][0] == (1, 0)  # the whole board has not changed
    assert follow(board, (0, 0), (1, 0)) == 2


def test_a_chip_that_is_cut_off_has_no_routes():
    links = {(7, 7, link) for link in range(6) if GEOMETRIES[5, 1].neighbours[7, 7][link]}
    board = GEOMETRIES[5, 1].without(set(), links)
    assert (7, 7) in board.chips
    assert (7, 7) not in board.routes_from((0, 0))
    assert not table_of(board, (0, 0)).is_route(7, 7)
    assert board.routes_from((7, 7)) == {(7, 7): P2P_SELF}


@settings(max_examples=50)
@given(st.data())
def test_whatever_is_dead_the_tables_are_right(data):
    whole = GEOMETRIES[5, 1]
    chips = data.draw(st.sets(st.sampled_from(whole.chips[1:]), max_size=20))
    some = [(*at, link) for at in whole.chips for link in range(6) if whole.neighbours[at][link]]
    links = data.draw(st.sets(st.sampled_from(some), max_size=30))
    board = whole.without(chips, links)
    for x, y, link in links - {link for link in links if link[:2] in chips}:
        assert board.neighbours[x, y][link] is None
    routes = board.routes_from((0, 0))
    assert sorted(table_of(board, (0, 0)).iterchips()) == sorted(routes)
    for end in routes:
        here, steps = end, 0
        while here != (0, 0):
            here, steps = board.neighbours[here][board.routes_from(here)[0, 0]], steps + 1
            assert steps < 48


def test_steps_are_those_of_the_host_tools():
    for link, (dx, dy) in enumerate(STEPS):
        assert GEOMETRIES[5, 1].neighbours[4, 4][link] == (4 + dx, 4 + dy)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: geometry(4), "version 4 was asked for; boards are of version 3"),
        (lambda: geometry(3, 2), "version 3 stands alone"),
        (lambda: geometry(5, 0), "version 5 comes as 1, 3, 6"),
        (lambda: geometry(5, 21), "version 5 comes as 1, 3, 6"),
        (lambda: geometry(5, 4), "4 boards were asked for; machines are built of 1 board or of 3"),
        (lambda: geometry(5).without({(7, 0)}, set()), r"there is no chip 7,0 on this board; it has 48 chips from 0,0"),
        (lambda: geometry(5, 3).without({(4, 8)}, set()), "4,8 cannot be dead: the board is connected by it"),
        (lambda: geometry(3).without(set(), {(0, 0, 6)}), "link 6 of chip 0,0 was named; links are 0 to 5"),
        (lambda: geometry(3).without(set(), {(0, 0, 3)}), "chip 0,0 has no link 3 on a version 3 board"),
        (lambda: geometry(3).without(set(), {(2, 0, 0)}), "there is no chip 2,0"),
    ],
)
def test_what_cannot_be(call, message):
    with pytest.raises(BoardSettingError, match=message):
        call()

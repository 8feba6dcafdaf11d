"""Datagrams of every kind on both ports: the board has to be a board afterwards. `fuzz.py` sends a million."""

import pytest
from spikeloop.tests.virtual_board import fuzz
from spikeloop.virtual_board import VirtualBoard

PACKETS = 20_000


@pytest.fixture(scope="module")
def flooded():
    with VirtualBoard(version=3, pace=None) as board:
        fuzz.flood(board, PACKETS, seed=2)
        yield board


def test_the_board_has_survived(flooded):
    assert fuzz.check(flooded) == 4
    assert not [event for event in flooded.events if event["kind"] == "ended"]


def test_it_has_said_what_it_refused(flooded):
    refused = [event["message"] for event in flooded.events if event["kind"] == "refused"]
    assert len(refused) > PACKETS // 20
    assert all(len(message) > 10 for message in refused)


def test_the_flood_is_the_same_for_the_same_seed():
    first, second = fuzz.Flood(3), fuzz.Flood(3)
    packets = [packet for packet, _ in zip(first, range(500), strict=False)]
    assert packets == [packet for packet, _ in zip(second, range(500), strict=False)]
    assert packets != [packet for packet, _ in zip(fuzz.Flood(4), range(500), strict=False)]


def test_no_tag_of_the_flood_leads_to_another_machine():
    words = fuzz.scp.PADDING + fuzz.scp.SDP.size
    packets = [data for (_, data), _ in zip(fuzz.Flood(5), range(20_000), strict=False)]
    tags = [data for data in packets if len(data) >= words + 16 and data[words : words + 2] == b"\x1a\0"]
    assert len(tags) > 500
    assert all(data[words + 12] in (0, 127) for data in tags)

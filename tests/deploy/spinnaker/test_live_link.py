"""Spikes in datagrams: what is sent and taken, whatever comes, and both sockets."""

import socket
import time
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spikeloop.deploy.spinnaker import live_link
from spikeloop.deploy.spinnaker.live_link import Core, LiveLink, injection, spikes_in
from spikeloop.errors import TargetError


def gathered(tick, keys):
    """What the gatherer sends; written out by hand."""
    return bytes([len(keys), 0x38]) + b"".join(int(word).to_bytes(4, "little") for word in (tick, *keys))


@given(
    core=st.tuples(st.integers(0, 255), st.integers(0, 255), st.integers(1, 17)),
    neurons=st.lists(st.integers(0, 0xFFFF), max_size=126),
)
def test_an_injection_holds_its_core_and_its_neurons(core, neurons):
    datagram = injection(Core(*core), np.array(neurons, dtype=np.int64))
    x, y, p = core
    assert datagram[:10] == bytes([0, 0, 0x07, 0xFF, 1 << 5 | p, 0xFF, y, x, 0, 0])
    assert datagram[10:12] == bytes([len(neurons), 0])
    assert [int.from_bytes(datagram[i : i + 2], "little") for i in range(12, len(datagram), 2)] == neurons
    assert len(datagram) == 12 + 2 * len(neurons) <= 12 + 252


def test_an_injection_by_hand():
    datagram = injection(Core(1, 2, 3), np.array([0, 258]))
    assert datagram.hex(" ") == "00 00 07 ff 23 ff 02 01 00 00 02 00 00 00 02 01"


@given(tick=st.integers(0, 2**32 - 1), keys=st.lists(st.integers(0, 2**32 - 1), max_size=60))
def test_what_the_gatherer_sends_is_read(tick, keys):
    found = spikes_in(gathered(tick, keys))
    assert (found[0], found[1].tolist()) == (tick, keys)


@given(st.binary(max_size=300))
def test_hostile_bytes_are_read_or_passed_over(data):
    found = spikes_in(data)
    if found is not None:
        assert gathered(found[0], found[1].tolist()) == data


@given(
    tick=st.integers(0, 2**32 - 1),
    keys=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=20),
    change=st.tuples(st.sampled_from(["cut", "more", "kind", "count"]), st.integers(1, 255)),
)
def test_a_damaged_datagram_is_passed_over(tick, keys, change):
    how, by = change
    data = bytearray(gathered(tick, keys))
    if how == "cut":
        data = data[: max(0, len(data) - by)]
    elif how == "more":
        data += bytes(by)
    elif how == "kind":
        data[1] ^= by
    else:
        data[0] ^= by
    assert spikes_in(bytes(data)) is None


@pytest.fixture
def board(monkeypatch):
    """A socket in a board's place, and the link to it."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    server.settimeout(5)
    monkeypatch.setattr(live_link, "SCP_PORT", server.getsockname()[1])
    link = LiveLink("127.0.0.1")
    yield server, link
    link.close()
    server.close()


def test_datagrams_go_both_ways_and_rubbish_is_passed_over(board):
    server, link = board
    sent = [injection(Core(0, 0, 4), np.array([1, 2])), injection(Core(1, 1, 5), np.array([3]))]
    link.send(sent)
    assert [server.recv(2048) for _ in sent] == sent
    for data in (b"", b"x", bytes(2048), gathered(7, [8])[:-1], gathered(7, [8, 9])):
        server.sendto(data, (link.host, link.port))
    tick, keys = link.receive(perf_counter() + 5)
    assert (tick, keys.tolist()) == (7, [8, 9])


def test_silence_ends_at_the_deadline(board):
    _, link = board
    start = perf_counter()
    assert link.receive(start + 0.05) is None
    assert 0.04 < perf_counter() - start < 2
    assert link.receive(start - 1) is None


def test_what_is_there_is_taken_after_the_deadline(board):
    server, link = board
    server.sendto(gathered(1, [2]), (link.host, link.port))
    time.sleep(0.05)
    assert link.receive(perf_counter() - 1)[0] == 1


def test_no_way_to_a_board_is_said():
    with pytest.raises(TargetError, match=r"No way to the board at no\.such\.host\.invalid: "):
        LiveLink("no.such.host.invalid")


def test_a_board_that_is_gone_is_said(board):
    server, link = board
    server.close()

    def send():
        for _ in range(50):  # the refusal of a datagram comes back with a later one
            link.send([b"x"])
            time.sleep(0.01)

    with pytest.raises(TargetError, match="cannot be reached any more"):
        send()

"""Floods a board with mutated and random datagrams, then looks whether it still is one.

    python tests/virtual_board/fuzz.py --packets 1000000 --seed 1

Afterwards unmodified sPyNNaker has to run a small network on it. Datagrams that set an IP tag are changed to name this
machine: where a tag leads, the board sends to.
"""

import argparse
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from spikeloop.tests.virtual_board import scp
from spikeloop.tests.virtual_board.arm import Program
from spikeloop.virtual_board import VirtualBoard
from spikeloop.virtual_board.layout import APPLICATION_IMAGE
from spinnman.messages.scp.impl import GetChipInfo, GetVersion, WriteMemory

SCP_PORT, BOOT_PORT = 17893, 54321
BATCH = 50  # datagrams between two questions, so that none is lost: the sockets hold a few hundred
LONGEST = 400
IP_TAG, WRITE, FILL = 26, 3, 5
COMMANDS = (0, 2, 3, 5, 15, 17, 18, 19, 20, 21, 22, 25, 26, 28, 29, 31, 32)
SCRIPT = """
import pyNN.spiNNaker as sim
sim.setup(timestep=1.0)
cells = sim.Population(5, sim.IF_curr_delta(i_offset=2.0), label="cells")
cells.record("spikes")
sim.run(10)
print(sum(len(train) for train in cells.get_data("spikes").segments[0].spiketrains), "spikes")
sim.end()
"""


def boot_packets():
    """Boot packets that may be, but never all of a boot: that would rightly restart the board."""
    start = struct.pack(">HIIII", 1, 1, 0, 0, 26)
    data = struct.pack(">HIIII", 1, 3, 255 << 8 | 7, 0, 0) + bytes(1024)
    return [start, data, struct.pack(">HIIII", 1, 5, 1, 0, 0), struct.pack(">HIIII", 1, 0x41, 0, 0, 0)]


class Flood:
    """Datagrams by a seed: (port, data) without end."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        program = WriteMemory((0, 0, 0), APPLICATION_IMAGE, Program().sleep().image())
        self.program = scp.datagram(program)  # stays as it is: a core that spins would make everything slow
        self.recorded = [scp.datagram(request) for request in scp.requests()]
        self.boot = boot_packets()

    def __iter__(self):
        while True:
            kind = self.random.random()
            if kind < 0.1:
                yield BOOT_PORT, self.mutated(self.random.choice(self.boot))
            elif kind < 0.2:
                yield self.random.choice((SCP_PORT, BOOT_PORT)), self.noise()
            elif kind < 0.3:
                yield SCP_PORT, self.at_home(self.invented())
            elif kind < 0.5:
                yield SCP_PORT, self.random.choice([self.program, *self.recorded])
            else:
                yield SCP_PORT, self.at_home(self.mutated(self.random.choice(self.recorded)))

    def noise(self):
        return self.random.randbytes(self.random.randrange(LONGEST))

    def invented(self):
        """A well-formed request with arguments that are often just at some limit."""
        r = self.random

        def number():
            base = r.choice((0, 1, 0x60000000, 0x60240000, APPLICATION_IMAGE, 0x68000000, 0xE1000000, 0xE5000000,
                             0xE5007F00, 0xE5008000, 0xF1010000, 0xF5007000, 1 << 16, r.getrandbits(32)))  # fmt: skip
            return (base + r.choice((0, 1, 2, 4, 255, 256, -1, -4, r.randrange(1024)))) & 0xFFFFFFFF

        return scp.raw(
            r.choice(COMMANDS), number(), r.choice((number(), r.randrange(300))), number(),
            r.randbytes(r.randrange(257)), chip=(r.randrange(3), r.randrange(3)),
            core=r.choice((0, 0, 0, r.randrange(32))), port=r.choice((0, 0, 0, r.randrange(8))),
            flags=r.choice((0x87, 0x87, 0x07, r.randrange(256))),
        )  # fmt: skip

    def mutated(self, data):
        r, data = self.random, bytearray(data)
        for _ in range(r.choice((1, 1, 2, 5))):
            how, place = r.randrange(6), r.randrange(len(data)) if data else 0
            if how == 0:
                data = data[:place]
            elif how == 1:
                data += r.randbytes(r.randrange(64))
            elif how == 2 and data:
                data[place] = r.choice((0, 1, 0x7F, 0x80, 0xFF))
            elif how == 3 and data:
                data[place] ^= 1 << r.randrange(8)
            elif how == 4 and len(data) > place + 4:
                data[place : place + 4] = struct.pack("<I", r.getrandbits(32))
            elif data:
                data[place] = r.randrange(256)
        return bytes(data)

    def at_home(self, data):
        """The same datagram, but no tag leads to another machine."""
        words = scp.PADDING + scp.SDP.size
        if len(data) >= words + scp.SCP.size and data[words] == IP_TAG:
            data = bytearray(data)
            data[words + 12 : words + 16] = socket.inet_aton("127.0.0.1")
        return bytes(data)


def ask(client, address, request, patience_s=20.0):
    """Send a request until its answer comes, and return it as spinnman reads it; other answers are thrown away."""
    deadline = time.monotonic() + patience_s
    number = random.randrange(1 << 16)
    wanted = scp.datagram(request, number)
    while time.monotonic() < deadline:
        client.sendto(wanted, (address, SCP_PORT))
        try:
            while True:
                answer = client.recv(4096)
                if len(answer) >= 14 and scp.sequence(answer) == number and scp.code(answer) == scp.OK:
                    return scp.read(request, answer)
        except TimeoutError:
            continue
    raise AssertionError(f"the board has not answered {request} for {patience_s:.0f} s")


def flood(board, packets, seed, report=lambda sent: None):
    """Send so many datagrams; the board has to answer a sensible question after every few."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as source,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,  # another one: not for the answers to the flood
    ):
        client.settimeout(1.0)
        for sent, (port, data) in zip(range(packets), Flood(seed), strict=False):
            source.sendto(data, (board.address, port))
            if sent % BATCH == BATCH - 1:
                assert ask(client, board.address, GetVersion(0, 0, 0)).version_info.name == "SC&MP"
                report(sent + 1)


def check(board):
    """The board says of itself what it has always said; returns how many chips it has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(1.0)
        version = ask(client, board.address, GetVersion(0, 0, 0)).version_info
        assert (version.name, version.hardware, version.x, version.y) == ("SC&MP", "SpiNNaker", 0, 0)
        for x in (0, 1):
            for y in (0, 1):
                info = ask(client, board.address, GetChipInfo(x, y)).chip_info
                assert (info.x, info.y, info.n_cores) == (x, y, 18)
                assert info.working_links == ([0, 1, 2, 5] if x == 0 else [2, 3, 4, 5])
                assert info.is_ethernet_available == ((x, y) == (0, 0))
                assert 0 <= info.n_free_multicast_routing_entries < 1024
    assert board.statistics()["board_ms"] >= 0
    return 4


def run_network(board):
    """Unmodified sPyNNaker on the board: the last line that it prints."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(Path.home() / ".spynnaker.cfg", folder)
        script = Path(folder) / "script"
        script.mkdir()
        board.write_config(script)
        (script / "run.py").write_text(SCRIPT)
        done = subprocess.run(
            [sys.executable, "run.py"], cwd=script, env={**os.environ, "HOME": folder},
            capture_output=True, text=True, timeout=600,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout.strip().splitlines()[-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packets", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    began = time.monotonic()
    with VirtualBoard(version=3, pace=None) as board:

        def report(sent):
            board.events.clear()  # a line for every refusal: they would fill our memory
            if sent % 20_000 == 0:
                resident = Path(f"/proc/{board._process.pid}/statm").read_text().split()[1]
                print(
                    f"{sent} datagrams, {time.monotonic() - began:.0f} s, board {int(resident) // 256} MiB", flush=True
                )

        flood(board, arguments.packets, arguments.seed, report)
        print(f"{check(board)} chips answer as before", flush=True)
        print(f"sPyNNaker after that: {run_network(board)}")


if __name__ == "__main__":
    main()

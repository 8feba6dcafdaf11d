"""The cable between board and host: as fast as the real one at most, and as bad as the faults say.

A board has 100 Mb/s, of which its monitor makes about 16,000 datagrams a second. An emulated one would send a whole
recording in one burst, most of which the host's socket buffer has no room for.
"""

from __future__ import annotations

import heapq
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from .faults import Faults
from .scamp.monitor import Address, Datagram

RATE = 16_000.0  # datagrams a second, to one destination
BURST = 200.0  # what goes at once: fits into the smallest usual socket buffer


class _Lane:
    """Datagrams to one destination, let through at `RATE`."""

    def __init__(self, now: float) -> None:
        self.queue: deque[Datagram] = deque()
        self.credit = BURST
        self.at = now

    def ready(self, now: float) -> int:
        self.credit = min(BURST, self.credit + (now - self.at) * RATE)
        self.at = now
        return min(len(self.queue), int(self.credit))


class Link:
    """Loses, delays and spaces datagrams.

    Parameters
    ----------
    faults : loss, delay, seed
    send : puts a datagram on the wire
    """

    def __init__(self, faults: Faults, send: Callable[[Datagram], None]) -> None:
        self._faults = faults
        self._send = send
        self._random = random.Random(faults.seed)
        self._late: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._lanes: dict[Address, _Lane] = {}
        self.lost = {"received": 0, "sent": 0}

    def change(self, udp_loss: float, udp_delay_ms: float) -> None:
        """Lose and delay from now on as said; the random numbers go on.

        Raises
        ------
        BoardSettingError
            If there can be no such share or delay.
        """
        self._faults = replace(self._faults, udp_loss=udp_loss, udp_delay_ms=udp_delay_ms)

    def receive(self, take: Callable[[], None]) -> None:
        """A datagram has come: call ``take`` now, later or never."""
        if not self._loses("received"):
            self._later(take)

    def send(self, datagram: Datagram) -> None:
        """A datagram is to go."""
        if self._loses("sent"):
            return
        if self._faults.udp_delay_ms:
            self._later(lambda: self._queue(datagram))
        else:
            self._queue(datagram)

    def _queue(self, datagram: Datagram) -> None:
        lane = self._lanes.get(datagram.to)
        now = time.monotonic()
        if lane is None:
            lane = self._lanes[datagram.to] = _Lane(now)
        lane.queue.append(datagram)
        self._flush(lane, now)

    def _flush(self, lane: _Lane, now: float) -> None:
        for _ in range(lane.ready(now)):
            lane.credit -= 1
            self._send(lane.queue.popleft())

    def pump(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        while self._late and self._late[0][0] <= now:
            heapq.heappop(self._late)[2]()
        for to, lane in list(self._lanes.items()):
            self._flush(lane, now)
            if not lane.queue and lane.credit >= BURST:
                del self._lanes[to]

    def patience(self, longest: float) -> float:
        """How long nothing will be due, at most ``longest`` seconds."""
        if any(lane.queue for lane in self._lanes.values()):
            longest = min(longest, 1 / RATE)
        if self._late:
            longest = min(longest, max(0.0, self._late[0][0] - time.monotonic()))
        return longest

    def _loses(self, direction: str) -> bool:
        if self._faults.udp_loss and self._random.random() < self._faults.udp_loss:
            self.lost[direction] += 1
            return True
        return False

    def _later(self, action: Callable[[], None]) -> None:
        if not self._faults.udp_delay_ms:
            action()
            return
        self._count += 1
        heapq.heappush(self._late, (time.monotonic() + self._faults.udp_delay_ms / 1000, self._count, action))

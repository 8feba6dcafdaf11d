"""IP tags: where messages to the network go, and reverse tags: where datagrams from the network go.

Each chip with a network connection has a table of 16: eight that the host sets, eight for the time of a reply.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from enum import IntFlag

FIXED, POOL = 8, 8
ANY = 0xFF  # as a tag: one for the time of the reply
_ENTRY = struct.Struct("<4s6sHHHIHBBB3x")
ENTRY_SIZE = _ENTRY.size
TICK_S = 0.01  # the unit of timeouts


class Flag(IntFlag):
    """Flags of a tag."""

    STRIP = 0x0100
    REVERSE = 0x0200
    USE_SENDER = 0x0400
    ARP = 0x2000
    TRANSIENT = 0x4000
    VALID = 0x8000


@dataclass
class Tag:
    """One entry of the table."""

    ip: str = "0.0.0.0"
    port: int = 0
    timeout: int = 0  # in ticks of 10 ms, 0 for never
    flags: int = 0
    count: int = 0
    listen_port: int = 0
    chip: int = 0
    core_port: int = 0
    used_at: float = 0.0

    def pack(self) -> bytes:
        """The entry as the host reads it."""
        return _ENTRY.pack(
            socket.inet_aton(self.ip), b"\2\0\0\0\0\1", self.port, self.timeout, self.flags, self.count,
            self.listen_port, self.chip & 0xFF, self.chip >> 8, self.core_port,
        )  # fmt: skip


class TagTable:
    """The tags of one chip."""

    def __init__(self) -> None:
        self.tags = [Tag() for _ in range(FIXED + POOL)]
        self.transient_timeout = 9  # 2^(n - 1) ticks

    def set(self, number: int, tag: Tag) -> None:
        """Put a tag into the table."""
        self.tags[number] = tag

    def clear(self, number: int) -> None:
        """Empty an entry."""
        self.tags[number] = Tag()

    def free(self) -> int:
        """An empty entry of the pool; the one that was used longest ago if all are taken."""
        pool = range(FIXED, FIXED + POOL)
        empty = [number for number in pool if not self.tags[number].flags]
        return empty[0] if empty else min(pool, key=lambda number: self.tags[number].used_at)

    def transient(self, sender: tuple[str, int], now: float) -> int:
        """A tag that leads back to the sender for the time of a reply."""
        for number in range(FIXED, FIXED + POOL):
            tag = self.tags[number]
            if tag.flags & Flag.TRANSIENT and (tag.ip, tag.port) == sender:
                tag.used_at = now
                return number
        number = self.free()
        ticks = 1 << max(0, self.transient_timeout - 1)
        self.tags[number] = Tag(
            ip=sender[0], port=sender[1], timeout=ticks, flags=Flag.VALID | Flag.TRANSIENT, used_at=now
        )
        return number

    def target(self, number: int, now: float) -> Tag | None:
        """The tag to send by, if there is one."""
        tag = self.tags[number] if number < len(self.tags) else None
        if tag is None or not tag.flags & Flag.VALID or (tag.flags & Flag.REVERSE and not tag.port):
            return None
        tag.count += 1
        tag.used_at = now
        return tag

    def expire(self, now: float) -> list[int]:
        """Empty the entries that have not been used for as long as their timeout; returns which."""
        gone = [
            number
            for number, tag in enumerate(self.tags)
            if tag.flags and tag.timeout and now - tag.used_at > tag.timeout * TICK_S
        ]
        for number in gone:
            self.clear(number)
        return gone

    def listening(self) -> dict[int, int]:
        """The reverse tags: the UDP port of each, with its number."""
        return {
            tag.listen_port: number
            for number, tag in enumerate(self.tags[:FIXED])
            if tag.flags & Flag.REVERSE and tag.listen_port
        }

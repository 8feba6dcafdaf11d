"""Heaps and the router's free list, kept in the board's own memory: firmware on the cores walks them too.

The structures are SARK's (``sark.h``: ``heap_t``, ``block_t``, ``rtr_entry_t``), so that the monitor's allocations and
those of an application see each other.
"""

from __future__ import annotations

from collections.abc import Iterator

from .layout import N_ROUTES
from .memory import ChipMemory

HEAP_HEADER = 16  # first free, first, last block, bytes free
BLOCK_HEADER = 8  # next block, and next free block or the owner's mark
OWNED = 0xFFFF0000  # | application << 8 | tag
LARGEST_TAG = 255
FIRST_ROUTE = 1  # entry 0 is never given out: 0 means failure
ROUTE_OWNED = 0x8000
_ROUTE_OWNER = 0xE0FF  # which bits of an entry's mark say that and to whom it belongs


class Heap:
    """A heap in a chip's memory.

    Parameters
    ----------
    memory : ChipMemory
    base : address of the heap
    tags : address of the table of tagged blocks (an address for each application and tag), 0 for none
    """

    def __init__(self, memory: ChipMemory, base: int, tags: int = 0) -> None:
        self.memory = memory
        self.base = base
        self.tags = tags

    def create(self, top: int) -> None:
        """Make the memory from the base up to ``top`` one free block."""
        first, last = self.base + HEAP_HEADER, top - BLOCK_HEADER
        for place, value in enumerate((first, first, last, last - first - BLOCK_HEADER)):
            self.memory.set_word(self.base + 4 * place, value)
        self._set(first, last, 0)
        self._set(last, 0, 0)

    def _set(self, block: int, next_block: int, free: int) -> None:
        self.memory.set_word(block, next_block)
        self.memory.set_word(block + 4, free)

    def _next(self, block: int) -> int:
        return self.memory.word(block)

    def _free(self, block: int) -> int:
        return self.memory.word(block + 4)

    def _size(self, block: int) -> int:
        """How many bytes the block holds; less than zero after the last one, or if the heap is damaged."""
        return self._next(block) - block - BLOCK_HEADER

    def _free_blocks(self) -> Iterator[tuple[int, int]]:
        """The free blocks, each with the one before it. They are in the order of their addresses, or damaged."""
        previous, block = 0, self.memory.word(self.base)
        while block > previous and self._size(block) >= 0:
            yield previous, block
            previous, block = block, self._free(block)

    def allocate(self, size: int, app_id: int, tag: int = 0, again: bool = False) -> int:
        """The address of ``size`` bytes, 0 if there is no room or the tag is taken.

        ``again`` answers a repeated request for the same tag and size with the block it already has.
        """
        if size <= 0 or not 0 <= tag <= LARGEST_TAG:
            return 0
        slot = self.tags + 4 * (app_id << 8 | tag)
        if tag and self.tags and self.memory.word(slot):
            held = self.memory.word(slot)
            block = held - BLOCK_HEADER
            same = self._size(block) == (size + 3) & ~3
            return held if again and same else 0
        needed = ((size + 3) & ~3) + BLOCK_HEADER
        for previous, block in self._free_blocks():
            end, split = self._next(block), block + needed
            if split > end:
                continue
            if split + BLOCK_HEADER < end:
                self._set(split, end, self._free(block))
                self._set(block, split, split)
            self.memory.set_word(previous + 4 if previous else self.base, self._free(block))
            taken = self._next(block) - block  # SARK takes `needed`, gives this back, and so loses count
            self.memory.set_word(self.base + 12, self.free_bytes - taken)
            self.memory.set_word(block + 4, OWNED | app_id << 8 | tag)
            address = block + BLOCK_HEADER
            if tag and self.tags:
                self.memory.set_word(slot, address)
            return address
        return 0

    @property
    def free_bytes(self) -> int:
        """How many bytes are free, in all."""
        return self.memory.word(self.base + 12)

    def blocks(self) -> list[tuple[int, int, int]]:
        """Every block in use: (address, size, mark)."""
        free = {block for _, block in self._free_blocks()}
        found, block = [], self.memory.word(self.base + 4)
        while self._size(block) >= 0:
            if block not in free:
                found.append((block + BLOCK_HEADER, self._size(block), self._free(block)))
            block = self._next(block)
        return found

    def release(self, address: int) -> bool:
        """Free one block; false if there is none at this address."""
        if address not in {used for used, _, _ in self.blocks()}:
            return False
        block = address - BLOCK_HEADER
        mark = self._free(block) & 0xFFFF
        if mark & LARGEST_TAG and self.tags:
            self.memory.set_word(self.tags + 4 * mark, 0)
        self.memory.set_word(self.base + 12, self.free_bytes + self._next(block) - block)
        before = [free for _, free in self._free_blocks() if free < block]
        previous = before[-1] if before else 0
        following = self._free(previous) if previous else self.memory.word(self.base)
        self._set(block, self._next(block), following)
        self.memory.set_word(previous + 4 if previous else self.base, block)
        if following and self._next(block) == following:
            self._set(block, self._next(following), self._free(following))
        if previous and self._next(previous) == block:
            self._set(previous, self._next(block), self._free(block))
        return True

    def release_all(self, app_id: int) -> int:
        """Free every block of an application; returns how many there were."""
        mine = [address for address, _, mark in self.blocks() if mark >> 8 == (OWNED | app_id << 8) >> 8]
        for address in mine:
            self.release(address)
        return len(mine)

    @property
    def largest(self) -> int:
        """The size of the largest free block."""
        return max((self._size(block) for _, block in self._free_blocks()), default=0)


class RouteAllocator:
    """Which multicast entries belong to whom: lists in the copy of the router's table (16 bytes an entry)."""

    def __init__(self, memory: ChipMemory, copy: int, first_free: int) -> None:
        self.memory = memory
        self.copy = copy
        self.first_free = first_free  # the address of the system variable

    def create(self) -> None:
        """All entries but the first are free."""
        self.memory.set_half(self.first_free, FIRST_ROUTE)
        self._set(FIRST_ROUTE, N_ROUTES, 0)
        self._set(N_ROUTES, 0, 0)

    def _set(self, entry: int, following: int, free: int) -> None:
        self.memory.set_half(self.copy + 16 * entry, following)
        self.memory.set_half(self.copy + 16 * entry + 2, free)

    def _next(self, entry: int) -> int:
        return self.memory.half(self.copy + 16 * entry)

    def _free(self, entry: int) -> int:
        return self.memory.half(self.copy + 16 * entry + 2)

    def _link(self, previous: int, entry: int) -> None:
        self.memory.set_half(self.copy + 16 * previous + 2 if previous else self.first_free, entry)

    def _free_blocks(self) -> Iterator[tuple[int, int]]:
        """The free blocks, each with the one before it, in the order of their entries."""
        previous, entry = 0, self.memory.half(self.first_free)
        while previous < entry < N_ROUTES and self._next(entry) > entry:
            yield previous, entry
            previous, entry = entry, self._free(entry)

    def allocate(self, count: int, app_id: int) -> int:
        """The first of ``count`` entries, 0 if there is no room."""
        for previous, entry in self._free_blocks():
            end = self._next(entry)
            if 0 < count <= end - entry:
                if entry + count < end:
                    self._set(entry + count, end, self._free(entry))
                    self._set(entry, entry + count, entry + count)
                self._link(previous, self._free(entry))
                self._set(entry, self._next(entry), ROUTE_OWNED | app_id)
                return entry
        return 0

    def blocks(self) -> list[tuple[int, int, int]]:
        """Every block in use: (first entry, count, mark)."""
        free = {entry for _, entry in self._free_blocks()}
        found, entry = [], FIRST_ROUTE
        while entry < N_ROUTES and self._next(entry) > entry:
            if entry not in free:
                found.append((entry, self._next(entry) - entry, self._free(entry)))
            entry = self._next(entry)
        return found

    def release(self, entry: int) -> int:
        """Free the block that starts here; returns how many entries it had, 0 if there is none."""
        count = {first: count for first, count, _ in self.blocks()}.get(entry, 0)
        if not count:
            return 0
        before = [free for _, free in self._free_blocks() if free < entry]
        previous = before[-1] if before else 0
        following = self._free(previous) if previous else self.memory.half(self.first_free)
        self._set(entry, self._next(entry), following)
        self._link(previous, entry)
        if following and self._next(entry) == following:
            self._set(entry, self._next(following), self._free(following))
        if previous and self._next(previous) == entry:
            self._set(previous, self._next(entry), self._free(entry))
        return count

    def owned_by(self, app_id: int) -> list[tuple[int, int]]:
        """The blocks of an application: (first entry, count)."""
        mark = ROUTE_OWNED | app_id
        return [(first, count) for first, count, owner in self.blocks() if owner & _ROUTE_OWNER == mark]

    @property
    def largest(self) -> int:
        """The number of entries of the largest free block."""
        return max((self._next(entry) - entry for _, entry in self._free_blocks()), default=0)

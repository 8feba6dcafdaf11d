"""Heaps and the router's free list against simple models, and walked as SARK walks them (``sark_alloc.c``)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spikeloop.virtual_board.heap import BLOCK_HEADER, FIRST_ROUTE, HEAP_HEADER, Heap, RouteAllocator
from spikeloop.virtual_board.layout import N_ROUTES, SDRAM_BASE
from spikeloop.virtual_board.memory import ChipMemory

TAGS = SDRAM_BASE
BASE = SDRAM_BASE + (65536 * 4)
TOP = BASE + 4096
COPY = SDRAM_BASE
FIRST_FREE = SDRAM_BASE + 0x100000

sizes = st.one_of(st.integers(1, 64), st.integers(1, 5000))
applications = st.integers(0, 3)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("allocate"), sizes, applications, st.integers(0, 4), st.booleans()),
        st.tuples(st.just("release"), st.integers(0, 50)),
        st.tuples(st.just("release_all"), applications),
    ),
    max_size=40,
)
route_steps = st.lists(
    st.one_of(
        st.tuples(st.just("allocate"), st.integers(-1, 1100), applications),
        st.tuples(st.just("release"), st.integers(0, 50)),
    ),
    max_size=40,
)


def new_heap(tags=TAGS, top=TOP):
    heap = Heap(ChipMemory(0), BASE, tags)
    heap.create(top)
    return heap


def walk(heap):
    """Every block from the first to the last, then the free ones, as SARK follows the words."""
    word = heap.memory.word
    free, first, last, _ = (word(heap.base + 4 * i) for i in range(4))
    chain, block = [], first
    while word(block):
        chain.append((block, word(block) - block - BLOCK_HEADER))
        block = word(block)
    assert block == last
    free_blocks = []
    while free:
        free_blocks.append(free)
        free = word(free + 4)
    return chain, free_blocks


def check_heap(heap, held):
    """The structure is whole, and holds what the model says."""
    chain, free = walk(heap)
    assert chain[0][0] == heap.base + HEAP_HEADER
    assert free == sorted(free)
    assert set(free) <= {block for block, _ in chain}
    after_free = {block + BLOCK_HEADER + size for block, size in chain if block in free}
    assert not after_free & set(free), "free blocks side by side are one block"
    used = {block + BLOCK_HEADER: size for block, size in chain if block not in free}
    assert used.keys() == held.keys()
    for address, (size, app_id, tag) in held.items():
        assert size <= used[address] <= size + 3 + 2 * BLOCK_HEADER
        assert heap.memory.word(address - 4) == 0xFFFF0000 | app_id << 8 | tag
    assert {address: size for address, size, _ in heap.blocks()} == used
    free_sizes = [size for block, size in chain if block in free]
    assert heap.largest == max(free_sizes, default=0)
    overhead = sum(used.values()) + BLOCK_HEADER * len(used) + sum(free_sizes) + BLOCK_HEADER * len(free_sizes)
    assert overhead + HEAP_HEADER + BLOCK_HEADER == TOP - BASE
    # SARK counts the headers of all free blocks but one, so a full heap has -8 free bytes
    assert heap.free_bytes == (sum(free_sizes) + BLOCK_HEADER * (len(free_sizes) - 1)) % (1 << 32)


@settings(max_examples=200)
@given(steps)
def test_heap_does_what_a_model_does(steps):
    heap = new_heap()
    held, tags, slack = {}, {}, {}
    for step in steps:
        if step[0] == "allocate":
            _, size, app_id, tag, again = step
            largest, before = heap.largest, heap.free_bytes
            rounded = (size + 3) & ~3
            address = heap.allocate(size, app_id, tag, again)
            if tag and (app_id, tag) in tags:
                old = tags[app_id, tag]
                same = slack[old] == 0 and (held[old][0] + 3) & ~3 == rounded
                assert address == (old if again and same else 0)
                continue
            if rounded > largest:
                assert address == 0
                assert heap.free_bytes == before
                continue
            assert address
            held[address] = (size, app_id, tag)
            slack[address] = heap.memory.word(address - 8) - address - rounded
            if tag:
                tags[app_id, tag] = address
                assert heap.memory.word(TAGS + 4 * (app_id << 8 | tag)) == address
        elif step[0] == "release" and held:
            address = sorted(held)[step[1] % len(held)]
            assert heap.release(address)
            slack.pop(address)
            forget(heap, address, held, tags)
        elif step[0] == "release_all":
            mine = [address for address, (_, app_id, _) in held.items() if app_id == step[1]]
            assert heap.release_all(step[1]) == len(mine)
            for address in mine:
                slack.pop(address)
                forget(heap, address, held, tags)
        check_heap(heap, held)
    for address in list(held):
        assert heap.release(address)
    assert walk(heap) == walk(new_heap())
    assert (heap.free_bytes, heap.largest) == (new_heap().free_bytes, new_heap().largest)


def forget(heap, address, held, tags):
    _, app_id, tag = held.pop(address)
    if tag:
        assert tags.pop((app_id, tag)) == address
        assert heap.memory.word(TAGS + 4 * (app_id << 8 | tag)) == 0


@pytest.mark.parametrize("address", [0, 4, BASE, BASE + HEAP_HEADER, TOP, 0xFFFFFFFF])
def test_what_was_not_allocated_is_not_freed(address):
    heap = new_heap()
    taken = heap.allocate(100, 1)
    before = walk(heap)
    assert not heap.release(address)
    assert not heap.release(taken + 4)
    assert walk(heap) == before
    assert heap.release(taken)
    assert not heap.release(taken)


@pytest.mark.parametrize(("size", "tag"), [(0, 0), (-1, 0), (4, 256), (4, -1), (1 << 31, 0), ((1 << 32) - 1, 0)])
def test_what_no_heap_gives(size, tag):
    heap = new_heap()
    before = walk(heap), heap.free_bytes
    assert heap.allocate(size, 1, tag) == 0
    assert (walk(heap), heap.free_bytes) == before


def test_blocks_do_not_overlap_and_fill_the_heap():
    heap = new_heap()
    taken = []
    while address := heap.allocate(24, 1):
        heap.memory.write(address, bytes([len(taken) + 1]) * 24)
        taken.append(address)
    assert len(taken) == (4096 - HEAP_HEADER - BLOCK_HEADER) // 32
    assert [heap.memory.read(address, 24) for address in taken] == [bytes([i + 1]) * 24 for i in range(len(taken))]


def test_a_block_that_fits_exactly():
    heap = new_heap()
    address = heap.allocate(heap.largest, 1)
    check_heap(heap, {address: (4096 - HEAP_HEADER - 2 * BLOCK_HEADER, 1, 0)})
    assert heap.largest == 0
    assert heap.allocate(1, 1) == 0
    assert heap.release(address)
    assert walk(heap) == walk(new_heap())


def test_a_heap_without_tags_takes_them_and_keeps_no_table():
    heap = new_heap(tags=0)
    assert heap.allocate(8, 1, 5)
    assert heap.allocate(8, 1, 5)
    assert heap.memory.word(TAGS + 4 * (1 << 8 | 5)) == 0


@settings(max_examples=150)
@given(st.binary(min_size=64, max_size=64), st.integers(0, 60), st.integers(1, 5000), applications)
def test_a_damaged_heap_does_no_harm(noise, at, size, app_id):
    heap = new_heap()
    held = [heap.allocate(40, i % 3, i) for i in range(4)]
    heap.memory.write(BASE + at * 4, noise)
    assert 0 <= heap.largest < 1 << 32
    assert 0 <= heap.allocate(size, app_id, 9) < 1 << 32
    heap.release_all(app_id)
    for address in held:
        heap.release(address)
    assert 0 <= heap.free_bytes < 1 << 32
    assert 0 <= heap.largest < 1 << 32
    assert all(size >= 0 for _, size, _ in heap.blocks())


def test_words_that_point_backwards_by_a_little():
    heap = new_heap()
    heap.memory.set_word(BASE + HEAP_HEADER, BASE + HEAP_HEADER + 4)  # a block shorter than its header
    assert heap.largest == 0
    assert heap.allocate(4, 1) == 0
    assert heap.blocks() == []


# The router's entries


def new_routes():
    routes = RouteAllocator(ChipMemory(0), COPY, FIRST_FREE)
    routes.create()
    return routes


def check_routes(routes, held):
    """The lists are whole: followed as SARK does, and what is in use is what the model says."""
    half = routes.memory.half
    chain, entry = {}, FIRST_ROUTE
    while entry < N_ROUTES:
        chain[entry] = half(COPY + 16 * entry) - entry
        assert chain[entry] > 0
        entry += chain[entry]
    assert entry == N_ROUTES
    free, entry = [], half(FIRST_FREE)
    while entry:
        free.append(entry)
        entry = half(COPY + 16 * entry + 2)
    assert free == sorted(set(free))
    assert {first: chain[first] for first in chain if first not in free} == {f: n for f, (n, _) in held.items()}
    assert not any(first + chain[first] in free for first in free), "free blocks side by side are one block"
    assert routes.largest == max((chain[first] for first in free), default=0)
    for app_id in range(4):
        mine = [(first, count) for first, (count, owner) in held.items() if owner == app_id]
        assert routes.owned_by(app_id) == sorted(mine)


@settings(max_examples=200)
@given(route_steps)
def test_routes_do_what_a_model_does(steps):
    routes = new_routes()
    held = {}
    for step in steps:
        if step[0] == "allocate":
            _, count, app_id = step
            largest = routes.largest
            first = routes.allocate(count, app_id)
            assert (first > 0) == (0 < count <= largest)
            if first:
                held[first] = (count, app_id)
        elif held:
            first = sorted(held)[step[1] % len(held)]
            assert routes.release(first) == held.pop(first)[0]
            assert routes.release(first) == 0
        check_routes(routes, held)
    for first in list(held):
        routes.release(first)
    assert routes.largest == N_ROUTES - FIRST_ROUTE


@pytest.mark.parametrize("entry", [0, 2, 11, 1023, 1024, 65535, 1 << 31])
def test_entries_that_nobody_has(entry):
    routes = new_routes()
    assert routes.allocate(10, 1) == 1
    assert routes.release(entry) == 0
    check_routes(routes, {1: (10, 1)})


@settings(max_examples=100)
@given(st.binary(min_size=160, max_size=160), st.integers(0, 900), st.integers(0, 65535))
def test_a_damaged_list_of_routes_does_no_harm(noise, at, first):
    routes = new_routes()
    held = [routes.allocate(100, 1) for _ in range(5)]
    routes.memory.write(COPY + at * 16, noise)
    routes.memory.set_half(FIRST_FREE, first)
    assert 0 <= routes.largest <= 65535
    assert 0 <= routes.allocate(7, 2) < N_ROUTES
    for entry in held:
        routes.release(entry)
    assert all(count > 0 for _, count, _ in routes.blocks())

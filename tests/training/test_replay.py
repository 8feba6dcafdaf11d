"""The replay memory: what goes in comes out, the oldest give way."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from spikeloop.errors import InvalidInputError  # noqa: E402
from spikeloop.training.replay import ReplayMemory  # noqa: E402


def filled(capacity, count, kind=np.float32):
    memory = ReplayMemory(capacity, 2, kind)
    for i in range(count):
        memory.push([i, i + 100], i % 3, i / 2, [i + 1, i + 101], i % 5 == 4)
    return memory


@pytest.mark.parametrize(("count", "length", "oldest"), [(3, 3, 0), (10, 10, 0), (27, 10, 17)])
def test_the_latest_transitions_are_kept(count, length, oldest):
    memory = filled(10, count)
    assert len(memory) == length
    states, actions = memory.latest(100)
    assert states[:, 0].tolist() == list(range(oldest, count))
    assert actions.tolist() == [i % 3 for i in range(oldest, count)]
    assert memory.latest(2)[0][:, 0].tolist() == [count - 2, count - 1]


def test_a_sample_keeps_together_what_belongs_together():
    states, actions, rewards, following, ends = filled(50, 120).sample(np.random.default_rng(1), 500)
    i = states[:, 0]
    assert set(i.tolist()) == set(range(70, 120)), "all of them, and only what is kept"
    assert torch.equal(states[:, 1], i + 100)
    assert torch.equal(following[:, 0], i + 1)
    assert torch.equal(actions, (i % 3).long())
    assert torch.equal(rewards, i / 2)
    assert torch.equal(ends, i % 5 == 4)


@pytest.mark.parametrize("kind", [np.float32, np.uint8])
@pytest.mark.parametrize("count", [4, 33])
def test_state_and_back(kind, count):
    memory, again = filled(10, count, kind), ReplayMemory(10, 2, kind)
    again.restore(memory.state())
    for one, other in zip(
        memory.sample(np.random.default_rng(2), 20), again.sample(np.random.default_rng(2), 20), strict=True
    ):
        assert torch.equal(one, other)
    memory.push([1, 2], 1, 1.0, [3, 4], True)
    again.push([1, 2], 1, 1.0, [3, 4], True)
    assert np.array_equal(memory.latest(99)[0], again.latest(99)[0])


def test_a_memory_larger_than_the_machine_is_refused():
    with pytest.raises(InvalidInputError, match=r"needs .* GiB; at most 16 GiB"):
        ReplayMemory(1_000_000, 28_224, np.uint8)

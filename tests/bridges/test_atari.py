"""Breakout as deep Q-learning sees it: shapes, preprocessing, starts, options, and that a seed tells the episode."""

import subprocess
import sys
from itertools import pairwise

import gymnasium
import numpy as np
import pytest
from spikeloop.bridges import atari
from spikeloop.bridges.environments import GymnasiumEnvironment, make, spaces
from spikeloop.errors import InvalidInputError, MissingPackageError, UnknownNameError
from spikeloop.models import Dense, Network
from spikeloop.runtime import launch
from spikeloop.runtime.loop import run_episodes

pytest.importorskip("ale_py")
pytest.importorskip("cv2")

MNIH, PATEL = "spikeloop/BreakoutMnih-v0", "spikeloop/BreakoutPatel-v0"
NOOP, FIRE, RIGHT, LEFT = range(4)


def played(env, actions, seed):
    """The observations, rewards and ends of an episode's first steps."""
    observation, _ = env.reset(seed=seed)
    seen = [observation]
    told = []
    for action in actions:
        observation, *answer, _ = env.step(action)
        seen.append(observation)
        told.append(tuple(answer))
    return np.array(seen), told


@pytest.mark.parametrize(("name", "shape"), [(MNIH, (4, 84, 84)), (PATEL, (80, 80))])
def test_what_is_observed(name, shape):
    with GymnasiumEnvironment(name) as env:
        assert (env.spaces.shape, env.spaces.n_actions, env.spaces.dtype) == (shape, 4, np.uint8)
        observation, info = env.reset(seed=1)
        assert observation.shape == (np.prod(shape),)
        assert observation.max() > 100
        assert info["lives"] == 5


@pytest.mark.parametrize("name", [MNIH, PATEL])
def test_a_seed_tells_the_episode(name):
    actions = np.random.default_rng(0).integers(4, size=60)
    env, other = make(name), make(name)
    first, told = played(env, actions, 5)
    played(env, actions[:7], 8)
    again, told_again = played(env, actions, 5)
    elsewhere, _ = played(other, actions, 5)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, elsewhere)
    assert told == told_again


@pytest.mark.parametrize(("name", "starts"), [(MNIH, 4), (PATEL, 1)])
def test_no_ops_alone_make_few_episodes_that_differ(name, starts):
    # Where Breakout's ball appears depends on the number of frames before it is fired, modulo 4.
    env = make(name)
    env.reset(seed=0)
    assert len({played(env, [FIRE, *[NOOP] * 8], None)[0].tobytes() for _ in range(30)}) == starts


def test_four_images_are_stacked_the_newest_last():
    env = make(MNIH)
    seen, _ = played(env, [FIRE, RIGHT, RIGHT, LEFT], 3)
    for before, after in pairwise(seen):
        np.testing.assert_array_equal(after[:3], before[1:])
        assert (after[3] != before[3]).any()
    np.testing.assert_array_equal(seen[0], seen[0][[3, 3, 3, 3]])


def test_a_fading_image_is_the_weighted_sum_of_the_last_four():
    env = make(PATEL, no_op_max=0)
    fading = env.unwrapped
    layer = env
    while not isinstance(layer, atari.FadingImages):
        layer = layer.env
    screens = [env.reset(seed=1) and fading.ale.getScreenRGB()] * 4
    for action in (FIRE, RIGHT, RIGHT, LEFT, RIGHT, RIGHT):
        observation = env.step(action)[0]
        screens = [fading.ale.getScreenRGB(), *screens[:3]]
        images = [layer.image(screen) for screen in screens]
        total = images[0] + 0.75 * images[1] + 0.5 * images[2] + 0.25 * images[3]
        np.testing.assert_array_equal(observation, np.floor(np.minimum(total, 255.0)))
    assert observation.max() == 255


def blurred_and_sampled(grey, side=80):
    """A Gaussian blur cut off at 4 deviations, mirrored at the edges; then linear interpolation between pixels."""
    for axis in (0, 1):
        factor = grey.shape[axis] / side
        sigma = (factor - 1) / 2
        reach = int(4 * sigma + 0.5)
        offsets = np.arange(-reach, reach + 1)
        kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
        padded = np.pad(grey, [(reach, reach) if a == axis else (0, 0) for a in (0, 1)], mode="reflect")
        size = grey.shape[axis]
        shifted = [np.take(padded, np.arange(size) + i, axis=axis) for i in range(2 * reach + 1)]
        grey = np.tensordot(kernel / kernel.sum(), np.stack(shifted), 1)
    for axis in (0, 1):
        size = grey.shape[axis]
        place = np.clip((np.arange(side) + 0.5) * size / side - 0.5, 0, size - 1)
        low = np.minimum(place.astype(int), size - 2)
        part = (place - low).reshape([-1 if a == axis else 1 for a in (0, 1)])
        grey = (1 - part) * np.take(grey, low, axis=axis) + part * np.take(grey, low + 1, axis=axis)
    return grey


def test_a_screen_is_made_small_as_scikit_image_does():
    screen = np.random.default_rng(0).integers(0, 256, (210, 160, 3), dtype=np.uint8)
    env = atari.FadingImages(gymnasium.Env())
    red, green, blue = np.moveaxis(screen[25:].astype(float), 2, 0)
    expected = blurred_and_sampled(0.2126 * red + 0.7152 * green + 0.0722 * blue)
    np.testing.assert_allclose(env.image(screen), expected, atol=1e-9)


@pytest.mark.parametrize(("name", "least", "frames"), [(MNIH, 1, 1), (PATEL, 4, 4)])
def test_an_episode_begins_with_a_random_number_of_no_ops(name, least, frames):
    env = make(name, no_op_max=6)
    env.reset(seed=0)
    counts = {env.reset()[1]["episode_frame_number"] for _ in range(40)}
    assert counts == {frames * count for count in range(least, 7)}
    assert make(name, no_op_max=0).reset(seed=0)[1]["episode_frame_number"] == 0


@pytest.mark.parametrize("name", [MNIH, PATEL])
def test_an_action_is_repeated(name):
    for skip in (4, 2, 1):
        env = make(name, frame_skip=skip, no_op_max=0)
        env.reset(seed=1)
        assert env.step(FIRE)[4]["episode_frame_number"] == skip


@pytest.mark.parametrize("name", [MNIH, PATEL])
def test_without_firing_nothing_happens_unless_the_start_fires(name):
    def moved(**options):
        env = make(name, no_op_max=0, **options)
        seen, _ = played(env, [NOOP] * 12, 1)
        return (seen[-1] != seen[-2]).any()

    assert not moved()
    assert moved(fire_on_reset=True)


@pytest.mark.parametrize("name", [MNIH, PATEL])
def test_an_episode_can_end_with_a_life(name):
    def steps_and_lives(**options):
        env = make(name, no_op_max=0, fire_on_reset=True, **options)
        env.reset(seed=1)
        for count in range(400):
            *_, terminated, _, info = env.step(NOOP)
            if terminated or info["lives"] < 5:
                return count, info["lives"], terminated
        return None

    steps, lives, terminated = steps_and_lives()
    assert (lives, terminated) == (4, False)
    assert steps_and_lives(terminal_on_life_loss=True) == (steps, 4, True)


def test_actions_can_be_made_to_stick():
    actions = [FIRE, *[RIGHT, LEFT] * 20]
    clean = played(make(PATEL), actions, 1)[0]
    sticky = make(PATEL, repeat_action_probability=0.5)
    assert not np.array_equal(clean, played(sticky, actions, 1)[0])
    np.testing.assert_array_equal(played(sticky, actions, 1)[0], played(sticky, actions, 1)[0])


def test_another_game():
    assert spaces("", make(MNIH, game="SpaceInvaders")).n_actions == 6
    assert make(PATEL, game="pong").reset(seed=1)[0].shape == (80, 80)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"game": "Brakeout"}, UnknownNameError, "no Atari game 'brakeout'. Did you mean breakout"),
        ({"frame_skip": 0}, InvalidInputError, "frame_skip is 0; it must be a whole number of at least 1"),
        ({"no_op_max": -1}, InvalidInputError, "no_op_max is -1"),
        ({"repeat_action_probability": 1.0}, InvalidInputError, "at least 0 and below 1"),
        ({"game": "Freeway", "fire_on_reset": True}, InvalidInputError, "the game's actions are NOOP, UP, DOWN"),
    ],
)
@pytest.mark.parametrize("name", [MNIH, PATEL])
def test_options_that_cannot_be(name, options, kind, message):
    with pytest.raises(kind, match=message):
        make(name, **options)


@pytest.mark.parametrize(("module", "package"), [("ale_py", "ale-py"), ("cv2", "OpenCV")])
def test_a_missing_package_is_named(monkeypatch, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingPackageError, match=rf'needs {package}, .*pip install "spikeloop\[atari\]"'):
        make(MNIH)


def test_nothing_is_printed_and_other_environments_do_not_need_it():
    code = (
        "import sys\n"
        "from spikeloop.bridges.environments import make\n"
        "make('CartPole-v1')\n"
        "assert 'ale_py' not in sys.modules\n"
        f"make('{PATEL}').reset(seed=1)\n"
        f"make('{MNIH}').reset(seed=1)\n"
    )
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_a_spiking_network_plays():
    rng = np.random.default_rng(0)
    network = Network((Dense(rng.normal(0, 1e-3, (6400, 8))), Dense(rng.normal(size=(8, 4)))), 10)
    with GymnasiumEnvironment(PATEL, n_inputs=6400, n_actions=4, max_episode_steps=20) as env:
        with launch(network) as agent:
            result = run_episodes(env, agent, episodes=2, seed=1)
        assert [episode.length for episode in result.episodes] == [20, 20]

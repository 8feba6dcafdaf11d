"""Atari games as deep Q-learning sees them: ``spikeloop/BreakoutMnih-v0`` and ``spikeloop/BreakoutPatel-v0``.

Both take these options (of ``gymnasium.make``):

game : str
    "Breakout" unless given; any game of the Arcade Learning Environment, such as "SpaceInvaders".
frame_skip : int
    4: an action is repeated for so many frames of the game, of which the agent sees the last.
no_op_max : int
    30: an episode begins with a random number of no-ops, at most so many. It is all that differs between episodes.
fire_on_reset : bool
    False: the agent itself must fire to bring the ball into play, as in the papers. True fires once at the start of an
    episode; after a lost life the agent must still fire.
repeat_action_probability : float
    0: every action is carried out, as in the Deterministic-v4 environments. Machado et al. propose 0.25.
terminal_on_life_loss : bool
    False: an episode lasts until the game is over.

References
----------
Mnih et al., "Human-level control through deep reinforcement learning", Nature 518, 2015.
Patel et al., "Improved robustness of reinforcement learning policies upon conversion to spiking neuronal network
platforms applied to Atari Breakout game", Neural Networks 120, 2019.
Machado et al., "Revisiting the Arcade Learning Environment", JAIR 61, 2018.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation
from numpy.typing import NDArray

from ..errors import InvalidInputError, MissingPackageError, UnknownNameError
from ..models.stimulus import FloatArray

# Half an hour of a game at 60 frames a second; an agent that never fires would otherwise play for ever.
MAX_FRAMES = 108_000
HISTORY = 4


def register() -> None:
    """Make the two environments known to Gymnasium.

    Raises
    ------
    MissingPackageError
        If ale-py or OpenCV is not installed.
    """
    try:
        import ale_py
        import cv2  # noqa: F401
    except ImportError as error:
        package = "OpenCV" if error.name == "cv2" else "ale-py"
        raise MissingPackageError.needs("An Atari environment", package, "atari") from None
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # or it greets on stderr
    for name, function in (("spikeloop/BreakoutMnih-v0", mnih), ("spikeloop/BreakoutPatel-v0", patel)):
        if name not in gymnasium.registry:
            # Without Gymnasium's own checker, which warns of images that are not [height, width, colours].
            gymnasium.register(name, f"{__name__}:{function.__name__}", disable_env_checker=True)


def mnih(
    game: str = "Breakout",
    *,
    frame_skip: int = 4,
    no_op_max: int = 30,
    fire_on_reset: bool = False,
    repeat_action_probability: float = 0.0,
    terminal_on_life_loss: bool = False,
    render_mode: str | None = None,
) -> gymnasium.Env[Any, Any]:
    """The last 4 images, 84 x 84 pixels of grey: uint8 [4, 84, 84], the newest last.

    An image is the larger value of each pixel in the last two frames. No-ops last one frame each.
    """
    env = _game(game, "grayscale", 1, repeat_action_probability, render_mode)
    env = AtariPreprocessing(
        env,
        noop_max=_at_least(0, no_op_max, "no_op_max"),
        frame_skip=_at_least(1, frame_skip, "frame_skip"),
        terminal_on_life_loss=terminal_on_life_loss,
    )
    env = FrameStackObservation(env, HISTORY)
    return FireOnReset(env) if fire_on_reset else env


def patel(
    game: str = "Breakout",
    *,
    frame_skip: int = 4,
    no_op_max: int = 30,
    fire_on_reset: bool = False,
    repeat_action_probability: float = 0.0,
    terminal_on_life_loss: bool = False,
    render_mode: str | None = None,
) -> gymnasium.Env[Any, Any]:
    """The last 4 images in one, the older the fainter: uint8 [80, 80].

    No-ops last `frame_skip` frames each and are at least 4, so that there are 4 images to begin with.
    """
    skip = _at_least(1, frame_skip, "frame_skip")
    env: gymnasium.Env[Any, Any] = FadingImages(_game(game, "rgb", skip, repeat_action_probability, render_mode))
    if _at_least(0, no_op_max, "no_op_max"):
        env = NoOpStart(env, min(HISTORY, no_op_max), no_op_max)
    if fire_on_reset:
        env = FireOnReset(env)
    return LifeLossEnds(env) if terminal_on_life_loss else env


class FadingImages(gymnasium.Wrapper[NDArray[np.uint8], Any, Any, Any]):
    """The last 4 screens as one image of 80 x 80: F(t) + 0.75 F(t-1) + 0.5 F(t-2) + 0.25 F(t-3), at most 255.

    A screen F is its luminance without the uppermost 25 rows, which hold the score. It is made smaller as scikit-image
    does by default, whose images the thesis' networks were trained on: a Gaussian blur against aliasing, then linear
    interpolation. Before the first screen of an episode, there was always that screen.

    References
    ----------
    Patel et al. (2019); the thesis, section 4.1.3 and equation 4.2.
    """

    WEIGHTS = np.array([1.0, 0.75, 0.5, 0.25])
    LUMINANCE = np.array([0.2126, 0.7152, 0.0722])  # of red, green and blue (ITU-R BT.709)
    CROPPED = 25
    SIDE = 80

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.observation_space = Box(0, 255, (self.SIDE, self.SIDE), np.uint8)
        self._images: deque[FloatArray] = deque(maxlen=len(self.WEIGHTS))  # the newest first

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        screen, info = self.env.reset(seed=seed, options=options)
        self._images.extend([self.image(screen)] * len(self.WEIGHTS))
        return self._faded(), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act."""
        screen, reward, terminated, truncated, info = self.env.step(action)
        self._images.appendleft(self.image(screen))
        return self._faded(), reward, terminated, truncated, info

    def image(self, screen: NDArray[np.uint8]) -> FloatArray:
        """One screen [height, width, 3] made small: float64 [80, 80]."""
        import cv2

        grey = screen[self.CROPPED :].astype(np.float64) @ self.LUMINANCE
        sigma_y, sigma_x = (max(0.0, (side / self.SIDE - 1.0) / 2.0) for side in grey.shape)
        blurred = cv2.GaussianBlur(grey, (0, 0), sigmaX=sigma_x, sigmaY=sigma_y, borderType=cv2.BORDER_REFLECT_101)
        return np.asarray(cv2.resize(blurred, (self.SIDE, self.SIDE), interpolation=cv2.INTER_LINEAR), np.float64)

    def _faded(self) -> NDArray[np.uint8]:
        return np.minimum(np.tensordot(self.WEIGHTS, np.stack(self._images), 1), 255.0).astype(np.uint8)


class NoOpStart(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Does nothing for a random number of steps, from `least` to `most`, at the start of each episode."""

    def __init__(self, env: gymnasium.Env[Any, Any], least: int, most: int) -> None:
        super().__init__(env)
        self._least, self._most = least, most

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        for _ in range(int(self.np_random.integers(self._least, self._most + 1))):
            observation, _, terminated, truncated, info = self.env.step(0)
            if terminated or truncated:
                observation, info = self.env.reset(options=options)
        return observation, info


class FireOnReset(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Fires once at the start of each episode."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        meanings = list(env.unwrapped.get_action_meanings())  # type: ignore[attr-defined]  # an AtariEnv's
        if "FIRE" not in meanings:
            raise InvalidInputError(
                f"fire_on_reset was given, but the game's actions are {', '.join(meanings)}: leave it out."
            )
        self._fire = meanings.index("FIRE")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        self.env.reset(seed=seed, options=options)
        observation, _, terminated, truncated, info = self.env.step(self._fire)
        return self.env.reset(options=options) if terminated or truncated else (observation, info)


class LifeLossEnds(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Ends an episode as soon as a life is lost."""

    _lives = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._lives = info["lives"]
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        lost, self._lives = info["lives"] < self._lives, info["lives"]
        return observation, reward, terminated or lost, truncated, info


def _game(
    game: str, screen: str, frame_skip: int, repeat_action_probability: float, render_mode: str | None
) -> gymnasium.Env[Any, Any]:
    from ale_py import roms
    from ale_py.env import AtariEnv

    rom = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", game).lower()
    known = roms.get_all_rom_ids()
    if rom not in known:
        raise UnknownNameError.among("Atari game", rom, known)
    if not 0.0 <= repeat_action_probability < 1.0:
        raise InvalidInputError(
            f"repeat_action_probability is {repeat_action_probability}; it must be at least 0 and below 1."
        )
    make: Any = AtariEnv  # typed where it is installed, which is not everywhere
    env: gymnasium.Env[Any, Any] = make(
        rom,
        obs_type=screen,
        frameskip=frame_skip,
        repeat_action_probability=repeat_action_probability,
        max_num_frames_per_episode=MAX_FRAMES,
        render_mode=render_mode,
    )
    return env


def _at_least(least: int, value: int, name: str) -> int:
    if not isinstance(value, int) or value < least:
        raise InvalidInputError(f"{name} is {value!r}; it must be a whole number of at least {least}.")
    return value

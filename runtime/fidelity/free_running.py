"""Target and reference each driving its own environment, from the same seeds.

On the same observations (teacher-forced) one flipped decision is one flipped decision. In the closed loop it leads to
other states, in which more may flip: what that does to the returns is seen only where the target itself drives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ...hardware_profiles.profile import Profile, Value, load_profile
from ...models.loading import load
from ...models.network import Network
from ..agent import Decider, launch
from ..loop import Environment, EpisodeResult, run_episodes
from .episodes import Noted, opened
from .intervals import interval, wilson
from .report import Against, Agreement, FreeRunning, Returns


def free_running(
    make_environment: Callable[[], Environment],
    network: Network | str | Path,
    profile: Profile | str | Path,
    *,
    episodes: int,
    seed: int = 0,
    settings: Mapping[str, Value | str] | None = None,
    against: Against | None = None,
    origin: Decider | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> FreeRunning:
    """Let a target drive, with what it is to decide like looking on; then let that one drive.

    Parameters
    ----------
    make_environment : callable
        Called once for each of the two. Environments are closed after use, if they can be.
    network : Network, or the name or path of one
    profile : Profile, or the name or path of one
    episodes : int
        Of each.
    seed : int
        Episode ``i`` resets environment and random encodings with ``seed + i``.
    settings : mapping, optional
        Settings of the profile to override.
    against : "reference" or "twin", optional
        What to compare with; as `compared_with` says unless given.
    origin : Decider, optional
        The conventional network that the spiking one came from; it looks on where the target drives. Left open.
    on_progress : callable, optional
        Called with the number of episodes finished, of twice `episodes`.

    Raises
    ------
    SpikeloopError
        As `launch`, `launch_expected`, the environment and the deciders raise them.
    """
    # Here, because `check` may itself ask for free-running episodes.
    from .expected import compared_with, launch_expected

    if not isinstance(network, Network):
        network = load(network)
    profile = load_profile(profile, settings)
    against = against or compared_with(network, profile)
    done = 0

    def on_episode(episode: EpisodeResult) -> None:
        nonlocal done
        done += 1
        if on_progress is not None:
            on_progress(done)

    with launch_expected(network, profile, against, seed=seed) as expected:
        with launch(network, profile, seed=seed) as target, opened(make_environment) as environment:
            name = str(getattr(environment, "name", type(environment).__name__))
            driven = Noted(target, origin)
            given = run_episodes(
                environment, driven, episodes=episodes, seed=seed, reference=expected, on_episode=on_episode
            )
        with opened(make_environment) as environment:
            alone = Noted(expected)
            wanted = run_episodes(environment, alone, episodes=episodes, seed=seed, on_episode=on_episode)
    return FreeRunning(
        env=name,
        episodes=episodes,
        seed=seed,
        agreement=_agreement(given.agreed, given.compared),
        origin=None if origin is None else _agreement(driven.agreed, driven.decisions),
        target=_returns(given.returns),
        reference=_returns(wanted.returns),
        first_parting=tuple(map(first_parting, driven.actions, alone.actions)),
    )


def first_parting(ours: list[int], theirs: list[int]) -> int | None:
    """The first decision that is another one, or that only one of two episodes came to; None where there is none."""
    for index, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        if one != other:
            return index
    return None if len(ours) == len(theirs) else min(len(ours), len(theirs))


def _agreement(agreed: int, of: int) -> Agreement:
    return Agreement(agreed, of, agreed / of, wilson(agreed, of))


def _returns(values: list[float]) -> Returns:
    return Returns(float(np.mean(values)), interval(np.array(values)), tuple(values))

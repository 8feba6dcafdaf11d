"""The agent: a session with an encoder in front and a decoder behind it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from time import perf_counter, process_time
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..deploy.backend import Readout, Recording, Session
from ..deploy.deployment import Deployment
from ..deploy.mapping import open_session, plan
from ..errors import InvalidInputError, TargetError
from ..hardware_profiles.profile import Profile, Value, load_profile
from ..models.loading import load
from ..models.network import Network
from ..models.stimulus import Stimulus
from .decision import Decision, Timings


class Decider(Protocol):
    """Whatever decides: an agent in this process, or one at the other end of a bridge."""

    def reset(self, *, seed: int | None = None) -> None:
        """Begin an episode."""

    def decide(self, observation: object, *, spikes: bool = False) -> Decision:
        """Decide on one observation, or on a batch."""

    def close(self) -> None:
        """Give back what the decider holds."""


class Agent:
    """A deployed network that decides; a context manager. See `launch`.

    Attributes
    ----------
    deployment : Deployment
    """

    def __init__(self, deployment: Deployment, session: Session, seed: int = 0) -> None:
        self.deployment = deployment
        self._network = deployment.network
        self._session = session
        self._seed = seed
        self._decisions = 0
        self._random = self._network.encoder.random

    # --- facts, by the names that the bridge tells them under -----------------------------------------------------

    @property
    def network(self) -> Network:
        """The network that decides."""
        return self._network

    @property
    def network_hash(self) -> str:
        """The network's content hash."""
        return self._network.content_hash

    @property
    def network_name(self) -> str:
        """The network's name."""
        return self._network.name

    @property
    def profile(self) -> str:
        """The profile's name."""
        return self.deployment.profile.name

    @property
    def target(self) -> str:
        """The backend's name."""
        return self.deployment.profile.target

    @property
    def n_inputs(self) -> int:
        """Values of one observation."""
        return self._network.n_inputs

    @property
    def n_channels(self) -> int:
        """Inputs of the first layer."""
        return self._network.n_channels

    @property
    def n_outputs(self) -> int:
        """Number of actions."""
        return self._network.n_outputs

    @property
    def steps(self) -> int:
        """Steps of a window."""
        return self._network.steps

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Neurons of each layer that can spike."""
        return self._network.spiking_sizes

    @property
    def step_ms(self) -> float:
        """Target time of one step."""
        return self.deployment.window.step_ms

    @property
    def window_ms(self) -> float:
        """Target time of one decision."""
        return self.deployment.window.lasts_ms(self._network.steps)

    @property
    def decoder(self) -> str:
        """The decoder's kind."""
        return self._network.decoder.kind

    # --- deciding -------------------------------------------------------------------------------------------------

    @property
    def encoder_state(self) -> tuple[int, int]:
        """Seed and number of decisions since `reset`: what the next random encoding depends on."""
        return self._seed, self._decisions

    @encoder_state.setter
    def encoder_state(self, state: tuple[int, int]) -> None:
        self._seed, self._decisions = state

    def reset(self, *, seed: int | None = None) -> None:
        """Begin an episode: random encodings start again, from `seed` if one is given."""
        self._decisions = 0
        if seed is not None:
            self._seed = seed

    def act(self, observation: object) -> int | NDArray[np.int64]:
        """The action for one observation [n_inputs], or the actions for a batch [n, n_inputs]."""
        return self.decide(observation).action

    def decide(self, observation: object, *, spikes: bool = False) -> Decision:
        """Decide on one observation [n_inputs] or a batch [n, n_inputs]; with `spikes`, record the spike trains.

        Raises
        ------
        InvalidInputError
            If the observation has another shape, or NaN or infinite values.
        TargetError
            If the target fails.
        """
        start = perf_counter()
        observations = self._network.observations(observation)
        stimulus = self._network.encoder.encode(observations, self._network.steps, self._seed, self._decisions)
        if self._random:
            self._decisions += len(observations)
        encoded = perf_counter()
        single = np.ndim(observation) == 1  # type: ignore[arg-type]  # it was array-like enough to become one
        return self._decide(stimulus, single, spikes, (encoded - start) * 1e6)

    def decide_stimulus(self, stimulus: Stimulus, *, spikes: bool = False) -> Decision:
        """Decide on currents or spikes that the caller made, past the encoder; a batch of one is one decision."""
        if not isinstance(stimulus, Stimulus):
            raise InvalidInputError(
                f"A {type(stimulus).__name__} was given; a Stimulus is needed: Stimulus.from_currents."
            )
        stimulus = self._network.stimulus(stimulus)
        return self._decide(stimulus, len(stimulus) == 1, spikes, 0.0)

    def _decide(self, stimulus: Stimulus, single: bool, spikes: bool, encode_us: float) -> Decision:
        recording = _WITH_SPIKES if spikes else _PLAIN
        began = process_time()
        n, most = len(stimulus.currents), self._session.max_batch
        if most is None or n <= most:
            readout, inject, run, read = self._window(stimulus, recording)
        else:
            parts = [self._window(stimulus.samples(i, i + most), recording) for i in range(0, n, most)]
            readout = _joined([part[0] for part in parts])
            inject, run, read = (sum(stage) for stage in zip(*(part[1:] for part in parts), strict=True))
        start = perf_counter()
        output = self._network.decoder.output(readout.potentials, readout.output_raster)
        if np.count_nonzero(np.isfinite(output)) != output.size:
            raise TargetError(
                f"The output of network '{self._network.name}' is not finite: its weights or inputs are too large for "
                "float64. Scale them."
            )
        rasters = readout.rasters if spikes else None
        if single:
            output = output[0]
            action: int | NDArray[np.int64] = int(output.argmax())
            rasters = None if rasters is None else tuple(raster[0] for raster in rasters)
        else:
            action = output.argmax(axis=1)
        decode = perf_counter() - start
        timings = Timings(encode_us, inject * 1e6, run * 1e6, read * 1e6, decode * 1e6)
        return Decision(action, output, timings, rasters, readout.exchange, (process_time() - began) * 1e6)

    def _window(self, stimulus: Stimulus, recording: Recording) -> tuple[Readout, float, float, float]:
        session = self._session
        start = perf_counter()
        session.reset()
        session.inject(stimulus, recording)
        injected = perf_counter()
        session.run(self._network.steps)
        ran = perf_counter()
        readout = session.read()
        return readout, injected - start, ran - injected, perf_counter() - ran

    def close(self) -> None:
        """Give the target back."""
        self._session.close()

    def __enter__(self) -> Agent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_PLAIN, _WITH_SPIKES = Recording(), Recording(spikes=True)


def launch(
    network: Network | str | Path,
    profile: Profile | str | Path = "reference",
    *,
    seed: int = 0,
    settings: Mapping[str, Value | str] | None = None,
) -> Agent:
    """Deploy a network and return the agent that runs it.

    Parameters
    ----------
    network : Network, or the name or path of one
    profile : Profile, or the name or path of one
    seed : int
        For random encoders and for targets that draw random numbers.
    settings : mapping, optional
        Settings of the profile to override, by key.

    Raises
    ------
    PreflightError
        If the network cannot run under that profile.
    TargetError, MissingPackageError
        If the target cannot be had.

    Examples
    --------
    >>> import spikeloop
    >>> with spikeloop.launch("cartpole", "reference") as agent:
    ...     action = agent.act([0.0, 0.1, 0.02, -0.1])
    """
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise InvalidInputError(f"A seed of {seed!r} was given; it must be an integer.")
    for given, kind in ((network, Network), (profile, Profile)):
        if not isinstance(given, kind | str | Path):
            raise InvalidInputError(f"{given!r} was given; a {kind.__name__}, or the name or path of one, is needed.")
    if not isinstance(network, Network):
        network = load(network)
    deployment = plan(network, load_profile(profile, settings))
    agent = Agent(deployment, open_session(deployment, seed), seed)
    try:
        # The first window loads compiled code and allocates: a third of a second that no decision should have to wait.
        agent.decide_stimulus(Stimulus(np.zeros((1, network.n_channels))))
    except BaseException:
        agent.close()
        raise
    return agent


def _joined(readouts: list[Readout]) -> Readout:
    def stack(name: str) -> NDArray[np.uint8] | None:
        parts = [getattr(readout, name) for readout in readouts]
        return None if parts[0] is None else np.concatenate(parts)

    rasters = None
    if readouts[0].rasters is not None:
        layers = zip(*(readout.rasters for readout in readouts if readout.rasters is not None), strict=True)
        rasters = tuple(np.concatenate(layer) for layer in layers)
    exchanges = [readout.exchange for readout in readouts if readout.exchange is not None]
    return Readout(
        np.concatenate([r.potentials for r in readouts]),
        stack("output_raster"),
        rasters,
        exchange=sum(exchanges[1:], exchanges[0]) if exchanges else None,
    )

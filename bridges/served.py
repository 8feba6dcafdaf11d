"""Between an agent and the wire: what a host needs of an agent, and the agent's answers as messages."""

from __future__ import annotations

from dataclasses import astuple
from operator import attrgetter
from typing import Any, Protocol

import numpy as np

from ..errors import InvalidInputError
from ..models.stimulus import FloatArray, Stimulus
from ..runtime.decision import Decision, Timings
from .protocol import checked, spike_events
from .wire import Inject, InputKind, Readout, Welcome

_stages = attrgetter(*Timings.stages())
_NONE = np.zeros(0, np.uint32)


class ServedAgent(Protocol):
    """What a host needs of an agent; ``spikeloop.runtime.agent.Agent`` is one.

    It gets one observation, or a stimulus of one sample, at a time, and it is the one to refuse an observation of the
    wrong shape, or with values that are not finite, with an InvalidInputError.
    """

    encoder_state: Any

    @property
    def network_hash(self) -> str: ...
    @property
    def network_name(self) -> str: ...
    @property
    def profile(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def n_inputs(self) -> int: ...
    @property
    def n_channels(self) -> int: ...
    @property
    def n_outputs(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def layer_sizes(self) -> tuple[int, ...]: ...
    @property
    def step_ms(self) -> float: ...
    @property
    def window_ms(self) -> float: ...
    @property
    def decoder(self) -> str: ...

    def reset(self, *, seed: int | None = None) -> None: ...
    def decide(self, observation: FloatArray, *, spikes: bool = False) -> Decision: ...
    def decide_stimulus(self, stimulus: Stimulus, *, spikes: bool = False) -> Decision: ...


def decide(agent: ServedAgent, inject: Inject) -> Readout:
    """The agent's answer to an Inject."""
    if inject.kind is not InputKind.SPIKES and inject.channels.size + inject.spike_steps.size:
        raise InvalidInputError(f"Spikes were given with input of the kind {inject.kind.name}; use SPIKES.")
    if inject.kind is InputKind.OBSERVATION:
        return readout(agent.decide(inject.values, spikes=inject.want_spikes))
    currents = inject.values
    if inject.kind is InputKind.CURRENTS or currents.size:
        currents = checked(currents, "currents", agent.n_channels)
    stimulus = Stimulus(currents[None])
    if inject.kind is InputKind.SPIKES:
        window = {"n_channels": agent.n_channels, "window": agent.steps}
        spikes = Stimulus.from_events(inject.channels, inject.spike_steps, **window)
        stimulus = Stimulus(stimulus.currents if currents.size else spikes.currents, spikes.spikes)
    return readout(agent.decide_stimulus(stimulus, spikes=inject.want_spikes))


def readout(decision: Decision) -> Readout:
    """A decision as a message."""
    action, output, timings = int(decision.action), decision.output, np.array(_stages(decision.timings))
    exchange = _NONE if decision.exchange is None else np.array(astuple(decision.exchange), np.uint32)
    if decision.rasters is None:
        return Readout(action, output, timings, exchange=exchange, cpu_us=decision.cpu_us)
    events = [spike_events(raster) for raster in decision.rasters]
    layers = np.repeat(np.arange(len(events), dtype=np.uint16), [steps.size for steps, _ in events])
    steps, neurons = (np.concatenate([_NONE, *(event[i] for event in events)]) for i in (0, 1))
    return Readout(action, output, timings, False, True, layers, neurons, steps, exchange, decision.cpu_us)


def welcome(agent: ServedAgent, pace_scale: float | None) -> Welcome:
    """What a host tells of its agent."""
    # Imported here: the package's own module may be importing this one.
    from .. import __version__

    return Welcome(
        network_hash=agent.network_hash,
        network_name=agent.network_name,
        profile=agent.profile,
        target=agent.target,
        software=__version__,
        n_inputs=agent.n_inputs,
        n_channels=agent.n_channels,
        n_outputs=agent.n_outputs,
        steps=agent.steps,
        layer_sizes=np.array(agent.layer_sizes, np.uint32),
        paced=pace_scale is not None,
        scale=pace_scale or 0.0,
        step_ms=agent.step_ms,
        window_ms=agent.window_ms,
        decoder=agent.decoder,
    )

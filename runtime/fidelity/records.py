"""Records of what targets and simulations do with observations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...deploy.backend import Readout, Recording, Session
from ...deploy.deployment import Deployment
from ...deploy.mapping import open_session
from ...deploy.reference import ReferenceSession
from ...deploy.twin import twin_of
from ...errors import TargetError
from ...hardware_profiles.profile import Profile
from ...models.network import Network
from ...models.stimulus import CountArray, FloatArray, Stimulus
from ..agent import Agent, launch
from .report import Against, Record

AT_A_TIME = 250  # observations of one share of a large check
AT_ONCE = 256  # observations whose potentials are kept while they are simulated
MOST_TRACES = 1 << 28  # values of the last layer's potentials that are kept


def target_record(
    network: Network,
    profile: Profile,
    states: FloatArray,
    *,
    seed: int = 0,
    first: int = 0,
    on_progress: Callable[[int], None] | None = None,
) -> Record:
    """What the target does with observations [n, n_inputs], of which the first has the number `first`.

    A target that draws random numbers starts anew, with a seed of its own, every `AT_A_TIME` observations, so that it
    does not matter who decides on which of them.
    """
    size = AT_A_TIME if profile.stochastic else len(states)
    parts = []
    for start in range(0, len(states), size):
        some = states[start : start + size]
        own = _own_seed(seed, (first + start) // AT_A_TIME) if profile.stochastic else seed
        with launch(network, profile, seed=own, settings=profile.settings_for_spikes) as agent:
            agent.encoder_state = (seed, first + start)
            told = None if on_progress is None else lambda done, start=start: on_progress(start + done)
            parts.append(record(agent, some, told))
    return Record(
        actions=np.concatenate([part.actions for part in parts]),
        outputs=np.concatenate([part.outputs for part in parts]),
        rasters=tuple(np.concatenate(layer) for layer in zip(*(part.rasters for part in parts), strict=True)),
        ms=np.concatenate([part.ms for part in parts]),
    )


def _own_seed(seed: int, block: int) -> int:
    """The first block's is the seed itself; no other's is that of another seed's block."""
    return int(np.random.SeedSequence((seed, block)).generate_state(1)[0] >> 1) if block else seed


def record(agent: Agent, states: FloatArray, on_progress: Callable[[int], None] | None = None) -> Record:
    """Have an agent decide on each observation [n, n_inputs] by itself, and keep all of it."""
    decisions = []
    for done, state in enumerate(states, 1):
        decisions.append(agent.decide(state, spikes=True))
        if on_progress is not None:
            on_progress(done)
    layers = zip(*(decision.rasters or () for decision in decisions), strict=True)
    return Record(
        actions=np.array([decision.action for decision in decisions], dtype=np.int64),
        outputs=np.array([decision.output for decision in decisions]),
        rasters=tuple(np.stack(layer) for layer in layers),
        ms=np.array([decision.timings.total_us / 1e3 for decision in decisions]),
    )


def expected_record(deployment: Deployment, against: Against, states: FloatArray, seed: int) -> Record:
    """What the target is to do, with the potentials of the last layer (of the reference, or of the profile's twin)."""
    network = deployment.network
    session = software(deployment, against)
    keep = len(states) * network.steps * network.n_outputs <= MOST_TRACES
    recording = Recording(spikes=True, potentials=keep)
    parts = [
        _window(session, _encoded(network, states, first, min(first + AT_ONCE, len(states)), seed), network, recording)
        for first in range(0, len(states), AT_ONCE)
    ]
    outputs = np.concatenate([network.decoder.output(part.potentials, part.output_raster) for part in parts])
    layers = zip(*(part.rasters or () for part in parts), strict=True)
    traces = [part.traces[-1] for part in parts if part.traces is not None]
    return Record(
        actions=outputs.argmax(axis=1),
        outputs=outputs,
        rasters=tuple(np.concatenate(layer) for layer in layers),
        ms=np.zeros(len(states)),
        traces=(np.concatenate(traces),) if traces else None,
    )


def software(deployment: Deployment, against: Against) -> Session:
    """A session in this process of what the target is compared with; see `launch_expected`, which says what has one."""
    session = ReferenceSession(deployment.network) if against == "reference" else twin_of(deployment)
    assert session is not None, "launch_expected was asked before"
    return session


def potentials_of(
    session: Session, network: Network, states: FloatArray, index: int, seed: int
) -> tuple[FloatArray, tuple[CountArray, ...]]:
    """All potentials of one decision, float64 [steps, neurons of all layers], and its spikes."""
    stimulus = _encoded(network, states, index, index + 1, seed)
    found = _window(session, stimulus, network, Recording(spikes=True, potentials=True))
    assert found.traces is not None, "asked for"
    assert found.rasters is not None, "asked for"
    return np.concatenate([trace[0] for trace in found.traces], axis=1), tuple(layer[0] for layer in found.rasters)


def target_potentials(
    deployment: Deployment, states: FloatArray, index: int, seed: int, given: Record
) -> FloatArray | None:
    """The potentials read from the target, which decides once more.

    None if it cannot be done, would take a machine for one decision, or if its spikes are others this time.
    """
    if deployment.profile.machine is not None:
        return None
    try:
        session = open_session(deployment, seed)
    except TargetError:
        return None
    try:
        potentials, spikes = potentials_of(session, deployment.network, states, index, seed)
    except TargetError:
        return None
    finally:
        session.close()
    same = all(np.array_equal(ours, theirs[index]) for ours, theirs in zip(spikes, given.rasters, strict=True))
    return potentials if same else None


def _encoded(network: Network, states: FloatArray, first: int, last: int, seed: int) -> Stimulus:
    return network.encoder.encode(states[first:last], network.steps, seed, first)


def _window(session: Session, stimulus: Stimulus, network: Network, recording: Recording) -> Readout:
    session.reset()
    session.inject(stimulus, recording)
    session.run(network.steps)
    return session.read()

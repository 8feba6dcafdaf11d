"""The suite that every backend passes, ours and anyone's: ``check_backend(factory, profile)``.

A check is a function of a backend and a profile that raises AssertionError. What a backend cannot do it lists in
`Backend.cannot` as (name of the check, reason); such a check is skipped and the reason reported. Checks of exactness
are run only under profiles that promise it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from ..errors import SessionStateError, SpikeloopError
from ..hardware_profiles.profile import Profile, load_profile
from ..models.decoders import Decoder
from ..models.encoders import Encoder
from ..models.network import Conv2d, Dense, Network, Neuron
from ..models.stimulus import Stimulus
from .backend import Backend, Readout, Recording, Session
from .reference import ReferenceSession

TOLERANCE = 1e-9  # of a potential, where a profile promises exactness


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one check; `detail` is the failure or the reason of a skip."""

    check: str
    status: Literal["passed", "failed", "skipped"]
    detail: str = ""


def check_backend(factory: Callable[[], Backend], profile: Profile | str) -> list[Outcome]:
    """Run the conformance suite.

    Parameters
    ----------
    factory : callable
        Returns the backend.
    profile : Profile, or the name or path of one
        What to deploy under.

    Returns
    -------
    list of Outcome, one per check

    Examples
    --------
    >>> from spikeloop.deploy.reference import ReferenceBackend
    >>> outcomes = check_backend(ReferenceBackend, "reference")
    >>> [o.check for o in outcomes if o.status == "failed"]
    []
    """
    profile = load_profile(profile)
    backend = factory()
    cannot = dict(backend.cannot)
    outcomes = []
    for name, check in CHECKS.items():
        if name in cannot:
            outcomes.append(Outcome(name, "skipped", cannot[name]))
        elif name in EXACT_ONLY and not profile.exact:
            outcomes.append(Outcome(name, "skipped", f"profile '{profile.name}' does not promise exactness"))
        else:
            outcomes.append(_outcome(name, check, backend, profile))
    return outcomes


def _outcome(name: str, check: Callable[[Backend, Profile], None], backend: Backend, profile: Profile) -> Outcome:
    try:
        check(backend, profile)
    except (AssertionError, SpikeloopError) as error:
        return Outcome(name, "failed", str(error) or "an assertion failed")
    return Outcome(name, "passed")


def example(
    seed: int = 0,
    *,
    steps: int = 20,
    neuron: Neuron | None = None,
    encoder: Encoder | None = None,
    decoder: Decoder | None = None,
) -> Network:
    """A small random network, 3-6-5-3, that fires a lot."""
    rng = np.random.default_rng(seed)
    encoder = encoder or Encoder()
    channels = 3 * (1 + encoder.two_neurons) + encoder.constant_one
    sizes = [channels, 6, 5, 3]
    layers = [
        Dense(rng.normal(0.0, 1.6 / np.sqrt(n_in), (n_in, n_out)), rng.normal(0.1, 0.2, n_out))
        for n_in, n_out in pairwise(sizes)
    ]
    return Network(tuple(layers), steps, neuron or Neuron(), encoder, decoder or Decoder(), name=f"example {seed}")


def _example_for(profile: Profile, seed: int) -> Network:
    """`example`, or under a profile of decision circuits the like of it that they take: quantised, on their grid."""
    network = example(seed)
    if profile.circuit is None:
        return network
    last = len(network.layers) - 1
    layers = []
    for index, layer in enumerate(network.layers):
        grid = 2.0 ** ((profile.circuit.output_shift if index == last else profile.circuit.hidden_shift) - 15)
        # Inputs are whole numbers that stand for tenths; outputs must not add up to half a threshold in a window.
        scale = 0.1 if index == 0 else 0.4 / (network.steps * np.abs(layer.weights).sum()) if index == last else 1.0
        bias = layer.bias * (scale if index == last else 1.0)
        layers.append(Dense(np.rint(layer.weights * scale / grid) * grid, np.rint(bias / grid) * grid))
    encoder = Encoder(bits=profile.circuit.input_bits, resolution=(0.1,) * network.n_channels)
    return Network(tuple(layers), network.steps, Neuron(reset="zero", compare=">="), encoder, name=network.name)


def _observations(seed: int, n: int = 8, network: Network | None = None) -> Stimulus:
    values = np.random.default_rng(seed).normal(0.0, 1.0, (n, 3))
    return Stimulus(values) if network is None else network.encoder.encode(values, network.steps)


def _window(session: Session, stimulus: Stimulus, steps: int, recording: Recording = Recording()) -> Readout:  # noqa: B008
    session.reset()
    session.inject(stimulus, recording)
    session.run(steps)
    return session.read()


class _Opened:
    """A deployed network for the length of a with block."""

    def __init__(self, backend: Backend, profile: Profile, network: Network, seed: int = 1) -> None:
        self._backend, self._seed = backend, seed
        self._deployment = backend.plan(network, profile)

    def __enter__(self) -> Session:
        self._session = self._backend.open(self._deployment, self._seed)
        return self._session

    def __exit__(self, *_: object) -> None:
        self._session.close()


def _expected(network: Network, stimulus: Stimulus, recording: Recording = Recording()) -> Readout:  # noqa: B008
    return _window(ReferenceSession(network), stimulus, network.steps, recording)


def _same_as_reference(backend: Backend, profile: Profile) -> None:
    network = example(0)
    with _Opened(backend, profile, network) as session:
        stimulus = _observations(0)
        for i in range(len(stimulus)):
            given = _window(session, stimulus.sample(i), network.steps)
            expected = _expected(network, stimulus.sample(i))
            _close(given.potentials, expected.potentials, f"potentials of sample {i}")


def _spikes_as_reference(backend: Backend, profile: Profile) -> None:
    for decoder in (Decoder("potential"), Decoder("spike_count")):
        network = example(1, decoder=decoder)
        recording = Recording(spikes=True)
        with _Opened(backend, profile, network) as session:
            stimulus = _observations(1)
            for i in range(len(stimulus)):
                given = _window(session, stimulus.sample(i), network.steps, recording).rasters
                expected = _expected(network, stimulus.sample(i), recording).rasters
                assert given is not None, "spikes were to be recorded, but the read-out has none"
                assert expected is not None
                for layer, (theirs, ours) in enumerate(zip(given, expected, strict=True)):
                    assert np.array_equal(theirs, ours), (
                        f"spikes of layer {layer}, sample {i} differ from the reference"
                    )


def _convolution(backend: Backend, profile: Profile) -> None:
    rng = np.random.default_rng(10)
    layers = (
        Conv2d(rng.normal(0.0, 0.6, (3, 2, 3, 2)), rng.normal(0.1, 0.2, 3), input_shape=(2, 5, 4), stride=(2, 1)),
        Conv2d(np.full((3, 1, 2, 2), 0.25), input_shape=(3, 2, 3), padding=(0, 1), groups=3),  # average pooling
        Dense(rng.normal(0.0, 0.8, (12, 3)), rng.normal(0.1, 0.2, 3), 2),
    )
    network = Network(layers, 20)
    stimulus = Stimulus(rng.normal(0.0, 1.0, (4, 40)))
    recording = Recording(spikes=True)
    with _Opened(backend, profile, network) as session:
        for i in range(len(stimulus)):
            given = _window(session, stimulus.sample(i), network.steps, recording)
            expected = _expected(network, stimulus.sample(i), recording)
            assert _equal_rasters(given, expected), f"spikes of a convolutional network, sample {i}, differ"
            _close(given.potentials, expected.potentials, f"potentials of a convolutional network, sample {i},")


def _injected_spikes(backend: Backend, profile: Profile) -> None:
    network = example(2, encoder=Encoder("equidistant"))
    events = Stimulus.from_events([0, 2, 1, 0, 0], [0, 0, 3, 7, 7], n_channels=3, window=network.steps)
    with _Opened(backend, profile, network) as session:
        for stimulus in (events, Stimulus(events.currents), events):
            given = _window(session, stimulus, network.steps)
            _close(given.potentials, _expected(network, stimulus).potentials, "potentials after injected spikes")


def _windows_are_independent(backend: Backend, profile: Profile) -> None:
    network = _example_for(profile, 3)
    loud, quiet = network.encoder.encode(np.full((1, 3), 40.0), network.steps), _observations(3, 1, network)
    with _Opened(backend, profile, network) as session:
        first = _window(session, quiet, network.steps, Recording(spikes=True))
        _window(session, loud, network.steps)
        after_loud = _window(session, quiet, network.steps, Recording(spikes=True))
        session.reset()
        session.inject(loud)
        session.run(3)  # left in the middle, with spikes in flight
        after_cut = _window(session, quiet, network.steps, Recording(spikes=True))
        session.reset()
        session.inject(loud)  # never run
        after_nothing = _window(session, quiet, network.steps, Recording(spikes=True))
    if not profile.stochastic:
        for name, given in (("a loud", after_loud), ("an unfinished", after_cut), ("an unrun", after_nothing)):
            _close(given.potentials, first.potentials, f"potentials after {name} window")
            assert _equal_rasters(given, first), f"spikes after {name} window differ"
    else:
        for given in (after_loud, after_cut, after_nothing):
            assert np.abs(given.potentials).max() < 1e3, "a silenced window before is still felt"


def _recording_changes_nothing(backend: Backend, profile: Profile) -> None:
    network = _example_for(profile, 4)
    results = []
    for recording in (Recording(), Recording(spikes=True)):
        with _Opened(backend, profile, network) as session:
            results.append(_window(session, _observations(4, 1, network), network.steps, recording).potentials)
    _close(results[0], results[1], "potentials with and without recording")


def _same_seed_same_result(backend: Backend, profile: Profile) -> None:
    network = _example_for(profile, 5)
    results = []
    for _ in range(2):
        with _Opened(backend, profile, network, seed=7) as session:
            samples = [_observations(5, network=network).sample(i) for i in range(4)]
            results.append([_window(session, sample, network.steps).potentials for sample in samples])
    assert np.array_equal(results[0], results[1]), "the same seed gave other potentials after opening again"


def _runs_in_parts(backend: Backend, profile: Profile) -> None:
    network = example(6)
    stimulus = _observations(6, 1)
    with _Opened(backend, profile, network) as session:
        for parts in ([20], [1] * 20, [5, 15], [19, 1]):
            session.reset()
            session.inject(stimulus)
            done = 0
            for part in parts:
                session.run(part)
                done += part
                partly = Network(network.layers, done, network.neuron)
                _close(
                    session.read().potentials, _expected(partly, stimulus).potentials, f"potentials after {done} steps"
                )


def _traces_as_reference(backend: Backend, profile: Profile) -> None:
    network = example(7)
    recording = Recording(potentials=True)
    with _Opened(backend, profile, network) as session:
        given = _window(session, _observations(7, 1), network.steps, recording).traces
    expected = _expected(network, _observations(7, 1), recording).traces
    assert given is not None, "potentials were to be recorded, but the read-out has none"
    assert expected is not None
    for layer, (theirs, ours) in enumerate(zip(given, expected, strict=True)):
        _close(theirs, ours, f"potential traces of layer {layer}")


def _order_is_enforced(backend: Backend, profile: Profile) -> None:
    network = _example_for(profile, 8)
    stimulus = _observations(8, 1, network)
    with _Opened(backend, profile, network) as session:
        _refused(lambda: session.run(1), "run before inject")
        _refused(session.read, "read before inject")
        session.reset()
        _refused(lambda: session.run(1), "run after reset, before inject")
        session.inject(stimulus)
        _refused(lambda: session.inject(stimulus), "inject twice")
        session.run(network.steps)
        session.read()
    for verb in (session.reset, session.read, lambda: session.run(1), lambda: session.inject(stimulus)):
        _refused(verb, "a session that is closed")
    session.close()  # twice does nothing


def _opens_again(backend: Backend, profile: Profile) -> None:
    network = _example_for(profile, 9)
    results = []
    for _ in range(3):
        with _Opened(backend, profile, network) as session:
            results.append(_window(session, _observations(9, 1, network), network.steps).potentials)
    assert np.array_equal(results[0], results[1]), "a second session gave other potentials"
    assert np.array_equal(results[0], results[2]), "a third session gave other potentials"


CHECKS: dict[str, Callable[[Backend, Profile], None]] = {
    "potentials as reference": _same_as_reference,
    "spikes as reference": _spikes_as_reference,
    "convolution": _convolution,
    "injected spikes": _injected_spikes,
    "windows are independent": _windows_are_independent,
    "recording changes nothing": _recording_changes_nothing,
    "same seed, same result": _same_seed_same_result,
    "runs in parts": _runs_in_parts,
    "potential traces": _traces_as_reference,
    "order is enforced": _order_is_enforced,
    "opens again": _opens_again,
}
EXACT_ONLY = {
    "potentials as reference",
    "spikes as reference",
    "convolution",
    "injected spikes",
    "runs in parts",
    "potential traces",
}


def _close(given: object, expected: object, what: str) -> None:
    worst = float(np.abs(np.asarray(given) - np.asarray(expected)).max())
    assert worst <= TOLERANCE, f"{what} differ by {worst:.3g}, allowed are {TOLERANCE:g}"


def _equal_rasters(a: Readout, b: Readout) -> bool:
    if a.rasters is None or b.rasters is None:
        return a.rasters is b.rasters
    return all(np.array_equal(x, y) for x, y in zip(a.rasters, b.rasters, strict=True))


def _refused(verb: Callable[[], object], what: str) -> None:
    try:
        verb()
    except SessionStateError:
        return
    raise AssertionError(f"{what} must raise SessionStateError")

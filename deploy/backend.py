"""What a target must offer: a backend opens sessions, a session runs windows.

A backend registers by name under the entry point group ``spikeloop.backends`` and is loaded when a profile names it.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Protocol, runtime_checkable

from ..errors import MissingPackageError, UnknownNameError
from ..hardware_profiles.profile import Profile
from ..models.network import Network
from ..models.stimulus import CountArray, FloatArray, Stimulus
from .deployment import Deployment
from .findings import Finding

ENTRY_POINTS = "spikeloop.backends"
# Known also where the package's entry points are not, as in a tree that was never installed.
OURS = {
    "reference": "spikeloop.deploy.reference:ReferenceBackend",
    "nest": "spikeloop.deploy.nest:NestBackend",
    "pynn-nest": "spikeloop.deploy.spinnaker.pynn_nest:PyNNNestBackend",
    "spinnaker": "spikeloop.deploy.spinnaker.backend:SpinnakerBackend",
    "spinnaker-virtual": "spikeloop.deploy.spinnaker.backend:SpinnakerBackend",
    "spinnaker-twin": "spikeloop.deploy.spinnaker.backend:SpinnakerTwinBackend",
}


@dataclass(frozen=True, slots=True)
class Recording:
    """What a window is to keep besides the last layer's potential.

    Spikes of an output layer that fires are always kept: the decoder needs them.
    """

    spikes: bool = False
    potentials: bool = False


@dataclass(frozen=True, slots=True)
class Exchange:
    """What it took to get an answer from a machine at the other end of a network.

    Attributes
    ----------
    resent : int
        Observations that were sent again, because no answer came: one of both was lost.
    stale : int
        Answers that were thrown away: to older questions, or a second one.
    late : int
        Answers that came, but later than they should have.
    """

    resent: int = 0
    stale: int = 0
    late: int = 0

    def __add__(self, other: Exchange) -> Exchange:
        return Exchange(self.resent + other.resent, self.stale + other.stale, self.late + other.late)


@dataclass(frozen=True, slots=True, eq=False)
class Readout:
    """What a session holds after the steps run so far.

    Attributes
    ----------
    potentials : float64 [n, n_out]
        The last layer's.
    output_raster : uint8 [n, steps, n_out], or None where the output layer does not fire
    rasters : tuple of uint8 [n, steps, neurons], one per spiking layer; None unless recorded
        ``raster[i, t, j]``: how often neuron j fired in step t. More than once only on a target whose time step is
        shorter than the Network's.
    traces : tuple of float64 [n, steps, neurons], one per layer; None unless recorded
        The potential after the update of each step.
    exchange : Exchange, or None
        Where the target is reached through a network that can lose packets.
    """

    potentials: FloatArray
    output_raster: CountArray | None = None
    rasters: tuple[CountArray, ...] | None = None
    traces: tuple[FloatArray, ...] | None = None
    exchange: Exchange | None = None


class Session(Protocol):
    """An open deployment. One window is: `reset`, `inject`, `run` (once, or in parts), `read`.

    Every window starts from the Network's initial state, whatever came before; a session may be left in the middle of
    a window. Used out of order or after `close`, it raises `SessionStateError`.
    """

    @property
    def max_batch(self) -> int | None:
        """Samples that one window can hold; None: any number."""

    def reset(self) -> None:
        """End the window before."""

    def inject(self, stimulus: Stimulus, recording: Recording = ...) -> None:
        """Set the window's input and what to record of it."""

    def run(self, steps: int) -> None:
        """Advance by `steps` steps of the Network."""

    def read(self) -> Readout:
        """What is there after the steps run so far."""

    def close(self) -> None:
        """Give the target back. Closing twice does nothing."""


@runtime_checkable
class Backend(Protocol):
    """A kind of target."""

    # What this target cannot do: (the name of a conformance check, the reason).
    cannot: tuple[tuple[str, str], ...]

    def preflight(self, network: Network, profile: Profile) -> list[Finding]:
        """What speaks against (errors), or should be known of, running `network` under `profile`. Needs no target."""

    def plan(self, network: Network, profile: Profile) -> Deployment:
        """Say what the target will get. Called only where the preflight found no error. Needs no target."""

    def open(self, deployment: Deployment, seed: int) -> Session:
        """Take the target and build the deployment on it; `seed` is for targets that draw random numbers."""


@runtime_checkable
class Twinned(Protocol):
    """A backend that knows software twins of its deployments, besides those that are exact."""

    def twin(self, deployment: Deployment) -> Session | None:
        """Open a session in this process, for any number of samples, that decides as the target does.

        None: no deterministic twin of this deployment is known. A backend without this method has none at all.
        """


def backends() -> dict[str, str]:
    """The registered backends: name -> where it is."""
    return {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}


def backend(name: str) -> Backend:
    """Load the backend `name`.

    Raises
    ------
    UnknownNameError
        If none is registered under that name.
    MissingPackageError
        If the package that brings it cannot be imported.
    """
    known = OURS | backends()
    if name not in known:
        raise UnknownNameError.among("backend", name, known)
    module, _, attribute = known[name].partition(":")
    try:
        found = getattr(import_module(module), attribute)()
    except ImportError as error:
        raise MissingPackageError(f"Backend '{name}' ({known[name]}) cannot be imported: {error}.") from None
    assert isinstance(found, Backend), f"{known[name]} is no Backend"
    return found

"""Every error that Spikeloop raises on purpose.

::

    SpikeloopError
    ├── InvalidInputError          a value that the caller gave: shape, NaN, range        (also a ValueError)
    ├── UnknownNameError           no agent, profile, backend or setting of that name     (also a KeyError)
    ├── NetworkFileError           a file that is truncated, not ours, newer, or unsafe
    ├── ProfileError               a profile, or a setting of one, that cannot be
    ├── MissingPackageError        an optional dependency is not installed                (also an ImportError)
    ├── PreflightError             the network cannot run there; carries the findings
    ├── TargetError                the simulator or the board failed
    │   └── SessionStateError      a session used out of order, or after close
    ├── EnvironmentMismatchError   the environment does not fit the network
    ├── TraceError                 a trace file that cannot be written or read
    └── BridgeError                the wire between an environment and a network
        ├── WireError              bytes that are no message of ours
        ├── LocalProtocolError     this side did what the protocol does not allow
        ├── RemoteProtocolError    the other side did
        ├── RefusedError           the host answered: no, and why
        ├── HostLostError          the host does not answer
        └── AddressError           an address that cannot be bound or connected

A message is one sentence or two: what was given, what was needed, what to do. ``exit_code`` is what the command
line ends with: 2 when the caller can mend it by calling differently, 1 when something failed while it ran.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .deploy.findings import Finding


class SpikeloopError(Exception):
    """The root: catch this to catch everything that Spikeloop raises on purpose."""

    exit_code = 1

    def __str__(self) -> str:
        # KeyError, one of the mixed-in bases, would print the repr.
        return str(self.args[0]) if self.args else type(self).__name__


class InvalidInputError(SpikeloopError, ValueError):
    """A value given by the caller is not usable."""

    exit_code = 2


class UnknownNameError(SpikeloopError, KeyError):
    """A name that is not registered; the message lists the closest ones."""

    exit_code = 2

    @classmethod
    def among(cls, kind: str, name: str, known: Iterable[str], advice: str = "") -> UnknownNameError:
        """Build the error for `name`, which is none of the `known` names of that `kind`."""
        names = sorted(known)
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(close)}?" if close else f"Known: {', '.join(names) or 'none'}."
        return cls(" ".join(part for part in (f"There is no {kind} '{name}'.", hint, advice) if part))


class NetworkFileError(SpikeloopError):
    """A network or model file cannot be read."""

    exit_code = 2


class ProfileError(SpikeloopError):
    """A hardware profile, or a setting of one, is not valid."""

    exit_code = 2


class MissingPackageError(SpikeloopError, ImportError):
    """An optional dependency is missing."""

    exit_code = 2

    @classmethod
    def needs(cls, purpose: str, package: str, extra: str) -> MissingPackageError:
        """Build the error for an optional `package` that the `extra` of Spikeloop brings."""
        return cls(f'{purpose} needs {package}, which is not installed: pip install "spikeloop[{extra}]"')


class PreflightError(SpikeloopError):
    """The network cannot be deployed with this profile; `findings` says why."""

    exit_code = 2

    def __init__(self, message: str, findings: Sequence[Finding] = ()) -> None:
        super().__init__(message)
        self.findings = tuple(findings)


class TargetError(SpikeloopError):
    """The target (a simulator or a board) failed."""


class SessionStateError(TargetError):
    """A session was used out of order or after it was closed."""


class EnvironmentMismatchError(SpikeloopError):
    """The environment and the network do not fit together."""

    exit_code = 2


class TraceError(SpikeloopError):
    """A trace cannot be written or read."""


class BridgeError(SpikeloopError):
    """Something went wrong between the environment's process and the network's."""


class WireError(BridgeError):
    """Bytes that do not decode to a message."""


class LocalProtocolError(BridgeError):
    """This side tried to do what the protocol does not allow."""


class RemoteProtocolError(BridgeError):
    """The other side did what the protocol does not allow."""


class RefusedError(BridgeError):
    """The host refused the request; `code` is the wire's error code, by name."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code
        if code == "WRONG_NETWORK":  # the caller named another
            self.exit_code = 2


class HostLostError(BridgeError):
    """The host did not answer in time."""


class AddressError(BridgeError):
    """An address that cannot be bound or connected."""

    exit_code = 2

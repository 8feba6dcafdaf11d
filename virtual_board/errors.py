"""What can go wrong with a virtual board; every message says what was given, what was needed, what to do."""

from __future__ import annotations


class BoardError(Exception):
    """The root of the errors of the virtual board."""


class BoardSettingError(BoardError, ValueError):
    """A setting that no board can have: a version, a coordinate, a rate."""


class AddressInUseError(BoardError):
    """Another process listens where the board wants to."""


class BoardStartError(BoardError):
    """The board's process did not come up."""


class BinaryError(BoardError):
    """An application binary (APLX) that cannot be loaded."""

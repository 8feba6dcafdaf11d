"""What happens on the board, as a stream of events: for the live display, for the log, for tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

KINDS = ("boot", "listening", "client", "load", "state", "error", "signal", "tag", "refused")


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    Attributes
    ----------
    kind : one of `KINDS`
    message : a sentence for people
    details : the same for programs
    wall_s, board_ms : when, on the wall clock (since the epoch) and in the board's virtual time
    """

    kind: str
    message: str
    details: dict[str, Any] = field(default_factory=dict)
    wall_s: float = field(default_factory=time.time)
    board_ms: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """The event as one flat record."""
        return {
            "kind": self.kind,
            "wall_s": round(self.wall_s, 6),
            "board_ms": self.board_ms,
            "message": self.message,
            **self.details,
        }


Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """A listener that does not listen."""

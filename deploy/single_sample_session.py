"""What sessions have in common that run one sample at a time: the order in which a window is used."""

from __future__ import annotations

from typing import Literal

from ..errors import SessionStateError
from ..models.stimulus import Stimulus


class SingleSampleSession:
    """The phases of such a session's window; see `spikeloop.deploy.backend.Session`.

    `inject`, `run` and `read` begin with the check of their name; `inject` moves `_phase` on to "open", `run` to
    "running", `close` to "closed".
    """

    max_batch: int | None = 1

    _target = "The target"
    _phase: Literal["idle", "reset", "open", "running", "closed"] = "idle"

    def reset(self) -> None:
        """End the window before. The target is silenced, or reset, when the next one opens."""
        if self._phase == "closed":
            raise SessionStateError("The session is closed; launch the agent again.")
        self._phase = "reset"

    def _check_inject(self, stimulus: Stimulus) -> None:
        self._check("reset", "inject", "reset first")
        if len(stimulus) != 1:
            raise SessionStateError(
                f"{self._target} runs one sample at a time; {len(stimulus)} were injected together."
            )

    def _check_run(self, steps: int) -> None:
        if self._phase != "running":  # a window can run in parts
            self._check("open", "run", "reset and inject first")
        if steps < 1:
            raise SessionStateError(f"run was called with {steps} steps; at least 1 is needed.")

    def _check_read(self) -> None:
        self._check("running", "read", "reset, inject and run first")

    def _check(self, phase: str, verb: str, instead: str) -> None:
        if self._phase == phase:
            return
        if self._phase == "closed":
            raise SessionStateError("The session is closed; launch the agent again.")
        raise SessionStateError(f"{verb} was called out of order: {instead}.")

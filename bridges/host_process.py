"""A host in a process of its own, started and stopped with a block of code."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import HostLostError, InvalidInputError, RefusedError
from ..hardware_profiles.profile import Value
from ..models.file import save
from ..models.network import Network


class HostProcess:
    """``spikeloop serve`` on a free loopback port, for as long as a with block lasts.

    The process ends with its parent, also if the parent is killed: it watches the pipe to it.

    Parameters
    ----------
    network : Network
    profile : str
        A profile's name, or the path of one.
    settings : mapping, optional
        Settings of the profile to override.
    seed : int
    pace_scale : float, optional
        Wall time per network time; lock-step unless given.

    Raises
    ------
    RefusedError
        If the host cannot start; the message is the host's own.
    """

    def __init__(
        self,
        network: Network,
        profile: str,
        *,
        settings: Mapping[str, Value | str] | None = None,
        seed: int = 0,
        pace_scale: float | None = None,
    ) -> None:
        self.address = ""
        self._folder = tempfile.TemporaryDirectory(prefix="spikeloop-")
        agent = Path(self._folder.name) / "agent.spk"
        self._log = Path(self._folder.name) / "host.log"
        save(network, agent)
        self._command = [sys.executable, "-m", "spikeloop", "serve", str(agent), "--on", str(profile), "--json"]
        self._command += ["--bind", "tcp://127.0.0.1:*", "--seed", str(seed), "--until-stdin-closes"]
        for key, value in (settings or {}).items():
            self._command += ["--set", f"{key}={str(value).lower() if isinstance(value, bool) else value}"]
        if pace_scale is not None:
            self._command += ["--pace", str(pace_scale)]

    def __enter__(self) -> HostProcess:
        with self._log.open("wb") as log:  # a pipe that nobody reads would stop a host that has much to say
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                # Ctrl-C is for us: the host must outlive the last exchange, and is then told to end.
                start_new_session=True,
            )
        try:
            self.address = self._ready()["address"]
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def why_dead(self) -> str | None:
        """How the process ended, or None while it lives."""
        code = self._process.poll()
        if code is None:
            return None
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"the host process {how}; its last words: {self._last_words()}"

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "none"

    def _ready(self) -> dict[str, Any]:
        assert self._process.stdout is not None, "opened as a pipe"
        first = self._process.stdout.readline()
        try:
            answer: dict[str, Any] = json.loads(first)
            return answer
        except ValueError:
            pass
        # Not the one line of a host that listens: it is ending, and says why.
        rest = self._process.stdout.read()
        try:
            message = json.loads(first + rest)["error"]["message"]
        except (ValueError, KeyError, TypeError):
            raise HostLostError(f"The host process ended before it listened: {self._last_words()}.") from None
        refusal = RefusedError(f"The host process cannot start: {message}")
        # The host knows whether it was called wrongly.
        refusal.exit_code = InvalidInputError.exit_code if self._process.wait() == InvalidInputError.exit_code else 1
        raise refusal

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for patience_s in (20, 20):  # what a target holds takes a while to give back
                try:
                    self._process.communicate(timeout=patience_s)  # closes its stdin, which ends it
                    return
                except subprocess.TimeoutExpired:
                    self._process.terminate()
            self._process.kill()
            self._process.communicate()
        finally:
            self._folder.cleanup()

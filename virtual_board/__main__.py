"""The process behind `VirtualBoard`: ``python -m spikeloop.virtual_board '{"version": 3}'``."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import threading
from typing import Any

from .errors import BoardError
from .faults import Faults
from .process import requests
from .server import Server, Settings

_printing = threading.Lock()  # events and answers come from two threads, and each is a line


def _print(record: dict[str, Any]) -> None:
    with contextlib.suppress(OSError), _printing:  # (whoever started this has gone: then the board stops)
        print(json.dumps(record), flush=True)


def _settings(values: dict[str, Any]) -> Settings:
    faults: dict[str, Any] = {
        name: tuple(tuple(item) for item in value) if isinstance(value, list) else value
        for name, value in values.pop("faults", {}).items()
    }
    return Settings(**values, faults=Faults(**faults))


def _answer(server: Server, request: dict[str, Any]) -> None:
    try:
        value = server.ask(lambda: server.answer(request))
    except Exception as error:  # the board lives on; whoever asked hears why
        _print({"kind": "answer", "id": request.get("id"), "error": str(error)})
        return
    _print({"kind": "answer", "id": request.get("id"), "value": value})


def _serve_requests(server: Server) -> None:
    for request in requests(iter(sys.stdin.readline, "")):
        if request.get("ask") == "stop":
            break
        _answer(server, request)
    server.stop()


def main() -> int:
    """Be a board until the standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started this
    try:
        values = json.loads(sys.argv[1] if len(sys.argv) > 1 else "{}")
        without = frozenset(values.pop("without", ()))
        server = Server(_settings(values), lambda event: None if event.kind in without else _print(event.as_json()))
    except Exception as error:  # settings of any kind come here: whoever started this hears why
        message = str(error) if isinstance(error, BoardError) else f"{type(error).__name__}: {error}"
        _print({"kind": "failed", "error": type(error).__name__, "message": message})
        return 1
    signal.signal(signal.SIGTERM, lambda *_: server.stop())
    threading.Thread(target=_serve_requests, args=(server,), name="requests", daemon=True).start()
    try:
        server.serve()
    finally:
        server.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Where the process starts: nothing is imported before an interrupt can be answered."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; Ctrl-C during its imports ends it as Ctrl-C does later."""
    try:
        from .main import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()

"""The firmware's messages in words: binaries print short codes, whose texts ship with the host tools.

A message is "17" and its arguments, between record separators; SpiNNUtilities has the texts and knows how to put them
together. Where it is not installed the codes are shown as they are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable


@functools.cache
def _replacer() -> Callable[[str], str]:
    try:
        from spinn_utilities.make_tools.replacer import Replacer

        replace = Replacer().replace
        replace("1")  # is the table of messages there?
    except Exception:  # not installed, or without its table: whatever it is, the codes are better than nothing
        return lambda line: line
    return lambda line: str(replace(line))


def expand(text: str) -> str:
    """What a core has printed, with codes replaced by messages."""
    return "\n".join(_replacer()(line) for line in text.split("\n"))  # not splitlines: separators are no line ends

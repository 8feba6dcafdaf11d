"""A SpiNNaker board in software: takes the place of a board for unmodified host tools, and runs their shipped firmware.

    from spikeloop.virtual_board import VirtualBoard

    with VirtualBoard(version=3) as board:
        print(board.address)

What ran here ran the shipped firmware on emulated cores, never on hardware. This package imports nothing else of
Spikeloop and could be one of its own.
"""

from .errors import AddressInUseError, BinaryError, BoardError, BoardSettingError, BoardStartError
from .faults import Faults
from .process import VirtualBoard

__all__ = [
    "AddressInUseError",
    "BinaryError",
    "BoardError",
    "BoardSettingError",
    "BoardStartError",
    "Faults",
    "VirtualBoard",
]

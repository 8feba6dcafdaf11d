"""The memory map and the numbers of a SpiNNaker chip, as the public headers give them.

Sources: spinnaker_tools ``include/spinnaker.h`` (addresses, interrupts, packets), ``include/sark.h`` (system RAM,
virtual-processor blocks, system variables), and the SpiNNaker data sheet v2.02. Addresses are byte addresses.
"""

from __future__ import annotations

from enum import IntEnum

N_CORES = 18  # per chip, the monitor included
N_LINKS = 6
CLOCK_MHZ = 200
CYCLES_PER_MS = CLOCK_MHZ * 1000  # virtual time is counted in cycles of the cores' clock

# Memories: (address, size). SDRAM and system RAM appear twice: with and without buffered writes.
ITCM_BASE, ITCM_SIZE = 0x00000000, 0x8000
DTCM_BASE, DTCM_SIZE = 0x00400000, 0x10000
SDRAM_BASE, SDRAM_UNBUFFERED, SDRAM_SIZE = 0x60000000, 0x70000000, 128 << 20
SYSRAM_BASE, SYSRAM_UNBUFFERED, SYSRAM_SIZE = 0xE5000000, 0xF5000000, 0x8000

# System RAM, from its base
SYSRAM_HEAP = 0x0100
VCPU, VCPU_SIZE = 0x7000, 128
SYSTEM_VARIABLES = 0x7F00
VCPU_STATE, VCPU_APP_ID = 46, 47
VCPU_AP_MESSAGE, VCPU_MP_MESSAGE, VCPU_AP_COMMAND, VCPU_MP_COMMAND = 48, 52, 56, 57
VCPU_IOBUF, VCPU_USER = 88, 112  # the last: four words that are the application's
SV_CLOCK_MS, SV_SHARED_FREE, SV_SHARED_COUNT, SV_MAILBOX_FLAGS = 0x10, 0x68, 0x6C, 0xEC

# SDRAM: at its bottom a buffer per core, at its top the system area: the image of the last binary, then a heap
SYSTEM_BUFFER_WORDS = 32768
SYSTEM_AREA = 8 << 20
APPLICATION_IMAGE = SDRAM_BASE + SDRAM_SIZE - SYSTEM_AREA  # 0x67800000, a constant of the host tools
IMAGE_SIZE = 256 << 10
IOBUF_SIZE = 16384

# Peripherals: (buffered, unbuffered). Each is mapped at both.
COMMS = (0x20000000, 0x10000000)
TIMERS = (0x21000000, 0x11000000)
VIC = (0x2F000000, 0x1F000000, 0xFFFFF000)  # the last: what the IRQ vector of the firmware reads, relative to itself
DMA = (0x40000000, 0x30000000)
MEMORY_CONTROLLER = (0xE0000000, 0xF0000000)
ROUTER, ROUTER_SIZE = (0xE1000000, 0xF1000000), 0x20000
SYSTEM_CONTROLLER = (0xE2000000, 0xF2000000)
WATCHDOG = (0xE3000000, 0xF3000000)
ETHERNET, ETHERNET_SIZE = (0xE4000000, 0xF4000000), 0x10000
PAGE = 0x1000

# The router
N_ROUTES = 1024
UNUSED_ROUTE, UNUSED_KEY, UNUSED_MASK = 0xFF000000, 0xFFFFFFFF, 0
P2P_WORDS = 8192
P2P_NONE, P2P_SELF = 6, 7

SDP_MESSAGE_SIZE = 292  # bytes of a message in memory: link, length, checksum, header, command, data, pad
SDP_DATA_OFFSET = 8  # where the header starts
SDP_HEADER = 8
SDP_MAX_DATA = 256
N_SHARED_MESSAGES = 7


class Interrupt(IntEnum):
    """Interrupt sources of the vectored interrupt controller (``spinnaker.h``)."""

    SOFTWARE = 1
    TIMER1 = 4
    TIMER2 = 5
    CC_READY = 6
    CC_TX_EMPTY = 11
    DMA_DONE = 12
    DMA_ERROR = 13
    ROUTER_DUMP = 16
    CPU = 18
    CC_TX_NOT_FULL = 23
    CC_MULTICAST = 24
    CC_FIXED_ROUTE = 27


class CoreState(IntEnum):
    """What a core says of itself in its virtual-processor block (``sark.h``, ``cpu_state_e``)."""

    DEAD = 0
    POWERED_DOWN = 1
    RUN_TIME_EXCEPTION = 2
    WATCHDOG = 3
    INITIALISING = 4
    READY = 5
    C_MAIN = 6
    RUNNING = 7
    SYNC0 = 8
    SYNC1 = 9
    PAUSED = 10
    FINISHED = 11
    IDLE = 15


RUN_TIME_ERRORS = {
    1: "branch through zero",
    2: "undefined instruction",
    3: "undefined supervisor call",
    4: "prefetch abort",
    5: "data abort",
    6: "unhandled interrupt",
    7: "unhandled fast interrupt",
    8: "unconfigured interrupt vector",
    9: "abort by the application",
    10: "out of memory (malloc)",
    11: "division by zero",
    12: "event start-up failure",
    13: "software error",
    14: "no IO buffer",
    15: "bad event enable",
    16: "null pointer",
    17: "packet start-up failure",
    18: "timer start-up failure",
    19: "API start-up failure",
    20: "software version conflict",
}


class Mailbox(IntEnum):
    """Commands in the mailboxes between the monitor and a core (``sark.h``, ``shm_cmd_e``)."""

    IDLE = 0
    MESSAGE = 1
    NOP = 2
    SIGNAL = 3

"""Small ARM programs, assembled by hand, in the form that the board loads: for tests of what firmware can do to it.

A program of `Program` keeps a log: each `log` appends a word to a list in SDRAM that `log_of` reads afterwards.
Register r4 holds the end of the log; the other low registers are free. Encodings: ARM Architecture Reference Manual,
DDI 0100, chapter A4.
"""

import struct

from spikeloop.virtual_board.aplx import EXECUTE, RELATIVE_COPY
from spikeloop.virtual_board.layout import APPLICATION_IMAGE, CYCLES_PER_MS, SDRAM_BASE
from spikeloop.virtual_board.scheduler import Outcome

ALWAYS, EQUAL, NOT_EQUAL = 0xE, 0x0, 0x1
VECTORS = {"reset": 0x00, "undefined": 0x04, "svc": 0x08, "prefetch": 0x0C, "abort": 0x10, "irq": 0x18, "fiq": 0x1C}
MAIN = 0x20
VIC_HANDLER = 0xE51FFFF0  # ldr pc, [pc, #-0xff0]: at 0x18 that is the address the interrupt controller gives
WFI = 0xEE070F90  # mcr p15, 0, r0, c7, c0, 4
FROM_INTERRUPT = 0xE25EF004  # subs pc, lr, #4
SYSTEM_MODE, MASKED = 0x1F, 0xC0
UNDEFINED = 0xE7F000F0
LOG = 4  # the register with the end of the log
LOGS, LOG_BYTES, UNWRITTEN = SDRAM_BASE + 0x2000000, 0x1000, 0xA5C3A5C3


class Program:
    """Instructions from `MAIN` on; the vectors branch to the labels of the same names, where there are any."""

    def __init__(self, log_number=0):
        self.words = []
        self.labels = {}
        self.jumps = []
        self.log_at = LOGS + log_number * LOG_BYTES
        self.load(LOG, self.log_at)

    @property
    def here(self):
        return MAIN + 4 * len(self.words)

    def put(self, *words):
        self.words += words
        return self

    def label(self, name):
        self.labels[name] = self.here
        return self

    def load(self, register, value):
        """A constant, byte by byte."""
        self.put(0xE3A00000 | register << 12 | value & 0xFF)
        for shift in (8, 16, 24):
            if value >> shift & 0xFF:
                rotate = (32 - shift) // 2
                self.put(0xE3800000 | register << 16 | register << 12 | rotate << 8 | value >> shift & 0xFF)
        return self

    def load_label(self, register, name):
        """The address of a label, as a constant of two bytes."""
        self.jumps.append((len(self.words), name, register))
        return self.put(0, 0)

    def store(self, register, base, offset=0):
        return self.put(0xE5800000 | base << 16 | register << 12 | offset)

    def fetch(self, register, base, offset=0):
        return self.put(0xE5900000 | base << 16 | register << 12 | offset)

    def poke(self, address, value):
        """Write a word (r0 and r1 are lost)."""
        return self.load(1, address).load(0, value).store(0, 1)

    def peek(self, address):
        """Read a word and log it (r0 and r1 are lost)."""
        return self.load(1, address).fetch(0, 1).log_register(0)

    def log(self, value):
        return self.load(0, value).log_register(0)

    def log_register(self, register):
        return self.put(0xE4800004 | LOG << 16 | register << 12)

    def jump(self, name, condition=ALWAYS):
        self.jumps.append((len(self.words), name, condition << 28 | 0x0A000000))
        return self.put(0)

    def sleep(self):
        """Wait for interrupts for ever."""
        return self.label("sleep").put(WFI).jump("sleep")

    def status(self, value):
        return self.put(0xE321F000 | value)  # msr cpsr_c

    def interrupt_handler(self, name, value, clear):
        """A handler that logs a word, writes to each address what ``clear`` says, and ends."""
        self.label(name).log(value)
        for address, word in clear.items():
            self.poke(address, word)
        return self.put(FROM_INTERRUPT)

    def image_words(self):
        """The instructions with all branches in place."""
        words = list(self.words)
        for place, name, what in self.jumps:
            target = self.labels[name]
            if what < 16:
                words[place] = 0xE3A00000 | what << 12 | target & 0xFF
                words[place + 1] = 0xE3800C00 | what << 16 | what << 12 | target >> 8
            else:
                words[place] = what | (target - (MAIN + 4 * place) - 8 >> 2) & 0xFFFFFF
        return words

    def image(self):
        """The program as an APLX binary."""
        words = self.image_words()
        vectors = [0xEAFFFFFE] * 8
        vectors[VECTORS["irq"] // 4] = VIC_HANDLER
        for name, place in VECTORS.items():
            if name in self.labels:
                vectors[place // 4] = 0xEA000000 | (self.labels[name] - place - 8 >> 2) & 0xFFFFFF
        code = struct.pack(f"<{8 + len(words)}I", *vectors, *words)
        table = struct.pack("<8I", RELATIVE_COPY, 0, 32, len(code), EXECUTE, MAIN, 0, 0)
        return (table + code).ljust(32 + (len(code) + 31) // 32 * 32, b"\0")


def start(machine, program, at=(0, 0), core=1, app_id=30):
    """Load the program on a core; it runs with the next `Machine.advance`."""
    chip = machine.chips[at]
    chip.memory.write(program.log_at, struct.pack("<I", UNWRITTEN) * (LOG_BYTES // 4))
    chip.memory.write(APPLICATION_IMAGE, program.image())
    machine.start(chip, core, app_id, 0)
    return chip


def log_of(chip, log_number=0):
    """The words that a program has logged."""
    words = struct.unpack(f"<{LOG_BYTES // 4}I", chip.memory.read(LOGS + log_number * LOG_BYTES, LOG_BYTES))
    return list(words[: words.index(UNWRITTEN)])


def run(machine, milliseconds=0, budget=1000):
    """Let the machine run, from now for so long (0: until everything that can happen now has), and forget messages."""
    horizon = machine.now + milliseconds * CYCLES_PER_MS
    for _ in range(budget):
        outcome = machine.advance(horizon, budget)
        list(machine.take_messages())
        machine.take_changes()
        if outcome in (Outcome.IDLE, Outcome.HORIZON):
            return outcome
    raise AssertionError(f"the machine does not come to rest within {budget} turns; {machine.statistics()}")

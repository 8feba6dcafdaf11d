"""The monitor of the whole machine: takes messages, answers commands, passes messages to cores and to the network.

Sans I/O: `receive` and `take` return datagrams to send; sockets and clocks are outside.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ..chip import SYSTEM_VARIABLE_BASE, Chip
from ..events import Event, Listener, ignore
from ..firmware_log import expand
from ..geometry import Coordinates
from ..layout import (
    APPLICATION_IMAGE,
    CYCLES_PER_MS,
    IMAGE_SIZE,
    N_CORES,
    RUN_TIME_ERRORS,
    SDRAM_BASE,
    SDRAM_SIZE,
    SV_SHARED_COUNT,
    SV_SHARED_FREE,
    SYSRAM_BASE,
    SYSRAM_HEAP,
    SYSRAM_SIZE,
    VCPU,
    VCPU_SIZE,
    VCPU_USER,
    CoreState,
    Mailbox,
)
from ..machine import Machine
from . import applications
from .commands import COMMANDS, IDLE_CORE_COMMANDS, Refused
from .messages import (
    ETHERNET_PORT,
    REPLY_EXPECTED,
    ROOT,
    Message,
    MessageError,
    Request,
    Result,
    chip_at_word,
    chip_word,
    command_of,
    result,
)
from .tags import ANY, Flag, TagTable

Address = tuple[str, int]
MAILBOX_PATIENCE_S = 1.0  # how long a message waits for a core that does not take it
POLLER = "extra_monitor"  # the firmware whose timer only polls (see peripherals/timers.py)
MOST_WAITING = 64  # messages that wait for one core


@dataclass(frozen=True)
class Datagram:
    """Something to send: from the connection of an Ethernet chip, to an address."""

    ethernet: Coordinates
    to: Address
    data: bytes


@dataclass
class _Waiting:
    message: Message
    until: float


class Monitor:
    """The monitors of all chips.

    Parameters
    ----------
    machine : Machine
    listener : is told what happens
    now : the wall clock, in seconds
    """

    def __init__(
        self, machine: Machine, listener: Listener = ignore, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.machine = machine
        self.now = now
        self._listener = listener
        self._tables = {at: TagTable() for at in machine.geometry.ethernet_chips}
        self._waiting: dict[tuple[Coordinates, int], deque[_Waiting]] = {}
        self._out: list[Datagram] = []
        self.on_session: Callable[[Address | None], None] = lambda sender: None
        self.refused = 0
        self._settling = False

    def boot(self) -> None:
        """Forget all tags and messages, and bring the machine to its first state."""
        for table in self._tables.values():
            table.tags = TagTable().tags
        self._waiting.clear()
        self.machine.boot()
        self.note("boot", f"{len(self.machine.chips)} chips are up")

    # ------------------------------------------------------------------------------------------------ telling

    def note(self, kind: str, message: str, **details: Any) -> None:
        """Tell the listener."""
        self._listener(Event(kind, message, details, board_ms=round(self.machine.now / CYCLES_PER_MS, 3)))

    def loaded(self, chip: Chip, cores: list[int], app_id: int) -> None:
        """An application has been started on cores; its name is known once it runs."""
        self.settle()
        if cores:
            name = chip.app_name(cores[0])
            for core in cores:
                self.machine.record(self.machine.index(chip, core))["may_doze"] = name.startswith(POLLER)
            self.note(
                "load",
                f"{name} on {chip.x},{chip.y}: core{'s' * (len(cores) > 1)} {_spans(cores)} (application {app_id})",
                chip=chip.at, cores=cores, name=name, app_id=app_id,
            )  # fmt: skip

    def signalled(self, name: str, app_id: int, cores: int) -> None:
        """An application has been sent a signal."""
        self.note(
            "signal",
            f"{name} to application {app_id}: {cores} core{'s' * (cores != 1)}",
            signal=name,
            app_id=app_id,
            cores=cores,
        )
        self.settle()

    def tag_set(self, chip: Chip, number: int) -> None:
        """A tag has been set."""
        tag = self._tables[chip.at].tags[number] if chip.at in self._tables else None
        if tag is not None:
            x, y = chip_at_word(tag.chip)
            what = f"port {tag.listen_port} leads to {x},{y} core {tag.core_port & 31}"
            text = what if tag.flags & Flag.REVERSE else f"leads to {tag.ip}:{tag.port}"
            self.note("tag", f"tag {number} {text}", tag=number, ip=tag.ip, port=tag.port or tag.listen_port)

    def session_begins(self, sender: Address | None) -> None:
        """A host has set the timeout of tags: the first thing that spinnman does."""
        self.on_session(sender)

    # ------------------------------------------------------------------------------------------------ what commands use

    def tags(self, chip: Chip) -> TagTable:
        """The chip's tags."""
        table = self._tables.get(chip.at)
        if table is None:
            raise Refused(Result.ARGUMENT, f"chip {chip.x},{chip.y} has no network connection, so no tags")
        return table

    def protect(self, chip: Chip, address: int, size: int) -> None:
        """Refuse writes to what keeps the monitor alive: its variables, its heaps, its tables."""
        offset = address & 0x0FFFFFFF
        if (address & ~0x10000000) >= SYSRAM_BASE:
            base = address & (SYSRAM_SIZE - 1)
            inside = address & 0xFFFF8000 in (SYSRAM_BASE, SYSRAM_BASE | 0x10000000)
            block, at = divmod(base - VCPU, VCPU_SIZE)
            user_words = 0 <= block < N_CORES and at >= VCPU_USER and at + size <= VCPU_SIZE
            if inside and base + size > SYSRAM_HEAP and not user_words:
                raise Refused(Result.ARGUMENT, f"{size} bytes at 0x{address:08x} are the monitor's own")
        elif offset + size > APPLICATION_IMAGE - SDRAM_BASE + IMAGE_SIZE and offset < SDRAM_SIZE:
            raise Refused(Result.ARGUMENT, f"{size} bytes at 0x{address:08x} are in the monitor's heap")

    def settle(self) -> None:
        """Let the cores work off what they have been told, while no time passes, and pass on what they say."""
        if self._settling:  # a core has sent a command: it is worked off by the loop that has passed it on
            return
        self._settling = True
        try:
            for _ in range(8):
                self.machine.advance(horizon=self.machine.now, budget=20_000)
                if not self.collect():
                    return
        finally:
            self._settling = False

    # ------------------------------------------------------------------------------------------------ messages

    def receive(self, datagram: bytes, sender: Address, ethernet: Coordinates) -> list[Datagram]:
        """A datagram on the SCP port of the board at ``ethernet``; returns what is to be sent."""
        try:
            message = Message.from_udp(datagram)
        except MessageError as error:
            self._refuse(f"datagram from {sender[0]}:{sender[1]}: {error}")
            return self.take()
        message = replace(message, from_chip=chip_word(ethernet))
        if message.to_chip == ROOT:
            message = replace(message, to_chip=chip_word(ethernet))
        if message.tag == ANY and message.flags & REPLY_EXPECTED:
            message = replace(message, tag=self._tables[ethernet].transient(sender, self.now()))
        self._route(message, sender)
        return self.take()

    def receive_on_port(self, port: int, data: bytes, sender: Address, ethernet: Coordinates) -> list[Datagram]:
        """A datagram on the port of a reverse tag."""
        table = self._tables[ethernet]
        number = table.listening().get(port)
        if number is not None and len(data) <= 272:
            tag = table.tags[number]
            tag.ip, tag.port, tag.used_at = sender[0], sender[1], self.now()
            tag.count += 1
            message = Message(0x07, number, tag.core_port, ETHERNET_PORT, tag.chip, chip_word(ethernet), data)
            self._route(message, sender)
        return self.take()

    def take(self) -> list[Datagram]:
        """What has been collected to be sent."""
        out, self._out = self._out, []
        return out

    def collect(self) -> bool:
        """Pass on what cores have sent and note how their states have changed; false if there was nothing."""
        messages = list(self.machine.take_messages())
        for chip, core, data in messages:
            try:
                self._route(Message.from_memory(data), None)
            except MessageError as error:
                self._refuse(f"{chip.x},{chip.y},{core}: {error}")
        changes = self.machine.take_changes()
        for chip, core in changes:
            self._state_changed(chip, core)
        return bool(messages or changes or self.deliver_waiting())

    def _route(self, message: Message, sender: Address | None) -> None:
        chip = self.machine.chips.get(chip_at_word(message.to_chip))
        if chip is None:
            self._fail(message, Result.ROUTE, f"there is no chip {chip_at_word(message.to_chip)}")
        elif message.to_port == ETHERNET_PORT:
            self._to_network(chip, message)
        elif message.core >= chip.n_cores:
            self._fail(message, Result.CPU, f"chip {chip.x},{chip.y} has {chip.n_cores} cores, not {message.core}")
        elif message.core and self.machine.runs(chip, message.core):
            self._to_core(chip, message)
        elif message.port == 0:
            self._execute(chip, message, sender)
        elif message.core == 0:
            self._fail(message, Result.PORT, f"the monitor has no port {message.port}")

    def _execute(self, chip: Chip, message: Message, sender: Address | None) -> None:
        request = Request.from_message(message, sender)
        number, sequence = command_of(message.body)
        if request is None:
            self._fail(message, Result.LENGTH, f"a command of {len(message.body)} bytes")
            return
        command = COMMANDS.get(number)
        if command is None or (message.core and number not in IDLE_CORE_COMMANDS):
            self._fail(message, Result.COMMAND, f"command {number} is not known")
            return
        try:
            body = result(Result.OK, sequence, command(self, chip, request))
        except Refused as refused:
            self._fail(message, refused.code, str(refused))
            return
        self._answer(message, body)

    def _answer(self, message: Message, body: bytes) -> None:
        if message.flags & REPLY_EXPECTED:
            self._route(message.answer(body), None)

    def _fail(self, message: Message, code: int, why: str) -> None:
        self._refuse(f"{why} (answer 0x{code:02x})")
        _, sequence = command_of(message.body)
        if message.to_port != ETHERNET_PORT:
            self._answer(message, result(code, sequence))

    def _refuse(self, why: str) -> None:
        self.refused += 1
        self.note("refused", why)

    def _to_network(self, chip: Chip, message: Message) -> None:
        table = self._tables.get(chip.at)
        tag = table.target(message.tag, self.now()) if table else None
        if tag is not None:
            data = message.body if tag.flags & Flag.STRIP else message.to_udp()
            self._out.append(Datagram(chip.at, (tag.ip, tag.port), data))

    # ------------------------------------------------------------------------------------------------ messages to cores

    def _to_core(self, chip: Chip, message: Message) -> None:
        queue = self._waiting.setdefault((chip.at, message.core), deque())
        if len(queue) >= MOST_WAITING:
            self._fail(message, Result.BUFFER, f"{MOST_WAITING} messages wait for {chip.x},{chip.y},{message.core}")
            return
        queue.append(_Waiting(message, self.now() + MAILBOX_PATIENCE_S))
        self.deliver_waiting()

    def deliver_waiting(self) -> int:
        """Hand messages to the cores whose mailbox is free; returns how many."""
        delivered = 0
        for (at, core), queue in list(self._waiting.items()):
            chip = self.machine.chips[at]
            if not self.machine.runs(chip, core):
                queue.clear()
            elif queue and applications.mailbox_is_free(chip, core) and self._hand_over(chip, core, queue[0].message):
                queue.popleft()
                delivered += 1
            if not queue:
                self._waiting.pop((at, core), None)
        return delivered

    def _hand_over(self, chip: Chip, core: int, message: Message) -> bool:
        memory = chip.memory
        buffer = memory.word(SYSTEM_VARIABLE_BASE + SV_SHARED_FREE)
        if not buffer:
            return False
        memory.set_word(SYSTEM_VARIABLE_BASE + SV_SHARED_FREE, memory.word(buffer))
        in_use = SYSTEM_VARIABLE_BASE + SV_SHARED_COUNT
        memory.set_half(in_use, memory.half(in_use) + 1)
        memory.write(buffer, message.to_memory())
        applications.post(self.machine, chip, core, Mailbox.MESSAGE, buffer)
        return True

    @property
    def waits(self) -> bool:
        """Whether messages wait for cores."""
        return bool(self._waiting)

    def expire(self) -> None:
        """Give up messages that no core has taken, and tags that nobody has used."""
        now = self.now()
        for table in self._tables.values():
            table.expire(now)
        for (at, core), queue in list(self._waiting.items()):
            while queue and queue[0].until < now:
                message = queue.popleft().message
                self._fail(message, Result.TIMEOUT, f"{at[0]},{at[1]},{core} did not take a message")
            if not queue:
                self._waiting.pop((at, core), None)

    def listening_ports(self) -> set[tuple[Coordinates, int]]:
        """The UDP ports of the reverse tags."""
        return {(at, port) for at, table in self._tables.items() for port in table.listening()}

    # ------------------------------------------------------------------------------------------------ cores

    def running_cores(self) -> list[dict[str, Any]]:
        """The cores that run an application."""
        found = []
        for index in self.machine.active():
            chip, core = self.machine.core_of(index)
            state = chip.state(core)
            text = CoreState(state).name if state in list(CoreState) else str(state)
            found.append({"chip": chip.at, "core": core, "name": chip.app_name(core), "state": text})
        return found

    def _state_changed(self, chip: Chip, core: int) -> None:
        record = self.machine.record(self.machine.index(chip, core))
        state = chip.state(core)
        where = f"{chip.x},{chip.y},{core}"
        name = chip.app_name(core)
        if state == CoreState.RUN_TIME_EXCEPTION or record["faults"] > 1:
            self._error(chip, core, where, name)
            return
        text = CoreState(state).name if state in list(CoreState) else f"state {state}"
        self.note("state", f"{where} {name}: {text}", chip=chip.at, core=core, name=name, state=text)

    def _error(self, chip: Chip, core: int, where: str, name: str) -> None:
        block = chip.block(core)
        code = block[44]
        record = self.machine.record(self.machine.index(chip, core))
        counter = int.from_bytes(block[40:44], "little")  # the link register that the firmware has saved
        if record["fault_error"]:
            counter = int(record["fault_pc"])
        what = RUN_TIME_ERRORS.get(code, "stopped" if code == 0 else f"error {code}")
        text = expand(chip.iobuf(core))
        said = text.strip().split("\n")[-1] if text.strip() else "it printed nothing"
        self.note(
            "error",
            f"{where} {name}: {what} at 0x{counter:08x}; its last words: {said}",
            chip=chip.at, core=core, name=name, code=code, error=what, pc=counter, iobuf=text,
        )  # fmt: skip


def _spans(numbers: list[int]) -> str:
    """1, 2, 3, 7 as "1-3, 7"."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)

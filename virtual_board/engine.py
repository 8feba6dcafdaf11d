"""Unicorn, the ARM emulator: its C functions as compiled code calls them, and one engine for each running core.

An engine is opened when an application starts on a core and closed when it stops; memories are shared with the chip by
address, registers of peripherals are compiled callbacks. Reference: ``unicorn.h`` of Unicorn 2.1.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import unicorn
from numba.core import types as numba_types
from unicorn import arm_const, unicorn_const

from .errors import BoardError
from .layout import ITCM_SIZE, PAGE
from .state import callback, carray, jit

TRANSLATION_BUFFER = 4 << 20  # bytes of translated code an engine may hold: firmware is 32 KiB
STOP = ITCM_SIZE - 8  # where "run until" ends: the loader's own last bytes, in which no firmware can lie
READ_WRITE, READ_WRITE_EXECUTE = 3, 7
_TRANSLATION = np.dtype([("physical", np.uint64), ("permissions", np.int32)])

types: Any = numba_types  # its annotations do not know that types can be called
_LIBRARY = ctypes.CDLL(unicorn.unicorn_py3.unicorn.uclib._name)  # our own handle: the argument types are ours
llvm.load_library_permanently(_LIBRARY._name)
_ERROR_TEXT = _LIBRARY.uc_strerror
_ERROR_TEXT.restype = ctypes.c_char_p

_start = types.ExternalFunction(
    "uc_emu_start", types.int32(types.int64, types.int64, types.int64, types.int64, types.int64)
)
_stop = types.ExternalFunction("uc_emu_stop", types.int32(types.int64))
_read_register = types.ExternalFunction("uc_reg_read", types.int32(types.int64, types.int32, types.int64))
_write_register = types.ExternalFunction("uc_reg_write", types.int32(types.int64, types.int32, types.int64))

PC, LR = arm_const.UC_ARM_REG_PC, arm_const.UC_ARM_REG_LR
CPSR, SPSR = arm_const.UC_ARM_REG_CPSR, arm_const.UC_ARM_REG_SPSR
THUMB = 0x20


@jit
def run(core: Any) -> Any:
    """Let the core run from its program counter until it stops by itself; returns Unicorn's error code (0: none)."""
    begin = core.pc | 1 if core.cpsr & THUMB else core.pc
    error = _start(core.engine, begin, STOP, 0, 0)
    _read_register(core.engine, CPSR, core.scratch)
    core.cpsr = core.word[0]
    _read_register(core.engine, PC, core.scratch)
    core.pc = core.word[0]
    return error


@jit
def stop(core: Any) -> Any:
    """End the run that this core is in, from within a load of a register: the load is done again when it goes on."""
    _stop(core.engine)


@jit
def enter_exception(core: Any, vector: Any, mode: Any, return_offset: Any) -> Any:
    """What the processor does on an exception: bank the status, set the link register, go to the vector."""
    core.word[0] = mode
    _write_register(core.engine, CPSR, core.scratch)
    core.word[0] = core.cpsr
    _write_register(core.engine, SPSR, core.scratch)
    core.word[0] = core.pc + return_offset
    _write_register(core.engine, LR, core.scratch)
    core.cpsr = mode
    core.pc = vector


@callback(types.uint8(types.voidptr, types.uint64, types.int32, types.voidptr, types.voidptr))
def _translate(engine: Any, address: Any, kind: Any, entry: Any, user: Any) -> Any:
    """Addresses are what they seem, and instructions lie in the first memory only.

    To say so makes stores to all other memory fast: the emulator need not look whether they overwrite instructions.
    """
    to = carray(entry, 1, _TRANSLATION)[0]
    to.physical = address
    to.permissions = READ_WRITE_EXECUTE if address < ITCM_SIZE else READ_WRITE
    return 1


def _check(code: int, what: str) -> None:
    if code:
        message = _ERROR_TEXT(code)
        raise BoardError(f"the ARM emulator could not {what}: {message.decode() if message else code}")


@callback(types.void(types.voidptr, types.uint64, types.uint32, types.voidptr))
def _count(engine: Any, address: Any, size: Any, counter: Any) -> None:
    carray(counter, 1, np.int64)[0] += 1


class Engine:
    """One emulated ARM core: open, map, set registers, close.

    Parameters
    ----------
    counter : the address of a 64-bit word that counts instructions, for measurements (slow); 0 for none
    """

    def __init__(self, counter: int = 0) -> None:
        handle = ctypes.c_void_p()
        _check(_LIBRARY.uc_open(unicorn_const.UC_ARCH_ARM, unicorn_const.UC_MODE_ARM, ctypes.byref(handle)), "start")
        self.handle = int(handle.value or 0)
        self._control(unicorn_const.UC_CTL_CPU_MODEL, arm_const.UC_CPU_ARM_946)
        self._control(unicorn_const.UC_CTL_UC_PAGE_SIZE, PAGE)
        self._control(unicorn_const.UC_CTL_TCG_BUFFER_SIZE, TRANSLATION_BUFFER)
        self._control(unicorn_const.UC_CTL_TLB_TYPE, unicorn_const.UC_TLB_VIRTUAL)
        self._hook(unicorn_const.UC_HOOK_TLB_FILL, _translate.address, 0)
        if counter:
            self._hook(unicorn_const.UC_HOOK_CODE, _count.address, counter)

    def _hook(self, kind: int, function: int, argument: int) -> None:
        hook = ctypes.c_size_t()
        code = _LIBRARY.uc_hook_add(
            ctypes.c_void_p(self.handle),
            ctypes.byref(hook),
            ctypes.c_int(kind),
            ctypes.c_void_p(function),
            ctypes.c_void_p(argument or None),
            ctypes.c_uint64(1),
            ctypes.c_uint64(0),
        )
        _check(code, f"set hook {kind}")

    def _control(self, what: int, value: int) -> None:
        request = what | (1 << 26) | (unicorn_const.UC_CTL_IO_WRITE << 30)
        code = _LIBRARY.uc_ctl(ctypes.c_void_p(self.handle), ctypes.c_uint(request & 0xFFFFFFFF), ctypes.c_int(value))
        _check(code, f"set option {what}")

    def map_memory(self, address: int, size: int, host_address: int, *, code: bool = False) -> None:
        """Show ``size`` bytes of our memory to the core at ``address``.

        ``code``: instructions may lie there. Stores to such memory are several times slower, for the emulator looks
        each time whether it has translated what is overwritten.
        """
        error = _LIBRARY.uc_mem_map_ptr(
            ctypes.c_void_p(self.handle),
            ctypes.c_uint64(address),
            ctypes.c_size_t(size),
            ctypes.c_uint32(READ_WRITE_EXECUTE if code else READ_WRITE),
            ctypes.c_void_p(host_address),
        )
        _check(error, f"map memory at 0x{address:08x}")

    def map_registers(self, addresses: Iterable[int], size: int, read: int, write: int, core_address: int) -> None:
        """Answer loads and stores there by two compiled functions, which get the address of the core's record."""
        for address in addresses:
            code = _LIBRARY.uc_mmio_map(
                ctypes.c_void_p(self.handle),
                ctypes.c_uint64(address),
                ctypes.c_size_t(size),
                ctypes.c_void_p(read),
                ctypes.c_void_p(core_address),
                ctypes.c_void_p(write),
                ctypes.c_void_p(core_address),
            )
            _check(code, f"map registers at 0x{address:08x}")

    def set_register(self, register: int, value: int) -> None:
        """Write one register."""
        word = ctypes.c_uint32(value)
        _check(_LIBRARY.uc_reg_write(ctypes.c_void_p(self.handle), register, ctypes.byref(word)), "set a register")

    def register(self, register: int) -> int:
        """Read one register."""
        word = ctypes.c_uint32()
        _check(_LIBRARY.uc_reg_read(ctypes.c_void_p(self.handle), register, ctypes.byref(word)), "read a register")
        return word.value

    def interrupt(self) -> None:
        """End the run that the core is in; may be called from another thread."""
        _LIBRARY.uc_emu_stop(ctypes.c_void_p(self.handle))

    def close(self) -> None:
        """Give back what the engine holds."""
        if self.handle:
            _LIBRARY.uc_close(ctypes.c_void_p(self.handle))
            self.handle = 0

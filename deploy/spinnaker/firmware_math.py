"""Parameters as the firmware and sPyNNaker's host side compute them: s16.15 numbers as integers, units of 2^-15.

Quotients are truncated. The exponential is that of spinn_common's ``expk``, as the shipped binaries have it: a product
of tabulated powers down to 1/16 and a quadratic polynomial, in u32.32, truncated.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from functools import cache

ONE = 1 << 15
# Beyond these, e**x is 0 or the largest number.
_SMALLEST, _LARGEST = -340695, 363408
# 1 - e**(-y/16) for y in [0, 1), as u0.32: C0 + y*(C1 - y*C2).
_C0, _C1, _C2 = 5294, 4293434720, 2081624032


def accum_of(value: float) -> int:
    """As sPyNNaker sends a parameter: nearest to the shortest decimal form, ties to even."""
    return round(Decimal(str(value)) * ONE)


def divided(x: int, y: int) -> int:
    """Of two s16.15 numbers, as the firmware divides them: unsigned, 64 bits; the low 32 bits, signed."""
    return _signed(((x << 15) % 2**64) // (y % 2**64))


def _signed(x: int) -> int:
    return ((x + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


@cache
def _tables() -> tuple[dict[int, int], list[int]]:
    """u32.32: e**k, and 1 - e**(-k/16)."""
    with localcontext(prec=60):
        powers = {k: round(Decimal(k).exp() * 2**32) for k in range(-13, 13)}
        return powers, [round((1 - (-Decimal(k) / 16).exp()) * 2**32) for k in range(16)]


def _share(x: int, fraction: int) -> int:
    """x times a u0.32 fraction; rounded up from 0x7fffffff on, one less than a half."""
    low = (x & 0xFFFFFFFF) * fraction
    return (x >> 32) * fraction + (low >> 32) + (low & 0xFFFFFFFF >= 0x7FFFFFFF)


def exponential(x: int) -> int:
    """e**x of an s16.15 number, truncated to s16.15."""
    if x > _LARGEST:
        return 2**31 - 1
    if x < _SMALLEST:
        return 0
    powers, steps = _tables()
    below = -(-x >> 15)  # the next whole number: the rest is a negative power
    rest = (below << 15) - x
    result = powers[below]
    if rest:
        result -= _share(result, steps[rest >> 11])
        y = (rest & 0x7FF) << 17
        result -= _share(result, _C0 + ((_C1 - ((_C2 * y) >> 32)) * y >> 32))
    return result >> 17

"""Numbers: conversion of callers', numpy's included; checks of settings' ranges; sums."""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal
from numbers import Integral, Real
from typing import TypeVar, cast

from .errors import ConfigurationError

MOST_SECONDS = 1_000_000
"""Longest time that can be set, in seconds: eleven days. Sockets and timers refuse some larger
numbers, each with an error of its own."""

MOST = 2**63 - 1
"""Largest number that can be set: the largest signed 64-bit integer."""

T = TypeVar("T")


def sum_if_known(numbers: Iterable[int | None]) -> int | None:
    """Return the sum, or None if any number is None."""
    total = 0
    for number in numbers:
        if number is None:
            return None
        total += number
    return total


def check_seconds(value: object, name: str, *, allow_zero: bool = False) -> float:
    """Check a number of seconds: above 0, or from 0 if allowed, and at most `MOST_SECONDS`.

    Raises:
        ConfigurationError: The value is not such a number.
    """
    seconds = as_number(value)
    if seconds is not None and 0 <= seconds <= MOST_SECONDS and (seconds or allow_zero):
        return float(seconds)
    least = "from 0" if allow_zero else "above 0"
    raise ConfigurationError(
        f"{name} must be a number of seconds {least} and at most {MOST_SECONDS:,}, "
        f"not {shown(value)}"
    )


def check_amount(value: object, name: str) -> float:
    """Check that a number is finite and at least 0.

    Raises:
        ConfigurationError: The value is not such a number.
    """
    amount = as_number(value)
    if amount is not None and 0 <= amount <= MOST:
        return float(amount)
    raise ConfigurationError(f"{name} must be a number from 0, not {shown(value)}")


def check_count(value: object, name: str, least: int = 1, most: int = MOST) -> int:
    """Check that a number is whole and from `least` to `most`.

    Raises:
        ConfigurationError: The value is not such a number.
    """
    count = as_number(value)
    if isinstance(count, int) and least <= count <= most:
        return count
    upper = "" if most == MOST else f" to {most}"
    raise ConfigurationError(
        f"{name} must be a whole number from {least}{upper}, not {shown(value)}"
    )


def as_number(value: object) -> int | float | None:
    """Convert a number to Python's, from numpy's and fractions too; None for anything else.

    A fraction too large for a float becomes an infinity.
    """
    # A bool is an int in Python, but a mistake where a number is expected.
    if isinstance(value, bool):
        return None
    if isinstance(value, Integral):
        return int(value)
    return _as_float(value) if isinstance(value, Real | Decimal) else None


def as_whole(value: object) -> int | None:
    """Convert a value to a Python int; None if it is not a whole number."""
    number = as_number(value)
    return number if isinstance(number, int) else None


def as_real(value: object) -> float | None:
    """Convert a number to a float, an infinity if it is too large; None for anything else."""
    number = as_number(value)
    return None if number is None else _as_float(number)


def _as_float(number: float | Real | Decimal) -> float:
    try:
        return float(number)
    except OverflowError:
        return -math.inf if number < 0 else math.inf
    except ValueError:  # a signaling NaN of `decimal`
        return math.nan


def plain_number(value: T) -> T:
    """Convert a number to Python's int or float; return anything else as it is.

    Frameworks write settings as JSON and YAML, and can write no numbers but Python's own.
    """
    number = as_number(value)
    return value if number is None else cast("T", number)


def shown(value: object) -> str:
    """Format a value for an error; a text is not quoted, since it may be a misplaced key."""
    number = as_number(value)
    if number is None:
        return repr(value) if value is None or isinstance(value, bool) else type(value).__name__
    # Python refuses to show more than 4,300 digits.
    enormous = isinstance(number, int) and abs(number) > MOST
    return "one of more than 64 bits" if enormous else str(number)

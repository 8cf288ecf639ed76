"""Numbers as callers pass them, numpy's included; and settings that are finite and in range."""

from __future__ import annotations

import math
from decimal import Decimal
from numbers import Integral, Real
from typing import TypeVar, cast

from .errors import ConfigurationError

MOST_SECONDS = 1_000_000
"""Longest time that can be set, in seconds: eleven days. Sockets and timers refuse some larger
numbers, each in its own words."""

MOST = 2**63 - 1
"""Largest number that can be set: what 64 bits hold."""

T = TypeVar("T")


def check_seconds(value: object, name: str, *, allow_zero: bool = False) -> float:
    """A number of seconds above 0, or from 0 where that is allowed, and at most `MOST_SECONDS`.

    Raises:
        ConfigurationError: It is none.
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
    """A finite number from 0.

    Raises:
        ConfigurationError: It is none.
    """
    amount = as_number(value)
    if amount is not None and 0 <= amount <= MOST:
        return float(amount)
    raise ConfigurationError(f"{name} must be a number from 0, not {shown(value)}")


def check_count(value: object, name: str, least: int = 1, most: int = MOST) -> int:
    """A whole number from `least` to `most`.

    Raises:
        ConfigurationError: It is none.
    """
    count = as_number(value)
    if isinstance(count, int) and least <= count <= most:
        return count
    upper = "" if most == MOST else f" to {most}"
    raise ConfigurationError(
        f"{name} must be a whole number from {least}{upper}, not {shown(value)}"
    )


def as_number(value: object) -> int | float | None:
    """The value as a number of Python's, numpy's and fractions included; None where it is none.

    A fraction beyond all floats is an infinity.
    """
    # True is an int to Python and a mistake to everybody else.
    if isinstance(value, bool):
        return None
    if isinstance(value, Integral):
        return int(value)
    return _as_float(value) if isinstance(value, Real | Decimal) else None


def as_whole(value: object) -> int | None:
    """The value as an int of Python's; None where it is no whole number."""
    number = as_number(value)
    return number if isinstance(number, int) else None


def as_real(value: object) -> float | None:
    """The value as a float; None where it is no number. One beyond all floats is an infinity."""
    number = as_number(value)
    return None if number is None else _as_float(number)


def _as_float(number: float | Real | Decimal) -> float:
    try:
        return float(number)
    except OverflowError:
        return -math.inf if number < 0 else math.inf
    except ValueError:  # a signaling NaN of decimal's
        return math.nan


def plain_number(value: T) -> T:
    """A number as Python's int or float; anything else as it is.

    Frameworks write settings as JSON and YAML, which know no numbers but Python's own.
    """
    number = as_number(value)
    return value if number is None else cast("T", number)


def shown(value: object) -> str:
    """A value in an error: not a text, which may be a key in the wrong place."""
    number = as_number(value)
    if number is None:
        return repr(value) if value is None or isinstance(value, bool) else type(value).__name__
    # Python refuses to show more than 4,300 digits.
    enormous = isinstance(number, int) and abs(number) > MOST
    return "one of more than 64 bits" if enormous else str(number)

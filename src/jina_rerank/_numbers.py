"""Numbers as callers pass them: Python's, numpy's, fractions; never a bool or a string."""

from __future__ import annotations

import math
from decimal import Decimal
from numbers import Integral, Real
from typing import TypeVar, cast

T = TypeVar("T")

_SHOWN_CHARACTERS = 80


def as_whole(value: object) -> int | None:
    """The whole number as Python's int, or None if the value is no whole number."""
    # True is an int to Python and a mistake to everybody else.
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else None


def as_real(value: object) -> float | None:
    """The number as Python's float, or None if the value is no number.

    One that is beyond all floats is an infinity.
    """
    if isinstance(value, bool) or not isinstance(value, Real | Decimal):
        return None
    try:
        return float(value)
    except OverflowError:
        return -math.inf if value < 0 else math.inf
    except ValueError:  # a signaling NaN of decimal's
        return math.nan


def plain_number(value: T) -> T:
    """A number as Python's int or float; anything else as it is.

    Frameworks write settings as JSON and YAML, which know no numbers but Python's own.
    """
    number = as_whole(value)
    # A whole number is kept whole, however large.
    plain = as_real(value) if number is None else number
    return value if plain is None else cast("T", plain)


def shown(value: object) -> str:
    """The value as an error message shows it: briefly, whatever it is."""
    try:
        text = repr(plain_number(value))
    except ValueError:  # Python refuses to write integers of more than 4,300 digits
        return f"a number of {type(value).__name__}"
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}\u2026"

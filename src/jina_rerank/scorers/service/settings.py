"""How much goes into one request and how a call behaves: numbers that were checked."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..._numbers import as_real, as_whole, shown
from ...errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class PartLimits:
    """The most that goes into one request to the service.

    Attributes:
        documents: How many of them.
        size: Bytes of the query and the documents as JSON in UTF-8.
        tokens: Estimated tokens, the query's counted with each document.
    """

    documents: int
    size: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Conduct:
    """How a call behaves.

    Attributes:
        timeout: The deadline of a whole call in seconds, whatever happens within.
        max_retries: How often a request is sent again after a failure that may pass.
        max_concurrency: The most requests on their way at the same time.
        allow_partial: Whether documents that could not be scored are reported instead of
            failing the call.
    """

    timeout: float
    max_retries: int
    max_concurrency: int
    allow_partial: bool


def check_seconds(value: object, name: str) -> float:
    """A number of seconds above 0.

    Raises:
        ConfigurationError: It is none.
    """
    seconds = as_real(value)
    if seconds is None or not 0 < seconds < math.inf:
        raise ConfigurationError(f"{name} must be a number of seconds above 0, not {shown(value)}")
    return seconds


def check_count(value: object, name: str, least: int = 1) -> int:
    """A whole number of at least `least`.

    Raises:
        ConfigurationError: It is none.
    """
    count = as_whole(value)
    if count is None or count < least:
        raise ConfigurationError(f"{name} must be a whole number from {least}, not {shown(value)}")
    return count

"""Requests and replies on the wire, whatever carries them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it came.

    Attributes:
        status: The HTTP status.
        body: As it came, decompressed.
        headers: With lower-case names.
    """

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Transport(Protocol):
    """Carries a request to a service and brings back its reply, once and without judging it.

    It is used on the I/O thread's loop only.
    """

    async def open(self) -> None:
        """Make ready what takes time; nothing is sent. Idempotent, and done by `send` otherwise.

        Raises:
            ConfigurationError: A package or a setting is missing.
            AuthenticationError: There are no credentials.
        """
        ...

    async def send(self, body: bytes) -> Reply:
        """Send a JSON body.

        Returns:
            The reply, without any key that the service may have sent back.

        Raises:
            ConnectionFailedError: There is no connection, or it broke.
            RequestTimeoutError: The service was silent for too long.
            ResponseError: The answer is larger than any right one, or cannot be decompressed.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...


def largest_answer(body: bytes) -> int:
    """Bytes beyond which an answer cannot be right.

    A service that sends the documents back writes at worst an escape of six bytes for two of ours,
    and a result has some hundred bytes around its document: the rest is room for 20,000 results.
    """
    return 4_000_000 + 4 * len(body)

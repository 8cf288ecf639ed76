"""Replies, and the protocol of the transports that bring them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of a service.

    Attributes:
        status: The HTTP status.
        body: The body, decompressed.
        headers: The headers, with lower-case names.
    """

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Transport(Protocol):
    """Sends a request to a service once, and returns its reply whatever the status is.

    It is used on the I/O thread's loop only.
    """

    async def open(self) -> None:
        """Do the preparations that take time; nothing is sent. Idempotent; `send` does them too.

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
            ResponseError: The answer is larger than any valid one, or cannot be decompressed.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...


def has_surrogates(text: str) -> bool:
    """Tell whether a text has halves of characters, so that it cannot be encoded."""
    return text != without_surrogates(text)


def without_surrogates(text: str) -> str:
    """Replace halves of characters, which JSON can spell and which no text can be encoded with."""
    return text.encode("utf-8", "replace").decode()


def largest_answer(body: bytes) -> int:
    """Compute the size in bytes beyond which an answer to a body cannot be valid.

    A service that sends the documents back writes at worst an escape of six bytes for two of ours,
    and a result has some hundred bytes around its document: the constant is for 20,000 results.
    """
    return 4_000_000 + 4 * len(body)

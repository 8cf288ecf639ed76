"""Limits of requests and of calls: numbers that have been checked."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PartLimits:
    """The most that goes into one request to the service.

    Attributes:
        documents: Number of documents.
        size: Bytes of the query and the documents as JSON in UTF-8.
        tokens: Estimated tokens, the query's counted with each document.
    """

    documents: int
    size: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Conduct:
    """Limits of a call.

    Attributes:
        timeout: The deadline of a whole call in seconds, retries and waits included.
        max_retries: Most retries of a request after a failure that may pass.
        max_concurrency: The most requests in flight at the same time.
        allow_partial: Whether documents that could not be scored are reported instead of
            failing the call.
    """

    timeout: float
    max_retries: int
    max_concurrency: int
    allow_partial: bool

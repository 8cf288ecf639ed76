"""Sizes of requests and limits of a call: numbers that were checked."""

from __future__ import annotations

from dataclasses import dataclass


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
    """Limits of a call.

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

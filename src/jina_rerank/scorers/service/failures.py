"""Conversion of a reply that is no success to an error with a type, for all known shapes of bodies.

The shapes are those of Jina's hosted API over several years, of its gateway, and of servers that
imitate it: see `_message_of`.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from ...errors import (
    AuthenticationError,
    InsufficientBalanceError,
    LimitKind,
    RateLimitError,
    RejectedInputError,
    RejectedSettingError,
    RequestTimeoutError,
    ServerError,
    ServiceError,
)
from .parts import Part
from .wire import Reply, without_surrogates

LONGEST_MESSAGE = 500
"""Most characters of the service's message that an error quotes."""

_LIMITS: dict[str, LimitKind] = {
    "RATE_REQUEST_LIMIT_EXCEEDED": "requests",
    "RATE_TOKEN_LIMIT_EXCEEDED": "tokens",
    "RATE_CONCURRENCY_LIMIT_EXCEEDED": "concurrency",
    "RATE_IP_LIMIT_EXCEEDED": "ip",
}
_LIMIT_WORDS: tuple[tuple[str, LimitKind], ...] = (
    ("token rate limit", "tokens"),
    ("tokens per minute", "tokens"),
    ("request rate limit", "requests"),
    ("requests per minute", "requests"),
    ("concurren", "concurrency"),
)
_REQUEST_ID_HEADERS = ("x-request-id", "request-id", "x-amzn-requestid", "cf-ray")
_REQUEST_ID_IN_TEXT = re.compile(r"\[RID: (\w+)")


_PLACE = re.compile(r"\b(documents|texts)(\[| -> |\.)(\d{1,9})")
"""A document's place in the request, in the names that services give to a field."""


@dataclass(frozen=True, slots=True)
class _Words:
    """Parts of an error body."""

    message: str = ""
    code: str | None = None
    request_id: str | None = None
    argument: str | None = None

    @property
    def has_place(self) -> bool:
        """Tell whether the argument is a document, by its place."""
        return self.argument is not None and _PLACE.search(self.argument) is not None


def read_failure(reply: Reply, service: str, part: Part | None = None) -> ServiceError:
    """Convert a reply to an error.

    Args:
        reply: A reply with any status but 200.
        service: The service, for the message.
        part: The documents that were refused, if they are a part of the call; None for all of it.
    """
    words = _read_words(reply, 0 if part is None else part.start)
    details: dict[str, Any] = {
        "status": reply.status,
        "code": words.code,
        "request_id": words.request_id or find_request_id(reply),
        "retry_after": read_retry_after(reply.headers.get("retry-after")),
    }
    said = _shorten(words.message) or "no reason given"
    where = f"{service} answered {reply.status}" + (f" {words.code}" if words.code else "")
    kind = _kind_of(reply.status, words)
    if kind is RateLimitError:
        limit = _limit_kind(words, reply.headers)
        message = f"{where}, too many {limit or 'requests'}: {said}"
        return RateLimitError(message, **details, kind=limit)
    if kind is RejectedInputError:
        among = "" if part is None or words.has_place else f" (in the request of {part.place})"
        return RejectedInputError(f"{where}: {said}{among}", **details, argument=words.argument)
    if kind is RejectedSettingError and 300 <= reply.status < 400:
        target = _shorten(reply.headers.get("location", "nowhere"))
        said = f"redirects are not followed, since they would carry the key along to {target}"
    return kind(f"{where}, {_MEANING[kind]}: {said}", **details)


_MEANING: dict[type[ServiceError], str] = {
    AuthenticationError: "the key is not accepted",
    InsufficientBalanceError: "the account has no balance left",
    RejectedSettingError: "check the address and the model's name",
    RequestTimeoutError: "it took too long",
    ServerError: "it failed on its side",
}


def _kind_of(status: int, words: _Words) -> type[ServiceError]:
    if status == 402 or (status == 403 and _is_about_balance(words)):
        return InsufficientBalanceError
    if words.code == "INPUT_MODEL_NOT_FOUND" or 300 <= status < 400:
        return RejectedSettingError
    by_status = {
        401: AuthenticationError,
        403: AuthenticationError,
        404: RejectedSettingError,
        405: RejectedSettingError,
        408: RequestTimeoutError,
        409: ServerError,  # CONFLICT_RESOURCE_BUSY
        424: ServerError,  # the model behind the front of TEI or SageMaker failed
        429: RateLimitError,
    }
    return by_status.get(status, ServerError if status >= 500 else RejectedInputError)


def read_retry_after(value: str | None) -> float | None:
    """Read the seconds to wait from a Retry-After header: a number or a date (RFC 9110, 10.2.3).

    The result is None for a header that cannot be read.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError):
            return None
    # Also excludes NaN, for which every comparison is false.
    return max(seconds, 0.0) if seconds < float("inf") else None


def find_request_id(reply: Reply) -> str | None:
    """Find the service's identifier of the request in the headers."""
    return next((reply.headers[h] for h in _REQUEST_ID_HEADERS if h in reply.headers), None)


def _read_words(reply: Reply, start: int) -> _Words:
    try:
        body = json.loads(reply.body)
    except (ValueError, RecursionError):
        return _Words(_first_words(reply.body.decode("utf-8", "replace")))
    if isinstance(body, str):
        return _Words(without_surrogates(body))
    if not isinstance(body, Mapping):
        return _Words(_first_words(str(body)))
    # An inner layer may hold fields that the outer one lacks.
    layers = [body, *(body[k] for k in ("detail", "error") if isinstance(body.get(k), Mapping))]
    fields = _field_errors(body, start)
    message = without_surrogates(_message_of(body, fields))
    found = _REQUEST_ID_IN_TEXT.search(message)
    return _Words(
        message,
        code=_last_text(layers, ("code", "error_type", "type")),
        request_id=_last_text(layers, ("request_id",)) or (found.group(1) if found else None),
        argument=_argument_of(fields),
    )


def _message_of(body: Mapping[str, Any], fields: Sequence[tuple[str, str]]) -> str:
    if fields:
        # The hosted service's summary of these is garbled; the list is not.
        return "; ".join(f"{where}: {what}" for where, what in fields)
    for key in ("detail", "error", "message", "Message"):
        value = body.get(key)
        if isinstance(value, str):  # {"detail": "…", "code": …}, TEI's {"error": "…"}, Cohere's
            return value
        if isinstance(value, Mapping):  # {"detail": {"message": …}}, OpenAI's {"error": {…}}
            inner = value.get("message") or value.get("detail")
            return inner if isinstance(inner, str) else _first_words(str(dict(value)))
    return _first_words(str(dict(body)))


def _field_errors(body: Mapping[str, Any], start: int) -> list[tuple[str, str]]:
    """List the errors of a 422, under `errors` (hosted, now) or `detail` (FastAPI's, before).

    Args:
        body: The error's body.
        start: The first document's place in the call; that of the service begins at 0.
    """
    listed = body.get("errors") or body.get("detail")
    if not isinstance(listed, list):
        return []
    fields = []
    for item in listed:
        if isinstance(item, Mapping):
            where = item.get("field") or item.get("loc") or "request"
            if isinstance(where, list):
                where = " -> ".join(map(str, where))
            where = _PLACE.sub(lambda place: _moved(place, start), str(where))
            fields.append((where, str(item.get("message") or item.get("msg") or "invalid")))
    return fields


def _moved(place: re.Match[str], start: int) -> str:
    name, mark, number = place.groups()
    return f"{name}{mark}{int(number) + start}"


def _argument_of(fields: Sequence[tuple[str, str]]) -> str | None:
    if not fields:
        return None
    return without_surrogates(re.sub(r"^body\s*->\s*", "", fields[0][0]))


def _last_text(layers: list[Mapping[str, Any]], keys: tuple[str, ...]) -> str | None:
    values = [layer.get(key) for key in keys for layer in reversed(layers)]
    texts = (without_surrogates(str(v)) for v in values if isinstance(v, str | int) and str(v))
    return next(texts, None)


def _is_about_balance(words: _Words) -> bool:
    if words.code is not None:
        return words.code == "AUTHZ_INSUFFICIENT_BALANCE"
    return "balance" in words.message.lower()


def _limit_kind(words: _Words, headers: Mapping[str, str]) -> LimitKind | None:
    if words.code in _LIMITS:
        return _LIMITS[words.code]
    said = words.message.lower()
    for text, kind in _LIMIT_WORDS:
        if text in said:
            return kind
    if headers.get("x-ratelimit-remaining-tokens") == "0":
        return "tokens"
    if headers.get("x-ratelimit-remaining-requests") == "0":
        return "requests"
    return None


def _first_words(text: str) -> str:
    """Shorten a text for a message; a page of HTML is replaced by its title."""
    if text.lstrip()[:1] == "<":
        title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
        text = "a web page" + (f" titled {title.group(1).strip()!r}" if title else "")
    return _shorten(" ".join(text.split()))


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:LONGEST_MESSAGE]}…"

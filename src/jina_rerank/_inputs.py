"""Checks on what callers pass in, each ending in an error that says what to do.

What passes here reaches the scorer unchanged: nothing is stripped, replaced or cut.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Set

from .errors import InputError
from .scorers.base import ScoreRequest

MAX_TEXT_CHARACTERS = 2_000_000
"""Longest query or document, in characters: some sixty times what 8,192 tokens hold. A longer
one is a whole file that was never split, and tokenizing it would cost gigabytes."""


def check_query(query: object, argument: str = "query") -> str:
    """The query, if it is a usable, non-blank string."""
    text = check_text(query, argument)
    if not text or text.isspace():
        raise InputError(argument, "is blank; pass the question that the documents answer")
    return text


def check_documents(documents: object, argument: str = "documents") -> list[str]:
    """The documents as a new list, if every one is a usable string; empty is fine."""
    if isinstance(documents, str | bytes):
        raise InputError(
            argument, "must be a list of strings, not one string; for one document pass [document]"
        )
    # A dictionary or a set has no order that an index could refer to.
    if isinstance(documents, Mapping | Set) or not isinstance(documents, Iterable):
        raise InputError(argument, f"must be a list of strings, not {_type(documents)}")
    texts = [check_text(text, f"{argument}[{i}]") for i, text in enumerate(documents)]
    if texts and all(not text or text.isspace() for text in texts):
        raise InputError(
            argument,
            f"has nothing to rank: all {len(texts):,} are blank; look at the step that fills them",
        )
    return texts


def check_request(query: object, documents: object, name: str = "") -> ScoreRequest:
    """Both at once; `name` is put before theirs in errors."""
    return ScoreRequest(
        query=check_query(query, f"{name}query"),
        documents=check_documents(documents, f"{name}documents"),
        name=name,
    )


def check_top_n(top_n: object, argument: str = "top_n") -> int | None:
    """None for all documents, or a whole number of at least 1."""
    if top_n is None:
        return None
    # True is an int to Python and a mistake to everybody else.
    if isinstance(top_n, bool) or not isinstance(top_n, int):
        raise InputError(argument, f"must be a whole number or None for all, not {_type(top_n)}")
    if top_n < 1:
        raise InputError(argument, f"must be at least 1, or None for all, not {top_n}")
    return top_n


def check_threshold(threshold: object, argument: str = "threshold") -> float | None:
    """None for no threshold, or a number that scores can be compared with."""
    if threshold is None:
        return None
    if isinstance(threshold, bool) or not isinstance(threshold, int | float):
        raise InputError(argument, f"must be a number or None, not {_type(threshold)}")
    if math.isnan(threshold):
        raise InputError(argument, "is NaN, which no score can reach; pass a number or None")
    return float(threshold)


def check_text(text: object, argument: str) -> str:
    """The text, if a tokenizer can take it; empty is fine."""
    if not isinstance(text, str):
        hint = "; leave it out, or pass an empty string" if text is None else ""
        raise InputError(argument, f"must be a string, not {_type(text)}{hint}")
    if len(text) > MAX_TEXT_CHARACTERS:
        raise InputError(
            argument,
            f"has {len(text):,} characters, more than {MAX_TEXT_CHARACTERS:,}; split it first",
        )
    if "\0" in text:
        raise InputError(
            argument,
            f"holds a NUL character at {text.index(chr(0))}, a sign of binary data; "
            'if it is text, use text.replace("\\0", "")',
        )
    try:
        # isascii reads a flag that every str carries, so most texts are never encoded.
        if not text.isascii():
            text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            argument,
            f"holds a lone surrogate at {error.start}, half of a character that was cut in two, so "
            "it is not valid Unicode; cut texts between characters, or use "
            'text.encode("utf-8", "replace").decode()',
        ) from None
    return text


def _type(value: object) -> str:
    return type(value).__name__

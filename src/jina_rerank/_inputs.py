"""Checks of callers' arguments; the error of each check says what to do.

What passes here reaches the scorer unchanged: nothing is stripped, replaced or cut.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import get_args

from ._numbers import as_real, as_whole, shown
from .errors import ConfigurationError, InputError, ServiceError
from .scorers.base import LongDocuments, Scorer, ScoreRequest

MAX_TEXT_CHARACTERS = 2_000_000
"""Longest query or document, in characters: about sixty times the text of 8,192 tokens. A longer
text is a whole file that was never split, and tokenizing it would cost gigabytes."""


def check_scorer(scorer: object, argument: str, expected: str) -> Scorer:
    """Check that an argument is a scorer, and return it.

    Args:
        scorer: The argument. A class of scorers and a `Reranker` have all methods of a scorer.
        argument: The caller's name for it.
        expected: What the argument may be, for errors.

    Raises:
        ConfigurationError: It is no scorer.
    """
    from .reranker import Reranker

    if isinstance(scorer, type):
        problem = f"is the class {scorer.__name__}; write {scorer.__name__}(...)"
    elif isinstance(scorer, Reranker):
        problem = "is a Reranker; pass its .scorer"
    elif not isinstance(scorer, Scorer):
        problem = f"must be {expected}, not {_type(scorer)}"
    else:
        return scorer
    raise ConfigurationError(f"{argument} {problem}")


def check_query(query: object, argument: str = "query") -> str:
    """Check that a query is a usable string and not blank, and return it."""
    fix = "; pass the question that the documents answer"
    text = check_text(query, argument, for_none=fix)
    if not text or text.isspace():
        raise InputError(argument, f"is blank{fix}")
    return text


def check_documents(documents: object, argument: str = "documents") -> list[str]:
    """Check that every document is a usable string, and return a new list; it may be empty."""
    items = check_items(documents, argument, "strings", "for one document pass [document]")
    texts = [check_text(text, f"{argument}[{i}]") for i, text in enumerate(items)]
    if texts and all(not text or text.isspace() for text in texts):
        raise InputError(
            argument,
            f"has nothing to rank: all {len(texts):,} are blank; look at the step that fills them",
        )
    return texts


def check_items(items: object, argument: str, kind: str, for_one: str) -> Iterator[object]:
    """Check that items have an order that an index can refer to, and return their iterator.

    Args:
        items: Any iterable with an order: a list, a generator, a column of a table, an array.
        argument: The caller's name for the argument.
        kind: Required type of the items, in the plural, for errors.
        for_one: Advice in errors for callers who have only one item.

    Raises:
        InputError: It is one text, a mapping, a set, a table, or not iterable.
    """
    if isinstance(items, str | bytes | bytearray | memoryview):
        raise InputError(argument, f"must be a list of {kind}, not one string; {for_one}")
    if problem := _no_order(items):
        raise InputError(argument, f"must be a list of {kind}, not {_type(items)}{problem}")
    try:
        return iter(items)  # type: ignore[call-overload, no-any-return]
    except TypeError:  # among others an array without a dimension, which has an __iter__
        raise InputError(argument, f"must be a list of {kind}, not {_type(items)}") from None


def _no_order(items: object) -> str | None:
    """Name what to pass instead of a mapping, a set or a table; None for anything else.

    All of them can be iterated, but not over the intended items: a table of pandas or polars gives
    the names of its columns, or the columns.
    """
    kind = type(items)
    if hasattr(kind, "columns"):
        return '; pass the column that holds them, such as list(table["text"])'
    # A pandas column has `keys` too, but its `values` is no method.
    looks_like_mapping = all(callable(getattr(kind, name, None)) for name in ("keys", "values"))
    if isinstance(items, Mapping) or looks_like_mapping:
        return ", of which only the keys would be read; pass a list of its values or items"
    if isinstance(items, Set):
        return ", which has no order that an index could refer to; pass a list"
    return None


def check_request(
    query: object,
    documents: object,
    name: str = "",
    *,
    long_documents: LongDocuments | None = None,
    max_document_tokens: int | None = None,
    instruction: str | None = None,
) -> ScoreRequest:
    """Check the parts of a request and build it; `name` is put before argument names in errors."""
    if long_documents not in {None, *get_args(LongDocuments)}:
        raise InputError(
            f"{name}long_documents",
            f"must be one of {get_args(LongDocuments)}, not {long_documents!r}",
        )
    if max_document_tokens is not None:
        max_document_tokens = check_positive(max_document_tokens, f"{name}max_document_tokens")
    return ScoreRequest(
        query=check_query(query, f"{name}query"),
        documents=check_documents(documents, f"{name}documents"),
        name=name,
        long_documents=long_documents,
        max_document_tokens=max_document_tokens,
        instruction=check_instruction(instruction, f"{name}instruction"),
    )


def check_instruction(instruction: object, argument: str = "instruction") -> str | None:
    """Check that an instruction is a usable string and not blank; None is the model's own."""
    if instruction is None:
        return None
    text = check_text(instruction, argument)
    if not text or text.isspace():
        raise InputError(argument, "is blank; say what makes a document relevant, or leave it out")
    return text


def text_of_fields(document: Mapping[str, object], fields: Sequence[str], argument: str) -> str:
    """Build the text of a document that has several fields.

    The text has one line for each field, in the order of `fields`, like the metadata that plugins
    put before a text. A field that the document lacks, or has as null, is left out.

    Args:
        document: The document's fields by name.
        fields: Names of the fields to read.
        argument: The caller's name for the document.

    Raises:
        InputError: The document has none of the fields, or a field that is not a string.
    """
    found = {name: document[name] for name in fields if document.get(name) is not None}
    if not found:
        raise InputError(argument, f"has none of the fields {', '.join(map(repr, fields))}")
    for name, value in found.items():
        if not isinstance(value, str):
            raise InputError(f"{argument}.{name}", f"must be a string, not {_type(value)}")
    return "\n".join(map(str, found.values()))


def check_top_n(top_n: object, argument: str = "top_n") -> int | None:
    """Check that `top_n` is a whole number of at least 1, or None for all documents."""
    return None if top_n is None else check_positive(top_n, argument, ", or None for all")


def check_positive(number: object, argument: str, otherwise: str = "") -> int:
    """Check that a number is whole and at least 1; `otherwise` names an alternative in errors."""
    whole = as_whole(number)
    if whole is None:
        raise InputError(argument, f"must be a whole number{otherwise}, not {_type(number)}")
    if whole < 1:
        raise InputError(argument, f"must be at least 1{otherwise}, not {shown(number)}")
    return whole


def check_threshold(threshold: object, argument: str = "threshold") -> float | None:
    """Check that a threshold is a number that scores can be compared with, or None for none."""
    if threshold is None:
        return None
    real = as_real(threshold)
    if real is None:
        raise InputError(argument, f"must be a number or None, not {_type(threshold)}")
    if math.isnan(real):
        raise InputError(argument, "is NaN, which no score can reach; pass a number or None")
    # An infinity may be intended; a number that only overflows to one as a float is a typo.
    if math.isinf(real) and threshold != real:
        raise InputError(argument, "is beyond all scores; pass a number or None")
    return real


def check_text(
    text: object, argument: str, for_none: str = "; leave it out, or pass an empty string"
) -> str:
    """Check that a tokenizer can read a text, and return it; it may be empty.

    Args:
        text: The text.
        argument: The caller's name for it.
        for_none: Advice in the error for None, after a semicolon.

    Raises:
        InputError: It is no string, too long, or no valid Unicode, or it holds a NUL character.
    """
    if not isinstance(text, str):
        hint = for_none if text is None else ""
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


@contextmanager
def renamed_errors(rename: Callable[[str], str]) -> Iterator[None]:
    """Replace the core's argument names by the caller's in input errors.

    Args:
        rename: Maps a name of the core to the caller's, such as `"documents[3]"` to `"nodes[3]"`.

    Raises:
        InputError: In place of one raised inside. A service's refusal is left as it is: it has the
            service's names.
    """
    try:
        yield
    except InputError as error:
        name = error.argument if isinstance(error, ServiceError) else rename(error.argument)
        if name == error.argument:
            raise
        raise InputError(name, error.problem) from error


def _type(value: object) -> str:
    return type(value).__name__

"""Queries and documents that may be objects, and the text that is ranked of each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, RootModel, Tag

from ..._inputs import text_of_fields
from ...errors import InputError
from ..dialect import FORM

STRING, OBJECT = f"{FORM}a string", f"{FORM}an object"


def form_of(value: object) -> str:
    """Return the tag of a value's form, so that errors are about this form only."""
    return OBJECT if isinstance(value, dict | BaseModel) else STRING


class Text(BaseModel):
    """An object that holds a text."""

    model_config = ConfigDict(strict=True)

    text: str


class Document(RootModel[dict[Any, Any]]):
    """An object that holds a document, in `text` or in the fields that `rank_fields` names."""

    # Keys are not validated: the path of an error would hold them, and they are the client's.
    model_config = ConfigDict(strict=True)


AnyText = Annotated[
    Annotated[str, Tag(STRING)] | Annotated[Text, Tag(OBJECT)], Discriminator(form_of)
]

AnyDocument = Annotated[
    Annotated[str, Tag(STRING)] | Annotated[Document, Tag(OBJECT)], Discriminator(form_of)
]


def count_items(body: object, name: str) -> int:
    """Count the items of a list in a body that has not been validated; 0 if there is none."""
    items = body.get(name) if isinstance(body, dict) else None
    return len(items) if isinstance(items, list) else 0


def texts_of(
    documents: Sequence[str | Document], fields: Sequence[str] | None, *, returned: bool
) -> list[str]:
    """Return the text to rank of each document.

    Args:
        documents: The documents.
        fields: The request's `rank_fields`; None for `text`.
        returned: True if the answer repeats the documents, so that JSON must be able to hold them.

    Raises:
        InputError: A document has none of the fields, or one that is no string, or cannot be
            returned. The error does not contain names that the client has chosen.
    """
    texts = []
    for i, document in enumerate(documents):
        if isinstance(document, str):
            texts.append(document)
            continue
        texts.append(_text_of(document.root, fields, f"documents[{i}]"))
        if returned:
            _check_json(document.root, f"documents[{i}]")
    return texts


def _text_of(values: Mapping[str, object], fields: Sequence[str] | None, argument: str) -> str:
    if fields is None:
        return text_of_fields(values, ["text"], argument)
    try:
        return text_of_fields(values, fields, argument)
    except InputError as error:
        problem = "has none of the rank_fields"
        if error.argument != argument:
            problem = "one of its rank_fields is not a string"
        raise InputError(argument, problem) from None


def _check_json(values: Mapping[str, object], argument: str) -> None:
    """Check that an object can be written as JSON: Python reads more than that.

    Raises:
        InputError: It holds half of a character, or a number that became an infinity.
    """
    try:
        json.dumps(values, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        problem = "holds a lone surrogate, half of a character that was cut in two"
    except ValueError:
        problem = "holds a number beyond the range of 64-bit floats"
    else:
        return
    raise InputError(argument, f"{problem}; correct it, or leave it out")

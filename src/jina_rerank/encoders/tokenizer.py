"""Turning a query and a document into the token ids of a pair.

The two are tokenized apart, so that a query is tokenized once however many documents it
meets, and joined by ids as the tokenizer's own template would.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeAlias

from tokenizers import Tokenizer

from ..errors import ModelLoadError

TokenIds: TypeAlias = "array[int]"
"""Token ids as 32-bit integers: a tenth of a list's size."""


@dataclass(frozen=True, slots=True)
class TokenPair:
    """A query and a document as the model reads them.

    Attributes:
        input_ids: With the special tokens.
        token_type_ids: As long; all zero for tokenizers whose template has no segments.
    """

    input_ids: TokenIds
    token_type_ids: TokenIds

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True, slots=True)
class _Template:
    """Special tokens before the query, between the two, after the document; and the types."""

    special: tuple[TokenIds, TokenIds, TokenIds]
    special_types: tuple[TokenIds, TokenIds, TokenIds]
    query_type: int
    document_type: int


class PairTokenizer:
    """A `tokenizers` tokenizer and its template for pairs.

    Safe to share between threads: truncation and padding are switched off once and never set
    again, which is what makes a shared fast tokenizer fail with "Already borrowed".

    Args:
        tokenizer: Taken over: do not change it afterwards.

    Raises:
        ModelLoadError: It has no template for pairs.

    Attributes:
        special_tokens: How many special tokens a pair has.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._template = _find_template(tokenizer)
        self.special_tokens = sum(len(ids) for ids in self._template.special)

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read a `tokenizer.json`, as it is: nothing is rebuilt, nothing is dropped.

        Raises:
            ModelLoadError: It cannot be read, or has no template for pairs.
        """
        try:
            tokenizer = open_tokenizer(path)
        except Exception as error:  # the Rust side raises nothing narrower
            raise ModelLoadError(f"{path}: cannot be read as a tokenizer: {error}") from error
        try:
            return cls(tokenizer)
        except ModelLoadError as error:
            raise ModelLoadError(f"{path}: {error}") from None

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """The ids of each text, whole, without special tokens."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [array("i", encoding.ids) for encoding in encodings]

    def beginnings(self, texts: Sequence[str], tokens: int) -> list[str]:
        """The beginning of each text that its first tokens stand for.

        A character of several tokens is there as a whole or not at all. A text that is not blank
        keeps its first visible token, even if more come before or with it.

        Args:
            texts: Any.
            tokens: How many, at least 1, without special tokens.
        """
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [
            text if len(encoding) <= tokens else _beginning(text, encoding.offsets, tokens)
            for text, encoding in zip(texts, encodings, strict=True)
        ]

    def pair(self, query: TokenIds, document: TokenIds) -> TokenPair:
        """Join the ids of a query and of a document as the template says."""
        template = self._template
        before, between, after = template.special
        types_before, types_between, types_after = template.special_types
        query_types = array("i", [template.query_type]) * len(query)
        document_types = array("i", [template.document_type]) * len(document)
        return TokenPair(
            input_ids=before + query + between + document + after,
            token_type_ids=types_before
            + query_types
            + types_between
            + document_types
            + types_after,
        )


def open_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a `tokenizer.json`, which may begin with a byte order mark.

    Raises:
        Exception: It cannot be read; `tokenizers` raises nothing narrower.
    """
    return Tokenizer.from_str(path.read_text(encoding="utf-8-sig"))


def _beginning(text: str, offsets: Sequence[tuple[int, int]], tokens: int) -> str:
    """As much of a text as its first tokens stand for; see `PairTokenizer.beginnings`.

    Args:
        text: It has more tokens than that.
        offsets: The first and the last character of each token, the last one excluded. Tokens of
            one character's bytes all have that character's; those of blanks may be empty.
        tokens: How many.
    """
    end = min(offsets[tokens - 1][1], offsets[tokens][0])
    beginning = text[:end]
    if beginning and not beginning.isspace():
        return beginning
    ends = (last for _, last in offsets[tokens - 1 :])
    return next((text[:last] for last in ends if text[:last].strip()), beginning)


def _find_template(tokenizer: Tokenizer) -> _Template:
    """Read the template off an example: every kind of post-processor then works alike."""
    encoding = tokenizer.encode("a", "b")
    ids, types, sequence = encoding.ids, encoding.type_ids, encoding.sequence_ids
    if 0 not in sequence or 1 not in sequence or sequence.index(1) < sequence.index(0):
        raise ModelLoadError("has no template for pairs of texts")
    query = [i for i, s in enumerate(sequence) if s == 0]
    document = [i for i, s in enumerate(sequence) if s == 1]
    parts = (
        slice(0, query[0]),
        slice(query[-1] + 1, document[0]),
        slice(document[-1] + 1, len(ids)),
    )
    before, between, after = (array("i", ids[part]) for part in parts)
    types_before, types_between, types_after = (array("i", types[part]) for part in parts)
    return _Template(
        special=(before, between, after),
        special_types=(types_before, types_between, types_after),
        query_type=types[query[0]],
        document_type=types[document[0]],
    )

"""Tokenization of a query and a document into the token ids of a pair.

The two are tokenized separately, so that a query is tokenized once for all of its documents. Their
ids are joined as by the tokenizer's own template.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Self, TypeAlias

from tokenizers import Tokenizer

from ..errors import ModelLoadError
from .architecture import Architecture

TokenIds: TypeAlias = "array[int]"
"""Token ids as 32-bit integers: a tenth of a list's size."""


@dataclass(frozen=True, slots=True)
class TokenPair:
    """A query and a document as the model reads them.

    Attributes:
        input_ids: Token ids, with the special tokens.
        token_type_ids: Token types, of the same length; all zero for tokenizers whose template has
            no segments.
    """

    input_ids: TokenIds
    token_type_ids: TokenIds

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True, slots=True)
class Query:
    """The part of a query that is read, which may have been cut.

    Attributes:
        text: The query.
        ids: Its tokens, without special tokens.
        instruction: Text in the template in place of the model's own prompt, or None.
    """

    text: str
    ids: TokenIds
    instruction: str | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """A document's tokens, with a function that pairs any run of them with the query.

    Attributes:
        ids: All of its tokens, without special tokens.
        around: Number of the other tokens of the pair: the query and the special tokens.
        pair: Joins a run of the document's tokens with its query.
    """

    ids: TokenIds
    around: int
    pair: Callable[[TokenIds], TokenPair]


@dataclass(frozen=True, slots=True)
class _Template:
    """Special tokens before the query, between the two, after the document; and the types."""

    special: tuple[TokenIds, TokenIds, TokenIds]
    special_types: tuple[TokenIds, TokenIds, TokenIds]
    query_type: int
    document_type: int

    def without_types(self) -> _Template:
        """Make the same template with zeros as types."""
        before, between, after = (array("i", [0]) * len(ids) for ids in self.special)
        return _Template(self.special, (before, between, after), query_type=0, document_type=0)


class TextTokenizer:
    """A `tokenizers` tokenizer for single texts, without special tokens.

    Safe to share between threads: truncation and padding are switched off once and never set
    again. Setting them makes a shared fast tokenizer fail with "Already borrowed".

    Args:
        tokenizer: The tokenizer; do not change it afterwards.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """Tokenize each text whole, without special tokens."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [array("i", encoding.ids) for encoding in encodings]

    def encode_first(self, texts: Sequence[str], tokens: int) -> list[TokenIds]:
        """Tokenize the beginning of each text, without special tokens.

        A character of several tokens is kept whole or not at all. A text that is not blank keeps
        its first visible character, even if more tokens come before or with it.

        Args:
            texts: The texts.
            tokens: Number of tokens, at least 1.
        """
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [
            array("i", encoding.ids[: _first(text, encoding.offsets, tokens)])
            for text, encoding in zip(texts, encodings, strict=True)
        ]

    def beginnings(self, texts: Sequence[str], tokens: int) -> list[str]:
        """Cut each text to the part that `encode_first` reads.

        Args:
            texts: The texts.
            tokens: Number of tokens, at least 1.
        """
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        kept = [_first(t, e.offsets, tokens) for t, e in zip(texts, encodings, strict=True)]
        return [
            text if count == len(encoding) else text[: encoding.offsets[count - 1][1]]
            for text, encoding, count in zip(texts, encodings, kept, strict=True)
        ]


class PairTokenizer(TextTokenizer):
    """A `tokenizers` tokenizer and its template for pairs.

    Args:
        tokenizer: The tokenizer; do not change it afterwards.

    Raises:
        ModelLoadError: It has no template for pairs.

    Attributes:
        special_tokens: Number of special tokens of a pair.
        has_instruction: False: the template has places for two texts only.
    """

    has_instruction = False

    def __init__(self, tokenizer: Tokenizer, *, types: bool = True) -> None:
        super().__init__(tokenizer)
        template = _find_template(tokenizer)
        self._template = template if types else template.without_types()
        self.special_tokens = sum(len(ids) for ids in self._template.special)

    @classmethod
    def from_file(cls, path: Path, *, types: bool = True) -> Self:
        """Read a `tokenizer.json` as it is, without rebuilding or dropping a part.

        Args:
            path: The file.
            types: Whether the model is given the template's token types.

        Raises:
            ModelLoadError: It cannot be read, or has no template for pairs.
        """
        try:
            tokenizer = open_tokenizer(path)
        except Exception as error:  # the Rust side raises nothing narrower
            raise ModelLoadError(f"{path}: cannot be read as a tokenizer: {error}") from error
        try:
            return cls(tokenizer, types=types)
        except ModelLoadError as error:
            raise ModelLoadError(f"{path}: {error}") from None

    def check_rows(self, architecture: Architecture, name: str | PathLike[str]) -> None:
        """Check that a model's embeddings have a row for every token and every token type.

        Args:
            architecture: The model's shape.
            name: The tokenizer's name in messages.

        Raises:
            ValueError: A row is missing; the message begins with the field of config.json.
        """
        template = self._template
        ids = chain(self._tokenizer.get_vocab().values(), *template.special)
        given = [("vocab_size", architecture.vocab_size, max(ids) + 1)]
        # A model of one type reads every type as the same, unless it counts places in texts.
        if architecture.token_types > 1 or architecture.text_positions > 1:
            types = chain([template.query_type, template.document_type], *template.special_types)
            given.append(("type_vocab_size", architecture.token_types, max(types) + 1))
        for field, rows, needed in given:
            if rows < needed:
                raise ValueError(f"{field}: {rows} is too small for {name}; it needs {needed}")

    def documents(
        self, queries: Sequence[Query], documents: Sequence[str], limits: Sequence[int | None]
    ) -> list[Document]:
        """Tokenize documents, each for a pair with the query at the same position.

        Args:
            queries: One query for each document.
            documents: The texts of the documents.
            limits: Number of first tokens to read, for each document; None for all.
        """
        found: dict[int, TokenIds] = {}
        for limit in dict.fromkeys(limits):
            places = [i for i, own in enumerate(limits) if own == limit]
            texts = [documents[i] for i in places]
            ids = self.encode(texts) if limit is None else self.encode_first(texts, limit)
            found.update(zip(places, ids, strict=True))
        return [
            Document(found[i], self.special_tokens + len(query.ids), partial(self.pair, query.ids))
            for i, query in enumerate(queries)
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
    """Read the tokenizer of a `tokenizer.json`, which may begin with a byte order mark.

    Raises:
        Exception: It cannot be read; `tokenizers` raises nothing narrower.
    """
    return Tokenizer.from_str(path.read_text(encoding="utf-8-sig"))


def _first(text: str, offsets: Sequence[tuple[int, int]], tokens: int) -> int:
    """Count the tokens of a text to keep; see `TextTokenizer.encode_first`.

    Args:
        text: The text that was tokenized.
        offsets: The first and the last character of each token, the last one excluded. Tokens of
            one character's bytes all have that character's offsets; the tokens of blanks may have
            empty ones.
        tokens: Number of tokens to keep.
    """
    if len(offsets) <= tokens:
        return len(offsets)
    end = min(offsets[tokens - 1][1], offsets[tokens][0])
    if not text[:end].strip():
        ends = (last for _, last in offsets[tokens - 1 :])
        end = next((last for last in ends if text[:last].strip()), end)
    return next((i for i, (_, last) in enumerate(offsets) if last > end), len(offsets))


def _find_template(tokenizer: Tokenizer) -> _Template:
    """Derive the template from an example, which works for every kind of post-processor."""
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

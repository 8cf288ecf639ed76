"""Pairs rendered by sentence-transformers: with a model's prompt, or in its chat template."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

from ..encoders.tokenizer import Document, Query, TextTokenizer, TokenIds, TokenPair
from ..errors import ScoringError

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder
    from tokenizers import Tokenizer

FILLERS = ("0", "1 2 3 4")
"""Two documents that begin and end differently: the common part of their pairs is the template."""

PAIRS_AT_ONCE = 64
"""Pairs rendered at a time, while other threads wait for the tokenizer."""


class RenderedPairs(TextTokenizer):
    """Tokenizer of pairs that sentence-transformers renders whole; documents are cut in the pair.

    A template's last character and a document's first may form one token, so the query and the
    document cannot be tokenized separately.

    Args:
        encoder: The model with the prompt and the template.
        tokenizer: A copy of the encoder's tokenizer for this object alone.

    Raises:
        ScoringError: The template cannot carry a query and a document.

    Attributes:
        special_tokens: Number of tokens of the template and the prompt.
        has_instruction: Whether the template shows an instruction to the model.
    """

    def __init__(self, encoder: CrossEncoder, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        self._encoder = encoder
        # transformers' tokenizer sets truncation and padding at each call.
        self._lock = Lock()
        filler = FILLERS[0]
        (whole,) = self._render([(filler, filler)], None)
        (own,) = self.encode([filler])
        self.special_tokens = max(0, len(whole) - 2 * len(own))
        self.has_instruction = self._shows_instructions()

    def documents(
        self, queries: Sequence[Query], documents: Sequence[str], limits: Sequence[int | None]
    ) -> list[Document]:
        """Tokenize documents, each for a pair with the query at the same position.

        Args:
            queries: One query for each document.
            documents: The texts of the documents.
            limits: Number of first tokens to read, for each document; None for all.

        Raises:
            ScoringError: The template fails on a document.
        """
        documents = [
            text if limit is None else self.beginnings([text], limit)[0]
            for text, limit in zip(documents, limits, strict=True)
        ]
        places: dict[tuple[str, str | None], list[int]] = {}
        for place, query in enumerate(queries):
            places.setdefault((query.text, query.instruction), []).append(place)
        found: dict[int, Document] = {}
        for (text, instruction), own in places.items():
            frame = self._frame(text, instruction)
            rendered = self._render([(text, documents[place]) for place in own], instruction)
            found |= {p: frame.document(whole) for p, whole in zip(own, rendered, strict=True)}
        return [found[place] for place in range(len(queries))]

    def _shows_instructions(self) -> bool:
        """Tell whether pairs with different instructions differ."""
        pair = (FILLERS[0], FILLERS[0])
        try:
            one, other = (self._render([pair], filler) for filler in FILLERS)
        except ScoringError:  # some templates refuse an instruction without a place for it
            return False
        return one != other

    def _frame(self, query: str, instruction: str | None) -> _Frame:
        pairs = self._render([(query, filler) for filler in FILLERS], instruction)
        first, second = (pair.input_ids for pair in pairs)
        before = _shared(first, second)
        after = min(_shared(first[::-1], second[::-1]), len(first) - before)
        return _Frame(first[:before], first[len(first) - after :])

    def _render(self, pairs: Sequence[tuple[str, str]], instruction: str | None) -> list[TokenPair]:
        rendered: list[TokenPair] = []
        for start in range(0, len(pairs), PAIRS_AT_ONCE):
            some = list(pairs[start : start + PAIRS_AT_ONCE])
            try:
                with self._lock:
                    features = preprocess(self._encoder, some, instruction)
            except Exception as error:  # a template may raise anything
                raise ScoringError(f"the model's template fails: {error}") from error
            ids = [array("i", row) for row in features["input_ids"]]
            types = features.get("token_type_ids", [[0] * len(row) for row in ids])
            rendered += [
                TokenPair(row, array("i", own)) for row, own in zip(ids, types, strict=True)
            ]
        return rendered


def preprocess(
    encoder: CrossEncoder, pairs: list[tuple[str, str]], instruction: str | None = None
) -> dict[str, Any]:
    """Render pairs in the encoder's template, whole and not padded.

    Args:
        encoder: The model with the template.
        pairs: Queries and documents.
        instruction: Replaces the encoder's own prompt; None keeps that prompt.

    Returns:
        The features by their names.
    """
    whole = {"truncation": False, "padding": False}
    own = encoder.prompts.get(encoder.default_prompt_name or "")
    features = encoder.preprocess(
        pairs,
        prompt=own if instruction is None else instruction,
        processing_kwargs={
            "text": {**whole, "verbose": False},
            "common": {"return_tensors": None},
            # Separate settings, which go before the others in a chat template.
            "chat_template": whole if "message" in encoder.modalities else {},
        },
    )
    return dict(features)


@dataclass(frozen=True, slots=True)
class _Frame:
    """The tokens around every document of one query."""

    before: TokenIds
    after: TokenIds

    def document(self, whole: TokenPair) -> Document:
        """Find the document in its pair: the tokens that are not part of the frame."""
        ids, types = whole.input_ids, whole.token_type_ids
        start = _shared(ids, self.before)
        end = len(ids) - min(_shared(ids[::-1], self.after[::-1]), len(ids) - start)
        before = TokenPair(ids[:start], types[:start])
        after = TokenPair(ids[end:], types[end:])
        kind = types[start] if start < end else 0
        around = len(before) + len(after)
        return Document(ids[start:end], around, partial(_join, before, after, kind))


def _join(before: TokenPair, after: TokenPair, kind: int, document: TokenIds) -> TokenPair:
    return TokenPair(
        before.input_ids + document + after.input_ids,
        before.token_type_ids + array("i", [kind]) * len(document) + after.token_type_ids,
    )


def _shared(one: TokenIds, other: TokenIds) -> int:
    """Count the first tokens that are the same."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))

"""The documents: how long they are, and texts of that many tokens."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from tokenizers import Tokenizer

from jina_rerank.embedded import embedded_model_folder

QUERY_TOKENS = 8

MAX_LENGTH = 512
"""Tokens of the longest pair of a query and a chunk."""


def chunk_lengths(documents: int, *, seed: int = 1) -> list[int]:
    """Tokens of pairs as retrieval gives them: lognormal, 24 to 512, in no order.

    Args:
        documents: How many.
        seed: Seed of the random numbers.
    """
    rng = random.Random(seed)
    lengths: list[int] = []
    while len(lengths) < documents:
        length = int(math.exp(rng.gauss(4.83, 0.6)))
        if 24 <= length <= MAX_LENGTH:
            lengths.append(length)
    return lengths


def uniform_lengths(documents: int, shortest: int, longest: int) -> list[int]:
    """Tokens of pairs between two bounds, in no order.

    Args:
        documents: How many.
        shortest: The lower bound.
        longest: The upper bound.
    """
    rng = random.Random(2)
    return [rng.randint(shortest, longest) for _ in range(documents)]


class Texts:
    """Makes texts of an exact number of tokens, of words that are one token each."""

    def __init__(self) -> None:
        tokenizer = Tokenizer.from_file(str(embedded_model_folder() / "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        words = sorted(w for w in tokenizer.get_vocab() if w.isalpha() and w.isascii())
        self._words = [w for w in words if len(w) > 3 and w.islower()]
        self._rng = random.Random(3)

    def of(self, tokens: int) -> str:
        """A text of that many tokens."""
        return " ".join(self._rng.choice(self._words) for _ in range(tokens))

    def pairs(self, lengths: Sequence[int]) -> tuple[str, list[str]]:
        """A query, and documents that make pairs of these lengths with it.

        Args:
            lengths: Tokens of the pairs, with the query and three special tokens.
        """
        query = self.of(QUERY_TOKENS)
        return query, [self.of(length - QUERY_TOKENS - 3) for length in lengths]

"""Progress of a call on this machine, in tokens, while some texts are not tokenized yet."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

from .base import OnScored, Progress


class TokenProgress:
    """Counter of the tokens of pairs, with an estimate for documents not yet tokenized.

    The estimate takes the number of tokens per character from the documents that are tokenized.

    Args:
        on_scored: Called at every change of the progress.
        characters: Number of characters of each document, in the order in which they are tokenized,
            longest first.
        around: Number of tokens that query and special tokens add to each document.
        longest: Longest pair in tokens; None where a longer document becomes several pairs.
    """

    def __init__(
        self,
        on_scored: OnScored,
        characters: Sequence[int],
        around: Sequence[int],
        longest: int | None,
    ) -> None:
        self._on_scored = on_scored
        self._characters = characters
        self._characters_before = [0, *accumulate(characters)]
        self._around_before = [0, *accumulate(around)]
        self._longest = longest
        self._documents = 0  # tokenized
        self._tokens_of_documents = 0
        self._tokens_of_pairs = 0
        self._computed = 0

    def tokenized(self, documents: int, tokens: int, tokens_of_pairs: int) -> None:
        """Count the next documents.

        Args:
            documents: Number of documents.
            tokens: Number of their tokens, uncut.
            tokens_of_pairs: Number of tokens in their pairs: cut, with queries and special tokens.
        """
        self._documents += documents
        self._tokens_of_documents += tokens
        self._tokens_of_pairs += tokens_of_pairs
        self._report()

    def computed(self, tokens: int) -> None:
        """Count a batch."""
        self._computed += tokens
        self._report()

    def _report(self) -> None:
        remaining = self._tokens_of_pairs - self._computed + self._untokenized()
        self._on_scored(Progress(self._computed, remaining))

    def _untokenized(self) -> int:
        """Estimate the tokens in the pairs of all documents that have not been tokenized."""
        first, end = self._documents, len(self._characters)
        if first == end:
            return 0
        characters = self._characters_before[first]
        around = self._around_before[first]
        if self._longest is None:
            # Overlaps and repeated queries count as if they were the documents' own.
            per_character = (self._tokens_of_pairs - around) / max(1, characters)
            cut = first
        else:
            per_character = self._tokens_of_documents / max(1, characters)
            room = self._longest - around / first  # beside a query of average length
            longest_whole = room / max(per_character, 1e-9)
            cut = bisect_left(
                self._characters, -longest_whole, lo=first, key=lambda characters: -characters
            )
        whole = per_character * (self._characters_before[end] - self._characters_before[cut])
        beside = self._around_before[end] - self._around_before[cut]
        return (cut - first) * (self._longest or 0) + round(whole) + beside

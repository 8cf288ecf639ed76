"""`Bm25Scorer`: BM25 with the word statistics of a collection."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import threading
from collections import Counter
from collections.abc import Collection, Sequence
from functools import cached_property
from importlib import import_module
from types import ModuleType
from typing import Any

from .._installed import check_installed, missing
from ..errors import ConfigurationError
from ..ranking import Usage
from .base import OnScored, Progress, ScoreRequest, ScoreResponse, refuse_options


class Bm25Scorer:
    """Scores with BM25 as in Anserini, with word frequencies of a collection; see `Bm25Index`.

    A document need not be part of the collection. Scores are 0 or more; a document that shares no
    word with the query has 0. The index is built at the first call or by `warm_up`.

    Args:
        collection: The texts in which words are counted; a text that is there twice counts twice.

    Raises:
        ConfigurationError: `collection` is a single string. From `warm_up` and `score`: the extra
            `eval` is missing.
    """

    model = "bm25"

    def __init__(self, collection: Collection[str]) -> None:
        if isinstance(collection, str):
            raise ConfigurationError("collection must be texts, not one text; write [text]")
        self._texts = tuple(collection)
        self._index: Bm25Index | None = None
        self._fingerprint: str | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Bm25Scorer({len(self._texts):,} documents)"

    @property
    def fingerprint(self) -> str:
        """The texts and the package's version, see `CacheableScorer`."""
        if self._fingerprint is None:
            from .. import __version__

            digest = hashlib.sha256()
            for text in self._texts:
                digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
            self._fingerprint = json.dumps(
                {
                    "jina_rerank": __version__,
                    "scorer": type(self).__name__,
                    "collection": digest.hexdigest(),
                }
            )
        return self._fingerprint

    @property
    def listwise(self) -> bool:
        """False: words are counted in the collection, not in the documents of a call."""
        return False

    def check_installed(self) -> None:
        """Check now, and not at the first call, that the packages are installed.

        Raises:
            ConfigurationError: A package is missing.
        """
        check_installed(("bm25s", "Stemmer"), "BM25", "eval")

    def warm_up(self) -> None:
        """Build the index. Idempotent.

        Raises:
            ConfigurationError: The extra `eval` is missing.
        """
        self._built()

    async def awarm_up(self) -> None:
        """`warm_up` without blocking the event loop."""
        await asyncio.to_thread(self._built)

    def score(
        self, requests: Sequence[ScoreRequest], on_scored: OnScored | None = None
    ) -> list[ScoreResponse]:
        """Score every document of every request; see `Scorer.score`. No document is cut.

        Raises:
            ConfigurationError: The extra `eval` is missing.
        """
        refuse_options(requests, "BM25")
        index = self._built()
        sizes = [sum(len(text) // 4 + 1 for text in one.documents) for one in requests]
        responses = []
        for number, one in enumerate(requests, 1):
            scores = index.score_texts(one.query, one.documents)
            usage = Usage(len(scores), truncated_documents=0, truncated_query_tokens=0)
            responses.append(ScoreResponse(scores, usage))
            if on_scored is not None:
                on_scored(Progress(sum(sizes[:number]), sum(sizes[number:])))
        return responses

    async def ascore(
        self, requests: Sequence[ScoreRequest], on_scored: OnScored | None = None
    ) -> list[ScoreResponse]:
        """`score` without blocking the event loop; cancelling it stops after the query at hand."""
        responses = []
        for one in requests:
            responses += await asyncio.to_thread(self.score, [one], on_scored)
        return responses

    def close(self) -> None:
        """Release the index; the next call builds it again. Idempotent."""
        self._index = None

    async def aclose(self) -> None:
        """`close`; it never blocks."""
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_index": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update({**state, "_lock": threading.Lock()})

    def _built(self) -> Bm25Index:
        with self._lock:
            if self._index is None:
                self._index = Bm25Index(self._texts)
            return self._index


class Bm25Index:
    """BM25 as in Anserini: k1 0.9, b 0.4, English stop words left out, words stemmed.

    Robertson and Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond (2009), in
    Lucene's variant, computed by bm25s, with its English stop words and Snowball's stemmer.

    Args:
        texts: The documents.

    Raises:
        ConfigurationError: The extra `eval` is missing.
    """

    K1 = 0.9
    B = 0.4

    def __init__(self, texts: Sequence[str]) -> None:
        self._bm25s = _import("bm25s")
        self._stemmer = _import("Stemmer").Stemmer("english")
        self._texts = texts
        self._index: Any = None
        words = self._tokenize(list(texts))
        self._mean_length = sum(map(len, words)) / max(1, len(words))
        # bm25s divides by the mean length, which is zero where no document has a word.
        if any(words):
            self._index = self._bm25s.BM25(k1=self.K1, b=self.B, method="lucene")
            self._index.index(words, show_progress=False)

    def search(self, query: str, depth: int) -> dict[int, float]:
        """Find the best documents that share a word with the query: scores by place, best first.

        Args:
            query: The question.
            depth: Largest number of documents.
        """
        import numpy as np

        scores = self._scores(self._words(query))
        matching = np.flatnonzero(scores > 0)
        if len(matching) > depth:
            worst = np.partition(scores[matching], -depth)[-depth]
            matching = matching[scores[matching] >= worst]
        best = matching[np.argsort(-scores[matching], kind="stable")][:depth]
        return {int(place): float(scores[place]) for place in best}

    def score_texts(self, query: str, texts: Sequence[str]) -> list[float]:
        """Score texts; a text that shares no word with the query has 0.

        Args:
            query: The question.
            texts: Documents of the index, or others, which are scored with its statistics.
        """
        words = self._words(query)
        known = self._scores(words) if any(text in self._places for text in texts) else None
        return [
            float(known[self._places[text]])
            if known is not None and text in self._places
            else self._score_unknown(words, self._words(text))
            for text in texts
        ]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {text: place for place, text in enumerate(self._texts)}

    def _score_unknown(self, query: Sequence[str], words: Sequence[str]) -> float:
        """Score a document that is not in the index, by Lucene's formula."""
        counts = Counter(words)
        norm = self.K1 * (1 - self.B + self.B * len(words) / (self._mean_length or 1))
        return sum(
            self._rarity(word) * counts[word] / (counts[word] + norm)
            for word in query
            if word in counts
        )

    def _rarity(self, word: str) -> float:
        """Compute a word's inverse document frequency; 0 for a word that no document holds."""
        number = None if self._index is None else self._index.vocab_dict.get(word)
        if number is None:
            return 0.0
        starts = self._index.scores["indptr"]
        having = int(starts[number + 1]) - int(starts[number])
        return math.log(1 + (len(self._texts) - having + 0.5) / (having + 0.5))

    def _scores(self, words: Sequence[str]) -> Any:  # noqa: ANN401 - an array
        import numpy as np

        # bm25s would raise an IndexError for a query without words, or with stop words only.
        if not words or self._index is None:
            return np.zeros(len(self._texts), dtype=np.float32)
        return self._index.get_scores(list(words))

    def _words(self, text: str) -> list[str]:
        (words,) = self._tokenize([text])
        return words

    def _tokenize(self, texts: list[str]) -> list[list[str]]:
        words: list[list[str]] = self._bm25s.tokenize(
            texts, stopwords="en", stemmer=self._stemmer, return_ids=False, show_progress=False
        )
        return words


def _import(module: str) -> ModuleType:
    try:
        return import_module(module)
    except ImportError as error:
        raise missing(error.name, "BM25", "eval") from error

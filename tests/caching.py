"""Scorers and questions for the tests of `CachedScorer`."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from hypothesis import strategies as st

from jina_rerank import (
    CachedScorer,
    ScoreRequest,
    ScoreResponse,
    Usage,
)
from jina_rerank.testing import FakeScorer

QUERY = "what is panda?"
DOCUMENTS = ["a bear of china", "what a panda is", "panda", "", "the capital of france"]


class Detailed(FakeScorer):
    """Fills the columns named in `columns`, each by the texts of the pair alone."""

    def __init__(self, columns: Sequence[str] = ("logits", "tokens", "truncated_tokens")) -> None:
        super().__init__(lambda query, document: len(query) + len(document) / 7)
        self.columns = columns

    def score(self, requests, on_scored=None):
        responses = super().score(requests, on_scored)
        return [self._detailed(*both) for both in zip(requests, responses, strict=True)]

    def _detailed(self, request: ScoreRequest, response: ScoreResponse) -> ScoreResponse:
        lengths = [len(document) for document in request.documents]
        columns = {
            "logits": [length / 3 for length in lengths],
            "tokens": lengths,
            "truncated_tokens": [max(0, length - 2) for length in lengths],
        }
        cut = sum(length > 2 for length in lengths) if "truncated_tokens" in self.columns else None
        usage = Usage(len(lengths), sum(lengths), cut, len(request.query) - 1)
        return replace(response, usage=usage, **{name: columns[name] for name in self.columns})


class Scripted(FakeScorer):
    """Changes its answers as told."""

    change: Callable[[ScoreRequest, ScoreResponse], ScoreResponse]

    def __init__(self, change: Callable[[ScoreRequest, ScoreResponse], ScoreResponse]) -> None:
        super().__init__(lambda query, document: float(len(document)))
        self.change = change

    def score(self, requests, on_scored=None):
        responses = super().score(requests, on_scored)
        return [self.change(*both) for both in zip(requests, responses, strict=True)]


def by_length(**settings: str | bool) -> FakeScorer:
    return FakeScorer(lambda query, document: float(len(document)), **settings)


def ask(scorer: CachedScorer, *documents: str, query: str = QUERY) -> ScoreResponse:
    (response,) = scorer.score([ScoreRequest(query, list(documents))])
    return response


def pairs(requests: Sequence[ScoreRequest]) -> list[tuple[str, str]]:
    return [(request.query, document) for request in requests for document in request.documents]


def rows_in(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT count(*) FROM scores").fetchone()[0]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


requests_strategy = st.builds(
    ScoreRequest,
    query=st.sampled_from(["q", "qq", "qqq"]),
    documents=st.lists(st.sampled_from(["", "a", "bb", "ccc", "dddd", "\u00e9", "a" * 5000])),
)
calls_strategy = st.lists(st.lists(requests_strategy, max_size=4), max_size=6)
columns_strategy = st.sets(st.sampled_from(["logits", "tokens", "truncated_tokens"]))

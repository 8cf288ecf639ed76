import asyncio
import os

# Before Haystack is imported: its telemetry would look for the internet.
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"

import pytest
from haystack import Document

from haystack_integrations.components.rankers.jina_rerank import JinaRanker
from jina_rerank import Reranker
from jina_rerank.testing import FakeScorer


def last_number(query, document):
    return float(document.split()[-1])


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("JINA_API_KEY", raising=False)
    monkeypatch.delenv("JINAAI_API_KEY", raising=False)


@pytest.fixture
def scorer():
    """Takes the number at the end of a document for its score."""
    return FakeScorer(last_number)


@pytest.fixture
def ranker(scorer):
    return JinaRanker(reranker=Reranker(scorer))


@pytest.fixture(params=["run", "run_async"])
def run(request):
    """Runs a ranker, once by each of its two methods."""

    def call(ranker, query, documents, **limits):
        if request.param == "run":
            return ranker.run(query, documents, **limits)
        return asyncio.run(ranker.run_async(query, documents, **limits))

    return call


@pytest.fixture
def numbered():
    """Twelve documents, neither in order nor in reverse."""
    numbers = [3, 11, 0, 7, 5, 9, 1, 10, 4, 8, 2, 6]
    return [Document(id=f"d{n}", content=f"number {n}", meta={"n": n}) for n in numbers]

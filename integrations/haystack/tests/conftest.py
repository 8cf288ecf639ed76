import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

# Before Haystack is imported: its telemetry would look for the internet.
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"

import dialect_answers
import pytest
from faults import FaultServer
from haystack import Document

from haystack_integrations.components.rankers.jina_rerank import JinaRanker
from jina_rerank import Reranker
from jina_rerank.testing import FakeScorer


def last_number(query, document):
    return float(document.split()[-1])


def pytest_runtest_setup(item):
    if item.get_closest_marker("torch"):
        pytest.importorskip("torch", reason="needs a model that runs in torch")


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


@pytest.fixture
def server():
    with FaultServer() as server:
        yield server


@pytest.fixture
def remote(server):
    """Builds rankers that ask the server."""

    def build(**settings):
        return JinaRanker(**{"backend": "remote", "base_url": server.url, **settings})

    return build


@dataclass
class Backend:
    """One way of scoring: what builds a ranker for it, and what its scores are known to be."""

    model: str
    build: Callable[..., JinaRanker]
    scores: Callable[[str, list[str]], list[float]]

    def best(self, query, documents):
        """The ids in the order in which they must come."""
        scores = self.scores(query, [document.content for document in documents])
        order = sorted(range(len(documents)), key=lambda i: -scores[i])
        return [documents[i].id for i in order]


@pytest.fixture(params=["local", "remote"])
def backend(request):
    """The embedded model, and a service."""
    if request.param == "local":
        return Backend("jina-rerank-mini", JinaRanker, Reranker().score)

    def scores(query, texts):
        return [dialect_answers.score(query, text) for text in texts]

    return Backend("jina-reranker-v3.5", request.getfixturevalue("remote"), scores)


@pytest.fixture(params=["run", "run_async"])
def run(request):
    """Runs a ranker, once by each of its two methods."""

    def call(ranker, query, documents, **limits):
        if request.param == "run":
            return ranker.run(query, documents, **limits)
        return asyncio.run(ranker.run_async(query, documents, **limits))

    return call


@pytest.fixture(params=["run", "run_async"])
def execute(request):
    """Runs a pipeline, once by each of its two methods."""

    def call(pipeline, data, **options):
        if request.param == "run":
            return pipeline.run(data, **options)
        return asyncio.run(pipeline.run_async(data, **options))

    return call


@pytest.fixture
def eventually():
    """Waits until something is so, and says whether it came to be."""

    def wait(is_so):
        until = time.monotonic() + 20
        while not is_so() and time.monotonic() < until:
            time.sleep(0.005)
        return is_so()

    return wait


@pytest.fixture
def numbered():
    """Twelve documents, neither in order nor in reverse."""
    numbers = [3, 11, 0, 7, 5, 9, 1, 10, 4, 8, 2, 6]
    return [Document(id=f"d{n}", content=f"number {n}", meta={"n": n}) for n in numbers]

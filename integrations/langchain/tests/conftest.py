"""Fixtures of this plugin's tests: documents, a retriever, a service, and two backends."""

import asyncio
import json
from dataclasses import dataclass, field

import dialect_answers
import pytest
from faults import JSON, FaultServer, Whole
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from loopback import Answer

from jina_rerank import Reranker
from jina_rerank.testing import FakeScorer
from langchain_jina_rerank import JinaRerank

QUERY = "how to store coffee beans"
KEY = "jina_secret-0123456789"


class ListRetriever(BaseRetriever):
    """A retriever that needs no index: it retrieves all its documents, whatever the query."""

    documents: list[Document]

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        return list(self.documents)


def pytest_runtest_setup(item):
    if item.get_closest_marker("torch"):
        pytest.importorskip("torch", reason="needs a model that runs in torch")


@pytest.fixture
def documents():
    return [
        Document(id="a", page_content="grind the beans finely", metadata={"source": "a.md"}),
        Document(id="b", page_content="store roasted coffee beans dry", metadata={"page": 0}),
        Document(id="c", page_content="water at 94 degrees"),
    ]


@pytest.fixture
def retriever(documents):
    return ListRetriever(documents=documents)


@pytest.fixture(autouse=True)
def no_key_in_the_environment(monkeypatch):
    monkeypatch.delenv("JINA_API_KEY", raising=False)
    monkeypatch.delenv("JINAAI_API_KEY", raising=False)


@pytest.fixture
def service():
    """A rerank service. One for each test, since retries are counted for each address."""
    with FaultServer() as server:
        yield server


@pytest.fixture
def remote(service):
    """Makes a compressor for the service."""
    return lambda **settings: JinaRerank(backend="remote", base_url=service.url, **settings)


@pytest.fixture(params=["sync", "async"])
def search(request, retriever):
    """Searches by a retriever around a compressor, in both ways."""

    async def call(compressor):
        reranking = ContextualCompressionRetriever(
            base_compressor=compressor, base_retriever=retriever
        )
        if request.param == "sync":
            # In a thread, so that a test can limit how long it waits.
            return await asyncio.to_thread(reranking.invoke, QUERY)
        return await reranking.ainvoke(QUERY)

    return call


@dataclass
class Backend:
    """Where the model runs, and what is right there, found out without the plugin."""

    name: str
    model: str
    settings: dict[str, object] = field(default_factory=dict)

    def ranking(self, query, documents):
        """Pairs of document and score, best first."""
        texts = [document.page_content for document in documents]
        if self.name == "local":
            scores = Reranker().score(query, texts)
        else:
            scores = [dialect_answers.score(query, text) for text in texts]
        pairs = zip(documents, scores, strict=True)
        return sorted(pairs, key=lambda pair: pair[1], reverse=True)

    def order(self, query, documents):
        return [document.id for document, _ in self.ranking(query, documents)]

    def tokens(self, query, documents):
        texts = [document.page_content for document in documents]
        if self.name == "local":
            return Reranker().rank(query, texts).usage.tokens
        return dialect_answers.count_tokens(query, texts)


@pytest.fixture(params=["local", "remote"])
def backend(request):
    """The embedded model, and a service."""
    if request.param == "local":
        return Backend("local", "jina-rerank-mini")
    url = request.getfixturevalue("service").url
    settings = {"backend": "remote", "base_url": url, "api_key": KEY}
    return Backend("remote", "jina-reranker-v3.5", settings)


class ByNumber(Whole):
    """To this service a document's text is its score."""

    def whole(self, request):
        scores = map(float, request.json["documents"])
        results = [{"index": i, "relevance_score": score} for i, score in enumerate(scores)]
        return Answer(200, json.dumps({"results": results}).encode(), JSON)


@pytest.fixture(params=["here", "remote"])
def by_number(request):
    """Makes a compressor to which a document's text is its score."""
    if request.param == "here":
        scorer = FakeScorer(lambda _query, document: float(document))
        return lambda **settings: JinaRerank(reranker=Reranker(scorer), **settings)
    service = request.getfixturevalue("service")
    service.default = ByNumber()
    return lambda **settings: JinaRerank(backend="remote", base_url=service.url, **settings)

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from dialect_answers import Shape, right_payload, score
from faults import FaultServer, Status, Whole
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.schema import NodeWithScore, TextNode

from jina_rerank import RemoteScorer, Reranker
from jina_rerank.testing import FakeScorer
from llama_index.postprocessor.jina_rerank import JinaRerank

KEY = "jina_0123456789abcdef"


@dataclass(frozen=True)
class Backend:
    """Where scores come from, and which ones they will be.

    Attributes:
        model: What it calls itself.
        settings: Those of a `JinaRerank` that asks it.
        scores: From a query and texts to the scores in the same order, by another way.
        reranker: A hand-built reranker that asks it.
    """

    model: str
    settings: dict[str, Any]
    scores: Callable[[str, Sequence[str]], list[float]]
    reranker: Callable[[], Reranker]

    @property
    def is_remote(self) -> bool:
        return self.settings.get("backend") == "remote"

    def build(self, **settings: Any) -> JinaRerank:
        return JinaRerank(**self.settings, **settings)

    def ranked(self, query: str, texts: Sequence[str]) -> list[tuple[str, float]]:
        pairs = zip(texts, self.scores(query, texts), strict=True)
        return sorted(pairs, key=lambda pair: -pair[1])

    def best_first(self, query: str, texts: Sequence[str]) -> list[str]:
        return [text for text, _ in self.ranked(query, texts)]


@dataclass(frozen=True)
class ScoredBy(Whole):
    """A right answer whose scores are a function of the query and each document."""

    score: Callable[[str, str], float]

    def whole(self, request):
        payload = right_payload("jina", request.json, Shape())
        for result in payload["results"]:
            document = request.json["documents"][result["index"]]
            result["relevance_score"] = self.score(request.json["query"], document)
        return Status(200, payload).whole(request)


class Service(FaultServer):
    """A rerank service; by default its scores are those of `dialect_answers.score`."""

    def score_by(self, score: Callable[[str, str], float]) -> None:
        self.default = ScoredBy(score)


def pytest_runtest_setup(item):
    if item.get_closest_marker("torch"):
        pytest.importorskip("torch", reason="needs a model that runs in torch")


@pytest.fixture(autouse=True)
def no_key_in_the_environment(monkeypatch):
    monkeypatch.delenv("JINA_API_KEY", raising=False)
    monkeypatch.delenv("JINAAI_API_KEY", raising=False)


@pytest.fixture
def server() -> Iterator[Service]:
    with Service() as server:
        yield server


@pytest.fixture
def remote(server):
    """A `JinaRerank` to build with any settings, that asks the server."""

    def build(**settings: Any) -> JinaRerank:
        defaults = {"backend": "remote", "base_url": server.url, "api_key": KEY}
        return JinaRerank(**{**defaults, **settings})

    return build


@pytest.fixture(params=["local", "remote"])
def backend(request):
    """The embedded model, and then the server."""
    if request.param == "local":
        embedded = request.getfixturevalue("embedded")
        return Backend("jina-rerank-mini", {}, embedded.score, lambda: embedded)
    url = request.getfixturevalue("server").url
    return Backend(
        "jina-reranker-v3.5",
        {"backend": "remote", "base_url": url, "api_key": KEY},
        lambda query, texts: [score(query, text) for text in texts],
        lambda: Reranker(RemoteScorer(base_url=url, api_key=KEY)),
    )


@pytest.fixture(params=["fake", "remote"])
def scored_by(request):
    """A `JinaRerank` to build with any settings and scores: without a model, or by the server."""

    def fake(score: Callable[[str, str], float], **settings: Any) -> JinaRerank:
        return JinaRerank(reranker=Reranker(FakeScorer(score)), **settings)

    if request.param == "fake":
        return fake
    server, remote = request.getfixturevalue("server"), request.getfixturevalue("remote")

    def by_the_server(score: Callable[[str, str], float], **settings: Any) -> JinaRerank:
        server.score_by(score)
        return remote(**settings)

    return by_the_server


class EventLog(BaseEventHandler):
    """Keeps every event of LlamaIndex's instrumentation."""

    seen: list[Any] = []  # noqa: RUF012 - pydantic copies it

    def handle(self, event: Any, **_: Any) -> None:
        self.seen.append(event)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.seen if isinstance(event, kind)]


@pytest.fixture
def events():
    root, log = get_dispatcher("root"), EventLog()
    before = list(root.event_handlers)
    root.add_event_handler(log)
    yield log
    root.event_handlers = before


@pytest.fixture
def spans():
    root, handler = get_dispatcher("root"), SimpleSpanHandler()
    before = list(root.span_handlers)
    root.add_span_handler(handler)
    yield handler
    root.span_handlers = before


@pytest.fixture
def numbers():
    """Nodes whose text is the score that `by_number` gives them; the retriever's disagrees."""
    scores = {"0.2": 9.0, "0.9": 7.0, "0.5": 5.0, "0.1": 3.0}
    return [NodeWithScore(node=TextNode(text=t), score=s) for t, s in scores.items()]


@pytest.fixture
def by_number(scored_by):
    """A `JinaRerank` to build with any settings, whose scores are the numbers in the texts."""
    return lambda **settings: scored_by(lambda _, text: float(text), **settings)


@pytest.fixture(scope="session")
def embedded():
    """The embedded model, loaded once for all tests."""
    reranker = Reranker()
    reranker.warm_up()
    return reranker

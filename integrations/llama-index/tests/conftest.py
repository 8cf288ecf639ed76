from __future__ import annotations

from typing import Any

import pytest
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.schema import NodeWithScore, TextNode

from jina_rerank import Reranker
from jina_rerank.testing import FakeScorer
from llama_index.postprocessor.jina_rerank import JinaRerank


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
def by_number():
    """A `JinaRerank` to build with any settings, whose scores are the numbers in the texts."""

    def build(**settings: Any) -> JinaRerank:
        scorer = FakeScorer(lambda _, text: float(text))
        return JinaRerank(reranker=Reranker(scorer), **settings)

    return build


@pytest.fixture(scope="session")
def embedded():
    """The embedded model, loaded once for all tests."""
    reranker = Reranker()
    reranker.warm_up()
    return reranker

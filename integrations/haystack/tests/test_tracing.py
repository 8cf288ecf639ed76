import asyncio
import contextlib
from contextvars import ContextVar

import pytest
from haystack import Document, Pipeline, tracing
from haystack.tracing.logging_tracer import LoggingTracer

from haystack_integrations.components.rankers.jina_rerank import JinaRanker
from jina_rerank import Reranker
from jina_rerank.testing import FakeScorer


class RecordingSpan(tracing.Span):
    def __init__(self, tags):
        self.tags = dict(tags or {})

    def set_tag(self, key, value):
        self.tags[key] = value


class RecordingTracer(tracing.Tracer):
    """Keeps all spans, and knows the current one as OpenTelemetry does."""

    def __init__(self):
        self.spans = []
        self._current = ContextVar("current", default=None)

    @contextlib.contextmanager
    def trace(self, operation_name, tags=None, parent_span=None):
        span = RecordingSpan(tags)
        self.spans.append(span)
        token = self._current.set(span)
        try:
            yield span
        finally:
            self._current.reset(token)

    def current_span(self):
        return self._current.get()


@pytest.fixture
def tracer():
    tracer = RecordingTracer()
    tracing.enable_tracing(tracer)
    yield tracer
    tracing.disable_tracing()


def ours(span):
    return {key: tag for key, tag in span.tags.items() if key.startswith("jina_rerank.")}


@pytest.mark.parametrize("how", ["run", "run_async"])
def test_the_components_span_carries_our_tags(tracer, how):
    pipeline = Pipeline()
    pipeline.add_component("first", JinaRanker(top_k=2))
    scorer = FakeScorer(degraded="second best")
    pipeline.add_component("second", JinaRanker(top_k=None, reranker=Reranker(scorer)))
    pipeline.connect("first.documents", "second.documents")
    documents = [Document(content=f"coffee {i}") for i in range(3)]
    data = {"first": {"query": "coffee", "documents": documents}, "second": {"query": "coffee"}}
    if how == "run":
        pipeline.run(data)
    else:
        asyncio.run(pipeline.run_async(data))

    spans = {span.tags.get("haystack.component.name"): span for span in tracer.spans}
    tags = ours(spans["first"])
    assert tags.pop("jina_rerank.usage.tokens") > 0
    assert tags == {
        "jina_rerank.model": "jina-rerank-mini",
        "jina_rerank.top_k": 2,
        "jina_rerank.usage.documents": 3,
        "jina_rerank.usage.truncated_documents": 0,
        "jina_rerank.usage.truncated_query_tokens": 0,
    }
    assert ours(spans["second"]) == {
        "jina_rerank.model": "fake",
        "jina_rerank.usage.documents": 2,
        "jina_rerank.degraded": "second best",
    }
    assert not ours(spans[None])


def test_no_span_is_fine(run):
    tracing.enable_tracing(LoggingTracer())  # its current_span() is always None
    try:
        assert tracing.tracer.current_span() is None
        assert run(JinaRanker(), "coffee", [Document(content="coffee")])["documents"]
    finally:
        tracing.disable_tracing()


def test_the_query_and_the_documents_are_in_no_tag(tracer, run, ranker):
    with tracer.trace("outside") as span:
        run(ranker, "a private query", [Document(content="a private document 1")])
    assert ours(span)
    assert "private" not in repr(ours(span))

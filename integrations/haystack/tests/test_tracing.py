import contextlib
from contextvars import ContextVar

import pytest
from haystack import Document, Pipeline, tracing
from haystack.tracing.logging_tracer import LoggingTracer

from haystack_integrations.components.rankers.jina_rerank import JinaRanker
from jina_rerank import Reranker, RetrievalOrder
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


def test_the_components_span_carries_our_tags(tracer, execute, backend):
    pipeline = Pipeline()
    pipeline.add_component("first", backend.build(top_k=2))
    scorer = FakeScorer(degraded="second best")
    pipeline.add_component("second", JinaRanker(top_k=None, reranker=Reranker(scorer)))
    pipeline.connect("first.documents", "second.documents")
    documents = [Document(content=f"coffee {i}") for i in range(3)]
    data = {"first": {"query": "coffee", "documents": documents}, "second": {"query": "coffee"}}
    execute(pipeline, data)

    spans = {span.tags.get("haystack.component.name"): span for span in tracer.spans}
    tags = ours(spans["first"])
    assert tags.pop("jina_rerank.usage.tokens") > 0
    told_by_local_models = {
        "jina_rerank.usage.truncated_documents": 0,
        "jina_rerank.usage.truncated_query_tokens": 0,
    }
    assert tags == {
        "jina_rerank.model": backend.model,
        "jina_rerank.top_k": 2,
        "jina_rerank.usage.documents": 3,
        **(told_by_local_models if backend.model == "jina-rerank-mini" else {}),
    }
    assert ours(spans["second"]) == {
        "jina_rerank.model": "fake",
        "jina_rerank.usage.documents": 2,
        "jina_rerank.degraded": "second best",
    }
    assert not ours(spans[None])


def test_how_many_nothing_has_scored_is_a_tag(tracer, run):
    ranker = JinaRanker(reranker=Reranker(RetrievalOrder()))
    with tracer.trace("outside") as span:
        run(ranker, "coffee", [Document(content="coffee"), Document(content="tea")])
    assert ours(span)["jina_rerank.unscored"] == 2
    assert ours(span)["jina_rerank.degraded"] == "the order of retrieval was kept"


def test_no_span_is_fine(run, backend):
    tracing.enable_tracing(LoggingTracer())  # its current_span() is always None
    try:
        assert tracing.tracer.current_span() is None
        assert run(backend.build(), "coffee", [Document(content="coffee")])["documents"]
    finally:
        tracing.disable_tracing()


def test_the_query_and_the_documents_are_in_no_tag(tracer, run, backend):
    with tracer.trace("outside") as span:
        run(backend.build(), "a private query", [Document(content="a private document 1")])
    assert ours(span)
    assert "private" not in repr(ours(span))

"""Traces for OpenTelemetry; nothing is traced if it is not installed.

A request is a span of kind SERVER that continues the client's trace. Its ranking is a span within
it, with OpenInference's attributes for rerankers
(https://github.com/Arize-ai/openinference/blob/main/spec/semantic_conventions.md) except for those
that hold texts: a trace contains no data that a client has sent.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from .._installed import missing
from ..ranking import Ranking

try:
    from opentelemetry import propagate, trace
except ImportError:
    _INSTALLED = False
else:
    _INSTALLED = True

logger = logging.getLogger(__name__)

SCOPE = "jina_rerank.server"

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""OpenTelemetry's variables with the address for traces; without them no traces are exported."""

OnAnswered = Callable[[str, int], None]
"""Function that receives the route and the status of a response."""

OnRanked = Callable[[Ranking], None]
"""Function that receives the ranking."""


@contextmanager
def answering(method: str, headers: Mapping[str, str], request_id: str) -> Iterator[OnAnswered]:
    """Open the span of a request for the time of the block."""
    if not _INSTALLED:
        with not_traced() as answered:
            yield answered
        return
    with trace.get_tracer(SCOPE).start_as_current_span(
        method,
        context=propagate.extract(headers),
        kind=trace.SpanKind.SERVER,
        attributes={"http.request.method": method, "jina_rerank.request_id": request_id},
        # The text of an exception may quote what a client has sent.
        record_exception=False,
        set_status_on_exception=False,
    ) as span:

        def answered(route: str, status: int) -> None:
            span.update_name(f"{method} {route}")
            span.set_attributes({"http.route": route, "http.response.status_code": status})
            if status >= 500:
                span.set_status(trace.StatusCode.ERROR)

        yield answered


@contextmanager
def not_traced() -> Iterator[OnAnswered]:
    """Return the same as `answering`, without a span."""
    yield lambda route, status: None


@contextmanager
def ranking(model: str, documents: int, top_n: int | None) -> Iterator[OnRanked]:
    """Open the span of a ranking for the time of the block.

    Args:
        model: Served name of the model.
        documents: Number of documents.
        top_n: Number of documents to return; None for all.
    """
    if not _INSTALLED:
        yield lambda ranked: None
        return
    with trace.get_tracer(SCOPE).start_as_current_span(
        "rerank",
        attributes={
            "openinference.span.kind": "RERANKER",
            "reranker.model_name": model,
            "reranker.top_k": documents if top_n is None else top_n,
            "jina_rerank.documents": documents,
        },
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield lambda ranked: span.set_attributes(_cost(ranked))
        except BaseException as error:
            span.set_status(trace.StatusCode.ERROR)
            span.set_attribute("error.type", type(error).__name__)
            raise


def _cost(ranked: Ranking) -> dict[str, int | float]:
    found: dict[str, int | float | None] = {
        "jina_rerank.tokens": ranked.usage.tokens,
        "jina_rerank.truncated_documents": ranked.usage.truncated_documents,
    }
    if ranked.timings is not None:
        found["jina_rerank.queue_seconds"] = ranked.timings.waiting
        found["jina_rerank.tokenization_seconds"] = ranked.timings.tokenizing
        found["jina_rerank.compute_seconds"] = ranked.timings.computing
    return {name: value for name, value in found.items() if value is not None}


@contextmanager
def exported(environment: Mapping[str, str] | None = None) -> Iterator[None]:
    """Export this process's spans for the time of the block, as the environment configures it.

    OpenTelemetry's variables apply: `OTEL_EXPORTER_OTLP_ENDPOINT` or
    `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_SERVICE_NAME`,
    `OTEL_TRACES_SAMPLER` and so on. The end of the block exports the remaining spans.

    Args:
        environment: Environment variables; None for those of this process.

    Raises:
        ConfigurationError: An endpoint is set, and the extra is missing.
    """
    environment = os.environ if environment is None else environment
    wanted = [name for name in ENDPOINTS if environment.get(name)]
    if not wanted or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        yield
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise missing(error.name, f"what {wanted[0]} asks for", "tracing") from error
    name = environment.get("OTEL_SERVICE_NAME", "jina-rerank")
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    logger.info("traces are exported")
    try:
        yield
    finally:
        provider.shutdown()

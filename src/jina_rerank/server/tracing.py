"""Traces for OpenTelemetry where it is installed; where it is not, nothing happens.

A request is a span of kind SERVER that goes on with the client's trace, and its ranking a span
within it, with the attributes that OpenInference has for rerankers
(https://github.com/Arize-ai/openinference/blob/main/spec/semantic_conventions.md) except for those
that hold texts: nothing that a client has sent is in a trace.
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
"""Where traces go, as OpenTelemetry's specification names it; without it they go nowhere."""

INSTALL = 'pip install "jina-rerank[tracing]"'

OnAnswered = Callable[[str, int], None]
"""Told the route and the status of an answer."""

OnRanked = Callable[[Ranking], None]
"""Told the ranking."""


@contextmanager
def answering(method: str, headers: Mapping[str, str], request_id: str) -> Iterator[OnAnswered]:
    """The span of a request, for the time of the block."""
    if not _INSTALLED:
        with not_traced() as answered:
            yield answered
        return
    with trace.get_tracer(SCOPE).start_as_current_span(
        method,
        context=propagate.extract(headers),
        kind=trace.SpanKind.SERVER,
        attributes={"http.request.method": method, "jina_rerank.request_id": request_id},
        # Its text may quote what a client has sent.
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
    """`answering` without a span."""
    yield lambda route, status: None


@contextmanager
def ranking(model: str, documents: int, top_n: int | None) -> Iterator[OnRanked]:
    """The span of a ranking, for the time of the block.

    Args:
        model: The name that is served.
        documents: How many there are.
        top_n: How many are wanted; None is all.
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
    """Send this process's spans, for the time of the block, where the environment says.

    OpenTelemetry's own variables apply: `OTEL_EXPORTER_OTLP_ENDPOINT` or the one for traces,
    `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER` and so on. The end of
    the block sends what has gathered.

    Args:
        environment: None is this process's.

    Raises:
        ConfigurationError: They are to go somewhere, and the extra is missing.
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
        raise missing(error.name, f"what {wanted[0]} asks for", INSTALL) from error
    name = environment.get("OTEL_SERVICE_NAME", "jina-rerank")
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    logger.info("traces are exported")
    try:
        yield
    finally:
        provider.shutdown()

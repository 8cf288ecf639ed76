"""The spans of `jina-rerank serve`, as a collector gets them from OpenTelemetry's own exporter."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import httpx
import pytest
from http_thread import HttpThread
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from serve_processes import is_ready, serving
from serving import until

from jina_rerank.server.tracing import exported

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
SECRET = "panda-of-a-client"


class Collector(HttpThread):
    """Takes traces over HTTP, as OTLP has them.

    Attributes:
        exports: What has come, each parsed by the protocol's own schema.
    """

    def __init__(self) -> None:
        self.exports: list[ExportTraceServiceRequest] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                outer.exports.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        super().__init__(Handler)

    def spans(self) -> list[Span]:
        return [
            span
            for export in self.exports
            for resource in export.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


def value(of: AnyValue) -> object:
    return getattr(of, of.WhichOneof("value"))


def attributes(span: Span) -> dict[str, object]:
    return {attribute.key: value(attribute.value) for attribute in span.attributes}


@pytest.fixture(scope="module")
def collected(small_checkpoint: Path) -> Iterator[Collector]:
    """Traces of two requests, one good and one bad, of a service that has ended."""
    with Collector() as collector:
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_SERVICE_NAME": "search"}
        with serving("--model", f"small={small_checkpoint}", **variables) as (process, url):
            until(lambda: is_ready(url))
            body = {"query": SECRET, "documents": [SECRET, "bear"], "top_n": 1}
            headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
            httpx.post(f"{url}/v1/rerank?q={SECRET}", json=body, headers=headers).raise_for_status()
            bad = httpx.post(f"{url}/v1/rerank", json={**body, "model": SECRET})
            assert bad.status_code == 400
            # The end of the service sends what has gathered.
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
        yield collector


def test_a_request_goes_on_with_the_clients_trace(collected: Collector) -> None:
    (span,) = (s for s in collected.spans() if s.parent_span_id.hex() == PARENT)
    assert span.trace_id.hex() == TRACE
    assert span.name == "POST /v1/rerank"
    assert span.kind == Span.SPAN_KIND_SERVER
    found = attributes(span)
    assert found["http.route"] == "/v1/rerank"
    assert found["http.response.status_code"] == 200
    (resource,) = {
        export.resource_spans[0].resource.SerializeToString() for export in collected.exports
    }
    assert b"search" in resource


def test_a_ranking_has_openinferences_attributes(collected: Collector) -> None:
    (span,) = (s for s in collected.spans() if s.name == "rerank" and s.trace_id.hex() == TRACE)
    (around,) = (s for s in collected.spans() if s.parent_span_id.hex() == PARENT)
    assert span.parent_span_id == around.span_id
    found = attributes(span)
    assert found["openinference.span.kind"] == "RERANKER"
    assert found["reranker.model_name"] == "small"
    assert found["reranker.top_k"] == 1
    assert found["jina_rerank.documents"] == 2
    assert found["jina_rerank.tokens"] > 0
    assert found["jina_rerank.compute_seconds"] > 0


def test_probes_are_not_traced(collected: Collector) -> None:
    # The fixture waited for /ready.
    routes = {attributes(span).get("http.route") for span in collected.spans()}
    assert routes == {"/v1/rerank", None}


def test_a_refusal_is_no_failure_of_the_service(collected: Collector) -> None:
    (span,) = (
        s for s in collected.spans() if attributes(s).get("http.response.status_code") == 400
    )
    assert span.status.code == Status.STATUS_CODE_UNSET


def test_nothing_that_a_client_has_sent_is_in_a_span(collected: Collector) -> None:
    assert len(collected.spans()) >= 3
    assert SECRET.encode() not in b"".join(e.SerializeToString() for e in collected.exports)


def test_a_missing_exporter_is_said_at_the_start() -> None:
    hide = "import sys; sys.modules['opentelemetry.exporter'] = None; "
    command = [sys.executable, "-c", f"{hide}from jina_rerank.cli import main; main()", "serve"]
    variables = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/"}
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=os.environ | variables, timeout=60
    )
    assert done.returncode == 2
    assert 'pip install "jina-rerank[tracing]"' in done.stderr


@pytest.mark.parametrize(
    "environment",
    [{}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"}],
)
def test_nothing_is_exported_unless_asked_for(environment: dict[str, str]) -> None:
    threads = threading.active_count()
    with exported(environment):
        assert threading.active_count() == threads

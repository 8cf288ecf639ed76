"""Metrics for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from ..ranking import Ranking
from .admission import Queue
from .limits import Bodies

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0)
SIZES = (1, 3, 10, 30, 100, 300, 1000, 3000)
TOKENS = (30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000)


class Metrics:
    """The metrics of one engine, in a separate registry, since a process may have several engines.

    No label holds a value that a client chose.

    Args:
        queue: Queue whose length is reported.
        bodies: Bodies whose size is reported.
    """

    media_type = CONTENT_TYPE_LATEST

    def __init__(self, queue: Queue, bodies: Bodies) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "jina_rerank_requests",
            "Answers, by route and HTTP status.",
            ["route", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "jina_rerank_request_seconds",
            "From the first byte of the head to the last of the answer.",
            ["route"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._rank_seconds = self._seconds_of(
            "rank", "From a place in the queue to a ranking: all that follows, together."
        )
        self._waiting = self._seconds_of("queue", "Waiting while the model had other requests.")
        self._tokenizing = self._seconds_of(
            "tokenization", "Reading and cutting texts, while nothing was computed for them."
        )
        self._computing = self._seconds_of(
            "compute", "In the model, in batches that requests may share."
        )
        # Always 0, for comparison with services that pad.
        Counter(
            "jina_rerank_padding_tokens",
            "Padding that was computed: none, batches are not padded.",
            registry=self._registry,
        )
        self._documents = Histogram(
            "jina_rerank_request_documents",
            "Documents of ranked requests.",
            ["model"],
            buckets=SIZES,
            registry=self._registry,
        )
        self._tokens = Histogram(
            "jina_rerank_request_tokens",
            "Tokens computed for ranked requests; none of them is padding.",
            ["model"],
            buckets=TOKENS,
            registry=self._registry,
        )
        self._truncated = Counter(
            "jina_rerank_truncated_documents",
            "Documents that were cut to fit.",
            ["model"],
            registry=self._registry,
        )
        self._degraded = Counter(
            "jina_rerank_degraded",
            "Degraded rankings, by the model of the request.",
            ["model"],
            registry=self._registry,
        )
        queued = Gauge(
            "jina_rerank_queued_tokens",
            "Tokens that wait or are being computed, estimated.",
            registry=self._registry,
        )
        queued.set_function(lambda: queue.tokens)
        waiting = Gauge(
            "jina_rerank_queued_requests",
            "Requests that wait or are being computed.",
            registry=self._registry,
        )
        waiting.set_function(lambda: queue.requests)
        held = Gauge(
            "jina_rerank_body_bytes",
            "Bytes of the bodies of requests that are being read or answered.",
            registry=self._registry,
        )
        held.set_function(lambda: bodies.bytes)
        speed = Gauge(
            "jina_rerank_tokens_per_second",
            "Estimated tokens done a second while there were any, lately.",
            registry=self._registry,
        )
        speed.set_function(lambda: queue.tokens_per_second or 0.0)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def ranked(self, model: str, ranking: Ranking, seconds: float) -> None:
        """Count a ranking."""
        self._rank_seconds.labels(model).observe(seconds)
        if ranking.timings is not None:
            self._waiting.labels(model).observe(ranking.timings.waiting)
            self._tokenizing.labels(model).observe(ranking.timings.tokenizing)
            self._computing.labels(model).observe(ranking.timings.computing)
        self._documents.labels(model).observe(ranking.usage.documents)
        self._tokens.labels(model).observe(ranking.usage.tokens or 0)
        self._truncated.labels(model).inc(ranking.usage.truncated_documents or 0)

    def degraded(self, model: str) -> None:
        """Count a request whose answer is degraded."""
        self._degraded.labels(model).inc()

    def _seconds_of(self, what: str, description: str) -> Histogram:
        return Histogram(
            f"jina_rerank_{what}_seconds",
            description,
            ["model"],
            buckets=SECONDS,
            registry=self._registry,
        )

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)

"""Metrics for Ray, which adds the replica and exports them to Prometheus."""

from __future__ import annotations

from ray.serve.metrics import Counter, Histogram

from ..ranking import Ranking
from ..server.admission import Queue
from ..server.limits import Bodies
from ..server.metrics import SECONDS, SIZES, TOKENS, Metrics

MODEL = ("model",)


class ReplicaMetrics(Metrics):
    """Metrics of one replica, whose ranking metrics are reported to Ray as well.

    `/metrics` is answered by an arbitrary replica, so Prometheus cannot use it here. Ray itself
    counts requests, their statuses and latencies.

    Args:
        queue: Queue whose length is reported.
        bodies: Bodies whose size is reported.
    """

    def __init__(self, queue: Queue, bodies: Bodies) -> None:
        super().__init__(queue, bodies)
        self._ray_seconds = _histogram(
            "rank_seconds", "From a place in the queue to a ranking.", SECONDS
        )
        self._ray_waiting = _histogram(
            "queue_seconds", "Waiting while the model had other requests.", SECONDS
        )
        self._ray_computing = _histogram("compute_seconds", "In the model.", SECONDS)
        self._ray_documents = _histogram(
            "request_documents", "Documents of ranked requests.", SIZES
        )
        self._ray_tokens = _histogram(
            "request_tokens", "Tokens computed for ranked requests; none is padding.", TOKENS
        )
        self._ray_truncated = Counter(
            "jina_rerank_truncated_documents", "Documents that were cut to fit.", MODEL
        )

    def ranked(self, model: str, ranking: Ranking, seconds: float) -> None:
        """Count a ranking."""
        super().ranked(model, ranking, seconds)
        tags = {"model": model}
        usage = ranking.usage
        self._ray_seconds.observe(seconds, tags)
        if ranking.timings is not None:
            self._ray_waiting.observe(ranking.timings.waiting, tags)
            self._ray_computing.observe(ranking.timings.computing, tags)
        self._ray_documents.observe(usage.documents, tags)
        self._ray_tokens.observe(usage.tokens or 0, tags)
        if usage.truncated_documents:
            self._ray_truncated.inc(usage.truncated_documents, tags)


def _histogram(name: str, description: str, boundaries: tuple[float, ...]) -> Histogram:
    return Histogram(f"jina_rerank_{name}", description, list(boundaries), MODEL)

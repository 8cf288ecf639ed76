"""A scorer that waits for a test in the middle of its work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clustering import eventually

from jina_rerank import LocalScorer
from jina_rerank.scorers.base import OnScored, ScoreRequest, ScoreResponse


class HoldingScorer(LocalScorer):
    """Scores some calls, and then none until a file is there.

    Args:
        model: As for `LocalScorer`.
        calls: How many are free, in each process.
        gate: The file.
    """

    def __init__(self, model: Path, calls: int, gate: Path) -> None:
        super().__init__(model)
        self._calls = calls
        self._gate = gate

    def score(
        self, requests: Sequence[ScoreRequest], on_scored: OnScored | None = None
    ) -> list[ScoreResponse]:
        self._calls -= 1
        if self._calls < 0:
            eventually(self._gate.exists)
        return super().score(requests, on_scored)

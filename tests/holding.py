"""A scorer that answers when a test says so, for what happens to requests in the meantime."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from jina_rerank import ScoreRequest, ScoreResponse
from jina_rerank.scorers.base import OnScored
from jina_rerank.testing import FakeScorer


class HeldScorer(FakeScorer):
    """Holds every request back until `let_go`, which the end of its block calls at the latest."""

    def __init__(self) -> None:
        super().__init__()
        self._let_go = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.let_go()

    def let_go(self) -> None:
        """Answer what is held and all that comes."""
        self._let_go.set()

    async def ascore(
        self, requests: Sequence[ScoreRequest], on_scored: OnScored | None = None
    ) -> list[ScoreResponse]:
        await asyncio.to_thread(self._let_go.wait)
        return self.score(requests, on_scored)

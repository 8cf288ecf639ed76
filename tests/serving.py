"""A service of ours on the loopback, in a thread of its own, for real clients; and a model for it
that computes when a test allows it to.
"""

from __future__ import annotations

import signal
import threading
import time
import zlib
from array import array
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from jina_rerank import Reranker
from jina_rerank.encoders import PairTokenizer, TokenPair
from jina_rerank.scorers._pair_model import PairModel
from jina_rerank.scorers.base import ModelFacts
from jina_rerank.scorers.in_process import InProcessScorer
from jina_rerank.server import Engine, ServedModel, Settings
from jina_rerank.server.run import Server

FOREVER = 10_000


class LiveService:
    """Serves from the beginning of the block to its end.

    Args:
        served: What to serve; None is what the settings name.
        settings: For `Settings`; the port is one that is free.

    Attributes:
        engine: What ranks.
        url: Where it listens, without a slash at the end.
    """

    def __init__(self, served: Sequence[ServedModel] | None = None, **settings: Any) -> None:
        self.engine = Engine(Settings(**{"port": 0, **settings}), served)
        self._server = Server(self.engine)
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listening.wait(30)
        self.url = self._server.url
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.should_exit = True
        self._thread.join()

    @property
    def ended(self) -> bool:
        """Tell whether it has ended by itself."""
        return not self._thread.is_alive()

    def terminate(self) -> None:
        """Do as SIGTERM does."""
        self._server.handle_exit(signal.SIGTERM, None)

    def join(self) -> None:
        """Wait until it has ended."""
        self._thread.join(30)
        assert self.ended

    def _run(self) -> None:
        startup = self._server.startup

        async def told(sockets: Any = None) -> None:
            await startup(sockets)
            self._listening.set()

        self._server.startup = told  # type: ignore[method-assign]
        self._server.run()


class GatedModel:
    """A cross-encoder whose logits are checksums of the pairs, and which waits for permits.

    Attributes:
        batches: How many pairs each batch had, those that failed included.
        computing: Set when a batch waits for its permit.
    """

    max_length = 512
    weights = None
    facts = ModelFacts(512, "float32")
    batch_tokens = 64

    def __init__(self, folder: Path) -> None:
        self.tokenizer = PairTokenizer.from_file(folder / "tokenizer.json")
        self.device = f"gated-{id(self)}"  # a worker of its own
        self.batches: list[int] = []
        self.computing = threading.Event()
        self._permits = threading.Semaphore(FOREVER)
        self._failing: array[int] | None = None

    def hold(self) -> None:
        """Compute nothing more without permits."""
        self._permits = threading.Semaphore(0)
        self.computing.clear()

    def release(self, batches: int = FOREVER) -> None:
        """Permit this many batches."""
        self._permits.release(batches)

    def fail_on(self, document: str) -> None:
        """Compute no batch that has this document."""
        (self._failing,) = self.tokenizer.encode([document])

    def logits(self, pairs: Sequence[TokenPair]) -> list[float]:
        self.computing.set()
        self._permits.acquire()
        self.batches.append(len(pairs))
        if self._failing is not None:
            wanted = self._failing.tobytes()
            if any(wanted in pair.input_ids.tobytes() for pair in pairs):
                raise RuntimeError("secret text of a client")
        return [zlib.crc32(pair.input_ids.tobytes()) / 2**31 - 1 for pair in pairs]


class GatedScorer(InProcessScorer):
    """Scores with a `GatedModel`."""

    def __init__(self, gated: GatedModel) -> None:
        super().__init__(
            "gated",
            source=None,
            revision=None,
            dtype="float32",
            device="cpu",
            max_length=512,
            long_documents="truncate",
        )
        self._gated = gated

    def _key(self) -> Hashable:
        return self._gated.device

    def _load(self) -> PairModel:
        return self._gated


def served(gated: GatedModel) -> list[ServedModel]:
    """The model as an engine takes it."""
    return [ServedModel("gated", Reranker(GatedScorer(gated)))]


def until(holds: Callable[[], bool]) -> None:
    """Wait for something that is bound to happen."""
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end, "it never did"
        time.sleep(0.002)

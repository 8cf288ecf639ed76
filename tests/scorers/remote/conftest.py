from collections.abc import Callable, Iterator

import pytest
from faults import FaultServer

from jina_rerank import RemoteScorer, Reranker
from jina_rerank.scorers.service import retries

KEY = "jina_0123456789abcdef"

Connect = Callable[..., Reranker]


@pytest.fixture
def server() -> Iterator[FaultServer]:
    # One for each test: the retry budget belongs to an address.
    with FaultServer() as server:
        yield server


@pytest.fixture
def connect(server: FaultServer) -> Iterator[Connect]:
    """Build rerankers that ask the server, and close them at the end."""
    opened: list[Reranker] = []

    def build(**settings) -> Reranker:
        given = {"base_url": server.url, "api_key": KEY, "timeout": 5.0} | settings
        opened.append(Reranker(RemoteScorer(**given)))
        return opened[-1]

    yield build
    for reranker in opened:
        reranker.close()


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(retries, "FIRST_WAIT_FOR_A_MINUTES_LIMIT", 0.01)


@pytest.fixture(autouse=True)
def _no_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JINA_API_KEY", raising=False)
    monkeypatch.delenv("JINAAI_API_KEY", raising=False)

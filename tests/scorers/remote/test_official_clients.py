"""Cohere's own client and ours read the same answers alike.

The official Jina integrations are compared in the tests of our integrations.
"""

import httpx
import pytest
from faults import FaultServer, Right
from loopback import Fault

DOCUMENTS = [f"document number {i}" for i in range(12)]


@pytest.mark.parametrize("answer", [Right(), Right(document="object"), Right(drop=["id", "meta"])])
def test_cohere_agrees(server: FaultServer, connect, answer: Fault) -> None:
    cohere = pytest.importorskip("cohere")
    server.default = answer
    with httpx.Client() as client:  # its own would stay open
        official = cohere.ClientV2(api_key="k" * 20, base_url=server.url, httpx_client=client)
        theirs = official.rerank(model="m", query="q", documents=DOCUMENTS, top_n=5)
    ours = connect(dialect="cohere", model="m").rank("q", DOCUMENTS, top_n=5)
    assert [(r.index, r.relevance_score) for r in theirs.results] == [
        (hit.index, hit.score) for hit in ours
    ]
    their_request, our_request = server.requests
    assert their_request.path == our_request.path
    assert their_request.json | {"top_n": None} == our_request.json | {"top_n": None}

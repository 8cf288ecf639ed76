"""Many requests at once: each gets its own scores, its turn, and nothing is computed for nobody."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from checkpoints import TEXTS
from serving import GatedModel, GatedScorer, LiveService, until

from jina_rerank import LocalScorer, Reranker
from jina_rerank.scorers.worker import worker_for

WORDS = " ".join(TEXTS).split()


def some_requests(count: int, seed: int) -> list[tuple[str, list[str]]]:
    rng = random.Random(seed)

    def text(most: int) -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(1, most)))

    return [(text(6), [text(12) for _ in range(rng.randint(1, 9))]) for _ in range(count)]


async def ask_all(
    service: LiveService, requests: list[tuple[str, list[str]]], at_once: int
) -> list[list[tuple[int, float]]]:
    places = asyncio.Semaphore(at_once)
    limits = httpx.Limits(max_connections=at_once)

    async def ask(client: httpx.AsyncClient, query: str, documents: list[str]) -> object:
        async with places:
            response = await client.post(
                "/v1/rerank",
                json={"query": query, "documents": documents, "return_documents": False},
            )
        assert response.status_code == 200, response.text
        return [(r["index"], r["relevance_score"]) for r in response.json()["results"]]

    async with httpx.AsyncClient(base_url=service.url, limits=limits, timeout=60) as client:
        return await asyncio.gather(*(ask(client, *request) for request in requests))


@pytest.mark.slow
async def test_thousands_of_interleaved_requests_are_never_mixed_up(gated, start) -> None:
    requests = some_requests(2000, seed=1)
    gated.batch_tokens = 4096  # enough for the largest of them
    service = start(max_queued_tokens=10**8)
    alone = Reranker(GatedScorer(gated)).rank_many(requests)
    gated.batches.clear()
    gated.hold()
    asking = asyncio.create_task(ask_all(service, requests, at_once=64))
    await asyncio.to_thread(waiting, service, 64)
    gated.release()
    found = await asking
    assert found == [[(hit.index, round(hit.score, 8)) for hit in ranking] for ranking in alone]
    # They did share batches, or this would have shown nothing.
    assert len(gated.batches) < len(requests)


async def test_a_real_model_scores_them_as_if_alone(small_checkpoint: Path) -> None:
    requests = some_requests(200, seed=2)
    plain = Reranker(LocalScorer(small_checkpoint))
    with LiveService(models=(f"small={small_checkpoint}",)) as service:
        found = await ask_all(service, requests, at_once=32)
    for (query, documents), results in zip(requests, found, strict=True):
        expected = dict(enumerate(plain.score(query, documents)))
        assert dict(results) == pytest.approx(expected, abs=1e-4)


def ask(service: LiveService, documents: list[str], **body) -> httpx.Response:
    given = {"query": "panda", "documents": documents, **body}
    return httpx.post(f"{service.url}/v1/rerank", json=given, timeout=60)


@pytest.fixture
def in_threads():
    with ThreadPoolExecutor(32) as pool:
        yield pool


def waiting(service: LiveService, count: int) -> None:
    """Until so many requests wait or are computed."""
    until(lambda: service.engine.queue.requests == count)


def ask_when_held(
    gated: GatedModel, service: LiveService, pool: ThreadPoolExecutor, documents: list[str]
) -> Future[httpx.Response]:
    """A request whose first batch waits for its permit."""
    gated.hold()
    first = pool.submit(ask, service, documents)
    assert gated.computing.wait(30)
    return first


def leave_after_asking(service: LiveService, documents: list[str]) -> socket.socket:
    address = urlsplit(service.url)
    connected = socket.create_connection((address.hostname, address.port))
    body = json.dumps({"query": "panda", "documents": documents}).encode()
    head = f"POST /v1/rerank HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n"
    connected.sendall(head.encode() + b"content-type: application/json\r\n\r\n" + body)
    return connected


def test_what_nobody_waits_for_is_not_computed(gated, start, in_threads) -> None:
    service = start()
    first = ask_when_held(gated, service, in_threads, ["bear"])
    gated.batches.clear()
    gone = leave_after_asking(service, ["coffee", "paris", "berlin"])
    waiting(service, 2)
    gone.close()
    waiting(service, 1)
    gated.release()
    assert first.result(30).status_code == 200
    assert ask(service, ["a", "b"]).status_code == 200
    assert gated.batches == [1, 2]
    assert "499" in httpx.get(f"{service.url}/metrics").text


def test_a_large_request_that_is_given_up_stops_where_it_is(gated, start, in_threads) -> None:
    service = start()
    gated.hold()
    gated.batches.clear()
    gone = leave_after_asking(service, ["coffee " * 5] * 300)
    assert gated.computing.wait(30)
    gone.close()
    waiting(service, 0)
    gated.release()
    assert ask(service, ["a"]).status_code == 200
    assert len(gated.batches) == 2  # what was being computed, and what came after


def test_a_small_request_need_not_wait_for_a_large_one(gated, start, in_threads) -> None:
    service = start()
    large = ask_when_held(gated, service, in_threads, ["coffee " * 5] * 300)
    small = in_threads.submit(ask, service, ["bear", "panda"])
    until(lambda: len(worker_for(gated.device)._arrived) == 1)
    # The batch that is computed now, one more of the large request, and the small one's turn.
    gated.release(3)
    assert small.result(30).status_code == 200
    assert not large.done()
    gated.release()
    assert len(large.result(30).json()["results"]) == 300


def test_what_cannot_be_computed_fails_alone(gated, start, in_threads, caplog) -> None:
    service = start()
    gated.fail_on("espresso needs")
    first = ask_when_held(gated, service, in_threads, ["bear"])
    documents = [["panda"], ["espresso needs"], ["paris", "berlin"]]
    others = [in_threads.submit(ask, service, own) for own in documents]
    waiting(service, 4)
    gated.release()
    answers = [future.result(30) for future in others]
    assert first.result(30).status_code == 200
    assert [answer.status_code for answer in answers] == [200, 500, 200]
    assert answers[1].json()["detail"]["code"] == "INTERNAL_ERROR"
    assert "secret" not in answers[1].text


def test_a_deadline_ends_it(gated, start) -> None:
    service = start(deadline=0.2)
    gated.hold()
    refused = ask(service, ["bear"])
    assert refused.status_code == 504
    assert refused.json()["code"] == "SERVICE_TIMEOUT"
    assert "retry-after" in refused.headers
    waiting(service, 0)
    gated.release()
    assert ask(service, ["bear"]).status_code == 200


def test_a_full_queue_refuses_and_recovers(gated, start, in_threads) -> None:
    service = start(max_queued_tokens=100)
    # More than the bound by itself: nobody else is there.
    first = ask_when_held(gated, service, in_threads, ["coffee " * 20] * 10)
    refused = ask(service, ["bear"])
    assert refused.status_code == 429
    assert refused.json()["code"] == "RATE_CONCURRENCY_LIMIT_EXCEEDED"
    assert int(refused.headers["retry-after"]) >= 1
    assert httpx.get(f"{service.url}/ready").status_code == 200
    gated.release()
    assert first.result(30).status_code == 200
    assert ask(service, ["bear"]).status_code == 200

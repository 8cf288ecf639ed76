"""What the service costs beside the engine in it, and what it does when there is too much.

    python -m benchmarks.server [--seconds 10] [--clients 64] [--documents 20]

The server is a process of its own and shares this machine's cores with the clients here.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from jina_rerank import Reranker

from .work import Texts, chunk_lengths

QUEUED_TOKENS = 50_000
"""The queue's bound for the overload: a small one is reached soon."""

Body = dict[str, object]


def main() -> None:
    """Print one line for each measurement."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--documents", type=int, default=20)
    args = parser.parse_args()
    texts = Texts()
    bodies: list[Body] = []
    for seed in range(200):
        query, documents = texts.pairs(chunk_lengths(args.documents, seed=seed))
        bodies.append({"query": query, "documents": documents, "return_documents": False})

    offline, alone = _in_process(bodies, args.seconds)
    print(f"offline, all requests at once    {offline:8.1f} requests/s")
    with _server("--max-queued-tokens", "100000000") as url:
        served = asyncio.run(_served_alone(url, bodies, args.seconds))
        print(f"one request alone, in process    {alone * 1e3:8.1f} ms (median)")
        print(f"one request alone, served        {served * 1e3:8.1f} ms (median)")
        seen = asyncio.run(_closed_loop(url, bodies, args.clients, args.seconds))
        speed = seen.count(200) / args.seconds
        print(f"{args.clients} clients, served              {speed:8.1f} requests/s")
        print(f"of the offline engine            {speed / offline:8.0%}")
    with _server("--max-queued-tokens", str(QUEUED_TOKENS)) as url:
        seen = asyncio.run(_closed_loop(url, bodies, 10 * args.clients, args.seconds))
        taken = sorted(seen.seconds)
        print(f"{10 * args.clients} clients without pause      {dict(seen.statuses)}")
        print(f"accepted, p99                    {taken[int(len(taken) * 0.99)]:8.2f} s")
        print(f"accepted                         {len(taken) / args.seconds:8.1f} requests/s")
        served = asyncio.run(_served_alone(url, bodies, args.seconds / 2))
        print(f"one request alone, after that    {served * 1e3:8.1f} ms (median)")


def _in_process(bodies: list[Body], seconds: float) -> tuple[float, float]:
    """Requests a second together, and seconds of one alone."""
    pairs = [(str(body["query"]), list(map(str, _documents(body)))) for body in bodies]
    reranker = Reranker()
    reranker.rank_many(pairs[:20])
    started = time.perf_counter()
    done = 0
    while time.perf_counter() < started + seconds:
        reranker.rank_many(pairs[:64])
        done += 64
    together = done / (time.perf_counter() - started)
    times = []
    for query, documents in pairs[:50]:
        started = time.perf_counter()
        reranker.rank(query, documents)
        times.append(time.perf_counter() - started)
    reranker.close()
    return together, statistics.median(times)


def _documents(body: Body) -> list[object]:
    documents = body["documents"]
    assert isinstance(documents, list)
    return documents


@contextmanager
def _server(*options: str) -> Iterator[str]:
    command = [sys.executable, "-m", "jina_rerank.cli", "serve", "--port", "0", *options]
    command += ["--max-request-tokens", "1000000"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        url = ""
        for line in process.stderr:
            found = json.loads(line)
            url = found.get("url", url)
            if found["message"] == "warm":
                break
        # Its log would fill the pipe.
        reading = subprocess.Popen(
            [sys.executable, "-c", "import sys\nfor _ in sys.stdin: pass"], stdin=process.stderr
        )
        yield url
        process.terminate()
        process.wait()
        reading.wait()


async def _served_alone(url: str, bodies: list[Body], seconds: float) -> float:
    times = []
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        end = time.perf_counter() + seconds
        for body in bodies[:50]:
            started = time.perf_counter()
            (await client.post("/v1/rerank", json=body)).raise_for_status()
            times.append(time.perf_counter() - started)
            if time.perf_counter() > end:
                break
    return statistics.median(times)


class _Seen:
    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.seconds: list[float] = []

    def count(self, status: int) -> int:
        return self.statuses[status]


async def _closed_loop(url: str, bodies: list[Body], clients: int, seconds: float) -> _Seen:
    """Clients that ask again as soon as they have an answer, or after a second where refused."""
    seen = _Seen()
    contents = [json.dumps(body).encode() for body in bodies]
    end = time.perf_counter() + seconds

    async def one(client: httpx.AsyncClient, number: int) -> None:
        while time.perf_counter() < end:
            started = time.perf_counter()
            response = await client.post("/v1/rerank", content=contents[number % len(contents)])
            number += clients
            if time.perf_counter() > end:
                return
            seen.statuses[response.status_code] += 1
            if response.status_code == 200:
                seen.seconds.append(time.perf_counter() - started)
            else:
                await asyncio.sleep(1)

    limits = httpx.Limits(max_connections=clients)
    headers = {"content-type": "application/json"}
    async with httpx.AsyncClient(
        base_url=url, timeout=120, limits=limits, headers=headers
    ) as client:
        await asyncio.gather(*(one(client, number) for number in range(clients)))
    return seen


if __name__ == "__main__":
    main()

"""Measure the service's cost beside its engine, and its behaviour under overload.

    python -m benchmarks.server [--rounds 5] [--seconds 10] [--warm-up 60] [--overload 60]

The server is a process of its own and shares this machine's cores with the clients here. Whatever
is compared is measured in turns, since other work on the machine comes and goes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from jina_rerank import Reranker

from .work import Texts, chunk_lengths

QUEUED_TOKENS = 50_000
"""The queue's bound for the overload: some two seconds' work on two cores."""

TOO_MANY = 10
"""Times the throughput that arrives in the overload."""

WARM_UP_CLIENTS = 4
"""Fewer requests at once than the queue takes."""

RECOVERY = 2.0
"""Seconds after the overload's last answer in which a lone request is to be as fast as before."""


@dataclass(frozen=True, slots=True)
class Work:
    """One request.

    Attributes:
        query: Its query.
        documents: Its documents.
        body: Both as a request of the service.
    """

    query: str
    documents: Sequence[str]
    body: bytes

    @classmethod
    def make(cls, texts: Texts, documents: int, seed: int) -> Work:
        """A request of chunks of usual lengths."""
        query, chosen = texts.pairs(chunk_lengths(documents, seed=seed))
        body = {"query": query, "documents": chosen, "return_documents": False}
        return cls(query, chosen, json.dumps(body).encode())


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs.

    Attributes:
        url: Its address.
        pid: Its process.
        path: Where it ranks.
    """

    url: str
    pid: int
    path: str = "/v1/rerank"

    @property
    def memory(self) -> float:
        """Resident memory in MB."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found
        return int(found[1]) / 1024

    def client(self, connections: int) -> httpx.AsyncClient:
        """A client that waits long and keeps its connections."""
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        headers = {"content-type": "application/json"}
        return httpx.AsyncClient(base_url=self.url, timeout=120, limits=limits, headers=headers)


def main() -> None:
    """Print one line for each measurement."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5, help="of each comparison")
    parser.add_argument("--seconds", type=float, default=10, help="of each throughput's round")
    parser.add_argument("--warm-up", type=float, default=60, help="seconds before the overload")
    parser.add_argument("--overload", type=float, default=60, help="seconds of it")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--documents", type=int, default=20)
    args = parser.parse_args()
    texts = Texts()
    works = [Work.make(texts, args.documents, seed) for seed in range(200)]

    with serving("--max-queued-tokens", "100000000") as server, Reranker() as reranker:
        asyncio.run(_compare_lone(server, reranker, works, 20 * args.rounds))
        speed = _compare_throughput(
            server,
            reranker,
            works,
            rounds=args.rounds,
            seconds=args.seconds,
            clients=args.clients,
        )
    with serving("--max-queued-tokens", str(QUEUED_TOKENS)) as server:
        # A server has met all lengths when it has worked for a while, and keeps what they need.
        asyncio.run(closed_loop(server, works, args.warm_up, WARM_UP_CLIENTS))
        asyncio.run(_overload(server, works, TOO_MANY * speed, args.overload))


@contextmanager
def serving(*options: str) -> Iterator[Server]:
    """Run `jina-rerank serve` for the time of the block, from when it is warm."""
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
        try:
            yield Server(url, process.pid)
        finally:
            process.terminate()
            process.wait()
            reading.wait()


async def _compare_lone(
    server: Server, reranker: Reranker, works: Sequence[Work], times: int
) -> None:
    here, there = [], []
    async with server.client(1) as client:
        for number in range(times + 10):
            work = works[number % len(works)]
            served = await lone(server, client, work)
            started = time.perf_counter()
            reranker.rank(work.query, work.documents)
            if number >= 10:  # the first ones prepare kernels
                here.append(time.perf_counter() - started)
                there.append(served)
    more = [b - a for a, b in zip(here, there, strict=True)]
    print(f"one request alone, in process    {statistics.median(here) * 1e3:8.1f} ms (median)")
    print(f"one request alone, served        {statistics.median(there) * 1e3:8.1f} ms (median)")
    print(f"more for the same request        {statistics.median(more) * 1e3:8.1f} ms (median)")


async def lone(server: Server, client: httpx.AsyncClient, work: Work) -> float:
    """Seconds of one request."""
    started = time.perf_counter()
    (await client.post(server.path, content=work.body)).raise_for_status()
    return time.perf_counter() - started


def _compare_throughput(
    server: Server,
    reranker: Reranker,
    works: Sequence[Work],
    *,
    rounds: int,
    seconds: float,
    clients: int,
) -> float:
    """The served requests a second."""
    offline, served = [], []
    for _ in range(rounds):
        offline.append(_offline(reranker, works, seconds, clients))
        served.append(asyncio.run(closed_loop(server, works, seconds, clients)))
    ratios = [b / a for a, b in zip(offline, served, strict=True)]
    print(f"offline, {clients} requests at once     {statistics.median(offline):8.2f} requests/s")
    print(f"{clients} clients, served              {statistics.median(served):8.2f} requests/s")
    print(
        f"of the offline engine            {statistics.median(ratios):8.0%} "
        f"({min(ratios):.0%} to {max(ratios):.0%})"
    )
    return statistics.median(served)


def _offline(reranker: Reranker, works: Sequence[Work], seconds: float, at_once: int) -> float:
    started = time.perf_counter()
    done = 0
    while time.perf_counter() < started + seconds:
        some = [works[(done + i) % len(works)] for i in range(at_once)]
        reranker.rank_many([(work.query, work.documents) for work in some])
        done += at_once
    return done / (time.perf_counter() - started)


async def closed_loop(server: Server, works: Sequence[Work], seconds: float, clients: int) -> float:
    """Requests a second that clients get answered who ask again as soon as they have an answer.

    The first second does not count: it fills the pipeline. Nor do requests that are under way at
    the end, which are given up.
    """
    started = time.perf_counter() + 1.0
    end = started + seconds
    done: list[float] = []

    async def one(client: httpx.AsyncClient, number: int) -> None:
        while time.perf_counter() < end:
            await lone(server, client, works[number % len(works)])
            done.append(time.perf_counter())
            number += clients

    async with server.client(clients) as client:
        asking = [asyncio.create_task(one(client, number)) for number in range(clients)]
        await asyncio.wait(asking, timeout=end - time.perf_counter())
        for task in asking:
            task.cancel()
        for result in await asyncio.gather(*asking, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
    return sum(started < at <= end for at in done) / seconds


@dataclass(slots=True)
class _Seen:
    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    unexplained: int = 0
    memory: list[float] = field(default_factory=list)


async def _overload(server: Server, works: Sequence[Work], arrivals: float, seconds: float) -> None:
    """Far more than can be done, from many who do not wait for each other."""
    async with server.client(1) as client:
        for work in works[:10]:
            await lone(server, client, work)
        before = statistics.median([await lone(server, client, work) for work in works[10:30]])
        seen = await _arrive(server, works, arrivals, seconds)
        speed = await _tokens_per_second(client)
        after: list[float] = []
        end = time.perf_counter() + RECOVERY
        while time.perf_counter() < end:
            after.append(await lone(server, client, works[10 + len(after) % 20]))
    taken = sorted(seen.seconds)
    bound = QUEUED_TOKENS / speed
    print(f"{arrivals:.0f} requests/s for {seconds:.0f} s        {dict(seen.statuses)}")
    print(f"refused without Retry-After      {seen.unexplained:8d}")
    print(f"accepted, median                 {statistics.median(taken):8.2f} s")
    print(f"accepted, p99                    {taken[math.ceil(len(taken) * 0.99) - 1]:8.2f} s")
    print(f"the queue's bound                {bound:8.2f} s ({speed:,.0f} tokens/s)")
    print(f"accepted                         {len(taken) / seconds:8.2f} requests/s")
    tenth = math.ceil(len(seen.memory) / 10)
    levels = [f"{statistics.median(part):.0f}" for part in _parts(seen.memory, tenth)]
    print(f"memory, a figure a tenth         {' '.join(levels):>8} MB")
    print(f"one request alone, before        {before * 1e3:8.1f} ms (median)")
    print(f"in the {RECOVERY:.0f} s after the last answer {statistics.median(after) * 1e3:8.1f} ms")


def _parts(values: Sequence[float], size: int) -> Iterator[Sequence[float]]:
    return (values[start : start + size] for start in range(0, len(values), size))


async def _arrive(server: Server, works: Sequence[Work], arrivals: float, seconds: float) -> _Seen:
    seen = _Seen()
    chance = random.Random(0)

    async def one(client: httpx.AsyncClient, work: Work) -> None:
        started = time.perf_counter()
        response = await client.post("/v1/rerank", content=work.body)
        seen.statuses[response.status_code] += 1
        if response.status_code == 200:
            seen.seconds.append(time.perf_counter() - started)
        elif "retry-after" not in response.headers:
            seen.unexplained += 1

    async def watch() -> None:
        while True:
            seen.memory.append(server.memory)
            await asyncio.sleep(0.5)

    watching = asyncio.create_task(watch())
    async with server.client(200) as client, asyncio.TaskGroup() as group:
        end = time.perf_counter() + seconds
        due, number = time.perf_counter(), 0
        while due < end:
            await asyncio.sleep(due - time.perf_counter())
            group.create_task(one(client, works[number % len(works)]))
            number += 1
            due += chance.expovariate(arrivals)
    watching.cancel()
    return seen


async def _tokens_per_second(client: httpx.AsyncClient) -> float:
    text = (await client.get("/metrics")).text
    found = re.search(r"^jina_rerank_tokens_per_second (\S+)", text, re.MULTILINE)
    assert found
    return float(found[1])


if __name__ == "__main__":
    main()

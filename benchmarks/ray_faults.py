"""Measure what clients notice when a replica on Ray Serve is killed under load.

    python -m benchmarks.ray_faults [--seconds 30] [--clients 8] [--documents 20]

Two replicas with a CPU each; after a third of the time one of them gets SIGKILL. Once with our
client's retries, once without. Ray, replicas and clients share this machine's cores.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import statistics
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray import serve

from jina_rerank import RemoteScorer, Reranker, RerankError
from jina_rerank.ray import application
from jina_rerank.server import Settings

from .work import Texts, chunk_lengths

APPLICATION = "rerank"

Job = tuple[str, list[str]]


@dataclass
class Seen:
    """Observations of clients: when an answer came and how long it took, and the errors."""

    answers: list[tuple[float, float]] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)


def main() -> None:
    """Print one line for each measurement."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--documents", type=int, default=20)
    args = parser.parse_args()
    texts = Texts()
    jobs = [texts.pairs(chunk_lengths(args.documents, seed=seed)) for seed in range(100)]
    load = os.getloadavg()[0]
    print(f"load of this machine before it began: {load:.1f} on {os.cpu_count()} cores")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(
        application(Settings(allow_anonymous=True), num_replicas=2),
        name=APPLICATION,
    )
    for retries in (2, 0):
        _kill_one(f"http://127.0.0.1:{port}", jobs, args.clients, args.seconds, retries)
    serve.shutdown()  # type: ignore[no-untyped-call]
    ray.shutdown()


def _kill_one(url: str, jobs: Sequence[Job], clients: int, seconds: float, retries: int) -> None:
    seen = Seen()
    ending = threading.Event()
    scorer = RemoteScorer("jina-rerank-mini", base_url=url, api_key="none", max_retries=retries)
    with Reranker(scorer) as reranker:
        threads = [
            threading.Thread(target=_ask, args=(reranker, jobs[n::clients], ending, seen))
            for n in range(clients)
        ]
        for thread in threads:
            thread.start()
        time.sleep(seconds / 3)
        victim = min(_pids())
        killed = time.perf_counter()
        os.kill(victim, signal.SIGKILL)
        while len(_pids() - {victim}) < 2:
            time.sleep(0.05)
        replaced = time.perf_counter()
        time.sleep(max(0.0, seconds * 2 / 3 - (replaced - killed)))
        ending.set()
        for thread in threads:
            thread.join()
    print(f"\n{clients} clients, {retries} retries")
    print(f"answered                    {len(seen.answers):6}")
    print(f"failed                      {sum(seen.errors.values()):6}  {dict(seen.errors) or ''}")
    print(f"until another one is ready  {replaced - killed:6.1f} s")
    phases = {
        "before": (0.0, killed),
        "with one replica": (killed, replaced),
        "after": (replaced, float("inf")),
    }
    for name, (begin, end) in phases.items():
        times = sorted(took for at, took in seen.answers if begin <= at < end)
        if times:
            p99 = times[int(len(times) * 0.99)]
            print(
                f"{name:17} median  {statistics.median(times):6.2f} s, p99 {p99:.2f} s, "
                f"{len(times)} answers"
            )


def _ask(reranker: Reranker, jobs: Sequence[Job], ending: threading.Event, seen: Seen) -> None:
    number = 0
    while not ending.is_set():
        query, documents = jobs[number % len(jobs)]
        number += 1
        started = time.perf_counter()
        try:
            reranker.rank(query, documents)
        except RerankError as error:
            seen.errors[str(error)[:80]] += 1
        else:
            now = time.perf_counter()
            seen.answers.append((now, now - started))


def _pids() -> set[int]:
    """The processes of replicas that run."""
    client: Any = serve.context._get_global_client()
    return {
        replica["pid"]
        for deployment in client.get_serve_details()["applications"][APPLICATION][
            "deployments"
        ].values()
        for replica in deployment["replicas"]
        if replica["state"] == "RUNNING"
    }


if __name__ == "__main__":
    main()

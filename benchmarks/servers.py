"""Servers side by side: the same requests, the same machine, models of the same shape.

    python -m benchmarks.servers [--rounds 3] [--seconds 20] [--infinity PATH/bin/infinity_emb]

Ours has turbo's shape, whose gated feed-forward is half as large again as that of the BERT which
the others get (6 layers of 384, plain feed-forward): they have less to compute. Servers run one at
a time, in turns, so that other work on the machine hits all alike. infinity needs libraries of its
own versions, in a virtual environment of its own; without its path it is left out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from .server import Server, Work, closed_loop, lone
from .shapes import bert_config, save_jinabert, save_transformer
from .work import Texts

PATIENCE = 300.0
"""Seconds until a server answers its first request."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server to be measured.

    Attributes:
        name: For the table.
        command: Starts it; the port follows.
        path: Where it ranks.
        variables: For its environment.
    """

    name: str
    command: Sequence[str]
    path: str
    variables: Mapping[str, str] = field(default_factory=dict)


def main() -> None:
    """Print a table, and on standard error each figure as it is found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20, help="of each throughput's round")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--documents", type=int, default=20)
    parser.add_argument("--infinity", type=Path, help="its command")
    args = parser.parse_args()
    texts = Texts()
    works = [Work.make(texts, args.documents, seed) for seed in range(200)]
    alone: defaultdict[str, list[float]] = defaultdict(list)
    together: defaultdict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        peers = list(_peers(Path(folder), args.infinity))
        for _ in range(args.rounds):
            for peer in peers:
                with _running(peer) as server:
                    seconds = asyncio.run(_lone_times(server, works[:30]))[10:]
                    rate = asyncio.run(closed_loop(server, works, args.seconds, args.clients))
                alone[peer.name] += seconds
                together[peer.name].append(rate)
                milliseconds = statistics.median(seconds) * 1e3
                print(f"{peer.name}: {milliseconds:.0f} ms, {rate:.2f} requests/s", file=sys.stderr)
    print(f"| server | one request alone | {args.clients} clients | of ours |")
    print("|---|---|---|---|")
    ours = statistics.median(together[peers[0].name])
    for name, rates in together.items():
        milliseconds = statistics.median(alone[name]) * 1e3
        rate = statistics.median(rates)
        print(f"| {name} | {milliseconds:.0f} ms | {rate:.2f} requests/s | {rate / ours:.0%} |")


def _peers(folder: Path, infinity: Path | None) -> Iterator[Peer]:
    ours = save_jinabert(folder / "jinabert")
    theirs = save_transformer(folder / "bert", bert_config(6))
    _name_tokenizer(theirs / "tokenizer_config.json")
    command = [sys.executable, "-m", "jina_rerank.cli", "serve", "--model", str(ours)]
    limits = ["--max-queued-tokens", "100000000", "--log-level", "warning"]
    yield Peer("jina-rerank serve", [*command, *limits], "/v1/rerank")
    hand = [sys.executable, "-m", "uvicorn", "benchmarks.handwritten:app", "--log-level", "warning"]
    for dtype in ("float32", "bfloat16"):
        for path, way in (("/rerank", "in threads"), ("/rerank/in-turn", "one at a time")):
            name = f"FastAPI and sentence-transformers, {dtype}, {way}"
            yield Peer(name, hand, path, {"MODEL": str(theirs), "DTYPE": dtype})
    if infinity is not None:
        command = [str(infinity), "v2", "--model-id", str(theirs), "--engine", "torch"]
        options = ["--device", "cpu", "--no-bettertransformer", "--log-level", "warning"]
        for dtype in ("float32", "bfloat16"):
            named = [*command, *options, "--dtype", dtype]
            yield Peer(f"infinity, torch, {dtype}", named, "/rerank")


def _name_tokenizer(file: Path) -> None:
    """Name the class as both transformers 4, which infinity has, and 5 know it."""
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings["tokenizer_class"] = "BertTokenizerFast"
    file.write_text(json.dumps(settings), encoding="utf-8")


@contextmanager
def _running(peer: Peer) -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"} | dict(peer.variables)
    with subprocess.Popen([*peer.command, "--port", str(port)], env=environment) as process:
        server = Server(f"http://127.0.0.1:{port}", process.pid, peer.path)
        try:
            _wait_for(server, process)
            yield server
        finally:
            # Not in order: what was not answered in time is of no interest.
            process.kill()


def _wait_for(server: Server, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE
    body = {"query": "ready?", "documents": ["ready"]}
    while time.monotonic() < end and process.poll() is None:
        try:
            httpx.post(server.url + server.path, json=body, timeout=PATIENCE).raise_for_status()
        except httpx.TransportError:
            time.sleep(0.5)
        else:
            return
    raise SystemExit(f"{server.url} does not answer")


async def _lone_times(server: Server, works: Sequence[Work]) -> list[float]:
    async with server.client(1) as client:
        return [await lone(server, client, work) for work in works]


if __name__ == "__main__":
    main()

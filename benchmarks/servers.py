"""Servers side by side: the same requests, the same machine, models of the same shape.

    python -m benchmarks.servers [--rounds 3] [--seconds 20] [--infinity PATH/bin/infinity_emb]

Ours has turbo's shape, whose gated feed-forward is half as large again as that of the BERT which
the others get (6 layers of 384, plain feed-forward): they have less to compute. All servers run at
once and are asked in turns, so that other work on the machine hits all alike. infinity needs
libraries of its own versions, in a virtual environment of its own; without its path it is left out.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from .server import Server, Work, closed_loop, lone
from .shapes import bert_config, save_jinabert, save_transformer
from .work import Texts

PATIENCE = 300.0
"""Seconds until a server answers its first request."""


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20, help="of each round")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--documents", type=int, default=20)
    parser.add_argument("--infinity", type=Path, help="its command")
    args = parser.parse_args()
    texts = Texts()
    works = [Work.make(texts, args.documents, seed) for seed in range(200)]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        servers = _start_all(stack, Path(folder), args.infinity)
        alone: dict[str, list[float]] = {name: [] for name in servers}
        together: dict[str, list[float]] = {name: [] for name in servers}
        for _ in range(args.rounds):
            for name, server in servers.items():
                alone[name] += asyncio.run(_lone_times(server, works[:20]))
                together[name].append(
                    asyncio.run(closed_loop(server, works, args.seconds, args.clients))
                )
    print(f"| server | one request alone | {args.clients} clients | of ours |")
    print("|---|---|---|---|")
    ours = statistics.median(next(iter(together.values())))
    for name in servers:
        rate = statistics.median(together[name])
        milliseconds = statistics.median(alone[name]) * 1e3
        print(f"| {name} | {milliseconds:.0f} ms | {rate:.2f} requests/s | {rate / ours:.0%} |")


def _start_all(stack: ExitStack, folder: Path, infinity: Path | None) -> dict[str, Server]:
    ours = save_jinabert(folder / "jinabert")
    theirs = save_transformer(folder / "bert", bert_config(6))
    python = sys.executable
    hand = [python, "-m", "uvicorn", "benchmarks.handwritten:app", "--log-level", "warning"]
    command = [python, "-m", "jina_rerank.cli", "serve", "--model", str(ours)]
    limits = ["--max-queued-tokens", "100000000", "--log-level", "warning"]
    servers = {"jina-rerank serve": _start(stack, [*command, *limits], "/v1/rerank")}
    for dtype in ("float32", "bfloat16"):
        servers[f"FastAPI and sentence-transformers, {dtype}"] = _start(
            stack, hand, "/rerank", {"MODEL": str(theirs), "DTYPE": dtype}
        )
    if infinity is not None:
        command = [str(infinity), "v2", "--model-id", str(theirs), "--engine", "torch"]
        options = ["--device", "cpu", "--no-bettertransformer", "--log-level", "warning"]
        servers["infinity, torch"] = _start(stack, [*command, *options], "/rerank")
    return servers


def _start(
    stack: ExitStack, command: Sequence[str], path: str, variables: Mapping[str, str] | None = None
) -> Server:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return stack.enter_context(_running([*command, "--port", str(port)], port, path, variables))


@contextmanager
def _running(
    command: Sequence[str], port: int, path: str, variables: Mapping[str, str] | None
) -> Iterator[Server]:
    environment = os.environ | {"HF_HUB_OFFLINE": "1"} | dict(variables or {})
    with subprocess.Popen(command, env=environment) as process:
        server = Server(f"http://127.0.0.1:{port}", process.pid, path)
        try:
            _wait_for(server)
            yield server
        finally:
            process.terminate()


def _wait_for(server: Server) -> None:
    end = time.monotonic() + PATIENCE
    body = {"query": "ready?", "documents": ["ready"]}
    while time.monotonic() < end:
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

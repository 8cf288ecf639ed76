"""For measuring time in tests: a fault server that does not compete for Python's lock, and what to
leave out of account.
"""

from __future__ import annotations

import gc
import multiprocessing
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from faults import FaultServer, Right
from loopback import Fault


class SoakServer:
    """The far end: answers right, but for a share of requests that get one of the faults."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.url: str = pipe.recv()

    @property
    def open_connections(self) -> int:
        """The number of connections that are open now."""
        self._pipe.send("count")
        count: int = self._pipe.recv()
        return count


def drop_a_result(payload: dict[str, Any]) -> dict[str, Any]:
    """Break the contract. Here, since a test's own module cannot be imported by the far end."""
    return payload | {"results": payload["results"][1:]}


@contextmanager
def soak_server(faults: Sequence[Fault], share: float, seed: int) -> Iterator[SoakServer]:
    """Run one until the end of the block."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(theirs, faults, share, seed))
    process.start()
    theirs.close()  # or a child that died would be waited for
    try:
        yield SoakServer(ours)
    finally:
        ours.send("stop")
        process.join()
        assert process.exitcode == 0


def _serve(pipe: Connection, faults: Sequence[Fault], share: float, seed: int) -> None:
    rng = random.Random(seed)
    with FaultServer() as server:
        server.record = False
        server.choose = lambda _: rng.choice(faults) if rng.random() < share else Right()
        pipe.send(server.url)
        while pipe.recv() == "count":
            pipe.send(server.open_connections)


@contextmanager
def no_old_garbage() -> Iterator[None]:
    """Keep the collector away from what other tests have left: it would stop all threads."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def seconds_without_a_core(*threads: threading.Thread) -> float:
    """Time that threads of this process were ready to run while others had the cores.

    Linux tells it; elsewhere it is 0.
    """
    total = 0
    for thread in threads:
        statistics = Path(f"/proc/self/task/{thread.native_id}/schedstat")
        if statistics.exists():
            total += int(statistics.read_text().split()[1])
    return total / 1e9

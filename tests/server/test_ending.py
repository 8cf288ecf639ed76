"""The end of the process of `jina-rerank serve` when a thread of it cannot be interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from other_process import run_python
from serve_processes import listening
from serving import until

TESTS = Path(__file__).parents[1]

LOADING = """
import sys
from holding import HeldScorer
from jina_rerank import Reranker
from jina_rerank.server import Engine, ServedModel, Settings
from jina_rerank.server.logs import log_json
from jina_rerank.server.run import run

log_json("info")
settings = Settings(port=0, drain=float(sys.argv[1]))
run(Engine(settings, [ServedModel("slow", Reranker(HeldScorer()))]))
"""

HANGING = """
import sys
from pathlib import Path
from serving import GatedModel, served
from jina_rerank.server import Engine, Settings
from jina_rerank.server import run as running
from jina_rerank.server.logs import log_json

log_json("info")
folder, running.CHECK_EVERY, deadline, drain = sys.argv[1], *map(float, sys.argv[2:])
model = GatedModel(Path(folder))
model.hold()
model.release(1)  # the batch with which the service begins
running.run(Engine(Settings(port=0, deadline=deadline, drain=drain), served(model)))
"""


@contextmanager
def program(text: str, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    environment = os.environ | {"PYTHONPATH": str(TESTS)}
    with listening([sys.executable, "-c", text, *options], environment) as both:
        yield both


def test_a_signal_while_a_model_loads_ends_it_at_once() -> None:
    with program(LOADING, "0") as (process, url):
        assert httpx.get(f"{url}/ready").text == "loading"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.mark.parametrize("state", ["loading", "ready"])
def test_a_second_signal_ends_it_although_a_request_waits(
    state: str, small_checkpoint: Path
) -> None:
    running = (LOADING, "3600")
    if state == "ready":
        running = (HANGING, str(small_checkpoint), "3600", "3600", "3600")

    def ask() -> None:
        with suppress(httpx.TransportError):
            httpx.post(f"{url}/v1/rerank", json={"query": "a", "documents": ["b"]}, timeout=60)

    with program(*running) as (process, url), ThreadPoolExecutor(1) as pool:
        until(lambda: httpx.get(f"{url}/ready").text == state)
        pool.submit(ask)
        until(lambda: "jina_rerank_queued_requests 1.0" in httpx.get(f"{url}/metrics").text)
        process.send_signal(signal.SIGTERM)
        until(lambda: httpx.get(f"{url}/ready").text == "draining")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM


def test_a_model_that_hangs_ends_it(small_checkpoint: Path) -> None:
    with program(HANGING, str(small_checkpoint), "0.1", "0.2", "0") as (process, _):
        _, log = process.communicate(timeout=60)
    assert process.returncode == 1
    last = json.loads(log.splitlines()[-1])
    assert last["message"] == "the process ends because the models do not compute"


def test_sigterm_during_the_imports_is_not_lost() -> None:
    done = run_python("""
        import os, signal, sys

        class Signals:
            def find_spec(self, name, path, target=None):
                if name == "fastapi":
                    sys.meta_path.remove(self)
                    os.kill(os.getpid(), signal.SIGTERM)

        sys.meta_path.insert(0, Signals())
        sys.argv = ["jina-rerank", "serve", "--port", "0"]
        from jina_rerank.cli import main
        main()
    """)
    # Without a handler it would be -15, and the first process of a container would go on.
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("times", [1, 2])
def test_signals_before_the_server_has_started(times: int) -> None:
    done = run_python(f"""
        import os, signal
        from jina_rerank.server import Engine, Settings
        from jina_rerank.server import run as running

        class Signals(running._Process):
            async def startup(self, sockets=None):
                for _ in range({times}):
                    os.kill(os.getpid(), signal.SIGTERM)
                await super().startup(sockets)

        running._Process = Signals
        running.run(Engine(Settings(port=0, models=("remote:any@http://127.0.0.1:9",))))
    """)
    assert (done.returncode, done.stderr) == ({1: 0, 2: 128 + signal.SIGTERM}[times], "")

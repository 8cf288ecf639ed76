"""`jina-rerank serve` as a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

COMMAND = ["-m", "jina_rerank.cli", "serve"]


@contextmanager
def serving(
    *options: str, python: str | Path = sys.executable, **variables: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, and where it listens; `python` may be another environment's."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1"} | variables
    alone = [] if python == sys.executable else ["-I"]
    with listening([python, *alone, *COMMAND, "--port", "0", *options], environment) as both:
        yield both


@contextmanager
def listening(
    command: Sequence[str | Path], environment: Mapping[str, str]
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process of a command that serves, and where it listens."""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                found = json.loads(line)
                if found["message"] == "listening":
                    break
            yield process, found["url"]
        finally:
            process.kill()


def run(*options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *COMMAND, *options],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | variables,
        timeout=60,
    )


def is_ready(url: str) -> bool:
    return httpx.get(f"{url}/ready").status_code == 200


def arrived(url: str) -> float:
    """The number of rankings that are being made or are done."""
    text = httpx.get(f"{url}/metrics").text
    counts = re.findall(
        r'^(?:jina_rerank_queued_requests|jina_rerank_rank_seconds_count\{model="small"\}) (\S+)$',
        text,
        re.MULTILINE,
    )
    return sum(map(float, counts))

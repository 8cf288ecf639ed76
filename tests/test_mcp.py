"""`jina-rerank mcp`, as a process of its own, asked by the protocol's own client."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO, Any

import httpx
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from jina_rerank import Reranker

COMMAND = ["-m", "jina_rerank.cli", "mcp"]
QUERY = "panda"
GATEWAY = "remote:any@http://127.0.0.1:9"
"""A model that is not loaded."""

DOCUMENTS = ["coffee", "the giant panda is a bear", "bread " * 600]


@contextmanager
def serving_http(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, and its address."""
    with subprocess.Popen(
        [sys.executable, *COMMAND, "--http", "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert line.startswith("jina-rerank: listening on "), line
            yield process, line.split()[-1]
        finally:
            process.kill()


@asynccontextmanager
async def connected(kind: str, model: Path, log: IO[str]) -> AsyncIterator[Client]:
    if kind == "stdio":
        command = [*COMMAND, "--model", str(model)]
        parameters = StdioServerParameters(
            command=sys.executable, args=command, env=dict(os.environ)
        )
        async with Client(stdio_client(parameters, errlog=log)) as client:
            yield client
    else:
        with serving_http("--model", str(model)) as (process, url):
            async with Client(url) as client:
                yield client
            await refuses_foreign_pages(url)
            process.send_signal(signal.SIGTERM)
            said, _ = process.communicate(timeout=60)
            assert process.returncode == 0
            assert said == "", "nothing on standard output"


async def refuses_foreign_pages(url: str) -> None:
    """A page may name this machine by a name of its own, or ask it from another origin."""
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    headers = {"accept": "application/json, text/event-stream"}
    async with httpx.AsyncClient(headers=headers) as browser:
        for wrong in ({"host": "page.example"}, {"origin": "https://page.example"}):
            refused = await browser.post(url, json=call, headers=wrong)
            assert refused.status_code in {403, 421}


def text_of(result: Any) -> str:
    (content,) = result.content
    return str(content.text)


@pytest.mark.parametrize("kind", ["stdio", "http"])
async def test_an_agent_reranks_and_reads_what_was_wrong(
    kind: str, small_checkpoint: Path, tmp_path: Path
) -> None:
    expected = Reranker(small_checkpoint).rank(QUERY, DOCUMENTS)
    with (tmp_path / "log").open("w") as log:
        async with connected(kind, small_checkpoint, log) as client:
            (tool,) = (await client.list_tools()).tools
            assert tool.name == "rerank"
            assert set(tool.input_schema["properties"]) == {"query", "documents", "top_n"}
            assert tool.input_schema["required"] == ["query", "documents"]

            arguments: dict[str, Any] = {"query": QUERY, "documents": DOCUMENTS}
            answer = await client.call_tool("rerank", arguments)
            assert not answer.is_error
            ranked = answer.structured_content
            assert ranked is not None
            assert ranked["model"] == str(small_checkpoint)
            assert [one["index"] for one in ranked["results"]] == [hit.index for hit in expected]
            assert [one["score"] for one in ranked["results"]] == pytest.approx(
                [hit.score for hit in expected], abs=1e-3
            )
            cut = {one["index"]: one["truncated_tokens"] for one in ranked["results"]}
            assert cut == {hit.index: hit.truncated_tokens for hit in expected}

            answer = await client.call_tool("rerank", arguments | {"top_n": 1})
            assert answer.structured_content is not None
            assert len(answer.structured_content["results"]) == 1

            for wrong, said in (
                ({"top_n": 0}, "top_n: must be at least 1"),
                ({"documents": ["a", "b\0"]}, "documents[1]"),
                ({"query": " "}, "query"),
                ({"documents": "a string"}, "documents"),
                ({"top_n": "many"}, "top_n: Input should be a valid integer"),
                ({"top_n": "1"}, "top_n: Input should be a valid integer"),
                ({"top_n": True}, "top_n: Input should be a valid integer"),
                ({"top_n": 1.0}, "top_n: Input should be a valid integer"),
                ({"query": ["SECRET"]}, "query: Input should be a valid string"),
                ({"documents": ["a", {"SECRET": 1}]}, "documents[1]: Input should be a valid"),
            ):
                refused = await client.call_tool("rerank", arguments | wrong)
                assert refused.is_error
                assert said in text_of(refused)
                assert "SECRET" not in text_of(refused)
                assert "input_value" not in text_of(refused)
            missing = await client.call_tool("rerank", {"documents": ["SECRET"]})
            assert missing.is_error
            assert text_of(missing) == "query: Field required"
            # It goes on after all of them.
            assert not (await client.call_tool("rerank", arguments)).is_error


def run(*options: str, without: str | None = None) -> subprocess.CompletedProcess[str]:
    """The command with an input that ends at once."""
    code = f"import sys\nsys.modules[{without!r}] = None\nfrom jina_rerank.cli import main\nmain()"
    command = COMMAND if without is None else ["-c", code, "mcp"]
    return subprocess.run(
        [sys.executable, *command, *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_it_ends_when_its_input_does() -> None:
    done = run("--model", GATEWAY)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_although_a_thread_waits_for_input(number: signal.Signals) -> None:
    command = [sys.executable, *COMMAND, "--model", GATEWAY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        process.stdin.write(json.dumps(ping).encode() + b"\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["id"] == 1
        process.send_signal(number)
        assert process.wait(30) == 128 + number


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (("--model", ""), 2, "model: '' is blank"),
        (("--model", "what:x"), 2, "'what' before the colon is not known"),
        (("--port", "70000"), 2, "--port"),
    ],
)
def test_what_cannot_be_served_is_said_on_standard_error(
    options: tuple[str, ...], status: int, said: str
) -> None:
    done = run(*options)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("--http", "--port", port, "--model", GATEWAY)
    assert done.returncode == 2
    assert f"cannot listen on port {port}" in done.stderr


def test_without_the_library_it_says_which_extra_brings_it() -> None:
    done = run("--model", GATEWAY, without="mcp")
    assert done.returncode == 2
    assert done.stderr.endswith(
        'needs mcp, which is not installed: pip install "jina-rerank[mcp]"\n'
    )

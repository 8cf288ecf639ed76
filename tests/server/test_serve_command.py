"""`jina-rerank serve` as a process of its own, and where its settings come from."""

from __future__ import annotations

import json
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import httpx
import pytest
from serve_processes import arrived, is_ready, run, serving
from serving import until

from jina_rerank import LocalScorer
from jina_rerank.errors import ConfigurationError
from jina_rerank.scorers.in_process import LEAST_MAX_LENGTH
from jina_rerank.server import Settings

KEY = "ada-0123456789abcdef"


@pytest.mark.slow
def test_it_serves_and_ends_at_sigterm_without_losing_a_request(small_checkpoint: Path) -> None:
    documents = ["the giant panda is a bear " * 20] * 200

    def ask() -> httpx.Response:
        body = {"query": "panda", "documents": documents}
        headers = {"authorization": f"Bearer {KEY}"}
        return httpx.post(f"{url}/v1/rerank", json=body, headers=headers, timeout=60)

    options = ("--model", f"small={small_checkpoint}", "--max-queued-tokens", "100000000")
    with (
        serving(*options, JINA_RERANK_KEYS=f"ada:{KEY}") as (process, url),
        ThreadPoolExecutor(12) as pool,
    ):
        until(lambda: is_ready(url))
        asking = [pool.submit(ask) for _ in range(12)]
        until(lambda: arrived(url) == 12)
        process.send_signal(signal.SIGTERM)
        answers = [future.result(60) for future in asking]
        _, log = process.communicate(timeout=60)
    assert [answer.status_code for answer in answers] == [200] * 12
    assert process.returncode == 0
    lines = [json.loads(line) for line in log.splitlines()]
    assert sum(line.get("status") == 200 and line.get("documents") == 200 for line in lines) == 12
    assert "draining" in [line["message"] for line in lines]
    assert KEY not in log


def test_a_model_that_is_not_there_ends_it(tmp_path: Path) -> None:
    done = run("--port", "0", "--model", str(tmp_path))
    assert done.returncode == 1
    assert str(tmp_path) in done.stderr


def test_a_port_that_is_taken_ends_it(small_checkpoint: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("--port", port, "--model", str(small_checkpoint))
    assert done.returncode == 2
    assert f"port {port}: Address already in use" in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--host", "0.0.0.0"), "loopback"),
        (("--port", "70000"), "port"),
        (("--deadline", "0"), "deadline"),
        (("--dtype", "float16"), "dtype must be one of"),
        (("--config", "/absent.toml"), "absent"),
        (("--key-file", "/absent"), "absent"),
        (("--model", "a", "--model", "a"), "same name"),
        (("--model", ""), "model: '' is blank"),
        (("--model", "a", "--model", " "), "model: '' is blank"),
        (("--model", "a="), "'a=' lacks a part"),
    ],
)
def test_settings_that_cannot_be_used(options: tuple[str, ...], said: str) -> None:
    done = run(*options)
    assert done.returncode == 2
    assert done.stderr.startswith("jina-rerank: ")
    assert said in done.stderr


def test_settings_are_shown_without_secrets(tmp_path: Path) -> None:
    file = tmp_path / "serve.toml"
    file.write_text('models = ["a", "b=folder"]\nport = 1\ndeadline = 3\ndrain = 2.5\n')
    done = run(
        "--config",
        str(file),
        "--deadline",
        "5",
        "--show-settings",
        JINA_RERANK_PORT="2",
        JINA_RERANK_DEADLINE="4",
        JINA_RERANK_KEYS=f"ada:{KEY}",
    )
    shown = json.loads(done.stdout)
    assert shown["models"] == ["a", "b=folder"]
    assert (shown["drain"], shown["port"], shown["deadline"]) == (2.5, 2, 5.0)
    assert shown["keys"] == "set"
    assert KEY not in done.stdout + done.stderr


def test_environment_and_file_are_read_alike(tmp_path: Path) -> None:
    file = tmp_path / "serve.toml"
    file.write_text('models = ["a", "b"]\nallow_anonymous = true\nkey_file = "/keys"\ndrain = 1\n')
    variables = {
        "JINA_RERANK_MODELS": "a, b",
        "JINA_RERANK_ALLOW_ANONYMOUS": "true",
        "JINA_RERANK_KEY_FILE": "/keys",
        "JINA_RERANK_DRAIN": "1",
    }
    assert Settings.read({}, {}, file) == Settings.read({}, variables)
    assert Settings.read({"port": None}, {}) == Settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "tcp://10.0.0.1:80"), ("DEADLINE", "soon"), ("ALLOW_ANONYMOUS", "maybe")],
)
def test_variables_that_cannot_be_read(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"JINA_RERANK_{name}: cannot be read") as caught:
        Settings.read({}, {f"JINA_RERANK_{name}": value})
    assert value not in str(caught.value)


def test_an_empty_variable_is_no_path() -> None:
    paths = {f"JINA_RERANK_{name}": " " for name in ("KEY_FILE", "SSL_CERTFILE", "UNIX_SOCKET")}
    assert Settings.read({}, paths) == Settings()


def test_an_empty_list_of_models() -> None:
    with pytest.raises(ConfigurationError, match="models: name at least one"):
        Settings.read({}, {"JINA_RERANK_MODELS": ","})


@pytest.mark.parametrize(
    "text",
    ["port = ", "ports = 1", "models = 3", 'port = "x"', "host = 3", "keys = [1]", "key_file = 5"],
)
def test_files_that_cannot_be_read(text: str, tmp_path: Path) -> None:
    file = tmp_path / "serve.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=re.escape(str(file))):
        Settings.read({}, {}, file)


def test_keys_are_no_part_of_what_settings_look_like() -> None:
    settings = Settings(keys=f"ada:{KEY}")
    assert KEY not in repr(settings)


def test_a_model_that_nobody_has_cannot_be_loaded() -> None:
    done = run("--port", "0", "--model", "fast=onnx:/nosuch")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("jina-rerank: onnx:/nosuch: no such folder")


@pytest.mark.parametrize("length", [LEAST_MAX_LENGTH - 1, LEAST_MAX_LENGTH])
def test_the_least_length_is_that_of_the_models(length: int) -> None:
    for build in (lambda: Settings(max_length=length), lambda: LocalScorer(max_length=length)):
        with (
            pytest.raises(ConfigurationError, match=f"max_length must be .* {LEAST_MAX_LENGTH}")
            if length < LEAST_MAX_LENGTH
            else nullcontext()
        ):
            build()

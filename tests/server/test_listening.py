"""Where the service listens: both families of addresses, and a file."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import httpx
import pytest
from serve_processes import is_ready, run, serving
from serving import until

from jina_rerank.errors import ConfigurationError
from jina_rerank.server import Settings
from jina_rerank.server.listening import listening

BODY = {"query": "panda", "documents": ["bear", "coffee"]}

needs_both = pytest.mark.skipif(
    not socket.has_dualstack_ipv6(), reason="needs a system with both families of addresses"
)


@needs_both
@pytest.mark.parametrize("host", ["::", "0::0"])
def test_every_address_of_ipv6_is_every_one_of_ipv4_too(host: str, small_checkpoint: Path) -> None:
    options = ("--host", host, "--allow-anonymous", "--model", str(small_checkpoint))
    with serving(*options) as (process, url):
        port = urlsplit(url).port
        until(lambda: is_ready(f"http://[::1]:{port}"))
        for address in ("127.0.0.1", "[::1]"):
            answer = httpx.post(f"http://{address}:{port}/v1/rerank", json=BODY)
            assert answer.status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


@needs_both
def test_one_address_is_that_address_only() -> None:
    with listening(Settings(host="::1", port=0)) as listener:
        port = listener.socket.getsockname()[1]
        with socket.create_connection(("::1", port)):
            pass
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


def test_every_address_without_keys_is_refused_as_before() -> None:
    with pytest.raises(ConfigurationError, match="listens on the loopback only, not on ::"):
        Settings(host="::")


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a" * 300, "[::1]", "1.2.3.4.5"])
def test_a_name_that_no_address_has_is_refused(host: str) -> None:
    settings = Settings(host=host, port=0, allow_anonymous=True)
    with pytest.raises(ConfigurationError, match="cannot listen on"), listening(settings):
        pass


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short: that of a socket may have some 100 bytes."""
    with TemporaryDirectory(prefix="socket") as path:
        yield Path(path)


def client(file: Path) -> httpx.Client:
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(file)), base_url="http://service")


@contextmanager
def serving_on(file: Path, model: Path, **more: str) -> Iterator[subprocess.Popen[str]]:
    """A service that is ready, on a file."""
    with serving("--unix-socket", str(file), "--model", str(model), **more) as (process, url):
        assert url == f"unix:{file}"
        with client(file) as asking:
            until(lambda: asking.get("/ready").status_code == 200)
            assert asking.post("/v1/rerank", json=BODY).status_code == 200
        yield process


def test_a_file_is_listened_on_and_removed_at_the_end(folder: Path, small_checkpoint: Path) -> None:
    file = folder / "rerank.sock"
    with serving_on(file, small_checkpoint) as process:
        state = file.stat()
        assert stat.S_ISSOCK(state.st_mode)
        # Nobody else on this machine may connect.
        assert stat.S_IMODE(state.st_mode) & 0o007 == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert not file.exists()


def test_a_second_signal_removes_the_file_too(folder: Path, small_checkpoint: Path) -> None:
    file = folder / "rerank.sock"
    with serving_on(file, small_checkpoint, JINA_RERANK_DRAIN="3600") as process:
        with client(file) as asking:
            process.send_signal(signal.SIGTERM)
            until(lambda: asking.get("/ready").text == "draining")
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    assert not file.exists()


@pytest.mark.parametrize(
    ("umask", "mode"), [(0o022, 0o640), (0o007, 0o660), (0o077, 0o600), (0, 0o660)]
)
def test_permissions_are_those_that_the_umask_leaves(folder: Path, umask: int, mode: int) -> None:
    file = folder / "rerank.sock"
    before = os.umask(umask)
    try:
        with listening(Settings(unix_socket=file)):
            assert stat.S_IMODE(file.stat().st_mode) == mode
        assert os.umask(umask) == umask
    finally:
        os.umask(before)


def test_what_a_killed_service_left_is_replaced(folder: Path, small_checkpoint: Path) -> None:
    file = folder / "rerank.sock"
    with serving_on(file, small_checkpoint) as process:
        process.kill()
        process.wait(60)
    assert file.exists()
    with serving_on(file, small_checkpoint) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert not file.exists()


def test_a_file_on_which_another_process_listens_is_left_to_it(
    folder: Path, small_checkpoint: Path
) -> None:
    file = folder / "rerank.sock"
    with serving_on(file, small_checkpoint):
        done = run("--unix-socket", str(file), "--model", str(small_checkpoint))
        assert done.returncode == 2
        assert f"cannot listen on {file}: another process listens on it" in done.stderr
        with client(file) as asking:
            assert asking.get("/ready").status_code == 200


def test_a_listener_that_is_too_busy_to_accept_is_one(folder: Path) -> None:
    file = folder / "rerank.sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(file))
        busy.listen(0)
        waiting.connect(str(file))
        with (
            pytest.raises(ConfigurationError, match="another process listens"),
            listening(Settings(unix_socket=file)),
        ):
            pass
    assert file.exists()


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_socket_is_never_removed(folder: Path, kind: str) -> None:
    path = folder / "documents"
    if kind == "file":
        path.write_text("precious")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(folder / "elsewhere")
    settings = Settings(unix_socket=path)
    with pytest.raises(ConfigurationError, match="is no socket"), listening(settings):
        pass
    assert path.is_symlink() or path.exists()


def test_a_file_that_another_service_has_put_there_since_is_not_removed(folder: Path) -> None:
    file = folder / "rerank.sock"
    with listening(Settings(unix_socket=file)):
        file.unlink()
        with socket.socket(socket.AF_UNIX) as successor:
            successor.bind(str(file))
    assert file.exists()


@pytest.mark.parametrize("name", ["x" * 200, "absent/rerank.sock", "a\0b"])
def test_a_path_that_no_socket_can_have_is_refused(folder: Path, name: str) -> None:
    settings = Settings(unix_socket=folder / name)
    with pytest.raises(ConfigurationError, match="cannot listen on"), listening(settings):
        pass
    assert list(folder.iterdir()) == []


def test_a_model_that_cannot_be_loaded_leaves_no_file(folder: Path) -> None:
    file = folder / "rerank.sock"
    done = run("--unix-socket", str(file), "--model", str(folder))
    assert done.returncode == 1
    assert not file.exists()

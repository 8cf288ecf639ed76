"""HTTPS: by the service itself, and by the proxy of deploy/Caddyfile, with real processes."""

from __future__ import annotations

import datetime
import http.client
import json
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from serve_processes import run, serving
from serving import LiveService, until

ROOT = Path(__file__).parents[2]
BODY = {"query": "panda", "documents": ["bear", "coffee"]}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of this machine that it has signed itself, and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names: list[x509.GeneralName] = [
        x509.DNSName("localhost"),
        x509.IPAddress(ip_address("127.0.0.1")),
    ]
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    for file, encryption in (
        ("key.pem", serialization.NoEncryption()),
        ("locked.pem", serialization.BestAvailableEncryption(b"a password")),
    ):
        encoded = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        )
        (folder / file).write_bytes(encoded)
    return folder / "cert.pem", folder / "key.pem"


def trusting(certificate: Path) -> httpx.Client:
    context = ssl.create_default_context(cafile=str(certificate))
    return httpx.Client(verify=context, timeout=30)


def test_the_service_speaks_https_and_no_http(
    small_checkpoint: Path, certificate: tuple[Path, Path]
) -> None:
    cert, key = map(str, certificate)
    options = ("--ssl-certfile", cert, "--ssl-keyfile", key, "--model", str(small_checkpoint))
    with serving(*options) as (process, url), trusting(certificate[0]) as client:
        assert url.startswith("https://127.0.0.1:")
        until(lambda: client.get(f"{url}/ready").status_code == 200)
        answer = client.post(f"{url}/v1/rerank", json=BODY)
        assert answer.status_code == 200
        assert len(answer.json()["results"]) == 2
        with pytest.raises(httpx.ConnectError, match=r"self.signed"):
            httpx.get(f"{url}/ready")
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(f"http{url.removeprefix('https')}/ready")
        process.send_signal(signal.SIGTERM)
        # The client keeps its connection, and does not read that it is closed.
        assert process.wait(20) == 0


@pytest.mark.slow
@pytest.mark.parametrize("encrypted", [False, True])
def test_at_its_end_a_slow_reader_gets_the_whole_answer(
    small_checkpoint: Path, certificate: tuple[Path, Path], encrypted: bool
) -> None:
    cert, key = map(str, certificate)
    options = ["--ssl-certfile", cert, "--ssl-keyfile", key] if encrypted else []
    document = {"query": "q", "documents": ["a" * 9000] * 950, "max_doc_length": 4}
    body = json.dumps(document).encode()
    with serving("--model", str(small_checkpoint), *options) as (process, url):
        address = urlsplit(url)
        assert address.hostname is not None
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
        connection.sock = socket.socket()
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        connection.sock.connect((address.hostname, address.port))
        if encrypted:
            context = ssl.create_default_context(cafile=cert)
            connection.sock = context.wrap_socket(connection.sock, server_hostname=address.hostname)
        connection.request("POST", "/v1/rerank", body, {"content-type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 200
        process.send_signal(signal.SIGTERM)
        read = b""
        while piece := answer.read(50_000):
            read += piece
            time.sleep(0.05)  # a megabyte in a second: longer than a silent client is waited for
        assert len(json.loads(read)["results"]) == 950
        connection.close()
        assert process.wait(60) == 0


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("cert.pem", "absent.pem"), "No such file"),
        (("cert.pem", "locked.pem"), "cannot be used"),
        (("cert.pem", "cert.pem"), "cannot be used"),
        (("cert.pem", None), "cannot be used"),
        ((None, "key.pem"), "set ssl_certfile, too"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_said_before_anything_is_loaded(
    files: tuple[str | None, str | None], said: str, certificate: tuple[Path, Path]
) -> None:
    options = [
        part
        for option, file in zip(("--ssl-certfile", "--ssl-keyfile"), files, strict=True)
        if file is not None
        for part in (option, str(certificate[0].with_name(file)))
    ]
    # Nobody is asked for a password: there is no terminal, and the command ends.
    done = run("--port", "0", "--model", "remote:any@http://127.0.0.1:9", *options)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("jina-rerank: --ssl-")
    assert said in done.stderr


def test_a_connection_without_a_handshake_does_not_delay_the_end(
    small_checkpoint: Path, certificate: tuple[Path, Path]
) -> None:
    cert, key = map(str, certificate)
    options = ("--ssl-certfile", cert, "--ssl-keyfile", key, "--model", str(small_checkpoint))
    with serving(*options) as (process, url), trusting(certificate[0]) as client:
        address = urlsplit(url)
        with socket.create_connection((address.hostname, address.port)):
            # It is accepted after the other one, which has thus been accepted, too.
            client.get(f"{url}/live")
            process.send_signal(signal.SIGTERM)
            # asyncio waits 60 s for a handshake.
            assert process.wait(30) == 0


@contextmanager
def proxied(service: str, certificate: tuple[Path, Path], folder: Path) -> Iterator[str]:
    """The address of a Caddy with the file of deploy/, for this service and on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    text = (ROOT / "deploy" / "Caddyfile").read_text(encoding="utf-8")
    for given, here in (
        ("\tservers {", "\tadmin off\n\tauto_https disable_redirects\n\tservers {"),
        (
            "rerank.example.org {",
            f"https://127.0.0.1:{port} {{\n\ttls {' '.join(map(str, certificate))}",
        ),
        ("127.0.0.1:8000", service.removeprefix("http://")),
        ("read_header 10s", "read_header 1s"),
    ):
        assert text.count(given) == 1
        text = text.replace(given, here)
    file = folder / "Caddyfile"
    file.write_text(text)
    caddy = Path(sys.executable).with_name("caddy")
    command = [caddy, "run", "--config", file, "--adapter", "caddyfile"]
    environment = {
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
    }
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log, env=environment) as process,
    ):
        try:
            yield f"https://127.0.0.1:{port}"
        finally:
            process.terminate()


def test_behind_the_proxy_heads_and_bodies_have_limits(
    small_checkpoint: Path, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    with (
        LiveService(models=(str(small_checkpoint),)) as live,
        proxied(live.url, certificate, tmp_path) as url,
        trusting(certificate[0]) as client,
    ):

        def is_ready() -> bool:
            try:
                return client.get(f"{url}/ready").status_code == 200
            except httpx.TransportError:
                return False

        until(is_ready)
        assert len(client.post(f"{url}/v1/rerank", json=BODY).json()["results"]) == 2
        large = client.get(f"{url}/ready", headers={"x-large": "x" * 100_000})
        assert large.status_code == 431
        too_much = client.post(f"{url}/v1/rerank", content=b" " * 10_100_000)
        assert too_much.status_code == 413
        # A head that does not end is not waited for.
        context = ssl.create_default_context(cafile=str(certificate[0]))
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        with (
            socket.create_connection(address, timeout=30) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as slow,
        ):
            slow.sendall(b"POST /v1/rerank HTTP/1.1\r\nhost: 127.0.0.1\r\nx-slow: ")
            assert b"200" not in slow.recv(1000)

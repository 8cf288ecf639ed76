"""Proxies and certificates of the environment are used, or an error names the variable."""

import os
import shutil
import socketserver
import ssl
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable

import pytest
from faults import FaultServer, Status
from proxies import LoopbackProxy

from jina_rerank import (
    ConfigurationError,
    ConnectionFailedError,
    FallbackScorer,
    RemoteScorer,
    Reranker,
    RerankError,
    RetrievalOrder,
    ServerError,
)

PASSWORD = "hunter2"
DEAD = "127.0.0.1:1"
"""A proxy that whoever asks it gets no answer from."""


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch):
    for name in os.environ:
        if name.upper().endswith("_PROXY") or name.startswith(("SSL_CERT", "SSLKEY")):
            monkeypatch.delenv(name)


@pytest.fixture
def rank(server, connect):
    def rank(**settings):
        return len(connect(max_retries=0, **settings).rank("q", ["a", "b"]))

    return rank


def everything_about_failure(act: Callable[..., object], **arguments: object) -> str:
    """Texts of the error and its frames, without the test's own."""
    with pytest.raises(RerankError) as caught:
        act(**arguments)
    error = caught.value
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "\n".join([*told.format(), repr(error), repr(error.args), str(vars(error))])


@pytest.mark.parametrize(
    "entry",
    [
        "127.0.0.1",
        "127.0.0.0/8",
        "127.0.0.0/8,fd00::/8",
        "[::1], fd00::/8 ,127.0.0.1/32",
        "fe80::1%eth0 [fd00::1]:8080 [fd00::]/8 127.0.0.1",
        "*",
        "127.*",
        "http://127.0.0.1",
        "all://127.0.0.1/",
    ],
)
@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
def test_a_host_that_no_proxy_names_is_asked_directly(rank, monkeypatch, variable, entry):
    monkeypatch.setenv("ALL_PROXY", f"http://{DEAD}")
    monkeypatch.setenv(variable, entry)
    assert rank() == 2


@pytest.mark.parametrize("port", ["", "its own"])
def test_an_entry_of_no_proxy_may_have_a_port(rank, server, monkeypatch, port):
    monkeypatch.setenv("HTTP_PROXY", DEAD)
    own = server.url.rpartition(":")[2]
    monkeypatch.setenv("NO_PROXY", f"127.0.0.1:{own if port else 1}")
    if port:
        assert rank() == 2
    else:
        with pytest.raises(ConnectionFailedError):
            rank()


@pytest.mark.parametrize(
    ("entry", "host", "direct"),
    [
        ("example.invalid", "example.invalid", True),
        ("example.invalid", "www.Example.Invalid", True),
        ("example.invalid", "notexample.invalid", False),
        (".example.invalid", "www.example.invalid", True),
        (".example.invalid", "example.invalid", False),
        ("*.example.invalid", "a.example.invalid", True),
        ("*.example.invalid", "example.invalid", False),
        ("bücher.invalid", "xn--bcher-kva.invalid", True),
        ("https://example.invalid", "example.invalid", False),
        ("fd00::/8", "[fd12:3456::1]", True),
        ("[fd00::]/8", "[fe80::1]", False),
        ("[::1]", "[::1]", True),
        ("[::1]:8080", "[::1]", False),
        ("::1", "[0:0::1]", True),
        ("10.0.0.0/8", "11.0.0.1", False),
        ("10.0.0.0/8", "10.example.invalid", False),
    ],
)
def test_no_proxy_names_hosts_by_name_pattern_address_and_network(
    monkeypatch, connect, entry, host, direct
):
    with LoopbackProxy(("user", PASSWORD)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.address)
        monkeypatch.setenv("NO_PROXY", entry)
        reranker = connect(base_url=f"http://{host}:1", max_retries=0, connect_timeout=2.0)
        # The proxy refuses whoever comes without a password; nobody answers at the host itself.
        with pytest.raises(ConnectionFailedError if direct else ConfigurationError):
            reranker.rank("q", ["a"])


@pytest.mark.parametrize(
    "entry", ["fd00::/8", "[::1]", "[::1", "10.0.0.0/99", "a b://c", "<local>"]
)
def test_no_proxy_does_not_matter_where_there_is_no_proxy(rank, monkeypatch, entry):
    monkeypatch.setenv("NO_PROXY", entry)
    assert rank() == 2


@pytest.mark.parametrize("entry", ["[::1", "10.0.0.0/99", "fd00::/129", "<local>"])
def test_an_entry_of_no_proxy_that_cannot_be_read_is_named(rank, monkeypatch, entry):
    monkeypatch.setenv("HTTP_PROXY", DEAD)
    monkeypatch.setenv("NO_PROXY", f"localhost,{entry}")
    with pytest.raises(ConfigurationError, match=r"^NO_PROXY ") as caught:
        rank()
    assert entry in str(caught.value)


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("scheme", ["", "http://", "HTTP://"])
def test_an_http_proxy_is_asked_with_its_password(rank, server, monkeypatch, variable, scheme):
    with LoopbackProxy(("me@home", "p@ss:/word")) as proxy:
        monkeypatch.setenv(variable, f"{scheme}me%40home:p@ss:%2Fword@{proxy.address}")
        assert rank() == 2
        assert proxy.asked == [server.url.removeprefix("http://")]


def test_the_variable_of_the_scheme_counts_before_all_proxy(rank, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks://nobody")
    monkeypatch.setenv("HTTPS_PROXY", "gopher://nobody")
    with LoopbackProxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.address)
        assert rank() == 2
        assert len(proxy.asked) == 1


@pytest.mark.parametrize("credentials", [None, ("user", PASSWORD)])
@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "SOCKS5"])
def test_a_socks_proxy_is_asked(rank, server, monkeypatch, scheme, credentials):
    with LoopbackProxy(credentials) as proxy:
        user = f"{':'.join(credentials)}@" if credentials else ""
        monkeypatch.setenv("ALL_PROXY", f"{scheme}://{user}{proxy.address}")
        assert rank() == 2
        assert proxy.asked == [server.url.removeprefix("http://")]


def test_a_socks_proxy_without_its_package_names_the_variable_and_the_package(rank, monkeypatch):
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv("ALL_PROXY", f"socks5://user:{PASSWORD}@{DEAD}")
    with pytest.raises(ConfigurationError, match=r"^ALL_PROXY .*httpx\[socks\]") as caught:
        rank()
    assert "h2" not in str(caught.value)
    assert PASSWORD not in everything_about_failure(rank)


class Stranger(socketserver.ThreadingTCPServer):
    """Answers whatever it is sent with the same bytes."""

    daemon_threads = True

    def __init__(self, answer: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.answer = answer


class _Answering(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.recv(65536)
        self.request.sendall(self.server.answer)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x05", b"\x05\x07"])
def test_a_socks_proxy_that_does_not_speak_socks_is_a_failed_connection(rank, monkeypatch, answer):
    with Stranger(answer) as stranger:
        thread = threading.Thread(target=stranger.serve_forever)
        thread.start()
        monkeypatch.setenv("ALL_PROXY", f"socks5://127.0.0.1:{stranger.server_address[1]}")
        try:
            with pytest.raises(ConnectionFailedError, match="the proxy of ALL_PROXY"):
                rank()
        finally:
            stranger.shutdown()
            thread.join()


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize(
    "value",
    [
        f"socks://user:{PASSWORD}@proxy:1080",
        f"socks4://user:{PASSWORD}@proxy:1080",
        f"socks4a://user:{PASSWORD}@proxy:1080",
        f"ftp://user:{PASSWORD}@proxy",
        f"http://user:{PASSWORD}@proxy:port",
        f"http://user:{PASSWORD}@proxy:99999",
        f"http://user:{PASSWORD}@[::1",
        f"http://user:{PASSWORD}#?@proxy",
        f"http://user:{PASSWORD}@",
        f"http://user:{PASSWORD} @proxy",
        f"user:{PASSWORD}@proxy:x",
        f"://user:{PASSWORD}@proxy",
    ],
)
def test_a_proxy_that_cannot_be_used_is_named_without_its_password(
    server, monkeypatch, variable, value
):
    monkeypatch.setenv(variable, value)
    scorer = RemoteScorer(base_url=server.url)
    # A fallback would hide it for months.
    reranker = Reranker(FallbackScorer(scorer, RetrievalOrder()))
    with pytest.raises(ConfigurationError, match=f"^{variable} "):
        reranker.rank("q", ["a"])
    said = everything_about_failure(reranker.rank, query="q", documents=["a"])
    assert PASSWORD not in said
    with pytest.raises(ConfigurationError, match=f"^{variable} "):
        scorer.warm_up()
    assert server.received == 0
    # Made right, it works without being built anew.
    monkeypatch.delenv(variable)
    assert len(reranker.rank("q", ["a"])) == 1


@pytest.mark.parametrize("scheme", ["http", "socks5"])
@pytest.mark.parametrize("address", ["http://rerank.invalid", "https://rerank.invalid"])
@pytest.mark.parametrize("credentials", ["", f"user:{PASSWORD}@"])
def test_a_proxy_that_refuses_the_password_is_a_wrong_setting(
    connect, monkeypatch, scheme, address, credentials
):
    with LoopbackProxy(("user", "another"), echo=True) as proxy:
        monkeypatch.setenv("ALL_PROXY", f"{scheme}://{credentials}{proxy.address}")
        reranker = connect(base_url=address)
        with pytest.raises(ConfigurationError, match=r"ALL_PROXY .*USER:PASSWORD@"):
            reranker.rank("q", ["a"])
        said = everything_about_failure(reranker.rank, query="q", documents=["a"])
        assert proxy.asked == []
    assert PASSWORD not in said
    assert "dXNlcjpodW50ZXIy" not in said  # the same in base64


def test_a_proxy_that_nobody_answers_at_is_in_the_message(rank, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://user:{PASSWORD}@{DEAD}")
    with pytest.raises(ConnectionFailedError, match=rf"http_proxy \(http://{DEAD}\)"):
        rank()
    assert PASSWORD not in everything_about_failure(rank)


def test_what_a_proxys_error_page_echoes_is_hidden(server, connect, monkeypatch):
    server.default = Status(503, {"detail": f"cannot pass on for user {PASSWORD}"})
    monkeypatch.setenv("HTTP_PROXY", server.url.replace("//", f"//user:{PASSWORD}@"))
    reranker = connect(base_url="http://rerank.invalid", max_retries=0)
    with pytest.raises(ServerError, match="cannot pass on for user"):
        reranker.rank("q", ["a"])
    assert PASSWORD not in everything_about_failure(reranker.rank, query="q", documents=["a"])


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"])
def test_no_certificates_are_read_for_an_address_without_tls(rank, monkeypatch, name):
    monkeypatch.setenv(name, "/nosuch/place")
    assert rank() == 2


@pytest.mark.parametrize(
    ("variable", "kind"),
    [
        ("SSL_CERT_FILE", "nothing"),
        ("SSL_CERT_FILE", "folder"),
        ("SSL_CERT_FILE", "words"),
        ("SSL_CERT_DIR", "nothing"),
        ("SSL_CERT_DIR", "folder"),
        ("SSL_CERT_DIR", "words"),
        ("SSLKEYLOGFILE", "folder"),
    ],
)
def test_certificates_that_cannot_be_read_name_the_variable(
    connect, monkeypatch, tmp_path, variable, kind
):
    (tmp_path / "folder").mkdir()
    (tmp_path / "words").write_text("no certificate\n")
    monkeypatch.setenv(variable, str(tmp_path / kind))
    reranker = connect(base_url=f"https://{DEAD}", max_retries=0)
    with pytest.raises(ConfigurationError, match=f"^{variable} ") as caught:
        Reranker(FallbackScorer(reranker.scorer, RetrievalOrder())).rank("q", ["a"])
    assert str(tmp_path / kind) in str(caught.value)


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_certificates_of_the_environment_are_trusted(monkeypatch, tmp_path, connect, variable):
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    folder, key = tmp_path / "trusted", tmp_path / "key.pem"
    folder.mkdir()
    certificate = folder / "certificate.pem"
    make = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate]
    subprocess.run(["openssl", *make, *names], check=True, capture_output=True)
    subprocess.run(["openssl", "rehash", folder], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    paths = {"SSL_CERT_FILE": str(certificate), "SSL_CERT_DIR": f"/nosuch{os.pathsep}{folder}"}
    with FaultServer(tls=context) as server:
        address = server.url.replace("127.0.0.1", "localhost")
        with pytest.raises(ConnectionFailedError, match="certificate"):
            connect(base_url=address, max_retries=0).rank("q", ["a"])
        monkeypatch.setenv(variable, paths[variable])
        with LoopbackProxy() as proxy:
            monkeypatch.setenv("https_proxy", proxy.address)
            assert len(connect(base_url=address).rank("q", ["a"])) == 1
            assert proxy.asked == [address.removeprefix("https://")]

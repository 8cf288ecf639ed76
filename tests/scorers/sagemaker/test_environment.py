"""The environment's network settings are boto3's affair, and a wrong one is named nonetheless."""

import os

import pytest
from aws import TEXTS, everything_about, failure_of, scores_of
from boto3 import Session
from botocore.config import Config
from botocore.session import Session as BotocoreSession
from proxies import LoopbackProxy

from jina_rerank import ConfigurationError, ConnectionFailedError

PASSWORD = "hunter2-and-more"


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch, aws):
    for name in os.environ:
        if name.upper().endswith("_PROXY") or name in {"REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE"}:
            monkeypatch.delenv(name)


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy"])
@pytest.mark.parametrize(
    "value",
    [
        f"socks5://user:{PASSWORD}@proxy:1080",
        f"socks://user:{PASSWORD}@proxy:1080",
        f"ftp://user:{PASSWORD}@proxy",
        f"http://user:{PASSWORD}@proxy:port",
        f"http://user:{PASSWORD}@[::1",
        f"http://user:{PASSWORD}@",
    ],
)
def test_a_proxy_that_boto3_cannot_use_is_named(server, build, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    error = failure_of(build())
    assert type(error) is ConfigurationError
    assert str(error).startswith(f"{variable} ")
    assert PASSWORD not in everything_about(error)
    assert server.received == 0


def test_a_proxy_that_boto3_can_use_is_used(server, build, monkeypatch):
    with LoopbackProxy(("user", PASSWORD)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://user:{PASSWORD}@{proxy.address}")
        assert len(scores_of(build(), TEXTS)) == len(TEXTS)
        assert proxy.asked == [server.url.removeprefix("http://")]


@pytest.mark.parametrize("scheme", ["http", "HTTP"])
def test_a_proxy_that_nobody_answers_at_does_not_show_its_password(
    server, build, monkeypatch, scheme
):
    monkeypatch.setenv("HTTP_PROXY", f"{scheme}://user:{PASSWORD}@127.0.0.1:1")
    error = failure_of(build())
    assert type(error) is ConnectionFailedError
    assert PASSWORD not in everything_about(error)


def test_a_proxy_of_the_sessions_own_settings_counts_instead(server, build, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "socks://nobody")
    with LoopbackProxy() as proxy:
        core = BotocoreSession()
        core.set_default_client_config(Config(proxies={"http": f"http://{proxy.address}"}))
        assert scores_of(build(session=Session(botocore_session=core)), TEXTS)
        assert len(proxy.asked) == 1


def test_no_proxy_keeps_a_wrong_proxy_out_of_the_way(server, build, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "socks://nobody")
    monkeypatch.setenv("NO_PROXY", "[::1],127.0.0.1")
    assert scores_of(build(), TEXTS)


@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
@pytest.mark.parametrize("kind", ["nothing", "folder", "words"])
def test_certificates_that_cannot_be_read_name_the_variable(
    server, build, monkeypatch, tmp_path, variable, kind
):
    (tmp_path / "folder").mkdir()
    (tmp_path / "words").write_text("no certificate\n")
    monkeypatch.setenv(variable, str(tmp_path / kind))
    assert scores_of(build(), TEXTS), "without TLS none are read"
    secure = server.url.replace("http:", "https:")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", secure)
    error = failure_of(build())
    assert type(error) is ConfigurationError
    assert str(error).startswith(f"{variable} names {tmp_path / kind}")


def test_a_key_log_that_cannot_be_written_is_no_matter_of_credentials(
    server, build, monkeypatch, tmp_path
):
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "nosuch" / "keys"))
    error = failure_of(build())
    assert type(error) is ConfigurationError
    assert str(error).startswith("SSLKEYLOGFILE ")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", "no address"),
        ("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", "http://[::1"),
        ("AWS_STS_REGIONAL_ENDPOINTS", "anywhere"),
        ("AWS_REQUEST_CHECKSUM_CALCULATION", "sometimes"),
    ],
)
def test_a_setting_that_boto3_refuses_is_a_configuration_error(
    server, build, monkeypatch, variable, value
):
    monkeypatch.setenv(variable, value)
    assert type(failure_of(build())) is ConfigurationError

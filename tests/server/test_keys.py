"""Who may ask: names and keys, from a line or a file that may change."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from serving import LiveService

from jina_rerank import RemoteScorer, Reranker
from jina_rerank.errors import AuthenticationError, ConfigurationError
from jina_rerank.server import Engine, Settings
from jina_rerank.server.keys import Keys
from jina_rerank.server.refusals import Unauthorized

ADA, BOB = "ada-0123456789abcdef", "bob-0123456789abcdef"


def name_of(keys: Keys, key: str) -> str | None:
    try:
        return keys.name_of(f"Bearer {key}")
    except Unauthorized:
        return None


def ask(service: LiveService, path: str = "/v1/rerank", **headers: str) -> httpx.Response:
    body = {"query": "panda", "documents": ["a bear"]}
    return httpx.post(f"{service.url}{path}", json=body, headers=headers, timeout=30)


def test_everybody_is_known_by_name() -> None:
    keys = Keys(f"ada:{ADA}, bob:{BOB}")
    assert (name_of(keys, ADA), name_of(keys, BOB)) == ("ada", "bob")
    assert name_of(keys, ADA[:-1]) is None
    assert name_of(keys, f"ada:{ADA}") is None


def test_without_keys_everybody_may() -> None:
    assert Keys().name_of(None) is None


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "AUTH_MISSING_API_KEY"),
        ("", "AUTH_MISSING_API_KEY"),
        ("Bearer", "AUTH_MISSING_API_KEY"),
        (ADA, "AUTH_MISSING_API_KEY"),
        (f"Basic {ADA}", "AUTH_INVALID_API_KEY"),
        ("Bearer nonsense", "AUTH_INVALID_API_KEY"),
        ("Bearer schlüssel", "AUTH_INVALID_API_KEY"),
    ],
)
def test_why_a_key_is_refused(header: str | None, code: str) -> None:
    with pytest.raises(Unauthorized) as error:
        Keys(f"ada:{ADA}").name_of(header)
    assert error.value.code == code
    assert ADA not in str(error.value)


def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path, caplog) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# who may ask\nada: {ADA}  # the first\n\n")
    keys = Keys(file=file)
    assert (name_of(keys, ADA), name_of(keys, BOB)) == ("ada", None)
    file.write_text(f"bob:{BOB}\n")
    assert (name_of(keys, ADA), name_of(keys, BOB)) == (None, "bob")
    file.write_text("nonsense")
    assert name_of(keys, BOB) == "bob"
    assert name_of(keys, BOB) == "bob"
    file.unlink()
    assert name_of(keys, BOB) == "bob"
    file.write_text(f"bob:{BOB}\nada:{ADA}\n")
    assert (name_of(keys, ADA), name_of(keys, BOB)) == ("ada", "bob")
    assert caplog.text.count("stay as they were") == 2
    assert "nonsense" not in caplog.text


@pytest.mark.parametrize(
    "line",
    [ADA, f"ada:{ADA},ada:{BOB}", "ada:short", "a b:" + ADA, "ada:0123456789 abcdef", ":" + ADA],
)
def test_what_is_no_name_and_key(line: str, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(line.replace(",", "\n"))
    for build in (lambda: Keys(line), lambda: Keys(file=file)):
        with pytest.raises(ConfigurationError) as error:
            build()
        assert "0123456789" not in str(error.value)


@pytest.mark.parametrize("line", [",", " , ", "  ", ",,,"])
def test_a_line_without_keys_is_no_open_door(line: str) -> None:
    """As of `"${A},${B}"` with both variables empty."""
    with pytest.raises(ConfigurationError, match="keys: holds no keys"):
        Engine(Settings(keys=line))


def test_a_comment_begins_a_line_or_follows_a_blank(tmp_path: Path) -> None:
    key = "abcdefghijklmnop#qrstuvwxyz"
    file = tmp_path / "keys"
    file.write_text(f"#all:{ADA}\n # indented\nada:{key}\t# the first\nbob:#{BOB}\n")
    keys = Keys(file=file)
    assert (name_of(keys, key), name_of(keys, f"#{BOB}")) == ("ada", "bob")
    assert name_of(keys, "abcdefghijklmnop") is None
    assert name_of(keys, ADA) is None


def test_an_empty_or_absent_file_is_no_open_door(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("# nobody\n")
    for name in ("empty", "absent"):
        with pytest.raises(ConfigurationError):
            Keys(file=tmp_path / name)


def test_a_name_is_there_once(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"ada:{BOB}")
    with pytest.raises(ConfigurationError, match="ada"):
        Keys(f"ada:{ADA}", tmp_path / "keys")


def test_the_service_asks_for_a_key(start) -> None:
    service = start(keys=f"ada:{ADA}")
    missing = ask(service)
    assert missing.status_code == 401
    assert missing.headers["www-authenticate"] == "Bearer"
    assert missing.json()["code"] == "AUTH_MISSING_API_KEY"
    assert ask(service, authorization="Bearer wrong").json()["code"] == "AUTH_INVALID_API_KEY"
    assert ask(service, authorization=f"Bearer {ADA}").status_code == 200
    assert ask(service, authorization=f"bearer  {ADA}").status_code == 200
    assert httpx.get(f"{service.url}/v1/models").status_code == 401
    with Reranker(RemoteScorer("gated", base_url=service.url, api_key=ADA)) as remote:
        assert len(remote.rank("panda", ["a bear"])) == 1
    with (
        Reranker(RemoteScorer("gated", base_url=service.url, api_key=BOB)) as remote,
        pytest.raises(AuthenticationError),
    ):
        remote.rank("panda", ["a bear"])


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank", "/invocations"])
def test_every_dialect_asks_before_it_reads(start, path: str) -> None:
    service = start(keys=f"ada:{ADA}")
    assert ask(service, path).status_code == 401


def test_what_operators_ask_needs_no_key(start) -> None:
    service = start(keys=f"ada:{ADA}")
    for path in ("/live", "/ready", "/metrics"):
        assert httpx.get(service.url + path).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_without_keys_it_stays_on_this_machine(host: str) -> None:
    with pytest.raises(ConfigurationError, match="loopback"):
        Settings(host=host)
    assert Settings(host=host, allow_anonymous=True).host == host
    assert Settings(host=host, keys=f"ada:{ADA}").host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.1.2.3"])
def test_the_loopback_needs_none(host: str) -> None:
    assert Settings(host=host).host == host

"""Paths as proxies, balancers and web pages ask for them: slashes, HEAD, prefixes and CORS."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from serve_processes import run
from serving import LiveService

from jina_rerank.errors import ConfigurationError
from jina_rerank.server import Engine, Settings, create_app

PAGE = "https://page.example"

BODIES = {
    "/v1/rerank": {"query": "panda", "documents": ["bear", "coffee"]},
    "/v2/rerank": {"model": "gated", "query": "panda", "documents": ["bear", "coffee"]},
    "/rerank": {"query": "panda", "texts": ["bear", "coffee"]},
    "/invocations": {"data": {"query": "panda", "documents": ["bear", "coffee"]}},
    "/playground/rank": {"model": "gated", "query": "panda", "documents": ["bear", "coffee"]},
}

GETS = ["/live", "/ready", "/ping", "/v1/models", "/metrics", "/openapi.json", "/"]


@pytest.mark.parametrize("end", ["/", "//"])
@pytest.mark.parametrize("path", BODIES)
def test_a_slash_at_the_end_is_answered_at_once(start, path: str, end: str) -> None:
    service = start()
    with_slash = httpx.post(f"{service.url}{path}{end}", json=BODIES[path])
    without = httpx.post(f"{service.url}{path}", json=BODIES[path])
    assert (with_slash.status_code, without.status_code) == (200, 200)


@pytest.mark.parametrize("end", ["", "/"])
@pytest.mark.parametrize("path", GETS)
def test_head_says_what_get_would_without_the_body(start, path: str, end: str) -> None:
    service = start()
    head = httpx.head(f"{service.url}{path}{end}")
    get = httpx.get(f"{service.url}{path}{end}")
    assert head.status_code == get.status_code == 200
    assert head.content == b""
    assert head.headers["x-request-id"]
    assert head.headers.get("content-type") == get.headers.get("content-type")
    if path != "/metrics":  # it counts requests
        assert head.headers["content-length"] == str(len(get.content))


def test_head_says_that_it_is_not_ready(start) -> None:
    service = start(drain=3600)
    service.engine.drain()
    assert httpx.head(f"{service.url}/ready").status_code == 503
    assert httpx.head(f"{service.url}/ping").status_code == 503


def test_head_needs_the_key_that_get_needs(start) -> None:
    service = start(keys="ada:ada-0123456789abcdef")
    assert httpx.head(f"{service.url}/v1/models").status_code == 401
    assert httpx.head(f"{service.url}/ready").status_code == 200


def test_head_where_there_is_only_post_says_so(start) -> None:
    refused = httpx.head(f"{start().url}/v1/rerank")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


def routes(service: LiveService) -> set[str]:
    text = httpx.get(f"{service.url}/metrics").text
    families = text_string_to_metric_families(text)
    return {s.labels["route"] for f in families for s in f.samples if "route" in s.labels}


def test_numbers_count_a_path_and_its_other_spellings_as_one(start) -> None:
    service = start(root_path="/rerank")
    for path in ("/v1/models", "/v1/models/", "/rerank/v1/models", "/rerank/v1/models/"):
        assert httpx.get(f"{service.url}{path}").status_code == 200
        assert httpx.head(f"{service.url}{path}").status_code == 200
    assert routes(service) == {"/v1/models"}


@pytest.mark.parametrize("prefix", ["/rerank", "/api/ranking", "/v3", "/a.b~c-d_e"])
@pytest.mark.parametrize("left", [True, False], ids=["left", "taken"])
def test_a_proxy_may_leave_its_prefix_or_take_it_away(start, prefix: str, left: bool) -> None:
    service = start(root_path=prefix)
    url = service.url + prefix * left
    for path in GETS:
        assert httpx.get(f"{url}{path}").status_code == 200, path
    for path, body in BODIES.items():
        for end in ("", "/"):
            assert httpx.post(f"{url}{path}{end}", json=body).status_code == 200, path
    assert httpx.get(f"{url}/nothing").status_code == 404
    described = httpx.get(f"{url}/openapi.json").json()
    assert described["servers"] == [{"url": prefix}]


def test_a_path_that_only_begins_like_the_prefix_is_another_one(start) -> None:
    service = start(root_path="/api")
    assert httpx.get(f"{service.url}/apiready").status_code == 404
    assert httpx.get(f"{service.url}/other/ready").status_code == 404


def test_the_page_s_own_addresses_lead_to_it_behind_a_prefix(start) -> None:
    service = start(root_path="/api/rerank")
    page = httpx.get(f"{service.url}/api/rerank", follow_redirects=True)
    assert page.status_code == 200
    found = re.findall(r'(?:href|src)="([^"#:]+)"', page.text)
    assert "playground/style.css" in found
    for address in found:
        assert httpx.get(page.url.join(address)).status_code == 200, address


@pytest.mark.parametrize("prefix", ["/v1", "/v2"])
def test_a_prefix_that_leaves_it_open_what_was_asked_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match=f"root_path: {prefix} will not do"):
        create_app(Engine(Settings(root_path=prefix)))


@pytest.mark.parametrize(
    "prefix", ["rerank", "/a b", "/a?b", "//a", "/a//b", "/..", "/a/./b", "http://x"]
)
def test_a_prefix_that_is_no_path_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="root_path must be a path such as /rerank"):
        Settings(root_path=prefix)


def test_a_prefix_may_be_written_with_a_slash_at_its_end() -> None:
    assert Settings.read({"root_path": "/rerank/"}, {}).root_path == "/rerank"
    assert Settings.read({}, {"JINA_RERANK_ROOT_PATH": "/"}).root_path == ""


def preflight(url: str, origin: str) -> httpx.Response:
    headers = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    return httpx.options(url, headers=headers)


def test_no_page_of_another_origin_may_ask_by_default(start) -> None:
    service = start()
    refused = preflight(f"{service.url}/v1/rerank", PAGE)
    assert refused.status_code == 405
    answered = httpx.get(f"{service.url}/ready", headers={"origin": PAGE})
    for response in (refused, answered):
        assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize("origins", [(PAGE,), ("https://other.example", PAGE), ("*",)])
def test_pages_of_the_origins_that_are_set_may_ask(start, origins: tuple[str, ...]) -> None:
    key = "ada-0123456789abcdef"
    service = start(cors_origins=origins, keys=f"ada:{key}")
    url = f"{service.url}/v1/rerank"
    allowed = "*" if origins == ("*",) else PAGE
    first = preflight(url, PAGE)
    assert first.status_code == 200
    assert first.headers["access-control-allow-origin"] == allowed
    assert "authorization" in first.headers["access-control-allow-headers"].lower()
    assert "access-control-allow-credentials" not in first.headers
    headers = {"origin": PAGE, "authorization": f"Bearer {key}"}
    answer = httpx.post(url, json=BODIES["/v1/rerank"], headers=headers)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == allowed
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert {"x-request-id", "x-degraded", "retry-after"} <= set(exposed)
    # A page is told why it is refused, too.
    refused = httpx.post(url, json=BODIES["/v1/rerank"], headers={"origin": PAGE})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == allowed


def test_pages_of_other_origins_may_not(start) -> None:
    service = start(cors_origins=(PAGE,))
    refused = preflight(f"{service.url}/v1/rerank", "https://evil.example")
    assert refused.status_code == 400
    assert "access-control-allow-origin" not in refused.headers


def test_options_without_a_page_says_which_methods_there_are(start) -> None:
    service = start(cors_origins=(PAGE,))
    answer = httpx.options(f"{service.url}/v1/rerank")
    assert (answer.status_code, answer.headers["allow"]) == (204, "POST")
    assert httpx.options(f"{service.url}/nothing").status_code == 404


@pytest.mark.parametrize(
    "origin",
    ["page.example", "https://page.example/", "https://page.example/a", "HTTPS://Page.example", ""],
)
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(ConfigurationError, match="cors_origins: each must be"):
        Settings(cors_origins=(origin,))


def test_origins_and_prefix_come_from_everywhere(tmp_path: Path) -> None:
    file = tmp_path / "serve.toml"
    file.write_text(f'cors_origins = ["{PAGE}", "*"]\nroot_path = "/a"\nunix_socket = "/run/s"\n')
    variables = {
        "JINA_RERANK_CORS_ORIGINS": f"{PAGE}, *",
        "JINA_RERANK_ROOT_PATH": "/a",
        "JINA_RERANK_UNIX_SOCKET": "/run/s",
    }
    assert Settings.read({}, {}, file) == Settings.read({}, variables)
    options = ("--cors-origin", PAGE, "--cors-origin", "*", "--root-path", "/a")
    shown = run(*options, "--unix-socket", "/run/s", "--show-settings")
    assert '"root_path": "/a"' in shown.stdout
    assert f'"{PAGE}"' in shown.stdout
    assert '"unix_socket": "/run/s"' in shown.stdout


def test_the_command_names_what_is_wrong_with_a_prefix() -> None:
    done = run("--root-path", "/v1", "--port", "0")
    assert done.returncode == 2
    assert "--root-path: /v1 will not do" in done.stderr

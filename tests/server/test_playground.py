"""The playground's routes, without a browser; `tests/browser` has it in one."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from faults import FaultServer, Status
from serving import LiveService

from jina_rerank import LocalScorer, Reranker

KEY = "a-key-of-the-search-team"
QUERY = "what is a panda?"
DOCUMENTS = ["coffee is brewed", "the giant panda is a bear", "the panda " * 40]


@pytest.mark.parametrize(
    ("path", "kind", "holds"),
    [
        ("/", "text/html; charset=utf-8", "<!doctype html>"),
        ("/playground/style.css", "text/css; charset=utf-8", "prefers-color-scheme"),
        ("/playground/script.js", "text/javascript; charset=utf-8", "import {"),
        ("/playground/icon.svg", "image/svg+xml", "<svg"),
    ],
)
def test_files_have_their_types_and_are_asked_about_each_time(
    service: LiveService, path: str, kind: str, holds: str
) -> None:
    found = httpx.get(service.url + path)
    assert found.status_code == 200
    assert found.headers["content-type"] == kind
    assert found.headers["x-content-type-options"] == "nosniff"
    assert holds in found.text
    policy = found.headers["content-security-policy"].split("; ")
    assert policy[0] == "default-src 'self'"
    assert not any("unsafe" in part or "http" in part for part in policy)

    assert found.headers["cache-control"] == "no-cache"
    etag = found.headers["etag"]
    for known in (etag, f"W/{etag}"):
        again = httpx.get(service.url + path, headers={"if-none-match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == etag
    other = httpx.get(service.url + path, headers={"if-none-match": '"another"'})
    assert other.content == found.content

    head = httpx.head(service.url + path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == found.headers["content-length"]


def test_nothing_in_the_page_is_from_elsewhere_or_inline(service: LiveService) -> None:
    page = httpx.get(f"{service.url}/").text
    assert "://" not in page
    assert "<style" not in page
    assert " style=" not in page
    assert re.search(r"\son\w+\s*=", page) is None
    assert page.count("<script") == page.count('<script type="module" src="playground/')


@pytest.mark.parametrize(
    "path",
    ["/playground", "/playground/", "/playground/../app.py", "/playground/%2e%2e/app.py",
     "/playground/__init__.py", "/playground/index.html"],
)  # fmt: skip
def test_only_its_files_are_served(service: LiveService, path: str) -> None:
    assert httpx.get(service.url + path).status_code == 404


def test_rankings_have_what_no_dialect_tells(service: LiveService, small_checkpoint: Path) -> None:
    body = {"model": "small", "query": QUERY, "documents": DOCUMENTS}
    found = httpx.post(f"{service.url}/playground/rank", json=body).json()
    expected = Reranker(LocalScorer(small_checkpoint)).rank(QUERY, DOCUMENTS)
    assert found.pop("seconds") > 0
    assert found == {
        "model": "small",
        "family": "JinaBERT",
        "degraded": None,
        "tokens": expected.usage.tokens,
        "truncated_query_tokens": 0,
        "results": [
            {
                "index": hit.index,
                "score": pytest.approx(hit.score, abs=1e-6),
                "tokens": hit.tokens,
                "truncated_tokens": hit.truncated_tokens,
            }
            for hit in expected
        ],
    }


def test_a_ranking_of_the_fallback_says_so(small_checkpoint: Path) -> None:
    with FaultServer() as broken:
        broken.default = Status(503)
        models = (f"far=remote:far@{broken.url}", f"small={small_checkpoint}")
        with LiveService(models=models, fallback="small") as service:
            body = {"model": "far", "query": QUERY, "documents": DOCUMENTS}
            found = httpx.post(f"{service.url}/playground/rank", json=body, timeout=60).json()
    assert found["degraded"] == "far could not answer; small did"
    assert (found["model"], found["family"]) == ("small", None)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"query": "q", "documents": ["a"]}, 422, "model"),
        ({"model": "small", "query": "q", "documents": []}, 422, "documents"),
        ({"model": "small", "query": " ", "documents": ["a"]}, 422, "query"),
        ({"model": "other", "query": "q", "documents": ["a"]}, 400, "there are: small"),
    ],
)
def test_refusals_are_for_people(service: LiveService, body: dict, status: int, said: str) -> None:
    found = httpx.post(f"{service.url}/playground/rank", json=body)
    assert found.status_code == status
    assert said in found.json()["message"]
    assert found.json()["request_id"] == found.headers["x-request-id"]


def test_the_page_needs_no_key_and_its_rankings_do(small_checkpoint: Path) -> None:
    with LiveService(models=(f"small={small_checkpoint}",), keys=f"search:{KEY}") as service:
        assert httpx.get(f"{service.url}/").status_code == 200
        assert httpx.get(f"{service.url}/playground/script.js").status_code == 200
        body = {"model": "small", "query": "q", "documents": ["a"]}
        address = f"{service.url}/playground/rank"
        assert httpx.post(address, json=body).status_code == 401
        headers = {"authorization": f"Bearer {KEY}"}
        assert httpx.post(address, json=body, headers=headers, timeout=30).status_code == 200

"""A web page cannot use a service without keys by having its own name resolve to the loopback."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from serving import LiveService

KEY = "ada-0123456789abcdef"
QUERY, DOCUMENTS = "panda", ["a bear", "coffee"]

ROUTES: dict[str, tuple[str, dict[str, Any] | None, set[str]]] = {
    "jina": (
        "/v1/rerank",
        {"query": QUERY, "documents": DOCUMENTS},
        {"detail", "code", "request_id"},
    ),
    "jina, models": ("/v1/models", None, {"detail", "code", "request_id"}),
    "cohere": (
        "/v2/rerank",
        {"model": "gated", "query": QUERY, "documents": DOCUMENTS},
        {"id", "message"},
    ),
    "voyage": ("/voyage/v1/rerank", {"query": QUERY, "documents": DOCUMENTS}, {"detail"}),
    "tei": ("/rerank", {"query": QUERY, "texts": DOCUMENTS}, {"error", "error_type"}),
    "tei, info": ("/info", None, {"error", "error_type"}),
    "vllm": ("/score", {"text_1": QUERY, "text_2": DOCUMENTS}, {"error"}),
    "sagemaker": (
        "/invocations",
        {"data": {"query": QUERY, "documents": DOCUMENTS}},
        {"detail", "code", "request_id"},
    ),
    "playground": (
        "/playground/rank",
        {"model": "gated", "query": QUERY, "documents": DOCUMENTS},
        {"message", "request_id"},
    ),
}


def ask(service: LiveService, route: str, host: str, **headers: str) -> httpx.Response:
    path, body, _ = ROUTES[route]
    method = "GET" if body is None else "POST"
    return httpx.request(
        method, f"{service.url}{path}", json=body, headers={"host": host} | headers, timeout=30
    )


@pytest.mark.parametrize("route", ROUTES)
def test_a_foreign_name_is_refused_in_the_form_of_each_dialect(start, route: str) -> None:
    service = start()
    evil = "evil.example:18431"
    refused = ask(service, route, evil, origin=f"http://{evil}")
    assert refused.status_code == 421
    assert set(refused.json()) == ROUTES[route][2]
    assert "Host header must have an IP address or localhost" in refused.text
    assert "evil" not in refused.text
    assert ask(service, route, "127.0.0.1:8000").status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LocalHost:8000", 200),
        ("127.0.0.1", 200),
        ("192.0.2.7:80", 200),
        ("[::1]", 200),
        ("[::1]:8000", 200),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("evil.example:127", 421),
        ("[evil.example]", 421),
        ("", 421),
    ],
)
def test_addresses_and_this_machine_are_no_names_of_a_page(start, host: str, status: int) -> None:
    assert ask(start(), "jina", host).status_code == status


@pytest.mark.parametrize("settings", [{"keys": f"ada:{KEY}"}, {"allow_anonymous": True}])
def test_a_service_that_others_guard_takes_any_name(start, settings: dict[str, Any]) -> None:
    answer = ask(start(**settings), "jina", "rerank.example", authorization=f"Bearer {KEY}")
    assert answer.status_code == 200


def test_probes_answer_under_any_name(start) -> None:
    service = start()
    for path in ("/live", "/ready", "/health", "/metrics", "/ping"):
        answer = httpx.get(f"{service.url}{path}", headers={"host": "pod.example"})
        assert answer.status_code == 200

"""No dialect takes a value of one kind for one of another: true is no number, and 1 is not true."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from serving import LiveService

ROUTES: dict[str, tuple[str, dict[str, Any], int]] = {
    "jina": ("/v1/rerank", {"query": "panda", "documents": ["bear", "coffee"]}, 422),
    "cohere": (
        "/v2/rerank",
        {"model": "small", "query": "panda", "documents": ["bear", "coffee"]},
        400,
    ),
    "tei": ("/rerank", {"query": "panda", "texts": ["bear", "coffee"]}, 422),
    "sagemaker": ("/invocations", {"query": "panda", "documents": ["bear", "coffee"]}, 422),
    "playground": (
        "/playground/rank",
        {"model": "small", "query": "panda", "documents": ["bear", "coffee"]},
        422,
    ),
}
"""Path, a right body, and the status of a wrong one."""

NO_COUNT = [True, False, "1", "2", 1.5, 2.0, [1], 0, -1]
NO_CHOICE = [0, 1, "true", "no", "", [True]]
NO_TEXT = [True, 1, 1.5, None, ["panda"]]


def post(service: LiveService, dialect: str, **changes: object) -> tuple[httpx.Response, int]:
    path, body, refused = ROUTES[dialect]
    body = body | changes
    sent = {"data": body} if dialect == "sagemaker" else body
    return httpx.post(f"{service.url}{path}", json=sent, timeout=30), refused


@pytest.mark.parametrize(
    ("dialect", "name", "wrong"),
    [
        *(("jina", "top_n", value) for value in NO_COUNT),
        *(("cohere", "top_n", value) for value in NO_COUNT),
        *(("cohere", "max_tokens_per_doc", value) for value in NO_COUNT),
        *(("sagemaker", "top_n", value) for value in NO_COUNT),
        *(("jina", "return_documents", value) for value in NO_CHOICE),
        *(("jina", "truncation", value) for value in NO_CHOICE),
        *(("cohere", "return_documents", value) for value in NO_CHOICE),
        *(("tei", "raw_scores", value) for value in NO_CHOICE),
        *(("tei", "return_text", value) for value in NO_CHOICE),
        *(("tei", "truncate", value) for value in NO_CHOICE),
        *((dialect, "query", value) for dialect in ROUTES for value in NO_TEXT),
        *((dialect, "documents", ["a", value]) for dialect in ROUTES for value in NO_TEXT[:4]),
        ("jina", "query", {"text": True}),
        ("jina", "documents", [{"text": 1}]),
        ("jina", "model", True),
    ],
)
def test_a_value_of_another_kind_is_refused_by_the_name_of_its_field(
    service: LiveService, dialect: str, name: str, wrong: object
) -> None:
    name = "texts" if dialect == "tei" and name == "documents" else name
    reply, refused = post(service, dialect, **{name: wrong})
    assert reply.status_code == refused
    assert name in reply.text


@pytest.mark.parametrize("dialect", ["jina", "cohere", "sagemaker"])
@pytest.mark.parametrize("top_n", [1, 2, 3, None])
def test_a_number_is_a_number(service: LiveService, dialect: str, top_n: int | None) -> None:
    reply, _ = post(service, dialect, top_n=top_n)
    assert reply.status_code == 200

"""Bodies as clients really send them: characters that were cut in two, faults in the JSON, and
headers that say little of what the body is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import pytest
from serving import LiveService

JSON = {"content-type": "application/json"}

CUT = "cut \ud83d"
"""The half of an emoji that JavaScript's `"cut 😀".slice(0, 5)` leaves."""


def to_jina(query: str, documents: list[str]) -> dict[str, Any]:
    return {"model": "small", "query": query, "documents": documents}


def to_jina_objects(query: str, documents: list[str]) -> dict[str, Any]:
    return {"query": {"text": query}, "documents": [{"text": text} for text in documents]}


def to_tei(query: str, documents: list[str]) -> dict[str, Any]:
    return {"query": query, "texts": documents}


def to_sagemaker(query: str, documents: list[str]) -> dict[str, Any]:
    return {"data": {"query": query, "documents": documents}}


Write = Callable[[str, list[str]], dict[str, Any]]

DIALECTS: dict[str, tuple[str, Write, int, set[str], str]] = {
    "jina": ("/v1/rerank", to_jina, 422, {"detail", "request_id", "errors"}, "documents"),
    "objects": (
        "/v1/rerank",
        to_jina_objects,
        422,
        {"detail", "request_id", "errors"},
        "documents",
    ),
    "cohere": ("/v2/rerank", to_jina, 400, {"id", "message"}, "documents"),
    "tei": ("/rerank", to_tei, 422, {"error", "error_type"}, "texts"),
    "sagemaker": ("/invocations", to_sagemaker, 422, {"detail", "code", "request_id"}, "documents"),
    "playground": ("/playground/rank", to_jina, 422, {"message", "request_id"}, "documents"),
}
"""Path, body, status and fields of a refusal, and the name of the documents."""


def post(
    service: LiveService, path: str, content: bytes, headers: Mapping[str, str] = JSON
) -> httpx.Response:
    return httpx.post(f"{service.url}{path}", content=content, headers=headers, timeout=30)


def escaped(body: object) -> bytes:
    r"""As `JSON.stringify` writes it: a lone surrogate is an escape such as `\ud83d`."""
    return json.dumps(body).encode()


def unescaped(body: object) -> bytes:
    """As other libraries write it: three bytes that are no UTF-8."""
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("write", [escaped, unescaped])
@pytest.mark.parametrize(
    ("query", "documents", "where"),
    [
        ("panda", [CUT, "bear"], "[0]"),
        ("panda", ["bear", "\ude00 half"], "[1]"),
        ("panda", ["bear", "\ud83d\ud83d\ude00"], "[1]"),
        ("panda", ["bear", "coffee", "\ud83d\u0041"], "[2]"),
        ("\udbff", ["bear"], None),
    ],
)
def test_half_a_character_is_refused_by_its_name_in_the_words_of_each_dialect(
    service: LiveService,
    dialect: str,
    write: Callable[[object], bytes],
    query: str,
    documents: list[str],
    where: str | None,
) -> None:
    path, body, status, fields, name = DIALECTS[dialect]
    reply = post(service, path, write(body(query, documents)))
    assert reply.status_code == status
    assert set(reply.json()) == fields
    assert (f"{name}{where}" if where else "query") in reply.text
    assert "lone surrogate" in reply.text


@pytest.mark.parametrize("dialect", DIALECTS)
def test_whole_characters_and_fields_that_nobody_reads_are_no_harm(
    service: LiveService, dialect: str
) -> None:
    path, body, *_ = DIALECTS[dialect]
    reply = post(service, path, escaped({**body("panda 😀", ["bear", "漢字 😀"]), "user": CUT}))
    assert reply.status_code == 200


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank"])
@pytest.mark.parametrize("returned", [None, True, False])
@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        (b'"n": "\\ud83d"', "lone surrogate"),
        (b'"n": ["\xed\xa0\xbd"]', "lone surrogate"),
        (b'"\\ude00": 1', "lone surrogate"),
        (b'"n": 1e400', "beyond the range"),
        (b'"n": {"m": [-1e400]}', "beyond the range"),
    ],
)
def test_metadata_that_no_answer_can_have_is_refused_before_it_is_ranked(
    service: LiveService, path: str, returned: bool | None, metadata: bytes, said: str
) -> None:
    body = b'{"query": "panda", "documents": ["a", {"text": "bear", %s}], "return_documents": %s}'
    reply = post(service, path, body % (metadata, json.dumps(returned).encode()))
    if returned is False:
        assert reply.status_code == 200
        return
    assert reply.status_code == 422
    (problem,) = reply.json()["errors"]
    assert problem["field"] == "body -> documents -> 1"
    assert said in problem["message"]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"query": "a",\n "documents" ["b"]}', "line 2 column 1"),
        (b'{"query": "a", "documents": ["b"],}', "line 1 column 35"),
        (b'{"query": "a", "documents": ["b"]', "line 1 column 33"),
        (b'{"query": "\xff"}', "line 1 column 12"),
        (b'{"top_n": NaN}', "line 1 column 11"),
        (b'{"query": "\\ud83d", "documents": [}', "line 1 column 35"),
        (b'{"query": "\\ud83d", "top_n": NaN}', "line 1 column 30"),
        (b'{"query": "\\\\ud83d \\ud83d \\q"}', "line 1 column 28"),
        (b"[" * 1000, "nested too deeply"),
        (b'{"query": "\\ud83d", "documents": ' + b"[" * 100_000, "nested too deeply"),
        (b"", "the body is empty"),
        (b" \n", "the body is empty"),
    ],
)
def test_what_is_no_json_says_where(
    service: LiveService, dialect: str, content: bytes, said: str
) -> None:
    path, *_ = DIALECTS[dialect]
    reply = post(service, path, content)
    assert reply.status_code == 400
    assert said in reply.text


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_byte_order_mark_before_the_body_is_left_out(service: LiveService, dialect: str) -> None:
    path, body, *_ = DIALECTS[dialect]
    plain = escaped(body("panda", ["bear", "coffee"]))
    assert post(service, path, b"\xef\xbb\xbf" + plain).status_code == 200


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": ""},
        {"content-type": "application/octet-stream"},
        {"content-type": "Application/Octet-Stream; charset=binary"},
        {"content-type": "binary/octet-stream"},
        {"content-type": "application/json; charset=utf-8"},
        {"content-type": "application/vnd.api+json"},
    ],
)
def test_a_client_that_does_not_say_what_it_sends_is_answered(
    service: LiveService, dialect: str, headers: dict[str, str]
) -> None:
    path, body, *_ = DIALECTS[dialect]
    content = escaped(body("panda", ["bear", "coffee"]))
    reply = post(service, path, content, headers)
    assert reply.status_code == 200
    assert ("content-type" in reply.request.headers) == bool(headers)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "text/plain, application/json"},
        {"origin": "https://page.example"},
        {"origin": "null"},
    ],
)
def test_what_a_browser_sends_to_anybody_is_told_which_header_is_wrong(
    service: LiveService, dialect: str, headers: dict[str, str]
) -> None:
    path, body, status, fields, _ = DIALECTS[dialect]
    reply = post(service, path, escaped(body("panda", ["bear"])), headers)
    assert reply.status_code == status
    assert set(reply.json()) == fields
    assert "content-type: must be application/json" in reply.text

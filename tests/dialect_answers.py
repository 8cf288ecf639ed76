"""Answers of rerank services, in four dialects: results, and the bodies of their errors.

Everything here is a pure function of the request, so a test can work out the answer by itself.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Dialect = Literal["jina", "cohere", "tei", "sagemaker"]
LimitKind = Literal["requests", "tokens", "concurrency", "ip"]

REQUEST_ID = "03f58cd9da22fabf"
HTML = "<!DOCTYPE html><html><head><title>{status}</title></head><body>cloudflare</body></html>"


@dataclass(frozen=True)
class Shape:
    """Shape of a right answer where services differ.

    Args:
        document: How results carry their document: in this shape whatever was asked for; None
            follows the request, and echoes a string as a string and an object as an object.
        order: Order of the results: by score, in no order, or as the documents were given.
        drop: Keys to leave out, at the top level (of each element of `data` for SageMaker).
        extra: Keys to add there, or to replace.
        result_extra: Keys to add to every result.
    """

    document: Literal["string", "object", "absent"] | None = None
    order: Literal["sorted", "shuffled", "given"] = "sorted"
    drop: Sequence[str] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    result_extra: Mapping[str, Any] = field(default_factory=dict)

    def top(self, payload: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in payload.items() if k not in self.drop} | dict(self.extra)


def score(query: str, document: str) -> float:
    """The score of one pair: in (0, 1), spread evenly, and the same on every machine."""
    # The length of the query keeps ("a", "bc") and ("ab", "c") apart.
    pair = f"{len(query)} {query}{document}".encode("utf-8", "surrogatepass")
    fraction = int.from_bytes(hashlib.blake2b(pair, digest_size=8).digest()) / 2**64
    return round(0.0001 + 0.9998 * fraction, 8)


def count_tokens(query: str, documents: Sequence[str]) -> int:
    """Words, of the query once and of every document once."""
    return len(query.split()) + sum(len(document.split()) for document in documents)


def text_of(value: Any) -> str:
    """The text of a query or of a document, however it was sent."""
    if isinstance(value, str):
        return value
    return value["text"] if "text" in value else json.dumps(value, sort_keys=True)


def dialect_of(path: str, body: Any) -> Dialect | None:
    """Which dialect a request speaks, or None if its path is no rerank service's."""
    path = path.partition("?")[0]
    if path.endswith("/v2/rerank"):
        return "cohere"
    if path.endswith("/invocations"):
        return "sagemaker"
    if path.endswith("/rerank"):
        return "tei" if isinstance(body, dict) and "texts" in body else "jina"
    return None


def documents_of(dialect: Dialect | None, body: Any) -> list[Any]:
    """All documents of a request."""
    if dialect == "tei":
        return list(body["texts"])
    if dialect == "sagemaker":
        return [document for part in _sagemaker_parts(body) for document in part["documents"]]
    return list(body["documents"])


def right_payload(dialect: Dialect, body: Any, shape: Shape) -> Any:
    """The well-formed answer to a request."""
    return _PAYLOADS[dialect](body, shape)


def _ranked(
    query: str, documents: list[str], top_n: int | None, shape: Shape
) -> list[tuple[int, float]]:
    scores = [score(query, document) for document in documents]
    kept = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:top_n]
    if shape.order == "given":
        kept.sort()
    elif shape.order == "shuffled":
        kept = kept[1::2] + kept[::2]  # never the sorted order, from two results on
    return [(i, scores[i]) for i in kept]


def _jina(body: Any, shape: Shape) -> dict[str, Any]:
    query, documents = text_of(body["query"]), body["documents"]
    texts = [text_of(document) for document in documents]
    asked = body.get("return_documents") is not False
    # The listwise family always answers objects.
    as_object = shape.document == "object" or body["model"].startswith("jina-reranker-v3")
    results = []
    for i, relevance in _ranked(query, texts, body.get("top_n"), shape):
        result: dict[str, Any] = {"index": i, "relevance_score": relevance}
        if shape.document == "string":
            result["document"] = texts[i]
        elif shape.document == "object" or (asked and shape.document is None):
            plain = as_object and isinstance(documents[i], str)
            result["document"] = {"text": texts[i]} if plain else documents[i]
        results.append(result | dict(shape.result_extra))
    return shape.top(
        {
            "model": body["model"],
            "object": "list",
            "usage": {"total_tokens": count_tokens(query, texts)},
            "results": results,
        }
    )


def _cohere(body: Any, shape: Shape) -> dict[str, Any]:
    query, documents = body["query"], body["documents"]
    results = []
    for i, relevance in _ranked(query, documents, body.get("top_n"), shape):
        result: dict[str, Any] = {"index": i, "relevance_score": relevance}
        if shape.document in {"string", "object"}:
            text = documents[i]
            result["document"] = {"text": text} if shape.document == "object" else text
        results.append(result | dict(shape.result_extra))
    units = {"search_units": math.ceil(len(documents) / 100)}
    meta = {"api_version": {"version": "2"}, "billed_units": units}
    return shape.top({"id": REQUEST_ID, "results": results, "meta": meta})


def _tei(body: Any, shape: Shape) -> list[dict[str, Any]]:
    query, texts = body["query"], body["texts"]
    with_text = shape.document is None and body.get("return_text", False)
    results = []
    for i, relevance in _ranked(query, texts, None, shape):
        raw = math.log(relevance / (1 - relevance))
        result = {"index": i, "score": raw if body.get("raw_scores") else relevance}
        if with_text or shape.document in {"string", "object"}:
            result["text"] = texts[i]
        results.append(result | dict(shape.result_extra))
    return results


def _sagemaker_parts(body: Any) -> list[Any]:
    data = body["data"]
    return data if isinstance(data, list) else [data]


def _sagemaker(body: Any, shape: Shape) -> dict[str, Any]:
    # The multimodal container is the one that is sent a list, and it leaves the ids out.
    ids: dict[str, Any] = {} if isinstance(body["data"], list) else {"id": REQUEST_ID}
    answers = []
    for part in _sagemaker_parts(body):
        query = text_of(part["query"])
        texts = [text_of(document) for document in part["documents"]]
        results = []
        for i, relevance in _ranked(query, texts, part.get("top_n"), shape):
            result: dict[str, Any] = {**ids, "index": i, "relevance_score": relevance}
            if shape.document == "string":
                result["document"] = texts[i]
            elif shape.document != "absent":
                result["document"] = {**ids, "text": texts[i]}
            result["usage"] = {**ids, "total_tokens": count_tokens("", [texts[i]])}
            results.append(result | dict(shape.result_extra))
        answer = {
            **ids,
            "query_usage": {**ids, "total_tokens": count_tokens(query, [])},
            "docs_usage": {**ids, "total_tokens": count_tokens("", texts)},
            "results": results,
        }
        answers.append(shape.top(answer))
    return {"data": answers, "parameters": {}}


_PAYLOADS: dict[Dialect, Callable[[Any, Shape], Any]] = {
    "jina": _jina,
    "cohere": _cohere,
    "tei": _tei,
    "sagemaker": _sagemaker,
}


def flat(code: str, detail: str, request_id: str = REQUEST_ID) -> dict[str, Any]:
    """The layer for keys and limits."""
    return {"detail": detail, "code": code, "request_id": request_id}


def nested(code: str, message: str, request_id: str = REQUEST_ID) -> dict[str, Any]:
    """The application."""
    message = f"[RID: {request_id}] {message}"
    return {"detail": {"message": message, "request_id": request_id, "code": code}}


def validation(field: str, message: str, request_id: str = REQUEST_ID) -> dict[str, Any]:
    """A 422 of today. For more than one field, its `detail` is known to say nothing of use."""
    error = {"field": f"body -> {field}", "message": message, "type": "value_error", "input": None}
    detail = f"Validation error: 'body -> {field}' {message}"
    return {"detail": detail, "request_id": request_id, "errors": [error]}


def fastapi_validation(field: str, message: str) -> dict[str, Any]:
    """A 422 of the old gateway and of small servers."""
    return {"detail": [{"loc": ["body", field], "msg": message, "type": "value_error"}]}


def plain(detail: str) -> dict[str, Any]:
    """An old answer."""
    return {"detail": detail}


def openai(code: str, message: str) -> dict[str, Any]:
    """vLLM, infinity and llama.cpp."""
    return {"error": {"message": message, "type": "invalid_request", "param": None, "code": code}}


def tei(error_type: str, message: str) -> dict[str, Any]:
    """TEI."""
    return {"error": message, "error_type": error_type}


def cohere(message: str, request_id: str = REQUEST_ID) -> dict[str, Any]:
    """Cohere."""
    return {"id": request_id, "message": message}


ERROR_BODIES: dict[str, dict[str, Any] | str] = {
    "flat": flat("INTERNAL_ERROR", "told by the service"),
    "nested": nested("INTERNAL_ERROR", "told by the service"),
    "validation": validation("documents", "told by the service"),
    "fastapi": fastapi_validation("documents", "told by the service"),
    "plain": plain("told by the service"),
    "openai": openai("internal_error", "told by the service"),
    "tei": tei("Backend", "told by the service"),
    "cohere": cohere("told by the service"),
    "html": HTML,
    "empty": "",
}
"""One body in every shape that was seen. All but the last two say "told by the service"."""

INSUFFICIENT_BALANCE = flat("AUTHZ_INSUFFICIENT_BALANCE", "Insufficient account balance.")
INVALID_KEY = flat("AUTH_INVALID_API_KEY", "The API key is invalid.")
MODEL_NOT_FOUND = nested("INPUT_MODEL_NOT_FOUND", "Model not found.")
TOO_LONG = nested("INPUT_TOKEN_LIMIT_EXCEEDED", "The input is too long.")
BUSY = nested("CONFLICT_RESOURCE_BUSY", "The resource is busy.")
INTERNAL_ERROR = nested("INTERNAL_ERROR", "An unexpected error occurred.")
UNAVAILABLE = nested("SERVICE_UNAVAILABLE", "Please retry with exponential backoff.")
SERVICE_TIMEOUT = nested("SERVICE_TIMEOUT", "Try with smaller inputs or retry later.")

_LIMITS: dict[LimitKind, tuple[str, str]] = {
    "requests": (
        "RATE_REQUEST_LIMIT_EXCEEDED",
        "Request rate limit exceeded: 101/100 requests per minute",
    ),
    "tokens": (
        "RATE_TOKEN_LIMIT_EXCEEDED",
        "Token rate limit exceeded: 100,512/100,000 tokens per minute",
    ),
    "concurrency": (
        "RATE_CONCURRENCY_LIMIT_EXCEEDED",
        "Concurrency limit exceeded: 3/2 concurrent requests",
    ),
    "ip": ("RATE_IP_LIMIT_EXCEEDED", "IP rate limit exceeded"),
}


def rate_limit_body(dialect: Dialect | None, kind: LimitKind) -> dict[str, Any]:
    """The body of a 429, in the dialect of the request."""
    code, detail = _LIMITS[kind]
    if dialect == "tei":
        return tei("Overloaded", "Model is overloaded")
    return cohere(detail) if dialect == "cohere" else flat(code, detail)


def too_large_body(
    dialect: Dialect | None,
    status: int,
    count: int,
    limit: int,
    unit: Literal["documents", "bytes"],
) -> dict[str, Any] | str:
    """The body that refuses a request of `count` documents or bytes where `limit` are allowed."""
    if status == 504:
        return SERVICE_TIMEOUT
    if dialect == "tei":
        if unit == "bytes":
            return "Failed to buffer the request body: length limit exceeded"
        return tei("Validation", f"batch size {count} > maximum allowed batch size {limit}")
    message = f"{count} {unit} are more than the {limit} allowed"
    return validation("documents", message) if status == 422 else plain(message)

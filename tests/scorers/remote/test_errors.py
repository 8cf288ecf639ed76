"""Every failure becomes an error with a type, whichever shape its body has."""

import json
import math
import pickle

import dialect_answers as bodies
import pytest
from dialect_answers import REQUEST_ID
from faults import EchoKey, FaultServer, Html, RateLimited, Redirect, Right, Status
from hypothesis import given
from hypothesis import strategies as st

from jina_rerank import (
    AuthenticationError,
    ConfigurationError,
    InputError,
    InsufficientBalanceError,
    RateLimitError,
    RejectedInputError,
    RejectedSettingError,
    RequestTimeoutError,
    ServerError,
    ServiceError,
)
from jina_rerank.scorers.service.failures import read_retry_after


def fail(server: FaultServer, connect, fault, **settings) -> ServiceError:
    server.default = fault
    with pytest.raises(ServiceError) as caught:
        connect(max_retries=0, **settings).rank("q", ["a", "b"])
    copy = pickle.loads(pickle.dumps(caught.value))
    assert copy.__dict__ == caught.value.__dict__
    return caught.value


@pytest.mark.parametrize(
    ("body", "code", "request_id", "message"),
    [
        (bodies.flat("INTERNAL_ERROR", "It broke."), "INTERNAL_ERROR", REQUEST_ID, "It broke."),
        (bodies.nested("INTERNAL_ERROR", "It broke."), "INTERNAL_ERROR", REQUEST_ID, "It broke."),
        (bodies.plain("It broke."), None, None, "It broke."),
        (bodies.openai("internal_error", "It broke."), "internal_error", None, "It broke."),
        (bodies.tei("backend", "It broke."), "backend", None, "It broke."),
        (bodies.cohere("It broke."), None, None, "It broke."),
        ("<html><head><title>502 Bad Gateway</title>", None, None, "web page titled '502 Bad"),
        ("upstream connect error", None, None, "upstream connect error"),
        (None, None, None, "no reason given"),
        ([1, 2], None, None, "[1, 2]"),
        ({"weird": {"deeply": 1}}, None, None, "deeply"),
        ({"detail": {"nothing": "known"}}, None, None, "known"),
        ({"detail": "[RID: 73fa12] It broke."}, None, "73fa12", "It broke."),
    ],
)
def test_every_shape_of_an_error(server, connect, body, code, request_id, message) -> None:
    error = fail(server, connect, Status(500, body))
    assert type(error) is ServerError
    assert (error.status, error.code, error.request_id) == (500, code, request_id)
    assert message in str(error)
    assert server.url in str(error)


def test_a_request_id_from_the_headers(server: FaultServer, connect) -> None:
    error = fail(server, connect, Status(500, headers={"x-request-id": "abc"}))
    assert error.request_id == "abc"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, bodies.flat("AUTH_MISSING_API_KEY", "No key."), AuthenticationError),
        (401, bodies.INVALID_KEY, AuthenticationError),
        (401, None, AuthenticationError),
        (402, bodies.plain("Payment required"), InsufficientBalanceError),
        (403, bodies.INSUFFICIENT_BALANCE, InsufficientBalanceError),
        (403, bodies.plain("Insufficient balance"), InsufficientBalanceError),
        (403, bodies.flat("AUTHZ_RESOURCE_LIMIT_EXCEEDED", "No."), AuthenticationError),
        (403, "<html>", AuthenticationError),
        (400, bodies.MODEL_NOT_FOUND, RejectedSettingError),
        (404, bodies.flat("RESOURCE_NOT_FOUND", "No."), RejectedSettingError),
        (405, bodies.plain("Method Not Allowed"), RejectedSettingError),
        (400, bodies.TOO_LONG, RejectedInputError),
        (413, None, ServiceError),
        (422, bodies.validation("documents", "Too many."), RejectedInputError),
        (408, None, RequestTimeoutError),
        (409, bodies.BUSY, ServerError),
        (424, bodies.tei("backend", "No."), ServerError),
        (429, None, RateLimitError),
        (500, bodies.INTERNAL_ERROR, ServerError),
        (503, bodies.UNAVAILABLE, ServerError),
        (504, bodies.SERVICE_TIMEOUT, ServerError),
        (524, bodies.HTML, ServerError),
        (599, None, ServerError),
    ],
)
def test_every_status(server: FaultServer, connect, status: int, body, kind) -> None:
    error = fail(server, connect, Status(status, body))
    assert isinstance(error, kind)
    assert error.status == status


@pytest.mark.parametrize(
    ("body", "argument", "message"),
    [
        (bodies.validation("documents", "Too many."), "documents", "Too many."),
        (bodies.fastapi_validation("documents", "ensure this"), "documents", "ensure this"),
        (bodies.TOO_LONG, "request", "too long"),
    ],
)
def test_a_refused_input_is_an_input_error(server, connect, body, argument, message) -> None:
    error = fail(server, connect, Status(422, body))
    assert isinstance(error, InputError)
    assert isinstance(error, ValueError)
    assert error.argument == argument
    assert error.problem == str(error)
    assert message in str(error)


def test_an_unknown_model_is_a_configuration_error(server: FaultServer, connect) -> None:
    error = fail(server, connect, Status(400, bodies.MODEL_NOT_FOUND))
    assert isinstance(error, ConfigurationError)
    assert "model" in str(error)


def test_a_redirect_is_not_followed(server: FaultServer, connect) -> None:
    error = fail(server, connect, Redirect(f"{server.url}/elsewhere"))
    assert isinstance(error, ConfigurationError)
    assert f"{server.url}/elsewhere" in str(error)
    assert server.received == 1


@pytest.mark.parametrize("kind", ["requests", "tokens", "concurrency", "ip"])
def test_which_limit_and_how_long(server: FaultServer, connect, kind: str) -> None:
    error = fail(server, connect, RateLimited(kind=kind, retry_after="7"))
    assert isinstance(error, RateLimitError)
    assert error.kind == kind
    assert error.retry_after == 7.0


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("Request rate limit exceeded: 501/500 requests per minute", "requests"),
        ("Token rate limit exceeded: 1,000,002/1,000,000 tokens per minute", "tokens"),
        ("Concurrency limit exceeded: 3/2 concurrent requests", "concurrency"),
        ("Model is overloaded", None),
    ],
)
def test_which_limit_from_the_words_alone(server, connect, message: str, kind) -> None:
    error = fail(server, connect, Status(429, bodies.plain(message)))
    assert isinstance(error, RateLimitError)
    assert error.kind == kind


@pytest.mark.parametrize("kind", ["requests", "tokens"])
def test_which_limit_from_the_headers_alone(server, connect, kind: str) -> None:
    headers = {f"x-ratelimit-remaining-{kind}": "0"}
    error = fail(server, connect, Status(429, headers=headers))
    assert isinstance(error, RateLimitError)
    assert error.kind == kind


def test_a_gateway_s_page_is_not_quoted_at_length(server: FaultServer, connect) -> None:
    error = fail(server, connect, Status(502, "x" * 10_000))
    assert len(str(error)) < 700
    assert "web page" in str(fail(server, connect, Html(524)))


def test_a_key_that_is_sent_back_is_taken_out(server: FaultServer, connect) -> None:
    error = fail(server, connect, EchoKey())
    assert isinstance(error, AuthenticationError)
    assert "jina_0123456789abcdef" not in str(error)
    assert "Bearer ***" in str(error)


@pytest.mark.parametrize(
    "header",
    [
        "Wed, 21 Oct 2015 99999999999999999999:28:00 GMT",
        "Wed, 21 Oct 2015 07:28:00 +9999999999999",
        "Wed, 21 Oct 99999 07:28:00 GMT",
        "soon",
        "nan",
        "1e999",
        "",
    ],
)
def test_a_retry_after_that_cannot_be_read_is_none(server, connect, header: str) -> None:
    error = fail(server, connect, Status(503, headers={"retry-after": header}))
    assert isinstance(error, ServerError)
    assert error.retry_after is None


@given(st.text() | st.from_regex(r"Wed, \d+ Oct \d+ \d+:\d+:\d+ ([+-]\d+|GMT)", fullmatch=True))
def test_no_retry_after_breaks_the_reading(header: str) -> None:
    seconds = read_retry_after(header)
    assert seconds is None or 0 <= seconds < math.inf


@pytest.mark.parametrize(
    "body",
    [
        b'{"detail": "\\ud800 overloaded", "code": "\\ud800", "request_id": "\\udfff"}',
        b'{"detail": [{"loc": ["body", "\\ud800"], "msg": "\\ud800"}]}',
        b'"\\ud800"',
        b'{"weird": "\\ud800"}',
    ],
)
def test_half_a_character_in_a_message_is_replaced(server: FaultServer, connect, body) -> None:
    error = fail(server, connect, Status(422, body.decode()))
    everything = f"{error} {error.code} {error.request_id} {getattr(error, 'argument', '')}"
    assert everything.encode()


def test_half_a_character_in_a_services_reason_is_replaced(server: FaultServer, connect) -> None:
    server.default = Right(extra={"degraded": "\ud800 tired"})
    ranking = connect().rank("q", ["a"])
    assert "tired" in (ranking.degraded or "")
    assert json.dumps(ranking.to_dict(), ensure_ascii=False).encode()

"""Whatever an endpoint, SageMaker or the way there does wrong has one of our types."""

import socket

import pytest
from aws import QUERY, TEXTS, aws_answer, container_answer, failure_of, scores_of
from dialect_answers import score
from faults import (
    CloseMidBody,
    HalfJson,
    Hang,
    Html,
    HugeBody,
    ResetBefore,
    ResetMidBody,
    Right,
    Status,
)
from loopback import Fault, SeenRequest

from jina_rerank import (
    AuthenticationError,
    ConnectionFailedError,
    RateLimitError,
    RejectedInputError,
    RejectedSettingError,
    RequestTimeoutError,
    ResponseError,
    ServerError,
    ServiceError,
)


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (400, '{"detail": "told by the container"}', RejectedInputError, None),
        (422, '{"message": "told by the container", "code": 7}', RejectedInputError, "7"),
        (401, "told by the container", RejectedInputError, "ModelError"),
        (403, "told by the container", RejectedInputError, "ModelError"),
        (404, "told by the container", RejectedSettingError, None),
        (429, "told by the container", RateLimitError, None),
        (500, "told by the container", ServerError, None),
        (503, "<html><title>told by the container</title></html>", ServerError, None),
    ],
)
def test_a_containers_own_answer_counts(server, build, status, body, kind, code):
    server.default = container_answer(status, body)
    error = failure_of(build())
    assert type(error) is kind
    assert (error.status, error.code, error.request_id) == (status, code, "RID-1")
    assert "told by the container" in str(error)
    assert server.received == 1


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "ValidationError", RejectedSettingError),  # Endpoint ... of account ... not found.
        (400, "ThrottlingException", RateLimitError),
        (429, "TooManyRequestsException", RateLimitError),
        (429, "ModelNotReadyException", ServerError),
        (403, "UnrecognizedClientException", AuthenticationError),
        (403, "AccessDeniedException", AuthenticationError),
        (403, "ExpiredTokenException", AuthenticationError),
        (400, "ExpiredTokenException", AuthenticationError),
        (403, "SomethingNew", AuthenticationError),
        (424, "ModelError", ServerError),  # without an answer of the container's
        (500, "InternalFailure", ServerError),
        (503, "ServiceUnavailable", ServerError),
        (530, "InternalDependencyException", ServerError),
        (500, "SomethingNew", ServerError),
        (418, "SomethingNew", ServiceError),
    ],
)
def test_an_answer_of_sagemakers_has_a_type(server, build, status, code, kind):
    server.default = aws_answer(status, code)
    error = failure_of(build())
    assert type(error) is kind
    assert (error.status, error.code, error.request_id) == (status, code, "RID-1")
    assert "told by AWS" in str(error)
    assert server.received == 1


def test_how_long_to_wait_is_kept(server, build):
    server.default = Status(429, {"Message": "slow"}, {"retry-after": "99"})
    error = failure_of(build(max_retries=2))
    assert (type(error), error.code, error.retry_after) == (RateLimitError, None, 99.0)
    assert server.received == 1


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (Html(502), ServerError, "a web page"),
        (Html(200), ResponseError, "not JSON"),
        (HalfJson(), ResponseError, "not JSON"),
        (HugeBody(8), ResponseError, "larger than 4,000,"),
        (HugeBody(8, declared=True), ResponseError, "larger than 4,000,"),
        (ResetBefore(), ConnectionFailedError, "closed"),
        (ResetMidBody(), ConnectionFailedError, "reset"),
        (CloseMidBody(), ConnectionFailedError, "total bytes expected"),
        (Hang(), RequestTimeoutError, "silent for 0.3 s"),
    ],
)
def test_what_breaks_on_the_way_has_a_type(server, build, fault, kind, words):
    server.default = fault
    error = failure_of(build(read_timeout=0.3))
    assert type(error) is kind
    assert words in str(error)


@pytest.mark.parametrize("declared", [True, False])
def test_of_a_huge_answer_the_rest_is_not_read(server, build, declared):
    server.default = HugeBody(8, declared)
    failure_of(build())
    # A connection whose answer was read to its end would be kept.
    assert server.open_connections == 0


def test_an_endpoint_that_is_not_there(monkeypatch, build):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", f"http://127.0.0.1:{port}")
    assert type(failure_of(build())) is ConnectionFailedError


@pytest.mark.parametrize(
    "fault",
    [
        aws_answer(400, "ThrottlingException", "Rate exceeded"),
        container_answer(503, "starting"),
        ResetBefore(),
    ],
)
def test_what_passes_is_tried_again_by_us_and_not_by_boto3(server, build, fault):
    server.script(fault)
    assert scores_of(build(max_retries=1), TEXTS) == [score(QUERY, text) for text in TEXTS]
    assert server.received == 2
    assert all(r.headers["amz-sdk-request"] == "attempt=1; max=1" for r in server.requests)


@pytest.mark.parametrize(
    "refusal",
    [
        container_answer(413, "too large"),
        Status(413, "HTTP content length exceeded 5246976 bytes."),
        aws_answer(400, "ValidationError", "Request 1 has oversize body."),
        aws_answer(424, "ModelError", "", OriginalStatusCode=0, OriginalMessage="It timed out."),
    ],
)
def test_what_is_too_large_is_halved(server, build, refusal):
    def choose(request: SeenRequest) -> Fault:
        return refusal if len(request.json["data"]["documents"]) > 2 else Right()

    server.choose = choose
    assert scores_of(build(), TEXTS) == [score(QUERY, text) for text in TEXTS]

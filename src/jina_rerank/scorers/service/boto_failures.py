"""Conversion of boto3's exceptions to a reply of the container, or to an error with a type."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ...errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectionFailedError,
    RateLimitError,
    RejectedInputError,
    RejectedSettingError,
    RequestTimeoutError,
    RerankError,
    ServerError,
    ServiceError,
)
from .failures import LONGEST_MESSAGE, read_retry_after
from .secrets import HIDDEN
from .wire import Reply

# botocore masks a proxy's password, but not in an address that it cannot read.
_USER_OF_URL = re.compile(r"//\S*@")

# By name, since the oldest supported botocore lacks some of the classes.
_CREDENTIALS = frozenset(
    {
        "CredentialRetrievalError",
        "LoginError",
        "MetadataRetrievalError",
        "NoAuthTokenError",
        "NoCredentialsError",
        "PartialCredentialsError",
        "RefreshWithMFAUnsupportedError",
        "SSOError",
        "TokenRetrievalError",
    }
)
_SETTINGS = frozenset(
    {
        "BaseEndpointResolverError",  # NoRegionError among them
        "ConfigNotFound",
        "ConfigParseError",
        "EndpointProviderError",
        "InvalidChecksumConfigError",
        "InvalidConfigError",
        "InvalidDefaultsMode",
        "InvalidEndpointConfigurationError",
        "InvalidIMDSEndpointError",
        "InvalidIMDSEndpointModeError",
        "InvalidMaxRetryAttemptsError",
        "InvalidProxiesConfigError",
        "InvalidRegionError",
        "InvalidRetryConfigurationError",
        "InvalidRetryModeError",
        "InvalidSTSRegionalEndpointsConfigError",
        "MissingDependencyException",
        "ParamValidationError",
        "ProfileNotFound",
        "UnknownRegionError",
    }
)
_CONNECTION = frozenset({"ConnectionError", "HTTPClientError", "IncompleteReadError"})

_BY_CODE: dict[str, type[ServiceError]] = {
    **dict.fromkeys(
        (
            "AccessDenied",
            "AccessDeniedException",
            "ExpiredToken",
            "ExpiredTokenException",
            "IncompleteSignature",
            "IncompleteSignatureException",
            "InvalidClientTokenId",
            "InvalidSignatureException",
            "MissingAuthenticationToken",
            "MissingAuthenticationTokenException",
            "NotAuthorized",
            "OptInRequired",
            "RequestExpired",
            "SignatureDoesNotMatch",
            "UnrecognizedClientException",
        ),
        AuthenticationError,
    ),
    **dict.fromkeys(
        (
            "RequestLimitExceeded",
            "RequestThrottled",
            "RequestThrottledException",
            "SlowDown",
            "ThrottledException",
            "Throttling",
            "ThrottlingException",
            "TooManyRequestsException",
        ),
        RateLimitError,
    ),
    # SageMaker's front validates the endpoint's name and state. The container validates the body,
    # except for its size, which is checked first.
    "ValidationError": RejectedSettingError,
    "ValidationException": RejectedSettingError,
    # A 429 for a model that is still loading: fewer requests would not help.
    "ModelNotReadyException": ServerError,
    "InternalFailure": ServerError,
    "InternalDependencyException": ServerError,
    "InternalStreamFailure": ServerError,
    "ServiceUnavailable": ServerError,
}
_BY_STATUS: dict[int, type[ServiceError]] = {
    401: AuthenticationError,
    403: AuthenticationError,
    404: RejectedSettingError,
    429: RateLimitError,
}
_MEANING: dict[type[ServiceError], str] = {
    AuthenticationError: "the AWS credentials are not accepted",
    RateLimitError: "too many requests",
    RejectedSettingError: "check endpoint_name, the region and the account",
    ServerError: "it failed on its side",
}


def read_boto_failure(
    error: Exception,
    service: str,
    hide: Callable[[str], str],
    *,
    connect_timeout: float,
    read_timeout: float,
    has_credentials: bool,
) -> Reply | RerankError:
    """Convert an exception of boto3 to the container's own reply, or to an error.

    Args:
        error: The exception. It is not attached to the result, since its traceback holds
            credentials and signed headers.
        service: The endpoint, for messages.
        hide: Removes the credentials from a text.
        connect_timeout: The timeout that was set, for messages.
        read_timeout: The timeout that was set, for messages.
        has_credentials: Whether credentials had been found before the exception.
    """
    # In botocore each kind of error has its own base class; ClientError is an answer of AWS.
    kinds = {kind.__name__ for kind in type(error).__mro__}
    name, said = type(error).__name__, hide(_shorten(_hide_users(str(error))))
    if "ClientError" in kinds:
        return _read_answer(error, service, hide)
    if "ReadTimeoutError" in kinds:
        return RequestTimeoutError(f"{service} was silent for {read_timeout:g} s")
    if kinds & _CONNECTION:
        within = f"no connection within {connect_timeout:g} s"
        reason = within if "ConnectTimeoutError" in kinds else said
        return ConnectionFailedError(f"the connection to {service} failed: {reason}")
    if kinds & _SETTINGS:
        remedy = " Pass region_name or set AWS_DEFAULT_REGION." if "NoRegionError" in kinds else ""
        return ConfigurationError(f"boto3 cannot ask {service}: {said}{remedy}")
    if kinds & _CREDENTIALS or not has_credentials:
        # The message of an unknown exception may quote a secret that was being read.
        reason = said if kinds & _CREDENTIALS else name
        return AuthenticationError(
            f"there are no AWS credentials for {service} ({reason}): boto3 looks for them in the "
            "environment, in ~/.aws and in the machine's role",
            code=name,
        )
    return ServiceError(f"boto3 failed to ask {service}: {name}: {said}", code=name)


def _read_answer(error: Exception, service: str, hide: Callable[[str], str]) -> Reply | RerankError:
    # The answer's fields beyond boto3's own are those of SageMaker's ModelError.
    answer: Mapping[str, Any] = getattr(error, "response", {})
    operation = str(getattr(error, "operation_name", "InvokeEndpoint"))
    about = answer.get("ResponseMetadata", {})
    status, request_id = about.get("HTTPStatusCode"), about.get("RequestId")
    code: str | None = hide(str(answer.get("Error", {}).get("Code", "")))
    if code in {"", str(status)}:  # boto3's own, where the answer has none
        code = None
    message = hide(str(answer.get("Error", {}).get("Message", "")))
    # An HTML page of a proxy, whose markup would be of no use in a message.
    page = message.lstrip().startswith("<")
    message = "a web page" if page else _shorten(message) or "no reason given"
    headers = about.get("HTTPHeaders", {})
    if code == "ModelError":
        return _read_container(answer, service, message, hide)
    if status in {413, 504} or _is_oversize(message):
        # Refused for its size, for which a serverless endpoint has a 400: it will be split.
        return Reply(504 if status == 504 else 413, message.encode(), headers)
    kind = _BY_CODE.get(code or "") or _BY_STATUS.get(status or 0)
    if kind in {None, RejectedSettingError} and operation != "InvokeEndpoint":
        kind = AuthenticationError  # a failed request to STS or SSO for credentials
    if (status or 0) >= 500 and kind is None:
        kind = ServerError
    meaning = f", {_MEANING[kind]}" if kind else ""
    asked = service if operation == "InvokeEndpoint" else f"{operation}, asked for credentials,"
    return (kind or ServiceError)(
        f"{asked} answered {status}{f' {code}' if code else ''}{meaning}: {message}",
        status,
        code,
        request_id,
        retry_after=read_retry_after(headers.get("retry-after")),
    )


def _is_oversize(message: str) -> bool:
    of_the_body = "at 'body' failed" in message and "length less than or equal" in message
    return of_the_body or "oversize body" in message


def _read_container(
    answer: Mapping[str, Any], service: str, message: str, hide: Callable[[str], str]
) -> Reply | RerankError:
    """Read SageMaker's 424, which wraps the container's own answer."""
    about = answer.get("ResponseMetadata", {})
    status, said = answer.get("OriginalStatusCode"), answer.get("OriginalMessage")
    said = hide(str(said)) if said else message
    request_id = about.get("RequestId")
    if not isinstance(status, int) or not 400 <= status < 600:
        if "timed out" in said:
            # This comes after 60 s, and with the status 0. As a 504 it makes the session try fewer
            # documents at a time.
            status = 504
        else:
            return ServerError(
                f"{service} answered 424 ModelError, its container failed: {message}",
                about.get("HTTPStatusCode"),
                "ModelError",
                request_id,
            )
    if status in {401, 402, 403}:
        # The status is not about AWS's credentials, and no others are sent.
        return RejectedInputError(
            f"the container of {service} answered {status}: {_shorten(said)}",
            status,
            "ModelError",
            request_id,
        )
    return Reply(status, said.encode(), {"x-amzn-requestid": request_id} if request_id else {})


def _hide_users(text: str) -> str:
    return _USER_OF_URL.sub(f"//{HIDDEN}@", text)


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:LONGEST_MESSAGE]}…"

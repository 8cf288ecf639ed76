"""`SageMakerScorer`: scores from an endpoint on Amazon SageMaker."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Literal, get_args

from .._installed import check_installed
from ..errors import ConfigurationError
from .remote import LISTWISE_MODELS
from .service.boto import BotoTransport, new_boto3_session
from .service.dialects import Parameters, SageMaker
from .service.scorer import ServiceScorer

if TYPE_CHECKING:
    import boto3

    from .service.session import Session

RequestForm = Literal["object", "list"]
"""Form of `data` in a request. `"object"`: Jina's containers of v1, v2 and colbert. `"list"`: the
containers of jina-reranker-m0 and later, which take a list of such objects; it holds one object."""

_ENDPOINT_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")  # botocore's own model of the service
_LONGEST_ENDPOINT_NAME = 63


class SageMakerScorer(ServiceScorer):
    """Scores with one of Jina's containers behind an endpoint on Amazon SageMaker.

    Building one costs nothing and sends nothing. It is safe to share between threads, event
    loops and forked processes. Credentials, and whatever else is not set here, come from boto3's
    own chain when they are first needed: environment, profile, role. None of them is kept here
    or pickled.

    A call ends at its deadline, or when it is cancelled, whatever boto3 does; a request that has
    been sent by then is not taken back.

    Args:
        endpoint_name: The endpoint's name, not its ARN.
        model: The name of the model behind it, for `Ranking.model` and `listwise`. None is the
            endpoint's name.
        request_form: The form of requests that the container accepts; see `RequestForm`. It is
            never derived from a name.
        region_name: The endpoint's region. None is the region that boto3 finds.
        timeout: The deadline of a whole call in seconds: every split, attempt and wait.
        connect_timeout: Longest wait for a connection, in seconds.
        read_timeout: Longest silence of the endpoint before the request is given up and, if
            there is time, sent again; in seconds. A container may take 60 s to answer; where one
            comes near that, AWS advises 70 here, and `timeout` must be longer.
        max_retries: Most retries of a request after a connection error, a silence, throttling, or
            a failure of SageMaker or the container (408, 409, 424, 429, 5xx). boto3's own retries
            are off.
        max_concurrency: The most requests in flight at the same time. Fewer are sent when
            SageMaker throttles them.
        max_documents: The most documents in one request. More are split over several.
        max_bytes: The most bytes in one request. SageMaker's limits are some 6 MB, and 4 MB for
            serverless endpoints, for the answer as well, which repeats the documents.
        max_tokens: The most tokens in one request, estimated.
        allow_partial: Whether a call succeeds if only some documents could be scored. The others
            are then last in the ranking and named in `ranking.unscored`. Otherwise one failed
            part fails the call.
        session: A `boto3.Session`, for a profile or an assumed role. Copies share it; a pickle
            leaves it out, and a scorer read from that pickle refuses to work rather than use other
            credentials.

    Raises:
        ConfigurationError: A setting is out of range.
    """

    def __init__(
        self,
        endpoint_name: str,
        *,
        model: str | None = None,
        request_form: RequestForm = "object",
        region_name: str | None = None,
        timeout: float = 30.0,
        connect_timeout: float = 5.0,
        read_timeout: float = 20.0,
        max_retries: int = 2,
        max_concurrency: int = 16,
        max_documents: int = 512,
        max_bytes: int = 2_000_000,
        max_tokens: int = 100_000,
        allow_partial: bool = False,
        session: boto3.Session | None = None,
    ) -> None:
        self._endpoint_name = _check_endpoint_name(endpoint_name)
        for name, value in {"model": model, "region_name": region_name}.items():
            if not isinstance(value, str | None) or value == "":
                raise ConfigurationError(f"{name} must be a name, not {value!r}")
        if request_form not in get_args(RequestForm):
            raise ConfigurationError(
                f"request_form must be one of {get_args(RequestForm)}, not {request_form!r}"
            )
        if session is not None and not hasattr(session, "get_credentials"):
            raise ConfigurationError(
                f"session must be a boto3.Session, not {type(session).__name__}"
            )
        super().__init__(
            model or endpoint_name,
            timeout=timeout,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            max_retries=max_retries,
            max_concurrency=max_concurrency,
            max_documents=max_documents,
            max_bytes=max_bytes,
            max_tokens=max_tokens,
            allow_partial=allow_partial,
        )
        self._request_form = request_form
        self._region_name = region_name
        self._boto3_session = session
        self._lost_session = False
        self._found_region: str | None = None

    def __repr__(self) -> str:
        region = f", region_name={self._region_name!r}" if self._region_name else ""
        session = ", a session of its own" if self._boto3_session is not None else ""
        return (
            f"SageMakerScorer({self._endpoint_name!r}, model={self._model!r}, "
            f"request_form={self._request_form!r}{region}, "
            f"timeout={self._conduct.timeout:g}{session})"
        )

    def check_installed(self) -> None:
        """Check now, and not at the first call, that boto3 is installed; it is not imported.

        Raises:
            ConfigurationError: It is not installed.
        """
        check_installed(("boto3",), "SageMakerScorer", "sagemaker")

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        lost = self._lost_session or self._boto3_session is not None
        return {
            **state,
            "_boto3_session": None,
            "_lost_session": lost,
            "_found_region": None,
        }

    @property
    def fingerprint(self) -> str:
        """Everything that determines the scores; see `CacheableScorer`.

        It has the endpoint and its region. It does not have the account, which would take a request
        to find out. The model behind an endpoint can also change while the endpoint keeps its name.

        Raises:
            ConfigurationError: boto3 is needed to find the region, and is not installed.
        """
        return json.dumps(
            ["sagemaker", self._endpoint_name, self._region(), self._request_form, self._model]
        )

    @property
    def listwise(self) -> bool:
        """Tell whether the model reads documents together, by the name given as `model`."""
        return self._model in LISTWISE_MODELS

    def _region(self) -> str | None:
        if self._region_name is not None:
            return self._region_name
        if self._found_region is None:
            session = self._boto3_session or new_boto3_session()
            self._found_region = session.region_name
        return self._found_region

    def _open_session(self) -> Session:
        from .service.session import Session

        if self._lost_session:
            raise ConfigurationError(
                "the session of this scorer did not go into its pickle; build the scorer anew in "
                "this process, or give the credentials by the environment"
            )
        where = f" in {self._region_name}" if self._region_name else ""
        service = f"SageMaker endpoint {self._endpoint_name}{where}"
        # No request outlives its call by more than the call's own length.
        transport = BotoTransport(
            self._endpoint_name,
            service=service,
            session=self._boto3_session,
            region_name=self._region_name,
            connect_timeout=min(self._connect_timeout, self._conduct.timeout),
            read_timeout=min(self._read_timeout, self._conduct.timeout),
            connections=self._conduct.max_concurrency,
        )
        return Session(
            service,
            transport,
            dialect=SageMaker(as_list=self._request_form == "list"),
            parameters=Parameters(),
            conduct=self._conduct,
        )


def _check_endpoint_name(name: object) -> str:
    if not isinstance(name, str):
        raise ConfigurationError(f"endpoint_name must be a string, not {type(name).__name__}")
    if name.startswith("arn:"):
        raise ConfigurationError(
            f"endpoint_name must be the endpoint's name, {name.rpartition('/')[2]!r}, not its ARN"
        )
    if not _ENDPOINT_NAME.fullmatch(name) or len(name) > _LONGEST_ENDPOINT_NAME:
        raise ConfigurationError(
            f"endpoint_name must be up to {_LONGEST_ENDPOINT_NAME} letters, digits and hyphens "
            f"between them, not {name!r}"
        )
    return name

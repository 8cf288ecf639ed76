"""Requests with boto3, which only this module uses."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from ..._installed import missing
from ...errors import ConnectionFailedError, RerankError, ResponseError
from .boto_environment import check_endpoint, check_way
from .boto_failures import read_boto_failure
from .environment import check_key_log
from .secrets import Secrets
from .wire import Reply, largest_answer

if TYPE_CHECKING:
    import boto3
    from botocore.credentials import Credentials
    from botocore.response import StreamingBody
    from mypy_boto3_sagemaker_runtime import SageMakerRuntimeClient

T = TypeVar("T")


_CHUNK = 4_096  # boto3 waits for a whole chunk; a thread can be stopped only between two chunks
_NO_REPLY = Reply(0, b"")


class BotoTransport:
    """Invokes one SageMaker endpoint with boto3, which blocks and so runs on separate threads.

    Each request has a daemon thread, and not a place in a pool: nothing can stop a thread inside
    boto3, and the interpreter would wait at exit for the threads of a `ThreadPoolExecutor`. A
    thread whose call has ended delays no caller. It ends when the endpoint has been silent for
    `read_timeout`, or between two chunks of the answer.

    Must be created on the I/O thread.

    Args:
        endpoint_name: The endpoint.
        service: The endpoint's name in messages.
        session: Source of credentials and settings; None is boto3's own chain.
        region_name: The region; None is the session's.
        connect_timeout: Longest wait for a connection, in seconds.
        read_timeout: Longest silence of the endpoint, in seconds.
        connections: Largest number of connections that are kept open.
    """

    def __init__(
        self,
        endpoint_name: str,
        *,
        service: str,
        session: boto3.Session | None,
        region_name: str | None,
        connect_timeout: float,
        read_timeout: float,
        connections: int,
    ) -> None:
        self._endpoint_name = endpoint_name
        self._service = service
        self._session = session
        self._region_name = region_name
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._connections = connections
        self._opening = threading.Lock()
        self._credentials: Credentials | None = None
        self._client: SageMakerRuntimeClient | None = None
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def open(self) -> None:
        """Load boto3, find credentials and make the client; no request goes to the endpoint.

        Raises:
            ConfigurationError: boto3 is not installed, there is no region, or an environment
                variable has a value that cannot be used.
            AuthenticationError: There are no credentials.
        """
        await self._in_thread(lambda _: _NO_REPLY)

    async def send(self, body: bytes) -> Reply:
        """Send a JSON body; see `Transport.send`."""
        abandoned = threading.Event()

        def invoke(client: SageMakerRuntimeClient) -> Reply:
            if abandoned.is_set():
                return _NO_REPLY
            answer = client.invoke_endpoint(
                EndpointName=self._endpoint_name,
                ContentType="application/json",
                Accept="application/json",
                Body=body,
            )
            about, most = answer["ResponseMetadata"], largest_answer(body)
            content = _read(answer["Body"], most, abandoned)
            if len(content) > most:
                raise ResponseError(
                    f"the answer of {self._service} is larger than {most:,} bytes, and the scores "
                    "of what was sent never are",
                    about["HTTPStatusCode"],
                    request_id=about.get("RequestId"),
                )
            return Reply(about["HTTPStatusCode"], content, about["HTTPHeaders"])

        try:
            return await self._in_thread(invoke)
        finally:
            abandoned.set()

    async def aclose(self) -> None:
        """Close all connections; requests in flight are abandoned, and their callers fail."""
        if not self._closed.done():
            self._closed.set_result(None)
        if self._client is not None:
            self._client.close()

    async def _in_thread(self, act: Callable[[SageMakerRuntimeClient], Reply]) -> Reply:
        waiting = _start_daemon_thread(lambda: self._attempt(act))
        try:
            await asyncio.wait((waiting, self._closed), return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                raise ConnectionFailedError(f"the connection to {self._service} was closed")
            outcome = waiting.result()
        finally:
            waiting.cancel()
        # Raised here and not in the thread, whose locals hold credentials: error trackers collect
        # the locals of a traceback.
        if isinstance(outcome, RerankError):
            raise outcome
        return outcome

    def _attempt(self, act: Callable[[SageMakerRuntimeClient], Reply]) -> Reply | RerankError:
        """Run `act`; an exception of boto3 becomes a reply or an error, which is returned."""
        secrets: Secrets | None = None
        try:
            # Fetched each time, so that temporary credentials are renewed here, before signing.
            secrets = _secrets_of(self._find_credentials())
            reply = act(self._connect())
            headers = {name: secrets.hide(value) for name, value in reply.headers.items()}
            return Reply(reply.status, secrets.hide_bytes(reply.body), headers)
        except RerankError as error:
            return error.with_traceback(None)
        except Exception as error:  # noqa: BLE001 - boto3's sources of credentials raise anything
            return read_boto_failure(
                error,
                self._service,
                str if secrets is None else secrets.hide,
                connect_timeout=self._connect_timeout,
                read_timeout=self._read_timeout,
                has_credentials=secrets is not None,
            )

    def _find_credentials(self) -> Credentials:
        with self._opening:
            if self._credentials is None:
                check_key_log()
                if self._session is None:
                    self._session = new_boto3_session()
                found = self._session.get_credentials()
                if found is None:
                    from botocore.exceptions import NoCredentialsError

                    raise NoCredentialsError
                self._credentials = found
            return self._credentials

    def _connect(self) -> SageMakerRuntimeClient:
        from botocore.config import Config

        with self._opening:
            if self._client is None:
                assert self._session is not None  # where the credentials came from
                check_endpoint()
                client = self._session.client(
                    "sagemaker-runtime",
                    region_name=self._region_name,
                    config=Config(
                        connect_timeout=self._connect_timeout,
                        read_timeout=self._read_timeout,
                        max_pool_connections=self._connections,
                        # We do the retries: botocore's respect neither deadline nor budget.
                        retries={"total_max_attempts": 1, "mode": "standard"},
                        user_agent_extra="jina-rerank",
                    ),
                )
                proxies = getattr(client.meta.config, "proxies", None)  # the session's, not typed
                check_way(client.meta.endpoint_url, has_own_proxies=proxies is not None)
                if self._closed.done():
                    client.close()
                self._client = client
            return self._client


def _secrets_of(credentials: Credentials) -> Secrets:
    frozen = credentials.get_frozen_credentials()
    named = {"key-id": frozen.access_key, "key": frozen.secret_key, "token": frozen.token}
    return Secrets(None, {name: value for name, value in named.items() if value})


def new_boto3_session() -> boto3.Session:
    """Create a session that finds its settings by boto3's own chain.

    Raises:
        ConfigurationError: boto3 is not installed.
    """
    try:
        import boto3
    except ImportError as error:
        raise missing("boto3", "SageMakerScorer", "sagemaker") from error
    return boto3.Session()


def _read(stream: StreamingBody, most: int, abandoned: threading.Event) -> bytes:
    """Read the whole body, or at most one chunk more than `most` bytes."""
    content = bytearray()
    try:
        while not abandoned.is_set():
            chunk = stream.read(_CHUNK)
            content += chunk
            if not chunk or len(content) > most:
                break
    finally:
        stream.close()
    return bytes(content)


def _start_daemon_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """Run `work` on a daemon thread; cancelling the returned future does not stop the thread."""
    future: Future[T] = Future()
    # From here on it cannot be cancelled itself, so the thread can always set its result.
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - handed over
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, name="jina-rerank-boto3", daemon=True).start()
    return asyncio.wrap_future(future)

"""Amazon SageMaker's runtime as far as a client sees it, in front of a container of ours."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler

import httpx
from http_thread import HttpThread


class AwsFront(HttpThread):
    """Answers `InvokeEndpoint` with what the container answers to `/invocations`.

    As AWS has it: the client's signature stays here, and a container's failure becomes a 424
    around the container's own status and body.

    Args:
        container: The container's address.

    Attributes:
        invocations: The status of each answer of the container, in order.
    """

    def __init__(self, container: str) -> None:
        self.invocations: list[int] = []
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                assert self.path.startswith("/endpoints/")
                assert self.path.endswith("/invocations")
                reply = httpx.post(
                    f"{container}/invocations",
                    content=body,
                    headers={"content-type": self.headers["content-type"]},
                    timeout=60,
                )
                front.invocations.append(reply.status_code)
                if reply.is_success:
                    self._send(200, reply.content)
                else:
                    self._send(424, _model_error(reply), "ModelError")

            def _send(self, status: int, body: bytes, error: str | None = None) -> None:
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                if error is not None:
                    self.send_header("x-amzn-errortype", error)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                """Not to standard error."""

        super().__init__(Handler)


def _model_error(reply: httpx.Response) -> bytes:
    said = f'Received client error ({reply.status_code}) from primary with message "{reply.text}"'
    return json.dumps(
        {
            "Message": said,
            "OriginalStatusCode": reply.status_code,
            "OriginalMessage": reply.text,
        }
    ).encode()

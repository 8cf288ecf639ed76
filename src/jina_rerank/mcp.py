"""A Model Context Protocol server with one tool, `rerank`. Needs the extra `mcp`."""

from __future__ import annotations

import socket
from types import FrameType
from typing import Annotated, Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, InputRequiredResult, ToolAnnotations
from pydantic import BaseModel, Field, ValidationError

from . import __version__
from .errors import RerankError
from .reranker import Reranker

PATH = "/mcp"
"""The path of the server over HTTP."""

MAX_BODY_BYTES = 10_000_000
"""Largest body of a request over HTTP, as `jina-rerank serve` has it by default."""

_GRACE = 5
"""Seconds that requests in progress have to finish when the process is stopped."""


class RankedText(BaseModel):
    """A document with its score.

    Attributes:
        index: Its position in `documents`, from 0.
        score: Its relevance; higher is better.
        text: As it was given.
        truncated_tokens: Tokens at its end that the model did not read; None where a service does
            not say.
    """

    index: int
    score: float
    text: str
    truncated_tokens: int | None


class Ranked(BaseModel):
    """The answer of the tool.

    Attributes:
        model: The model that ranked.
        results: The documents, best first.
    """

    model: str
    results: list[RankedText]


class _ToolServer(MCPServer[Any]):
    """A server whose errors about arguments name them and quote no value."""

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool; see `MCPServer.call_tool`.

        Raises:
            ToolError: An argument is missing or of the wrong type, or the tool has failed.
        """
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            if not isinstance(error.__cause__, ValidationError):
                raise
            problems = error.__cause__.errors()
        # Raised outside of the handler, so that the error with the values is not attached.
        raise ToolError("; ".join(f"{_name_of(one['loc'])}: {one['msg']}" for one in problems))


def _name_of(place: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else part for part in place)


def create_server(reranker: Reranker) -> MCPServer:
    """Create a server whose tool `rerank` calls a reranker.

    A `RerankError` becomes a tool error with its message, for the agent to read.

    Args:
        reranker: The reranker. Its model is loaded at the first call, unless it is loaded already.
    """
    server = _ToolServer("jina-rerank", version=__version__, log_level="WARNING")

    @server.tool(
        description="Put the documents that answer a query first, by a reranking model that reads "
        "the query and each document together.",
        annotations=ToolAnnotations(
            title="Rerank documents",
            read_only_hint=True,
            idempotent_hint=True,
            open_world_hint=False,
        ),
    )
    async def rerank(
        query: Annotated[str, Field(description="The question.")],
        documents: Annotated[list[str], Field(description="The texts to rank.")],
        top_n: Annotated[
            int | None,
            Field(strict=True, description="Keep this many, at least 1; all if left out."),
        ] = None,
    ) -> Ranked:
        try:
            ranking = await reranker.arank(query, documents, top_n=top_n)
        except RerankError as error:
            raise ToolError(str(error)) from error
        return Ranked(
            model=ranking.model,
            results=[
                RankedText(
                    index=hit.index,
                    score=hit.score,
                    text=hit.text,
                    truncated_tokens=hit.truncated_tokens,
                )
                for hit in ranking
            ],
        )

    return server


def run_http(server: MCPServer, listening: socket.socket) -> None:
    """Serve streamable HTTP at `PATH` until SIGTERM or SIGINT.

    Requests are independent of each other. Requests for another host than this machine are
    refused: a web page could send such requests under its own host name.

    Args:
        server: A server made by `create_server`.
        listening: A listening socket on the loopback interface.
    """
    app = server.streamable_http_app(
        streamable_http_path=PATH,
        json_response=True,
        stateless_http=True,
        max_request_body_size=MAX_BODY_BYTES,
    )
    config = uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
    )
    _Server(config).run(sockets=[listening])


class _Server(uvicorn.Server):
    """A server whose process exits with status 0 after a signal."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Shut down in order at the first signal, at once at the second."""
        # uvicorn's own handler would raise the signal again at the end, and change the status.
        self.force_exit = self.should_exit
        self.should_exit = True

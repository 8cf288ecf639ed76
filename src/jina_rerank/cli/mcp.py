"""`jina-rerank mcp`: a reranking model as a tool for agents."""

from __future__ import annotations

import logging
import signal
import socket
from contextlib import nullcontext
from typing import Annotated

import typer

from .._installed import check_installed, check_scorer_installed
from .._numbers import check_count
from ..embedded import EMBEDDED_MODEL
from ..errors import ConfigurationError
from ..reranker import Reranker
from ..spec import parse, scorer_of
from .exits import ending_at_once, exit_on_error
from .naming import MODEL_NAMES

HOST = "127.0.0.1"


def mcp(
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help=f"{MODEL_NAMES}; default: {EMBEDDED_MODEL}."),
    ] = None,
    http: Annotated[
        bool,
        typer.Option(
            "--http", help="Use Streamable HTTP on this machine, not standard input and output."
        ),
    ] = False,
    port: Annotated[int, typer.Option(help="Port for --http; 0 for any free port.")] = 8000,
) -> None:
    """Serve the tool rerank(query, documents, top_n) to agents over the Model Context Protocol.

    Uses standard input and output until the input ends; with --http, listens at the path /mcp until
    SIGTERM or SIGINT. Logs go to standard error. Exit status: 0 ended, 1 the model cannot be
    loaded, 2 an option is invalid or an extra is missing.
    """
    # Before the mcp library configures logging.
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    with exit_on_error():
        check_count(port, "port", least=0, most=2**16 - 1)
        spec = parse(model)
        scorer = scorer_of(spec)
        check_scorer_installed(scorer)
        check_installed(("mcp",), "the Model Context Protocol", "mcp")
        from ..mcp import PATH, create_server, run_http

        with _listen(port) if http else nullcontext() as listening, Reranker(scorer) as reranker:
            if spec.runs_here:
                reranker.warm_up()
            server = create_server(reranker)
            if listening is None:
                # A thread that waits for input cannot be interrupted.
                with ending_at_once(signal.SIGINT, signal.SIGTERM):
                    server.run("stdio")
                return
            url = f"http://{HOST}:{listening.getsockname()[1]}{PATH}"
            typer.echo(f"jina-rerank: listening on {url}", err=True)
            run_http(server, listening)


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        raise ConfigurationError(f"cannot listen on port {port}: {error.strerror}") from None

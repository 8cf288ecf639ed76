"""`jina-rerank serve`: serve models over HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .._installed import is_installed, missing
from .exits import exit_on_error
from .naming import MODEL_NAMES

if TYPE_CHECKING:
    from ..server import Settings


def serve(  # noqa: PLR0917 - typer passes them by name
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help=f"{MODEL_NAMES}, or NAME= and one of these; several are served side by side.",
        ),
    ] = None,
    any_model: Annotated[
        bool | None,
        typer.Option(
            "--any-model/--served-models",
            help="Answer with the first model where another name is asked for.",
        ),
    ] = None,
    ignore_instruction: Annotated[
        bool | None,
        typer.Option(
            "--ignore-instruction/--refuse-instruction",
            help="Leave a request's instruction out where the model has no place for one, and say "
            "so in the answer.",
        ),
    ] = None,
    fallback: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A model as for --model, or one that is served: it answers while the service "
            "behind another one fails.",
        ),
    ] = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="The port; 0 takes any that is free.")] = None,
    unix_socket: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Listen on this file, as a socket, instead of host and port."
        ),
    ] = None,
    ssl_certfile: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="A certificate in PEM: listen for HTTPS with it."),
    ] = None,
    ssl_keyfile: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Its key in PEM, if it is in a file of its own."),
    ] = None,
    root_path: Annotated[
        str | None, typer.Option(help="The prefix of paths at a proxy, such as /rerank.")
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            help="An origin whose pages may ask, such as https://page.example, or *; several may."
        ),
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="Who may ask: a line NAME:KEY for each.")
    ] = None,
    allow_anonymous: Annotated[
        bool | None,
        typer.Option(
            "--allow-anonymous/--require-keys", help="Listen beyond the loopback without keys."
        ),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="auto, float32, bfloat16 or int8, for models in torch.")
    ] = None,
    max_length: Annotated[int | None, typer.Option(help="Longest pair in tokens.")] = None,
    max_body_bytes: Annotated[int | None, typer.Option(help="Largest body of a request.")] = None,
    max_documents: Annotated[int | None, typer.Option(help="Most documents in a request.")] = None,
    max_request_tokens: Annotated[
        int | None, typer.Option(help="Most tokens in a request, estimated.")
    ] = None,
    max_queued_tokens: Annotated[
        int | None, typer.Option(help="Most tokens of all requests together, estimated.")
    ] = None,
    deadline: Annotated[
        float | None, typer.Option(help="Longest time for a request, in seconds.")
    ] = None,
    drain: Annotated[
        float | None, typer.Option(help="Seconds to go on accepting after SIGTERM.")
    ] = None,
    idle_unload: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="Free a model without requests after this long; 0 is never."
        ),
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="A TOML file with these settings.")
    ] = None,
    show_settings: Annotated[
        bool, typer.Option("--show-settings", help="Show the settings, without secrets, and end.")
    ] = False,
) -> None:
    """Serve models over HTTP, as Jina's API and others do.

    Every option is also a variable, such as JINA_RERANK_PORT, and a key of the file; options go
    before variables, and these before the file. Keys may stand in JINA_RERANK_KEYS, as
    NAME:KEY,NAME:KEY. Logs are JSON lines on standard error. Exit status: 0 ended by SIGTERM or
    SIGINT, 1 a model cannot be loaded, 2 a setting cannot be used.
    """
    flags = {
        "models": model or None,
        "any_model": any_model,
        "ignore_instruction": ignore_instruction,
        "fallback": fallback,
        "host": host,
        "port": port,
        "unix_socket": unix_socket,
        "ssl_certfile": ssl_certfile,
        "ssl_keyfile": ssl_keyfile,
        "root_path": root_path,
        "cors_origins": cors_origin or None,
        "key_file": key_file,
        "allow_anonymous": allow_anonymous,
        "dtype": dtype,
        "max_length": max_length,
        "max_body_bytes": max_body_bytes,
        "max_documents": max_documents,
        "max_request_tokens": max_request_tokens,
        "max_queued_tokens": max_queued_tokens,
        "deadline": deadline,
        "drain": drain,
        "idle_unload": idle_unload,
        "log_level": log_level,
    }
    with exit_on_error():
        try:
            from ..server import Settings
        except ImportError as error:
            runs = is_installed("torch") or is_installed("onnxruntime")
            extra = "server" if runs else "server,onnx"
            raise missing(error.name, "serving", extra) from error
        settings = Settings.read(flags, file=config)
        if show_settings:
            print(json.dumps(settings.shown(), indent=2))  # noqa: T201 - the output
            return
        _run(settings)


def _run(settings: Settings) -> None:
    from ..server import Engine
    from ..server.logs import log_json
    from ..server.run import run
    from ..server.tracing import exported

    log_json(settings.log_level)
    with exported():
        run(Engine(settings))

"""`jina-rerank serve`: serve models over HTTP."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .._installed import is_installed, missing
from .exits import ending_at_once, exit_on_error
from .naming import MODEL_NAMES

if TYPE_CHECKING:
    from ..server import Settings


def serve(  # noqa: PLR0917 - typer passes them by name
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help=f"{MODEL_NAMES}, or NAME= before one of these; repeat for several.",
        ),
    ] = None,
    any_model: Annotated[
        bool | None,
        typer.Option(
            "--any-model/--served-models",
            help="Use the first model for names that are not served.",
        ),
    ] = None,
    ignore_instruction: Annotated[
        bool | None,
        typer.Option(
            "--ignore-instruction/--refuse-instruction",
            help="Ignore an instruction that the model cannot use, and report it in the response.",
        ),
    ] = None,
    fallback: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Model that answers while the service of a remote model fails: a served one, or "
            "one as for --model.",
        ),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 for any free port.")] = None,
    unix_socket: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Unix socket to listen on, instead of host and port."),
    ] = None,
    ssl_certfile: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Certificate in PEM, for HTTPS."),
    ] = None,
    ssl_keyfile: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Private key of the certificate in PEM, if in another file."
        ),
    ] = None,
    root_path: Annotated[
        str | None, typer.Option(help="Prefix of paths at a proxy, such as /rerank.")
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            help="Origin whose web pages may send requests, such as https://page.example, or *; "
            "repeatable."
        ),
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="File with API keys, one NAME:KEY per line.")
    ] = None,
    allow_anonymous: Annotated[
        bool | None,
        typer.Option(
            "--allow-anonymous/--require-keys",
            help="Allow listening beyond the loopback without keys.",
        ),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="auto, float32, bfloat16 or int8, for models in torch.")
    ] = None,
    max_length: Annotated[int | None, typer.Option(help="Maximum tokens of a pair.")] = None,
    max_body_bytes: Annotated[
        int | None, typer.Option(help="Maximum bytes of a request's body.")
    ] = None,
    max_documents: Annotated[
        int | None, typer.Option(help="Maximum documents in a request.")
    ] = None,
    max_request_tokens: Annotated[
        int | None, typer.Option(help="Maximum tokens in a request, estimated.")
    ] = None,
    max_queued_tokens: Annotated[
        int | None, typer.Option(help="Maximum tokens of all requests together, estimated.")
    ] = None,
    deadline: Annotated[
        float | None, typer.Option(help="Maximum time for a request, in seconds.")
    ] = None,
    drain: Annotated[
        float | None, typer.Option(help="Seconds to continue accepting requests after SIGTERM.")
    ] = None,
    idle_unload: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="Unload a model after this time without requests; 0 for never."
        ),
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="Log level: debug, info, warning or error.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="A TOML file with these settings.")
    ] = None,
    show_settings: Annotated[
        bool, typer.Option("--show-settings", help="Show the settings, without secrets, and exit.")
    ] = False,
) -> None:
    """Serve models over HTTP, compatible with the APIs of Jina and others.

    Every option is also an environment variable, such as JINA_RERANK_PORT, and a key of the
    --config file. Options override variables, and variables override the file. API keys may be
    given in JINA_RERANK_KEYS, as NAME:KEY,NAME:KEY. Logs are JSON lines on standard error. Exit
    status: 0 ended by SIGTERM or SIGINT, 1 a model cannot be loaded, 2 a setting is invalid.
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
    # During the imports, which take a second; later the server has handlers of its own.
    with exit_on_error(), ending_at_once(signal.SIGTERM, status=0):
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

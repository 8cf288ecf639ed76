"""Serves this folder on the loopback, with the headers that the page needs.

python serve.py [--port 8001] [--models models]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import mimetypes
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

HERE = Path(__file__).resolve().parent

HEADERS = {
    # Nothing from elsewhere, and no script but files; WebAssembly counts as one.
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; img-src 'self' data:"
    ),
    # Together they allow shared memory, and with it threads.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cache-Control": "no-cache",
}


class Handler(SimpleHTTPRequestHandler):
    """Files of this folder, models from where they are, and a list of the models at models/.

    Attributes:
        models: The folder of the exported models.
    """

    models: ClassVar[Path] = HERE / "models"

    def do_GET(self) -> None:
        """Answer with the names of the models, or with a file."""
        if self.path != "/models/":
            super().do_GET()
            return
        graphs = sorted(self.models.glob("*/model.onnx"), key=lambda path: path.stat().st_size)
        names = json.dumps([graph.parent.name for graph in graphs]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(names)))
        self.end_headers()
        self.wfile.write(names)

    def translate_path(self, path: str) -> str:
        """The file of a request; steps out of the folder have been dropped from it."""
        inside = Path(super().translate_path(path)).relative_to(HERE)
        if inside.parts[:1] == ("models",):
            return str(self.models.joinpath(*inside.parts[1:]))
        return str(HERE / inside)

    def end_headers(self) -> None:
        """Add ours."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Say nothing."""


def main() -> None:
    """Serve until it is told to end."""
    parser = argparse.ArgumentParser(description="Serve the page that ranks by itself.")
    parser.add_argument("--port", type=int, default=8001, help="0 takes any that is free")
    parser.add_argument("--models", type=Path, default=Handler.models, help="the exported ones")
    options = parser.parse_args()
    # Not every machine knows them.
    mimetypes.add_type("text/javascript", ".mjs")
    mimetypes.add_type("application/wasm", ".wasm")
    Handler.models = options.models.resolve()
    handler = partial(Handler, directory=str(HERE))
    with ThreadingHTTPServer(("127.0.0.1", options.port), handler) as server:
        print(f"http://127.0.0.1:{server.server_address[1]}/", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


if __name__ == "__main__":
    main()

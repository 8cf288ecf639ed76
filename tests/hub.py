"""A hub on the loopback: the part of the protocol that downloads files and tells their names."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMITS = {"main": "a" * 40, "v1": "b" * 40}


class LoopbackHub:
    """Serves the folders of `root`, one for each `org/name`, and counts requests."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.requests: list[str] = []
        self.url = ""

    def answer(self, handler: BaseHTTPRequestHandler, *, body: bool) -> None:
        self.requests.append(handler.path)
        # /org/name/resolve/revision/file
        parts = handler.path.strip("/").split("/")
        status, error, content = 200, "", b""
        if len(parts) == 5 and parts[2] == "resolve":
            folder = self.root / parts[0] / parts[1]
            file = folder / parts[4]
            if not folder.is_dir():
                status, error = 401, "RepoNotFound"
            elif parts[3] not in {*COMMITS, *COMMITS.values()}:
                status, error = 404, "RevisionNotFound"
            elif not file.is_file():
                status, error = 404, "EntryNotFound"
            else:
                content = file.read_bytes()
            commit = COMMITS.get(parts[3], parts[3])
        elif parts[:2] == ["api", "models"]:
            status, error, content = self._about(parts[2:])
            commit = COMMITS["main"]
        handler.send_response(status)
        if error:
            handler.send_header("X-Error-Code", error)
        if content or error == "EntryNotFound":  # the cache notes of which commit it is no part
            handler.send_header("X-Repo-Commit", commit)
        if content:
            handler.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        if body:
            handler.wfile.write(content)

    def _about(self, parts: list[str]) -> tuple[int, str, bytes]:
        """A model on the hub: its commit and its files, none of which is in a folder."""
        folder = self.root.joinpath(*parts[:2])
        if not folder.is_dir():
            return 401, "RepoNotFound", b""
        if len(parts) > 2:
            return 404, "EntryNotFound", b""
        files = [{"rfilename": path.name} for path in folder.iterdir()]
        about = {"id": "/".join(parts), "sha": COMMITS["main"], "siblings": files}
        return 200, "", json.dumps(about).encode()


@contextmanager
def serve_hub(root: Path) -> Iterator[LoopbackHub]:
    hub = LoopbackHub(root)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            hub.answer(self, body=False)

        def do_GET(self) -> None:
            hub.answer(self, body=True)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

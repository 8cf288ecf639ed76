"""A proxy on the loopback that speaks HTTP and SOCKS 5, and notes what it is asked for."""

from __future__ import annotations

import socket
import socketserver
import threading
from base64 import b64encode
from types import TracebackType
from typing import Self


class LoopbackProxy(socketserver.ThreadingTCPServer):
    """Passes on what it is sent; on one port by HTTP, CONNECT included, and by SOCKS 5.

    Args:
        credentials: The user and the password that it wants, or None.
        echo: Whether a refusal says what credentials it was sent.

    Attributes:
        address: Its host and port.
        asked: The `host:port` of each request that it passed on.
    """

    daemon_threads = True

    def __init__(self, credentials: tuple[str, str] | None = None, *, echo: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.credentials = credentials
        self.echo = echo
        self.address = f"127.0.0.1:{self.server_address[1]}"
        self.asked: list[str] = []
        self._thread = threading.Thread(target=self.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(socketserver.StreamRequestHandler):
    server: LoopbackProxy

    def handle(self) -> None:
        if self.connection.recv(1, socket.MSG_PEEK) == b"\x05":
            self._speak_socks()
        else:
            self._speak_http()

    def _speak_http(self) -> None:
        first, *lines = self._head().split("\r\n")
        method, target, version = first.split(" ")
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines)
        }
        given = headers.get("proxy-authorization", "")
        if self.server.credentials is not None:
            wanted = b64encode(":".join(self.server.credentials).encode()).decode()
            if given != f"Basic {wanted}":
                echoed = f" {given}" if self.server.echo else ""
                self.wfile.write(
                    f"HTTP/1.1 407 Proxy Authentication Required{echoed}\r\n"
                    "content-length: 0\r\n\r\n".encode()
                )
                return
        if method == "CONNECT":
            self._relay(target, b"", b"HTTP/1.1 200 OK\r\n\r\n")
            return
        host, slash, path = target.removeprefix("http://").partition("/")
        kept = [line for line in lines if line and not line.lower().startswith("proxy-")]
        head = "\r\n".join([f"{method} {slash}{path} {version}", *kept, "", ""])
        self._relay(host, head.encode("latin-1"))

    def _head(self) -> str:
        head = bytearray()
        while (line := self.rfile.readline()) != b"\r\n":
            head += line
        return head.decode("latin-1")

    def _speak_socks(self) -> None:
        _, count = self.rfile.read(2)
        methods = self.rfile.read(count)
        method = 0 if self.server.credentials is None else 2
        if method not in methods:
            self.wfile.write(b"\x05\xff")
            return
        self.wfile.write(bytes([5, method]))
        if self.server.credentials is not None:
            self.rfile.read(1)
            given = tuple(self.rfile.read(self.rfile.read(1)[0]).decode() for _ in range(2))
            accepted = given == self.server.credentials
            self.wfile.write(bytes([1, not accepted]))
            if not accepted:
                return
        kind = self.rfile.read(4)[3]
        if kind == 1:
            host = socket.inet_ntoa(self.rfile.read(4))
        else:
            host = self.rfile.read(self.rfile.read(1)[0]).decode()
        port = int.from_bytes(self.rfile.read(2))
        self._relay(f"{host}:{port}", b"", b"\x05\x00\x00\x01" + bytes(6))

    def _relay(self, target: str, upstream: bytes, downstream: bytes = b"") -> None:
        self.server.asked.append(target)
        host, _, port = target.rpartition(":")
        with socket.create_connection((host, int(port))) as server:
            server.sendall(upstream)
            self.wfile.write(downstream)
            back = threading.Thread(target=_copy, args=(server, self.connection))
            back.start()
            # What has been read ahead with the head comes first.
            while data := self.rfile.read1(65536):
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)
            back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    while data := source.recv(65536):
        target.sendall(data)

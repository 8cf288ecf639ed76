"""Where the service listens: an address and a port, or a file of the kind that is a socket."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigurationError
from .settings import Settings

BACKLOG = 2048
"""Connections that wait to be accepted."""

MODE = 0o660
"""Permissions of a socket's file, less the process's umask: whoever may write to it may connect."""


@dataclass(slots=True)
class Listener:
    """A socket that listens.

    Attributes:
        socket: Ready to accept.
        file: The socket's file, or None.
        identity: What tells that file from another one under its name.
    """

    socket: socket.socket
    file: Path | None = None
    identity: tuple[int, int] | None = None

    def remove_file(self) -> None:
        """Remove the socket's file, unless another process has put one in its place. Idempotent.

        Until then the socket must not be closed: a new file may get the number of the old one.
        """
        if self.file is not None and _identity(self.file) == self.identity:
            with suppress(FileNotFoundError):
                self.file.unlink()
        self.file = None


@contextmanager
def listening(settings: Settings) -> Iterator[Listener]:
    """Listen where the settings say, for the time of the block; its end removes a socket's file.

    Raises:
        ConfigurationError: That is not possible, or the certificate cannot be used; the message
            says where and why.
    """
    _check_certificate(settings)
    listener = _listen(settings)
    try:
        yield listener
    finally:
        listener.remove_file()
        listener.socket.close()


def url_of(listening: socket.socket, scheme: str = "http") -> str:
    """Where a socket listens, without a slash at the end; `unix:` and the path for a file."""
    name = listening.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    host, port = name[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _check_certificate(settings: Settings) -> None:
    """Read the certificate once, before it is used: uvicorn would ask a terminal for a password."""
    certificate, key = settings.ssl_certfile, settings.ssl_keyfile
    if certificate is None:
        return
    where = str(certificate) if key is None else f"{certificate} and {key}"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except OSError as error:  # SSLError is one
        problem = error.strerror or str(error)
        raise ConfigurationError(
            f"ssl_certfile: {where} cannot be used: {problem}; a certificate and its key, in PEM "
            "and without a password, are needed"
        ) from None


def _listen(settings: Settings) -> Listener:
    file = settings.unix_socket
    try:
        return _listen_on_port(settings) if file is None else _listen_on_file(file)
    except (OSError, ValueError) as error:  # ValueError: a name that no address can have
        where = f"{settings.host}, port {settings.port}" if file is None else str(file)
        problem = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigurationError(f"cannot listen on {where}: {problem}") from None


def _listen_on_port(settings: Settings) -> Listener:
    six = ":" in settings.host
    return Listener(
        socket.create_server(
            (settings.host, settings.port),
            family=socket.AF_INET6 if six else socket.AF_INET,
            backlog=BACKLOG,
            # So that :: is every address of the machine, as 0.0.0.0 is every one of IPv4.
            dualstack_ipv6=six and socket.has_dualstack_ipv6(),
        )
    )


def _listen_on_file(file: Path) -> Listener:
    if not hasattr(socket, "AF_UNIX"):
        raise OSError("this system has no such sockets; use host and port")
    _clear(file)
    created = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The file is made with its permissions: for no moment may others connect.
    umask = os.umask(0o777)
    os.umask(umask | (0o777 & ~MODE))
    try:
        created.bind(os.fspath(file))
        created.listen(BACKLOG)
    except BaseException:
        created.close()
        raise
    finally:
        os.umask(umask)
    return Listener(created, file, _identity(file))


def _clear(file: Path) -> None:
    """Remove a socket's file that a process has left which was killed; nothing else.

    Raises:
        OSError: What is there is something else, or somebody listens on it.
    """
    try:
        mode = file.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "it is there and is no socket; remove it or name another file")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        try:
            asking.connect(os.fspath(file))
        except ConnectionRefusedError:
            file.unlink()
            return
        except BlockingIOError:
            pass  # somebody listens, and has more to do than to accept
    raise OSError(errno.EADDRINUSE, "another process listens on it")


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        state = file.lstat()
    except OSError:
        return None
    return state.st_dev, state.st_ino

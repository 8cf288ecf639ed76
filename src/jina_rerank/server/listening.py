"""Listening on an address and a port, or on a Unix socket."""

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
"""Maximum number of connections that wait to be accepted."""

MODE = 0o660
"""Permissions of a socket file, less the process's umask; write permission allows to connect."""


@dataclass(slots=True)
class Listener:
    """A listening socket.

    Attributes:
        socket: The socket, ready to accept.
        file: Path of the socket file, or None.
        identity: Device and inode of the socket file, or None.
    """

    socket: socket.socket
    file: Path | None = None
    identity: tuple[int, int] | None = None

    def remove_file(self) -> None:
        """Remove the socket file, unless another process has replaced it. Idempotent.

        The socket must not be closed before: a new file may then get the same inode number.
        """
        if self.file is not None and _identity(self.file) == self.identity:
            with suppress(FileNotFoundError):
                self.file.unlink()
        self.file = None


@contextmanager
def listening(settings: Settings) -> Iterator[Listener]:
    """Listen as the settings say for the time of the block; its end removes a socket file.

    Raises:
        ConfigurationError: The address or the certificate cannot be used; the message names it
            and the reason.
    """
    _check_certificate(settings)
    listener = _listen(settings)
    try:
        yield listener
    finally:
        listener.remove_file()
        listener.socket.close()


def url_of(listening: socket.socket, scheme: str = "http") -> str:
    """Return the URL of a socket, without a slash at the end; `unix:` and the path for a file."""
    name = listening.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    host, port = name[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _check_certificate(settings: Settings) -> None:
    """Check the certificate with an empty password; uvicorn would ask for one on the terminal."""
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
            # With this, :: is every address of the machine, as 0.0.0.0 is every IPv4 address.
            dualstack_ipv6=six and socket.has_dualstack_ipv6(),
        )
    )


def _listen_on_file(file: Path) -> Listener:
    if not hasattr(socket, "AF_UNIX"):
        raise OSError("this system has no such sockets; use host and port")
    _clear(file)
    created = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # By umask, not by a later chmod: others must not be able to connect at any time.
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
    """Remove the socket file of a killed process, if there is one.

    Raises:
        OSError: The file is not a socket, or a process listens on it.
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
            pass  # a process listens, but its backlog is full
    raise OSError(errno.EADDRINUSE, "another process listens on it")


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        state = file.lstat()
    except OSError:
        return None
    return state.st_dev, state.st_ino

"""The environment's network settings: which proxy to use and which certificates to trust.

They are read here, and not by the HTTP library, so that the error for an unusable value names the
variable, and so that NO_PROXY may hold networks.
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NoReturn
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies

from ...errors import ConfigurationError
from .secrets import hide_secret

_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_NAME = re.compile(r"[\w.*-]+")
_HASHED_CERTIFICATE = re.compile(r"[0-9a-f]{8}\.\d+")


class Proxy:
    """A proxy that the environment names; it never shows the user and the password.

    Args:
        variable: The environment variable that names it.
        value: The variable's value: a URL, or a host and a port.

    Attributes:
        variable: As given.
    """

    def __init__(self, variable: str, value: str) -> None:
        self.variable = variable
        self._value = value if "://" in value else f"http://{value}"

    def __repr__(self) -> str:
        return f"Proxy({self.variable})"

    def __reduce__(self) -> NoReturn:
        raise ConfigurationError("a proxy's password does not go into a pickle")

    @property
    def scheme(self) -> str:
        """The scheme in lower case, such as `"socks5"`."""
        return self._value.partition("://")[0].lower()

    @property
    def is_socks(self) -> bool:
        """Tell whether the proxy uses SOCKS 5."""
        return self.scheme.startswith("socks5")

    @property
    def address(self) -> str:
        """The proxy's address, without user and password."""
        parts = urlsplit(self._value)
        host = parts.hostname or ""
        return f"{self.scheme}://{f'[{host}]' if ':' in host else host}:{_port_of(parts)}"

    def credentials(self) -> tuple[str, str] | None:
        """Get the user and the password, decoded; None if there are none."""
        parts = urlsplit(self._value)
        if parts.username is None and parts.password is None:
            return None
        return unquote(parts.username or ""), unquote(parts.password or "")

    def problem(self) -> str | None:
        """Describe the problem and its remedy, without quoting the proxy; None if it is usable."""
        if self.scheme.startswith("socks") and not self.is_socks:
            return (
                "names a SOCKS proxy without saying that it speaks SOCKS 5, the only version that "
                "can be used; write socks5://HOST:PORT"
            )
        if self.scheme not in _PORTS:
            return "must begin with http://, https:// or socks5://"
        try:
            parts = urlsplit(self._value)
            is_whole = bool(parts.hostname) and _port_of(parts) > 0
        except ValueError:
            is_whole = False
        if not is_whole or self._value != "".join(self._value.split()):
            return (
                "is not the address of a proxy, such as http://HOST:PORT; in a user or a password "
                "write # / ? and white space as %23 %2F %3F and %20"
            )
        return None

    def hide(self, text: str) -> str:
        """Remove the password from a text, in each form in which it may have been sent."""
        return self.hide_bytes(text.encode("utf-8", "surrogateescape")).decode(
            "utf-8", "surrogateescape"
        )

    def hide_bytes(self, body: bytes) -> bytes:
        """`hide` for bytes."""
        found = self.credentials()
        if found is None:
            return body
        user, password = found
        pair = b64encode(f"{user}:{password}".encode()).decode()
        for secret in (pair, urlsplit(self._value).password, password):
            body = hide_secret(body, secret) if secret else body
        return body


def find_proxy(url: str) -> Proxy | None:
    """Find the proxy that the environment names for a URL; None if there is none.

    It comes from HTTP_PROXY or HTTPS_PROXY, by the URL's scheme, or else from ALL_PROXY, in lower
    or upper case. There is none if NO_PROXY names the host.

    Raises:
        ConfigurationError: The proxy cannot be used, or NO_PROXY has an entry that cannot be read.
    """
    scheme = urlsplit(url).scheme
    proxy = proxy_of(scheme) or proxy_of("all")
    if proxy is None or _is_excepted(url):
        return None
    if problem := proxy.problem():
        raise ConfigurationError(f"{proxy.variable} {problem}, or name the host in NO_PROXY")
    return proxy


def proxy_of(kind: str) -> Proxy | None:
    """Find the proxy for `"http"`, `"https"` or `"all"`, or None; NO_PROXY is not considered."""
    # Wrapped at once, so that a value with a password is never a local variable of a frame.
    return Proxy(_variable(kind), getproxies()[kind]) if getproxies().get(kind) else None


def create_tls_context(default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """Create a context with the certificates of SSL_CERT_FILE, SSL_CERT_DIR, or else `default`.

    Raises:
        ConfigurationError: They cannot be read, or SSLKEYLOGFILE cannot be written.
    """
    check_key_log()
    if file := os.environ.get("SSL_CERT_FILE"):
        with _reading("SSL_CERT_FILE", file):
            return ssl.create_default_context(cafile=file)
    if folders := os.environ.get("SSL_CERT_DIR"):
        if not any(_holds_certificates(Path(folder)) for folder in folders.split(os.pathsep)):
            raise ConfigurationError(
                f"SSL_CERT_DIR names no folder that holds certificates ({folders}); name one that "
                "`openssl rehash` has been run in, or unset the variable"
            )
        return ssl.create_default_context(capath=folders)
    return default()


def check_certificates(variable: str, file: str) -> None:
    """Check that the file that a variable names holds certificates.

    Raises:
        ConfigurationError: It does not, or cannot be read.
    """
    with _reading(variable, file):
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)


@contextmanager
def _reading(variable: str, file: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # includes ssl.SSLError, raised if there are no certificates
        is_empty = isinstance(error, ssl.SSLError)
        problem = "holds no certificates in PEM form" if is_empty else "cannot be read"
        reason = "" if is_empty else f": {error.strerror}"
        raise ConfigurationError(
            f"{variable} names {file}, which {problem}{reason}; name a file of certificates, or "
            "unset the variable"
        ) from None


def check_key_log() -> None:
    """Check that OpenSSL will be able to write TLS keys to the file in SSLKEYLOGFILE.

    Raises:
        ConfigurationError: They cannot.
    """
    if file := os.environ.get("SSLKEYLOGFILE"):
        try:
            with Path(file).open("a"):
                pass
        except OSError as error:
            raise ConfigurationError(
                f"SSLKEYLOGFILE names {file}, which cannot be written: {error.strerror}; name "
                "another file, or unset the variable"
            ) from None


def _variable(kind: str) -> str:
    """Name the variable that is used: the lower-case one if both are set, as in curl."""
    lower = f"{kind}_proxy"
    names = [name for name in os.environ if name.lower() == lower and os.environ[name]]
    exact = (name for name in (lower, lower.upper()) if name in names)
    return next(exact, next(iter(names), "the system's proxy setting"))


def _port_of(parts: SplitResult) -> int:
    return _PORTS[parts.scheme] if parts.port is None else parts.port


def _holds_certificates(folder: Path) -> bool:
    try:
        return any(_HASHED_CERTIFICATE.fullmatch(entry.name) for entry in folder.iterdir())
    except OSError:
        return False


def _is_excepted(url: str) -> bool:
    """Tell whether NO_PROXY names the host of a URL."""
    parts = urlsplit(url)
    host, port = (parts.hostname or "").rstrip("."), _port_of(parts)
    entries = re.split(r"[,\s]+", getproxies().get("no", ""))
    # All are read, so that an error does not depend on the host.
    found = [_matches(entry, parts.scheme, host, port) for entry in entries if entry]
    return any(found)


def _matches(entry: str, scheme: str, host: str, port: int) -> bool:
    """Tell whether an entry of NO_PROXY names a host: by name, pattern, address or network."""
    wanted, separator, rest = entry.rpartition("://")
    if separator and wanted.lower() not in {"all", scheme}:
        return False
    rest = rest.rstrip("/")
    if (network := _network(rest)) is not None:
        return _is_within(host, network)
    if ported := re.fullmatch(r"(.+):(\d+)", rest):
        rest = ported[1]
        if (network := _network(rest)) is not None:
            return port == int(ported[2]) and _is_within(host, network)
    if not _NAME.fullmatch(rest):
        raise ConfigurationError(
            f"{_variable('no')} has an entry that cannot be read: {entry!r}; write names, "
            "addresses and networks with commas between them, such as "
            "localhost,.example.com,10.0.0.0/8,fd00::/8"
        )
    return (ported is None or port == int(ported[2])) and _is_named(host, rest)


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """Parse `10.0.0.0/8`, `::1`, `[::1]`, `[fd00::]/8` or `fe80::1%eth0`; None for other texts."""
    plain = re.sub(r"^\[(.+)\](/\d+)?$", r"\1\2", text)
    try:
        return ipaddress.ip_network(re.sub(r"%[^/]*", "", plain), strict=False)
    except ValueError:
        return None


def _is_within(host: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    try:
        return ipaddress.ip_address(host) in network
    except ValueError:
        return False


def _is_named(host: str, name: str) -> bool:
    host, domain = _in_ascii(host), _in_ascii(name.strip("."))
    if host.endswith(f".{domain}"):
        return True
    # A name with a dot in front stands only for hosts below the domain.
    return not name.startswith(".") and fnmatchcase(host, domain)


def _in_ascii(name: str) -> str:
    """Encode a host name as it is sent over the network."""
    try:
        return name.encode("idna").decode().lower()
    except UnicodeError:
        return name.lower()

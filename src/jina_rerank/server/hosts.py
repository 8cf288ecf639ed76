"""Check of the Host header, which keeps web pages away from a service without keys."""

from __future__ import annotations

import ipaddress
import re

from starlette.requests import Request

from .refusals import WrongHost
from .settings import Settings

_PORT = re.compile(r":\d*$")


def check_host(request: Request, settings: Settings) -> None:
    """Check that a request to a service on the loopback without keys names this machine.

    A web page may have its own host name resolve to the loopback (DNS rebinding). The browser then
    takes the service for the page's own origin and lets the page read its answers. Such a request
    has the page's host name in its Host header; an address or `localhost` is never the page's.

    Args:
        request: The request. One without the header is no browser's.
        settings: The settings. Keys, `allow_anonymous` and `unix_socket` make the check needless: a
            page has no key, others decide who may send requests, and no browser reaches a file.

    Raises:
        WrongHost: The header has another name.
    """
    if settings.has_keys or settings.allow_anonymous or settings.unix_socket is not None:
        return
    host = request.headers.get("host")
    if host is None or _is_local(_PORT.sub("", host.strip().lower())):
        return
    raise WrongHost(
        "the Host header must have an IP address or localhost, since this service has no keys; "
        "other names need keys, or allow_anonymous"
    )


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True

"""Checks of the environment's network settings, before boto3 reads them.

boto3 would report a wrong setting as a broken connection, with a proxy's password in the message.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

from ...errors import ConfigurationError
from .environment import check_certificates, proxy_of

_ENDPOINTS = ("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", "AWS_ENDPOINT_URL")


def check_endpoint() -> None:
    """Check the address that the environment gives in place of AWS's own.

    Raises:
        ConfigurationError: It is no address.
    """
    variable = next((name for name in _ENDPOINTS if os.environ.get(name)), None)
    if variable is None or os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "") == "true":
        return
    try:
        parts = urlsplit(os.environ[variable])
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise ConfigurationError(f"{variable} must be an address such as https://HOST, or be unset")


def check_way(url: str, *, has_own_proxies: bool) -> None:
    """Check the certificates and the proxy that boto3 takes from the environment for a URL.

    Args:
        url: The endpoint's address.
        has_own_proxies: Whether the session's settings name proxies, which are used instead.

    Raises:
        ConfigurationError: They cannot be used.
    """
    parts = urlsplit(url)
    if parts.scheme == "https":
        for variable in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):  # the first that is set counts
            if file := os.environ.get(variable):
                check_certificates(variable, file)
                break
    proxy = proxy_of(parts.scheme)
    if has_own_proxies or proxy is None or proxy_bypass(parts.netloc):
        return
    problem = proxy.problem()
    if problem is None and proxy.is_socks:
        problem = "names a SOCKS proxy, and boto3 knows HTTP proxies only; write http://HOST:PORT"
    if problem is not None:
        raise ConfigurationError(f"{proxy.variable} {problem}, or name the host in NO_PROXY")

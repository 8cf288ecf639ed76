"""The address that requests go to, from a base URL with or without the endpoint's path."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from ...errors import ConfigurationError
from .wire import has_surrogates


def endpoint(base_url: str, path: tuple[str, ...]) -> str:
    """Complete a base URL to an endpoint's address; it may hold all, a part or none of the path.

    With `("v1", "rerank")`, each of `https://api.jina.ai`, `https://api.jina.ai/v1/` and
    `https://api.jina.ai/v1/rerank` gives the last one. A URL that already ends with the last
    segment stays as it is: some servers have `/rerank` alone.

    Args:
        base_url: A URL with http or https, without credentials, query or fragment.
        path: The segments of the endpoint's path.

    Raises:
        ConfigurationError: The URL cannot be used.
    """
    if not isinstance(base_url, str):
        raise ConfigurationError(f"base_url must be a string, not {type(base_url).__name__}")
    try:
        parts = urlsplit(base_url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    is_printable = base_url == "".join(base_url.split()) and not has_surrogates(base_url)
    if not host or parts.scheme not in {"http", "https"} or not is_printable:
        raise ConfigurationError(
            'base_url must be an address such as "https://api.jina.ai" or "http://localhost:8080"'
        )
    # None of these parts is quoted in an error: they may hold a key.
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError("base_url holds a user or a password; pass them in headers=")
    if parts.query or parts.fragment:
        raise ConfigurationError("base_url holds a query or a fragment; leave it out")
    given = tuple(segment for segment in parts.path.split("/") if segment)
    if not given or given[-1] != path[-1]:
        known = max(n for n in range(len(path)) if given[len(given) - n :] == path[:n])
        given += path[known:]
    return urlunsplit((parts.scheme, parts.netloc, "/" + "/".join(given), "", ""))

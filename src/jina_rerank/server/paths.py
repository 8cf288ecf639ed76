"""Middleware for paths and methods before routing: prefixes, slashes, HEAD and CORS."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import ConfigurationError

EXPOSED = (
    "retry-after",
    "x-compute-characters",
    "x-compute-tokens",
    "x-degraded",
    "x-request-id",
)
"""Response headers that web pages may read, in addition to those that they always may."""


def check_root_path(root_path: str, paths: Iterable[str]) -> None:
    """Check that paths are unambiguous both with and without a prefix.

    Args:
        root_path: The prefix.
        paths: Paths of the service.

    Raises:
        ConfigurationError: A path with the prefix is another path of the service.
    """
    known = set(paths)
    for path in known:
        if root_path + path in known:
            raise ConfigurationError(
                f"root_path: {root_path} will not do, since {root_path + path} is a path of the "
                "service's own; name another one"
            )


class Located:
    """Finds the path within the service: without the prefix, and without slashes at its end.

    A proxy that offers the service under a prefix may keep it in the paths or remove it.

    Args:
        app: The application.
        root_path: The prefix; if blank, the ASGI server's `root_path`.
    """

    def __init__(self, app: ASGIApp, root_path: str = "") -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request; see the ASGI specification."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        root: str = self._root_path or scope.get("root_path", "")
        path: str = scope["path"]
        scope = {**scope, "root_path": root}
        inside = _without_slash(path)
        if root and (path == root or path.startswith(f"{root}/")):
            below = _without_slash(path[len(root) :])
            if _is_routed(scope, root + below) or not _is_routed(scope, root + inside):
                inside = below
        await self._app({**scope, "path": root + inside}, receive, send)


def path_within(scope: Scope) -> str:
    """Return the path within the service, of a scope that `Located` has processed."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


class HeadAsGet:
    """Answers HEAD as GET, without the body.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request; see the ASGI specification."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        # In place, not in a copy: the logging middleware reads the route from this mapping.
        scope["method"] = "GET"
        await self._app(scope, receive, send_head)


def cors(origins: Collection[str]) -> list[Middleware]:
    """Return the middleware that allows requests of web pages; none without origins.

    Args:
        origins: Origins such as `https://page.example`; `*` for every page.
    """
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "HEAD", "POST"],
            # Client libraries send various headers. This is safe, since a key is not a cookie and
            # no browser sends it by itself.
            allow_headers=["*"],
            expose_headers=EXPOSED,
        )
    ]


def _without_slash(path: str) -> str:
    return path.rstrip("/") or "/"


def _is_routed(scope: Scope, path: str) -> bool:
    """Return True if a route matches this path and the request's method."""
    method = "GET" if scope["method"] == "HEAD" else scope["method"]
    asked = {**scope, "path": path, "method": method}
    routes: list[BaseRoute] = scope["app"].router.routes
    return any(route.matches(asked)[0] is Match.FULL for route in routes)

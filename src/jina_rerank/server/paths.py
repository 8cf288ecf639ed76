"""Changes of paths and methods before anything is routed: prefixes, slashes, HEAD and CORS."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import ConfigurationError

EXPOSED = ("retry-after", "x-compute-characters", "x-compute-tokens", "x-request-id")
"""Headers of answers that a page may read, beside those that any may."""


def check_root_path(root_path: str, paths: Iterable[str]) -> None:
    """See that a prefix leaves no doubt which path was meant, whether it is there or not.

    Args:
        root_path: The prefix.
        paths: Those of the service.

    Raises:
        ConfigurationError: There is one that is another one behind the prefix.
    """
    known = set(paths)
    for path in known:
        if root_path + path in known:
            raise ConfigurationError(
                f"root_path: {root_path} will not do, since {root_path + path} is a path of the "
                "service's own; name another one"
            )


class Located:
    """Finds the path within the service: without prefix, and without slashes at its end.

    A proxy that offers the service under a prefix may leave it in the paths or take it away.

    Args:
        app: What answers.
        root_path: The prefix; without one, it is what the ASGI server says.
    """

    def __init__(self, app: ASGIApp, root_path: str = "") -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; see the ASGI specification."""
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
    """The path within the service, of a scope that `Located` has seen to."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


class HeadAsGet:
    """Answers HEAD as GET, without the body.

    Args:
        app: What answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; see the ASGI specification."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        # In place: whoever logs the request finds the route in this mapping.
        scope["method"] = "GET"
        await self._app(scope, receive, send_head)


def cors(origins: Collection[str]) -> list[Middleware]:
    """Lets pages of those origins ask; nothing where there are none.

    Args:
        origins: `https://page.example` and the like; `*` is every page.
    """
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "HEAD", "POST"],
            # Clients' libraries have headers of their own. A key is no cookie: no browser sends it
            # by itself.
            allow_headers=["*"],
            expose_headers=EXPOSED,
        )
    ]


def _without_slash(path: str) -> str:
    return path.rstrip("/") or "/"


def _is_routed(scope: Scope, path: str) -> bool:
    """Tell whether some route answers that path and method."""
    method = "GET" if scope["method"] == "HEAD" else scope["method"]
    asked = {**scope, "path": path, "method": method}
    routes: list[BaseRoute] = scope["app"].router.routes
    return any(route.matches(asked)[0] is Match.FULL for route in routes)

"""The playground: a page at `/` that ranks what is typed, with the models that are served.

The page itself needs no key, since a browser cannot send one when it opens an address; what it asks
the service for does. It loads nothing from elsewhere, and its policy has the browser see to that.
"""

from __future__ import annotations

import hashlib
import time
from importlib.resources import files
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from ..dialect import RankJob, guarded_router
from ..engine import Engine
from ..refusals import Refused

MEDIA_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
"""Media types of the files in `static`; anything else in it is not served."""

HEADERS = {
    "content-security-policy": (
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "object-src 'none'; require-trusted-types-for 'script'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    # Kept, and asked about each time: after an update the files must fit each other.
    "cache-control": "no-cache",
}


class PlaygroundRequest(BaseModel):
    """A request of the page: one model's ranking."""

    model_config = ConfigDict(strict=True)

    model: str
    query: str
    documents: Annotated[list[str], Field(min_length=1, fail_fast=True)]


def playground_router(engine: Engine) -> APIRouter:
    """The page's routes: its files, and rankings with what no dialect tells.

    They are left out of the OpenAPI description, for they change with the page.

    Args:
        engine: What ranks.
    """
    router = APIRouter(include_in_schema=False)
    for path, content, media_type in _read_files():
        _add_file(router, path, content, media_type)
    guarded = guarded_router(engine, refusal)

    @guarded.post("/playground/rank", include_in_schema=False)
    async def rank(body: PlaygroundRequest, request: Request) -> JSONResponse:
        started = time.perf_counter()
        ranking = await engine.rank(RankJob(body.model, body.query, body.documents), request)
        answer: dict[str, Any] = {
            "model": ranking.model,
            "seconds": round(time.perf_counter() - started, 6),
            "tokens": ranking.usage.tokens,
            "truncated_query_tokens": ranking.usage.truncated_query_tokens,
            "results": [
                {
                    "index": hit.index,
                    "score": hit.score,
                    "tokens": hit.tokens,
                    "truncated_tokens": hit.truncated_tokens,
                }
                for hit in ranking
            ],
        }
        return JSONResponse(answer)

    router.include_router(guarded)
    return router


def refusal(refused: Refused, request: Request) -> JSONResponse:
    """A refusal for people: what it says, and the id of its line in the log."""
    body = {"message": refused.message, "request_id": request.state.request_id}
    return JSONResponse(body, refused.status)


def _read_files() -> list[tuple[str, bytes, str]]:
    """Path, content and media type of each; the page itself is at the root."""
    found = []
    for file in files(__package__).joinpath("static").iterdir():
        media_type = MEDIA_TYPES.get(f".{file.name.rpartition('.')[2]}")
        if media_type is not None:
            path = "/" if file.name == "index.html" else f"/playground/{file.name}"
            found.append((path, file.read_bytes(), media_type))
    return found


def _add_file(router: APIRouter, path: str, content: bytes, media_type: str) -> None:
    etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {**HEADERS, "etag": etag}

    @router.api_route(path, methods=["GET", "HEAD"])
    async def file(request: Request) -> Response:
        if path == "/" and not request.scope.get("raw_path", b"/").endswith(b"/"):
            # Behind a proxy's prefix; the page's own addresses are relative to the slash.
            prefix = request.scope["root_path"].rpartition("/")[2]
            return RedirectResponse(f"{prefix}/")
        # A proxy that compresses may have made the tag a weak one.
        if request.headers.get("if-none-match", "").removeprefix("W/") == etag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=media_type)

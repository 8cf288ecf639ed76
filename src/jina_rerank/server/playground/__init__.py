"""The playground: a page at `/` that ranks typed documents with the served models.

The page itself needs no key, since a browser cannot send one when it opens an address; its requests
to the service do. It loads nothing from other hosts, which its Content-Security-Policy enforces.
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
from .api import api_page

MEDIA_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
"""Media types of the files in `static`; other files in it are not served."""

HEADERS = {
    "content-security-policy": (
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "object-src 'none'; require-trusted-types-for 'script'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    # Cached, but validated each time: after an update the files must match each other.
    "cache-control": "no-cache",
}


class PlaygroundRequest(BaseModel):
    """A request of the page: one model's ranking."""

    model_config = ConfigDict(strict=True)

    model: str
    query: str
    documents: Annotated[list[str], Field(min_length=1, fail_fast=True)]


def playground_router(engine: Engine) -> APIRouter:
    """Create the page's routes: its files, and rankings with fields that no dialect has.

    They are not part of the OpenAPI description, since they change with the page.

    Args:
        engine: The engine.
    """
    router = APIRouter(include_in_schema=False)
    for path, content, media_type in _read_files():
        _add_file(router, path, content, media_type)
    _add_api(router)
    guarded = guarded_router(engine, refusal)

    @guarded.post("/playground/rank", include_in_schema=False)
    async def rank(body: PlaygroundRequest, request: Request) -> JSONResponse:
        model = engine.find(body.model)
        started = time.perf_counter()
        ranking = await engine.rank(RankJob(body.model, body.query, body.documents), request)
        facts = model.facts
        answer: dict[str, Any] = {
            "model": ranking.model,
            # In the page's list of models it is null if the model was not loaded at that time.
            "family": None if facts is None else facts.family,
            "degraded": ranking.degraded,
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
    """Build the response for a refusal: its message, and the id of its line in the log."""
    body = {"message": refused.message, "request_id": request.state.request_id}
    return JSONResponse(body, refused.status)


def _read_files() -> list[tuple[str, bytes, str]]:
    """Read path, content and media type of each file; the page itself is at the root."""
    found = []
    for file in files(__package__).joinpath("static").iterdir():
        media_type = MEDIA_TYPES.get(f".{file.name.rpartition('.')[2]}")
        if media_type is not None:
            path = "/" if file.name == "index.html" else f"/playground/{file.name}"
            found.append((path, file.read_bytes(), media_type))
    return found


def _add_api(router: APIRouter) -> None:
    @router.api_route("/playground/api", methods=["GET", "HEAD"])
    async def api(request: Request) -> Response:
        page = api_page(request.app.openapi())
        return Response(page, headers=HEADERS, media_type="text/html")


def _add_file(router: APIRouter, path: str, content: bytes, media_type: str) -> None:
    etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {**HEADERS, "etag": etag}

    @router.api_route(path, methods=["GET", "HEAD"])
    async def file(request: Request) -> Response:
        if path == "/" and not request.scope.get("raw_path", b"/").endswith(b"/"):
            # Behind a proxy's prefix without a slash, to which the page's addresses are relative.
            prefix = request.scope["root_path"].rpartition("/")[2]
            return RedirectResponse(f"{prefix}/")
        # A proxy that compresses may have made the tag weak.
        if request.headers.get("if-none-match", "").removeprefix("W/") == etag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=media_type)

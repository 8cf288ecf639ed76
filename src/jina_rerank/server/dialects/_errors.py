"""Functions for errors that several dialects share."""

from __future__ import annotations

from types import UnionType
from typing import Any

from pydantic import BaseModel
from starlette.responses import JSONResponse


def documented(error: type[BaseModel] | UnionType) -> dict[int | str, dict[str, Any]]:
    """Return a route's errors for OpenAPI, all with the same model."""
    return {
        "4XX": {"model": error, "description": "The request is refused."},
        "5XX": {"model": error, "description": "The service cannot answer the request now."},
    }


def error_response(error: BaseModel, status: int) -> JSONResponse:
    """Build an error response; a 401 has the header WWW-Authenticate (RFC 9110, 11.6.1)."""
    headers = {"www-authenticate": "Bearer"} if status == 401 else None
    return JSONResponse(error.model_dump(), status, headers)

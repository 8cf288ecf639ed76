"""What the dialects' errors have in common, whatever their words."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from starlette.responses import JSONResponse


def documented(error: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """A route's errors for OpenAPI, all of one shape."""
    return {
        "4XX": {"model": error, "description": "The request cannot be answered as it is."},
        "5XX": {"model": error, "description": "The service cannot answer it now."},
    }


def error_response(error: BaseModel, status: int) -> JSONResponse:
    """An error with its status; a 401 says how to identify oneself (RFC 9110, 11.6.1)."""
    headers = {"www-authenticate": "Bearer"} if status == 401 else None
    return JSONResponse(error.model_dump(), status, headers)

"""Functions for errors that several dialects share."""

from __future__ import annotations

import dataclasses
from types import UnionType
from typing import Any

from pydantic import BaseModel
from starlette.responses import JSONResponse

from ..refusals import InvalidRequest, Refused

FORM = "as "
"""Prefix of the tags of pydantic's unions, which distinguish the forms of a value."""


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


def without_forms(refused: Refused) -> Refused:
    """Remove the tags of forms, which clients do not know, from the paths of a refusal."""
    if not isinstance(refused, InvalidRequest):
        return refused
    return type(refused)(
        [
            dataclasses.replace(field, path=tuple(p for p in field.path if not _is_form(p)))
            for field in refused.fields
        ]
    )


def _is_form(part: str | int) -> bool:
    return isinstance(part, str) and part.startswith(FORM)

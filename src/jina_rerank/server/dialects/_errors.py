"""The common part of the dialects' errors, whatever their words."""

from __future__ import annotations

import dataclasses
from types import UnionType
from typing import Any

from pydantic import BaseModel
from starlette.responses import JSONResponse

from ..refusals import InvalidRequest, Refused

FORM = "as "
"""Prefixes of the tags that tell apart the forms in which a value may be sent."""


def documented(error: type[BaseModel] | UnionType) -> dict[int | str, dict[str, Any]]:
    """A route's errors for OpenAPI, all of one shape."""
    return {
        "4XX": {"model": error, "description": "The request cannot be answered as it is."},
        "5XX": {"model": error, "description": "The service cannot answer it now."},
    }


def error_response(error: BaseModel, status: int) -> JSONResponse:
    """An error with its status; a 401 says how to identify oneself (RFC 9110, 11.6.1)."""
    headers = {"www-authenticate": "Bearer"} if status == 401 else None
    return JSONResponse(error.model_dump(), status, headers)


def without_forms(refused: Refused) -> Refused:
    """The refusal with paths of nothing but fields and places: clients know no tags of forms."""
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

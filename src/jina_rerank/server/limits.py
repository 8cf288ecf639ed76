"""Reading a request's body without being hurt by it."""

from __future__ import annotations

import asyncio

from pydantic_core import from_json
from starlette.requests import ClientDisconnect, Request

from .refusals import ClientGone, SlowRequest, TooLarge, Unreadable, UnsupportedEncoding
from .settings import Settings


async def read_json(request: Request, settings: Settings) -> object:
    """The body as what its JSON says, within the limits of bytes, time and depth.

    Args:
        request: Its body has not been read yet.
        settings: `max_body_bytes` and `deadline` apply.

    Raises:
        UnsupportedEncoding: The body is compressed: a few kilobytes could become gigabytes.
        TooLarge: It has too many bytes, announced or not.
        SlowRequest: It did not arrive in time.
        ClientGone: It never will.
        Unreadable: It is no JSON, or is nested too deeply.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise UnsupportedEncoding("the body is compressed; send it as it is")
    body = await _read(request, settings)
    try:
        # Nesting is limited there, to some 200: Python's own parser would go on until its stack
        # ends.
        value: object = from_json(body, allow_inf_nan=False)
    except ValueError:
        raise Unreadable("the body is not JSON, or is nested too deeply") from None
    return value


async def _read(request: Request, settings: Settings) -> bytes:
    limit = settings.max_body_bytes
    announced = request.headers.get("content-length", "")
    # Refused before it is read, and again while it is: a chunked body announces nothing.
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(limit)
    body = bytearray()
    try:
        async with asyncio.timeout(settings.deadline):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise _too_large(limit)
    except TimeoutError:
        raise SlowRequest("the body did not arrive in time") from None
    except ClientDisconnect:
        raise ClientGone("the client closed its connection while it was sending") from None
    return bytes(body)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body has more than {limit:,} bytes; send fewer documents at a time")

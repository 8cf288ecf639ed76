"""The service: one engine behind the dialects of rerank APIs.

`jina-rerank serve` runs it; `create_app` returns it as an application for any ASGI server.
"""

from .app import create_app
from .engine import Engine
from .served import ServedModel
from .settings import Settings

__all__ = ["Engine", "ServedModel", "Settings", "create_app"]

"""Has Schemathesis name the model that is served; any other is answered with its absence."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    if isinstance(body, dict) and isinstance(body.get("model"), str):
        return body | {"model": "small"}
    return body


@schemathesis.hook
def map_path_parameters(context: schemathesis.HookContext, parameters: Any) -> Any:
    if isinstance(parameters, dict) and "model_id" in parameters:
        return parameters | {"model_id": "small"}
    return parameters

"""Settings that need a check at each assignment, and arguments that are no settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypedDict

from llama_index.core.schema import MetadataMode

from jina_rerank import ConfigurationError
from jina_rerank.plugin import check_threshold, check_top_n


class OtherArguments(TypedDict, total=False):
    """Arguments of `JinaRerank` that are no settings.

    Attributes:
        api_url: A setting of llama-index-postprocessor-jinaai-rerank with another name here.
        class_name: Part of serialized forms, which pydantic passes back.
    """

    api_url: NoReturn
    class_name: str


OFFICIAL_SETTINGS: Mapping[str, str] = {
    "api_url": 'write base_url="https://…", backend="remote", as base_url may end with /v1/rerank'
}
"""Advice on settings of the official integration that have another name here, by their name."""


def _check_metadata_mode(mode: object) -> MetadataMode:
    try:
        return MetadataMode(mode)  # from_json passes the value only
    except ValueError:
        names = tuple(mode.value for mode in MetadataMode)
        raise ConfigurationError(f"metadata_mode must be one of {names}, not {mode!r}") from None


CHECKS: Mapping[str, Callable[[Any], object]] = {
    "top_n": check_top_n,
    "threshold": check_threshold,
    "metadata_mode": _check_metadata_mode,
}
"""Checks of the settings that may be assigned, by name. Each returns the value to keep."""

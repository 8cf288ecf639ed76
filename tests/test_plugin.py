"""Settings that all plugins share: where they apply, and names of metadata fields."""

from __future__ import annotations

from typing import Any

import pytest

from haystack_integrations.components.rankers.jina_rerank import JinaRanker
from jina_rerank import ConfigurationError
from jina_rerank.plugin import build_reranker
from langchain_jina_rerank import JinaRerank as LangChainRerank


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"backend": "remote", "device": "cpu"},
            (
                "device: applies to models on this machine only, and remote: is a service; "
                'leave it out, or set backend="local"'
            ),
        ),
        (
            {"backend": "remote", "model": "m", "device": "cpu", "max_length": 64},
            (
                "device, max_length: apply to models on this machine only, and remote:m is a "
                'service; leave them out, or set backend="local"'
            ),
        ),
        (
            {"base_url": "http://localhost"},
            (
                "base_url: applies to services only, and jina-rerank-mini runs on this machine; "
                'leave it out, or set backend="remote"'
            ),
        ),
    ],
)
def test_an_error_says_where_a_setting_applies_and_what_to_do(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build_reranker(**settings)
    assert str(caught.value) == message


@pytest.mark.parametrize("names", ["title", {"title"}, {"title": 1}, 5, [1], ["title", None]])
def test_names_of_metadata_fields_are_strings_in_a_list(names: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^metadata_fields.* must be a "):
        LangChainRerank(metadata_fields=names)
    with pytest.raises(ConfigurationError, match=r"^meta_fields_to_embed.* must be a "):
        JinaRanker(meta_fields_to_embed=names)

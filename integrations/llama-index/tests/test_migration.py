"""Code of llama-index-postprocessor-jinaai-rerank's users is accepted or refused."""

from __future__ import annotations

import warnings

import pytest
from llama_index.core.schema import NodeWithScore, TextNode

from jina_rerank import ConfigurationError
from llama_index.postprocessor.jina_rerank import JinaRerank

KEY = "jina_0123456789abcdef"


def test_positional_arguments_are_those_of_the_official_postprocessor(server):
    rerank = JinaRerank(1, "jina-reranker-v1-base-en", server.url, KEY, backend="remote")
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in "ab"]
    assert len(rerank.postprocess_nodes(nodes, query_str="q")) == 1
    (request,) = server.requests
    assert request.json["model"] == "jina-reranker-v1-base-en"
    assert request.headers["authorization"] == f"Bearer {KEY}"


def test_its_url_is_refused_with_the_new_spelling():
    with pytest.raises(ConfigurationError, match=r"api_url: write base_url="):
        JinaRerank(api_url="https://api.jina.ai/v1/rerank")


def test_a_dictionary_of_the_official_postprocessor_is_refused_without_showing_its_key():
    with warnings.catch_warnings(action="ignore"):
        from llama_index.postprocessor.jinaai_rerank import JinaRerank as Official
    saved = Official(top_n=2, api_key=KEY).to_dict()
    assert saved["api_key"] == KEY
    with pytest.raises(ConfigurationError, match=r"api_url: write base_url=") as raised:
        JinaRerank.from_dict(saved)
    assert KEY not in str(raised.value)


@pytest.mark.parametrize("model", ["jina-reranker-v2-base-multilingual", "jina-colbert-v2"])
def test_a_name_of_the_hosted_service_needs_the_backend(model):
    with pytest.raises(ConfigurationError, match='backend="remote"'):
        JinaRerank(model=model)
    assert JinaRerank(model=model, backend="remote", api_key=KEY).model == model


def test_a_key_without_the_backend_says_what_to_write():
    with pytest.raises(ConfigurationError, match='set backend="remote"'):
        JinaRerank(api_key=KEY)

"""Code of jina-haystack's users is accepted, or refused with the new spelling."""

import pytest
from haystack import Document
from haystack.core.errors import DeserializationError
from haystack.utils import Secret

from haystack_integrations.components.rankers.jina_rerank import JinaRanker
from jina_rerank import ConfigurationError

KEY = Secret.from_env_var("JINA_API_KEY")


def official(**parameters):
    """A dictionary as jina-haystack 2.0 writes it."""
    return {
        "type": "haystack_integrations.components.rankers.jina.ranker.JinaRanker",
        "init_parameters": {
            "api_key": KEY.to_dict(),
            "model": "jina-reranker-v1-base-en",
            "base_url": "https://api.jina.ai/v1/rerank",
            "top_k": None,
            "score_threshold": None,
            **parameters,
        },
    }


def test_positional_arguments_are_those_of_the_official_ranker(server, monkeypatch):
    monkeypatch.setenv("JINA_API_KEY", "jina_secret-0123456789")
    ranker = JinaRanker(
        "jina-reranker-v1-base-en", KEY, 1, 0.0, backend="remote", base_url=server.url
    )
    answer = ranker.run("q", [Document(content="a"), Document(content="b")])
    assert len(answer["documents"]) == 1
    (request,) = server.requests
    assert request.json["model"] == "jina-reranker-v1-base-en"
    assert request.headers["authorization"] == "Bearer jina_secret-0123456789"


def test_a_dictionary_of_the_official_ranker_is_refused_with_the_new_spelling():
    with pytest.raises(DeserializationError, match=r"jina_rerank\.ranker\.JinaRanker.*backend"):
        JinaRanker.from_dict(official())


def test_with_the_new_type_and_backend_such_a_dictionary_is_read():
    data = official(backend="remote")
    data["type"] = "haystack_integrations.components.rankers.jina_rerank.ranker.JinaRanker"
    ranker = JinaRanker.from_dict(data)
    assert ranker.model == "jina-reranker-v1-base-en"
    assert ranker.top_k is None
    assert ranker.api_key == KEY


def test_a_name_of_the_hosted_service_needs_the_backend():
    with pytest.raises(ConfigurationError, match='backend="remote"'):
        JinaRanker("jina-reranker-v2-base-multilingual")


def test_a_key_without_the_backend_says_what_to_write():
    with pytest.raises(ConfigurationError, match='set backend="remote"'):
        JinaRanker(api_key=KEY)

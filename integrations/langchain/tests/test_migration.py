"""Settings of langchain-community's JinaRerank are refused with the new spelling."""

import json

import pytest
from langchain_core.documents import Document

from jina_rerank import ConfigurationError
from langchain_jina_rerank import JinaRerank

KEY = "jina_secret-0123456789"


@pytest.mark.parametrize(
    ("settings", "spelling"),
    [
        ({"jina_api_key": KEY}, r'jina_api_key: write api_key=, with backend="remote"'),
        ({"session": object()}, r"session: .*leave it out"),
        ({"user_agent": "mine"}, r"user_agent: .*headers"),
    ],
)
def test_a_setting_of_the_official_compressor_is_refused_with_the_new_spelling(settings, spelling):
    with pytest.raises(ConfigurationError, match=spelling) as raised:
        JinaRerank(**settings)
    assert KEY not in str(raised.value)


def test_a_dump_of_the_official_compressor_is_refused_by_the_first_name_that_differs():
    dump = {
        "top_n": 3,
        "model": "jina-reranker-v1-base-en",
        "jina_api_key": KEY,
        "user_agent": "langchain",
    }
    with pytest.raises(ConfigurationError, match="jina_api_key: write api_key="):
        JinaRerank.model_validate(json.loads(json.dumps(dump)))


def test_a_name_of_the_hosted_service_needs_the_backend():
    with pytest.raises(ConfigurationError, match='backend="remote"'):
        JinaRerank(model="jina-reranker-v2-base-multilingual")
    with pytest.raises(ConfigurationError, match='set backend="remote"'):
        JinaRerank(api_key=KEY)


def test_the_new_spelling_asks_for_the_same_model_with_the_same_key(remote, service):
    compressor = remote(model="jina-reranker-v1-base-en", api_key=KEY, top_n=1)
    documents = [Document(page_content="a"), Document(page_content="b")]
    assert len(compressor.compress_documents(documents, "q")) == 1
    (request,) = service.requests
    assert request.json["model"] == "jina-reranker-v1-base-en"
    assert request.headers["authorization"] == f"Bearer {KEY}"

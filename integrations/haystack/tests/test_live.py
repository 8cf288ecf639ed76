"""Jina's hosted service itself, where there is a key."""

import os

import pytest
from haystack import Document
from haystack.utils import Secret

from haystack_integrations.components.rankers.jina_rerank import JinaRanker

KEY = os.environ.get("JINA_API_KEY")  # read before the tests hide it


@pytest.mark.integration
@pytest.mark.skipif(not KEY, reason="needs JINA_API_KEY")
def test_the_hosted_service_puts_the_answer_first():
    ranker = JinaRanker(backend="remote", api_key=Secret.from_token(KEY), top_k=1)
    documents = [Document(content="Bonn was a capital."), Document(content="Paris is in France.")]
    answer = ranker.run("What lies in France?", documents)
    assert answer["documents"][0].content == "Paris is in France."
    assert answer["meta"]["usage"]["tokens"] > 0

"""Clients of Jina's hosted API that others have written, with nothing changed but the address."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from serving import LiveService

from jina_rerank import Reranker

QUERY = "what is a panda?"
TEXTS = ["coffee is brewed", "the giant panda is a bear", "paris", "berlin"]


@pytest.fixture(scope="module")
def expected(small_checkpoint: Path) -> list[tuple[str, float]]:
    """The best three by the model itself."""
    ranking = Reranker(small_checkpoint).rank(QUERY, TEXTS, top_n=3)
    return [(hit.text, hit.score) for hit in ranking]


def same(found: list[tuple[str, float]], expected: list[tuple[str, float]]) -> bool:
    return [text for text, _ in found] == [text for text, _ in expected] and [
        score for _, score in found
    ] == pytest.approx([score for _, score in expected], abs=1e-6)


def test_llama_index(service: LiveService, expected) -> None:
    from llama_index.core.schema import NodeWithScore, TextNode
    from llama_index.postprocessor.jinaai_rerank import JinaRerank

    reranker = JinaRerank(
        model="small", api_key="jina_" + "x" * 20, top_n=3, base_url=f"{service.url}/v1"
    )
    nodes = [NodeWithScore(node=TextNode(text=text), score=0.0) for text in TEXTS]
    found = reranker.postprocess_nodes(nodes, query_str=QUERY)
    assert same([(node.text, node.score) for node in found], expected)
    reranker._session.close()


def test_haystack(service: LiveService, expected) -> None:
    from haystack import Document
    from haystack.utils import Secret
    from haystack_integrations.components.rankers.jina import JinaRanker

    ranker = JinaRanker(
        model="small",
        api_key=Secret.from_token("jina_" + "x" * 20),
        top_k=3,
        base_url=f"{service.url}/v1/rerank",
    )
    documents = [Document(content=text) for text in TEXTS]
    found = ranker.run(query=QUERY, documents=documents)["documents"]
    assert same([(document.content, document.score) for document in found], expected)


def test_langchain(service: LiveService, expected, monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its package is to be sunset, and says so
        from langchain_community.document_compressors import jina_rerank
        from langchain_community.document_compressors.jina_rerank import JinaRerank
    from langchain_core.documents import Document

    # It knows no other way to another address.
    monkeypatch.setattr(jina_rerank, "JINA_API_URL", f"{service.url}/v1/rerank")
    compressor = JinaRerank(model="small", jina_api_key="jina_" + "x" * 20, top_n=3)
    documents = [Document(page_content=text) for text in TEXTS]
    found = compressor.compress_documents(documents, QUERY)
    scored = [(document.page_content, document.metadata["relevance_score"]) for document in found]
    assert same(scored, expected)
    compressor.session.close()

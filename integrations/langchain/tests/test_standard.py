"""LangChain's own conformance tests for retrievers, over our compressor.

There is no suite for compressors, so `k` of a retriever stands for `top_n` of ours. The suite's
test of `k` in a call reaches the base retriever, for nothing of a call reaches a compressor.
"""

from typing import Any, Self

import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_tests.integration_tests import RetrieversIntegrationTests
from pydantic import model_validator

from langchain_jina_rerank import JinaRerank

TEXTS = [
    "Store whole beans in an airtight jar.",
    "Espresso wants a fine grind.",
    "Hard water spoils the taste.",
    "Rinse the paper filter first.",
    "Descale the machine every three months.",
]


class RerankingRetriever(ContextualCompressionRetriever):
    k: int | None = None

    @model_validator(mode="after")
    def _pass_k_on(self) -> Self:
        assert isinstance(self.base_compressor, JinaRerank)
        self.base_compressor = self.base_compressor.model_copy(update={"top_n": self.k})
        return self


class TestRerankingRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _compressor(self, backend) -> None:
        self.compressor = JinaRerank(**backend.settings)

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return RerankingRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        store = InMemoryVectorStore(DeterministicFakeEmbedding(size=8))
        store.add_documents([Document(page_content=text) for text in TEXTS])
        return {
            "base_compressor": self.compressor,
            "base_retriever": store.as_retriever(search_kwargs={"k": len(TEXTS)}),
        }

    @property
    def retriever_query_example(self) -> str:
        return "How do I store coffee beans?"

    def test_k_is_cut_by_the_compressor_and_not_by_the_search(self, backend) -> None:
        query = self.retriever_query_example
        documents = [Document(page_content=text) for text in TEXTS]
        expected, score = backend.ranking(query, documents)[0]
        (best,) = RerankingRetriever(**self.retriever_constructor_params, k=1).invoke(query)
        assert best.page_content == expected.page_content
        assert best.metadata["relevance_score"] == pytest.approx(score)

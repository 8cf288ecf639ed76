"""Retrieval for a LangChain RAG pipeline: search wide, then rerank with JinaRerank.

Runs offline in a few seconds, with no key:

    pip install "jina-rerank[local]" langchain-jina-rerank langchain-classic
    python examples/langchain_rag.py "How much caffeine is in an espresso shot?"

The embedded model, jina-rerank-mini, is small and not one of Jina's;
JinaRerank(model="jinaai/jina-reranker-v1-turbo-en") switches to one that is.
"""

import json
import math
import re
import sys
from collections import Counter
from pathlib import Path
from zlib import crc32

from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import InMemoryVectorStore

from langchain_jina_rerank import JinaRerank

COFFEE = Path(__file__).parent / "data" / "coffee"
QUERY = "How much caffeine is in an espresso shot?"


class WordEmbeddings(Embeddings):
    """TF-IDF, each word hashed to one of `size` dimensions."""

    # A vector store is what most LangChain pipelines search, and the embeddings that go with it
    # need a download or a key. These need neither; put your own in their place.

    def __init__(self, texts: list[str], size: int = 1024) -> None:
        self._size = size
        self._texts = len(texts)
        self._frequency = Counter(word for text in texts for word in set(_words(text)))

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector for each text."""
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        """The vector of one text; the store compares vectors by their cosine."""
        vector = [0.0] * self._size
        for word, count in Counter(_words(text)).items():
            rarity = math.log((1 + self._texts) / (1 + self._frequency[word]))
            vector[crc32(word.encode()) % self._size] += (1 + math.log(count)) * rarity
        return vector


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def read_passages(folder: Path) -> list[Document]:
    """The passages of a BEIR corpus."""
    with (folder / "corpus.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [
        Document(id=row["_id"], page_content=row["text"], metadata={"title": row["title"]})
        for row in rows
    ]


def main(query: str = QUERY, top_n: int = 3) -> tuple[list[Document], list[Document]]:
    """The best passages for the query, before and after reranking."""
    passages = read_passages(COFFEE)
    store = InMemoryVectorStore(WordEmbeddings([p.page_content for p in passages]))
    store.add_documents(passages)
    # Many candidates, cheaply: the reranker can only promote what the search has found.
    search = store.as_retriever(search_kwargs={"k": 20})
    reranking = ContextualCompressionRetriever(
        base_compressor=JinaRerank(top_n=top_n), base_retriever=search
    )

    before = search.invoke(query)[:top_n]
    after = reranking.invoke(query)

    print(f"{query}\n\nThe search alone:")
    show(before)
    print("\nReranked:")
    show(after)
    return before, after


def show(passages: list[Document]) -> None:
    """Print the passages, with their scores if they have been reranked."""
    for passage in passages:
        score = passage.metadata.get("relevance_score")
        shown = "     " if score is None else f"{score:.3f}"
        print(f"  {shown}  [{passage.id}] {' '.join(passage.page_content.split())[:100]}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else QUERY)

"""Retrieval for a RAG pipeline in Haystack: BM25 finds passages, JinaRanker puts the best first.

Runs offline and needs no key:

    pip install "jina-rerank[local]" jina-rerank-haystack
    python examples/haystack_rag.py

The model that ships with the package, jina-rerank-mini, is not Jina's own.
`JinaRanker(model="jinaai/jina-reranker-v1-turbo-en")` switches to that one, which is downloaded
once from the hub.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from haystack import Document, Pipeline
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.document_stores.in_memory import InMemoryDocumentStore

from haystack_integrations.components.rankers.jina_rerank import JinaRanker

COFFEE = Path(__file__).parent / "data" / "coffee"
QUERY = "How can I make filtering my cold brew easier?"


def read_passages() -> Iterator[Document]:
    """The collection's passages as Haystack's documents."""
    with (COFFEE / "corpus.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            passage = json.loads(line)
            yield Document(id=passage["_id"], content=passage["text"])


def build_pipeline() -> Pipeline:
    """BM25 for 20 candidates, the ranker for the best 3 of them."""
    store = InMemoryDocumentStore()
    store.write_documents(list(read_passages()))
    pipeline = Pipeline()
    pipeline.add_component("retriever", InMemoryBM25Retriever(store, top_k=20))
    pipeline.add_component("ranker", JinaRanker(top_k=3))
    pipeline.connect("retriever.documents", "ranker.documents")
    # In a whole RAG pipeline a prompt builder comes next, connected to "ranker.documents".
    return pipeline


def main(query: str = QUERY) -> tuple[list[Document], list[Document]]:
    """Print the best passages before and after reranking.

    Returns:
        The retriever's documents, and the ranker's.
    """
    output = build_pipeline().run(
        {"retriever": {"query": query}, "ranker": {"query": query}},
        include_outputs_from={"retriever"},
    )
    retrieved, ranked = output["retriever"]["documents"], output["ranker"]["documents"]
    print(f"Query: {query}")
    for title, documents in (("BM25", retrieved[:3]), ("JinaRanker", ranked)):
        print(f"\n{title}:")
        for document in documents:
            print(f"  {document.score:6.3f}  [{document.id}] {document.content[:88]}...")
    usage = output["ranker"]["meta"]["usage"]
    print(f"\nRead {usage['documents']} passages, {usage['tokens']:,} tokens.")
    return retrieved, ranked


if __name__ == "__main__":
    main()

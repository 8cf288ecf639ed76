"""RAG retrieval with LlamaIndex: BM25 finds ten passages, `JinaRerank` keeps the best three.

    pip install "jina-rerank[local]" llama-index-postprocessor-jina-rerank \
        llama-index-retrievers-bm25
    python examples/llama_index_rag.py

It runs offline and needs no key. The embedded model, jina-rerank-mini, is small, English and
not one of Jina AI's; `JinaRerank(model="jinaai/jina-reranker-v1-turbo-en", top_n=3)` downloads
and uses theirs instead.
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import BaseNode, NodeWithScore, TextNode
from llama_index.retrievers.bm25 import BM25Retriever

from llama_index.postprocessor.jina_rerank import JinaRerank

COFFEE = Path(__file__).parent / "data" / "coffee"
QUERY = "Which type of coffee grinder is the quietest?"


def load_nodes() -> list[BaseNode]:
    """The answers of coffee.stackexchange.com, a node each."""
    with (COFFEE / "corpus.jsonl").open(encoding="utf-8") as lines:
        passages = [json.loads(line) for line in lines]
    return [TextNode(id_=passage["_id"], text=passage["text"]) for passage in passages]


def show(heading: str, nodes: list[NodeWithScore]) -> None:
    """Print each node's score, id and first words."""
    print(f"\n{heading}")
    for node in nodes:
        words = textwrap.shorten(node.text, width=76, placeholder=" ...")
        print(f"  {node.get_score():6.3f}  [{node.node_id}]  {words}")


def main() -> tuple[list[NodeWithScore], list[NodeWithScore]]:
    """Answer one query; the passages as BM25 ranked them, and as the answer was given them."""
    retriever = BM25Retriever.from_defaults(nodes=load_nodes(), similarity_top_k=10)
    engine = RetrieverQueryEngine.from_args(
        retriever,
        llm=MockLLM(),  # put your own here
        node_postprocessors=[JinaRerank(top_n=3)],
    )
    retrieved = retriever.retrieve(QUERY)
    response = engine.query(QUERY)
    print(QUERY)
    show("BM25 alone, the first three of ten:", retrieved[:3])
    show("Reranked, what the language model reads:", response.source_nodes)
    return retrieved, response.source_nodes


if __name__ == "__main__":
    main()

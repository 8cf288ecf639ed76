"""`RerankedNode`, and conversion of LlamaIndex's nodes before and after ranking."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

from llama_index.core.schema import NodeWithScore, QueryBundle

from jina_rerank import InputError, Ranking
from jina_rerank.plugin import check_candidates


class RerankedNode(NodeWithScore):
    """Result of `JinaRerank`: a node with its relevance and facts about its scoring.

    Attributes:
        node: The same node object as in the input.
        score: Relevance to the query, higher is better; in (0, 1) for local models, and unchanged
            for services.
        retrieval_score: The score in the input, usually that of the retriever. Reranking a second
            time does not change it.
        truncated_tokens: Number of the text's tokens that were cut off; None if a service does not
            report it.
        degraded: None, or the reason of a degraded ranking.
        unscored: True if the node has no score of the model. Such nodes are last, in the order of
            the input, and their scores only express that order.
    """

    retrieval_score: float | None = None
    truncated_tokens: int | None = None
    degraded: str | None = None
    unscored: bool = False


def check_query_bundle(query_bundle: QueryBundle | None) -> QueryBundle:
    """Check that a query is a bundle, and return it.

    Raises:
        InputError: It is missing or of another class.
    """
    if query_bundle is None:
        raise InputError("query_bundle", "is missing; pass query_bundle=, or query_str=")
    if not isinstance(query_bundle, QueryBundle):
        kind = type(query_bundle).__name__
        raise InputError(
            "query_bundle", f"must be a QueryBundle, not {kind}; pass a text as query_str="
        )
    return query_bundle


def check_nodes(nodes: list[NodeWithScore]) -> list[NodeWithScore]:
    """Check that all nodes are of LlamaIndex's class; return a new list.

    Raises:
        InputError: They cannot be iterated in order, or one is of another class; the message names
            it.
    """
    remedy = "a node becomes one by NodeWithScore(node=node)"
    return check_candidates(nodes, NodeWithScore, "nodes", remedy)


def name_node(argument: str) -> str:
    """Convert the core's name of a document to that of the caller's node."""
    return re.sub(r"^documents\b", "nodes", argument)


def reranked_nodes(nodes: list[NodeWithScore], ranking: Ranking) -> list[NodeWithScore]:
    """Build the result: new wrappers of the ranked nodes, best first."""
    unscored = frozenset(ranking.unscored)
    return [
        RerankedNode(
            node=nodes[hit.index].node,
            score=hit.score,
            retrieval_score=_retrieval_score(nodes[hit.index]),
            truncated_tokens=hit.truncated_tokens,
            degraded=ranking.degraded,
            unscored=hit.index in unscored,
        )
        for hit in ranking
    ]


def _retrieval_score(node: NodeWithScore) -> float | None:
    return node.retrieval_score if isinstance(node, RerankedNode) else node.score


def event_tags(ranking: Ranking) -> dict[str, Any]:
    """Build the tags of the end event, which describe the ranking as a whole."""
    return {
        "jina_rerank": {
            "model": ranking.model,
            "usage": asdict(ranking.usage),
            "degraded": ranking.degraded,
            "unscored": list(ranking.unscored),
        }
    }

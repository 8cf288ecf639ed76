"""Haystack's documents before and after they are ranked, and what is told of the ranking."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypedDict

from haystack import Document
from haystack.tracing.tracer import tracer

from jina_rerank import InputError, Ranking
from jina_rerank.plugin import check_candidates


class RankerOutput(TypedDict):
    """Result of a run.

    Attributes:
        documents: Copies of the documents that remain, best first, with their new scores.
        meta: `"model"`, its name; `"usage"`, what the run cost, with the fields of
            `jina_rerank.Usage`; `"degraded"`, None or why the answer is second best;
            `"unscored"`, the ids of documents that nothing has scored, see
            `jina_rerank.Ranking`.
    """

    documents: list[Document]
    meta: dict[str, Any]


def read_documents(documents: object) -> dict[int, Document]:
    """The documents to rank, by their places among those that were passed in.

    Each id is there once, where it came first, as the document that scored highest: two
    retrievers that feed one ranker often find the same document.

    Raises:
        InputError: They are not documents, or one of them cannot be ranked; it names which.
    """
    kept: dict[str, tuple[int, Document]] = {}
    remedy = "a text becomes one by Document(content=text)"
    for i, document in enumerate(check_candidates(documents, Document, "documents", remedy)):
        _check_document(document, f"documents[{i}]")
        rival = kept.get(document.id)
        if rival is None or _prior_score(document) > _prior_score(rival[1]):
            kept[document.id] = i, document
    return dict(kept.values())


def _check_document(document: Document, argument: str) -> None:
    """Haystack's dataclass lets anything into its fields, also where only str and dict will do."""
    if not isinstance(document.content, str | None):
        kind = type(document.content).__name__
        raise InputError(argument, f"must have a string as content, not {kind}")
    if not isinstance(document.meta, Mapping):
        raise InputError(argument, f"must have a dict as meta, not {type(document.meta).__name__}")


def _prior_score(document: Document) -> float:
    return float("-inf") if document.score is None else document.score


def answer(candidates: list[Document], ranking: Ranking) -> RankerOutput:
    """The ranked ones of the candidates, as copies, and what is known of the ranking."""
    documents = []
    for hit in ranking:
        document = candidates[hit.index]
        # replace() alone would leave one meta dictionary in two documents. Its values are shared:
        # among them may be what nobody can copy, such as locks and connections.
        documents.append(dataclasses.replace(document, score=hit.score, meta=dict(document.meta)))
    return {
        "documents": documents,
        "meta": {
            "model": ranking.model,
            "usage": dataclasses.asdict(ranking.usage),
            "degraded": ranking.degraded,
            "unscored": [candidates[i].id for i in ranking.unscored],
        },
    }


def tag_span(ranking: Ranking, top_k: int | None) -> None:
    """Tell the component's span, if there is one; no text of a query or a document."""
    span = tracer.current_span()
    if span is None:
        return
    tags = {
        "model": ranking.model,
        "top_k": top_k,
        "degraded": ranking.degraded,
        "unscored": len(ranking.unscored) or None,
        **{f"usage.{name}": count for name, count in dataclasses.asdict(ranking.usage).items()},
    }
    span.set_tags({f"jina_rerank.{k}": tag for k, tag in tags.items() if tag is not None})

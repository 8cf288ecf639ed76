"""Conversion of Haystack's documents before and after ranking, and tags of tracing spans."""

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
        documents: Copies of the kept documents, best first, with their new scores.
        meta: `"model"`, the model's name; `"usage"`, the cost of the run, with the fields of
            `jina_rerank.Usage`; `"degraded"`, None or the reason of a degraded answer;
            `"unscored"`, the ids of documents without a score, see `jina_rerank.Ranking`.
    """

    documents: list[Document]
    meta: dict[str, Any]


def read_documents(documents: object) -> dict[int, Document]:
    """Check and deduplicate documents; return them by their positions in the input.

    Two retrievers in front of one ranker often find the same document. Of documents with the same
    id, the one with the highest score is kept, in the order of the id's first occurrence.

    Raises:
        InputError: The input is not a list of documents, or one of them cannot be ranked; the
            message names it.
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
    """Check the types of a document's fields, which Haystack's dataclass does not check."""
    if not isinstance(document.content, str | None):
        kind = type(document.content).__name__
        raise InputError(argument, f"must have a string as content, not {kind}")
    if not isinstance(document.meta, Mapping):
        raise InputError(argument, f"must have a dict as meta, not {type(document.meta).__name__}")


def _prior_score(document: Document) -> float:
    return float("-inf") if document.score is None else document.score


def answer(candidates: list[Document], ranking: Ranking) -> RankerOutput:
    """Build the output of a run: copies of the ranked candidates, and the ranking's metadata."""
    documents = []
    for hit in ranking:
        document = candidates[hit.index]
        # replace() alone would share the meta dictionary. The copy is shallow, since values such as
        # locks and connections cannot be copied.
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
    """Set tags of the component's span, if there is one, without texts of query or documents."""
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

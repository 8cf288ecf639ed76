"""Conversion of LangChain's documents before and after ranking."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import TypedDict

from langchain_core.documents import Document

from jina_rerank import InputError, RankedDocument, Ranking
from jina_rerank.plugin import check_candidates


class Answer(TypedDict):
    """Output of a `JinaRerank` run, as a trace shows it."""

    documents: list[Document]
    model: str
    usage: dict[str, int | None]
    degraded: str | None
    unscored: list[int]


def check_documents(documents: Sequence[Document]) -> list[Document]:
    """Check the documents and the types of their fields; return a new list.

    Raises:
        InputError: They cannot be iterated in order, or one cannot be ranked; the message names it.
    """
    remedy = "a text becomes one by Document(page_content=text)"
    found = check_candidates(documents, Document, "documents", remedy)
    for i, document in enumerate(found):
        # Pydantic validates a document's fields at its creation, not at later assignments.
        if not isinstance(document.metadata, Mapping):
            kind = type(document.metadata).__name__
            raise InputError(f"documents[{i}]", f"must have a dict as metadata, not {kind}")
        if not isinstance(document.page_content, str):
            kind = type(document.page_content).__name__
            raise InputError(f"documents[{i}]", f"must have a string as page_content, not {kind}")
    return found


def scored_texts(documents: Sequence[Document], fields: Sequence[str]) -> list[str]:
    """Build the texts to score: values of metadata fields, then the content, each on a line."""
    return [_scored_text(document, fields) for document in documents]


def _scored_text(document: Document, fields: Sequence[str]) -> str:
    values = (document.metadata.get(name) for name in fields)
    present = [str(value) for value in values if value is not None]
    return "\n".join([*present, document.page_content])


def answer(documents: Sequence[Document], ranking: Ranking) -> Answer:
    """Build the output of a run: copies of the ranked documents, and the ranking's metadata."""
    unscored = frozenset(ranking.unscored)
    return {
        "documents": [
            _scored(documents[hit.index], hit, ranking.degraded, unscored) for hit in ranking
        ],
        "model": ranking.model,
        "usage": asdict(ranking.usage),
        "degraded": ranking.degraded,
        "unscored": list(ranking.unscored),
    }


def _scored(
    document: Document, hit: RankedDocument, degraded: str | None, unscored: Collection[int]
) -> Document:
    verdict = {
        "relevance_score": hit.score,
        "relevance_truncated_tokens": hit.truncated_tokens or None,
        "relevance_degraded": degraded,
        "relevance_unscored": hit.index in unscored or None,
    }
    # An earlier reranker's values must not be mistaken for those of this one.
    metadata = {key: value for key, value in document.metadata.items() if key not in verdict}
    metadata |= {key: value for key, value in verdict.items() if value is not None}
    return document.model_copy(update={"metadata": metadata})

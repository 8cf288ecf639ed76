"""Published figures of other systems, each with its source."""

from __future__ import annotations

from dataclasses import dataclass

from ..rag import HIT_RATE, MRR

CARD = "https://huggingface.co/jinaai/jina-reranker-v1-tiny-en, section Evaluation"
"""The model card of tiny; that of turbo has the same table."""
FIRST_POST = "https://jina.ai/news/maximizing-search-relevancy-and-rag-accuracy-with-jina-reranker"
"""The announcement of jina-reranker-v1-base-en."""
TURBO_PAGE = "https://jina.ai/models/jina-reranker-v1-turbo-en"

NDCG = "nDCG@10"
RETRIEVER = "first-stage"
"""Name of the published figures of retrieval without a reranker."""


@dataclass(frozen=True, slots=True)
class Published:
    """One published figure.

    Attributes:
        suite: Name of the suite.
        measure: Name of the measure.
        model: Name of the model, without the organization.
        percent: The figure, times 100.
        source: The page where it was published.
    """

    suite: str
    measure: str
    model: str
    percent: float
    source: str


_CARD_TABLE = {
    "jina-reranker-v1-base-en": (52.45, 87.31, 85.53),
    "jina-reranker-v1-turbo-en": (49.60, 69.21, 85.13),
    "jina-reranker-v1-tiny-en": (48.54, 70.29, 85.00),
    "mxbai-rerank-base-v1": (49.19, None, 82.50),
    "mxbai-rerank-xsmall-v1": (48.80, None, 83.69),
    "ms-marco-MiniLM-L-6-v2": (48.64, None, 82.63),
    "ms-marco-MiniLM-L-4-v2": (47.81, None, 83.82),
    "bge-reranker-base": (47.89, None, 83.03),
}
"""nDCG@10 over 17 BEIR sets, nDCG@10 over 5 LoCo sets, and LlamaIndex's hit rate."""

_CARD_COLUMNS = (("beir", NDCG), ("loco", NDCG), ("llamaindex-rag", HIT_RATE))

PUBLISHED = (
    *(
        Published(suite, measure, model, percent, CARD)
        for model, figures in _CARD_TABLE.items()
        for (suite, measure), percent in zip(_CARD_COLUMNS, figures, strict=True)
        if percent is not None
    ),
    Published("llamaindex-rag", HIT_RATE, RETRIEVER, 79.08, FIRST_POST),
    Published("llamaindex-rag", MRR, RETRIEVER, 53.07, FIRST_POST),
    Published("llamaindex-rag", MRR, "jina-reranker-v1-base-en", 70.91, FIRST_POST),
    # The same page gives a hit rate of 83.51, which is not the card's 85.13.
    Published("llamaindex-rag", MRR, "jina-reranker-v1-turbo-en", 64.98, TURBO_PAGE),
)


def published_models(suite: str) -> list[str]:
    """Return the models with published figures of the suite, in the card's order."""
    return list(dict.fromkeys(figure.model for figure in PUBLISHED if figure.suite == suite))


def published_percent(suite: str, measure: str, system: str) -> float | None:
    """Return the published figure of a system, or None.

    Args:
        suite: Name of the suite.
        measure: Name of the measure.
        system: Name of the system on the command line: `cross-encoder:BAAI/bge-reranker-base`, a
            hub id, or a folder with the model's name.
    """
    model = model_of(system)
    for figure in PUBLISHED:
        if (figure.suite, figure.measure, figure.model) == (suite, measure, model):
            return figure.percent
    return None


def model_of(system: str) -> str:
    """Return the model's name in a system's name: without kind, organization, folders, address."""
    _, _, name = system.partition("@")[0].rpartition(":")
    return name.rstrip("/").rpartition("/")[2]

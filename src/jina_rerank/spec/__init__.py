"""From a string that names a model to the scorer that runs it."""

from .names import (
    BM25,
    EMBEDDING,
    NEED_COLLECTION,
    PREFIXES,
    Spec,
    checkpoint_of,
    name_of_path,
    parse,
    split_served,
)
from .scorers import build_scorer, collection_scorer_of, has_option, scorer_of

__all__ = [
    "BM25",
    "EMBEDDING",
    "NEED_COLLECTION",
    "PREFIXES",
    "Spec",
    "build_scorer",
    "checkpoint_of",
    "collection_scorer_of",
    "has_option",
    "name_of_path",
    "parse",
    "scorer_of",
    "split_served",
]

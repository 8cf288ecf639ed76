"""The prompts of embedding models: texts before each query, and before each passage."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

PASSAGE_NAMES = ("document", "passage", "corpus")
"""Names of a passage's prompt in config_sentence_transformers.json, in the order in which
sentence-transformers looks for them."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts of a model.

    Attributes:
        query: Text before each query.
        passage: Text before each passage.
    """

    query: str = ""
    passage: str = ""


KNOWN = (
    (re.compile(r"(multilingual-)?e5-(small|base|large)(-v2)?"), Prompts("query: ", "passage: ")),
    (
        re.compile(r"bge-(small|base|large)-en(-v1\.5)?"),
        Prompts("Represent this sentence for searching relevant passages: "),
    ),
    (
        re.compile(r"bge-(small|base|large)-zh(-v1\.5)?"),
        Prompts("为这个句子生成表示以用于检索相关文章："),  # noqa: RUF001 - the model's own
    ),
)
"""Prompts that are documented only in model cards, by a pattern for the last part of a name."""


def prompts_of(
    name: str, own: Mapping[str, str | None], query: str | None = None, passage: str | None = None
) -> Prompts:
    """Choose the prompts of a model.

    Args:
        name: The model's name: a hub id or a folder.
        own: The prompts of its config_sentence_transformers.json, by name.
        query: Replaces the model's own prompt for queries, empty for none; None keeps its own.
        passage: The same for passages.
    """
    found = Prompts(
        own.get("query") or "",
        next(filter(None, map(own.get, PASSAGE_NAMES)), ""),
    )
    if not (found.query or found.passage):
        last = re.split(r"[/\\]", name.rstrip("/\\"))[-1].lower()
        matching = (prompts for pattern, prompts in KNOWN if pattern.fullmatch(last))
        found = next(matching, found)
    return Prompts(
        found.query if query is None else query, found.passage if passage is None else passage
    )

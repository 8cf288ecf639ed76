"""The model card of a distilled model: teachers, data, training and evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from jinja2 import Environment

from .._output import write_text
from ..evaluation.reports.markdown import markdown_table
from ..spec import BM25
from .data.pairs import Source
from .recipe import Recipe

CARD = """\
---
{{ header }}---
# {{ recipe.card.name }}

A JinaBERT cross-encoder, distilled with jina-rerank. `Reranker("this folder")` loads it.

## Teachers
{% for one in teachers %}- {{ one }}
{% else %}None: it learned from the labels alone.
{% endfor %}
## Data
{{ recipe.card.data or "See the sources." }}

{{ sources }}

## Training
{{ step }} of {{ recipe.training.steps }} steps of about \
{{ recipe.ranking.tokens_per_step }} tokens, \
learning rate {{ recipe.training.learning_rate }}, \
in {{ recipe.training.dtype | string | replace("torch.", "") }}.
{% if figures %}
## Figures
nDCG@10 over BM25's best {{ recipe.evaluation.depth }}, \
at most {{ recipe.evaluation.queries }} queries of each collection.

{{ figures }}
{% endif %}"""


def write_card(
    folder: Path,
    recipe: Recipe,
    sources: Sequence[Source],
    step: int,
    figures: Mapping[str, Mapping[str, float]],
) -> None:
    """Write README.md with the header that the Hugging Face hub reads.

    Args:
        folder: Folder of the checkpoint.
        recipe: The recipe of the distillation.
        sources: The training data.
        step: Number of steps taken.
        figures: nDCG@10 by collection and system; may be empty.
    """
    header = {
        "library_name": "jina-rerank",
        "license": recipe.card.license,
        "pipeline_tag": "text-ranking",
        "tags": ["reranker", "cross-encoder", "jinabert"],
    }
    teachers = [
        f"{one.name}: {'BM25' if one.model == BM25 else one.model}, weight {one.weight:g}"
        for one in recipe.teacher
    ]
    markdown = Environment(autoescape=False, keep_trailing_newline=True)  # noqa: S701 - no HTML
    template = markdown.from_string(CARD)
    text = template.render(
        header=yaml.safe_dump(header),
        recipe=recipe,
        teachers=teachers,
        sources=_sources_table(sources),
        step=step,
        figures=_figures_table(figures),
    )
    write_text(folder / "README.md", text)


def _sources_table(sources: Sequence[Source]) -> str:
    rows = [[one.name, str(len(one.queries)), str(len(one.passages))] for one in sources]
    return markdown_table([["source", "queries", "passages"], *rows])


def _figures_table(figures: Mapping[str, Mapping[str, float]]) -> str:
    """Render the figures as a table; empty if there are none."""
    if not figures:
        return ""
    systems = list(next(iter(figures.values())))
    rows = [[name, *(f"{row[one]:.4f}" for one in systems)] for name, row in figures.items()]
    return markdown_table([["collection", *systems], *rows])

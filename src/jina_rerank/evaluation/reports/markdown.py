"""The report in Markdown, and a table over several collections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from ...errors import InputError
from .summary import Summary
from .words import (
    ABSENT,
    about,
    certainty_table,
    label,
    legend,
    measures_table,
    suggestions,
    thresholds_legend,
    thresholds_table,
)


def summary_markdown(summary: Summary) -> str:
    """Write two tables, the measures and their confidence and cost, and the legend.

    If thresholds were requested, there is one more table for each system that has them.
    """
    measures, certainty = (
        markdown_table(make(summary)) for make in (measures_table, certainty_table)
    )
    parts = [_cell(about(summary)), measures, certainty, legend(summary)]
    for row, suggestion in zip(summary.rows[1:], suggestions(summary), strict=False):
        parts.append(_cell(suggestion))
        if row.thresholds is not None:
            parts.append(markdown_table(thresholds_table(row)))
    if summary.precision is not None:
        parts.append(thresholds_legend())
    return "\n\n".join(parts) + "\n"


def collections_markdown(
    summaries: Sequence[Summary],
    *,
    measure: str = "nDCG@10",
    labels: Mapping[str, str] | None = None,
) -> str:
    """Write a table of one measure: a row for each system, a column for each collection.

    The best value of a column is bold.

    Args:
        summaries: Summaries, one for each collection.
        measure: Name of the measure.
        labels: Labels of systems by name; only these systems are shown, in this order. None shows
            all by their names.

    Returns:
        A table whose last column is the mean over collections, for systems that have them all.

    Raises:
        InputError: There are no summaries, or one lacks the measure.
    """
    if not summaries:
        raise InputError("summaries", "is empty")
    columns = []
    for summary in summaries:
        if measure not in summary.measures:
            raise InputError("measure", f"{summary.collection} has {summary.measures}")
        columns.append({row.name: row.figures[measure].mean for row in summary.rows})
    names = dict.fromkeys(name for column in columns for name in column)
    labels = labels or {name: name for name in names}
    whole = [name for name in labels if all(name in column for column in columns)]
    columns.append({name: fmean(column[name] for column in columns) for name in whole})
    rows = [
        [text, *(_best(column, name, labels) for column in columns)]
        for name, text in labels.items()
        if name in names
    ]
    heads = [label(measure), *(summary.collection for summary in summaries), "average"]
    return markdown_table([heads, *rows]) + "\n"


def _best(column: Mapping[str, float], name: str, shown: Mapping[str, str]) -> str:
    if name not in column:
        return ABSENT
    best = max(value for other, value in column.items() if other in shown)
    # Compared as written, so that values that look the same are both bold.
    written = f"{column[name]:.3f}"
    return f"**{written}**" if written == f"{best:.3f}" else written


def markdown_table(lines: Sequence[Sequence[str]]) -> str:
    """Write a table whose first line is the heading; its cells may hold any text."""
    heads, *rows = (" | ".join(map(_cell, line)) for line in lines)
    rule = " | ".join(["---", *["---:"] * (len(lines[0]) - 1)])
    return "\n".join(f"| {line} |" for line in (heads, rule, *rows))


def _cell(text: str) -> str:
    """Escape a text so that it cannot end a cell or become mark-up."""
    text = " ".join(text.split()).replace("\\", "\\\\")
    for character in "|<`[":
        text = text.replace(character, f"\\{character}")
    return text

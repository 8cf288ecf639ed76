"""The report for a terminal that is at least 80 columns wide."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..._terminal import plain
from .summary import Summary
from .words import (
    about,
    certainty_table,
    legend,
    measures_table,
    suggestions,
    thresholds_legend,
    thresholds_table,
)


def summary_table(summary: Summary) -> RenderableType:
    """Build two tables: the measures; and their confidence intervals, significance and cost.

    If thresholds were requested, there is one more table for each system that has them.
    """
    measures, certainty = (
        terminal_table(make(summary)) for make in (measures_table, certainty_table)
    )
    measures.title = plain(about(summary))
    certainty.caption = legend(summary)
    parts: list[RenderableType] = [measures, certainty]
    for row, suggestion in zip(summary.rows[1:], suggestions(summary), strict=False):
        parts += ["", plain(suggestion)]
        if row.thresholds is not None:
            parts.append(terminal_table(thresholds_table(row)))
    if summary.precision is not None:
        parts += [Text(thresholds_legend(), style="table.caption")]
    return Group(*parts)


def terminal_table(lines: Sequence[Sequence[str]]) -> Table:
    """Build a table whose first line is the heading; its cells may hold any text."""
    table = Table(
        box=box.SIMPLE_HEAD, title_justify="left", caption_justify="left", padding=(0, 1, 0, 0)
    )
    heads, *rows = lines
    table.add_column(heads[0], style="cyan", overflow="fold")
    for head in heads[1:]:
        # A head that is wider than its figures takes two lines.
        mark, broken = (", ", "\n") if ", " in head else ("@", "\n@")
        broken = head if len(head) <= 7 else head.replace(mark, broken)
        table.add_column(broken, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*map(plain, row))
    return table

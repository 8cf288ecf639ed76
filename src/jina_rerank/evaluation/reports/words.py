"""Texts and formatted figures of reports, common to terminal, Markdown and HTML."""

from __future__ import annotations

from ..measures import PairedTest
from ..results import Cost
from ..thresholds import ThresholdPoint
from .summary import Figure, Row, Summary, spread

ABSENT = "–"  # noqa: RUF001 - a dash for what there is none of

_SHOWN = 10
"""Number of thresholds of a system in a table."""

_LABELS = {"RR": "MRR", "AP": "MAP", "Success": "hit rate", "R": "recall"}
"""Usual names of the means of ir-measures' measures."""


def label(measure: str) -> str:
    """Return the usual name of a measure's mean: that of `RR@10` is MRR@10."""
    name, at, depth = measure.partition("@")
    return f"{_LABELS.get(name, name)}{at}{depth}"


def interval(figure: Figure) -> str:
    """`0.650–0.760`."""  # noqa: RUF002 - a dash between two numbers
    return f"{figure.low:.3f}–{figure.high:.3f}"  # noqa: RUF001


def p_value(test: PairedTest | None) -> str:
    """Format a p-value with three decimals, or as below 0.001."""
    if test is None:
        return ABSENT
    return "<0.001" if test.p_value < 0.001 else f"{test.p_value:.3f}"


def won_and_lost(test: PairedTest | None) -> str:
    """`93/34`."""
    return ABSENT if test is None else f"{test.wins}/{test.losses}"


def measures_table(summary: Summary) -> list[list[str]]:
    """Build the table of each system's means, with a heading."""
    heads = ["system", *map(label, summary.measures)]
    return [
        heads,
        *(
            [row.name, *(f"{row.figures[name].mean:.3f}" for name in summary.measures)]
            for row in summary.rows
        ),
    ]


def certainty_table(summary: Summary) -> list[list[str]]:
    """Build the table of the first measure's confidence and significance, and of the cost."""
    first = summary.measures[0]
    heads = [f"{label(first)}, 95%", "won/lost", "p", "seconds", "pairs/s", "tokens", "cut"]
    rows = [
        [
            row.name,
            interval(row.figures[first]),
            won_and_lost(row.against_first_stage),
            p_value(row.against_first_stage),
            *_cost(row.cost),
        ]
        for row in summary.rows
    ]
    return [["system", *heads], *rows]


def _cost(cost: Cost | None) -> list[str]:
    if cost is None:
        return [ABSENT] * 4
    rate, share = cost.pairs_per_second, cost.truncated_share
    return [
        f"{cost.seconds:,.1f}",
        ABSENT if rate is None else f"{rate:,.0f}",
        ABSENT if cost.tokens is None else f"{cost.tokens:,}",
        ABSENT if share is None else f"{share:.1%}",
    ]


def number(threshold: float) -> str:
    """Format a threshold without rounding, so that it can be copied."""
    return f"{threshold:.0f}" if threshold.is_integer() else repr(threshold)


def suggestions(summary: Summary) -> list[str]:
    """Write a sentence about each system's suggested threshold."""
    if summary.precision is None:
        return []
    return [_suggestion(row, summary.precision) for row in summary.rows[1:]]


def _suggestion(row: Row, wanted: float) -> str:
    choice = row.thresholds
    if choice is None:
        return f"{row.name} has no threshold: its scores only order the documents of one query."
    point = choice.suggested
    if point is None:
        best = choice.most_precise
        return (
            f"{row.name}: no threshold reaches a precision of {wanted:g}; the highest is "
            f"{best.precision:.3f}, at {number(best.threshold)}."
        )
    low, high = choice.interval or (point.precision, point.precision)
    return (
        f"{row.name}: threshold {number(point.threshold)} for a precision of {wanted:g}. Of what "
        f"it keeps, {point.precision:.1%} is relevant (95%: {low:.1%} to {high:.1%}); it keeps "
        f"{point.recall:.1%} of all relevant documents and leaves {point.without_documents:.1%} of "
        "the queries without a document."
    )


def thresholds_table(row: Row) -> list[list[str]]:
    """Build the table of some of a system's thresholds, with a heading; includes the suggested."""
    choice = row.thresholds
    assert choice is not None
    chosen = {*spread(choice.points, _SHOWN), choice.most_precise}
    if choice.suggested is not None:
        chosen.add(choice.suggested)
    points = sorted(chosen, key=lambda point: point.threshold)
    heads = ["threshold", "precision", "recall", "no document", "documents/query"]
    return [heads, *(_figures(point) for point in points)]


def _figures(point: ThresholdPoint) -> list[str]:
    return [
        number(point.threshold),
        f"{point.precision:.3f}",
        f"{point.recall:.3f}",
        f"{point.without_documents:.1%}",
        f"{point.documents:.1f}",
    ]


def thresholds_legend() -> str:
    """Explain the columns of `thresholds_table`."""
    return (
        "A threshold keeps scores of at least that much. precision: the share of kept documents "
        "that are relevant, over all queries. recall: the share of relevant documents that are "
        "kept; those that the first stage did not find are not. no document: the share of queries "
        "that are left without a document."
    )


def about(summary: Summary) -> str:
    """Describe the collection and the candidates in one sentence."""
    text = (
        f"{summary.collection}: {summary.queries:,} queries, {summary.documents:,} documents, "
        f"{summary.judgements:,} judgements; each system orders the first stage's best "
        f"{summary.depth:,}"
    )
    if summary.ignore_identical_ids:
        text += ", without a document that has the query's own id"
    if summary.missing_documents:
        text += f"; judged documents that are missing: {summary.missing_documents:,}"
    if summary.empty_queries:
        text += f"; queries for which the first stage has no documents: {summary.empty_queries:,}"
    return text


def conditions(summary: Summary) -> str:
    """Describe the settings, the processor and the version of an evaluation."""
    settings = ", ".join(f"{name} {value}" for name, value in summary.settings.items())
    parts = [
        f"Settings: {settings}" if settings else "",
        f"Processor: {summary.processor}" if summary.processor else "",
        f"jina-rerank {summary.jina_rerank}, {summary.date}",
    ]
    return ". ".join(filter(None, parts)) + "."


def legend(summary: Summary) -> str:
    """Explain the columns of `certainty_table`."""
    return (
        "95%: bootstrap confidence interval over queries. won/lost: queries with a higher or a "
        f"lower {summary.measures[0]} than the first stage. p: paired randomization test against "
        "the first stage, two-sided. cut: share of pairs whose document was truncated."
    )

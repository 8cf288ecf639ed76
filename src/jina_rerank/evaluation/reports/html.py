"""The report as one HTML file that loads nothing from the network."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element

from ..first_stage import best_first
from ..results import Evaluation, SystemResult
from .charts import difference_chart, threshold_chart, throughput_chart
from .elements import h, page
from .summary import Row, Summary
from .words import (
    about,
    certainty_table,
    conditions,
    label,
    legend,
    measures_table,
    p_value,
    suggestions,
    thresholds_legend,
    thresholds_table,
)

_STYLE = Path(__file__).with_name("style.css")
_EXAMPLES = 5
_SHOWN = 3
_EXCERPT = 280
# A second protection behind the escaping: even an injected script would not run.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def evaluation_html(evaluation: Evaluation, summary: Summary | None = None) -> str:
    """Write the report: tables, charts, and the queries with the largest differences.

    Args:
        evaluation: The evaluation.
        summary: Summary of the evaluation, if it has been computed already.
    """
    summary = summary or Summary.of(evaluation)
    title = f"{summary.collection}: rerankers compared"
    head = h(
        "head",
        h("meta", charset="utf-8"),
        h("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        h("meta", name="viewport", content="width=device-width, initial-scale=1"),
        h("meta", name="color-scheme", content="light dark"),
        h("title", title),
        h("style", _STYLE.read_text(encoding="utf-8")),
    )
    body = h(
        "main",
        h("h1", summary.collection),
        h("p", f"{about(summary)}."),
        _results(summary),
        _throughput(summary),
        _thresholds(summary),
        *(_comparison(evaluation, *pair) for pair in _pairs(evaluation)),
        h("footer", conditions(summary)),
    )
    return page(h("html", head, h("body", body), lang="en"))


def _results(summary: Summary) -> Element:
    return h(
        "section",
        h("h2", "Results"),
        _wide(_table(measures_table(summary))),
        _wide(_table(certainty_table(summary))),
        h("p", legend(summary), class_="note"),
    )


def _table(lines: list[list[str]]) -> Element:
    heads, *rows = lines
    body = [
        h("tr", h("th", row[0], scope="row"), *(h("td", cell) for cell in row[1:])) for row in rows
    ]
    head = h("tr", *(h("th", text, scope="col") for text in heads))
    return h("table", h("thead", head), h("tbody", *body))


def _throughput(summary: Summary) -> Element | None:
    chart = throughput_chart(summary)
    if chart is None:
        return None
    note = (
        f"{label(summary.measures[0])} with its 95% confidence interval; the dashed line is the "
        "first stage. Pairs a second are of the machine this ran on, loading left out."
    )
    return h(
        "section",
        h("h2", "Quality against throughput"),
        _wide(chart),
        h("p", note, class_="note"),
    )


def _thresholds(summary: Summary) -> Element | None:
    if summary.precision is None:
        return None
    parts: list[Element] = []
    for row, suggestion in zip(summary.rows[1:], suggestions(summary), strict=True):
        parts += [h("p", suggestion), *_threshold_figures(row)]
    return h(
        "section",
        h("h2", "Thresholds"),
        *parts,
        h("p", thresholds_legend(), class_="note"),
    )


def _threshold_figures(row: Row) -> list[Element]:
    if row.thresholds is None:
        return []
    chart = threshold_chart(row.name, row.thresholds)
    table = _wide(_table(thresholds_table(row)))
    return [table] if chart is None else [_wide(chart), table]


def _pairs(evaluation: Evaluation) -> list[tuple[SystemResult, SystemResult]]:
    """Pair each system with the first stage, and each other system with the best one."""
    first, *others = evaluation.results
    pairs = [(first, other) for other in others]
    if len(others) > 1:
        best = max(others, key=lambda result: result.measured.means[evaluation.measures[0]])
        pairs += [(other, best) for other in others if other is not best]
    return pairs


def _comparison(evaluation: Evaluation, first: SystemResult, second: SystemResult) -> Element:
    measure = evaluation.measures[0]
    test = evaluation.compare(first.name, second.name)
    before, after = first.measured.per_query[measure], second.measured.per_query[measure]
    change = {query: after[query] - before[query] for query in before}
    ordered = sorted(change, key=change.__getitem__)
    gains = [query for query in reversed(ordered) if change[query] > 0][:_EXAMPLES]
    losses = [query for query in ordered if change[query] < 0][:_EXAMPLES]
    title = f"{second.name} beside {first.name}"
    facts = (
        f"{label(measure)} is higher for {test.wins:,} queries, lower for {test.losses:,} and the "
        f"same for {test.ties:,}; on average {test.difference:+.3f}, p\u00a0{p_value(test)}."
    )
    chart = f"{title}: change of each query"
    return h(
        "section",
        h("h2", title),
        h("p", facts),
        _wide(difference_chart(list(change.values()), chart)) if gains or losses else None,
        *_examples(evaluation, f"Largest gains of {second.name}", gains, first, second),
        *_examples(evaluation, f"Largest losses of {second.name}", losses, first, second),
    )


def _examples(
    evaluation: Evaluation,
    heading: str,
    queries: list[str],
    first: SystemResult,
    second: SystemResult,
) -> list[Element]:
    if not queries:
        return []
    measure = evaluation.measures[0]
    shown = []
    for query in queries:
        values = [result.measured.per_query[measure][query] for result in (first, second)]
        summary = h(
            "summary",
            h("span", evaluation.collection.queries[query], class_="query"),
            h("span", f"{values[0]:.2f} \u2192 {values[1]:.2f}", class_="change"),
        )
        columns = [_top(evaluation, query, result) for result in (first, second)]
        shown.append(h("details", summary, h("div", *columns, class_="beside")))
    return [h("h3", heading), *shown]


def _top(evaluation: Evaluation, query: str, result: SystemResult) -> Element:
    collection = evaluation.collection
    items = []
    for document in best_first(result.run.get(query, {}))[:_SHOWN]:
        grade = collection.qrels[query].get(document)
        badge = "not judged" if grade is None else f"grade {grade}"
        text = " ".join(collection.documents[document].split())
        items.append(
            h(
                "li",
                h("span", badge, class_="grade good" if grade and grade > 0 else "grade"),
                h("code", document),
                h("p", text if len(text) <= _EXCERPT else f"{text[:_EXCERPT]}\u2026"),
            )
        )
    return h("div", h("h4", f"{result.name} put first"), h("ol", *items))


def _wide(content: Element) -> Element:
    """Wrap an element that may be wider than a phone's screen, to be scrolled sideways."""
    return h("div", content, class_="wide")

"""Reports of a suite's figures beside the published ones, in Markdown and JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..._output import write_text, writing
from ..rag import HIT_RATE, MRR
from ..reports.markdown import markdown_table
from ..reports.words import ABSENT
from .published import PUBLISHED, model_of, published_models, published_percent
from .run import SuiteResult

_LABELS = {HIT_RATE: "hit rate", MRR: "MRR"}


def suite_tables(result: SuiteResult) -> tuple[list[list[str]], list[list[str]]]:
    """Build the table of means beside the published figures, and the table of each set's figures.

    The first row of each is the heading. Models with published figures only have a row too.
    """
    suite = result.suite
    count = f"{len(result.figures)} of {len(suite.sets)} sets" if suite.sets else "ours"
    heads = ["system"]
    for measure in suite.measures:
        heads += [f"{_label(measure)}, {count}", "published"]
    ours = {model_of(system) for system in result.systems}
    others = [model for model in published_models(suite.name) if model not in ours]
    means = [heads]
    for system in [*result.systems, *others]:
        row = [system]
        for measure in suite.measures:
            mean = result.mean(measure, system) if system in result.systems else None
            row += [
                _percent(None if mean is None else 100 * mean),
                _percent(published_percent(suite.name, measure, system)),
            ]
        means.append(row)
    sets = [["set", *(f"{s}, {_label(m)}" for m in suite.measures for s in result.systems)]]
    for name, figures in result.figures.items():
        row = [_percent(100 * figures[m][s]) for m in suite.measures for s in result.systems]
        sets.append([name, *row])
    return means, sets


def suite_markdown(result: SuiteResult) -> str:
    """Write both tables in Markdown, with the setting, the missing sets and the sources."""
    means, sets = suite_tables(result)
    parts = [
        f"{result.suite.title}: {result.setting}. Figures times 100.",
        markdown_table(means),
        result.suite.note,
        markdown_table(sets),
    ]
    if result.missing:
        reasons = [f"- {name}: {_one_line(reason)}" for name, reason in result.missing.items()]
        parts.append("\n".join(["Not measured:", "", *reasons]))
    sources = dict.fromkeys(one.source for one in PUBLISHED if one.suite == result.suite.name)
    parts.append("\n".join(["Published figures are from:", "", *(f"- {s}" for s in sources)]))
    return "\n\n".join(parts) + "\n"


def suite_dict(result: SuiteResult) -> dict[str, Any]:
    """Convert a result to plain dicts, lists, strings and numbers; figures between 0 and 1."""
    suite = result.suite
    return {
        "suite": suite.name,
        "setting": result.setting,
        "measures": list(suite.measures),
        "sets": result.figures,
        "means": {
            measure: {system: result.mean(measure, system) for system in result.systems}
            for measure in suite.measures
        },
        "missing": result.missing,
        "published": [
            {
                "measure": one.measure,
                "model": one.model,
                "percent": one.percent,
                "source": one.source,
            }
            for one in PUBLISHED
            if one.suite == suite.name
        ],
    }


def write_suite(result: SuiteResult, folder: Path) -> None:
    """Write NAME.json and NAME.md into a folder.

    Args:
        result: The result.
        folder: The folder; it is created if it does not exist.

    Raises:
        InputError: The folder cannot be written.
    """
    written = json.dumps(suite_dict(result), indent=2, ensure_ascii=False)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / f"{result.suite.name}.json", written + "\n")
        markdown = suite_markdown(result)
        write_text(folder / f"{result.suite.name}.md", markdown)


def _label(measure: str) -> str:
    return _LABELS.get(measure, measure)


def _percent(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.2f}"


def _one_line(text: str) -> str:
    return " ".join(text.split())

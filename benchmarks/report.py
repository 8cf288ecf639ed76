"""Tables and plots from `results/`, written between the marks in README.md and docs/."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from jina_rerank.evaluation.reports import collections_markdown, read_summary
from jina_rerank.evaluation.suites.published import NDCG, published_percent

from . import rivals
from .measuring import RESULTS

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"

QUALITY = RESULTS / "quality"
"""Figures of `jina-rerank eval --json`, a file for each collection."""

QUALITY_ROWS = {
    "first-stage": "BM25",
    "bi-encoder:all-MiniLM-L6-v2": "all-MiniLM-L6-v2, cosine",
    "mini": "**jina-rerank-mini**",
    "mix:first-stage+bi-encoder:all-MiniLM-L6-v2": "half BM25, half all-MiniLM-L6-v2",
    "mix:first-stage+mini": "half BM25, half jina-rerank-mini",
}

Saved: TypeAlias = dict[str, Any]
"""One file of `results/`, as `Result.finish` wrote it."""

PAGES = ("models.md", "performance.md")

README_ROWS = {
    "jina-rerank, bfloat16, from text": "**jina-rerank**, its default on such a processor",
    "jina-rerank, int8, from text": "jina-rerank, int8",
    "jina-rerank, float32, from text": "jina-rerank, float32",
    "sentence-transformers, bfloat16, from text": "sentence-transformers, bfloat16",
    "sentence-transformers, float32, from text": "sentence-transformers, its default",
    rivals.OPENVINO_INT8_BF16: "OpenVINO, static int8 and bfloat16, sorted by length",
    rivals.OPENVINO_INT8: "OpenVINO, static int8 and float32, sorted by length",
    rivals.OPENVINO_BF16: "OpenVINO, bfloat16, sorted by length",
    rivals.ONNX_STATIC: "ONNX Runtime, static int8, sorted by length",
    rivals.ONNX_DYNAMIC: "ONNX Runtime, dynamic int8, sorted by length",
    rivals.ONNX: "ONNX Runtime, float32, sorted by length",
    "the original's way: padded, float32, input order": "the model's own code: padded, float32",
}


def write() -> None:
    """All tables and plots."""
    saved = {path.stem: json.loads(path.read_text("utf-8")) for path in RESULTS.glob("*.json")}
    for document in (ROOT / "README.md", *((ROOT / "docs" / name) for name in PAGES)):
        fill(document, all_blocks(saved))
    PICTURES.mkdir(exist_ok=True)
    mpl.rcParams |= {"svg.hashsalt": "jina-rerank", "font.size": 10, "svg.fonttype": "none"}
    plot_chunks(saved["chunks"])
    plot_quality(saved["announcement"])


def all_blocks(saved: dict[str, Saved]) -> dict[str, str]:
    """Every block by its name.

    Args:
        saved: All results by workload.
    """
    blocks = {name: table(result) for name, result in saved.items()}
    blocks |= {f"{name}-targets": targets(result) for name, result in saved.items()}
    blocks["readme"] = readme_table(saved["chunks"])
    for name in ("families", "without_bfloat16"):
        blocks[name] = shapes_table(saved[name])
    others = sorted((RESULTS / "precision").glob("*.json"))
    precision = [saved["precision"], *(json.loads(path.read_text("utf-8")) for path in others)]
    blocks["precision"] = precision_table(precision)
    blocks["precision-targets"] = targets(*precision)
    blocks["announcement"] = announcement_table(saved["announcement"])
    blocks["quality"] = quality_table()
    return blocks


def fill(document: Path, blocks: dict[str, str]) -> None:
    """Replace what stands between the marks of each block.

    Args:
        document: A Markdown file with lines `<!-- results: NAME -->` and `<!-- end -->`.
        blocks: Text by name.
    """
    text = document.read_text(encoding="utf-8")

    def replaced(match: re.Match[str]) -> str:
        return f"{match[1]}\n{blocks[match[2]]}\n<!-- end -->"

    marks = r"(<!-- results: ([\w-]+) -->)\n.*?<!-- end -->"
    document.write_text(re.sub(marks, replaced, text, flags=re.DOTALL), encoding="utf-8")


def table(result: Saved) -> str:
    """Medians, fastest last; then the figures."""
    medians: dict[str, float] = result["medians"]
    fastest = min(medians.values(), default=0.0)
    rows = []
    if medians:
        rows = [f"| {result['title']} | seconds | times the fastest |", "|---|---|---|"]
    for name, seconds in sorted(medians.items(), key=lambda item: -item[1]):
        rows.append(f"| {name} | {seconds:.3g} | {seconds / fastest:.1f} |")
    if figures := result["figures"]:
        rows += ["", f"| {result['title']} | |", "|---|---|"]
        rows += [f"| {name} | {_figure(value)} |" for name, value in figures.items()]
    return "\n".join([*rows, "", _measured_on(result)]).strip()


def targets(*results: Saved) -> str:
    """Targets, and the figures that were reached."""
    rows = ["| target | wanted | measured | |", "|---|---|---|---|"]
    for target in (target for result in results for target in result["targets"]):
        bound = "at least" if target["at_least"] else "at most"
        verdict = "met" if target["met"] else "**not met**"
        rows.append(
            f"| {target['claim']} | {bound} {target['wanted']:g} "
            f"| {target['measured']:.3g} | {verdict} |"
        )
    return "\n".join(rows)


def readme_table(result: Saved) -> str:
    """The rows that a user chooses between."""
    medians: dict[str, float] = result["medians"]
    machine = result["machine"]
    amx = " with AMX" if "amx_bf16" in machine["flags"] else ""
    rows = [
        f"| {result['title']}, {machine['cores']} cores ({machine['cpu']}{amx}) | seconds | |",
        "|---|---|---|",
    ]
    ours = medians[next(iter(README_ROWS))]
    for name, label in README_ROWS.items():
        if name not in medians:  # a rival that could not run there
            continue
        times = "" if medians[name] == ours else f"{medians[name] / ours:.1f} times as long"
        rows.append(f"| {label} | {medians[name]:.2f} | {times} |")
    return "\n".join(rows)


def quality_table() -> str:
    """nDCG@10 of the embedded model beside BM25 and the embedding model that it came from."""
    summaries = [read_summary(path) for path in sorted(QUALITY.glob("*.json"))]
    return collections_markdown(summaries, labels=QUALITY_ROWS).strip()


def shapes_table(result: Saved) -> str:
    """A row for each contender, slowest first, and a column for each shape."""
    shapes: dict[str, dict[str, float]] = {}
    for name, seconds in result["medians"].items():
        shape, _, contender = name.partition(": ")
        shapes.setdefault(shape, {})[contender] = seconds
    first = next(iter(shapes.values()))
    contenders = sorted(first, key=lambda name: -first[name])
    lines = [
        f"| {result['title']}, seconds | {' | '.join(shapes)} |",
        "|---" * (len(shapes) + 1) + "|",
    ]
    for name in contenders:
        cells = [f"{own[name]:.3g}" if name in own else "" for own in shapes.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", _measured_on(result)])


def precision_table(results: Sequence[Saved]) -> str:
    """A row for each collection and arithmetic."""
    columns = ("nDCG@10", "Kendall's tau", "largest difference of a logit")
    rows: dict[str, dict[str, str]] = {}
    for name, figure in (pair for result in results for pair in result["figures"].items()):
        label, _, column = name.partition(": ")
        rows.setdefault(label, {})[column] = f"{figure:.2g}" if figure < 1e-3 else f"{figure:.4f}"
    _, _, title = results[0]["title"].partition(": ")
    lines = [f"| {title} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for label, own in rows.items():
        lines.append(f"| {label} | {' | '.join(own.get(column, '') for column in columns)} |")
    measured = list(dict.fromkeys(map(_measured_on, results)))
    return "\n\n".join(["\n".join(lines), *measured])


def announcement_table(result: Saved) -> str:
    """Pairs a second beside the announcement's quality."""
    rows = ["| shape | runs in | pairs a second | nDCG@10, 17 BEIR sets |", "|---|---|---|---|"]
    for model in _models(result):
        quality = "" if model.quality is None else f"{model.quality:.2f}"
        rows.append(f"| {model.name} | {model.engine} | {model.rate:.0f} | {quality} |")
    return "\n".join([*rows, "", _measured_on(result)])


@dataclass(frozen=True, slots=True)
class _Model:
    """A model of the announcement: what ran it, pairs a second, and nDCG@10 as published."""

    name: str
    engine: str
    rate: float
    quality: float | None


def _models(result: Saved) -> list[_Model]:
    figures = result["figures"]
    return [
        _Model(
            name,
            figures[f"engine, {name}"],
            figures[f"pairs a second, {name}"],
            published_percent("beir", NDCG, name),
        )
        for name in result["medians"]
    ]


def _measured_on(result: Saved) -> str:
    machine = result["machine"]
    flags = ", ".join(machine["flags"])
    capped = ", ".join(f"{name}={value}" for name, value in machine["capped"].items())
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    return (
        f"{machine['date'][:10]}, {machine['cpu']}, {machine['cores']} cores ({flags}"
        f"{'; ' + capped if capped else ''}); {versions}; medians of interleaved rounds."
    )


def _figure(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:,.5g}"


def plot_chunks(result: Saved) -> None:
    """Bars of the seconds, on a logarithmic axis."""
    medians: dict[str, float] = result["medians"]
    names = sorted(medians, key=lambda name: -medians[name])
    figure, axes = plt.subplots(figsize=(8, 0.32 * len(names) + 1))
    colours = [
        "#009191"
        if name.startswith("jina-rerank")
        else "#8a8f98"
        if "matrix" in name
        else "#c9ced6"
        for name in names
    ]
    bars = axes.barh(names, [medians[name] for name in names], color=colours)
    axes.bar_label(bars, [f"{medians[name]:.2f}" for name in names], padding=3)
    axes.set_xscale("log")
    axes.set_xlabel(f"seconds, logarithmic: {result['title']}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.12)
    _save(figure, "chunks")


def plot_quality(result: Saved) -> None:
    """Quality against pairs a second."""
    figure, axes = plt.subplots(figsize=(8, 4))
    for model in _models(result):
        if model.quality is None:
            continue
        ours = model.engine.startswith("jina-rerank")
        jinas = model.name.startswith("jina")
        colour = "#009191" if ours else "#8a8f98"
        axes.plot(model.rate, model.quality, "o", color=colour, markersize=9)
        axes.annotate(
            model.name,
            (model.rate, model.quality),
            xytext=(8, 5) if jinas else (0, -18),
            textcoords="offset points",
            ha="left" if jinas else "center",
        )
    axes.set_xscale("log")
    axes.set_xlabel("pairs a second on this machine, logarithmic; grey: in sentence-transformers")
    axes.set_ylabel("nDCG@10, 17 BEIR sets")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.25, y=0.15)
    _save(figure, "quality")


def _save(figure: Figure, name: str) -> None:
    figure.savefig(PICTURES / f"{name}.svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)

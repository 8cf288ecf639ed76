"""Reports: what they say, and that no text of others becomes part of them."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import pytrec_eval
from judged import COLLECTION, DOCUMENTS, FOUND, QRELS, QUERIES
from rich.console import Console

from jina_rerank import InputError, Reranker
from jina_rerank.evaluation import (
    Collection,
    Evaluation,
    FirstStageSystem,
    MixedSystem,
    RerankerSystem,
    evaluate,
)
from jina_rerank.evaluation.measures import confidence_interval
from jina_rerank.evaluation.reports import (
    Summary,
    collections_markdown,
    evaluation_html,
    read_summary,
    summary_markdown,
    write_per_query,
    write_summary,
)
from jina_rerank.evaluation.reports.charts import difference_chart, throughput_chart
from jina_rerank.evaluation.reports.elements import h, page
from jina_rerank.evaluation.reports.table import summary_table
from jina_rerank.testing import FakeScorer


def make(collection: Collection = COLLECTION, name: str = "fake") -> Evaluation:
    system = RerankerSystem(Reranker(FakeScorer()), name=name)
    return evaluate(collection, FOUND, [system, MixedSystem("mix", FirstStageSystem(), system)])


class Page(HTMLParser):
    """A page as a browser sees it: elements, attributes, and the text outside of the style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)


DOCUMENT = {"html", "head", "meta", "title", "style", "body", "main", "section", "div", "footer"}
TEXT = {"h1", "h2", "h3", "h4", "p", "ol", "li", "code", "span", "details", "summary"}
TABLE = {"table", "thead", "tbody", "tr", "th", "td"}
PICTURE = {"svg", "g", "line", "text", "circle", "path"}


def test_figures_of_a_summary() -> None:
    evaluation = make()
    summary = Summary.of(evaluation)
    assert [row.name for row in summary.rows] == ["first-stage", "fake", "mix"]
    assert (summary.queries, summary.documents, summary.judgements) == (3, 6, 6)
    first, fake, _ = summary.rows
    values = list(evaluation.result("fake").measured.per_query["RR@10"].values())
    figure = fake.figures["RR@10"]
    assert (figure.mean, figure.low, figure.high) == (1, *confidence_interval(values))
    assert fake.against_first_stage == evaluation.compare("first-stage", "fake")
    assert first.against_first_stage is first.cost is None


def test_a_summary_in_a_file(tmp_path: Path) -> None:
    summary = Summary.of(make())
    write_summary(summary, tmp_path / "a.json")
    assert read_summary(tmp_path / "a.json") == summary
    saved = json.loads((tmp_path / "a.json").read_text())
    assert saved["rows"][1]["figures"]["RR@10"]["mean"] == 1
    for content in ("[]", "nonsense", "{}", json.dumps({**saved, "rows": [{}]})):
        (tmp_path / "b.json").write_text(content)
        with pytest.raises(InputError, match=r"b\.json: is not the summary of an evaluation"):
            read_summary(tmp_path / "b.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_summary(tmp_path / "c.json")


def test_values_of_each_query_in_a_file(tmp_path: Path) -> None:
    evaluation = make()
    write_per_query(evaluation, tmp_path / "a.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [(line["query_id"], line["system"]) for line in lines][:2] == [
        ("q1", "first-stage"),
        ("q1", "fake"),
    ]
    for result in evaluation.results:
        of = [line["AP"] for line in lines if line["system"] == result.name]
        assert sum(of) / len(QUERIES) == pytest.approx(result.measured.means["AP"])


def test_the_table_fits_a_terminal_of_80_columns() -> None:
    summary = Summary.of(make(name="jinaai/jina-reranker-v1-turbo-en"))
    console = Console(width=80, record=True, file=None, quiet=False, stderr=False)
    with console.capture() as captured:
        console.print(summary_table(summary))
    text = captured.get()
    assert "\u2026" not in text
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "places: 3 queries, 6 documents, 6 judgements" in text
    assert re.search(r"first-stage +0\.\d{3} +0\.667 +1\.000 +1\.000 +0\.\d{3} +1\.000", text)


def test_markdown() -> None:
    evaluation = make(name="a|b <i>")
    lines = summary_markdown(Summary.of(evaluation)).splitlines()
    assert lines[0].startswith("places: 3 queries")
    assert lines[2] == (
        "| system | nDCG@10 | MRR@10 | hit rate@10 | recall@10 | MAP | recall@100 |"
    )
    assert lines[5].startswith("| a\\|b \\<i> | ")
    assert " | 1.000 | 1.000 | " in lines[5]
    assert {line.replace("\\|", "").count("|") for line in lines[2:7]} == {8}
    assert {line.replace("\\|", "").count("|") for line in lines[8:13]} == {9}


def with_means(collection: str, **means: float) -> Summary:
    summary = Summary.of(make())
    row = summary.rows[1]
    rows = tuple(
        replace(row, name=name, figures={"nDCG@10": replace(row.figures["nDCG@10"], mean=mean)})
        for name, mean in means.items()
    )
    return replace(summary, collection=collection, measures=("nDCG@10",), rows=rows)


def test_a_table_of_several_collections() -> None:
    summaries = [
        with_means("one", bm25=0.25, mini=0.5, large=0.4996),
        with_means("two", bm25=0.75, mini=0.5),
    ]
    assert collections_markdown(summaries) == (
        "| nDCG@10 | one | two | average |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| bm25 | 0.250 | **0.750** | **0.500** |\n"
        "| mini | **0.500** | 0.500 | **0.500** |\n"
        "| large | **0.500** | – | – |\n"  # noqa: RUF001
    )
    chosen = collections_markdown(summaries, labels={"mini": "jina-rerank-mini", "none": "x"})
    assert chosen.splitlines()[2:] == [
        "| jina-rerank-mini | **0.500** | **0.500** | **0.500** |",
    ]
    with pytest.raises(InputError, match=r"one has \('nDCG@10',\)"):
        collections_markdown(summaries, measure="AP")
    with pytest.raises(InputError, match="is empty"):
        collections_markdown([])


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></title><script src='//evil.example/x.js'></script>",
    "<!-- ]]> &lt;b&gt; &#60;svg/onload=alert(1)>",
    "javascript:alert(1) \x00\x1b[31m \ud800 {{7*7}}",
)
# What would be refused before it is scored is left out.
CLEAN = [text.replace("\x00", "").replace("\ud800", "") for text in HOSTILE]


def hostile_evaluation() -> Evaluation:
    """Hostile names, queries, identifiers and documents, with a gain and a loss to show."""
    ids = dict(zip(DOCUMENTS, [f"{HOSTILE[0]}{name}" for name in DOCUMENTS], strict=True))
    texts = [f"{text} {CLEAN[i % len(CLEAN)]}" for i, text in enumerate(DOCUMENTS.values())]
    queries = {q: f"{text} {CLEAN[i]}" for i, (q, text) in enumerate(QUERIES.items())}
    collection = Collection(
        CLEAN[2],
        queries,
        dict(zip(ids.values(), texts, strict=True)),
        {q: {ids[d]: grade for d, grade in grades.items()} for q, grades in QRELS.items()},
    )
    found = {q: {ids[d]: score for d, score in run.items()} for q, run in FOUND.items()}
    best = RerankerSystem(Reranker(FakeScorer()), name=CLEAN[1])
    worst = RerankerSystem(Reranker(FakeScorer(lambda _, text: -len(text))), name=CLEAN[3])
    return evaluate(collection, found, [best, worst])


def test_hostile_text_stays_text() -> None:
    evaluation = hostile_evaluation()
    seen = Page(evaluation_html(evaluation))
    assert set(seen.tags) <= DOCUMENT | TEXT | TABLE | PICTURE
    assert seen.open == []
    names = {name for name, _ in seen.attributes}
    assert not any(name.startswith("on") or name in {"src", "href", "style"} for name in names)
    text = " ".join("".join(seen.texts).split())
    for hostile in CLEAN:
        assert " ".join(hostile.replace("\x1b", "\ufffd").split()) in text
    for result in evaluation.results:
        assert f"{result.name} put first" in text
    assert evaluation.collection.documents[f"{HOSTILE[0]}sea"] in text


def test_the_report_asks_nobody_for_anything() -> None:
    html = evaluation_html(make())
    assert "http" not in html.replace("http-equiv", "")
    assert "//" not in html
    assert not re.search(r"url\(|@import|<script|<link|<img", html)
    assert "content=\"default-src 'none'; style-src 'unsafe-inline'\"" in html
    assert html.startswith('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">')


def test_what_the_report_says() -> None:
    seen = Page(evaluation_html(make()))
    text = " ".join(" ".join(seen.texts).split())
    assert "nDCG@10 is higher for 2 queries, lower for 0 and the same for 1" in text
    assert "first-stage put first" in text
    # q1: the first stage put Berlin first, which was judged and is not relevant.
    assert re.search(r"first-stage put first grade 0 berlin Berlin is the capital of Germany", text)
    assert re.search(r"fake put first grade 2 paris Paris is the capital of France", text)
    assert re.search(r"not judged bread Bread is baked from flour", text), "q3's first"
    assert "Largest gains of fake" in text
    assert "Largest losses of fake" not in text
    assert "prefers-color-scheme: dark" in evaluation_html(make())
    assert ("name", "viewport") in seen.attributes


def test_long_documents_are_cut_in_the_report() -> None:
    collection = replace(COLLECTION, documents={**DOCUMENTS, "paris": "France capital " * 500})
    assert len(evaluation_html(make(collection))) < 60_000


def test_a_report_of_the_first_stage_alone() -> None:
    seen = Page(evaluation_html(evaluate(COLLECTION, FOUND, [])))
    assert "svg" not in seen.tags
    assert throughput_chart(Summary.of(evaluate(COLLECTION, FOUND, []))) is None


def test_bars_are_ordered_and_as_high_as_their_values() -> None:
    chart = page(difference_chart([0.0, -0.5, 1.0, 0.5], "t"))
    (gains,) = re.findall(r'<path d="([^"]*)" class="gain">', chart)
    (losses,) = re.findall(r'<path d="([^"]*)" class="loss">', chart)
    heights = [float(v) for v in re.findall(r"v(-?[\d.]+)", gains + losses)]
    assert heights == [-62.0, -31.0, 31.0], "up is negative"
    starts = [float(x) for x in re.findall(r"M([\d.]+)", gains + losses)]
    assert starts == sorted(starts)


def test_elements() -> None:
    tree = h("p", "a ", h("b", "<"), None, " & ", "c", h("i"), "d", class_="x y", aria_label='"')
    html = page(tree).splitlines()[1]
    assert html == '<p class="x y" aria-label="&quot;">a <b>&lt;</b> &amp; c<i></i>d</p>'
    assert "\ufffd\ufffd[31m \ufffd" in page(h("p", "\x00\x1b[31m \ud800"))


def test_runs_measured_by_trec_eval_say_the_same(tmp_path: Path) -> None:
    from jina_rerank.evaluation import write_run

    for result in make().results:
        path = tmp_path / "a.trec"
        write_run(result.run, path, result.name)
        with path.open() as lines:
            run = pytrec_eval.parse_run(lines)
        judge = pytrec_eval.RelevanceEvaluator(QRELS, {"ndcg_cut_10", "map"})
        for query, values in judge.evaluate(run).items():
            assert values["map"] == pytest.approx(result.measured.per_query["AP"][query])
            assert values["ndcg_cut_10"] == pytest.approx(
                result.measured.per_query["nDCG@10"][query]
            )

"""Suites on small sets in the folders of the large ones."""

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from jina_rerank import InputError, Reranker
from jina_rerank.evaluation import RerankerSystem
from jina_rerank.evaluation.suites import (
    PUBLISHED,
    SUITES,
    Suite,
    SuiteResult,
    run_suite,
    suite_markdown,
    write_suite,
)
from jina_rerank.evaluation.suites.published import CARD, model_of, published_percent
from jina_rerank.testing import FakeScorer

FORUMS = [folder for folder, _ in next(
    item for item in SUITES["beir"].sets if item.name == "cqadupstack"
).known_as]  # fmt: skip


@pytest.fixture(autouse=True)
def _without_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets that are not in the data folder are looked for with these."""
    monkeypatch.setitem(sys.modules, "ir_datasets", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)


def write_set(folder: Path, relevant: Mapping[str, int]) -> None:
    """Three documents that share the query's word; `relevant` are their grades for it."""
    (folder / "qrels").mkdir(parents=True)
    documents = {"short": "tea", "middle": "tea leaves", "long": "tea leaves and water"}
    (folder / "corpus.jsonl").write_text(
        "".join(json.dumps({"_id": n, "title": "", "text": t}) + "\n" for n, t in documents.items())
    )
    (folder / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": "tea"}) + "\n")
    (folder / "qrels" / "test.tsv").write_text(
        "".join(f"q\t{name}\t{grade}\n" for name, grade in relevant.items())
    )


def by_length(name: str = "long-first", sign: int = 1) -> RerankerSystem:
    scorer = FakeScorer(lambda _, document: float(sign * len(document)), fingerprint=name)
    return RerankerSystem(Reranker(scorer), name=name)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two sets, and CQADupStack, whose twelve forums count as one."""
    write_set(tmp_path / "scifact", {"long": 1})
    write_set(tmp_path / "nq", {"short": 1})
    for number, forum in enumerate(FORUMS):
        write_set(tmp_path / forum, {"middle" if number < 3 else "long": 1})
    return tmp_path


def test_every_set_counts_the_same(data: Path) -> None:
    result = run_suite("beir", [by_length(), by_length("short-first", -1)], data=data)
    assert list(result.figures) == ["nq", "cqadupstack", "scifact"]
    # One relevant document at rank r has nDCG 1 / log2(1 + r).
    second, third = 1 / math.log2(3), 1 / math.log2(4)
    forums = (3 * second + 9) / 12
    figures = {name: of_set["nDCG@10"]["long-first"] for name, of_set in result.figures.items()}
    assert figures == pytest.approx({"nq": third, "cqadupstack": forums, "scifact": 1.0})
    assert result.mean("nDCG@10", "long-first") == pytest.approx((third + forums + 1) / 3)
    assert result.systems == ["first-stage", "long-first", "short-first"]


def test_sets_that_cannot_be_had_are_named_with_the_reason(data: Path) -> None:
    result = run_suite("beir", [by_length()], data=data)
    assert len(result.missing) == 14
    assert "registration with BioASQ" in result.missing["bioasq"]
    assert "pip install ir_datasets" in result.missing["trec-covid"]
    markdown = suite_markdown(result)
    assert "nDCG@10, 3 of 17 sets" in markdown
    assert all(f"- {name}: " in markdown for name in result.missing)


def test_one_forum_less_is_a_set_less(data: Path) -> None:
    (data / FORUMS[0] / "corpus.jsonl").unlink()
    result = run_suite("beir", [by_length()], data=data)
    assert "corpus.jsonl" in result.missing["cqadupstack"]
    assert list(result.figures) == ["nq", "scifact"]


def test_nothing_to_be_had(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'loco' has no set that can be had: .*pyarrow"):
        run_suite("loco", [by_length()], data=tmp_path)


@pytest.mark.parametrize("name", ["mteb", "llamaindex-rag"])
def test_unknown_suite(name: str) -> None:
    with pytest.raises(InputError, match="must be one of 'beir', 'loco', not"):
        run_suite(name, [by_length()])


def test_a_second_run_goes_on_from_the_first(data: Path, tmp_path: Path) -> None:
    scorers = [FakeScorer(fingerprint="same"), FakeScorer(fingerprint="same")]
    results = [
        run_suite(
            "beir",
            [RerankerSystem(Reranker(scorer), name="fake")],
            data=data,
            state=tmp_path / "state",
        )
        for scorer in scorers
    ]
    assert len(scorers[0].requests) == 2 + len(FORUMS)
    assert scorers[1].requests == []
    assert results[0].figures == results[1].figures


def test_depth_and_queries(tmp_path: Path) -> None:
    write_set(tmp_path / "gov_report", {"long": 1})
    with (tmp_path / "gov_report" / "queries.jsonl").open("a") as queries:
        queries.write('{"_id": "q2", "text": "water"}\n')
    with (tmp_path / "gov_report" / "qrels" / "test.tsv").open("a") as qrels:
        qrels.write("q2\tlong\t1\n")
    scorer = FakeScorer()
    system = RerankerSystem(Reranker(scorer), name="fake")
    result = run_suite("loco", [system], data=tmp_path, depth=2, queries=1)
    assert [(request.query, len(request.documents)) for request in scorer.requests] == [("tea", 2)]
    assert result.setting == "BM25's best 2, 1 queries of each set"


def result_of(suite: str, measure: str, *systems: str) -> SuiteResult:
    figures = {"set": {m: dict.fromkeys(systems, 0.5) for m in SUITES[suite].measures}}
    assert measure in SUITES[suite].measures
    return SuiteResult(SUITES[suite], figures, {}, "a setting")


def row_of(markdown: str, system: str) -> list[str]:
    (line,) = [one for one in markdown.splitlines() if one.startswith(f"| {system} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_ours_stands_beside_what_was_published() -> None:
    turbo = "jinaai/jina-reranker-v1-turbo-en"
    markdown = suite_markdown(result_of("beir", "nDCG@10", "first-stage", turbo))
    assert row_of(markdown, turbo) == [turbo, "50.00", "49.60"]
    assert row_of(markdown, "first-stage") == ["first-stage", "50.00", "–"]  # noqa: RUF001
    assert row_of(markdown, "jina-reranker-v1-tiny-en")[1:] == ["–", "48.54"]  # noqa: RUF001
    assert CARD in markdown


def test_what_was_not_read_stays_blank() -> None:
    assert published_percent("loco", "nDCG@10", "cross-encoder:BAAI/bge-reranker-base") is None
    assert published_percent("llamaindex-rag", "mrr", "jina-reranker-v1-tiny-en") is None
    tiny = "jina-reranker-v1-tiny-en"
    row = row_of(suite_markdown(result_of("llamaindex-rag", "mrr", "first-stage", tiny)), tiny)
    assert row == [tiny, "50.00", "85.00", "50.00", "–"]  # noqa: RUF001


def test_every_published_figure_says_where_it_was_read() -> None:
    assert all(figure.source.startswith("https://") for figure in PUBLISHED)
    keys = [(figure.suite, figure.measure, figure.model) for figure in PUBLISHED]
    assert len(set(keys)) == len(keys)
    assert all(figure.measure in SUITES[figure.suite].measures for figure in PUBLISHED)
    assert all(0 < figure.percent < 100 for figure in PUBLISHED)


@pytest.mark.parametrize(
    ("system", "model"),
    [
        ("mini", "mini"),
        ("jinaai/jina-reranker-v1-tiny-en", "jina-reranker-v1-tiny-en"),
        ("models/jina-reranker-v1-tiny-en/", "jina-reranker-v1-tiny-en"),
        ("cross-encoder:BAAI/bge-reranker-base", "bge-reranker-base"),
        ("remote:jina-reranker-v1-tiny-en@http://127.0.0.1:80/v1", "jina-reranker-v1-tiny-en"),
    ],
)
def test_a_systems_model(system: str, model: str) -> None:
    assert model_of(system) == model


def test_files(data: Path, tmp_path: Path) -> None:
    result = run_suite("beir", [by_length()], data=data)
    write_suite(result, tmp_path / "out")
    saved = json.loads((tmp_path / "out" / "beir.json").read_text())
    assert saved["sets"]["scifact"]["nDCG@10"]["long-first"] == 1.0
    assert saved["means"]["nDCG@10"]["long-first"] == result.mean("nDCG@10", "long-first")
    assert set(saved["missing"]) == set(result.missing)
    published = {one["model"]: one["percent"] for one in saved["published"]}
    assert published["jina-reranker-v1-base-en"] == 52.45
    assert (tmp_path / "out" / "beir.md").read_text() == suite_markdown(result)


def test_a_hostile_name_cannot_break_the_table() -> None:
    result = result_of("beir", "nDCG@10", "first-stage", "a|b\n| c")
    lines = suite_markdown(result).splitlines()
    assert [line for line in lines if line.startswith("| a")] == [r"| a\|b \| c | 50.00 | – |"]  # noqa: RUF001


@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
def test_the_suites(suite: Suite) -> None:
    names = [folder for item in suite.sets for folder, _ in item.known_as]
    assert len(set(names)) == len(names)
    assert len(suite.sets) == {"beir": 17, "loco": 5, "llamaindex-rag": 0}[suite.name]

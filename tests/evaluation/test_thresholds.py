"""Thresholds: their figures against scikit-learn's and by hand, and what uses them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from judged import COLLECTION, FOUND, write_beir
from rich.console import Console
from sklearn.metrics import precision_recall_curve
from typer.testing import CliRunner

from jina_rerank import InputError, LocalScorer, Reranker, ScoringError
from jina_rerank.cli.app import app
from jina_rerank.evaluation import (
    Candidates,
    Collection,
    Evaluation,
    FirstStageSystem,
    MixedSystem,
    RerankerSystem,
    SystemScores,
    ThresholdPoint,
    bm25,
    choose_threshold,
    confidence_interval,
    evaluate,
    load_collection,
    ratio_interval,
)
from jina_rerank.evaluation.reports import (
    Summary,
    evaluation_html,
    read_summary,
    summary_markdown,
    write_summary,
)
from jina_rerank.evaluation.reports.charts import threshold_chart
from jina_rerank.evaluation.reports.elements import page
from jina_rerank.evaluation.reports.summary import spread
from jina_rerank.evaluation.reports.table import summary_table
from jina_rerank.testing import FakeScorer

COFFEE = Path(__file__).parents[2] / "examples" / "data" / "coffee"

SCORES = {
    "q1": {"a": 0.91, "b": 0.72, "c": 0.3},
    "q2": {"d": 0.65, "e": 0.2},
    "unjudged": {"a": 0.99},
}
QRELS = {
    "q1": {"a": 2, "b": 0, "lost": 1},
    "q2": {"e": 1, "d": 1},
    "q3": {"a": 1},
}


def random_judged(seed: int) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, int]]]:
    """Scores of 20 queries, with ties and on both sides of 0, and judgements of all of them."""
    random = Random(seed)
    scores = {
        f"q{i}": {f"d{j}": round(random.uniform(-2, 2), random.choice((1, 6))) for j in range(9)}
        for i in range(20)
    }
    qrels = {
        query: {document: int(random.random() < 0.15 + score / 8) for document, score in of.items()}
        for query, of in scores.items()
    }
    return scores, qrels


@pytest.mark.parametrize("seed", range(5))
def test_precision_and_recall_are_those_of_scikit_learn(seed: int) -> None:
    scores, qrels = random_judged(seed)
    pairs = [(qrels[q][d], score) for q, of in scores.items() for d, score in of.items()]
    truth, given = (np.array(column) for column in zip(*pairs, strict=True))
    precision, recall, thresholds = precision_recall_curve(truth, given)
    for wanted in (0.2, 0.5, 0.8, 1.0):
        choice = choose_threshold(scores, qrels, wanted)
        reached = recall[:-1][precision[:-1] >= wanted]
        assert (choice.suggested is None) == (not reached.any())
        if choice.suggested is not None:
            assert choice.suggested.recall == pytest.approx(reached.max())
    for point in choice.points:
        i = np.searchsorted(thresholds, point.threshold)
        assert point.precision == pytest.approx(precision[i])
        assert point.recall == pytest.approx(recall[i])
        kept = [[s for s in of.values() if s >= point.threshold] for of in scores.values()]
        assert point.documents == pytest.approx(sum(map(len, kept)) / 20)
        assert point.without_documents == pytest.approx(kept.count([]) / 20)
    # A point for every threshold of scikit-learn's that recalls more than the next higher one.
    assert {round(p.recall, 9) for p in choice.points} >= set(np.round(recall[recall > 0], 9))
    assert choice.points[0].documents == 9, "the first keeps all"


def test_figures_by_hand() -> None:
    choice = choose_threshold(SCORES, QRELS, 0.6)
    # Relevant: a of q1, lost, both of q2, a of q3. Nothing was found for q3.
    assert choice.points == (
        ThresholdPoint(0.0, 3 / 5, 3 / 5, 1 - 2 / 3, 5 / 3),
        ThresholdPoint(0.6, 2 / 3, 2 / 5, 1 - 2 / 3, 3 / 3),
        ThresholdPoint(0.9, 1 / 1, 1 / 5, 1 - 1 / 3, 1 / 3),
    )
    assert choice.suggested == choice.points[0], "the one with the highest recall"
    assert choose_threshold(SCORES, QRELS, 0.61).suggested == choice.points[1]
    assert choose_threshold(SCORES, QRELS, 1).suggested == choice.points[2]
    assert choose_threshold(SCORES, QRELS).wanted == 0.8


def test_a_precision_that_none_reaches() -> None:
    choice = choose_threshold({"q": {"a": 0.9, "b": 0.5}}, {"q": {"b": 1}}, 0.8)
    assert choice.suggested is choice.interval is None
    assert choice.most_precise == ThresholdPoint(0.0, 0.5, 1.0, 0.0, 2.0)


@pytest.mark.parametrize(
    ("below", "score", "threshold"),
    [
        (0.7311, 0.73219877, 0.732),
        (0.5, 0.9, 0.9),
        (-3.0, -2.25, -2.3),
        (1e-9, 3.2e-9, 3e-9),
        (1 - 1e-13, 1 - 1e-14, 1 - 1e-14),
        (1e300, 2e300, 2e300),
    ],
)
def test_a_threshold_has_no_more_decimals_than_it_needs(
    below: float, score: float, threshold: float
) -> None:
    choice = choose_threshold({"q": {"a": score, "b": below}}, {"q": {"a": 1}}, 1)
    assert choice.suggested is not None
    assert choice.suggested.threshold == threshold


def test_equal_scores_stay_or_go_together() -> None:
    scores = {"q": {"a": 0.5, "b": 0.5, "c": 0.5, "d": 0.1}}
    assert [p.precision for p in choose_threshold(scores, {"q": {"b": 1}}).points] == [0.25, 1 / 3]


@pytest.mark.parametrize("precision", [0, -1, 1.01, float("nan"), float("inf"), "0.8", True, None])
def test_a_precision_that_is_none_is_named(precision: object) -> None:
    with pytest.raises(InputError, match="above 0 and at most 1") as caught:
        choose_threshold(SCORES, QRELS, precision)  # type: ignore[arg-type]
    assert caught.value.argument == "precision"


def test_what_cannot_be_compared_is_named() -> None:
    with pytest.raises(InputError, match="qrels: has no relevant document"):
        choose_threshold(SCORES, {"q1": {"a": 0}})
    with pytest.raises(InputError, match="scores: has no documents for any query"):
        choose_threshold(SCORES, {"q9": {"a": 1}})


def test_the_interval_of_a_ratio() -> None:
    values = [0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0]
    assert ratio_interval(values, [1] * 7) == pytest.approx(confidence_interval(values))
    # Twice the documents of each query: the same share of them.
    assert ratio_interval([2, 0, 4], [4, 2, 4]) == ratio_interval([1, 0, 2], [2, 1, 2])
    assert ratio_interval([3, 0], [3, 0]) == (1, 1), "queries without documents say nothing"
    for parts, wholes in (([1], [0]), ([1, 2], [1]), ([], [])):
        with pytest.raises(InputError, match="wholes"):
            ratio_interval(parts, wholes)


def test_the_suggested_number_keeps_in_rank_what_the_figures_say() -> None:
    coffee = load_collection(str(COFFEE)).take(8)
    found = bm25(coffee, 10)
    reranker = Reranker(LocalScorer(max_length=96))
    evaluation = evaluate(coffee, found, [RerankerSystem(reranker, name="mini")], depth=10)
    point = evaluation.choose_threshold("mini", 0.3).suggested
    assert point is not None
    assert 0 < point.threshold < 1, "of scores, not of logits"
    kept = relevant = without = 0
    for query, text in coffee.queries.items():
        ids = list(found.get(query, {}))
        documents = [coffee.documents[i] for i in ids]
        hits = reranker.rank(text, documents, threshold=point.threshold)
        kept += len(hits)
        without += not hits
        relevant += sum(coffee.qrels[query].get(ids[hit.index], 0) > 0 for hit in hits)
    assert kept > 0
    assert point.precision == relevant / kept >= 0.3
    assert point.without_documents == pytest.approx(without / 8)
    judged = sum(grade > 0 for grades in coffee.qrels.values() for grade in grades.values())
    assert point.recall == relevant / judged


def make(*more: MixedSystem) -> Evaluation:
    return evaluate(COLLECTION, FOUND, [RerankerSystem(Reranker(FakeScorer()), name="fake"), *more])


def test_first_stages_and_mixes_have_no_threshold() -> None:
    fake = RerankerSystem(Reranker(FakeScorer()), name="fake")
    evaluation = make(MixedSystem("mix", FirstStageSystem(), fake))
    for name in ("first-stage", "mix"):
        with pytest.raises(InputError, match=f"'{name}' has no threshold"):
            evaluation.choose_threshold(name)
    with pytest.raises(InputError, match="'other' was not evaluated"):
        evaluation.choose_threshold("other")
    assert evaluation.choose_threshold("fake").suggested is not None


class Logits:
    """A system whose logits order otherwise than its scores, and that fails when asked twice."""

    name = "logits"
    fingerprint = "logits"

    def __init__(self, logits: list[float] | None = None) -> None:
        self.logits = logits
        self.asked = 0

    def warm_up(self) -> None:
        """Nothing to do."""

    def score(self, candidates: list[Candidates]) -> list[SystemScores]:
        self.asked += 1
        return [
            SystemScores(
                [0.5] * len(one.documents),
                logits=self.logits or [float(-i) for i in range(len(one.documents))],
            )
            for one in candidates
        ]


def test_logits_order_and_scores_are_compared_also_after_a_resume(tmp_path: Path) -> None:
    system = Logits()
    for _ in range(2):
        evaluation = evaluate(COLLECTION, FOUND, [system], state=tmp_path)
        result = evaluation.result("logits")
        assert list(result.run["q1"].values()) == [0.0, -1.0, -2.0]
        assert set(result.scores["q1"].values()) == {0.5}
        assert len(evaluation.choose_threshold("logits").points) == 1
    assert system.asked == 1, "the second time from the state"


@pytest.mark.parametrize("logits", [[1.0], [1.0, float("nan"), 2.0]])
def test_logits_that_do_not_fit_are_an_error(logits: list[float]) -> None:
    with pytest.raises(ScoringError, match="logits"):
        evaluate(COLLECTION, {"q1": FOUND["q1"]}, [Logits(logits)])


def test_a_summary_in_a_file_has_them(tmp_path: Path) -> None:
    fake = RerankerSystem(Reranker(FakeScorer()), name="fake")
    evaluation = make(MixedSystem("mix", FirstStageSystem(), fake))
    summary = Summary.of(evaluation, precision=0.7)
    write_summary(summary, tmp_path / "a.json")
    assert read_summary(tmp_path / "a.json") == summary
    saved = json.loads((tmp_path / "a.json").read_text())
    first, fake, mix = saved["rows"]
    assert first["thresholds"] is mix["thresholds"] is None
    assert saved["precision"] == fake["thresholds"]["wanted"] == 0.7
    suggested = evaluation.choose_threshold("fake", 0.7).suggested
    assert suggested is not None
    assert fake["thresholds"]["suggested"] == {
        "threshold": suggested.threshold,
        "precision": suggested.precision,
        "recall": suggested.recall,
        "without_documents": suggested.without_documents,
        "documents": suggested.documents,
    }
    for row in saved["rows"]:
        del row["thresholds"]
    del saved["precision"]
    (tmp_path / "b.json").write_text(json.dumps(saved))
    assert read_summary(tmp_path / "b.json").rows[1].thresholds is None, "of an older version"


def test_many_thresholds_are_spread_and_the_suggested_one_stays() -> None:
    scores = {"q": {f"d{i}": i / 1000 for i in range(1000)}}
    qrels = {"q": {f"d{i}": 1 for i in range(0, 1000, 2)}}
    collection = Collection("c", {"q": "q"}, dict.fromkeys(scores["q"], "t"), qrels)
    number = iter(range(1000))
    counting = FakeScorer(lambda _query, _document: next(number) / 1000)
    system = RerankerSystem(Reranker(counting), name="s")
    found = {"q": {document: -i for i, document in enumerate(scores["q"])}}
    evaluation = evaluate(collection, found, [system], depth=1000)
    choice = Summary.of(evaluation, precision=0.503).rows[1].thresholds
    assert choice is not None
    assert 99 <= len(choice.points) <= 100
    whole = choose_threshold(scores, qrels, 0.503)
    assert len(whole.points) == 500
    assert (choice.points[0], choice.points[-1]) == (whole.points[0], whole.points[-1])
    assert choice.suggested == whole.suggested
    assert choice.most_precise == whole.most_precise
    assert spread(whole.points, 3) == [whole.points[0], whole.points[249], whole.points[-1]]


def test_the_most_precise_of_many_thresholds_stays() -> None:
    """A relevant document in ten, and three in a row at one place that would be left out."""
    relevant = {*range(0, 3000, 10), 2995, 2994, 2993}
    qrels = {"q": {f"d{i}": int(i in relevant) for i in range(3000)}}
    collection = Collection("c", {"q": "q"}, dict.fromkeys(qrels["q"], "t"), qrels)
    number = iter(range(3000))
    counting = FakeScorer(lambda _query, _document: next(number) / 3000)
    found = {"q": {document: -i for i, document in enumerate(qrels["q"])}}
    system = RerankerSystem(Reranker(counting), name="s")
    evaluation = evaluate(collection, found, [system], depth=3000)
    best = evaluation.choose_threshold("s", 0.99).most_precise
    kept = Summary.of(evaluation, precision=0.99).rows[1].thresholds
    assert kept is not None
    assert best not in spread(evaluation.choose_threshold("s", 0.99).points, 100)
    assert kept.most_precise == best


def test_tables_and_sentences_say_the_threshold_so_that_it_can_be_copied() -> None:
    fake = RerankerSystem(Reranker(FakeScorer()), name="fake")
    evaluation = make(MixedSystem("mix|", FirstStageSystem(), fake))
    point = evaluation.choose_threshold("fake", 0.75).suggested
    assert point is not None
    console = Console(width=80)
    for precision, said in {
        0.75: f"fake: threshold {point.threshold:g} for a precision of 0.75.",
        1.0: r"fake: (no threshold reaches a precision of 1; the highest|threshold)",
    }.items():
        summary = Summary.of(evaluation, precision=precision)
        markdown = summary_markdown(summary)
        assert re.search(said, markdown)
        assert "mix\\| has no threshold: its scores only order" in markdown
        assert f"| {point.threshold:g} | {point.precision:.3f} | " in markdown
        with console.capture() as captured:
            console.print(summary_table(summary))
        text = captured.get()
        assert re.search(said, " ".join(text.split()))
        assert all(len(line) <= 80 for line in text.splitlines())
    assert "threshold" not in summary_markdown(Summary.of(evaluation))


def test_the_report_draws_them() -> None:
    evaluation = make()
    html = evaluation_html(evaluation, Summary.of(evaluation, precision=0.75))
    assert "<h2>Thresholds</h2>" in html
    assert "fake: threshold " in html
    assert 'aria-label="fake: precision and recall against the threshold"' in html
    plain = evaluation_html(evaluation)
    assert "Thresholds" not in plain


def lines_of(chart: str) -> dict[str, list[tuple[float, float]]]:
    """The points of the three lines, as the picture has them."""
    found = re.findall(r'<path d="M([^"h]*)" class="line (\w+)">', chart)
    return {kind: [tuple(map(float, place.split())) for place in d.split("L")] for d, kind in found}


def test_lines_go_through_the_figures() -> None:
    choice = choose_threshold(SCORES, QRELS, 0.61)
    # Scores beyond 0 to 1: a linear axis.
    shifted = replace(
        choice,
        points=tuple(replace(p, threshold=p.threshold * 10) for p in choice.points),
        suggested=replace(choice.points[1], threshold=6.0),
    )
    drawn = threshold_chart("s", shifted)
    assert drawn is not None
    lines = lines_of(page(drawn))
    assert lines.keys() == {"precision", "recall", "without"}
    left, middle, right = (x for x, _ in lines["precision"])
    assert (middle - left) / (right - left) == pytest.approx(6 / 9, abs=1e-3)
    bottom, top = 276.0, 46.0  # of 0 and of 1
    for kind, values in {"precision": [0.6, 2 / 3, 1.0], "recall": [0.6, 0.4, 0.2]}.items():
        heights = [(bottom - y) / (bottom - top) for _, y in lines[kind]]
        assert heights == pytest.approx(values, abs=1e-3)
    (at,) = re.findall(r'<line x1="([\d.]+)" x2="\1" y1="31" y2="276" class="base">', page(drawn))
    assert float(at) == pytest.approx(middle, abs=0.01)
    # Between 0 and 1 the axis is that of logits, without the 0 that keeps all.
    crowded = replace(
        choice,
        points=tuple(
            replace(p, threshold=t) for p, t in zip(choice.points, (0.5, 0.9, 0.99), strict=True)
        ),
    )
    drawn = threshold_chart("s", crowded)
    assert drawn is not None
    left, middle, right = (x for x, _ in lines_of(page(drawn))["recall"])
    expected = np.log(0.9 / 0.1) / np.log(0.99 / 0.01)
    assert (middle - left) / (right - left) == pytest.approx(expected, abs=1e-3)
    assert threshold_chart("s", replace(choice, points=choice.points[:1])) is None


def run(*args: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["eval", *map(str, args)])
    return result.exit_code, result.stdout, result.stderr


def test_the_command_reports_suggests_draws_and_writes(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "places")
    arguments = [folder, "--model", "bm25", "--output", tmp_path / "out"]
    status, plain, _ = run(*arguments)
    assert status == 0
    assert "threshold" not in plain
    for flags, wanted in {
        ("--thresholds",): 0.8,
        ("--threshold",): 0.8,
        ("--precision", 0.5): 0.5,
        ("--thresholds", "--precision", "1"): 1.0,
    }.items():
        status, out, _ = run(*arguments, *flags)
        assert status == 0
        summary = read_summary(tmp_path / "out" / "results.json")
        assert out == summary_markdown(summary)
        choice = summary.rows[1].thresholds
        assert choice is not None
        assert choice.wanted == wanted
        assert f"for a precision of {wanted:g}" in out or "no threshold reaches" in out
        assert "precision and recall against" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--precision", "0"], "--precision: must be above 0 and at most 1, not 0.0"),
        (["--precision", "80"], "--precision: must be above 0 and at most 1, not 80.0"),
        (["--precision", "nan"], "--precision: must be above 0 and at most 1, not nan"),
        (["--thresholds", "-m", "mix:first-stage+bm25"], "--thresholds: a mix has none; name a"),
        (["--suite", "beir", "--thresholds"], "--thresholds: does not go with --suite"),
        (["--suite", "beir", "--precision", "0.5"], "--precision: does not go with --suite"),
    ],
)
def test_mistakes_are_told_before_anything_is_scored(
    tmp_path: Path, args: list[str], message: str
) -> None:
    status, out, err = run(write_beir(tmp_path), *args)
    assert (status, out) == (2, "")
    assert message in err


def test_a_collection_without_a_relevant_document_is_told_before_anything_is_scored(
    tmp_path: Path,
) -> None:
    folder = write_beir(tmp_path)
    (folder / "qrels" / "test.tsv").write_text("q1\tparis\t0\n")
    status, out, err = run(folder, "--model", "/no/such/model", "--thresholds")
    assert (status, out) == (2, "")
    assert "--thresholds: " in err
    assert "has no relevant document to keep" in err

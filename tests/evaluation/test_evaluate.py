"""Systems side by side, and evaluations that were broken off."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import write_checkpoint
from judged import COLLECTION, DOCUMENTS, FOUND, QRELS, QUERIES

from jina_rerank import (
    Bm25Scorer,
    ConfigurationError,
    InputError,
    LocalScorer,
    RemoteScorer,
    Reranker,
    ScoringError,
)
from jina_rerank.evaluation import (
    Candidates,
    Collection,
    Evaluation,
    FirstStageSystem,
    MixedSystem,
    RerankerSystem,
    SystemScores,
    bm25,
    evaluate,
)
from jina_rerank.evaluation.evaluate import file_name
from jina_rerank.evaluation.reports import (
    Summary,
    evaluation_html,
    summary_markdown,
    write_summary,
)
from jina_rerank.testing import FakeScorer

NDCG = ["nDCG@10"]


class Recorder:
    """A system that scores by a document's length and remembers what it was asked."""

    def __init__(self, fingerprint: str | None = "length", name: str = "length") -> None:
        self.name = name
        self.fingerprint = fingerprint
        self.windows: list[list[str]] = []
        self.warm_ups = 0
        self.fail_at = 10**9

    def warm_up(self) -> None:
        self.warm_ups += 1

    def score(self, candidates: Sequence[Candidates]) -> list[SystemScores]:
        if len(self.windows) == self.fail_at:
            raise ScoringError("out of memory")
        self.windows.append([one.query_id for one in candidates])
        return [SystemScores([float(len(d)) for d in c.documents], 10, 1) for c in candidates]

    @property
    def asked(self) -> list[str]:
        return [query for window in self.windows for query in window]


def many(queries: int) -> tuple[Collection, dict[str, dict[str, float]]]:
    """A collection of that many queries, each with three candidates."""
    texts = {f"q{i}": f"question {i}" for i in range(queries)}
    documents = {f"d{i}": "word " * (1 + i % 7) for i in range(queries)}
    qrels = {f"q{i}": {f"d{i}": 1} for i in range(queries)}
    run = {
        f"q{i}": {f"d{(i + step) % queries}": 3.0 - step for step in range(3)}
        for i in range(queries)
    }
    return Collection("many", texts, documents, qrels), run


def test_a_reranker_beside_the_first_stage() -> None:
    evaluation = evaluate(COLLECTION, FOUND, [RerankerSystem(Reranker(FakeScorer()))])
    assert [result.name for result in evaluation.results] == ["first-stage", "fake"]
    before, after = evaluation.results
    assert before.run == FOUND
    assert before.cost is None
    assert before.measured.per_query["RR@10"] == {"q1": 1 / 2, "q2": 1, "q3": 1 / 2}
    assert after.measured.per_query["RR@10"] == {"q1": 1, "q2": 1, "q3": 1}
    assert list(after.run["q1"]) == ["paris", "berlin", "lyon"], "ties keep the first stage's order"
    assert list(after.run["q2"]) == ["bread", "oven", "sea"]
    assert (evaluation.pairs, after.cost.pairs) == (8, 8)
    test = evaluation.compare("first-stage", "fake", "RR@10")
    assert (test.wins, test.ties, test.losses) == (2, 1, 0)
    assert test.difference == pytest.approx(1 / 3)
    with pytest.raises(InputError, match="'other' was not evaluated, but first-stage, fake"):
        evaluation.compare("first-stage", "other")
    with pytest.raises(InputError, match="'P@1' was not measured"):
        evaluation.compare("first-stage", "fake", "P@1")


def test_numpys_numbers_are_numbers_and_reach_reports_as_pythons(tmp_path: Path) -> None:
    three: Any = np.int64(3)
    judged = COLLECTION.take(np.int64(2))  # type: ignore[arg-type]
    assert len(judged.queries) == 2
    evaluation = evaluate(judged, bm25(judged, three), [], depth=three, measures=["R@100"])
    write_summary(Summary.of(evaluation), tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_text())["depth"] == 3


def test_depth_cuts_the_first_stage_before_anything_is_scored() -> None:
    scorer = FakeScorer()
    systems = [RerankerSystem(Reranker(scorer))]
    evaluation = evaluate(COLLECTION, FOUND, systems, depth=1, measures=["R@100"])
    assert [list(request.documents) for request in scorer.requests] == [
        [DOCUMENTS["berlin"]],
        [DOCUMENTS["oven"]],
        [DOCUMENTS["bread"]],
    ]
    assert evaluation.first_stage.run["q1"] == {"berlin": 9.0}
    assert evaluation.result("fake").measured.per_query["R@100"] == {"q1": 0, "q2": 0.5, "q3": 0}


def test_queries_without_candidates_count_zero_for_all_and_are_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = {"q1": {"paris": 1.0}, "q2": {}, "q9": {"bread": 1.0}}
    system = Recorder()
    with caplog.at_level(logging.WARNING):
        evaluation = evaluate(COLLECTION, found, [system], measures=["RR@10"])
    assert (
        "places: the first stage has no documents for 2 queries, 'q2' is the first" in caplog.text
    )
    summary = Summary.of(evaluation)
    for report in (summary_markdown(summary), evaluation_html(evaluation, summary)):
        assert "queries for which the first stage has no documents: 2" in report
    assert "has no documents" not in summary_markdown(Summary.of(evaluate(COLLECTION, FOUND, [])))
    assert system.asked == ["q1"]
    for result in evaluation.results:
        assert result.measured.per_query["RR@10"] == {"q1": 1, "q2": 0, "q3": 0}
        assert list(result.run) == ["q1"]


def test_bm25_over_the_candidates_knows_the_whole_collection() -> None:
    system = RerankerSystem(Reranker(Bm25Scorer(DOCUMENTS.values())))
    evaluation = evaluate(COLLECTION, FOUND, [system], measures=NDCG)
    whole = bm25(COLLECTION)
    for query, found in FOUND.items():
        expected = {document: whole[query].get(document, 0.0) for document in found}
        assert evaluation.result("bm25").run[query] == expected


def test_the_real_model_reports_tokens_and_what_was_cut(tmp_path: Path) -> None:
    scorer = LocalScorer(write_checkpoint(tmp_path / "m"), max_length=16, dtype="float32")
    documents = {**DOCUMENTS, "paris": "paris is the capital of france " * 20}
    collection = replace(COLLECTION, documents=documents)
    with Reranker(scorer) as reranker:
        evaluation = evaluate(collection, FOUND, [RerankerSystem(reranker, name="m")])
        result = evaluation.result("m")
        assert result.cost.truncated_documents >= 1
        assert result.cost.truncated_share == result.cost.truncated_documents / 8
        assert 8 * 5 < result.cost.tokens <= 8 * 16
        assert result.cost.seconds > 0
        ranking = reranker.rank(QUERIES["q1"], [documents[d] for d in FOUND["q1"]])
    names = list(FOUND["q1"])
    assert result.run["q1"] == pytest.approx({names[h.index]: h.logit for h in ranking}, abs=1e-4)
    assert list(result.run["q1"]) == [names[hit.index] for hit in ranking]


def test_a_mix_asks_each_part_once() -> None:
    length, other = Recorder(), Recorder(name="other", fingerprint=None)
    mixes: list[Any] = [
        MixedSystem("half", FirstStageSystem(), length),
        MixedSystem("mostly first", FirstStageSystem(), length, weight=0.75),
        MixedSystem("not evaluated by itself", length, other),
    ]
    evaluation = evaluate(COLLECTION, FOUND, [length, *mixes], measures=NDCG)
    assert length.asked == other.asked == ["q1", "q2", "q3"]
    # q1: the first stage says 9, 8, 7, which is 1, 0.5 and 0; lengths are 32, 30 and 40.
    assert evaluation.result("half").run["q1"] == pytest.approx(
        {"berlin": 0.5 + 0.5 * 0.2, "paris": 0.25, "lyon": 0.5}
    )
    assert evaluation.result("mostly first").run["q1"] == pytest.approx(
        {"berlin": 0.75 + 0.25 * 0.2, "paris": 0.375, "lyon": 0.25}
    )
    assert list(evaluation.result("half").run["q1"]) == ["berlin", "lyon", "paris"]
    assert evaluation.result("half").cost == evaluation.result("length").cost
    both = evaluation.result("not evaluated by itself").cost
    assert both.seconds > evaluation.result("length").cost.seconds
    assert (both.pairs, both.tokens, both.truncated_documents) == (8, 60, 6)


def test_a_mix_of_scores_that_are_all_equal() -> None:
    assert MixedSystem("m", Recorder(), Recorder()).mix([2.0, 2.0], [1.0, 3.0]) == [0.0, 0.5]
    for weight in (0, 1, -1, float("nan")):
        with pytest.raises(ConfigurationError, match="weight must be between 0 and 1"):
            MixedSystem("m", Recorder(), Recorder(), weight)


@pytest.mark.parametrize(
    ("found", "depth", "message"),
    [
        ({"q1": {"atlantis": 1.0}}, 100, "'atlantis' for the query 'q1', which places lacks"),
        ({"q9": {"bread": 1.0}}, 100, "no documents for any query of places"),
        (FOUND, 0, "depth: must be at least 1"),
    ],
)
def test_candidates_that_do_not_fit(found: Any, depth: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(COLLECTION, found, [], depth=depth)


def test_texts_are_checked_before_anything_is_scored() -> None:
    system = Recorder()
    collection = replace(COLLECTION, documents={**DOCUMENTS, "sea": "\0"})
    with pytest.raises(InputError, match=r"places, query q2: documents\[1\]: holds a NUL"):
        evaluate(collection, FOUND, [system])
    with pytest.raises(ConfigurationError, match="none that ir-measures knows"):
        evaluate(COLLECTION, FOUND, [system], measures=["quality"])
    assert system.windows == []


def test_names_must_differ() -> None:
    with pytest.raises(ConfigurationError, match="two systems are called"):
        evaluate(COLLECTION, FOUND, [Recorder(), Recorder()])
    with pytest.raises(ConfigurationError, match="first-stage is evaluated in any case"):
        evaluate(COLLECTION, FOUND, [Recorder(name="first-stage")])


@pytest.mark.parametrize(
    ("scores", "message"),
    [([1.0], "1 scores for the 3 documents"), ([1.0, 2.0, float("nan")], "no number")],
)
def test_a_system_that_answers_wrongly(scores: list[float], message: str) -> None:
    class Wrong(Recorder):
        def score(self, candidates: Sequence[Candidates]) -> list[SystemScores]:
            return [SystemScores(scores) for _ in candidates]

    with pytest.raises(ScoringError, match=message):
        evaluate(COLLECTION, FOUND, [Wrong()])


def test_a_degraded_answer_is_no_figure() -> None:
    system = RerankerSystem(Reranker(FakeScorer(degraded="the service is down")))
    with pytest.raises(ScoringError, match=r"query q1: the answer is degraded .* service is down"):
        evaluate(COLLECTION, FOUND, [system])


def test_fingerprints_come_from_the_scorer(tmp_path: Path) -> None:
    scorer = FakeScorer(fingerprint="f")
    assert RerankerSystem(Reranker(scorer)).fingerprint == "f"
    first = LocalScorer(tmp_path, max_length=512)
    second = LocalScorer(tmp_path, max_length=256)
    assert RerankerSystem(Reranker(first)).fingerprint == first.fingerprint != second.fingerprint
    remote = RerankerSystem(Reranker(RemoteScorer("m", base_url="http://localhost", api_key="k")))
    assert remote.fingerprint is not None


def test_queries_are_scored_sixteen_at_a_time() -> None:
    system = Recorder()
    evaluate(*many(40), [system], measures=NDCG)
    assert [len(window) for window in system.windows] == [16, 16, 8]
    assert system.warm_ups == 1


def test_what_was_broken_off_goes_on(tmp_path: Path) -> None:
    whole = evaluate(*many(40), [Recorder()], measures=NDCG)
    broken, system = Recorder(), Recorder()
    broken.fail_at = 2
    with pytest.raises(ScoringError, match="out of memory"):
        evaluate(*many(40), [broken], measures=NDCG, state=tmp_path)
    evaluation = evaluate(*many(40), [system], measures=NDCG, state=tmp_path)
    assert broken.asked + system.asked == [f"q{i}" for i in range(40)]
    assert len(system.asked) == 8
    assert evaluation.result("length").run == whole.result("length").run
    cost = evaluation.result("length").cost
    assert (cost.pairs, cost.tokens, cost.truncated_documents) == (120, 400, 40)
    again = Recorder()
    finished = evaluate(*many(40), [again], measures=NDCG, state=tmp_path)
    assert (again.asked, again.warm_ups) == ([], 0), "not even loaded"
    assert finished.result("length") == evaluation.result("length")


KILLED = """
import os, sys
from pathlib import Path
from test_evaluate import Recorder, many
from jina_rerank.evaluation import evaluate

class Killed(Recorder):
    def score(self, candidates):
        if len(self.windows) == 2:
            os.kill(os.getpid(), 9)
        return super().score(candidates)

evaluate(*many(40), [Killed()], measures=["nDCG@10"], state=Path(sys.argv[1]))
"""


def test_a_process_that_was_killed(tmp_path: Path) -> None:
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path], env=env, check=False)
    assert done.returncode == -9
    system = Recorder()
    evaluate(*many(40), [system], measures=NDCG, state=tmp_path)
    assert system.asked == [f"q{i}" for i in range(32, 40)]


@pytest.mark.parametrize("cut", [1, 20, 400])
def test_half_a_line_at_the_end_is_scored_again(tmp_path: Path, cut: int) -> None:
    evaluate(*many(40), [Recorder()], measures=NDCG, state=tmp_path)
    (file,) = tmp_path.glob("*.jsonl")
    whole = file.read_bytes()
    file.write_bytes(whole[:-cut])
    system = Recorder()
    evaluate(*many(40), [system], measures=NDCG, state=tmp_path)
    assert system.asked == [f"q{i}" for i in range(32, 40)]
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    scored = [query for line in lines[1:] for query in line["queries"]]
    assert scored == [f"q{i}" for i in range(40)]


@pytest.mark.parametrize(
    "line", ["5", "{}", '{"seconds": 1, "queries": {"q16": {"a": 1}}}', "null"]
)
def test_a_line_that_is_no_window_is_scored_again(tmp_path: Path, line: str) -> None:
    evaluate(*many(40), [Recorder()], measures=NDCG, state=tmp_path)
    (file,) = tmp_path.glob("*.jsonl")
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:2], line, *lines[3:]]) + "\n")
    system = Recorder()
    evaluate(*many(40), [system], measures=NDCG, state=tmp_path)
    assert system.asked == [f"q{i}" for i in range(16, 40)]


def changed_text(collection: Collection, run: Any) -> tuple[Collection, Any]:
    return replace(collection, documents={**collection.documents, "d3": "another"}), run


def changed_question(collection: Collection, run: Any) -> tuple[Collection, Any]:
    return replace(collection, queries={**collection.queries, "q3": "another"}), run


def changed_order(collection: Collection, run: Any) -> tuple[Collection, Any]:
    return collection, {**run, "q3": {"d3": 1.0, "d4": 2.0, "d5": 3.0}}


@pytest.mark.parametrize("change", [changed_text, changed_question, changed_order])
def test_nothing_stale_is_used(tmp_path: Path, change: Callable[..., Any]) -> None:
    evaluate(*many(20), [Recorder()], measures=NDCG, state=tmp_path)
    system = Recorder()
    evaluate(*change(*many(20)), [system], measures=NDCG, state=tmp_path)
    assert len(system.asked) == 20
    last = Recorder()
    evaluate(*change(*many(20)), [last], measures=NDCG, state=tmp_path)
    assert last.asked == []


def test_another_depth_or_fingerprint_starts_anew_and_none_keeps_nothing(tmp_path: Path) -> None:
    evaluate(*many(20), [Recorder()], measures=NDCG, state=tmp_path)
    shallow, other, unknown = Recorder(), Recorder("another"), Recorder(None)
    evaluate(*many(20), [shallow], depth=2, measures=NDCG, state=tmp_path)
    evaluate(*many(20), [other], measures=NDCG, state=tmp_path)
    evaluate(*many(20), [unknown], measures=NDCG, state=tmp_path / "none")
    evaluate(*many(20), [unknown], measures=NDCG, state=tmp_path / "none")
    assert [len(s.asked) for s in (shallow, other, unknown)] == [20, 20, 40]
    assert not list((tmp_path / "none").glob("*.jsonl"))


def test_judgements_and_measures_may_change_without_scoring_again(tmp_path: Path) -> None:
    collection, run = many(20)
    evaluate(collection, run, [Recorder()], measures=NDCG, state=tmp_path)
    system = Recorder()
    judged = replace(collection, qrels={**collection.qrels, "q3": {"d4": 1}})
    evaluation = evaluate(judged, run, [system], measures=["RR@10"], state=tmp_path)
    assert system.asked == []
    assert evaluation.first_stage.measured.per_query["RR@10"]["q3"] == 1 / 2


def test_a_model_trained_anew_in_its_folder_is_scored_anew(tmp_path: Path) -> None:
    def run() -> Evaluation:
        with Reranker(LocalScorer(tmp_path / "m", dtype="float32")) as reranker:
            systems = [RerankerSystem(reranker, name="m")]
            return evaluate(COLLECTION, FOUND, systems, state=tmp_path / "state")

    write_checkpoint(tmp_path / "m", seed=1)
    first = run().result("m")
    assert run().result("m") == first, "the same seconds: nothing was scored"
    write_checkpoint(tmp_path / "m", seed=2)
    assert run().result("m").run != first.run


def test_a_state_file_of_something_else(tmp_path: Path) -> None:
    file = tmp_path / "length.jsonl"
    for content in (b"", b"nonsense", b'{"format": 1}\n{}\n', b"\xff\n"):
        file.write_bytes(content)
        system = Recorder()
        evaluate(COLLECTION, FOUND, [system], state=tmp_path)
        assert system.asked == list(QRELS)


def test_progress_only_when_asked(capfd: pytest.CaptureFixture[str]) -> None:
    evaluate(COLLECTION, FOUND, [Recorder()])
    assert capfd.readouterr() == ("", "")
    evaluate(COLLECTION, FOUND, [Recorder()], progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "length: 100%" in err
    assert "3/3" in err
    assert "first-stage" not in err


def test_file_names() -> None:
    assert file_name("mini") == "mini"
    names = ["a/b", "a b", "a:b", "../a", "..", "é", "x" * 300, "A*B"]
    written = [file_name(name) for name in names]
    assert len(set(written)) == len(names)
    assert all(len(name) < 100 and "/" not in name and name.strip(".") for name in written)

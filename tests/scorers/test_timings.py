"""Where a call's time goes, against a clock of the test's own."""

import dataclasses
import time
from pathlib import Path

import pytest
from serving import GatedModel

from jina_rerank import LocalScorer, Reranker, ScoreRequest
from jina_rerank.scorers._pair_model import Computed
from jina_rerank.scorers._pairs import score_in_steps
from jina_rerank.testing import FakeScorer


def test_waiting_is_told_from_computing(small_checkpoint: Path) -> None:
    submitted = time.perf_counter() - 5
    request = ScoreRequest("panda", ["bear"])
    steps = score_in_steps(
        GatedModel(small_checkpoint), [request], 512, "truncate", None, submitted=submitted
    )
    next(steps)
    asked = time.perf_counter()
    while time.perf_counter() < asked + 0.02:
        time.sleep(0.005)
    with pytest.raises(StopIteration) as end:
        steps.send(Computed([0.5], seconds=0.015))
    took = time.perf_counter() - submitted
    (response,) = end.value.value
    assert response.timings.computing == 0.015
    assert 5.005 <= response.timings.waiting < took
    assert response.timings.tokenizing > 0
    # Nothing is lost, and nothing counts twice.
    assert sum(dataclasses.astuple(response.timings)) <= took
    assert response.timings.waiting == pytest.approx(took - 0.015, abs=0.1)


def test_the_parts_are_the_whole_call(small_checkpoint: Path) -> None:
    with Reranker(LocalScorer(small_checkpoint)) as reranker:
        reranker.warm_up()
        started = time.perf_counter()
        rankings = reranker.rank_many([("panda", ["bear"] * 50), ("bear", ["panda"])])
        took = time.perf_counter() - started
    timings = rankings[0].timings
    assert timings is rankings[1].timings
    assert timings is not None
    assert timings.computing > 0
    assert timings.tokenizing > 0
    assert timings.waiting + timings.tokenizing + timings.computing <= took


def test_rankings_are_equal_whatever_time_they_took(small_checkpoint: Path) -> None:
    with Reranker(LocalScorer(small_checkpoint)) as reranker:
        one, other = (reranker.rank("panda", ["bear", "paris"]) for _ in range(2))
    assert one.timings != other.timings
    assert one == other
    assert one.to_dict()["timings"].keys() == {"waiting", "tokenizing", "computing"}


def test_a_scorer_need_not_tell() -> None:
    assert Reranker(FakeScorer()).rank("panda", ["bear"]).timings is None

"""A call's progress is told in tokens, early, and right from the beginning."""

import random
from itertools import pairwise
from pathlib import Path

import pytest
from faults import FaultServer, Status

from jina_rerank import (
    CachedScorer,
    FallbackScorer,
    LocalScorer,
    OnnxScorer,
    Progress,
    RemoteScorer,
    Reranker,
    RetrievalOrder,
    ScoreRequest,
)
from jina_rerank.onnx.export import export_onnx
from jina_rerank.scorers import _pairs
from jina_rerank.scorers.service import retries
from jina_rerank.testing import FakeScorer

WORDS = ["panda", "bear", "paris", "capital", "is", "the", "of", "a"]


def documents_of(*lengths: int) -> list[str]:
    """One of each number of words."""
    draw = random.Random(1)
    return [" ".join(draw.choices(WORDS, k=length)) for length in lengths]


@pytest.fixture(params=["local", "onnx"])
def build(request, small_checkpoint: Path, tmp_path: Path):
    """A scorer, with settings of the test's."""
    if request.param == "local":
        return lambda **settings: LocalScorer(small_checkpoint, dtype="float32", **settings)
    return lambda **settings: OnnxScorer(
        export_onnx(small_checkpoint, tmp_path / "exported").parent, **settings
    )


def told_by(scorer, *requests: ScoreRequest) -> tuple[list[Progress], int]:
    """All that was told, and what the call has computed by its own account."""
    told: list[Progress] = []
    responses = scorer.score(requests, told.append)
    return told, sum(response.usage.tokens or 0 for response in responses)


def totals(told: list[Progress]) -> list[int]:
    return [progress.tokens + progress.remaining_tokens for progress in told]


def test_batches_are_told_and_not_only_the_end(build) -> None:
    told, used = told_by(build(), ScoreRequest("panda", documents_of(*[400] * 60, *[5] * 600)))
    assert told[0].tokens == 0, "the total is known before the first batch"
    assert told[-1] == Progress(used, 0)
    counts = [progress.tokens for progress in told]
    assert counts == sorted(counts)
    assert max(b - a for a, b in pairwise(counts)) < used / 3
    assert set(totals(told)) == {used}, "nothing is estimated where all is tokenized at once"


@pytest.mark.parametrize(
    "settings",
    [{}, {"max_length": 64}, {"max_length": 64, "long_documents": "chunk"}],
    ids=["whole", "truncated", "chunked"],
)
def test_the_total_is_estimated_well_while_texts_are_not_tokenized(
    build, settings, monkeypatch
) -> None:
    monkeypatch.setattr(_pairs, "CHARACTERS_PER_WINDOW", 3_000)
    lengths = [300, 200, 150, 100, 80, 60, *[50] * 30, *[20] * 100, *[3] * 100]
    requests = [
        ScoreRequest("panda " * 10, documents_of(*lengths)),
        ScoreRequest("bear", documents_of(*lengths[3:])),
    ]
    told, used = told_by(build(**settings), *requests)
    assert told[-1] == Progress(used, 0)
    assert len(told) > 10
    most = 1.35 if settings.get("long_documents") else 1.15  # chunks of long texts come first
    assert all(used / most < total < used * most for total in totals(told))


def test_texts_without_a_token_are_no_division_by_zero(build) -> None:
    told, used = told_by(build(), ScoreRequest("panda", ["", " ", ""]))
    assert told[-1] == Progress(used, 0)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(retries, "FIRST_WAIT", 0.01)
    with FaultServer() as server:
        yield server


def remote(server: FaultServer, **settings) -> RemoteScorer:
    return RemoteScorer(base_url=server.url, max_concurrency=1, max_retries=0, **settings)


def test_a_service_is_counted_in_estimated_tokens(server) -> None:
    documents = documents_of(*[100] * 5, *[1] * 5)
    told, _ = told_by(remote(server, max_documents=2), ScoreRequest("panda", documents))
    assert len(told) == 5
    assert told[-1].remaining_tokens == 0
    assert max(totals(told)) - min(totals(told)) <= 1
    assert told[1].tokens > 0.7 * told[-1].tokens, "by length and not by number"
    sent = sum(len(document) + len("panda") + 4 for document in documents)
    assert told[-1].tokens == pytest.approx(sent / 3, rel=0.01)


def test_a_part_that_is_halved_counts_once_and_one_that_failed_does_not_remain(server) -> None:
    request = ScoreRequest("panda", documents_of(7, 11, 13, 17))
    whole, _ = told_by(remote(server), request)
    server.script(Status(413, {"detail": "too large"}))
    halved, _ = told_by(remote(server), request)
    assert (len(halved), halved[-1]) == (2, whole[-1])
    server.script(Status(422, {"detail": "no"}))
    partial, _ = told_by(remote(server, max_documents=2, allow_partial=True), request)
    assert partial[-1].remaining_tokens == 0
    assert 0 < partial[-1].tokens < whole[-1].tokens


def test_what_a_cache_has_is_not_counted() -> None:
    cached = CachedScorer(FakeScorer())
    told, _ = told_by(cached, ScoreRequest("panda", ["a", "b"]))
    assert told[-1] == Progress(2, 0)
    told, _ = told_by(cached, ScoreRequest("panda", ["a", "b", "c"]))
    assert told == [Progress(1, 0)]
    told, _ = told_by(cached, ScoreRequest("panda", ["a", "b", "c"]))
    assert told == []


def test_another_scorer_counts_from_the_beginning(server, small_checkpoint) -> None:
    local = LocalScorer(small_checkpoint)
    server.default = Status(503)
    told, used = told_by(FallbackScorer(remote(server), local), ScoreRequest("panda", ["bear"]))
    assert (told[0].tokens, told[-1]) == (0, Progress(used, 0))


def test_the_bar_ends_at_the_tokens_used(small_checkpoint, capfd) -> None:
    with Reranker(LocalScorer(small_checkpoint)) as reranker:
        ranking = reranker.rank("panda", documents_of(*[9] * 50), progress=True)
    assert 500 < ranking.usage.tokens < 1_000
    shown = capfd.readouterr().err
    assert "100%" in shown
    assert f"{ranking.usage.tokens}/{ranking.usage.tokens} [" in shown
    assert "tokens/s" in shown


def test_no_bar_is_left_where_nothing_was_computed(capfd) -> None:
    Reranker(RetrievalOrder()).rank("panda", ["a", "b"], progress=True)
    assert capfd.readouterr().err.rpartition("\r")[2].strip() == ""

"""A request's own options: honoured as a scorer's settings are, refused, or passed on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from faults import FaultServer, Status

from jina_rerank import (
    Bm25Scorer,
    CachedScorer,
    FallbackScorer,
    InputError,
    LocalScorer,
    RemoteScorer,
    Reranker,
    ScoreRequest,
)
from jina_rerank.scorers.base import LongDocuments
from jina_rerank.testing import FakeScorer

QUERY = "what is panda?"
LONG = "panda bear paris france coffee espresso beans capital germany berlin " * 9
SHORT = "the panda is a bear"
MAX_LENGTH = 40
CHOICES: tuple[LongDocuments, ...] = ("truncate", "chunk", "error")


def local(folder: Path, long_documents: LongDocuments = "truncate") -> LocalScorer:
    return LocalScorer(
        folder, dtype="float32", max_length=MAX_LENGTH, long_documents=long_documents
    )


def request(*documents: str, **options: object) -> ScoreRequest:
    return ScoreRequest(QUERY, documents, **options)  # type: ignore[arg-type]


def test_requests_of_one_call_are_each_cut_as_they_want(small_checkpoint: Path) -> None:
    asked = [
        request(LONG, SHORT, long_documents="chunk"),
        request(LONG, SHORT),
        request(SHORT, long_documents="error"),
    ]
    for own in CHOICES[:2]:
        answers = local(small_checkpoint, own).score(asked)
        for answer, wanted in zip(answers, ("chunk", own, "error"), strict=True):
            documents = [LONG, SHORT] if len(answer.scores) == 2 else [SHORT]
            (alone,) = local(small_checkpoint, wanted).score([request(*documents)])
            assert answer.scores == pytest.approx(alone.scores, abs=1e-6)
            assert answer.tokens == alone.tokens
            assert answer.truncated_tokens == alone.truncated_tokens
            assert answer.usage == alone.usage


@pytest.mark.parametrize("own", CHOICES)
def test_a_long_document_is_refused_where_its_request_wants_that(
    small_checkpoint: Path, own: LongDocuments
) -> None:
    asked = [request(SHORT), request(SHORT, LONG, long_documents="error", name="pairs[1].")]
    with pytest.raises(InputError) as refused:
        local(small_checkpoint, own).score(asked)
    assert refused.value.argument == "pairs[1].documents[1]"


def test_no_more_of_a_document_is_read_than_its_request_allows(small_checkpoint: Path) -> None:
    scorer = local(small_checkpoint)
    limited, whole = scorer.score(
        [request("panda bear paris", "coffee", max_document_tokens=2), request("panda bear paris")]
    )
    (expected,) = scorer.score([request("panda bear", "coffee")])
    assert limited.scores == pytest.approx(expected.scores, abs=1e-6)
    assert (limited.tokens, limited.truncated_tokens) == ([2, 1], [0, 0])
    assert limited.usage == expected.usage
    assert whole.tokens == [3]


def test_what_is_left_of_a_document_may_fit_where_the_whole_does_not(
    small_checkpoint: Path,
) -> None:
    wanted = request(LONG, long_documents="error", max_document_tokens=10)
    (answer,) = local(small_checkpoint).score([wanted])
    assert answer.tokens == [10]
    with pytest.raises(InputError, match=r"documents\[0\]: has 39 tokens"):
        local(small_checkpoint).score([replace(wanted, max_document_tokens=39)])


async def test_a_reranker_ranks_checked_requests_with_their_options(small_checkpoint: Path) -> None:
    reranker = Reranker(local(small_checkpoint))
    asked = [request(SHORT, LONG, long_documents="chunk"), request("a", "b", "c"), request()]
    chunked, several, empty = await reranker.arank_requests(asked, top_n=2)
    assert chunked.usage.truncated_documents == 0
    assert [len(ranking) for ranking in (chunked, several, empty)] == [2, 2, 0]
    with pytest.raises(InputError, match="top_n"):
        await reranker.arank_requests(asked, top_n=0)


def test_a_cache_tells_options_apart(small_checkpoint: Path) -> None:
    cached, plain = CachedScorer(local(small_checkpoint)), local(small_checkpoint)
    asked = [
        request(LONG),
        request(LONG, long_documents="chunk"),
        request(LONG, max_document_tokens=3),
        request(LONG, max_document_tokens=4),
    ]
    for one in asked:
        (first,), (again,), (expected,) = (
            cached.score([one]),
            cached.score([one]),
            plain.score([one]),
        )
        assert first.usage.cached_documents == 0
        assert again.usage.cached_documents == 1
        assert first.scores == again.scores == pytest.approx(expected.scores, abs=1e-6)
        assert again.tokens == expected.tokens
    assert len({tuple(cached.score([one])[0].scores) for one in asked}) == len(asked)
    # What one has cached does not let another's refusal be forgotten.
    with pytest.raises(InputError):
        cached.score([request(LONG, long_documents="error")])


def test_a_fallback_passes_options_on(small_checkpoint: Path) -> None:
    wanted = request(LONG, long_documents="truncate", max_document_tokens=3)
    with FaultServer() as server:
        server.default = Status(503)
        first = RemoteScorer("m", base_url=server.url, max_retries=0)
        (answer,) = FallbackScorer(first, local(small_checkpoint, "error")).score([wanted])
        (sent,) = server.requests
        first.close()
    assert sent.json["max_doc_length"] == 3
    assert sent.json["truncation"] is True
    assert answer.tokens == [3]


def test_a_scorer_without_tokens_refuses_to_count_them() -> None:
    fake = FakeScorer()
    assert fake.score([request("a", long_documents=choice) for choice in CHOICES])
    with pytest.raises(InputError) as refused:
        fake.score([request("a"), request("a", name="pairs[1].", max_document_tokens=1)])
    assert refused.value.argument == "pairs[1].max_document_tokens"
    assert len(fake.requests) == len(CHOICES), "nothing is scored that cannot be honoured"


@pytest.mark.parametrize(
    ("dialect", "options", "fields"),
    [
        ("jina", {"long_documents": "truncate"}, {"truncation": True}),
        ("jina", {"long_documents": "error"}, {"truncation": False}),
        ("jina", {"max_document_tokens": 7}, {"max_doc_length": 7}),
        ("jina", {}, {"truncation": True, "max_doc_length": 99}),
        ("cohere", {"max_document_tokens": 7}, {"max_tokens_per_doc": 7}),
        ("tei", {"long_documents": "error"}, {"truncate": False}),
    ],
)
def test_a_service_is_told_what_it_can_be_told(dialect, options, fields) -> None:
    own = {"truncation": True, "max_doc_length": 99} if not options else {}
    with FaultServer() as server:
        scorer = RemoteScorer("m", base_url=server.url, dialect=dialect, max_documents=2, **own)
        # In parts, each of which has the options of its request.
        scorer.score([request(*"abc", **options), request("d")])
        scorer.close()
        sent = [seen.json for seen in server.requests]
    assert len(sent) == 3
    texts = "texts" if dialect == "tei" else "documents"
    for body in sent:
        told = fields if body[texts] != ["d"] or not options else {}
        known = {"truncation", "truncate", "max_doc_length", "max_tokens_per_doc"}
        assert {name: body[name] for name in known & body.keys()} == told


@pytest.mark.parametrize(
    ("dialect", "options"),
    [
        ("jina", {"long_documents": "chunk"}),
        ("tei", {"long_documents": "chunk"}),
        ("tei", {"max_document_tokens": 7}),
        ("cohere", {"long_documents": "truncate"}),
        ("sagemaker", {"long_documents": "error"}),
        ("sagemaker", {"max_document_tokens": 7}),
    ],
)
def test_an_option_that_a_service_cannot_be_told_is_refused_before_anything_is_sent(
    dialect, options
) -> None:
    with FaultServer() as server:
        scorer = RemoteScorer("m", base_url=server.url, dialect=dialect)
        with pytest.raises(InputError) as refused:
            scorer.score([request("a"), request("b", name="pairs[1].", **options)])
        scorer.close()
        assert not server.requests
    (option,) = options
    assert refused.value.argument == f"pairs[1].{option}"
    assert f"the dialect {dialect!r} does not have " in refused.value.problem


def test_an_instruction_is_refused_where_no_template_has_a_place_for_it(
    small_checkpoint: Path,
) -> None:
    asked = request(SHORT, name="pairs[3].", instruction="bears only")
    for scorer in (local(small_checkpoint), FakeScorer(), Bm25Scorer([SHORT])):
        with pytest.raises(InputError, match=r"pairs\[3\]\.instruction: .* takes none"):
            scorer.score([asked])
    for dialect in ("cohere", "tei"):
        remote = RemoteScorer(
            "m", base_url="http://127.0.0.1:9/", api_key="k" * 20, dialect=dialect
        )
        with pytest.raises(InputError, match=f"a '{dialect}' service takes none"):
            remote.score([asked])


def test_a_cache_keeps_scores_of_different_instructions_apart() -> None:
    scored: list[str | None] = []

    class Instructed(FakeScorer):
        def score(self, requests, on_scored=None):
            scored.extend(own.instruction for own in requests)
            return super().score([replace(own, instruction=None) for own in requests], on_scored)

    cached = CachedScorer(Instructed())
    for instruction in ("bears", "cities", "bears", None):
        cached.score([request(SHORT, instruction=instruction)])
    assert scored == ["bears", "cities", None]

import copy
import io
import math
import threading
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from dialect_answers import count_tokens
from faults import Edited
from haystack import Document
from haystack.dataclasses import ByteStream
from haystack.utils import ComponentDevice

from haystack_integrations.components.rankers.jina_rerank import JinaRanker
from jina_rerank import ConfigurationError, InputError, LocalScorer, Reranker, ScoringError
from jina_rerank.testing import FakeScorer


def ids(output):
    return [document.id for document in output["documents"]]


def test_the_embedded_model_puts_the_answer_first(run):
    documents = [
        Document(content="Rome is the capital of Italy."),
        Document(content="Bread needs flour, water, salt and yeast."),
        Document(content="Berlin is the capital of Germany."),
    ]
    output = run(JinaRanker(), "What is the capital of Germany?", documents)
    assert output["documents"][0].content == "Berlin is the capital of Germany."
    assert all(0 < document.score < 1 for document in output["documents"])
    assert output["meta"]["model"] == "jina-rerank-mini"
    assert output["meta"]["usage"]["documents"] == 3
    assert output["meta"]["usage"]["tokens"] > 0
    assert output["meta"]["usage"]["truncated_documents"] == 0
    assert output["meta"]["degraded"] is None


def test_a_services_answer(run, remote, numbered):
    output = run(remote(), "which number", numbered)
    texts = [document.content for document in numbered]
    assert output["meta"] == {
        "model": "jina-reranker-v3.5",
        "usage": {
            "documents": 12,
            "tokens": count_tokens("which number", texts),
            "truncated_documents": None,
            "truncated_query_tokens": None,
            "cached_documents": None,
        },
        "degraded": None,
        "unscored": [],
    }


def test_the_scores_are_the_models_own(run, backend, numbered):
    output = run(backend.build(top_k=None), "which number", numbered)
    assert ids(output) == backend.best("which number", numbered)
    texts = [document.content for document in output["documents"]]
    # Asked in another order, a score is rounded in another way.
    np.testing.assert_allclose(
        [document.score for document in output["documents"]],
        backend.scores("which number", texts),
        rtol=1e-5,
    )
    assert output["meta"]["model"] == backend.model


@pytest.mark.torch
def test_a_device_of_haystacks_own_is_used(run):
    documents = [Document(content="Tea is steeped."), Document(content="Coffee is roasted.")]
    ranker = JinaRanker(device=ComponentDevice.from_str("cpu"), dtype="float32")
    expected = Reranker(LocalScorer(device="cpu", dtype="float32"))
    output = run(ranker, "roasted coffee", documents)
    scores = {document.content: document.score for document in output["documents"]}
    texts = [document.content for document in documents]
    assert [scores[text] for text in texts] == pytest.approx(
        expected.score("roasted coffee", texts)
    )
    with pytest.raises(ConfigurationError, match="cuda:99"):
        run(JinaRanker(device=ComponentDevice.from_str("cuda:99")), "coffee", documents)


def test_a_truncated_document_is_reported(run):
    output = run(JinaRanker(max_length=16), "coffee", [Document(content="bean " * 40)])
    assert output["meta"]["usage"]["truncated_documents"] == 1


class TestLimits:
    def test_top_k_is_10_unless_told(self, run, backend, numbered):
        best = backend.best("q", numbered)
        assert ids(run(backend.build(), "q", numbered)) == best[:10]

    def test_none_at_construction_keeps_all(self, run, backend, numbered):
        ranker = backend.build(top_k=None)
        assert ids(run(ranker, "q", numbered)) == backend.best("q", numbered)

    def test_more_than_there_are_keeps_all(self, run, backend, numbered):
        assert len(run(backend.build(), "q", numbered, top_k=1000)["documents"]) == len(numbered)

    def test_a_run_may_ask_for_its_own(self, run, backend, numbered):
        every = run(backend.build(top_k=None), "q", numbered)["documents"]
        best, scores = [d.id for d in every], [d.score for d in every]
        ranker = backend.build(top_k=2, score_threshold=scores[6])
        assert ids(run(ranker, "q", numbered)) == best[:2]
        assert ids(run(ranker, "q", numbered, top_k=3)) == best[:3]
        assert ids(run(ranker, "q", numbered, top_k=12)) == best[:7]
        assert ids(run(ranker, "q", numbered, score_threshold=scores[0])) == best[:1]
        assert ids(run(ranker, "q", numbered)) == best[:2]

    def test_a_score_equal_to_the_threshold_stays(self, run, backend, numbered):
        every = run(backend.build(top_k=None), "q", numbered)["documents"]
        kept = run(backend.build(), "q", numbered, score_threshold=every[2].score)
        assert ids(kept) == [document.id for document in every[:3]]

    def test_a_threshold_of_zero_is_a_threshold(self, run, scorer):
        documents = [Document(content="a -1"), Document(content="b 0"), Document(content="c 1")]
        ranker = JinaRanker(score_threshold=-5, reranker=Reranker(scorer))
        assert len(run(ranker, "q", documents)["documents"]) == 3
        assert len(run(ranker, "q", documents, score_threshold=0)["documents"]) == 2
        assert len(run(ranker, "q", documents, score_threshold=0.0)["documents"]) == 2

    def test_no_threshold_keeps_negative_scores(self, run, ranker):
        output = run(ranker, "q", [Document(content="a -0.5"), Document(content="b -0.089")])
        assert [document.score for document in output["documents"]] == [-0.089, -0.5]

    def test_nor_does_it_drop_a_services(self, run, server, remote, numbered):
        def negate(answer):
            for result in answer["results"]:
                result["relevance_score"] *= -1
            return answer

        server.default = Edited(negate)
        documents = run(remote(top_k=None), "q", numbered)["documents"]
        assert len(documents) == len(numbered)
        assert all(document.score < 0 for document in documents)
        assert run(remote(), "q", numbered, score_threshold=0)["documents"] == []

    @pytest.mark.parametrize("top_k", [0, -1])
    def test_top_k_must_be_positive(self, run, backend, numbered, top_k):
        with pytest.raises(ValueError, match=rf"^top_k must be > 0, but got {top_k}$"):
            run(backend.build(), "q", numbered, top_k=top_k)
        with pytest.raises(ValueError, match=rf"^top_k must be > 0, but got {top_k}$"):
            run(backend.build(), "q", [], top_k=top_k)

    @pytest.mark.parametrize(
        ("limits", "named"),
        [
            ({"top_k": 2.5}, "top_k"),
            ({"top_k": True}, "top_k"),
            ({"score_threshold": math.nan}, "score_threshold"),
            ({"score_threshold": "0.5"}, "score_threshold"),
        ],
    )
    def test_other_mistakes_are_named_too(self, run, backend, numbered, limits, named):
        with pytest.raises(InputError, match=f"^{named}: ") as caught:
            run(backend.build(), "q", numbered, **limits)
        assert caught.value.argument == named


class TestNothingToRank:
    def test_every_output_is_there(self, run, backend):
        assert run(backend.build(), "q", []) == {
            "documents": [],
            "meta": {
                "model": backend.model,
                "usage": {
                    "documents": 0,
                    "tokens": 0,
                    "truncated_documents": None,
                    "truncated_query_tokens": None,
                    "cached_documents": None,
                },
                "degraded": None,
                "unscored": [],
            },
        }

    @pytest.mark.torch
    def test_the_model_is_not_loaded(self, run):
        # Loading this one would fail.
        output = run(JinaRanker("/nowhere/at/all"), "q", [])
        assert output["meta"]["model"] == "/nowhere/at/all"

    def test_nothing_is_sent(self, run, server, remote):
        run(remote(), "q", [])
        assert server.connections == 0

    def test_the_query_is_read_all_the_same(self, run, backend):
        with pytest.raises(InputError, match=r"^query: "):
            run(backend.build(), " ", [])

    def test_a_threshold_nobody_reaches(self, run, backend, numbered):
        output = run(backend.build(), "q", numbered, score_threshold=1.5)
        assert output["documents"] == []
        assert output["meta"]["usage"]["documents"] == len(numbered)


class TestDocumentsStayWhole:
    def test_everything_but_the_score_is_kept(self, run, backend):
        document = Document(
            id="mine",
            content="x 1",
            blob=ByteStream(b"bytes"),
            meta={"a": {"b": [1]}},
            score=0.5,
            embedding=[0.1, 0.2],
        )
        (ranked,) = run(backend.build(), "q", [document])["documents"]
        assert ranked == replace(document, score=ranked.score)
        assert [ranked.score] == pytest.approx(backend.scores("q", ["x 1"]))

    def test_the_input_is_not_touched(self, run, backend, numbered):
        before = copy.deepcopy(numbered)
        run(backend.build(), "q", numbered)
        assert numbered == before

    def test_two_documents_have_not_one_dictionary_of_metadata(self, run, backend):
        document = Document(content="x 1", meta={"tags": ["a"]})
        (ranked,) = run(backend.build(), "q", [document])["documents"]
        ranked.meta["more"] = 1
        assert document.meta == {"tags": ["a"]}

    def test_what_cannot_be_copied_is_passed_on_in_the_metadata(self, run, backend):
        meta = {"lock": threading.Lock(), "reader": io.TextIOWrapper(io.BytesIO()), "big": [[]]}
        (ranked,) = run(backend.build(), "q", [Document(content="x 1", meta=meta)])["documents"]
        assert all(ranked.meta[name] is value for name, value in meta.items())

    def test_scores_are_python_floats(self, run, backend):
        output = run(backend.build(), "q", [Document(content="x")])
        assert type(output["documents"][0].score) is float

    def test_a_services_whole_numbers_are_floats_too(self, run, server, remote):
        def round_up(answer):
            answer["results"][0]["relevance_score"] = 1
            return answer

        server.default = Edited(round_up)
        output = run(remote(), "q", [Document(content="x")])
        assert type(output["documents"][0].score) is float

    def test_equal_scores_keep_their_order(self, run, backend):
        documents = [Document(id=name, content="the same") for name in "cab"]
        assert ids(run(backend.build(), "q", documents)) == ["c", "a", "b"]


class TestDuplicates:
    def test_an_id_is_ranked_once(self, run, backend):
        once = [Document(id="a", content="a 1"), Document(id="b", content="b 2")]
        output = run(backend.build(), "q", once * 2)
        assert ids(output) == backend.best("q", once)
        assert output["meta"]["usage"]["documents"] == 2

    def test_a_service_is_sent_it_once(self, run, server, remote):
        run(remote(), "q", [Document(id="a", content="a 1"), Document(id="b", content="b 2")] * 2)
        assert server.requests[-1].json["documents"] == ["a 1", "b 2"]

    @pytest.mark.parametrize(
        ("scores", "kept"),
        [
            ([0.1, 0.9, 0.5], 1),
            ([0.9, 0.1, 0.9], 0),
            ([None, -3.0, None], 1),
            ([None, None, None], 0),
            ([0.0, -0.5, None], 0),
        ],
    )
    def test_the_one_that_scored_highest_is_kept(self, run, backend, scores, kept):
        documents = [
            Document(id="a", content="a 1", score=score, meta={"came": i})
            for i, score in enumerate(scores)
        ]
        (ranked,) = run(backend.build(), "q", documents)["documents"]
        assert ranked.meta == {"came": kept}

    def test_it_keeps_the_first_ones_place(self, run, backend):
        documents = [
            Document(id="a", content="the same", score=0.1),
            Document(id="b", content="the same", score=0.5),
            Document(id="a", content="the same", score=0.9),
        ]
        assert ids(run(backend.build(), "q", documents)) == ["a", "b"]


class TestTextThatIsScored:
    def test_metadata_comes_first_falsy_values_included(self, run, backend):
        ranker = backend.build(
            meta_fields_to_embed=["title", "year", "open", "absent", "unset"],
            embedding_separator=" | ",
        )
        meta = {"open": False, "year": 0, "title": "T", "unset": None, "other": "no"}
        (ranked,) = run(ranker, "q", [Document(content="text", meta=meta)])["documents"]
        assert [ranked.score] == pytest.approx(backend.scores("q", ["T | 0 | False | text"]))

    def test_without_metadata_it_is_the_content(self, run, backend):
        document = Document(content="text", meta={"a": 1})
        (ranked,) = run(backend.build(), "q", [document])["documents"]
        assert [ranked.score] == pytest.approx(backend.scores("q", ["text"]))

    def test_no_content_is_an_empty_text(self, run, backend):
        documents = [Document(id="png", blob=ByteStream(b"png")), Document(id="q", content="q")]
        output = run(backend.build(), "q", documents)
        scores = {document.id: document.score for document in output["documents"]}
        expected = backend.scores("q", ["", "q"])
        assert [scores["png"], scores["q"]] == pytest.approx(expected)
        assert {document.content for document in output["documents"]} == {None, "q"}

    def test_no_content_anywhere_is_refused(self, run, backend):
        with pytest.raises(InputError, match="nothing to rank"):
            run(backend.build(), "q", [Document(id="a"), Document(id="b", content=" ")])

    def test_a_blank_query_is_refused(self, run, backend, numbered):
        with pytest.raises(InputError, match=r"^query: "):
            run(backend.build(), " ", numbered)


def test_nan_is_refused(run):
    scorer = FakeScorer(lambda _, text: math.nan if text == "b" else 1.0)
    documents = [Document(content=text) for text in "abc"]
    with pytest.raises(ScoringError, match="nan"):
        run(JinaRanker(reranker=Reranker(scorer)), "q", documents)


def test_a_degraded_answer_says_so(run):
    scorer = FakeScorer(degraded="the service did not answer")
    output = run(JinaRanker(reranker=Reranker(scorer)), "q", [Document(content="q")])
    assert output["meta"]["degraded"] == "the service did not answer"


async def test_run_works_inside_a_running_loop(backend, numbered):
    best = backend.best("q", numbered)
    assert ids(backend.build().run("q", numbered, top_k=1)) == best[:1]


def without_a_string(content):
    document = Document(content="x")
    with warnings.catch_warnings(action="ignore"):  # Haystack warns of it, and lets it be done
        document.content = content
    return document


class TestDocumentsThatAreNone:
    @pytest.mark.parametrize(
        ("documents", "argument", "fix"),
        [
            ([None], "documents[0]", "must be a Document, not NoneType; leave it out"),
            ([Document(content="1"), "text"], "documents[1]", r"by Document\(content=text\)"),
            ([{"content": "text"}], "documents[0]", "must be a Document, not dict"),
            ("text", "documents", "must be a list of Document objects, not one string"),
            (Document(content="1"), "documents", "not one; put it in a list"),
            ({"a": Document(content="1")}, "documents", "only the keys would be read"),
            (pd.DataFrame({"content": ["1"]}), "documents", "not DataFrame; pass the column"),
            (None, "documents", "not NoneType"),
            ([without_a_string(5)], "documents[0]", "must have a string as content, not int"),
        ],
    )
    def test_they_are_refused_before_anything_is_scored(
        self, run, ranker, scorer, documents, argument, fix
    ):
        with pytest.raises(InputError, match=fix) as caught:
            run(ranker, "q", documents)
        assert caught.value.argument == argument
        assert scorer.requests == []

    def test_an_error_counts_documents_as_they_were_passed_in(self, run, ranker):
        twice = Document(content="1")
        with pytest.raises(InputError) as caught:
            run(ranker, "q", [twice, twice, Document(content="2"), Document(content="3\0")])
        assert caught.value.argument == "documents[3]"

    def test_a_generator_is_ranked(self, run, ranker):
        output = run(ranker, "q", (Document(id=n, content=n) for n in "132"))
        assert ids(output) == ["3", "2", "1"]


def test_limits_may_be_numpys_numbers(run, scorer, numbered):
    ranker = JinaRanker(
        reranker=Reranker(scorer), top_k=np.int64(3), score_threshold=np.float32(10)
    )
    assert ids(run(ranker, "q", numbered)) == ["d11", "d10"]
    assert ids(run(ranker, "q", numbered, top_k=np.uint8(1))) == ["d11"]
    with pytest.raises(ValueError, match="top_k must be > 0, but got 0"):
        run(ranker, "q", numbered, top_k=np.int64(0))

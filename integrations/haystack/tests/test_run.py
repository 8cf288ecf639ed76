import copy
import math
from dataclasses import replace

import numpy as np
import pytest
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
    def test_top_k_is_10_unless_told(self, run, ranker, numbered):
        assert ids(run(ranker, "q", numbered)) == [f"d{n}" for n in range(11, 1, -1)]

    def test_none_at_construction_keeps_all(self, run, scorer, numbered):
        ranker = JinaRanker(top_k=None, reranker=Reranker(scorer))
        assert len(run(ranker, "q", numbered)["documents"]) == len(numbered)

    def test_more_than_there_are_keeps_all(self, run, ranker, numbered):
        assert len(run(ranker, "q", numbered, top_k=1000)["documents"]) == len(numbered)

    def test_a_run_may_ask_for_its_own(self, run, scorer, numbered):
        ranker = JinaRanker(top_k=2, score_threshold=5, reranker=Reranker(scorer))
        assert ids(run(ranker, "q", numbered)) == ["d11", "d10"]
        assert ids(run(ranker, "q", numbered, top_k=3)) == ["d11", "d10", "d9"]
        assert ids(run(ranker, "q", numbered, score_threshold=11)) == ["d11"]
        assert ids(run(ranker, "q", numbered)) == ["d11", "d10"]

    def test_a_score_equal_to_the_threshold_stays(self, run, ranker, numbered):
        assert ids(run(ranker, "q", numbered, score_threshold=9)) == ["d11", "d10", "d9"]

    def test_a_threshold_of_zero_is_a_threshold(self, run, scorer):
        documents = [Document(content="a -1"), Document(content="b 0"), Document(content="c 1")]
        ranker = JinaRanker(score_threshold=-5, reranker=Reranker(scorer))
        assert len(run(ranker, "q", documents)["documents"]) == 3
        assert len(run(ranker, "q", documents, score_threshold=0)["documents"]) == 2
        assert len(run(ranker, "q", documents, score_threshold=0.0)["documents"]) == 2

    def test_no_threshold_keeps_negative_scores(self, run, ranker):
        output = run(ranker, "q", [Document(content="a -0.5"), Document(content="b -0.089")])
        assert [document.score for document in output["documents"]] == [-0.089, -0.5]

    @pytest.mark.parametrize("top_k", [0, -1])
    def test_top_k_must_be_positive(self, run, ranker, numbered, top_k):
        with pytest.raises(ValueError, match=rf"^top_k must be > 0, but got {top_k}$"):
            run(ranker, "q", numbered, top_k=top_k)
        with pytest.raises(ValueError, match=rf"^top_k must be > 0, but got {top_k}$"):
            run(ranker, "q", [], top_k=top_k)

    @pytest.mark.parametrize(
        ("limits", "named"),
        [
            ({"top_k": 2.5}, "top_k"),
            ({"top_k": True}, "top_k"),
            ({"score_threshold": math.nan}, "score_threshold"),
            ({"score_threshold": "0.5"}, "score_threshold"),
        ],
    )
    def test_other_mistakes_are_named_too(self, run, ranker, numbered, limits, named):
        with pytest.raises(InputError, match=f"^{named}: ") as caught:
            run(ranker, "q", numbered, **limits)
        assert caught.value.argument == named


class TestNothingToRank:
    def test_every_output_is_there(self, run, ranker, scorer):
        assert run(ranker, "q", []) == {
            "documents": [],
            "meta": {
                "model": "fake",
                "usage": {
                    "documents": 0,
                    "tokens": 0,
                    "truncated_documents": None,
                    "truncated_query_tokens": None,
                },
                "degraded": None,
            },
        }
        assert scorer.requests == []

    def test_the_model_is_not_loaded(self, run):
        # Loading this one would fail.
        output = run(JinaRanker("/nowhere/at/all"), "q", [])
        assert output["meta"]["model"] == "/nowhere/at/all"

    def test_the_query_is_read_all_the_same(self, run, ranker):
        with pytest.raises(InputError, match=r"^query: "):
            run(ranker, " ", [])

    def test_a_threshold_nobody_reaches(self, run, ranker, numbered):
        output = run(ranker, "q", numbered, score_threshold=100)
        assert output["documents"] == []
        assert output["meta"]["usage"]["documents"] == len(numbered)


class TestDocumentsStayWhole:
    def test_everything_but_the_score_is_kept(self, run, ranker):
        document = Document(
            id="mine",
            content="x 1",
            blob=ByteStream(b"bytes"),
            meta={"a": {"b": [1]}},
            score=0.5,
            embedding=[0.1, 0.2],
        )
        (ranked,) = run(ranker, "q", [document])["documents"]
        assert ranked == replace(document, score=1.0)

    def test_the_input_is_not_touched(self, run, ranker, numbered):
        before = copy.deepcopy(numbered)
        run(ranker, "q", numbered)
        assert numbered == before

    def test_metadata_is_not_shared(self, run, ranker):
        document = Document(content="x 1", meta={"tags": ["a"]})
        (ranked,) = run(ranker, "q", [document])["documents"]
        ranked.meta["tags"].append("b")
        ranked.meta["more"] = 1
        assert document.meta == {"tags": ["a"]}

    def test_scores_are_python_floats(self, run):
        scorer = FakeScorer(lambda _, text: float(len(text)))
        output = run(JinaRanker(reranker=Reranker(scorer)), "q", [Document(content="x")])
        assert type(output["documents"][0].score) is float
        output = run(JinaRanker(), "q", [Document(content="x")])
        assert type(output["documents"][0].score) is float

    def test_equal_scores_keep_their_order(self, run, ranker):
        documents = [Document(id=name, content=f"{name} 1") for name in "cab"]
        assert ids(run(ranker, "q", documents)) == ["c", "a", "b"]


class TestDuplicates:
    def test_an_id_is_ranked_once(self, run, ranker, scorer):
        twice = [Document(id="a", content="a 1"), Document(id="b", content="b 2")] * 2
        output = run(ranker, "q", twice)
        assert ids(output) == ["b", "a"]
        assert scorer.requests[-1].documents == ["a 1", "b 2"]
        assert output["meta"]["usage"]["documents"] == 2

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
    def test_the_one_that_scored_highest_is_kept(self, run, ranker, scores, kept):
        documents = [
            Document(id="a", content="a 1", score=score, meta={"came": i})
            for i, score in enumerate(scores)
        ]
        (ranked,) = run(ranker, "q", documents)["documents"]
        assert ranked.meta == {"came": kept}

    def test_it_keeps_the_first_ones_place(self, run, ranker):
        documents = [
            Document(id="a", content="same 1", score=0.1),
            Document(id="b", content="same 1", score=0.5),
            Document(id="a", content="same 1", score=0.9),
        ]
        assert ids(run(ranker, "q", documents)) == ["a", "b"]


class TestTextThatIsScored:
    def test_metadata_comes_first_falsy_values_included(self, run):
        scorer = FakeScorer()
        ranker = JinaRanker(
            meta_fields_to_embed=["title", "year", "open", "absent", "unset"],
            embedding_separator=" | ",
            reranker=Reranker(scorer),
        )
        meta = {"open": False, "year": 0, "title": "T", "unset": None, "other": "no"}
        run(ranker, "q", [Document(content="text", meta=meta)])
        assert scorer.requests[-1].documents == ["T | 0 | False | text"]

    def test_without_metadata_it_is_the_content(self, run):
        scorer = FakeScorer()
        run(JinaRanker(reranker=Reranker(scorer)), "q", [Document(content="text", meta={"a": 1})])
        assert scorer.requests[-1].documents == ["text"]

    def test_no_content_is_an_empty_text(self, run):
        scorer = FakeScorer()
        documents = [Document(blob=ByteStream(b"png")), Document(content="q")]
        output = run(JinaRanker(reranker=Reranker(scorer)), "q", documents)
        assert scorer.requests[-1].documents == ["", "q"]
        assert output["documents"][1].content is None

    def test_no_content_anywhere_is_refused(self, run, ranker):
        with pytest.raises(InputError, match="nothing to rank"):
            run(ranker, "q", [Document(id="a"), Document(id="b", content=" ")])

    def test_a_blank_query_is_refused(self, run, ranker, numbered):
        with pytest.raises(InputError, match=r"^query: "):
            run(ranker, " ", numbered)


def test_nan_is_refused(run):
    scorer = FakeScorer(lambda _, text: math.nan if text == "b" else 1.0)
    documents = [Document(content=text) for text in "abc"]
    with pytest.raises(ScoringError, match="nan"):
        run(JinaRanker(reranker=Reranker(scorer)), "q", documents)


def test_a_degraded_answer_says_so(run):
    scorer = FakeScorer(degraded="the service did not answer")
    output = run(JinaRanker(reranker=Reranker(scorer)), "q", [Document(content="q")])
    assert output["meta"]["degraded"] == "the service did not answer"


async def test_run_works_inside_a_running_loop(ranker, numbered):
    assert ids(ranker.run("q", numbered, top_k=1)) == ["d11"]


def test_the_ranking_is_the_cores_own(run):
    texts = ["Grind finer for espresso.", "Tea is steeped.", "Milk is foamed.", "Espresso grind."]
    documents = [Document(content=text) for text in texts]
    output = run(JinaRanker(top_k=None), "How fine to grind for espresso?", documents)
    expected = Reranker().rank("How fine to grind for espresso?", texts)
    assert [d.content for d in output["documents"]] == [hit.text for hit in expected]
    np.testing.assert_allclose(
        [d.score for d in output["documents"]], [hit.score for hit in expected], rtol=1e-6
    )

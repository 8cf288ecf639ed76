"""Results of `compress_documents` and `acompress_documents`."""

import copy
import inspect
import json
import threading
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from langchain_core.documents import BaseDocumentCompressor, Document

from jina_rerank import InputError, Reranker, ResponseError, RetrievalOrder, ScoringError
from jina_rerank.testing import FakeScorer
from langchain_jina_rerank import JinaRerank

QUERY = "how to store coffee beans"


@pytest.fixture(params=["sync", "async"])
def compress(request):
    """Both methods, under one signature."""

    async def call(compressor, documents, query=QUERY):
        if request.param == "sync":
            return compressor.compress_documents(documents, query)
        return await compressor.acompress_documents(documents, query)

    return call


def numbered(*scores):
    return [Document(id=str(i), page_content=str(score)) for i, score in enumerate(scores)]


def ids(documents):
    return [document.id for document in documents]


def test_it_is_a_compressor_that_pipelines_can_hand_callbacks():
    assert issubclass(JinaRerank, BaseDocumentCompressor)
    for method in (JinaRerank.compress_documents, JinaRerank.acompress_documents):
        names = list(inspect.signature(method).parameters)
        assert names == ["self", "documents", "query", "callbacks"]
        assert inspect.signature(method).parameters["callbacks"].default is None


async def test_best_first_and_all_of_them_by_default(compress, by_number):
    assert ids(await compress(by_number(), numbered(0.2, 0.9, 0.5, 0.7))) == ["1", "3", "2", "0"]


@pytest.mark.parametrize(("top_n", "expected"), [(1, ["1"]), (2, ["1", "2"]), (9, ["1", "2", "0"])])
async def test_top_n_keeps_that_many_or_as_many_as_there_are(compress, top_n, expected, by_number):
    assert ids(await compress(by_number(top_n=top_n), numbered(0.2, 0.9, 0.5))) == expected


async def test_threshold_keeps_what_reaches_it(compress, by_number):
    assert ids(await compress(by_number(threshold=0.5), numbered(0.49, 0.5, 0.9))) == ["2", "1"]


async def test_nothing_may_be_left_by_the_threshold(compress, by_number):
    assert await compress(by_number(threshold=2), numbered(0.49, 0.5)) == []


async def test_negative_scores_are_kept_without_a_threshold_and_compared_with_one(
    compress, by_number
):
    documents = numbered(-0.9, -0.089, -0.5)
    assert ids(await compress(by_number(), documents)) == ["1", "2", "0"]
    assert ids(await compress(by_number(threshold=-0.5), documents)) == ["1", "2"]


async def test_equal_scores_keep_the_order_of_the_retriever(compress, by_number):
    assert ids(await compress(by_number(), numbered(0.5, 0.5, 0.9, 0.5))) == ["2", "0", "1", "3"]


async def test_duplicates_are_kept_each_with_its_own_score(compress, by_number):
    twice = Document(id="same", page_content="0.5")
    found = await compress(by_number(), [twice, Document(id="same", page_content="0.8"), twice])
    assert [(d.id, d.metadata["relevance_score"]) for d in found] == [
        ("same", 0.8),
        ("same", 0.5),
        ("same", 0.5),
    ]


async def test_ids_metadata_and_the_kind_of_document_survive(compress, documents, backend):
    class Page(Document):
        number: int

    page = Page(id="p", page_content="store coffee", metadata={"tags": ["x"]}, number=7)
    found = await compress(JinaRerank(**backend.settings), [*documents, page])
    expected = [
        (d.id, {**d.metadata, "relevance_score": pytest.approx(score)})
        for d, score in backend.ranking(QUERY, [*documents, page])
    ]
    assert [(d.id, d.metadata) for d in found] == expected
    (copied,) = [document for document in found if document.id == "p"]
    assert isinstance(copied, Page)
    assert copied.number == 7


async def test_what_was_passed_in_is_left_alone(compress, documents, backend):
    before = copy.deepcopy(documents)
    originals = list(documents)
    found = await compress(JinaRerank(**backend.settings), documents)
    found[0].metadata["mine"] = True
    assert documents == before
    assert all(now is then for now, then in zip(documents, originals, strict=True))


async def test_any_sequence_of_documents_will_do(compress, by_number):
    assert ids(await compress(by_number(), tuple(numbered(0.1, 0.2)))) == ["1", "0"]


async def test_top_n_and_threshold_cut_what_a_model_has_ranked(compress, documents, backend):
    ranking = backend.ranking(QUERY, documents)
    second = ranking[1][1]
    expected = [document.id for document, _ in ranking]
    assert ids(await compress(JinaRerank(**backend.settings, top_n=2), documents)) == expected[:2]
    strict = JinaRerank(**backend.settings, threshold=second - 1e-5)
    assert ids(await compress(strict, documents)) == expected[:2]
    strictest = JinaRerank(**backend.settings, threshold=second + 1e-5)
    assert ids(await compress(strictest, documents)) == expected[:1]


async def test_no_documents_give_an_empty_list_and_ask_nothing_of_the_scorer(compress):
    scorer = FakeScorer()
    assert await compress(JinaRerank(reranker=Reranker(scorer)), []) == []
    assert scorer.requests == []
    assert scorer.warm_ups == 0


async def test_no_documents_ask_nothing_of_a_service(compress, service):
    remote = JinaRerank(backend="remote", base_url=service.url)
    assert await compress(remote, []) == []
    assert service.connections == 0


async def test_a_blank_document_is_scored_and_only_all_blank_is_refused(compress, backend):
    compressor = JinaRerank(**backend.settings)
    blank, full = Document(id="blank", page_content=""), Document(id="full", page_content="beans")
    found = await compress(compressor, [blank, full])
    assert ids(found) == backend.order(QUERY, [blank, full])
    with pytest.raises(InputError, match="all 2 are blank"):
        await compress(compressor, [blank, Document(page_content=" \n")])


async def test_a_blank_query_is_refused(compress, documents, backend):
    for candidates in (documents, []):
        with pytest.raises(InputError, match="query: is blank"):
            await compress(JinaRerank(**backend.settings), candidates, query=" ")


async def test_documents_are_read_and_copied_in_another_thread_than_the_event_loops():
    class Title:
        def __str__(self):
            threads.append(threading.current_thread())
            return ""

    class Watched(Document):
        def model_copy(self, **changes):
            threads.append(threading.current_thread())
            return super().model_copy(**changes)

    threads = []
    compressor = JinaRerank(
        reranker=Reranker(FakeScorer(lambda _query, text: float(text))), metadata_fields=["title"]
    )
    document = Watched(page_content="0.5", metadata={"title": Title()})
    (found,) = await compressor.acompress_documents([document], QUERY)
    assert found.metadata["relevance_score"] == 0.5
    assert len(threads) == 2
    assert threading.current_thread() not in threads


async def test_nan_is_refused_instead_of_sorted(compress, by_number):
    with pytest.raises((ScoringError, ResponseError), match=r"as nan|NaN is no number"):
        await compress(by_number(), numbered(0.2, "nan", 0.9))


async def test_a_degraded_answer_says_so_on_every_document(compress, documents):
    scorer = FakeScorer(degraded="service down, retrieval order kept")
    found = await compress(JinaRerank(reranker=Reranker(scorer)), documents)
    assert {d.metadata["relevance_degraded"] for d in found} == {
        "service down, retrieval order kept"
    }
    assert not any("relevance_unscored" in d.metadata for d in found)


async def test_documents_that_nothing_has_scored_are_marked_one_by_one(compress, documents):
    class Partial(FakeScorer):
        def score(self, requests, on_scored=None):
            answers = super().score(requests, on_scored)
            return [replace(a, scores=[0.9, 0.1, 0.2], unscored=(1, 2)) for a in answers]

    compressor = JinaRerank(reranker=Reranker(Partial(degraded="two parts failed")))
    found = await compress(compressor, documents)
    assert [(d.id, d.metadata.get("relevance_unscored")) for d in found] == [
        ("a", None),
        ("c", True),
        ("b", True),
    ]


async def test_the_last_resort_keeps_the_order_and_says_that_nothing_was_scored(
    compress, documents
):
    last_resort = JinaRerank(reranker=Reranker(RetrievalOrder()), threshold=2.0, top_n=2)
    found = await compress(last_resort, documents)
    assert ids(found) == ["a", "b"]
    assert all(d.metadata["relevance_unscored"] is True for d in found)
    again = await compress(JinaRerank(reranker=Reranker(FakeScorer())), found)
    assert not any("relevance_unscored" in d.metadata for d in again)


async def test_a_second_reranking_replaces_all_that_the_first_one_said(
    compress, documents, backend
):
    first = JinaRerank(reranker=Reranker(FakeScorer(lambda *_: 0.99, degraded="in a hurry")))
    second = JinaRerank(**backend.settings)
    once = await compress(first, documents)
    assert await compress(second, once) == await compress(second, documents)


async def scored_texts(compress, documents, **settings):
    scorer = FakeScorer()
    await compress(JinaRerank(reranker=Reranker(scorer), **settings), documents)
    return list(scorer.requests[0].documents)


async def test_only_the_content_is_scored_by_default(compress, documents):
    assert await scored_texts(compress, documents) == [d.page_content for d in documents]


async def test_named_metadata_goes_before_the_text_in_the_order_named(compress):
    documents = [Document(page_content="body", metadata={"page": 3, "title": "Beans", "x": "y"})]
    texts = await scored_texts(compress, documents, metadata_fields=["title", "page"])
    assert texts == ["Beans\n3\nbody"]


@pytest.mark.parametrize("falsy", [0, 0.0, False])
async def test_falsy_metadata_counts(compress, falsy):
    documents = [Document(page_content="body", metadata={"page": falsy})]
    assert await scored_texts(compress, documents, metadata_fields=["page"]) == [f"{falsy}\nbody"]


async def test_none_and_absent_metadata_leave_no_trace(compress):
    documents = [
        Document(page_content="body", metadata={"title": None}),
        Document(page_content="body", metadata={}),
    ]
    assert await scored_texts(compress, documents, metadata_fields=["title"]) == ["body", "body"]


async def test_metadata_is_scored_and_the_documents_returned_keep_their_own_text(compress, backend):
    document = Document(page_content="body", metadata={"title": "store"})
    compressor = JinaRerank(**backend.settings, metadata_fields=["title"])
    (found,) = await compress(compressor, [document])
    ((_, score),) = backend.ranking(QUERY, [Document(page_content="store\nbody")])
    assert found.page_content == "body"
    assert found.metadata == {"title": "store", "relevance_score": pytest.approx(score)}


async def test_scores_are_python_floats(compress, documents, backend):
    found = await compress(JinaRerank(**backend.settings), documents)
    scores = [document.metadata["relevance_score"] for document in found]
    assert {type(score) for score in scores} == {float}
    assert json.loads(json.dumps(scores)) == scores


async def test_the_embedded_model_finds_the_answer(compress):
    documents = [
        Document(page_content="A coffee machine is descaled with citric acid."),
        Document(page_content="Keep whole coffee beans in an airtight jar, away from light."),
        Document(page_content="The capital of France is Paris."),
    ]
    found = await compress(JinaRerank(), documents, "How should I store coffee beans?")
    scores = [document.metadata["relevance_score"] for document in found]
    assert found[0].page_content == documents[1].page_content
    assert scores == sorted(
        Reranker().score("How should I store coffee beans?", [d.page_content for d in documents]),
        reverse=True,
    )


async def test_a_text_cut_short_says_how_much_was_not_read(compress):
    long, short = Document(page_content="coffee beans " * 200), Document(page_content="beans")
    found = await compress(JinaRerank(max_length=64), [long, short], "coffee")
    cut = {len(d.page_content): d.metadata.get("relevance_truncated_tokens") for d in found}
    assert cut[len(short.page_content)] is None
    assert 300 < cut[len(long.page_content)] < 400


def with_field(name, value):
    document = Document(page_content="1")
    setattr(document, name, value)
    return document


@pytest.mark.parametrize(
    ("documents", "argument", "fix"),
    [
        ([None], "documents[0]", "must be a Document, not NoneType; leave it out"),
        ([*numbered(1), "text"], "documents[1]", r"by Document\(page_content=text\)"),
        ("text", "documents", "must be a list of Document objects, not one string"),
        (Document(page_content="1"), "documents", "not one; put it in a list"),
        ({"a": Document(page_content="1")}, "documents", "only the keys would be read"),
        (pd.DataFrame({"page_content": ["1"]}), "documents", "not DataFrame; pass the column"),
        (None, "documents", "not NoneType"),
        ([with_field("metadata", None)], "documents[0]", "must have a dict as metadata"),
        ([with_field("page_content", 5)], "documents[0]", "must have a string as page_content"),
    ],
    ids=repr,
)
async def test_what_is_no_list_of_documents_is_refused_before_anything_is_scored(
    compress, documents, argument, fix
):
    scorer = FakeScorer()
    with pytest.raises(InputError, match=fix) as caught:
        await compress(JinaRerank(reranker=Reranker(scorer)), documents)
    assert caught.value.argument == argument
    assert scorer.requests == []


async def test_a_generator_of_documents_is_ranked(compress, by_number):
    found = await compress(by_number(top_n=2), (document for document in numbered(0.1, 0.9, 0.5)))
    assert ids(found) == ["1", "2"]


async def test_metadata_that_cannot_be_copied_stays_with_its_document(compress, by_number):
    lock = threading.Lock()
    (found,) = await compress(
        by_number(), [Document(page_content="0.5", metadata={"lock": lock, "big": [[]]})]
    )
    assert found.metadata["lock"] is lock


async def test_numpys_numbers_are_numbers(compress, by_number):
    compressor = by_number(top_n=np.int64(2), threshold=np.float32(0.4))
    assert ids(await compress(compressor, numbered(0.1, 0.9, 0.5, 0.7))) == ["1", "3"]
    assert (
        json.loads(
            compressor.model_copy(update={"top_n": np.uint8(1)}).model_dump_json(
                exclude={"reranker"}
            )
        )["top_n"]
        == 1
    )

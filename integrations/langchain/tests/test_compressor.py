"""What comes back from `compress_documents` and `acompress_documents`."""

import copy
import inspect
import json

import pytest
from langchain_core.documents import BaseDocumentCompressor, Document

from jina_rerank import InputError, Reranker, ScoringError
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


def by_number(**settings):
    """A compressor to which a document's text is its score."""
    scorer = FakeScorer(lambda _query, document: float(document))
    return JinaRerank(reranker=Reranker(scorer), **settings)


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


async def test_best_first_and_all_of_them_by_default(compress):
    assert ids(await compress(by_number(), numbered(0.2, 0.9, 0.5, 0.7))) == ["1", "3", "2", "0"]


@pytest.mark.parametrize(("top_n", "expected"), [(1, ["1"]), (2, ["1", "2"]), (9, ["1", "2", "0"])])
async def test_top_n_keeps_that_many_or_as_many_as_there_are(compress, top_n, expected):
    assert ids(await compress(by_number(top_n=top_n), numbered(0.2, 0.9, 0.5))) == expected


async def test_threshold_keeps_what_reaches_it(compress):
    assert ids(await compress(by_number(threshold=0.5), numbered(0.49, 0.5, 0.9))) == ["2", "1"]


async def test_nothing_may_be_left_by_the_threshold(compress):
    assert await compress(by_number(threshold=2), numbered(0.49, 0.5)) == []


async def test_negative_scores_are_kept_without_a_threshold_and_compared_with_one(compress):
    documents = numbered(-0.9, -0.089, -0.5)
    assert ids(await compress(by_number(), documents)) == ["1", "2", "0"]
    assert ids(await compress(by_number(threshold=-0.5), documents)) == ["1", "2"]


async def test_equal_scores_keep_the_order_of_the_retriever(compress):
    assert ids(await compress(by_number(), numbered(0.5, 0.5, 0.9, 0.5))) == ["2", "0", "1", "3"]


async def test_duplicates_are_kept_each_with_its_own_score(compress):
    twice = Document(id="same", page_content="0.5")
    found = await compress(by_number(), [twice, Document(id="same", page_content="0.8"), twice])
    assert [(d.id, d.metadata["relevance_score"]) for d in found] == [
        ("same", 0.8),
        ("same", 0.5),
        ("same", 0.5),
    ]


async def test_ids_metadata_and_the_kind_of_document_survive(compress, documents):
    class Page(Document):
        number: int

    page = Page(id="p", page_content="store coffee", metadata={"tags": ["x"]}, number=7)
    compressor = JinaRerank(reranker=Reranker(FakeScorer()))
    found = await compress(compressor, [*documents, page])
    by_id = {document.id: document for document in found}
    assert by_id["a"].metadata == {"source": "a.md", "relevance_score": 0.2}
    assert by_id["b"].metadata == {"page": 0, "relevance_score": 0.6}
    assert by_id["c"].metadata == {"relevance_score": 0.0}
    assert by_id["p"].metadata == {"tags": ["x"], "relevance_score": 0.4}
    assert isinstance(by_id["p"], Page)
    assert by_id["p"].number == 7


async def test_what_was_passed_in_is_left_alone(compress, documents):
    before = copy.deepcopy(documents)
    originals = list(documents)
    found = await compress(JinaRerank(reranker=Reranker(FakeScorer())), documents)
    found[0].metadata["mine"] = True
    assert documents == before
    assert all(now is then for now, then in zip(documents, originals, strict=True))


async def test_any_sequence_of_documents_will_do(compress):
    assert ids(await compress(by_number(), tuple(numbered(0.1, 0.2)))) == ["1", "0"]


async def test_no_documents_give_an_empty_list_and_ask_nothing_of_the_scorer(compress):
    scorer = FakeScorer()
    assert await compress(JinaRerank(reranker=Reranker(scorer)), []) == []
    assert scorer.requests == []
    assert scorer.warm_ups == 0


async def test_a_blank_document_is_scored_and_only_all_blank_is_refused(compress):
    compressor = JinaRerank(reranker=Reranker(FakeScorer()))
    blank, full = Document(page_content=""), Document(page_content="store beans")
    found = await compress(compressor, [blank, full])
    assert [d.page_content for d in found] == ["store beans", ""]
    with pytest.raises(InputError, match="all 2 are blank"):
        await compress(compressor, [blank, Document(page_content=" \n")])


async def test_a_blank_query_is_refused(compress, documents):
    with pytest.raises(InputError, match="query: is blank"):
        await compress(JinaRerank(reranker=Reranker(FakeScorer())), documents, query=" ")


async def test_nan_is_refused_instead_of_sorted(compress):
    with pytest.raises(ScoringError, match=r"documents\[1\] as nan"):
        await compress(by_number(), numbered(0.2, "nan", 0.9))


async def test_an_answer_second_best_says_so_on_every_document(compress, documents):
    scorer = FakeScorer(degraded="service down, retrieval order kept")
    found = await compress(JinaRerank(reranker=Reranker(scorer)), documents)
    assert {d.metadata["relevance_degraded"] for d in found} == {
        "service down, retrieval order kept"
    }


async def test_a_second_reranking_replaces_all_that_the_first_one_said(compress, documents):
    first = JinaRerank(reranker=Reranker(FakeScorer(lambda *_: 0.99, degraded="in a hurry")))
    second = JinaRerank(reranker=Reranker(FakeScorer()))
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


async def test_the_documents_returned_keep_their_own_text(compress):
    document = Document(page_content="body", metadata={"title": "store"})
    compressor = JinaRerank(reranker=Reranker(FakeScorer()), metadata_fields=["title"])
    (found,) = await compress(compressor, [document])
    assert found.page_content == "body"
    assert found.metadata == {"title": "store", "relevance_score": 0.2}


async def test_the_embedded_model_finds_the_answer_and_scores_in_python_floats(compress):
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
    assert {type(score) for score in scores} == {float}
    assert json.loads(json.dumps(scores)) == scores


async def test_a_text_cut_short_says_how_much_was_not_read(compress):
    long, short = Document(page_content="coffee beans " * 200), Document(page_content="beans")
    found = await compress(JinaRerank(max_length=64), [long, short], "coffee")
    cut = {len(d.page_content): d.metadata.get("relevance_truncated_tokens") for d in found}
    assert cut[len(short.page_content)] is None
    assert 300 < cut[len(long.page_content)] < 400

"""The official integration: what it gets wrong, and what it gets right."""

import warnings

import dialect_answers
import pytest
from faults import Right
from langchain_core.documents import Document

QUERY = "how to store coffee beans"
KEY = "jina_secret-0123456789"


def ids(documents):
    return [document.id for document in documents]


def scores(documents):
    return [document.metadata["relevance_score"] for document in documents]


def best_first(documents, query=QUERY):
    by_id = {d.id: dialect_answers.score(query, d.page_content) for d in documents}
    return sorted(by_id, key=by_id.__getitem__, reverse=True)


@pytest.mark.parametrize(
    "shape",
    [
        Right(document="string"),
        Right(document="object"),
        Right(document="absent"),
        Right(order="shuffled"),
        Right(order="given"),
        Right(drop=["model"]),
        Right(drop=["usage"]),
        Right(drop=["model", "usage", "object"]),
        Right(extra={"usage": None}, result_extra={"note": 1}),
    ],
    ids=repr,
)
async def test_every_shape_of_a_right_answer_is_read(search, remote, service, documents, shape):
    service.default = shape
    found = await search(remote(top_n=2))
    assert ids(found) == best_first(documents)[:2]
    assert scores(found) == sorted(scores(found), reverse=True)


@pytest.fixture
def official(monkeypatch, service):
    """Makes the official compressor, for the service."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it is no longer maintained
        from langchain_community.document_compressors import jina_rerank
    monkeypatch.setattr(jina_rerank, "JINA_API_URL", f"{service.url}/v1/rerank")
    made = []

    def make(**settings):
        made.append(jina_rerank.JinaRerank(jina_api_key=KEY, **settings))
        return made[-1]

    yield make
    for each in made:
        each.session.close()


@pytest.mark.parametrize("top_n", [1, 2, 20, None])
def test_the_official_client_agrees(official, remote, top_n):
    documents = [
        Document(id=str(i), page_content=f"document {i}", metadata={"i": i}) for i in range(20)
    ]
    theirs = official(top_n=top_n).compress_documents(documents, QUERY)
    ours = remote(top_n=top_n).compress_documents(documents, QUERY)
    assert len(ours) == (top_n or 20)
    assert [(d.page_content, d.metadata) for d in ours] == [
        (d.page_content, d.metadata) for d in theirs
    ]

"""Real pipelines: real retrievers and a real document store feed the ranker."""

import asyncio
import threading

import pytest
from haystack import Document, Pipeline, component
from haystack.components.joiners import DocumentJoiner
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.core.errors import PipelineRuntimeError
from haystack.document_stores.in_memory import InMemoryDocumentStore

from haystack_integrations.components.rankers.jina_rerank import JinaRanker
from jina_rerank import ConfigurationError, InputError, Reranker
from jina_rerank.testing import FakeScorer

QUERY = "What is the capital of Germany?"
TEXTS = (
    # BM25 counts words, and this one has them many times.
    "What is the length of the river Rhine in Germany, and what is the length of it in France?",
    "Berlin is the capital of Germany.",
    "Paris is the capital of France.",
    "Bread is made of flour.",
)


@pytest.fixture
def store():
    store = InMemoryDocumentStore()
    store.write_documents([Document(content=text, meta={"n": n}) for n, text in enumerate(TEXTS)])
    return store


def build(store, ranker):
    pipeline = Pipeline()
    pipeline.add_component("retriever", InMemoryBM25Retriever(store))
    pipeline.add_component("ranker", ranker)
    pipeline.connect("retriever.documents", "ranker.documents")
    return pipeline


def inputs(query=QUERY, **limits):
    return {"retriever": {"query": query}, "ranker": {"query": query, **limits}}


def best(backend):
    return max(zip(backend.scores(QUERY, list(TEXTS)), TEXTS, strict=True))[1]


def test_retrieve_and_rank(execute, store, backend):
    output = execute(build(store, backend.build()), inputs(top_k=2))["ranker"]
    assert output["documents"][0].content == best(backend)
    assert len(output["documents"]) == 2
    assert output["meta"]["usage"]["documents"] == len(TEXTS)


def test_the_embedded_model_finds_what_bm25_did_not(execute, store):
    output = execute(build(store, JinaRanker()), inputs(top_k=1))["ranker"]
    assert output["documents"][0].content == "Berlin is the capital of Germany."


def test_two_retrievers_without_a_joiner(execute, store, backend):
    pipeline = build(store, backend.build())
    pipeline.add_component("second", InMemoryBM25Retriever(store, top_k=2, scale_score=True))
    pipeline.connect("second.documents", "ranker.documents")
    output = execute(
        pipeline, {**inputs(), "second": {"query": QUERY}}, include_outputs_from={"second"}
    )
    assert len(output["second"]["documents"]) == 2
    found = [document.content for document in output["ranker"]["documents"]]
    assert sorted(found) == sorted(TEXTS)
    assert output["ranker"]["meta"]["usage"]["documents"] == len(TEXTS)


def test_a_component_behind_meta_runs_even_when_nothing_was_found(execute, backend):
    @component
    class Bill:
        @component.output_types(documents=int)
        def run(self, meta: dict):
            return {"documents": meta["usage"]["documents"]}

    pipeline = build(InMemoryDocumentStore(), backend.build())
    pipeline.add_component("bill", Bill())
    pipeline.connect("ranker.meta", "bill.meta")
    output = execute(pipeline, inputs())
    assert output["bill"] == {"documents": 0}
    assert output["ranker"]["documents"] == []


def test_an_error_names_the_component_and_keeps_its_cause(execute, store, backend):
    with pytest.raises(PipelineRuntimeError, match="ranker") as caught:
        execute(build(store, backend.build()), inputs(top_k=0))
    assert type(caught.value.__cause__) is ValueError
    data = {"retriever": {"query": QUERY}, "ranker": {"query": " "}}
    with pytest.raises(PipelineRuntimeError, match="ranker") as caught:
        execute(build(store, backend.build()), data)
    assert isinstance(caught.value.__cause__, InputError)
    assert caught.value.__cause__.argument == "query"


def test_a_pipeline_is_dumped_and_loaded_under_the_default_allowlist(store, backend):
    ranker = backend.build(top_k=1, score_threshold=0.1, meta_fields_to_embed=["n"])
    pipeline = build(store, ranker)
    text = pipeline.dumps()
    loaded = Pipeline.loads(text)
    assert loaded.get_component("ranker").to_dict() == ranker.to_dict()
    assert loaded.dumps() == text
    documents = [Document(content=text) for text in TEXTS]
    alone = {"query": QUERY, "documents": documents}
    assert loaded.get_component("ranker").run(**alone) == ranker.run(**alone)


def test_a_pipeline_with_a_shared_reranker_is_not_dumped(store):
    with pytest.raises(ConfigurationError, match="cannot be serialized"):
        build(store, JinaRanker(reranker=Reranker(FakeScorer()))).dumps()


def test_no_document_is_mutated_on_the_way(execute, store, backend):
    # Haystack warns of every mutation, and a warning is an error in these tests.
    before = {d.id: d.to_dict() for d in store.filter_documents()}
    execute(build(store, backend.build()), inputs())
    assert {d.id: d.to_dict() for d in store.filter_documents()} == before


def test_two_rankers_in_a_row(execute, store, backend):
    pipeline = build(store, backend.build(top_k=3))
    pipeline.add_component("again", backend.build(top_k=1))
    pipeline.connect("ranker.documents", "again.documents")
    output = execute(pipeline, {**inputs(), "again": {"query": QUERY}})
    assert [d.content for d in output["again"]["documents"]] == [best(backend)]


async def test_many_runs_at_a_time(store, backend):
    pipeline = build(store, backend.build(top_k=1))
    outputs = await asyncio.gather(*(pipeline.run_async(inputs()) for _ in range(8)))
    assert {o["ranker"]["documents"][0].content for o in outputs} == {best(backend)}


def test_metadata_that_cannot_be_copied_goes_through_a_pipeline_as_through_its_joiner(execute):
    lock = threading.Lock()
    pipeline = Pipeline()
    pipeline.add_component("joiner", DocumentJoiner())
    pipeline.add_component("ranker", JinaRanker(reranker=Reranker(FakeScorer())))
    pipeline.connect("joiner.documents", "ranker.documents")
    found = [Document(content=text, meta={"lock": lock}) for text in TEXTS]
    output = execute(pipeline, {"joiner": {"documents": found}, "ranker": {"query": TEXTS[2]}})
    assert output["ranker"]["documents"][0].content == TEXTS[2]
    assert output["ranker"]["documents"][0].meta["lock"] is lock

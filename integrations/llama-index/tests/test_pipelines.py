"""Inside LlamaIndex's own engines, evaluators and tools, over a real BM25 retriever."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from llama_index.core.chat_engine import ContextChatEngine
from llama_index.core.evaluation import RetrieverEvaluator
from llama_index.core.llms import MockLLM
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.objects import ObjectRetriever, SimpleObjectNodeMapping
from llama_index.core.postprocessor import (
    LongContextReorder,
    MetadataReplacementPostProcessor,
    SimilarityPostprocessor,
)
from llama_index.core.query_engine import CitationQueryEngine, RetrieverQueryEngine
from llama_index.core.response_synthesizers import ResponseMode
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.core.tools import RetrieverTool
from llama_index.retrievers.bm25 import BM25Retriever

from jina_rerank import Reranker
from jina_rerank.testing import FakeScorer
from llama_index.postprocessor.jina_rerank import JinaRerank

QUERY = "What is the best temperature for brewing green tea?"
ANSWER = "answer"
PASSAGES = {
    # BM25 counts words, and this one has them many times.
    "lure": "What do I do at a green brew? I brew a green brew at what I do.",
    ANSWER: "Brew green tea at 80 degrees Celsius and black tea just off the boil.",
    "cup": "A tea cup holds 150 ml of water, be the tea green or black.",
    "boiler": "A water boiler should be descaled every month, and what do I do at the end?",
    "rome": "Rome has been the capital of Italy since 1871.",
}
# What the service says; the embedded model has its own opinion, and the same order.
SCORES = dict(zip(PASSAGES.values(), (0.25, 0.875, 0.75, 0.5, 0.125), strict=True))


@pytest.fixture
def retriever():
    nodes = [TextNode(id_=id_, text=text) for id_, text in PASSAGES.items()]
    return BM25Retriever.from_defaults(nodes=nodes, similarity_top_k=4)


@pytest.fixture
def backend(backend, request):
    if not backend.is_remote:
        return backend
    request.getfixturevalue("server").score_by(lambda _, text: SCORES[text])
    return replace(backend, scores=lambda _, texts: [SCORES[text] for text in texts])


@pytest.fixture
def rerank(backend):
    """The answer first, then the cup."""
    return backend.build(top_n=2)


def ids(nodes):
    return [node.node_id for node in nodes]


def close_to(scores):
    # In bfloat16 the other texts of a batch show in a score's last digits.
    return pytest.approx(scores, abs=1e-3)


def test_bm25_alone_does_not_put_the_answer_first(retriever):
    found = ids(retriever.retrieve(QUERY))
    assert found[0] == "lure"
    assert ANSWER in found


@pytest.mark.parametrize("mode", [ResponseMode.COMPACT, ResponseMode.TREE_SUMMARIZE])
async def test_a_query_engine_answers_from_the_reranked_nodes(backend, retriever, rerank, mode):
    engine = RetrieverQueryEngine.from_args(
        retriever, llm=MockLLM(), node_postprocessors=[rerank], response_mode=mode
    )
    found = {n.node_id: n.score for n in retriever.retrieve(QUERY)}
    expected = backend.scores(QUERY, [PASSAGES[ANSWER], PASSAGES["cup"]])
    for response in (engine.query(QUERY), await engine.aquery(QUERY)):
        assert ids(response.source_nodes) == [ANSWER, "cup"]
        assert [n.score for n in response.source_nodes] == close_to(expected)
        assert [n.retrieval_score for n in response.source_nodes] == [found[ANSWER], found["cup"]]
        # MockLLM says its prompt, so this is what a language model would have read.
        said = str(response)
        assert said.index(PASSAGES[ANSWER]) < said.index(PASSAGES["cup"])
        assert PASSAGES["lure"] not in said


def test_metadata_reaches_neither_the_prompt_nor_the_node(retriever, rerank):
    engine = RetrieverQueryEngine.from_args(retriever, llm=MockLLM(), node_postprocessors=[rerank])
    response = engine.query(QUERY)
    assert all(n.metadata == {} for n in response.source_nodes)
    assert "retrieval_score" not in str(response)


def test_other_postprocessors_may_come_before_and_after(retriever, rerank):
    rerank.top_n = None
    ranked = rerank.postprocess_nodes(retriever.retrieve(QUERY), query_str=QUERY)
    engine = RetrieverQueryEngine.from_args(
        retriever,
        llm=MockLLM(),
        node_postprocessors=[
            MetadataReplacementPostProcessor(target_metadata_key="window"),
            rerank,
            SimilarityPostprocessor(similarity_cutoff=(ranked[1].score + ranked[2].score) / 2),
            LongContextReorder(),
        ],
    )
    assert sorted(ids(engine.query(QUERY).source_nodes)) == sorted(ids(ranked[:2]))


def test_a_threshold_that_nothing_reaches_leaves_the_engine_without_context(retriever, rerank):
    rerank.threshold = 0.99999
    engine = RetrieverQueryEngine.from_args(retriever, llm=MockLLM(), node_postprocessors=[rerank])
    response = engine.query(QUERY)
    assert response.source_nodes == []
    assert str(response) == "Empty Response"


async def test_a_chat_engine(retriever, rerank):
    engine = ContextChatEngine.from_defaults(
        retriever,
        llm=MockLLM(),
        memory=ChatMemoryBuffer.from_defaults(token_limit=3000),
        node_postprocessors=[rerank],
    )
    assert ids(engine.chat(QUERY).source_nodes) == [ANSWER, "cup"]
    assert ids((await engine.achat(QUERY)).source_nodes) == [ANSWER, "cup"]


def test_a_citation_engine(retriever, rerank):
    engine = CitationQueryEngine.from_args(
        None, llm=MockLLM(), retriever=retriever, node_postprocessors=[rerank]
    )
    response = engine.query(QUERY)
    assert PASSAGES[ANSWER] in response.source_nodes[0].text


async def test_a_retriever_tool(retriever, rerank):
    tool = RetrieverTool.from_defaults(retriever, node_postprocessors=[rerank])
    assert ids(tool.call(QUERY).raw_output) == [ANSWER, "cup"]
    assert ids((await tool.acall(QUERY)).raw_output) == [ANSWER, "cup"]


async def test_the_evaluator_calls_the_sync_method_inside_a_running_loop(retriever, rerank):
    def evaluator(*postprocessors):
        return RetrieverEvaluator.from_metric_names(
            ["mrr", "hit_rate"], retriever=retriever, node_postprocessors=list(postprocessors)
        )

    alone = await evaluator().aevaluate(QUERY, expected_ids=[ANSWER])
    reranked = await evaluator(rerank).aevaluate(QUERY, expected_ids=[ANSWER])
    assert alone.metric_vals_dict["mrr"] < 1
    assert reranked.metric_vals_dict == {"mrr": 1, "hit_rate": 1}
    assert reranked.retrieved_ids == [ANSWER, "cup"]


async def test_an_object_retriever(rerank):
    mapping = SimpleObjectNodeMapping.from_objects(list(PASSAGES.values()))
    nodes = mapping.to_nodes(list(PASSAGES.values()))
    retriever = BM25Retriever.from_defaults(nodes=nodes, similarity_top_k=4)
    objects = ObjectRetriever(retriever, mapping, node_postprocessors=[rerank])
    assert objects.retrieve(QUERY)[0] == PASSAGES[ANSWER]
    assert (await objects.aretrieve(QUERY))[0] == PASSAGES[ANSWER]


class Waiting(FakeScorer):
    """Answers async calls once `expected` of them wait at the same time, and no others."""

    def __init__(self, expected):
        super().__init__(lambda _, text: float(text))
        self.waiting, self.expected = 0, expected
        self.all_here = asyncio.Event()

    def score(self, requests, on_scored=None):
        raise AssertionError("the async path must not call the sync one")

    async def ascore(self, requests, on_scored=None):
        self.waiting += 1
        if self.waiting == self.expected:
            self.all_here.set()
        await self.all_here.wait()
        return FakeScorer.score(self, requests, on_scored)


async def test_async_calls_wait_together_and_do_not_mix_up(numbers):
    scorer = Waiting(expected=20)
    rerank = JinaRerank(reranker=Reranker(scorer))

    async def one(i):
        nodes = [NodeWithScore(node=TextNode(text=f"{i}.{j}")) for j in range(5)]
        reranked = await rerank.apostprocess_nodes(nodes, query_str=f"query {i}")
        return ids(reranked) == ids(reversed(nodes))

    async with asyncio.timeout(30):
        assert all(await asyncio.gather(*(one(i) for i in range(20))))


def test_threads_share_one_postprocessor(backend):
    rerank = backend.build(top_n=1)
    together = threading.Barrier(4)

    def ask(id_):
        # Each thread's best is another one, so that answers which mix are seen.
        nodes = [NodeWithScore(node=TextNode(text=PASSAGES[i], id_=i)) for i in (id_, "boiler")]
        together.wait(timeout=30)
        return rerank.postprocess_nodes(nodes, query_str=QUERY)

    asked = [ANSWER, "cup"] * 2
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ask, asked))
    assert [ids(nodes) for nodes in found] == [[id_] for id_ in asked]
    expected = backend.scores(QUERY, [PASSAGES[id_] for id_ in asked])
    assert [nodes[0].score for nodes in found] == close_to(expected)


def test_one_postprocessor_serves_one_event_loop_after_another(backend):
    nodes = [NodeWithScore(node=TextNode(text=t, id_=i)) for i, t in PASSAGES.items()]
    rerank = backend.build(top_n=1)
    for _ in range(2):
        call = rerank.apostprocess_nodes(nodes, query_str=QUERY)
        assert ids(asyncio.run(call)) == [ANSWER]

"""What happens to nodes: order, scores, text, and that nothing is changed or lost."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import (
    Document,
    ImageNode,
    IndexNode,
    MediaResource,
    MetadataMode,
    Node,
    NodeWithScore,
    QueryBundle,
    TextNode,
)

from jina_rerank import InputError, Reranker, ScoringError
from jina_rerank.testing import FakeScorer
from llama_index.postprocessor.jina_rerank import JinaRerank, RerankedNode


def texts(nodes):
    return [node.text for node in nodes]


def scored_by(score, **settings):
    return JinaRerank(reranker=Reranker(FakeScorer(score)), **settings)


def test_it_is_a_node_postprocessor():
    assert issubclass(JinaRerank, BaseNodePostprocessor)
    assert JinaRerank.class_name() == "JinaRerank"


def test_best_first_and_all_of_them_by_default(by_number, numbers):
    reranked = by_number().postprocess_nodes(numbers, query_str="q")
    assert texts(reranked) == ["0.9", "0.5", "0.2", "0.1"]
    assert [node.score for node in reranked] == [0.9, 0.5, 0.2, 0.1]


@pytest.mark.parametrize(("top_n", "expected"), [(1, 1), (3, 3), (4, 4), (100, 4), (None, 4)])
def test_top_n_keeps_the_best(by_number, numbers, top_n, expected):
    reranked = by_number(top_n=top_n).postprocess_nodes(numbers, query_str="q")
    assert texts(reranked) == ["0.9", "0.5", "0.2", "0.1"][:expected]


def test_threshold_keeps_what_reaches_it(by_number, numbers):
    reranked = by_number(threshold=0.5).postprocess_nodes(numbers, query_str="q")
    assert texts(reranked) == ["0.9", "0.5"]


def test_threshold_may_leave_nothing(by_number, numbers):
    assert by_number(threshold=0.95).postprocess_nodes(numbers, query_str="q") == []


def test_negative_scores_are_kept_unless_a_threshold_says_otherwise():
    nodes = [NodeWithScore(node=TextNode(text=t)) for t in ("-3", "0", "-1")]
    score = lambda _, text: float(text)  # noqa: E731
    assert texts(scored_by(score).postprocess_nodes(nodes, query_str="q")) == ["0", "-1", "-3"]
    assert texts(scored_by(score, threshold=0).postprocess_nodes(nodes, query_str="q")) == ["0"]


def test_settings_of_a_call_may_be_assigned_between_calls(by_number, numbers):
    rerank = by_number(top_n=3)
    rerank.top_n, rerank.threshold = None, 0.2
    assert texts(rerank.postprocess_nodes(numbers, query_str="q")) == ["0.9", "0.5", "0.2"]


@pytest.mark.parametrize("top_n", [0, -1, True, "3", 1.5])
def test_a_bad_top_n_assigned_later_is_refused_by_the_next_call(by_number, numbers, top_n):
    rerank = by_number()
    rerank.top_n = top_n
    with pytest.raises(InputError, match="top_n"):
        rerank.postprocess_nodes(numbers, query_str="q")


def test_equal_scores_keep_the_order_of_the_retriever():
    nodes = [NodeWithScore(node=TextNode(text=t)) for t in "abcdef"]
    reranked = scored_by(lambda _, text: float(text in "be")).postprocess_nodes(
        nodes, query_str="q"
    )
    assert texts(reranked) == ["b", "e", "a", "c", "d", "f"]


async def test_inputs_are_never_changed(by_number, numbers):
    for node in numbers:
        node.node.metadata = {"page": 1}
        node.node.excluded_embed_metadata_keys = ["page"]
    listed, before = list(numbers), copy.deepcopy(numbers)
    rerank = by_number(top_n=2)
    rerank.postprocess_nodes(numbers, query_str="q")
    await rerank.apostprocess_nodes(numbers, query_str="q")
    assert all(now is then for now, then in zip(numbers, listed, strict=True))
    assert numbers == before


def test_the_result_holds_the_same_nodes_in_new_wrappers(by_number, numbers):
    reranked = by_number().postprocess_nodes(numbers, query_str="q")
    originals = {node.node_id: node for node in numbers}
    for node in reranked:
        assert node.node is originals[node.node_id].node
        assert node is not originals[node.node_id]


def test_the_retrieval_score_is_kept(by_number, numbers):
    numbers[3].score = None
    reranked = by_number().postprocess_nodes(numbers, query_str="q")
    assert [(n.text, n.retrieval_score) for n in reranked] == [
        ("0.9", 7.0),
        ("0.5", 5.0),
        ("0.2", 9.0),
        ("0.1", None),
    ]


def test_a_second_reranking_keeps_the_first_retrieval_score(by_number, numbers):
    once = by_number().postprocess_nodes(numbers, query_str="q")
    twice = scored_by(lambda _, text: -float(text)).postprocess_nodes(once, query_str="q")
    assert [(n.text, n.score, n.retrieval_score) for n in twice] == [
        ("0.1", -0.1, 3.0),
        ("0.2", -0.2, 9.0),
        ("0.5", -0.5, 5.0),
        ("0.9", -0.9, 7.0),
    ]
    assert [n.score for n in once] == [0.9, 0.5, 0.2, 0.1]


def test_duplicates_are_kept_each_with_its_own_retrieval_score(by_number):
    node = TextNode(text="0.5", id_="same")
    other = TextNode(text="0.7", id_="same")  # one id, two texts: keyed by id they would mix
    given = [
        NodeWithScore(node=node, score=3),
        NodeWithScore(node=other, score=2),
        NodeWithScore(node=node, score=1),
    ]
    reranked = by_number().postprocess_nodes(given, query_str="q")
    assert [(n.text, n.score, n.retrieval_score) for n in reranked] == [
        ("0.7", 0.7, 2),
        ("0.5", 0.5, 3),
        ("0.5", 0.5, 1),
    ]


def test_scores_are_python_floats_that_turn_into_json(numbers):
    numbers[0].score = np.float32(0.25)  # as SentenceTransformerRerank leaves it
    rerank = scored_by(lambda _, text: np.float32(text))
    for node in rerank.postprocess_nodes(numbers, query_str="q"):
        assert type(node.score) is float
        assert type(node.retrieval_score) is float
        assert json.loads(node.to_json())["score"] == node.score


@pytest.mark.parametrize(
    ("mode", "read"),
    [
        (MetadataMode.EMBED, "src: s\n\ncats"),
        (MetadataMode.LLM, "page: 4\n\ncats"),
        (MetadataMode.ALL, "src: s\npage: 4\n\ncats"),
        (MetadataMode.NONE, "cats"),
        ("none", "cats"),
    ],
)
def test_the_metadata_mode_decides_what_the_model_reads(mode, read):
    scorer = FakeScorer()
    node = TextNode(
        text="cats",
        metadata={"src": "s", "page": 4},
        excluded_embed_metadata_keys=["page"],
        excluded_llm_metadata_keys=["src"],
    )
    rerank = JinaRerank(reranker=Reranker(scorer), metadata_mode=mode)
    rerank.postprocess_nodes([NodeWithScore(node=node)], query_str="cats")
    assert scorer.requests[0].documents == [read]
    assert scorer.requests[0].query == "cats"


def test_metadata_is_part_of_the_text_by_default():
    assert JinaRerank().metadata_mode is MetadataMode.EMBED


def test_every_kind_of_node_comes_back_as_it_is():
    given = [
        TextNode(text="a b"),
        IndexNode(text="a", index_id="i"),
        Document(text="a b c"),
        ImageNode(text="", image_path="cup.png"),
        Node(image_resource=MediaResource(path="cup.png")),
    ]
    reranked = scored_by(None).postprocess_nodes(
        [NodeWithScore(node=node) for node in given], query_str="a b c"
    )
    # Images without a text are scored as an empty one, so they come last and in order.
    assert [n.node for n in reranked] == [given[2], given[0], given[1], given[3], given[4]]
    assert [n.score for n in reranked[-2:]] == [0, 0]


async def test_nodes_without_any_text_at_all_are_an_error(by_number):
    nodes = [NodeWithScore(node=ImageNode(image_path="cup.png"))]
    with pytest.raises(InputError, match="nothing to rank"):
        by_number().postprocess_nodes(nodes, query_str="q")
    with pytest.raises(InputError, match="nothing to rank"):
        await by_number().apostprocess_nodes(nodes, query_str="q")


async def test_no_nodes_give_no_nodes_and_load_no_model():
    scorer = FakeScorer()
    rerank = JinaRerank(reranker=Reranker(scorer))
    assert rerank.postprocess_nodes([], query_str="q") == []
    assert await rerank.apostprocess_nodes([], query_str="q") == []
    assert scorer.requests == []
    missing = JinaRerank(model="/no/such/folder")
    assert missing.postprocess_nodes([], query_str="q") == []


async def test_a_query_is_required(by_number, numbers):
    for nodes in (numbers, []):
        with pytest.raises(InputError, match="query_bundle: is missing"):
            by_number().postprocess_nodes(nodes)
        with pytest.raises(InputError, match="query_bundle: is missing"):
            await by_number().apostprocess_nodes(nodes)


@pytest.mark.parametrize("query", ["", " \n", None])
async def test_a_query_without_words_is_refused(by_number, numbers, query):
    bundle = QueryBundle(query, image_path="cup.png")
    with pytest.raises(InputError, match="query"):
        by_number().postprocess_nodes(numbers, query_bundle=bundle)
    with pytest.raises(InputError, match="query"):
        await by_number().apostprocess_nodes(numbers, query_bundle=bundle)


def test_the_query_itself_is_read_and_not_what_was_embedded_for_it(numbers):
    scorer = FakeScorer()
    bundle = QueryBundle("what was asked", custom_embedding_strs=["an invented answer"])
    JinaRerank(reranker=Reranker(scorer)).postprocess_nodes(numbers, query_bundle=bundle)
    assert scorer.requests[0].query == "what was asked"


def test_why_an_answer_is_second_best_stands_on_every_node(numbers):
    scorer = FakeScorer(lambda _, text: float(text), degraded="the service is down")
    reranked = JinaRerank(reranker=Reranker(scorer)).postprocess_nodes(numbers, query_str="q")
    assert [n.degraded for n in reranked] == ["the service is down"] * 4


def test_nan_is_an_error_and_not_an_order(numbers):
    with pytest.raises(ScoringError, match="nan"):
        scored_by(lambda *_: float("nan")).postprocess_nodes(numbers, query_str="q")


def test_the_embedded_model_puts_the_answer_first(embedded):
    nodes = [
        NodeWithScore(node=TextNode(text=text))
        for text in (
            "The Louvre is the most visited museum in the world.",
            "Rome has been the capital of Italy since 1871.",
            "Paris is the capital of France and its largest city.",
        )
    ]
    reranked = JinaRerank(reranker=embedded).postprocess_nodes(
        nodes, query_str="What is the capital of France?"
    )
    assert reranked[0].node is nodes[2].node
    assert all(isinstance(n, RerankedNode) and 0 < n.score < 1 for n in reranked)
    expected = embedded.score("What is the capital of France?", [n.text for n in reranked])
    assert [n.score for n in reranked] == pytest.approx(expected, abs=1e-6)


def test_what_was_cut_off_is_told(embedded):
    nodes = [NodeWithScore(node=TextNode(text=t)) for t in ("coffee " * 60, "coffee")]
    rerank = JinaRerank(max_length=32)
    reranked = rerank.postprocess_nodes(nodes, query_str="coffee?")
    cut = {n.node_id: n.truncated_tokens for n in reranked}
    assert cut[nodes[0].node_id] > 0
    assert cut[nodes[1].node_id] == 0


def test_a_similarity_postprocessor_may_follow(by_number, numbers):
    cutoff = SimilarityPostprocessor(similarity_cutoff=0.5)
    reranked = by_number().postprocess_nodes(numbers, query_str="q")
    assert texts(cutoff.postprocess_nodes(reranked)) == ["0.9", "0.5"]

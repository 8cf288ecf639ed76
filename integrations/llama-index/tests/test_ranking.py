"""Ranked nodes: order, scores, text, and that nothing is changed or lost."""

from __future__ import annotations

import copy
import json
import threading

import numpy as np
import pandas as pd
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

from jina_rerank import InputError, Reranker, ResponseError, ScoringError
from jina_rerank.testing import FakeScorer
from llama_index.postprocessor.jina_rerank import JinaRerank, RerankedNode


def texts(nodes):
    return [node.text for node in nodes]


def test_it_is_a_node_postprocessor():
    assert issubclass(JinaRerank, BaseNodePostprocessor)
    assert JinaRerank.class_name() == "JinaRerank"


async def both_ways(rerank, nodes, query="tea or coffee?"):
    """The result of the sync and the async call, which is the same."""
    found = rerank.postprocess_nodes(nodes, query_str=query)
    again = await rerank.apostprocess_nodes(nodes, query_str=query)
    assert [n.node for n in again] == [n.node for n in found]
    assert [n.score for n in again] == pytest.approx([n.score for n in found], abs=1e-6)
    return found


async def test_best_first_and_all_of_them_by_default(backend, numbers):
    reranked = await both_ways(backend.build(), numbers)
    expected = backend.ranked("tea or coffee?", texts(numbers))
    assert texts(reranked) == [text for text, _ in expected]
    assert [n.score for n in reranked] == pytest.approx([s for _, s in expected], abs=1e-6)
    assert texts(reranked) != texts(numbers)


@pytest.mark.parametrize(("top_n", "expected"), [(1, 1), (3, 3), (4, 4), (100, 4), (None, 4)])
async def test_top_n_keeps_the_best(backend, numbers, top_n, expected):
    reranked = await both_ways(backend.build(top_n=top_n), numbers)
    assert texts(reranked) == backend.best_first("tea or coffee?", texts(numbers))[:expected]


async def test_threshold_keeps_what_is_above_it(backend, numbers):
    expected = backend.ranked("tea or coffee?", texts(numbers))
    between = (expected[1][1] + expected[2][1]) / 2
    reranked = await both_ways(backend.build(threshold=between), numbers)
    assert texts(reranked) == [text for text, _ in expected[:2]]


def test_threshold_keeps_what_reaches_it(by_number, numbers):
    reranked = by_number(threshold=0.5).postprocess_nodes(numbers, query_str="q")
    assert texts(reranked) == ["0.9", "0.5"]


async def test_threshold_may_leave_nothing(backend, numbers):
    assert await both_ways(backend.build(threshold=0.99999), numbers) == []


def test_negative_scores_are_kept_unless_a_threshold_says_otherwise(by_number):
    nodes = [NodeWithScore(node=TextNode(text=t)) for t in ("-3", "0", "-1")]
    assert texts(by_number().postprocess_nodes(nodes, query_str="q")) == ["0", "-1", "-3"]
    assert texts(by_number(threshold=0).postprocess_nodes(nodes, query_str="q")) == ["0"]


def test_settings_of_a_call_may_be_assigned_between_calls(by_number, numbers):
    rerank = by_number(top_n=3)
    rerank.top_n, rerank.threshold = None, 0.2
    assert texts(rerank.postprocess_nodes(numbers, query_str="q")) == ["0.9", "0.5", "0.2"]


@pytest.mark.parametrize("top_n", [0, -1, True, "3", 1.5])
def test_a_bad_top_n_assigned_later_is_refused_at_once(backend, numbers, top_n):
    rerank = backend.build()
    with pytest.raises(InputError, match="top_n"):
        rerank.top_n = top_n
    assert len(rerank.postprocess_nodes(numbers, query_str="q")) == 4


def test_equal_scores_keep_the_order_of_the_retriever(scored_by):
    nodes = [NodeWithScore(node=TextNode(text=t)) for t in "abcdef"]
    reranked = scored_by(lambda _, text: float(text in "be")).postprocess_nodes(
        nodes, query_str="q"
    )
    assert texts(reranked) == ["b", "e", "a", "c", "d", "f"]


async def test_inputs_are_never_changed(backend, numbers):
    for node in numbers:
        node.node.metadata = {"page": 1}
        node.node.excluded_embed_metadata_keys = ["page"]
    listed, before = list(numbers), copy.deepcopy(numbers)
    await both_ways(backend.build(top_n=2), numbers)
    assert all(now is then for now, then in zip(numbers, listed, strict=True))
    assert numbers == before


async def test_the_result_holds_the_same_nodes_in_new_wrappers(backend, numbers):
    for node in numbers:
        node.node.metadata = {"page": 1}
    reranked = await both_ways(backend.build(), numbers)
    originals = {node.node_id: node for node in numbers}
    for node in reranked:
        assert node.node is originals[node.node_id].node
        assert node is not originals[node.node_id]
        assert isinstance(node, RerankedNode)
        assert node.metadata == {"page": 1}


def test_the_retrieval_score_is_kept(by_number, numbers):
    numbers[3].score = None
    reranked = by_number().postprocess_nodes(numbers, query_str="q")
    assert [(n.text, n.retrieval_score) for n in reranked] == [
        ("0.9", 7.0),
        ("0.5", 5.0),
        ("0.2", 9.0),
        ("0.1", None),
    ]


def test_a_second_reranking_keeps_the_first_retrieval_score(by_number, scored_by, numbers):
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


async def test_scores_are_python_floats_that_turn_into_json(backend, numbers):
    numbers[0].score = np.float32(0.25)  # as SentenceTransformerRerank leaves it
    for node in await both_ways(backend.build(), numbers):
        assert type(node.score) is float
        assert type(node.retrieval_score) is float
        assert json.loads(node.to_json())["score"] == node.score


def test_a_scorers_numpy_scores_become_python_floats(numbers):
    rerank = JinaRerank(reranker=Reranker(FakeScorer(lambda _, text: np.float32(text))))
    reranked = rerank.postprocess_nodes(numbers, query_str="q")
    assert [type(n.score) for n in reranked] == [float] * 4


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
async def test_the_metadata_mode_decides_what_the_model_reads(backend, mode, read):
    node = TextNode(
        text="cats",
        metadata={"src": "s", "page": 4},
        excluded_embed_metadata_keys=["page"],
        excluded_llm_metadata_keys=["src"],
    )
    (found,) = await both_ways(
        backend.build(metadata_mode=mode), [NodeWithScore(node=node)], query="cats"
    )
    assert [found.score] == pytest.approx(backend.scores("cats", [read]), abs=1e-6)


def test_metadata_is_part_of_the_text_by_default():
    assert JinaRerank().metadata_mode is MetadataMode.EMBED


async def test_every_kind_of_node_comes_back_as_it_is(backend):
    given = [
        TextNode(text="a b"),
        IndexNode(text="a", index_id="i"),
        Document(text="a b c"),
        ImageNode(text="", image_path="cup.png"),
        Node(image_resource=MediaResource(path="cup.png")),
    ]
    nodes = [NodeWithScore(node=node) for node in given]
    reranked = await both_ways(backend.build(), nodes, query="a b c")
    # Images without a text are scored as an empty one.
    scores = backend.scores("a b c", ["a b", "a", "a b c", "", ""])
    expected = {id(node): score for node, score in zip(given, scores, strict=True)}
    assert {id(n.node) for n in reranked} == set(expected)
    assert [n.score for n in reranked] == sorted((n.score for n in reranked), reverse=True)
    for n in reranked:
        assert n.score == pytest.approx(expected[id(n.node)], abs=1e-6)


async def test_nodes_without_any_text_at_all_are_an_error(backend):
    nodes = [NodeWithScore(node=ImageNode(image_path="cup.png"))]
    with pytest.raises(InputError, match="nothing to rank"):
        backend.build().postprocess_nodes(nodes, query_str="q")
    with pytest.raises(InputError, match="nothing to rank"):
        await backend.build().apostprocess_nodes(nodes, query_str="q")


@pytest.mark.torch
async def test_no_nodes_give_no_nodes_and_load_no_model():
    scorer = FakeScorer()
    assert await both_ways(JinaRerank(reranker=Reranker(scorer)), []) == []
    assert scorer.requests == []
    assert await both_ways(JinaRerank(model="/no/such/folder"), []) == []


async def test_no_nodes_give_no_nodes_and_send_nothing(remote, server):
    assert await both_ways(remote(), []) == []
    assert server.connections == 0


async def test_a_query_is_required(backend, numbers):
    for nodes in (numbers, []):
        with pytest.raises(InputError, match="query_bundle: is missing"):
            backend.build().postprocess_nodes(nodes)
        with pytest.raises(InputError, match="query_bundle: is missing"):
            await backend.build().apostprocess_nodes(nodes)


async def test_a_text_in_place_of_the_bundle_is_refused_with_the_right_argument(backend, numbers):
    for nodes in (numbers, []):
        with pytest.raises(InputError, match="not str; pass a text as query_str=") as caught:
            backend.build().postprocess_nodes(nodes, "tea or coffee?")
        assert caught.value.argument == "query_bundle"
        with pytest.raises(InputError, match="not str; pass a text as query_str="):
            await backend.build().apostprocess_nodes(nodes, "tea or coffee?")


@pytest.mark.parametrize("query", ["", " \n", None])
async def test_a_query_without_words_is_refused_with_and_without_nodes(backend, numbers, query):
    bundle = QueryBundle(query, image_path="cup.png")
    for nodes in (numbers, []):
        with pytest.raises(InputError, match=r"^query: "):
            backend.build().postprocess_nodes(nodes, query_bundle=bundle)
        with pytest.raises(InputError, match=r"^query: "):
            await backend.build().apostprocess_nodes(nodes, query_bundle=bundle)


async def test_nodes_are_read_in_another_thread_than_the_event_loops(by_number):
    class Watched(TextNode):
        def get_content(self, metadata_mode=MetadataMode.NONE):
            threads.append(threading.current_thread())
            return super().get_content(metadata_mode)

    threads = []
    node = Watched(text="0.5")
    (found,) = await by_number().apostprocess_nodes([NodeWithScore(node=node)], query_str="q")
    assert found.node is node
    assert threads
    assert threading.current_thread() not in threads


async def test_images_are_scored_by_their_metadata(backend):
    image = ImageNode(image_path="cup.png", metadata={"file": "cup.png"})
    (found,) = await both_ways(backend.build(), [NodeWithScore(node=image)], query="cup")
    assert [found.score] == pytest.approx(backend.scores("cup", ["file: cup.png"]), abs=1e-6)


def test_the_query_itself_is_read_and_not_what_was_embedded_for_it(backend, numbers):
    bundle = QueryBundle("what was asked", custom_embedding_strs=["an invented answer"])
    reranked = backend.build().postprocess_nodes(numbers, query_bundle=bundle)
    assert texts(reranked) == backend.best_first("what was asked", texts(numbers))


def test_why_an_answer_is_degraded_stands_on_every_node(numbers):
    scorer = FakeScorer(lambda _, text: float(text), degraded="the service is down")
    reranked = JinaRerank(reranker=Reranker(scorer)).postprocess_nodes(numbers, query_str="q")
    assert [n.degraded for n in reranked] == ["the service is down"] * 4


async def test_a_whole_answer_is_neither_degraded_nor_unscored(backend, numbers):
    reranked = await both_ways(backend.build(), numbers)
    assert {(n.degraded, n.unscored) for n in reranked} == {(None, False)}


def test_nan_is_an_error_and_not_an_order(scored_by, numbers):
    # From a scorer a wrong score, from a service an answer that is not JSON.
    with pytest.raises((ScoringError, ResponseError), match=r"(?i)nan"):
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


@pytest.fixture(params=["sync", "async"])
def postprocess(request):
    """Both methods, under one signature."""

    async def call(reranker, nodes):
        if request.param == "sync":
            return reranker.postprocess_nodes(nodes, query_str="q")
        return await reranker.apostprocess_nodes(nodes, query_str="q")

    return call


@pytest.mark.parametrize(
    ("nodes", "argument", "fix"),
    [
        ([None], "nodes[0]", "must be a NodeWithScore, not NoneType; leave it out"),
        ([TextNode(text="1")], "nodes[0]", r"not TextNode; .* by NodeWithScore\(node=node\)"),
        (["text"], "nodes[0]", "must be a NodeWithScore, not str"),
        ("text", "nodes", "must be a list of NodeWithScore objects, not one string"),
        (NodeWithScore(node=TextNode(text="1")), "nodes", "not one; put it in a list"),
        ({"a": 1}, "nodes", "only the keys would be read"),
        (pd.DataFrame({"text": ["1"]}), "nodes", "not DataFrame; pass the column"),
        (None, "nodes", "not NoneType"),
    ],
    ids=repr,
)
async def test_what_is_no_list_of_nodes_is_refused_before_anything_is_scored(
    postprocess, nodes, argument, fix
):
    scorer = FakeScorer()
    with pytest.raises(InputError, match=fix) as caught:
        await postprocess(JinaRerank(reranker=Reranker(scorer)), nodes)
    assert caught.value.argument == argument
    assert scorer.requests == []


async def test_an_error_in_a_text_names_the_node(postprocess, by_number, numbers):
    bad = NodeWithScore(node=TextNode(text="0.3\0"))
    with pytest.raises(InputError) as caught:
        await postprocess(by_number(), [*numbers, bad])
    assert caught.value.argument == "nodes[4]"


async def test_a_generator_of_nodes_is_ranked(postprocess, by_number, numbers):
    reranked = await postprocess(by_number(top_n=2), (node for node in numbers))
    assert texts(reranked) == ["0.9", "0.5"]


async def test_metadata_that_cannot_be_copied_stays_with_its_node(postprocess, by_number, events):
    lock = threading.Lock()
    node = TextNode(text="0.1", metadata={"lock": lock}, excluded_embed_metadata_keys=["lock"])
    (reranked,) = await postprocess(by_number(), [NodeWithScore(node=node)])
    assert reranked.node.metadata["lock"] is lock
    assert events.seen


async def test_numpys_numbers_are_numbers(postprocess, by_number, numbers):
    reranker = by_number(top_n=np.int64(1), threshold=np.float32(0.4))
    assert texts(await postprocess(reranker, numbers)) == ["0.9"]
    reranker.top_n = np.uint8(3)
    assert texts(await postprocess(reranker, numbers)) == ["0.9", "0.5"]

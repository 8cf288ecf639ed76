"""Beside jina-haystack: the same answers where the service behaves, and none of its defects."""

import asyncio
import copy
import inspect
import time

import pytest
from faults import Edited, Gzipped, Html, Right, Slow, Status
from haystack import Document
from haystack.utils import Secret
from haystack_integrations.components.rankers.jina import JinaRanker as Official

from haystack_integrations.components.rankers.jina_rerank import JinaRanker
from jina_rerank import AuthenticationError, RequestTimeoutError, ResponseError, ServerError

QUERY = "What is the capital of Germany?"
DOCUMENTS = [
    Document(content=f"passage {n} of several", meta={"n": n}, embedding=[0.1 * n])
    for n in range(20)
]


@pytest.fixture
def official(server):
    def build(**settings):
        return Official(
            **{
                "model": "jina-reranker-v2-base-multilingual",
                "api_key": Secret.from_token("jina_0123456789abcdef"),
                "base_url": f"{server.url}/v1/rerank",
                **settings,
            }
        )

    return build


@pytest.mark.parametrize("shape", [None, "string", "object", "absent"])
@pytest.mark.parametrize(
    "limits", [{"top_k": None}, {"top_k": 5}, {"top_k": 50}, {"top_k": 9, "score_threshold": 0.5}]
)
def test_it_and_ours_agree(run, server, official, remote, shape, limits):
    server.default = Right(document=shape)
    theirs = run(official(**limits), QUERY, DOCUMENTS)
    ours = run(remote(model="jina-reranker-v2-base-multilingual", **limits), QUERY, DOCUMENTS)
    assert ours["documents"] == theirs["documents"]
    assert ours["meta"]["model"] == theirs["meta"]["model"]
    assert ours["meta"]["usage"]["tokens"] == theirs["meta"]["usage"]["total_tokens"]


def test_a_key_is_not_read_when_building():
    with pytest.raises(ValueError, match="JINA_API_KEY"):
        Official()
    JinaRanker(backend="remote", api_key=Secret.from_env_var("JINA_API_KEY"))


def test_the_timeout_can_be_set_and_covers_everything(run, server, remote):
    server.default = Slow(0.8)
    started = time.monotonic()
    assert len(run(remote(timeout=20), QUERY, DOCUMENTS)["documents"]) == 10
    with pytest.raises(RequestTimeoutError, match=r"within timeout=0\.3 s"):
        run(remote(timeout=0.3), QUERY, DOCUMENTS)
    assert time.monotonic() - started < 15


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Status(401, {"error": "no"}), AuthenticationError),
        (Status(500, {"error": {"message": "no"}}), ServerError),
        (Status(500, None), ServerError),
        (Html(500), ServerError),
        (Html(200), ResponseError),
        (Status(200, {"error": "no"}), ResponseError),
        (Status(200, []), ResponseError),
    ],
)
def test_any_failure_has_a_type(run, server, official, remote, fault, expected):
    server.default = fault
    with pytest.raises((KeyError, ValueError, TypeError)):
        run(official(), QUERY, DOCUMENTS)
    with pytest.raises(expected):
        run(remote(max_retries=0), QUERY, DOCUMENTS)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_what_passes_is_tried_again(run, server, remote, status):
    server.script(Status(status, headers={"retry-after": "0"}))
    assert len(run(remote(), QUERY, DOCUMENTS)["documents"]) == 10
    assert server.received == 2


def test_connections_are_used_again(run, server, official, remote):
    for _ in range(5):
        run(official(), QUERY, DOCUMENTS)
    assert server.connections == 5
    server.reset()
    ranker = remote()
    for _ in range(5):
        run(ranker, QUERY, DOCUMENTS)
    assert (server.received, server.connections) == (5, 1)


async def test_runs_at_the_same_time_do_not_wait_for_each_other(server, remote):
    server.default = Slow(0.3)
    ranker = remote()
    started = time.monotonic()
    await asyncio.gather(*(ranker.run_async(QUERY, DOCUMENTS) for _ in range(4)))
    assert server.most_in_flight == 4
    assert time.monotonic() - started < 15


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/v1/rerank", "/v1/rerank/"])
def test_a_base_url_may_be_written_in_any_way(server, remote, path):
    remote(base_url=server.url + path).run(QUERY, DOCUMENTS)
    assert server.requests[-1].path == "/v1/rerank"


@pytest.mark.parametrize("top_k", [None, 3])
def test_the_cut_is_not_left_to_the_service(run, server, remote, top_k):
    output = run(remote(top_k=top_k), QUERY, DOCUMENTS)
    assert "top_n" not in server.requests[-1].json
    assert len(output["documents"]) == (top_k or len(DOCUMENTS))
    assert output["meta"]["usage"]["documents"] == len(DOCUMENTS)


def test_the_default_model_is_not_an_obsolete_one(server, remote):
    remote().run(QUERY, DOCUMENTS)
    assert inspect.signature(Official.__init__).parameters["model"].default.endswith("v1-base-en")
    assert server.requests[-1].json["model"] == "jina-reranker-v3.5"


@pytest.mark.parametrize("missing", [("model",), ("usage",), ("model", "usage", "object")])
def test_a_service_may_leave_out_what_is_not_needed(run, server, official, remote, missing):
    server.default = Right(drop=missing)
    with pytest.raises(KeyError):
        run(official(), QUERY, DOCUMENTS)
    output = run(remote(), QUERY, DOCUMENTS)
    assert len(output["documents"]) == 10
    assert (output["meta"]["usage"]["tokens"] is None) == ("usage" in missing)
    assert output["meta"]["model"] == "jina-reranker-v3.5"


def test_an_empty_input_has_every_output(run, official, remote):
    assert "meta" not in run(official(), QUERY, [])
    assert run(remote(), QUERY, []).keys() == {"documents", "meta"}


@pytest.mark.parametrize("order", ["shuffled", "given"])
def test_the_services_order_is_not_trusted(run, server, official, remote, order):
    expected = run(remote(), QUERY, DOCUMENTS)
    server.default = Right(order=order)
    assert run(official(top_k=10), QUERY, DOCUMENTS)["documents"] != expected["documents"]
    assert run(remote(), QUERY, DOCUMENTS) == expected


def edit(**changes):
    def change(answer):
        answer["results"][0].update(changes)
        return answer

    return Edited(change)


def leave_one_out(answer):
    del answer["results"][0]
    return answer


def repeat_one(answer):
    answer["results"][1]["index"] = answer["results"][0]["index"]
    return answer


@pytest.mark.parametrize(
    "fault",
    [
        edit(index=-1),
        edit(index=20),
        edit(index="0"),
        edit(relevance_score=None),
        edit(relevance_score=float("nan")),
        Edited(leave_one_out),
        Edited(repeat_one),
    ],
)
def test_an_answer_that_cannot_be_right_is_refused(run, server, remote, fault):
    server.default = fault
    with pytest.raises(ResponseError):
        run(remote(), QUERY, DOCUMENTS)


def test_compressed_answers_are_read(run, server, remote):
    expected = run(remote(), QUERY, DOCUMENTS)
    server.default = Gzipped()
    assert run(remote(), QUERY, DOCUMENTS) == expected


def test_from_dict_leaves_its_argument_alone(remote):
    data = remote(api_key=Secret.from_env_var("MY_KEY")).to_dict()
    before = copy.deepcopy(data)
    JinaRanker.from_dict(data)
    assert data == before

"""A request's instruction: used, refused, or left out and said so; never lost silently."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

import httpx
import pytest
from serving import LiveService, until

from jina_rerank import Reranker
from jina_rerank.scorers.base import OnScored, ScoreRequest, ScoreResponse
from jina_rerank.server import ServedModel
from jina_rerank.testing import FakeScorer

QUERY = "panda"
TEXTS = ["the panda is a bear", "paris"]


class Instructed(FakeScorer):
    """Reads an instruction in place of the query."""

    def score(
        self, requests: Sequence[ScoreRequest], on_scored: OnScored | None = None
    ) -> list[ScoreResponse]:
        read = [
            replace(own, query=own.instruction or own.query, instruction=None) for own in requests
        ]
        return super().score(read, on_scored)


@pytest.fixture(scope="module", params=[False, True])
def service(request: pytest.FixtureRequest) -> Iterator[LiveService]:
    models = [
        ServedModel("plain", Reranker(FakeScorer())),
        ServedModel("instructed", Reranker(Instructed())),
    ]
    with LiveService(models, ignore_instruction=request.param) as live:
        until(lambda: live.engine.ready)
        yield live


def post(service: LiveService, path: str, model: str, instruction: object) -> httpx.Response:
    texts = (
        {"text_1": QUERY, "text_2": TEXTS}
        if path.endswith("score")
        else {"query": QUERY, "documents": TEXTS}
    )
    body = {"model": model, "instruction": instruction, **texts}
    return httpx.post(f"{service.url}{path}", json=body, timeout=30)


def first(reply: httpx.Response) -> int:
    answer = reply.json()
    if "results" in answer:
        return int(answer["results"][0]["index"])
    return int(max(answer["data"], key=lambda score: score["score"])["index"])


PATHS = pytest.mark.parametrize("path", ["/v1/rerank", "/rerank", "/v1/score"])


@PATHS
def test_a_model_with_a_place_for_it_reads_it(service: LiveService, path: str) -> None:
    assert first(post(service, path, "instructed", None)) == 0
    reply = post(service, path, "instructed", "paris")
    assert first(reply) == 1
    assert not reply.json().get("ignored")


@PATHS
def test_another_model_refuses_it_or_says_that_it_was_ignored(
    service: LiveService, path: str
) -> None:
    reply = post(service, path, "plain", "paris")
    if not service.engine.settings.ignore_instruction:
        assert reply.status_code in {400, 422}
        assert "instruction" in reply.text
        assert "takes none; leave it out" in reply.text
        return
    assert reply.status_code == 200
    assert first(reply) == 0
    assert reply.json()["ignored"] == ["instruction"]
    assert not post(service, path, "plain", None).json().get("ignored")


@PATHS
@pytest.mark.parametrize("instruction", ["", "  ", 7, "\ud83d"])
def test_an_instruction_that_is_none_is_refused(
    service: LiveService, path: str, instruction: object
) -> None:
    texts = (
        {"text_1": QUERY, "text_2": TEXTS}
        if path.endswith("score")
        else {"query": QUERY, "documents": TEXTS}
    )
    body = json.dumps({"model": "instructed", "instruction": instruction, **texts})
    reply = httpx.post(
        f"{service.url}{path}",
        content=body,
        headers={"content-type": "application/json"},
        timeout=30,
    )
    assert reply.status_code in {400, 422}
    assert "instruction" in reply.text

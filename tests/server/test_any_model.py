"""A service that answers every name with its first model, and says so; and what models can do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cohere
import httpx
import pytest
from serving import LiveService, until

from jina_rerank import LocalScorer, RemoteScorer, Reranker
from jina_rerank.encoders.int8 import can_multiply_int8
from jina_rerank.server import ServedModel
from jina_rerank.testing import FakeScorer

QUERY = "what is a panda?"
TEXTS = ["coffee is brewed", "the giant panda is a bear", "paris", "berlin"]
JINAS = "jina-reranker-v2-base-multilingual"


@pytest.fixture(scope="module")
def service(small_checkpoint: Path) -> Iterator[LiveService]:
    """Two models, the first of which answers for all others."""
    models = (f"first={small_checkpoint}", f"second={small_checkpoint}")
    with LiveService(models=models, any_model=True, max_length=64) as live:
        until(lambda: live.engine.ready)
        yield live


@pytest.fixture(scope="module")
def expected(small_checkpoint: Path) -> list[str]:
    return [hit.text for hit in Reranker(LocalScorer(small_checkpoint)).rank(QUERY, TEXTS)]


@pytest.mark.parametrize(
    ("model", "answered"), [(JINAS, "first"), ("second", "second"), (None, "first")]
)
@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank", "/score"])
def test_the_answer_says_which_model_it_was(
    service: LiveService, path: str, model: str | None, answered: str
) -> None:
    fields = {"text_1": QUERY, "text_2": TEXTS} if path == "/score" else {"documents": TEXTS}
    body = {"model": model, "query": QUERY, **fields}
    reply = httpx.post(f"{service.url}{path}", json=body, timeout=30)
    assert reply.status_code == 200
    assert reply.json()["model"] == answered


def test_the_official_clients_need_an_address_and_nothing_else(
    service: LiveService, expected: list[str]
) -> None:
    from haystack import Document
    from haystack.utils import Secret
    from haystack_integrations.components.rankers.jina import JinaRanker
    from llama_index.core.schema import NodeWithScore, TextNode
    from llama_index.postprocessor.jinaai_rerank import JinaRerank

    key = "jina_" + "x" * 20
    postprocessor = JinaRerank(api_key=key, top_n=4, base_url=f"{service.url}/v1")
    nodes = [NodeWithScore(node=TextNode(text=text), score=0.0) for text in TEXTS]
    assert [
        node.text for node in postprocessor.postprocess_nodes(nodes, query_str=QUERY)
    ] == expected
    postprocessor._session.close()
    ranker = JinaRanker(
        api_key=Secret.from_token(key), top_k=4, base_url=f"{service.url}/v1/rerank"
    )
    found = ranker.run(query=QUERY, documents=[Document(content=text) for text in TEXTS])
    assert [document.content for document in found["documents"]] == expected


def test_cohere_has_no_field_for_it_and_is_warned(service: LiveService) -> None:
    with httpx.Client() as own:
        client = cohere.ClientV2(api_key="x" * 20, base_url=service.url, httpx_client=own)
        other = client.rerank(model="rerank-v4.0-pro", query=QUERY, documents=TEXTS)
        served = client.rerank(model="second", query=QUERY, documents=TEXTS)
    assert other.meta is not None
    assert other.meta.warnings == [
        "the model that was asked for is not served here: first answered"
    ]
    assert served.meta is not None
    assert served.meta.warnings is None


def test_without_the_setting_a_name_that_is_not_served_is_refused(small_checkpoint: Path) -> None:
    with LiveService(models=(f"first={small_checkpoint}",)) as strict:
        body = {"model": JINAS, "query": QUERY, "documents": TEXTS}
        reply = httpx.post(f"{strict.url}/v1/rerank", json=body, timeout=30)
        (model,) = httpx.get(f"{strict.url}/v1/models").json()["data"]
    assert reply.status_code == 400
    assert model["answers_any_name"] is False


def test_the_list_of_models_says_what_each_can_do(service: LiveService) -> None:
    first, second = httpx.get(f"{service.url}/v1/models").json()["data"]
    assert first["answers_any_name"] is True
    assert second["answers_any_name"] is False
    assert (first["max_tokens"], first["context_length"]) == (64, 64)
    assert (first["family"], first["window"]) == ("JinaBERT", None)
    assert first["dtype"] in {"float32", "bfloat16"}
    assert first["runs_here"] is True


@pytest.mark.skipif(not can_multiply_int8(), reason="no exact 8-bit products on this processor")
def test_a_service_computes_in_the_dtype_of_its_settings(
    small_checkpoint: Path, service: LiveService
) -> None:
    models = (str(small_checkpoint), f"far=remote:first@{service.url}")
    with LiveService(models=models, dtype="int8") as live:
        until(lambda: live.engine.ready)
        here, far = httpx.get(f"{live.url}/v1/models").json()["data"]
    assert (here["dtype"], far["dtype"]) == ("int8", None)


def test_what_is_not_known_of_a_model_is_null(service: LiveService) -> None:
    far = Reranker(RemoteScorer("first", base_url=service.url))
    served = [ServedModel("far", far, runs_here=False), ServedModel("fake", Reranker(FakeScorer()))]
    with LiveService(served) as front:
        listed = httpx.get(f"{front.url}/v1/models").json()["data"]
    assert [model["runs_here"] for model in listed] == [False, True]
    for model in listed:
        assert model["context_length"] == 8192
        assert all(model[name] is None for name in ("family", "max_tokens", "dtype", "window"))

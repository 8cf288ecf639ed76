"""Clients with nothing changed but the address: Cohere's own, LiteLLM's, and ours in each dialect.

Those of Jina's hosted API are in test_jina_clients.py.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from serving import LiveService

from jina_rerank import LocalScorer, RemoteScorer, Reranker
from jina_rerank.errors import AuthenticationError, RejectedInputError, RejectedSettingError

QUERY = "what is a panda?"
DOCUMENTS = ["coffee is brewed", "the giant panda is a bear", "paris", "berlin", "the panda"]
KEY = "a-key-for-the-tests"

LITELLM = """
import asyncio, json, sys
import litellm

asked, query, documents = json.loads(sys.argv[1])


async def ask_both_ways(provider, address):
    given = dict(
        model=f"{provider}/small",
        query=query,
        documents=documents,
        api_base=address,
        api_key="k" * 20,
    )
    here = await asyncio.to_thread(litellm.rerank, **given)
    return [here.model_dump(), (await litellm.arerank(**given)).model_dump()]


async def ask_all():
    return [await ask_both_ways(*one) for one in asked]


print(json.dumps(asyncio.run(ask_all())))
"""
"""Each provider's answers by `rerank` and by `arerank`, which do not send the same."""


@pytest.fixture(scope="module")
def plain(small_checkpoint: Path) -> Reranker:
    """The same model without a service."""
    return Reranker(LocalScorer(small_checkpoint))


@pytest.mark.parametrize("dialect", ["jina", "cohere", "tei", "sagemaker"])
def test_our_client_ranks_as_the_model_does(
    service: LiveService, plain: Reranker, dialect: str
) -> None:
    expected = plain.rank(QUERY, DOCUMENTS, top_n=4)
    with Reranker(RemoteScorer("small", base_url=service.url, dialect=dialect)) as remote:
        found = remote.rank(QUERY, DOCUMENTS, top_n=4)
    assert [hit.index for hit in found] == [hit.index for hit in expected]
    # Jina's services, its containers among them, answer eight decimals.
    decimals = 8 if dialect in {"jina", "sagemaker"} else 17
    assert [hit.score for hit in found] == [round(hit.score, decimals) for hit in expected]


def test_our_client_joins_many_requests(service: LiveService, plain: Reranker) -> None:
    documents = [f"panda number {i} of paris" for i in range(70)]
    expected = plain.rank(QUERY, documents)
    # TEI's dialect takes 32 at a time.
    with Reranker(RemoteScorer(base_url=service.url, dialect="tei")) as remote:
        found = remote.rank(QUERY, documents)
    assert [hit.index for hit in found] == [hit.index for hit in expected]


def test_requests_of_all_dialects_at_the_same_time(service: LiveService, plain: Reranker) -> None:
    asked = [[f"panda {i} of {j}" for j in range(1 + i % 7)] for i in range(80)]
    expected = plain.rank_many([(QUERY, documents) for documents in asked])
    clients = [
        Reranker(RemoteScorer("small", base_url=service.url, dialect=dialect))
        for dialect in ("jina", "cohere", "tei", "sagemaker")
    ]
    with ThreadPoolExecutor(16) as pool:
        found = list(
            pool.map(lambda i: clients[i % len(clients)].rank(QUERY, asked[i]), range(len(asked)))
        )
    for client in clients:
        client.close()
    for ours, theirs in zip(found, expected, strict=True):
        # Batches are of another shape, which moves the last digits.
        scores = {hit.text: hit.score for hit in theirs}
        assert {hit.text: hit.score for hit in ours} == pytest.approx(scores, abs=1e-6)


@pytest.mark.parametrize("dialect", ["cohere", "tei", "sagemaker"])
def test_our_client_halves_what_is_too_large(
    small_checkpoint: Path, plain: Reranker, dialect: str
) -> None:
    expected = [hit.index for hit in plain.rank(QUERY, DOCUMENTS)]
    with LiveService(models=(f"small={small_checkpoint}",), max_documents=2) as service:
        scorer = RemoteScorer("small", base_url=service.url, dialect=dialect, max_documents=500)
        with Reranker(scorer) as remote:
            assert [hit.index for hit in remote.rank(QUERY, DOCUMENTS)] == expected


@pytest.mark.parametrize("dialect", ["cohere", "tei", "sagemaker"])
def test_our_client_hears_what_cannot_be_halved(small_checkpoint: Path, dialect: str) -> None:
    models = (f"small={small_checkpoint}",)
    with LiveService(models=models, max_body_bytes=1_000) as service:
        scorer = RemoteScorer("small", base_url=service.url, dialect=dialect)
        with Reranker(scorer) as remote, pytest.raises(RejectedInputError, match="1,000 bytes"):
            remote.rank(QUERY, ["panda " * 500])


def test_our_client_hears_what_may_not_be_cut(small_checkpoint: Path) -> None:
    with LiveService(models=(f"small={small_checkpoint}",), max_length=32) as service:
        scorer = RemoteScorer(base_url=service.url, dialect="tei", truncation=False)
        with Reranker(scorer) as remote, pytest.raises(RejectedInputError, match="too long"):
            remote.rank(QUERY, ["panda " * 500])


def test_our_client_hears_that_there_is_no_such_model(service: LiveService) -> None:
    with (
        Reranker(RemoteScorer("another", base_url=service.url, dialect="cohere")) as remote,
        pytest.raises(RejectedSettingError, match="small"),
    ):
        remote.rank(QUERY, DOCUMENTS)


@pytest.mark.parametrize("dialect", ["cohere", "tei", "sagemaker"])
def test_keys(small_checkpoint: Path, plain: Reranker, dialect: str) -> None:
    expected = [hit.index for hit in plain.rank(QUERY, DOCUMENTS)]
    with LiveService(models=(f"small={small_checkpoint}",), keys=f"tests:{KEY}") as service:
        known = RemoteScorer("small", base_url=service.url, dialect=dialect, api_key=KEY)
        with Reranker(known) as remote:
            assert [hit.index for hit in remote.rank(QUERY, DOCUMENTS)] == expected
        stranger = RemoteScorer("small", base_url=service.url, dialect=dialect, api_key="b" * 20)
        with Reranker(stranger) as remote, pytest.raises(AuthenticationError) as caught:
            remote.rank(QUERY, DOCUMENTS)
    assert caught.value.status == 401


class TestCohere:
    """Cohere's SDK."""

    def test_it_ranks_as_the_model_does(self, service: LiveService, plain: Reranker) -> None:
        import cohere

        with httpx.Client() as client:  # its own would stay open
            official = cohere.ClientV2(api_key=KEY, base_url=service.url, httpx_client=client)
            found = official.rerank(model="small", query=QUERY, documents=DOCUMENTS, top_n=3)
        expected = plain.rank(QUERY, DOCUMENTS, top_n=3)
        assert [(r.index, r.relevance_score) for r in found.results] == [
            (hit.index, hit.score) for hit in expected
        ]
        assert found.meta is not None
        assert found.meta.tokens.input_tokens == expected.usage.tokens
        assert found.meta.billed_units.search_units == 1

    async def test_it_ranks_as_the_model_does_async(
        self, service: LiveService, plain: Reranker
    ) -> None:
        import cohere

        async with httpx.AsyncClient() as client:
            official = cohere.AsyncClientV2(api_key=KEY, base_url=service.url, httpx_client=client)
            found = await official.rerank(model="small", query=QUERY, documents=DOCUMENTS)
        assert [r.index for r in found.results] == [
            hit.index for hit in await plain.arank(QUERY, DOCUMENTS)
        ]

    def test_it_has_a_type_for_each_refusal(self, service: LiveService) -> None:
        import cohere

        with httpx.Client() as client:
            official = cohere.ClientV2(api_key=KEY, base_url=service.url, httpx_client=client)
            with pytest.raises(cohere.errors.NotFoundError) as caught:
                official.rerank(model="another", query=QUERY, documents=DOCUMENTS)
            assert "small" in caught.value.body["message"]
            with pytest.raises(cohere.errors.BadRequestError) as caught:
                official.rerank(model="small", query=QUERY, documents=[])
            assert "documents" in caught.value.body["message"]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("litellm") is None, reason="needs litellm")
def test_litellm(service: LiveService, plain: Reranker) -> None:
    providers = {
        # By its provider and what follows the address: which of the two ways of asking, rerank and
        # arerank, sends the documents back.
        ("jina_ai", ""): (True, True),
        ("cohere", ""): (True, False),
        ("huggingface", ""): (True, False),
        # They send the same to the same path, and each fails on documents as the other reads them.
        ("hosted_vllm", ""): (False, False),
        ("infinity", ""): (False, False),
        # Where only one of them asks.
        ("hosted_vllm", "/v2"): (True, False),
        ("infinity", "/v1"): (True, True),
    }
    asked = [(provider, f"{service.url}{path}") for provider, path in providers]
    done = subprocess.run(  # it sets up loggers, and takes seconds to import
        [sys.executable, "-c", LITELLM, json.dumps([asked, QUERY, DOCUMENTS])],
        # Or it would ask a foreign host for a list of prices.
        env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = plain.rank(QUERY, DOCUMENTS)
    answers = dict(zip(providers, json.loads(done.stdout), strict=True))
    for provider, both in answers.items():
        for answer, sent_back in zip(both, providers[provider], strict=True):
            results = answer["results"]
            assert [r["index"] for r in results] == [hit.index for hit in expected], provider
            assert [r["relevance_score"] for r in results] == pytest.approx(
                [hit.score for hit in expected], abs=1e-6
            )
            texts = [hit.text if sent_back else None for hit in expected]
            assert [r.get("document", {}).get("text") for r in results] == texts, provider
    for answer in answers["hosted_vllm", ""] + answers["infinity", ""]:
        assert answer["meta"]["tokens"]["input_tokens"] == expected.usage.tokens
        assert answer["meta"]["billed_units"]["total_tokens"] == expected.usage.tokens


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("litellm") is None, reason="needs litellm")
@pytest.mark.parametrize("provider", ["hosted_vllm", "infinity"])
def test_litellm_hears_what_is_wrong(service: LiveService, provider: str) -> None:
    asked = [(provider, service.url)]
    done = subprocess.run(
        [sys.executable, "-c", LITELLM, json.dumps([asked, QUERY, ["", " "]])],
        env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "all 2 are blank" in done.stderr

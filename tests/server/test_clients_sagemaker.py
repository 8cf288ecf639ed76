"""Our SageMaker scorer against our container, with a stand-in of AWS between the two."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from aws import use_aws_environment
from aws_front import AwsFront
from serving import LiveService

from jina_rerank import LocalScorer, Reranker, SageMakerScorer
from jina_rerank.errors import RejectedInputError

QUERY = "what is a panda?"
DOCUMENTS = ["coffee is brewed", "the giant panda is a bear", "paris", "berlin", "the panda"]


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_aws_environment(monkeypatch, tmp_path)


@pytest.fixture
def front(service: LiveService, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsFront]:
    with AwsFront(service.url) as front:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", front.url)
        yield front


@pytest.mark.parametrize("form", ["object", "list"])
def test_it_ranks_as_the_model_does(front: AwsFront, small_checkpoint: Path, form: str) -> None:
    expected = Reranker(LocalScorer(small_checkpoint)).rank(QUERY, DOCUMENTS, top_n=3)
    with Reranker(SageMakerScorer("ours", request_form=form)) as reranker:
        found = reranker.rank(QUERY, DOCUMENTS, top_n=3)
    assert front.invocations == [200]
    assert [(hit.index, hit.score) for hit in found] == [
        (hit.index, round(hit.score, 8)) for hit in expected
    ]


def test_it_halves_what_the_container_finds_too_large(
    small_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Reranker(LocalScorer(small_checkpoint)).rank(QUERY, DOCUMENTS)
    models = (f"small={small_checkpoint}",)
    with (
        LiveService(models=models, max_documents=3) as service,
        AwsFront(service.url) as front,
    ):
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", front.url)
        with Reranker(SageMakerScorer("ours")) as reranker:
            found = reranker.rank(QUERY, DOCUMENTS)
    assert sorted(front.invocations) == [200, 200, 413]
    assert [hit.index for hit in found] == [hit.index for hit in expected]


def test_it_hears_what_the_container_refuses(
    small_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        LiveService(models=(f"small={small_checkpoint}",), max_body_bytes=1_000) as service,
        AwsFront(service.url) as front,
    ):
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", front.url)
        with (
            Reranker(SageMakerScorer("ours")) as reranker,
            pytest.raises(RejectedInputError, match="1,000 bytes") as caught,
        ):
            reranker.rank(QUERY, ["panda " * 500])
    assert (caught.value.status, caught.value.code) == (413, "INPUT_TOO_LARGE")
    assert front.invocations == [413]
